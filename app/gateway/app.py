"""The click gateway as a plain ASGI application (https://asgi.readthedocs.io/en/latest/specs/www.html).

``/<prefix>/<host>/<token>`` is the path of every click: open the token, judge, decide, make the event durable,
answer. No web framework stands in between, because this path is measured in microseconds. Everything else here
is a page that few people see.

What is not a click: HEAD, OPTIONS, and what a browser fetches ahead (``Sec-Purpose: prefetch``,
https://fetch.spec.whatwg.org/#sec-purpose-header); a prefetch is refused with 503, so that the browser asks again
when the person really clicks.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

import structlog

from app.gateway import assets, pages, views
from app.gateway.clicks import (
    EARLY_RULE,
    PATIENCE_SECONDS,
    Answer,
    ClickJudge,
    event_of,
    may_open_early,
)
from app.gateway.deps import GatewayDeps, GatewayStats
from app.gateway.events import (
    MAX_AGENT,
    MAX_HEADER,
    MAX_REASON,
    Subject,
    click_event,
    client_part,
    event_id,
    report_event,
    seen_event,
)
from app.gateway.forms import LIFETIME_SECONDS as FORM_SECONDS
from app.gateway.forms import MAX_BODY, FormSigner
from app.gateway.http import (
    Receive,
    Request,
    Scope,
    Send,
    fetched_ahead,
    read_form,
    read_request,
    send_empty,
    send_file,
    send_json,
    send_page,
    waits_so_far,
    with_form_data,
)
from app.gateway.limits import Counter, address_key
from app.kit.crypto import SealBroken
from app.kit.i18n import Translator, negotiate, translator
from app.kit.spool_reader import SpoolReader
from app.links.mint import LinkOpener
from app.links.token import LinkBroken, LinkToken, PayloadNeeded
from app.messages.hosts import host_of
from app.policy.engine import Action, PolicySnapshot
from app.verdicts.lists import store_state

log = structlog.get_logger(__name__)

_MAX_CLIENTS: Final = 20_000
_MAX_AGENT_BYTES: Final = 4 * MAX_AGENT
_METHODS: Final = b"GET, HEAD, POST, OPTIONS"
_SIGNAL_HEADERS: Final = (
    b"sec-fetch-site",
    b"sec-fetch-mode",
    b"sec-fetch-dest",
    b"sec-fetch-user",
    b"accept",
    b"accept-language",
    b"via",
)
MAX_WAITS: Final = 6
"""How often the waiting page asks again before the tenant's failure policy decides."""
_RELEASE_ACTS: Final = ("release", "mistake")
_REPORT_ACTS: Final = (*_RELEASE_ACTS, "harmful")
_EARLY_ACT: Final = "open"
_ACTS: Final = ("continue", _EARLY_ACT, *_REPORT_ACTS)
_FORM_KINDS: Final = ("form", "formaction")


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
        self._opener = LinkOpener(deps.keyring, settings.gateway_url, settings.gateway_prefix)
        self._judge = ClickJudge(deps.snapshots, deps.source, deps.clock, deps.delivery, deps.pages, deps.asker)
        self._signer = FormSigner(deps.keyring, settings.gateway_url)
        window = deps.limits.window_seconds
        self._per_token, self._per_address = Counter(window), Counter(window)
        self._broken, self._forms = Counter(window), Counter(60 * window)
        self._per_tenant, self._drawn = Counter(window), Counter(FORM_SECONDS)
        self._asset_path = f"{self._click_path}{assets.FOLDER}/"
        self._clients: dict[tuple[bytes | tuple[bytes, bytes], ...], bytes] = {}
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

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "http":
            path: str = scope["path"]
            if path.startswith(self._click_path):
                await self._click(scope, receive, send)
            else:
                await self._other(path, read_request(scope, receive, send))
        elif scope["type"] == "lifespan":
            await self._lifespan(receive, send)

    # -- clicks

    async def _click(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = read_request(scope, receive, send)
        limits = self.deps.limits
        if not self._per_address.add(address_key(request.address), limits.per_address):
            await self._limited(request)
            return
        method = request.method
        if method == "OPTIONS":
            self.stats.not_clicks += 1
            await send_empty(send, 204, [(b"allow", _METHODS)])
            return
        parts = scope["path"].split("/")
        if len(parts) == 5 and not parts[4]:
            parts.pop()
        try:
            if len(parts) != 4:
                raise LinkBroken("malformed")
            if parts[2] == assets.FOLDER:
                await self._asset(request, parts[3])
                return
            token = await self._open(parts[2], parts[3])
        except LinkBroken:
            await self._broken_link(request)
            return
        except LookupError:
            await self._plain_page(request, 503, "unavailable")
            return
        link = f"{token.host}/{parts[3]}"
        if not self._per_tenant.add(str(token.tenant_no), limits.per_tenant):
            self.stats.limited_tenant += 1
            await self._limited(request)
        elif not self._per_token.add(link, limits.per_token):
            await self._limited(request)
        elif 0 < token.message_no < self.deps.snapshots.get(token.tenant_no).expired_below:
            await self._expired(request, token)
        elif method == "GET":
            await self._get(request, token, link)
        elif method == "HEAD":
            self.stats.not_clicks += 1
            await self._show(request, token, link, await self._judge.answer(token))
        elif method == "POST":
            await self._post(request, token, link)
        else:
            await send_empty(send, 405, [(b"allow", _METHODS)])

    async def _get(self, request: Request, token: LinkToken, link: str) -> None:
        if fetched_ahead(request.headers):
            self.stats.not_clicks += 1
            await send_empty(request.send, 503, [(b"cache-control", b"no-store")])
            return
        judged = token
        if token.kind in _FORM_KINDS and request.method == "GET" and not waits_so_far(request.query):
            # A form of the message itself: what was filled in is judged with the rest of the address.
            judged = replace(token, url=with_form_data(token.url, request.query))
        answer = self._judge.cached(judged)
        if answer is None:
            waited = waits_so_far(request.query)
            patience = PATIENCE_SECONDS if waited < MAX_WAITS else 0.0
            answer = await self._judge.answer(judged, patience=patience)
            if answer.waiting:
                await self._wait(request, token, link, answer, waited)
                return
        # What a person filled in is not recorded: the record names the address that stood in the message.
        event = answer.event if judged.url == token.url else event_of(token.url, answer, answer.decision.action)
        drawn = await self._record(request, token, answer, event, page=self._shows_page(answer))
        await self._show(request, token, link, answer, drawn)

    async def _wait(self, request: Request, token: LinkToken, link: str, answer: Answer, waited: int) -> None:
        """A page that asks again by itself, also without a script; recorded once."""
        drawn = ""
        if waited == 0:
            event = event_of(token.url, answer, Action.WAIT)
            drawn = await self._record(request, token, answer, event, page=True)
        again = (b"refresh", f"1; url=?wait={waited + 1}".encode())
        hurry = token.kind not in _FORM_KINDS and may_open_early(answer)
        keys = self._keys(link, (_EARLY_ACT,)) if hurry else {}
        view = views.waiting(answer.verdict, self._words(request, answer.snapshot), waited, keys)
        page = pages.render(view, self._words(request, answer.snapshot), answer.snapshot, self._frame(answer, drawn))
        await send_page(request, 200, page, (again,))

    @staticmethod
    def _shows_page(answer: Answer) -> bool:
        """Whether what a click gets is a page of ours: no redirect, and no page of the tenant's own."""
        action = answer.decision.action
        return action is not Action.REDIRECT and not (action is Action.BLOCK and pages.own_page(answer.snapshot))

    async def _record(
        self, request: Request, token: LinkToken, answer: Answer, judged: bytes, *, page: bool = False
    ) -> str:
        """Make the click durable. Where the disk refuses, the click goes on: the spool counts and alarms.

        Returns:
            The name of the picture for its page; empty where ``page`` is not set.
        """
        self.stats.clicks += 1
        number = event_id() if page else ""
        event = click_event(
            Subject(token.tenant_no, token.mailbox_no, token.message_no),
            self.deps.clock(),
            judged,
            self._client(request.headers),
            request.address if answer.snapshot.keep_address else None,
            number=number,
            page=page,
            datacentre=request.address in self.deps.datacentres,
        )
        if not await self.deps.spool.submit(event):
            self.stats.not_durable += 1
        if not page:
            return ""
        # Signed with the tenant: nobody's picture can be turned into one about another tenant's click.
        signature = self._signer.sign(f"{token.tenant_no}/{number}", "seen", self.deps.clock())
        return assets.seen_name(token.tenant_no, number, signature)

    def _frame(self, answer: Answer, drawn: str = "") -> pages.Frame:
        logo = assets.logo_of(answer.snapshot)
        return pages.Frame(
            logo=self._asset_path + logo if logo else "", drawn=self._asset_path + drawn if drawn else ""
        )

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
            if (
                self._signer.check(found[3], f"{found[1]}/{found[2]}", "seen", self.deps.clock())
                and not fetched_ahead(request.headers)
                and self._drawn.add(found[2], 1)
            ):
                self.stats.pages_seen += 1
                await self.deps.spool.submit(seen_event(int(found[1]), found[2], self.deps.clock()))
            await send_file(request, b"image/gif", assets.PIXEL, b"no-store")
            return
        await self._plain_page(request, 404, "nothing")

    async def _expired(self, request: Request, token: LinkToken) -> None:
        """A genuine link that has outlived the tenant's time for links; recorded, opened by nobody."""
        self.stats.expired += 1
        snapshot = self.deps.snapshots.get(token.tenant_no)
        answer = self._judge.judge_now(token.url, snapshot)
        if request.method in ("GET", "POST") and not fetched_ahead(request.headers):
            await self._record(request, token, answer, event_of(token.url, answer, "expired"))
        await self._page(request, 410, views.expired(token.url, self._words(request, snapshot)), snapshot)

    async def _show(self, request: Request, token: LinkToken, link: str, answer: Answer, drawn: str = "") -> None:
        action = answer.decision.action
        if action is Action.REDIRECT:
            # A form of the message itself keeps its method and its fields.
            status = 307 if request.method == "POST" and token.kind in _FORM_KINDS else 302
            await request.send({"type": "http.response.start", "status": status, "headers": answer.redirect_headers})
            await request.send({"type": "http.response.body", "body": b""})
            return
        snapshot, rule = answer.snapshot, answer.decision.rule
        words, frame = self._words(request, snapshot), self._frame(answer, drawn)
        if answer.target is None:
            await self._page(request, 403, views.unusable(token.url, words), snapshot, frame)
        elif action is Action.WARN:
            keys = self._keys(link, ("continue", "harmful"))
            await self._page(request, 200, views.warning(answer.verdict, words, keys, rule), snapshot, frame)
        elif action is Action.LOCK:
            keys = self._keys(link, ("release",))
            await self._page(request, 403, views.locked(answer.verdict, words, keys, rule), snapshot, frame)
        else:
            await self._blocked(request, link, answer, words, frame)

    async def _blocked(
        self, request: Request, link: str, answer: Answer, words: Translator, frame: pages.Frame
    ) -> None:
        snapshot, rule = answer.snapshot, answer.decision.rule
        own_page = pages.own_page(snapshot)
        if own_page is not None:
            await send_empty(request.send, 302, [(b"location", own_page), (b"referrer-policy", b"no-referrer")])
            return
        view = views.blocked(
            answer.verdict,
            words,
            snapshot.name,
            self._keys(link, _RELEASE_ACTS),
            rule,
            listed=rule.startswith("list:"),
        )
        await self._page(request, 403, view, snapshot, frame)

    async def _post(self, request: Request, token: LinkToken, link: str) -> None:
        """A button on one of our pages."""
        snapshot = self.deps.snapshots.get(token.tenant_no)
        words = self._words(request, snapshot)
        fields = await read_form(request)
        act = "" if fields is None else fields.get("act", "")
        if token.kind in _FORM_KINDS and act not in _ACTS:
            await self._get(request, token, link)
            return
        if (
            fields is None
            or act not in _ACTS
            or not self._signer.from_here(request.headers)
            or not self._signer.check(fields.get("key", ""), link, act, self.deps.clock())
        ):
            await self._page(request, 400, views.stale(words), snapshot)
            return
        if not self._forms.add(link, self.deps.limits.forms_per_token):
            await self._limited(request)
            return
        answer = await self._judge.answer(token, patience=0.0)
        if act in _REPORT_ACTS:
            await self._report(request, token, answer, act, fields.get("reason", "")[:MAX_REASON], words)
            return
        # The waiting page warned of nothing but that the check was not over: anything else gets its own page.
        early = act == _EARLY_ACT
        warned = answer.decision.rule == EARLY_RULE if early else answer.decision.action is Action.WARN
        if not warned or answer.target is None:
            # Judged anew: meanwhile it may be known as harmless, or as worse.
            drawn = await self._record(request, token, answer, answer.event, page=self._shows_page(answer))
            await self._show(request, token, link, answer, drawn)
            return
        proceeded = event_of(token.url, answer, "early" if early else "proceed")
        await self._record(request, token, answer, proceeded)
        await request.send({"type": "http.response.start", "status": 303, "headers": answer.redirect_headers})
        await request.send({"type": "http.response.body", "body": b""})

    async def _report(
        self, request: Request, token: LinkToken, answer: Answer, kind: str, reason: str, words: Translator
    ) -> None:
        event = report_event(
            Subject(token.tenant_no, token.mailbox_no, token.message_no),
            self.deps.clock(),
            kind=kind,
            url=token.url,
            host=host_of(answer.verdict.final_url) or "",
            reason=reason,
        )
        stored = await self.deps.spool.submit(event)
        await self._page(request, 200 if stored else 503, views.thanks(kind, words, stored=stored), answer.snapshot)

    async def _open(self, host: str, text: str) -> LinkToken:
        """Open a token; fetches the stored target of a very long link.

        Raises:
            LinkBroken: It does not open.
            LookupError: Its target cannot be read now.
        """
        try:
            return self._opener.open_parts(host, text)
        except PayloadNeeded as needed:
            if self.deps.payloads is None:
                raise LookupError("no database") from None
            sealed = await self.deps.payloads(needed.tenant_no, needed.digest)
            if sealed is None:
                raise LinkBroken("payload_missing") from None
            try:
                return self._opener.open_parts(host, text, sealed)
            except SealBroken:
                raise LinkBroken("tampered") from None

    async def _broken_link(self, request: Request) -> None:
        self.stats.broken += 1
        if not self._broken.add(address_key(request.address), self.deps.limits.broken_per_address):
            await self._limited(request)
            return
        await self._plain_page(request, 404, "broken")

    async def _limited(self, request: Request) -> None:
        self.stats.limited += 1
        await self._plain_page(request, 429, "limited", extra=((b"retry-after", b"60"),))

    # -- everything else

    async def _other(self, path: str, request: Request) -> None:
        if path == "/healthz":
            await send_json(request.send, 200, {"status": "alive"})
        elif path == "/readyz":
            await self._readyz(request)
        elif not self._per_address.add(address_key(request.address), self.deps.limits.per_address):
            await self._limited(request)
        elif path == "/explain" and request.method in ("GET", "HEAD"):
            await self._page(request, 200, views.explain(self._words(request)))
        elif path == "/explain" and request.method == "POST":
            await self._explain(request)
        elif path == "/explain":
            await send_empty(request.send, 405, [(b"allow", b"GET, HEAD, POST")])
        else:
            await self._plain_page(request, 404, "nothing")

    async def _readyz(self, request: Request) -> None:
        problems = self.problems()
        state = {"status": "not ready" if problems else "ready", "problems": problems, **self.state()}
        await send_json(request.send, 503 if problems else 200, state)

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

    async def _explain(self, request: Request) -> None:
        """Where a link leads. Whose it is, is not shown: nobody is signed in here."""
        words = self._words(request)
        fields = await read_form(request)
        link = "" if fields is None else fields.get("link", "").strip().strip("<>\"'")[:MAX_BODY]
        path = link.partition("#")[0].partition("?")[0].split("/")
        try:
            if len(path) < 5 or path[-3] != self._prefix:
                raise LinkBroken("malformed")
            token = await self._open(path[-2], path[-1])
        except (LinkBroken, LookupError):
            if not self._broken.add(address_key(request.address), self.deps.limits.broken_per_address):
                await self._limited(request)
                return
            problem = words.gettext("This is not a protected link, or it was changed.")
            await self._page(request, 200, views.explain(words, link, problem))
            return
        # Counted as a click is: the same question must not be free of charge here.
        if not self._per_tenant.add(str(token.tenant_no), self.deps.limits.per_tenant):
            self.stats.limited_tenant += 1
            await self._limited(request)
            return
        if not self._per_token.add(f"{token.host}/{path[-1]}", self.deps.limits.per_token):
            await self._limited(request)
            return
        answer = await self._judge.answer(token)
        view = views.explained(link, answer.verdict, words, answer.decision.action.value, answer.decision.rule)
        await self._page(request, 200, view, answer.snapshot)

    def _keys(self, link: str, acts: tuple[str, ...]) -> dict[str, str]:
        now = self.deps.clock()
        return {act: self._signer.sign(link, act, now) for act in acts}

    def _words(self, request: Request, snapshot: PolicySnapshot | None = None) -> Translator:
        default = snapshot.words.locale if snapshot is not None else ""
        header = request.headers.get(b"accept-language")
        accepted = None if header is None else header.decode("latin-1")
        return translator(negotiate(accepted, default or "en"), pages.DOMAIN)

    def _client(self, headers: dict[bytes, bytes]) -> bytes:
        """What asked, ready for the event; browsers say the same again and again."""
        # Cut before they become a key: what is kept for the next click must not be as large as a stranger likes.
        agent = headers.get(b"user-agent", b"")[:_MAX_AGENT_BYTES]
        signals = {name: headers[name][:MAX_HEADER] for name in _SIGNAL_HEADERS if name in headers}
        key: tuple[bytes | tuple[bytes, bytes], ...] = (agent, *signals.items())
        made = self._clients.get(key)
        if made is None:
            named = {name.decode(): value.decode("latin-1") for name, value in signals.items()}
            made = client_part(agent.decode("utf-8", "replace"), named)
            if len(self._clients) >= _MAX_CLIENTS:
                self._clients.clear()
            self._clients[key] = made
        return made

    async def _page(
        self,
        request: Request,
        status: int,
        view: views.View,
        snapshot: PolicySnapshot | None = None,
        frame: pages.Frame | None = None,
    ) -> None:
        if frame is None and snapshot is not None:
            logo = assets.logo_of(snapshot)
            frame = pages.Frame(logo=self._asset_path + logo if logo else "")
        await send_page(request, status, pages.render(view, self._words(request, snapshot), snapshot, frame))

    async def _plain_page(
        self, request: Request, status: int, kind: str, extra: tuple[tuple[bytes, bytes], ...] = ()
    ) -> None:
        await send_page(request, status, pages.plain_page(kind, self._words(request).locale), extra)

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
