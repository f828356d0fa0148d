"""A web server on loopback for tests of source clients: answers are made by a function, faults can be switched on."""

from __future__ import annotations

import http.server
import ipaddress
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from app.verdicts.sources.client import HttpSourceClient


@dataclass
class Asked:
    """A request."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Reply:
    """An answer."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)

    @staticmethod
    def of(data: Any, **headers: str) -> Reply:
        """JSON."""
        return Reply(json.dumps(data).encode(), 200, {"Content-Type": "application/json", **headers})


@dataclass
class Loopback:
    """A running server.

    Attributes:
        url: Its address.
        asked: Everything it was asked.
        faults: Answers that are given first, in place of the real ones; None: the real one, cut off in the middle.
    """

    url: str = ""
    asked: list[Asked] = field(default_factory=list)
    faults: list[Reply | None] = field(default_factory=list)

    def fail(self, status: int, **headers: str) -> None:
        """The next request is answered with an error."""
        self.faults.append(Reply(b"{}", status, headers))

    def cut_off(self) -> None:
        """The next answer ends in the middle."""
        self.faults.append(None)

    def paths(self) -> list[str]:
        """What was asked for, in order."""
        return [asked.path for asked in self.asked]


@contextmanager
def serve(answer: Callable[[Asked], Reply]) -> Iterator[Loopback]:
    """Serve on a free port in threads of its own."""
    state = Loopback()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            parts = urlsplit(self.path)
            length = int(self.headers.get("Content-Length", 0))
            asked = Asked(
                self.command,
                parts.path,
                parse_qs(parts.query, keep_blank_values=True),
                {name.lower(): value for name, value in self.headers.items()},
                self.rfile.read(length),
            )
            state.asked.append(asked)
            cut = False
            reply: Reply | None = None
            if state.faults:
                reply = state.faults.pop(0)
                cut = reply is None
            if reply is None:
                reply = answer(asked)
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(reply.body)))
            self.end_headers()
            with suppress(ConnectionError):  # whoever asked may have gone
                self.wfile.write(reply.body[: len(reply.body) // 2] if cut else reply.body)
            self.close_connection = True

        do_GET = do_POST = _serve

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()


def loopback_client() -> HttpSourceClient:
    """The application's own client, allowed to ask loopback."""
    return HttpSourceClient((ipaddress.ip_network("127.0.0.0/8"),))
