"""Runs the emulators inside a test: real HTTP on an ephemeral loopback port, state within reach."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import uvicorn

from connectors.emulators.microsoft.model import Person, Tenant
from connectors.emulators.server import create_app
from connectors.emulators.world import Keys, Options, World


@dataclass(frozen=True, slots=True)
class Emulators:
    """Running emulators.

    Attributes:
        world: The state, for direct control from the test.
        base_url: E.g. ``http://127.0.0.1:41234``.
    """

    world: World
    base_url: str

    @property
    def graph_url(self) -> str:
        """Base URL for a Graph client."""
        return f"{self.base_url}/graph/v1.0"

    @property
    def authority(self) -> str:
        """The Entra ID authority; a tenant's follow below it."""
        return f"{self.base_url}/entra"

    @property
    def google_url(self) -> str:
        """Base URL of everything of Google."""
        return f"{self.base_url}/google"

    @property
    def client_id(self) -> str:
        """Client id of the registered Microsoft application."""
        return self.world.options.microsoft_client_id

    @property
    def client_secret(self) -> str:
        """Its secret."""
        return self.world.client_secret

    def microsoft_tenant(
        self, *names: str, domain: str = "nordwind.example", consent: bool = True
    ) -> tuple[Tenant, list[Person]]:
        """A new tenant with a mailbox per name, e.g. ``"ada"``; the first is a Global Administrator.

        Args:
            consent: Whether the application has its roles already.
        """
        state = self.world.microsoft
        tenant = state.add_tenant(domain.partition(".")[0].title(), domain)
        people = [
            state.add_person(tenant, name.title(), f"{name}@{domain}", is_admin=index == 0)
            for index, name in enumerate(names or ("ada",))
        ]
        if consent:
            state.grant(tenant.id, self.client_id, state.applications[self.client_id].roles)
        return tenant, people

    def app_token(self, tenant: Tenant) -> str:
        """An access token for Graph, without the detour of the token endpoint.

        Raises:
            KeyError: The application was not granted anything in the tenant.
        """
        state = self.world.microsoft
        grant = state.tenants[tenant.id].grants[self.client_id]
        return self.world.microsoft_service.tokens.app_token(tenant, state.applications[self.client_id], grant.roles)


@contextlib.contextmanager
def running_emulators(world: World | None = None, **options: Any) -> Iterator[Emulators]:
    """Serve a world in a thread until the block ends.

    Args:
        world: One that exists already, e.g. to serve kept state again.
        options: Fields of :class:`~connectors.emulators.world.Options` for a new one.
    """
    served = world or World(Options(**options), _keys())
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    base_url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    served.set_base(base_url)
    config = uvicorn.Config(create_app(served), log_level="critical", access_log=False)
    server = _Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="emulators", daemon=True)
    thread.start()
    try:
        server.wait_until_started(thread)
        yield Emulators(served, base_url)
    finally:
        server.stop()
        thread.join(10)
        listener.close()
        served.close()


@cache
def _keys() -> Keys:
    """One set of keys for all worlds of a test run."""
    return Keys.generate()


class _Server(uvicorn.Server):
    """Starts and stops as soon as it is told to: uvicorn's own loop looks only ten times a second."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._told = asyncio.Event()
        self._running = threading.Event()

    async def main_loop(self) -> None:
        self._loop = asyncio.get_running_loop()
        await self.on_tick(0)
        self._running.set()
        await self._told.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn does it, without its fixed pause: requests under way have half a second to end."""
        for server in self.servers:
            server.close()
        for each in sockets or []:
            each.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        deadline = time.monotonic() + 0.5
        state = self.server_state
        # uvicorn tells nobody when a connection ends.
        while (state.connections or state.tasks) and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.002)
        for task in list(self.server_state.tasks):
            task.cancel()
        await self.lifespan.shutdown()

    def wait_until_started(self, thread: threading.Thread) -> None:
        """Return once requests are answered.

        Raises:
            RuntimeError: The server ended instead.
        """
        while not self._running.wait(0.05):
            if not thread.is_alive():
                raise RuntimeError("the emulators did not start")

    def stop(self) -> None:
        """End the loop, from another thread."""
        self.should_exit = True
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._told.set)
