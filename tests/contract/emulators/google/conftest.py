"""Fixtures: the emulated Google over real HTTP, and an endpoint for pushes."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount

from connectors.emulators.common.clock import Clock
from connectors.emulators.common.faults import FaultMiddleware, Faults
from connectors.emulators.google.accounts import NewUser
from connectors.emulators.google.app import create_app
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


@pytest.fixture
def workspace() -> Iterator[Workspace]:
    """A fresh emulator with ``kasuga.example``, its service account and its topic."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        base = f"http://127.0.0.1:{listener.getsockname()[1]}/google"
        faults = Faults()
        state = GoogleState(base, clock=Clock(), faults=faults, seed=7)
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
        key = state.create_service_account(f"postern@{PROJECT}.iam.gserviceaccount.com")
        state.delegate(CUSTOMER, key["client_id"], ALL_SCOPES)
        state.create_topic(TOPIC)
        app = FaultMiddleware(Starlette(routes=[Mount("/google", create_app(state))]), faults, ("/google",))
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        until(lambda: server.started)
        running = Workspace(state, base, key)
        try:
            yield running
        finally:
            running.close()
            state.close()
            server.should_exit = True
            thread.join(timeout=10)


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
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield found
        server.shutdown()
        thread.join(timeout=10)
