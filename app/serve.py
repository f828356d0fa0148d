"""Serving one role, or the web roles together: HTTP, health, start and stop.

``/healthz`` says that the process is alive; ``/readyz`` that it can serve (the gateway can without the
database, the others cannot).
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, closing, contextmanager
from typing import Any

import structlog
import uvicorn
from sqlalchemy import text
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from app.bootstrap import database_urls, keyring, open_runtime
from app.kit.bounded_http import BoundedHttp
from app.kit.connections import check_connections, pool_size
from app.kit.db import Database
from app.kit.errors import ConfigurationError
from app.kit.exposition import Exposition
from app.kit.logs import configure_logs
from app.settings import Settings

log = structlog.get_logger()

ROLES = ("gateway", "intake", "console", "worker", "scheduler")
WEB_ROLES = ("gateway", "intake", "console")
_PARENT_CHECK_SECONDS = 1.0
_READY_TIMEOUT_SECONDS = 3.0

Check = Callable[[], Awaitable[dict[str, Any] | None]]
"""Returns where the part can serve, with details if there are any; raises with the reason where it cannot."""


class NotReady(Exception):
    """A part cannot serve now; the text says why."""


class Health:
    """Answers ``/healthz`` and ``/readyz`` in front of an application.

    Args:
        role: The process's role.
        checks: Name -> check.
        inner: What answers everything else; None: nothing does.
        metrics: What answers ``/metrics``; None: nobody does.
    """

    def __init__(
        self, role: str, checks: dict[str, Check], inner: ASGIApp | None = None, metrics: ASGIApp | None = None
    ) -> None:
        self._role = role
        self._checks = checks
        self._inner = inner
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "http":
            path = scope["path"]
            if path == "/healthz":
                await JSONResponse({"status": "alive", "role": self._role})(scope, receive, send)
                return
            if path == "/readyz":
                await self._ready(scope, receive, send)
                return
            if path == "/metrics" and self._metrics is not None:
                await self._metrics(scope, receive, send)
                return
        if self._inner is not None:
            await self._inner(scope, receive, send)
        elif scope["type"] == "http":
            answers = "/healthz, /readyz and /metrics" if self._metrics else "/healthz and /readyz"
            await JSONResponse({"error": f"This role answers {answers} only."}, 404)(scope, receive, send)

    async def _ready(self, scope: Scope, receive: Receive, send: Send) -> None:
        found: dict[str, str] = {}
        details: dict[str, Any] = {}
        for name, check in self._checks.items():
            try:
                detail = await asyncio.wait_for(check(), _READY_TIMEOUT_SECONDS)
                found[name] = "ready"
                if detail:
                    details[name] = detail
            except NotReady as error:
                found[name] = str(error)
            except Exception as error:  # noqa: BLE001 - whatever fails, the answer is "not ready", by name
                found[name] = f"not ready: {type(error).__name__}"
        ready = all(state == "ready" for state in found.values())
        answer = {"status": "ready" if ready else "not ready", "role": self._role, "checks": found, **details}
        await JSONResponse(answer, 200 if ready else 503)(scope, receive, send)


class ByPath:
    """Sends each request to the role its path belongs to.

    Args:
        routes: Path prefix -> application; the first that fits answers.
        otherwise: Answers the rest.
    """

    def __init__(self, routes: list[tuple[str, ASGIApp]], otherwise: ASGIApp) -> None:
        self._routes = routes
        self._otherwise = otherwise

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "http":
            path = scope["path"]
            for prefix, app in self._routes:
                if path.startswith(prefix):
                    await app(scope, receive, send)
                    return
        await self._otherwise(scope, receive, send)


def database_check(database: Database) -> Check:
    """Ready where the database answers and its schema is the one this code was made for."""

    async def check() -> None:
        from alembic.script import ScriptDirectory

        from app.migrations.run import alembic_config

        head = ScriptDirectory.from_config(alembic_config(database.url)).get_current_head()
        async with database.untenanted() as session:
            current = (await session.execute(text("SELECT version_num FROM alembic_version"))).scalar()
        if current != head:
            raise NotReady(f"the schema is at {current}, this code needs {head}: run postern migrate")

    return check


def event_check(event: asyncio.Event, otherwise: str) -> Check:
    """Ready once the event is set."""

    async def check() -> None:
        if not event.is_set():
            raise NotReady(otherwise)

    return check


async def serve_http(
    app: ASGIApp, host: str, port: int, stopping: asyncio.Event, trusted_proxies: str = "127.0.0.1"
) -> None:
    """Serve until ``stopping`` is set; requests under way are answered first.

    Raises:
        ConfigurationError: The port is taken.
    """
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="off",
        ws="none",
        forwarded_allow_ips=trusted_proxies,
        timeout_graceful_shutdown=5,
        http=BoundedHttp,
    )
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named because asyncio sets TCP_NODELAY only on sockets that name it; without it an answer
    # in two writes waits for the other side's delayed acknowledgement (40 ms).
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise ConfigurationError(f"Port {port} of {host} cannot be used: {error.strerror}.") from None
    listener.set_inheritable(False)
    # What is loaded stays: a full collection walked over 150,000 objects of libraries and took 0.15 s, in which nobody
    # was answered. Frozen (https://docs.python.org/3/library/gc.html#gc.freeze) they are passed over.
    gc.freeze()
    server = _Server(config)
    serving = asyncio.create_task(server.serve([listener]))
    stopped = asyncio.create_task(stopping.wait())
    await asyncio.wait({serving, stopped}, return_when=asyncio.FIRST_COMPLETED)
    server.should_exit = True
    stopping.set()
    await serving
    stopped.cancel()


class _Server(uvicorn.Server):
    """Leaves the process's signals alone: one handler stops all parts of a role together."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Nothing is captured."""
        yield


