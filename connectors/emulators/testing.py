"""Runs the emulators inside a test: real HTTP on an ephemeral loopback port, state within reach."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import uvicorn

from connectors.emulators.microsoft.model import Person, Tenant
from connectors.emulators.server import create_app
from connectors.emulators.world import Options, World


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
    served = world or World(Options(**options))
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    base_url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    served.set_base(base_url)
    config = uvicorn.Config(create_app(served), log_level="critical", access_log=False, timeout_graceful_shutdown=2)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="emulators", daemon=True)
    thread.start()
    try:
        while not server.started:
            if not thread.is_alive():
                raise RuntimeError("the emulators did not start")
            thread.join(0.01)
        yield Emulators(served, base_url)
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()
        served.close()
