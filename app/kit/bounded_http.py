"""HTTP as uvicorn speaks it, with bounds on what comes before a request is complete.

The parser takes request lines and headers of any length, and waits for them for ever. Both would let a stranger fill
a public role's memory, so the size and the time of a request's head are bounded here (RFC 9110, section 5.4: a
server may refuse header fields that are larger than it wishes to process; RFC 6585, section 5).
"""

from __future__ import annotations

import asyncio
from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES: Final = 65_536
HEAD_SECONDS: Final = 20.0


class BoundedHttp(HttpToolsProtocol):
    """One connection; see the module. Give the class to ``uvicorn.Config(http=...)``."""

    _unread = 0
    _in_head = True
    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self._head_is_late)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is waited for any more."""
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what came. What the parser keeps to itself (a head, a trailer) ends the connection where it grows."""
        if self._in_head and self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_SECONDS, self._head_is_late)
        self._unread += len(data)
        super().data_received(data)
        if self._unread > MAX_HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response("The request line and headers are too large.")

    def on_headers_complete(self) -> None:
        """The head is complete.

        Raises:
            ValueError: It came in one piece and is too large; the parser makes a refusal of it.
        """
        self._unread = 0
        self._in_head = False
        self._stop_timer()
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > MAX_HEAD_BYTES:
            raise ValueError("the request line and headers are too large")
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A part of a body: the application bounds those."""
        self._unread = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The next request may come."""
        self._unread = 0
        self._in_head = True
        super().on_message_complete()

    def _head_is_late(self) -> None:
        self._head_timer = None
        if self._in_head and not self.transport.is_closing():
            self.transport.close()

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