async def run_role(role: str, settings: Settings) -> None:
    """Run one role, or ``web`` for the three web roles on one port, until SIGTERM or SIGINT.

    Raises:
        ConfigurationError: A setting is wrong; nothing was started.
    """
    configure_logs(settings.log_level, role)
    stopping = asyncio.Event()
    _stop_on_signals(stopping)
    watcher = asyncio.create_task(_stop_without_parent(stopping))
    try:
        if role == "worker":
            await _run_worker(settings, stopping)
        elif role == "scheduler":
            await _run_scheduler(settings, stopping)
        else:
            await _run_web(WEB_ROLES if role == "web" else (role,), settings, stopping)
    finally:
        watcher.cancel()


async def _run_worker(settings: Settings, stopping: asyncio.Event) -> None:
    from app.protection.metrics import FromProviders
    from app.protection.turn_listen import listen_for_turns
    from app.protection.worker import run_worker

    async with database_urls(settings) as urls, open_runtime(settings, urls, stopping, "worker") as runtime:
        await check_connections(runtime.db, ("worker",), settings.database_pool_size)
        ready = asyncio.Event()
        checks = {"database": database_check(runtime.db), "jobs": event_check(ready, "no jobs are taken yet")}
        with closing(FromProviders(runtime.providers.request_counts)):
            health = Health("worker", checks, metrics=Exposition(_metrics_token(settings)))
            await _together(
                stopping,
                run_worker(runtime, ready),
                listen_for_turns(runtime),
                serve_http(health, settings.host, settings.health_port_worker, stopping),
            )


async def _run_scheduler(settings: Settings, stopping: asyncio.Event) -> None:
    from app.protection.metrics import FromDatabase
    from app.protection.schedule import run_scheduler

    async with database_urls(settings) as urls, open_runtime(settings, urls, stopping, "scheduler") as runtime:
        await check_connections(runtime.db, ("scheduler",), settings.database_pool_size)
        leading = asyncio.Event()
        checks = {"database": database_check(runtime.db)}
        with closing(FromDatabase(runtime.db)) as seen:
            health = Health("scheduler", checks, metrics=Exposition(_metrics_token(settings), [seen.ask]))
            await _together(
                stopping,
                run_scheduler(runtime, leading),
                serve_http(health, settings.host, settings.health_port_scheduler, stopping),
            )


