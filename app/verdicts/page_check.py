"""The slow part of a verdict: where a link really ends, and what that page wants.

Everything goes through :mod:`app.kit.safe_http`. A link that looks as if it works once is never fetched, and a chain
is left where it would come to one (N1). Each address is checked once at a time, and remembered for some minutes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

import structlog

from app.kit.safe_http import Fetched, SafeFetcher
from app.messages.hosts import host_of, registrable_domain
from app.verdicts.heuristics import url_signals
from app.verdicts.judge import InlineSource, PageResult
from app.verdicts.landing import page_signals
from app.verdicts.scoring import Signal
from app.verdicts.single_use import looks_single_use
from app.verdicts.waiting import give_up

REMEMBER_SECONDS: Final = 300.0
REMEMBER_FAILED_SECONDS: Final = 20.0
MAX_REMEMBERED: Final = 5_000
MAX_RUNNING: Final = 64

MAX_READING: Final = 2
"""Pages read at once, each in a thread: one that a stranger made for it takes seconds."""

log = structlog.get_logger(__name__)

_Question = tuple[str, frozenset[str]]

_INSIDE: Final = ("address", "name", "port", "scheme", "credentials")
_TRANSIENT: Final = ("timeout", "connect", "resolve")


class PageCheck:
    """Looks at the pages behind links.

    Args:
        fetcher: Fetches safely.
        source: The lists in memory: every hop is looked up.
        monotonic: Seconds, for tests.
    """

    def __init__(
        self, fetcher: SafeFetcher, source: InlineSource, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._fetcher = fetcher
        self._source = source
        self._monotonic = monotonic
        # By the tenant's domains too: a page on one's own domain is no finding, which holds for nobody else.
        self._known: dict[_Question, tuple[float, PageResult]] = {}
        self._running: dict[_Question, asyncio.Task[PageResult]] = {}
        self._reading = asyncio.Semaphore(MAX_READING)

    def known(self, url: str, own_domains: frozenset[str] = frozenset()) -> PageResult | None:
        """The result where it is known already."""
        found = self._known.get((url, own_domains))
        return found[1] if found is not None and found[0] > self._monotonic() else None

    async def check(self, url: str, seconds: float, own_domains: frozenset[str] = frozenset()) -> PageResult | None:
        """Check an address; None where that takes longer, and then it goes on by itself.

        Args:
            url: Where the link leads.
            seconds: How long to wait for the result.
            own_domains: The tenant's own.
        """
        known = self.known(url, own_domains)
        if known is not None:
            return known
        question = (url, own_domains)
        running = self._running.get(question)
        if running is None:
            if len(self._running) >= MAX_RUNNING:
                return None
            running = asyncio.create_task(self._check(url, own_domains))
            self._running[question] = running
            running.add_done_callback(lambda _: self._running.pop(question, None))
        # Whoever waits may give up; the check goes on for the others.
        done, _ = await asyncio.wait({running}, timeout=seconds)
        return running.result() if done else None

    async def aclose(self) -> None:
        """Give up what is under way."""
        await give_up(self._running.values())

    async def _check(self, url: str, own_domains: frozenset[str]) -> PageResult:
        if looks_single_use(url):
            result = PageResult((Signal("single_use", 0, source="page"),))
        else:
            fetched = await self._fetcher.fetch(url, before_hop=lambda hop: hop == url or not looks_single_use(hop))
            try:
                result = await self._result(url, fetched, own_domains)
            except Exception as fault:  # noqa: BLE001 - a page that we cannot read must not take the click with it
                log.error("page.not_read", error=type(fault).__name__)
                result = PageResult((Signal("cannot_see_error", 10, source="page"),), degraded=True)
        if len(self._known) >= MAX_REMEMBERED:
            self._known.clear()
        lifetime = REMEMBER_FAILED_SECONDS if result.degraded else REMEMBER_SECONDS
        self._known[url, own_domains] = (self._monotonic() + lifetime, result)
        return result

    async def _result(self, url: str, fetched: Fetched, own_domains: frozenset[str]) -> PageResult:
        chain = [hop.url for hop in fetched.hops[1:]]
        if fetched.problem == "stopped" and fetched.url not in chain:
            chain.append(fetched.url)
        signals: list[Signal] = []
        for address in chain:
            signals.extend(self._source.signals(address))
        if chain:
            signals.extend(url_signals(chain[-1], own_domains))
            end = host_of(chain[-1]) or ""
            if registrable_domain(end) != registrable_domain(host_of(url) or ""):
                signals.append(Signal("redirects", 0, (("host", end),), "page"))
        signals.extend(self._problem(fetched))
        content = fetched.headers.get("content-type", "text/html").lower()
        if not fetched.problem and fetched.body and ("html" in content or "xml" in content):
            # Beside the event loop: other clicks are answered meanwhile.
            async with self._reading:
                signals.extend(await asyncio.to_thread(page_signals, fetched.body, fetched.url, own_domains))
        return PageResult(tuple(signals), tuple(chain), degraded=fetched.problem in _TRANSIENT)

    def _problem(self, fetched: Fetched) -> list[Signal]:
        problem = fetched.problem
        if problem == "stopped":
            return [Signal("single_use", 0, source="page")]
        if problem in ("hops", "loop"):
            return [Signal("too_many_redirects", 20, source="page")]
        if problem in _INSIDE and fetched.hops:
            return [Signal("leads_inside", 40, source="page")]
        if problem or fetched.status >= 400:
            return [Signal("cannot_see_error", 10, source="page")]
        return []
