"""A message, however small, that keeps the transformer busy must not keep the worker's event loop busy.

A worker whose loop stands still gives no sign of life; another one would take its jobs for a dead worker's and do
them at the same time.
"""

from __future__ import annotations

import threading

import pytest

from app.messages.types import FoundLink, TransformPlan
from app.protection.transforming import run_transform
from connectors.base.types import BodyContent, Content, MimeContent

pytestmark = pytest.mark.anyio

HTML = '<a href="https://news.example/">News</a>'


@pytest.mark.parametrize(
    "content",
    [
        MimeContent(b"MIME-Version: 1.0\r\nContent-Type: text/html\r\n\r\n" + HTML.encode()),
        BodyContent(HTML, True),
    ],
    ids=["message", "body"],
)
async def test_even_a_small_message_is_transformed_beside_the_event_loop(content: Content) -> None:
    threads = []

    def mint(link: FoundLink) -> str:
        threads.append(threading.get_ident())
        return "https://gw.example/l/news.example/token"

    result = await run_transform(content, TransformPlan(gateway="https://gw.example", mint=mint))
    assert result.changed
    assert threads
    assert threading.get_ident() not in threads