async def _run_web(roles: tuple[str, ...], settings: Settings, stopping: asyncio.Event) -> None:
    async with AsyncExitStack() as stack:
        urls = await stack.enter_async_context(database_urls(settings))
        routes: list[tuple[str, ASGIApp]] = []
        checks: dict[str, Check] = {}
        otherwise: ASGIApp = _nothing_here
        background: list[Awaitable[None]] = []
        if "gateway" in roles:
            gateway, paths, ready = await stack.enter_async_context(open_gateway(settings, urls.app))
            routes += [(path, gateway) for path in paths]
            checks["gateway"] = ready
        if set(roles) & {"intake", "console"}:
            share = "console" if "console" in roles else "intake"
            runtime = await stack.enter_async_context(open_runtime(settings, urls, stopping, share))
            await check_connections(runtime.db, roles, settings.database_pool_size)
            check = database_check(runtime.db)
            if "intake" in roles:
                from app.protection.intake import HintStore, IntakeDeps, create_intake
                from app.protection.pull import Fetching, fetched_providers

                deps = IntakeDeps(runtime.db, runtime.keyring, runtime.providers)
                intake = create_intake(deps)
                stack.push_async_callback(intake.settle)
                background += [
                    Fetching(runtime.providers, provider, HintStore(deps), stopping).run()
                    for provider in await fetched_providers(runtime.providers)
                ]
                routes.append(("/hooks/", intake))
                checks["intake"] = check
            if "console" in roles:
                from app.console.app import create_console
                from app.console.deps import ConsoleDeps

                otherwise = create_console(ConsoleDeps(settings, runtime.db, runtime.keyring, runtime.providers))
                checks["console"] = check
        role = roles[0] if len(roles) == 1 else "web"
        token = _metrics_token(settings)
        app = Health(role, checks, ByPath(routes, otherwise), Exposition(token) if token else None)
        serving = serve_http(app, settings.host, settings.port, stopping, settings.trusted_proxies)
        await _together(stopping, serving, *background)


def _metrics_token(settings: Settings) -> str:
    return settings.metrics_token.get_secret_value() if settings.metrics_token else ""


@asynccontextmanager
async def open_gateway(settings: Settings, url: str) -> AsyncIterator[tuple[ASGIApp, tuple[str, ...], Check]]:
    """The gateway with its paths and readiness; its background work runs while the context is open."""
    from app.gateway.runtime import build_gateway

    database = Database(url, pool_size("gateway", settings.database_pool_size))
    gateway = build_gateway(settings, keyring(settings), database)

    async def ready() -> dict[str, Any]:
        problems = gateway.problems()
        if problems:
            raise NotReady("; ".join(problems))
        return gateway.state()

    await gateway.start()
    try:
        yield gateway, (f"/{settings.gateway_prefix}/", "/explain"), ready
    finally:
        await gateway.stop()
        await database.close()


async def _nothing_here(scope: Scope, receive: Receive, send: Send) -> None:
    await JSONResponse({"error": "There is nothing here."}, 404)(scope, receive, send)


async def _together(stopping: asyncio.Event, *parts: Awaitable[None]) -> None:
    """Run all parts; when one ends or fails, all end."""
    tasks = [asyncio.ensure_future(part) for part in parts]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.set()
        results: list[Any] = await asyncio.gather(*tasks, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result


def _stop_on_signals(stopping: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)


async def _stop_without_parent(stopping: asyncio.Event) -> None:
    """End with the supervisor, even where it was killed; a process of its own (a pod) has none to watch."""
    if os.environ.get("POSTERN_SUPERVISED") != "1":
        return
    parent = os.getppid()
    # There is no event for a parent's end that works on every system, so it is looked at.
    while os.getppid() == parent:  # noqa: ASYNC110
        await asyncio.sleep(_PARENT_CHECK_SECONDS)
    log.warning("supervisor.gone")
    stopping.set()


def run(role: str, settings: Settings) -> int:
    """Run a role and return its exit status.

    Returns:
        0 after a clean stop, 2 where a setting is wrong.
    """
    try:
        keyring(settings)
        with asyncio.Runner(loop_factory=_event_loop()) as runner:
            runner.run(run_role(role, settings))
    except ConfigurationError as error:
        sys.stderr.write(f"postern: {error}\n")
        return 2
    return 0


def _event_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's where there is one (not on Windows): a third of the event loop's processor time."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
