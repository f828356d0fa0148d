from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from connectors.emulators.microsoft.model import Person, Tenant
from connectors.emulators.testing import Emulators, running_emulators

TRUSTED = ssl.create_default_context()
"""Read once: every new client would read the certificates again."""
IMMUTABLE = 'IdType="ImmutableId"'


@dataclass
class Organisation:
    """A tenant with a consented application and two mailboxes."""

    emulators: Emulators
    tenant: Tenant
    ada: Person
    ben: Person
    client: httpx.Client

    def headers(self, *prefer: str) -> dict[str, str]:
        token = self.emulators.app_token(self.tenant)
        return {"Authorization": f"Bearer {token}", "Prefer": ", ".join(prefer or (IMMUTABLE,))}

    def call(self, method: str, path: str, *prefer: str, **more: Any) -> httpx.Response:
        url = path if path.startswith("http") else f"{self.emulators.graph_url}{path}"
        headers = {**self.headers(*prefer), **more.pop("headers", {})}
        return self.client.request(method, url, headers=headers, **more)

    def deliver(self, subject: str = "Hello", html: str = "<p>Hello</p>", to: str | None = None) -> str:
        raw = (
            f"From: Cleo <cleo@sender.example>\r\nTo: {to or self.ada.address}\r\nSubject: {subject}\r\n"
            f"Message-ID: <{subject.replace(' ', '-')}@sender.example>\r\nMIME-Version: 1.0\r\n"
            f"Content-Type: text/html; charset=utf-8\r\n\r\n{html}"
        )
        return self.emulators.world.deliver("microsoft", to or self.ada.address, raw.encode())

    def path(self, message_id: str) -> str:
        return f"/users/{self.ada.id}/messages/{message_id}"


@pytest.fixture
def emulators() -> Iterator[Emulators]:
    with running_emulators(retry_delays=(0.01, 0.01)) as running:
        yield running


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    with httpx.Client(trust_env=False, timeout=60, verify=TRUSTED) as made:
        yield made


@pytest.fixture
def org(emulators: Emulators, client: httpx.Client) -> Organisation:
    tenant, (ada, ben) = emulators.microsoft_tenant("ada", "ben")
    return Organisation(emulators, tenant, ada, ben, client)


@dataclass
class Receiver:
    """A webhook on loopback that records what it gets; ``answer`` decides what it says."""

    url: str = ""
    received: list[dict[str, Any]] = field(default_factory=list)
    requests: int = 0
    validations: list[str] = field(default_factory=list)
    answer: Callable[[str | None], tuple[int, str, str]] = field(
        default=lambda token: (200, "text/plain", token) if token is not None else (202, "text/plain", "")
    )
    changed: threading.Condition = field(default_factory=threading.Condition)

    def wait_for(self, count: int) -> list[dict[str, Any]]:
        """The notifications once there are so many of them."""
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.received) >= count, timeout=60), self.received
            return list(self.received)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            query = parse_qs(urlsplit(self.path).query)
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            token = query.get("validationToken", [None])[0]
            status, kind, text = made.answer(token)
            with made.changed:
                if token is not None:
                    made.validations.append(token)
                elif status < 300:
                    made.requests += 1
                    made.received.extend(json.loads(body)["value"])
                made.changed.notify_all()
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, format: str, *args: object) -> None:
            """Tests print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    made.url = f"http://127.0.0.1:{server.server_address[1]}/hook"
    yield made
    server.shutdown()
    server.server_close()
    thread.join()
