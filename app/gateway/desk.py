"""The answer to a click: judge, decide, make the event durable, redirect or show a page; and the buttons of pages.

What is not a click: HEAD, and what a browser fetches ahead (``Sec-Purpose: prefetch``,
https://fetch.spec.whatwg.org/#sec-purpose-header); a prefetch is refused with 503, so that the browser asks again
when the person really clicks.
"""

from __future__ import annotations

from collections.abc import Coroutine
from dataclasses import replace
from typing import Any, Final

from app.gateway import pages, views
from app.gateway.clicks import EARLY_RULE, PATIENCE_SECONDS, Answer, ClickJudge, event_of, may_open_early
from app.gateway.deps import GatewayDeps, GatewayStats
from app.gateway.events import MAX_REASON
from app.gateway.floodgate import Floodgate
from app.gateway.forms import FormSigner
from app.gateway.front import Front, shows_page
from app.gateway.http import Request, fetched_ahead, read_form, send_empty, waits_so_far, with_form_data
from app.gateway.recording import Recorder
from app.links.token import LinkToken
from app.policy.engine import Action

METHODS: Final = b"GET, HEAD, POST, OPTIONS"
MAX_WAITS: Final = 6
"""How often the waiting page asks again before the tenant's failure policy decides."""
_RELEASE_ACTS: Final = ("release", "mistake")
_REPORT_ACTS: Final = (*_RELEASE_ACTS, "harmful")
_EARLY_ACT: Final = "open"
_ACTS: Final = ("continue", _EARLY_ACT, *_REPORT_ACTS)
_FORM_KINDS: Final = ("form", "formaction")


