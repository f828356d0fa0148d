"""One suite, every provider: a running emulator for the session, a fresh organisation for each test."""

from __future__ import annotations

import itertools
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from importlib import import_module
from typing import cast

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from connectors.base.protocol import NotificationReader
from connectors.emulators.microsoft.model import Switches
from connectors.emulators.testing import Emulators, running_emulators
from tests.contract.connectors.harness import ProviderHarness
from tests.contract.connectors.harness_google import GoogleWorld
from tests.contract.connectors.harness_microsoft import MicrosoftCopiesHarness, MicrosoftHarness

HARNESSES = {
    "microsoft": "tests.contract.connectors.harness_microsoft:MicrosoftHarness",
    "microsoft_copies": "tests.contract.connectors.harness_microsoft:MicrosoftCopiesHarness",
    "google": "tests.contract.connectors.harness_google:GoogleHarness",
}
_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def emulators() -> Iterator[Emulators]:
    """All emulated providers on one loopback port."""
    with running_emulators(seed=11) as running:
        yield running


@pytest.fixture(params=sorted(HARNESSES))
async def harness(request: pytest.FixtureRequest, emulators: Emulators) -> AsyncIterator[ProviderHarness]:
    """A connected organisation with each provider in turn."""
    module, _, name = HARNESSES[request.param].partition(":")
    make = cast("Callable[[Emulators, int], ProviderHarness]", getattr(import_module(module), name))
    made = make(emulators, next(_numbers))
    yield made
    made.clear()
    await made.aclose()


@pytest.fixture
async def microsoft(emulators: Emulators) -> AsyncIterator[MicrosoftHarness]:
    """A connected Microsoft 365 organisation, for what only Graph has."""
    made = MicrosoftHarness(emulators, next(_numbers))
    yield made
    made.clear()
    emulators.world.microsoft.switches = Switches()
    await made.aclose()


@pytest.fixture(scope="module")
def created() -> Iterator[GoogleWorld]:
    """A connected Google Workspace organisation, for what only Gmail has."""
    with running_emulators(seed=7) as running:
        yield GoogleWorld.create(running)


@pytest.fixture
def world(created: GoogleWorld) -> GoogleWorld:
    """The module's Google Workspace organisation, as it was at the beginning."""
    created.reset()
    return created


@pytest.fixture
async def copies(emulators: Emulators) -> AsyncIterator[MicrosoftCopiesHarness]:
    """The same without the advanced permission, where messages are replaced by copies."""
    made = MicrosoftCopiesHarness(emulators, next(_numbers))
    yield made
    made.clear()
    emulators.world.microsoft.switches = Switches()
    await made.aclose()


@dataclass
class Receiver:
    """An endpoint for notifications, on loopback.

    Attributes:
        url: Its address.
        received: Headers and body of each request.
    """

    url: str
    received: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    arrived: threading.Condition = field(default_factory=threading.Condition)

    def wait_for(self, count: int, seconds: float = 60.0) -> list[tuple[dict[str, str], bytes]]:
        """The requests, once there are as many; whatever there is after so many seconds."""
        with self.arrived:
            self.arrived.wait_for(lambda: len(self.received) >= count, seconds)
            return list(self.received)


@pytest.fixture
def receiver(request: pytest.FixtureRequest) -> Iterator[Receiver]:
    """A webhook as the application has one: answers handshakes, stores the rest."""
    reader: NotificationReader = request.getfixturevalue(
        "harness" if "harness" in request.fixturenames else "microsoft"
    ).notifications
    listener = socket.create_server(("127.0.0.1", 0))
    made = Receiver(f"http://127.0.0.1:{listener.getsockname()[1]}/hook?kind=mail")

    async def hook(incoming: Request) -> Response:
        answer = reader.handshake(dict(incoming.query_params))
        if answer is not None:
            return PlainTextResponse(answer)
        body = await incoming.body()
        with made.arrived:
            made.received.append((dict(incoming.headers), body))
            made.arrived.notify_all()
        return Response(status_code=202)

    app = Starlette(routes=[Route("/hook", hook, methods=["POST"])])
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    yield made
    server.should_exit = True
    thread.join(10)
    listener.close()
