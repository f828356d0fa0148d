"""Several questions at once: waiting for all of them, giving up those that nobody waits for any more."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable
from typing import Any, TypeVar

T = TypeVar("T")


async def all_of(questions: Iterable[Awaitable[T]]) -> list[T]:
    """The answers to several questions; where one fails, the others are given up before this returns."""
    tasks = [asyncio.ensure_future(question) for question in questions]
    try:
        return await asyncio.gather(*tasks)
    finally:
        await give_up(tasks)


async def give_up(tasks: Iterable[asyncio.Future[Any]]) -> None:
    """Cancel what is under way, and wait until it has ended."""
    under_way = list(tasks)
    for task in under_way:
        task.cancel()
    await asyncio.gather(*under_way, return_exceptions=True)
