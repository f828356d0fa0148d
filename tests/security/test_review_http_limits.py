"""A stranger's request cannot fill the memory of a public role, nor hold a connection without ever asking."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest
from starlette.types import Receive, Scope, Send

from app.kit import bounded_http
from app.kit.crypto import KeyRing
from app.serve import serve_http
from tests.integration.gateway.serving import serve

pytestmark = pytest.mark.anyio


async def _answers(scope: Scope, receive: Receive, send: Send) -> None:
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


async def _ask(*parts: bytes) -> bytes:
    """Send the parts of a request to the server that every role uses; gives all that came back."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    stopping = asyncio.Event()
    serving = asyncio.create_task(serve_http(_answers, "127.0.0.1", port, stopping))
    try:
        for _ in range(500):
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                break
            except ConnectionRefusedError:
                await asyncio.sleep(0.01)
        else:
            pytest.fail("the server did not start")
        came = asyncio.create_task(_all_of(reader))
        try:
            for part in parts:
                writer.write(part)
                await writer.drain()
        except ConnectionError:
            pass  # closed before everything was sent, which is one way to refuse
        answer = await asyncio.wait_for(came, 60)
        writer.close()
        return answer
    finally:
        stopping.set()
        await serving


async def _all_of(reader: asyncio.StreamReader) -> bytes:
    came = b""
    try:
        while piece := await reader.read(4096):
            came += piece
    except ConnectionError:
        pass  # the refusal may be lost when the rest of a flood is thrown away
    return came


HEAD = b"GET / HTTP/1.1\r\nHost: a.example\r\n"
FLOOD = [b"x" * 65_536] * 64


async def test_a_head_of_usual_size_is_answered() -> None:
    answer = await _ask(HEAD + b"X-Big: " + b"x" * 30_000 + b"\r\nConnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 ")


async def test_a_large_body_is_the_applications_business() -> None:
    head = b"POST / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\nContent-Length: 4194304\r\n\r\n"
    assert (await _ask(head, *FLOOD)).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param([HEAD + b"User-Agent: ", *FLOOD, b"\r\nConnection: close\r\n\r\n"], id="one header"),
        pytest.param([HEAD, *[b"X-A: b\r\n" * 8192] * 64, b"Connection: close\r\n\r\n"], id="many headers"),
        pytest.param([b"GET /", *FLOOD, b" HTTP/1.1\r\nConnection: close\r\n\r\n"], id="address"),
        pytest.param([HEAD + b"X-A: " + b"x" * 70_000 + b"\r\nConnection: close\r\n\r\n"], id="one piece"),
        pytest.param(
            [
                b"POST / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n",
                b"2\r\nab\r\n0\r\nX-Trailer: ",
                *FLOOD,
                b"\r\n\r\n",
            ],
            id="trailer",
        ),
    ],
)
async def test_a_head_or_trailer_that_does_not_end_is_refused(parts: list[bytes]) -> None:
    assert b" 200 " not in (await _ask(*parts))


async def test_a_connection_that_never_asks_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded_http, "HEAD_SECONDS", 0.05)
    assert await _ask(HEAD) == b""


async def test_what_is_kept_of_a_browser_is_small(tmp_path: Path, keyring: KeyRing) -> None:
    with serve(tmp_path, keyring) as served:
        link = served.link("https://good.example/")
        host, port = served.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        head = f"GET {link.removeprefix(served.url)} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n".encode()
        writer.write(head + b"User-Agent: " + b"x" * 50_000 + b"\r\nAccept: " + b"y" * 50_000 + b"\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 302 ")
        writer.close()
        kept = served.gateway._recorder._clients
        assert len(kept) == 1
        assert sum(len(repr(item)) for item in kept.items()) < 5_000
