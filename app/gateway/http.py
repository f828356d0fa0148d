"""The gateway's side of ASGI: requests, answers, forms."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any, Final

from app.gateway.assets import ASSET_HEADERS
from app.gateway.forms import MAX_BODY, parse_form
from app.gateway.pages import Page

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_PREFETCH_HEADERS: Final = (b"sec-purpose", b"purpose", b"x-purpose", b"x-moz")


@dataclass(frozen=True, slots=True)
class Request:
    """One request, read as far as every answer needs it."""

    method: str
    headers: dict[bytes, bytes]
    address: str
    query: bytes
    receive: Receive
    send: Send


def read_request(scope: Scope, receive: Receive, send: Send) -> Request:
    """The request of an ASGI scope; of a header that comes twice the last one counts."""
    client = scope.get("client")
    return Request(
        scope["method"],
        dict(scope["headers"]),
        client[0] if client else "",
        scope.get("query_string", b""),
        receive,
        send,
    )


def fetched_ahead(headers: dict[bytes, bytes]) -> bool:
    """Whether a browser fetches before anybody clicked."""
    for name in _PREFETCH_HEADERS:
        purpose = headers.get(name)
        if purpose is not None and (b"prefetch" in purpose or b"prerender" in purpose):
            return True
    return False


def waits_so_far(query: bytes) -> int:
    """How often the waiting page has asked again; more than nine are nine."""
    name, _, number = query.partition(b"=")
    return min(9, int(number)) if name == b"wait" and number.isdigit() and len(number) < 4 else 0


def with_form_data(url: str, query: bytes) -> str:
    """Where a mail's own form leads that was sent by GET: its fields replace the target's query.

    So a browser would have done with the original address (HTML, "mutate action URL",
    https://html.spec.whatwg.org/multipage/form-control-infrastructure.html#submit-mutate-action).
    """
    if not query or not query.isascii() or any(byte <= 0x20 or byte == 0x7F for byte in query):
        return url
    target, mark, fragment = url.partition("#")
    return target.partition("?")[0] + "?" + query.decode() + mark + fragment


async def read_form(request: Request) -> dict[str, str] | None:
    """The form that was sent; None where it is none or too big."""
    if not request.headers.get(b"content-type", b"").startswith(b"application/x-www-form-urlencoded"):
        return None
    body = bytearray()
    while True:
        message = await request.receive()
        if message["type"] != "http.request":
            return None
        body += message.get("body", b"")
        if len(body) > MAX_BODY:
            return None
        if not message.get("more_body"):
            break
    try:
        return parse_form(bytes(body))
    except ValueError:
        return None


async def send_page(request: Request, status: int, page: Page, extra: tuple[tuple[bytes, bytes], ...] = ()) -> None:
    """Send a page; to HEAD its headers alone."""
    headers = [*page.headers, *extra]
    await request.send({"type": "http.response.start", "status": status, "headers": headers})
    await request.send({"type": "http.response.body", "body": b"" if request.method == "HEAD" else page.body})


async def send_empty(send: Send, status: int, headers: list[tuple[bytes, bytes]]) -> None:
    """Send an answer without a body."""
    await send(
        {"type": "http.response.start", "status": status, "headers": [*headers, (b"content-length", b"0")]}
        if status != 204
        else {"type": "http.response.start", "status": status, "headers": headers}
    )
    await send({"type": "http.response.body", "body": b""})


async def send_file(request: Request, kind: bytes, body: bytes, keep: bytes) -> None:
    """Send a file of ours; to HEAD its headers alone."""
    headers = [
        (b"content-type", kind),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", keep),
        *ASSET_HEADERS,
    ]
    await request.send({"type": "http.response.start", "status": 200, "headers": headers})
    await request.send({"type": "http.response.body", "body": b"" if request.method == "HEAD" else body})


async def send_json(send: Send, status: int, data: dict[str, Any]) -> None:
    """Send JSON that nobody may keep."""
    body = json.dumps(data).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"cache-control", b"no-store"),
        (b"content-length", str(len(body)).encode()),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
