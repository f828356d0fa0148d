"""One ASGI app with everything emulated.

========================  =====================================================================
``/``                     who is here, where their mailboxes are, and who to sign in as
``/graph/v1.0``           Microsoft Graph
``/entra``                Entra ID (the authority)
``/google``               Gmail, Directory, Pub/Sub, OAuth
``/viewer/microsoft/``    the mailboxes, for people; likewise ``/viewer/google/``
``/sites``                the demo's websites; also by host name, ``http://<name>.localhost:<port>/``
``/control``              deliver mail, faults, switches, the clock
========================  =====================================================================
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp

from connectors.emulators.common.faults import FaultMiddleware
from connectors.emulators.common.viewer import create_viewer
from connectors.emulators.control import Control
from connectors.emulators.google.app import create_app as create_google
from connectors.emulators.microsoft.graph import MailboxThrottle
from connectors.emulators.microsoft.view import MicrosoftView
from connectors.emulators.world import World

_log = logging.getLogger(__name__)
_templates = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "common" / "templates"), autoescape=True, undefined=StrictUndefined
)

FLUSH_SECONDS = 0.5
"""How much of the newest state a kill -9 of the emulators can cost."""

Background = Callable[[], Awaitable[None]]


def create_app(world: World, background: tuple[Background, ...] = ()) -> ASGIApp:
    """The ASGI app over a world.

    Args:
        background: Further work that runs as long as the server, e.g. the demo's deliveries.
    """
    microsoft_view = MicrosoftView(world.microsoft)

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await world.notifier.start()
        tasks = [
            asyncio.create_task(_every(FLUSH_SECONDS, world.flush)),
            asyncio.create_task(_every(1.0, world.microsoft_service.subscriptions.tend)),
            *(asyncio.create_task(_forever(work)) for work in background),
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await world.notifier.stop()
            # Here and not only at the end of the process: SIGTERM ends it right after this.
            await asyncio.to_thread(world.flush)

    async def index(_: Request) -> Response:
        page = _templates.get_template("index.html").render(
            microsoft=[(tenant, world.microsoft.people_of(tenant.id)) for tenant in world.microsoft.tenants.values()],
            google=[
                (customer, list(world.google.accounts.of_customer(customer.id)))
                for customer in world.google.accounts.customers.values()
            ],
        )
        headers = {
            "Content-Security-Policy": "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'"
        }
        return HTMLResponse(page, headers=headers)

    inner = Starlette(
        routes=[
            Route("/", index),
            Mount("/graph/v1.0", world.microsoft_service.graph_app),
            Mount("/entra", world.microsoft_service.entra_app),
            Mount("/google", create_google(world.google)),
            Mount("/viewer/microsoft", create_viewer(microsoft_view)),
            Mount("/viewer/google", create_viewer(world.google)),
            Mount("/control", Control(world).app()),
            Mount("/sites", world.sites.app()),
            Route("/healthz", _healthy),
        ],
        lifespan=lifespan,
    )
    failing = FaultMiddleware(inner, world.faults, ("/graph/", "/entra/", "/google/"))
    throttled = MailboxThrottle(failing, world.microsoft, world.microsoft_service.tokens, "/graph/v1.0")
    world.throttle = throttled
    return world.sites.by_host(throttled)


async def _healthy(_: Request) -> Response:
    return PlainTextResponse("ok\n")


async def _every(seconds: float, work: Callable[[], object]) -> None:
    while True:
        await asyncio.sleep(seconds)
        try:
            # In a thread: writing must not hold up answers.
            await asyncio.to_thread(work)
        except Exception:  # noqa: BLE001  # the edge of a background task: told, and tried again
            _log.exception("background work of the emulators failed and will be tried again")


async def _forever(work: Background) -> None:
    try:
        await work()
    except Exception:  # noqa: BLE001  # the edge of a background task: told
        _log.exception("background work of the emulators ended")