class ClickDesk:
    """Answers requests for opened tokens.

    Args:
        deps: Policies and clock.
        stats: Where requests are counted.
        judge: Verdict and decision.
        signer: Checks buttons.
        front: Sends pages.
        recorder: Makes clicks durable.
        flood: How often buttons may be pressed.
    """

    def __init__(
        self,
        deps: GatewayDeps,
        stats: GatewayStats,
        judge: ClickJudge,
        signer: FormSigner,
        front: Front,
        recorder: Recorder,
        flood: Floodgate,
    ) -> None:
        self._snapshots, self._clock, self._stats = deps.snapshots, deps.clock, stats
        self._judge, self._signer = judge, signer
        self._front, self._recorder, self._flood = front, recorder, flood

    def serve(self, request: Request, token: LinkToken, link: str) -> Coroutine[Any, Any, None]:
        """Answer one request: what it returns is to be awaited.

        Args:
            request: Of any method.
            token: The link.
            link: Its host and token, as buttons are signed for it.
        """
        # No coroutine of its own: this is on the path of every click.
        method = request.method
        if 0 < token.message_no < self._snapshots.get(token.tenant_no).expired_below:
            return self._expired(request, token)
        if method == "GET":
            return self._get(request, token, link)
        if method == "HEAD":
            return self._head(request, token, link)
        if method == "POST":
            return self._post(request, token, link)
        return send_empty(request.send, 405, [(b"allow", METHODS)])

    async def _head(self, request: Request, token: LinkToken, link: str) -> None:
        self._stats.not_clicks += 1
        await self._show(request, token, link, await self._judge.answer(token))

    async def _get(self, request: Request, token: LinkToken, link: str) -> None:
        if fetched_ahead(request.headers):
            self._stats.not_clicks += 1
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
        drawn = await self._recorder.click(request, token, answer, event, page=shows_page(answer))
        await self._show(request, token, link, answer, drawn)

    async def _wait(self, request: Request, token: LinkToken, link: str, answer: Answer, waited: int) -> None:
        """A page that asks again by itself, also without a script; recorded once."""
        drawn = ""
        if waited == 0:
            event = event_of(token.url, answer, Action.WAIT)
            drawn = await self._recorder.click(request, token, answer, event, page=True)
        again = (b"refresh", f"1; url=?wait={waited + 1}".encode())
        hurry = token.kind not in _FORM_KINDS and may_open_early(answer)
        keys = self._front.keys(link, (_EARLY_ACT,)) if hurry else {}
        view = views.waiting(answer.verdict, self._front.words(request, answer.snapshot), waited, keys)
        await self._front.page(request, 200, view, answer.snapshot, drawn, (again,))

    async def _expired(self, request: Request, token: LinkToken) -> None:
        """A genuine link that has outlived the tenant's time for links; recorded, opened by nobody."""
        self._stats.expired += 1
        snapshot = self._snapshots.get(token.tenant_no)
        answer = self._judge.judge_now(token.url, snapshot)
        if request.method in ("GET", "POST") and not fetched_ahead(request.headers):
            await self._recorder.click(request, token, answer, event_of(token.url, answer, "expired"))
        view = views.expired(token.url, self._front.words(request, snapshot))
        await self._front.page(request, 410, view, snapshot)

    async def _show(self, request: Request, token: LinkToken, link: str, answer: Answer, drawn: str = "") -> None:
        action = answer.decision.action
        if action is Action.REDIRECT:
            # A form of the message itself keeps its method and its fields.
            status = 307 if request.method == "POST" and token.kind in _FORM_KINDS else 302
            await request.send({"type": "http.response.start", "status": status, "headers": answer.redirect_headers})
            await request.send({"type": "http.response.body", "body": b""})
            return
        snapshot, rule = answer.snapshot, answer.decision.rule
        front, words = self._front, self._front.words(request, snapshot)
        if answer.target is None:
            await front.page(request, 403, views.unusable(token.url, words), snapshot, drawn)
        elif action is Action.WARN:
            view = views.warning(answer.verdict, words, front.keys(link, ("continue", "harmful")), rule)
            await front.page(request, 200, view, snapshot, drawn)
        elif action is Action.LOCK:
            view = views.locked(answer.verdict, words, front.keys(link, ("release",)), rule)
            await front.page(request, 403, view, snapshot, drawn)
        elif (own_page := pages.own_page(snapshot)) is not None:
            await send_empty(request.send, 302, [(b"location", own_page), (b"referrer-policy", b"no-referrer")])
        else:
            keys, listed = front.keys(link, _RELEASE_ACTS), rule.startswith("list:")
            view = views.blocked(answer.verdict, words, snapshot.name, keys, rule, listed=listed)
            await front.page(request, 403, view, snapshot, drawn)

    async def _post(self, request: Request, token: LinkToken, link: str) -> None:
        """A button on one of our pages."""
        snapshot = self._snapshots.get(token.tenant_no)
        fields = await read_form(request)
        act = "" if fields is None else fields.get("act", "")
        if token.kind in _FORM_KINDS and act not in _ACTS:
            await self._get(request, token, link)
            return
        if (
            fields is None
            or act not in _ACTS
            or not self._signer.from_here(request.headers)
            or not self._signer.check(fields.get("key", ""), link, act, self._clock())
        ):
            await self._front.page(request, 400, views.stale(self._front.words(request, snapshot)), snapshot)
            return
        if not self._flood.lets_form(link):
            await self._front.limited(request)
            return
        answer = await self._judge.answer(token, patience=0.0)
        if act in _REPORT_ACTS:
            stored = await self._recorder.report(token, answer, act, fields.get("reason", "")[:MAX_REASON])
            view = views.thanks(act, self._front.words(request, snapshot), stored=stored)
            await self._front.page(request, 200 if stored else 503, view, answer.snapshot)
            return
        # The waiting page warned of nothing but that the check was not over: anything else gets its own page.
        early = act == _EARLY_ACT
        warned = answer.decision.rule == EARLY_RULE if early else answer.decision.action is Action.WARN
        if not warned or answer.target is None:
            # Judged anew: meanwhile it may be known as harmless, or as worse.
            drawn = await self._recorder.click(request, token, answer, answer.event, page=shows_page(answer))
            await self._show(request, token, link, answer, drawn)
            return
        proceeded = event_of(token.url, answer, "early" if early else "proceed")
        await self._recorder.click(request, token, answer, proceeded)
        await request.send({"type": "http.response.start", "status": 303, "headers": answer.redirect_headers})
        await request.send({"type": "http.response.body", "body": b""})
