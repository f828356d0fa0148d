"""Fixtures: the emulated Google over real HTTP, and an endpoint for pushes."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.types import ASGIApp, Receive, Scope, Send

from connectors.emulators.common.clock import Clock
from connectors.emulators.common.faults import FaultMiddleware, Faults
from connectors.emulators.google.accounts import NewUser
from connectors.emulators.google.app import create_app
from connectors.emulators.google.keys import SigningKey
from connectors.emulators.google.state import GoogleState
from tests.contract.emulators.google.harness import (
    ADMIN,
    ALL_SCOPES,
    CUSTOMER,
    DOMAIN,
    PROJECT,
    TOPIC,
    USER,
    Inbox,
    Workspace,
    until,
)


@dataclass
class Server:
    """One server for all tests, which answers with the emulator of the test that runs."""

    base: str
    keys: tuple[SigningKey, SigningKey]
    app: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand a request on."""
        if self.app is None:
            raise RuntimeError("a request came after its test had ended")
        await self.app(scope, receive, send)


@pytest.fixture(scope="session")
def google_server() -> Iterator[Server]:
    """A server on an ephemeral port, and keys, which take long to make."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        base = f"http://127.0.0.1:{listener.getsockname()[1]}/google"
        dispatcher = Server(base, (SigningKey.generate(), SigningKey.generate()))
        server = uvicorn.Server(uvicorn.Config(dispatcher, log_level="error", lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        until(lambda: server.started)
        yield dispatcher
        server.should_exit = True
        thread.join(timeout=10)


@pytest.fixture
def workspace(google_server: Server) -> Iterator[Workspace]:
    """A fresh emulator with ``kasuga.example``, its service account and its topic."""
    faults = Faults()
    signing_key, account_key = google_server.keys
    state = GoogleState(google_server.base, clock=Clock(), faults=faults, seed=7, signing_key=signing_key)
    state.create_domain(
        DOMAIN,
        CUSTOMER,
        users=[
            NewUser(ADMIN, "Hana Sato", admin=True),
            NewUser(USER, "Kenji Mori", aliases=(f"k.mori@{DOMAIN}",)),
            NewUser(f"yui.abe@{DOMAIN}", "Yui Abe"),
            NewUser(f"old.account@{DOMAIN}", "Old Account", suspended=True),
            NewUser(f"no.mail@{DOMAIN}", "No Mail", mailbox=False),
        ],
    )
    key = state.create_service_account(f"postern@{PROJECT}.iam.gserviceaccount.com", account_key)
    state.delegate(CUSTOMER, key["client_id"], ALL_SCOPES)
    state.create_topic(TOPIC)
    inner = Starlette(routes=[Mount("/google", create_app(state))])
    google_server.app = FaultMiddleware(inner, faults, ("/google",))
    running = Workspace(state, google_server.base, key)
    try:
        yield running
    finally:
        running.close()
        state.close()
        google_server.app = None


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    """A push endpoint; an answer of 0 closes the connection without one."""
    found = Inbox("")

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status = found.answers.pop(0) if found.answers else 204
            found.requests.append((dict(self.headers.items()), body))
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found.url = f"http://127.0.0.1:{server.server_address[1]}/push"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield found
        server.shutdown()
        thread.join(timeout=10)
