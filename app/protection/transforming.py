"""The transformer at work on what a connector gives, off the event loop.

A picture of a few kilobytes can keep a decoder busy for seconds. In the event loop that would stop the worker's signs
of life, and another one would take its jobs for a dead worker's. A thread costs 50 µs.
"""

from __future__ import annotations

import asyncio

from app.messages import inspect, inspect_body, transform, transform_body
from app.messages.types import BodyResult, FoundLink, TransformPlan, TransformResult
from connectors.base.types import Content, MimeContent


async def run_transform(content: Content, plan: TransformPlan) -> TransformResult | BodyResult:
    """Transform a message or a body."""
    return await asyncio.to_thread(_transform, content, plan)


async def run_inspect(content: Content, plan: TransformPlan, reason: str) -> TransformResult | BodyResult:
    """Report what stands in a message or a body that is left as it is for a reason."""
    return await asyncio.to_thread(_inspect, content, plan, reason)


def no_mint(link: FoundLink) -> str:
    """The mint of a plan under which nothing is rewritten.

    Raises:
        ValueError: Always.
    """
    raise ValueError(f"a link of kind {link.kind} in a message that is left alone is not rewritten")


def _transform(content: Content, plan: TransformPlan) -> TransformResult | BodyResult:
    if isinstance(content, MimeContent):
        return transform(content.raw, plan)
    return transform_body(content.content, content.is_html, plan)


def _inspect(content: Content, plan: TransformPlan, reason: str) -> TransformResult | BodyResult:
    if isinstance(content, MimeContent):
        return inspect(content.raw, plan, reason)
    return inspect_body(content.content, content.is_html, plan, reason)
