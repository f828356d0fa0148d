"""The click gateway as a plain ASGI application (https://asgi.readthedocs.io/en/latest/specs/www.html).

``/<prefix>/<host>/<token>`` is the path of every click: open the token, then :class:`app.gateway.desk.ClickDesk`
answers. No web framework stands in between, because this path is measured in microseconds. Everything else here is a
page that few people see.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from app.gateway import assets, views
from app.gateway.clicks import ClickJudge
from app.gateway.deps import GatewayDeps, GatewayStats
from app.gateway.desk import METHODS, ClickDesk
from app.gateway.floodgate import Floodgate
from app.gateway.forms import MAX_BODY, FormSigner
from app.gateway.front import Front
from app.gateway.http import (
    Receive,
    Request,
    Scope,
    Send,
    read_form,
    read_request,
    send_empty,
    send_file,
    send_json,
)
from app.gateway.opening import TokenDoor
from app.gateway.recording import Recorder
from app.kit.spool_reader import SpoolReader
from app.links.token import LinkBroken
from app.verdicts.lists import store_state


def create_gateway(deps: GatewayDeps) -> Gateway:
    """The gateway over its parts."""
    return Gateway(deps)


class Gateway:
    """The ASGI application; see the module."""

    def __init__(self, deps: GatewayDeps) -> None:
        self.deps = deps
        self.stats = GatewayStats()
        settings = deps.settings
        self._prefix = settings.gateway_prefix
        self._click_path = f"/{settings.gateway_prefix}/"
        self._door = TokenDoor(deps)
        self._judge = ClickJudge(deps.snapshots, deps.source, deps.clock, deps.delivery, deps.pages, deps.asker)
        signer = FormSigner(deps.keyring, settings.gateway_url)
        self._flood = Floodgate(deps.limits, self.stats)
        self._front = Front(deps, self.stats, signer)
        self._recorder = Recorder(deps, self.stats, signer)
        self._desk = ClickDesk(deps, self.stats, self._judge, signer, self._front, self._recorder, self._flood)
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def paths(self) -> tuple[str, ...]:
        """Where the gateway's paths begin, for an application that serves several roles on one port."""
        return (self._click_path, "/explain")

    async def start(self) -> None:
        """Open the spool, take the policies on disk, and begin what runs beside the requests."""
        self.deps.spool.start()
        if not self.deps.snapshots.loaded:
            self.deps.snapshots.load_from_disk()
        self.deps.source.refresh()
        self._tasks = [asyncio.create_task(job()) for job in self.deps.background]

    async def stop(self) -> None:
        """Stop what runs beside the requests and close the spool; nothing accepted is lost."""
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with suppress(asyncio.CancelledError):
                await task
        self._tasks = []
        if self.deps.pages is not None:
            await self.deps.pages.aclose()
        if self.deps.asker is not None:
            await self.deps.asker.aclose()
        await self.deps.spool.stop()

    def problems(self) -> list[str]:
        """Why the gateway is not able to serve; empty where it is."""
        found = []
        if not self.deps.snapshots.loaded:
            found.append("no policies yet: neither the database nor a copy on disk was there")
        found.extend("a background task ended" for task in self._tasks if task.done() and not task.cancelled())
        return found

    def state(self) -> dict[str, Any]:
        """What an operator wants to see: policies, and what waits in the spool."""
        spool = self.deps.spool.stats
        waiting = SpoolReader(self.deps.spool.folder).pending_bytes()
        return {
            "policies": len(self.deps.snapshots),
            "policies_from_database": self.deps.snapshots.from_database,
            "limited": self.stats.limited,
            "limited_tenant": self.stats.limited_tenant,
            "spool": {
                "written": spool.written,
                "late": spool.late,
                "lost": spool.lost,
                "error": spool.error,
                "waiting_bytes": waiting,
            },
            "lists": store_state(self.deps.source),
            "sources": {} if self.deps.asker is None else self.deps.asker.state(),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "http":
            path: str = scope["path"]
            request = read_request(scope, receive, send)
            if path.startswith(self._click_path):
                await self._click(path, request)
            else:
                await self._other(path, request)
        elif scope["type"] == "lifespan":
            await self._lifespan(receive, send)

    async def _click(self, path: str, request: Request) -> None:
        if not self._flood.lets_address(request.address):
            await self._front.limited(request)
            return
        if request.method == "OPTIONS":
            self.stats.not_clicks += 1
            await send_empty(request.send, 204, [(b"allow", METHODS)])
            return
        parts = path.split("/")
        if len(parts) == 5 and not parts[4]:
            parts.pop()
        try:
            if len(parts) != 4:
                raise LinkBroken("malformed")
            if parts[2] == assets.FOLDER:
                await self._asset(request, parts[3])
                return
            token = await self._door.open(parts[2], parts[3])
        except LinkBroken:
            await self._broken_link(request)
            return
        except LookupError:
            await self._front.plain(request, 503, "unavailable")
            return
        link = f"{token.host}/{parts[3]}"
        if self._flood.lets_link(token.tenant_no, link):
            await self._desk.serve(request, token, link)
        else:
            await self._front.limited(request)

    async def _asset(self, request: Request, name: str) -> None:
        """A tenant's logo, or the picture of a page; see :mod:`app.gateway.assets`."""
        found = assets.LOGO_RE.match(name)
        if found is not None and request.method in ("GET", "HEAD"):
            number = int(found[1])
            # A number that is not known is not asked for: anybody may write one here.
            snapshot = self.deps.snapshots.get(number) if self.deps.snapshots.has(number) else None
            if snapshot is not None and assets.logo_of(snapshot) == name:
                body = assets.logo_bytes(snapshot.words.logo)
                await send_file(request, b"image/png", body, b"public, max-age=604800, immutable")
                return
        found = assets.SEEN_RE.match(name)
        if found is not None and request.method == "GET":
            await self._recorder.drawn(request, found[1], found[2], found[3])
            await send_file(request, b"image/gif", assets.PIXEL, b"no-store")
            return
        await self._front.plain(request, 404, "nothing")

    async def _broken_link(self, request: Request) -> None:
        self.stats.broken += 1
        if self._flood.lets_broken(request.address):
            await self._front.plain(request, 404, "broken")
        else:
            await self._front.limited(request)

    async def _other(self, path: str, request: Request) -> None:
        if path == "/healthz":
            await send_json(request.send, 200, {"status": "alive"})
        elif path == "/readyz":
            problems = self.problems()
            state = {"status": "not ready" if problems else "ready", "problems": problems, **self.state()}
            await send_json(request.send, 503 if problems else 200, state)
        elif not self._flood.lets_address(request.address):
            await self._front.limited(request)
        elif path == "/explain" and request.method in ("GET", "HEAD"):
            await self._front.page(request, 200, views.explain(self._front.words(request)))
        elif path == "/explain" and request.method == "POST":
            await self._explain(request)
        elif path == "/explain":
            await send_empty(request.send, 405, [(b"allow", b"GET, HEAD, POST")])
        else:
            await self._front.plain(request, 404, "nothing")

    async def _explain(self, request: Request) -> None:
        """Where a link leads. Whose it is, is not shown: nobody is signed in here."""
        words = self._front.words(request)
        fields = await read_form(request)
        link = "" if fields is None else fields.get("link", "").strip().strip("<>\"'")[:MAX_BODY]
        path = link.partition("#")[0].partition("?")[0].split("/")
        try:
            if len(path) < 5 or path[-3] != self._prefix:
                raise LinkBroken("malformed")
            token = await self._door.open(path[-2], path[-1])
        except (LinkBroken, LookupError):
            if not self._flood.lets_broken(request.address):
                await self._front.limited(request)
                return
            problem = words.gettext("This is not a protected link, or it was changed.")
            await self._front.page(request, 200, views.explain(words, link, problem))
            return
        # Counted as a click is: the same question must not be free of charge here.
        if not self._flood.lets_link(token.tenant_no, f"{token.host}/{path[-1]}"):
            await self._front.limited(request)
            return
        answer = await self._judge.answer(token)
        view = views.explained(link, answer.verdict, words, answer.decision.action.value, answer.decision.rule)
        await self._front.page(request, 200, view, answer.snapshot)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                try:
                    await self.start()
                except OSError as error:
                    await send({"type": "lifespan.startup.failed", "message": f"The spool cannot be opened: {error}"})
                    return
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                await self.stop()
                await send({"type": "lifespan.shutdown.complete"})
                return
