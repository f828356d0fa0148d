"""What is thought of an address, for the command line and the console: ``postern inspect-url``."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from app.kit.clock import Clock, utc_now
from app.verdicts.asking import NOTHING_ASKED, Asked
from app.verdicts.canonical import NotCanonical, canonical_url, lookup_expressions
from app.verdicts.feed import FeedFile
from app.verdicts.heuristics import embedded_target, open_chain
from app.verdicts.judge import NO_PAGE, InlineSource, PageResult, judge
from app.verdicts.scoring import DEFAULT_THRESHOLDS, Thresholds, Verdict
from app.verdicts.sentences import readable

if TYPE_CHECKING:
    from app.kit.safe_http import SafeFetcher
    from app.verdicts.asking import SourceDesk

LOOK_SECONDS: Final = 10.0


class Decided(Protocol):
    """A policy's answer."""

    @property
    def action(self) -> str:
        """What would happen."""

    @property
    def rule(self) -> str:
        """What decided."""

    @property
    def trace(self) -> tuple[object, ...]:
        """How it came about; the ``str`` of each step is English."""


class Lists(Protocol):
    """Decides about a click on an address (``PolicySnapshot.at_click``)."""

    @property
    def own_domains(self) -> frozenset[str]:
        """The organisation's own."""

    @property
    def level_from(self) -> tuple[int, int]:
        """From how many points on a verdict is suspicious, and malicious."""

    def at_click(self, urls: tuple[str, ...], level: str, *, degraded: bool = False) -> Decided:
        """Decide."""


@dataclass(frozen=True, slots=True)
class Inspection:
    """Everything there is to say about an address.

    Attributes:
        url: As given.
        chain: The address, then each one found inside it.
        wrappers: Whose wrappers were opened, outermost first.
        canonical: The Safe Browsing canonical form of the last one; empty where it has none.
        expressions: Under which it would be listed.
        verdict: The verdict.
        decision: What the policy would do; None where no policy was given.
        offline: Whether nothing was asked over the network.
    """

    url: str
    chain: tuple[str, ...]
    wrappers: tuple[str, ...]
    canonical: str
    expressions: tuple[str, ...]
    verdict: Verdict
    decision: Decided | None
    offline: bool

    def as_json(self) -> dict[str, Any]:
        """JSON form with stable names."""
        return {
            "url": self.url,
            **self.verdict.as_json(),
            "chain": list(self.chain),
            "wrappers": list(self.wrappers),
            "canonical": self.canonical,
            "expressions": list(self.expressions),
            "decision": None
            if self.decision is None
            else {
                "action": str(self.decision.action),
                "rule": self.decision.rule,
                "trace": [str(step) for step in self.decision.trace],
            },
            "offline": self.offline,
        }

    def as_text(self) -> str:
        """For a terminal: hostile text in it cannot control one."""
        verdict = self.verdict
        lines = [f"{verdict.level.value}  score {verdict.score}/100  {readable(self.url, 200)}"]
        if len(self.chain) > 1:
            lines += [f"  leads to  {readable(address, 200)}" for address in self.chain[1:]]
        lines += [f"  {signal.weight:+4d}  {signal.text}" for signal in verdict.signals]
        if not verdict.signals:
            lines.append("        Nothing was found. That is not proof of anything.")
        if self.decision is not None:
            lines.append(f"  a click:  {self.decision.action} ({self.decision.rule})")
            lines += [f"        {readable(str(step), 200)}" for step in self.decision.trace]
        return "\n".join(lines)


def inspect_url(
    url: str,
    *,
    feed: InlineSource | None = None,
    feed_file: Path | None = None,
    lists: Lists | None = None,
    offline: bool = True,
    fetcher: SafeFetcher | None = None,
    sources: SourceDesk | None = None,
    clock: Clock = utc_now,
) -> Inspection:
    """Judge an address, and say why. Not to be called from a running event loop, where sources or the page are asked.

    Args:
        url: Any address.
        feed: The list in memory; it is brought up to date first. None: ``feed_file`` is read.
        feed_file: A local list, where ``feed`` is None.
        lists: A tenant's policy: it says where levels begin, and its decision is added.
        offline: Judge from what is here. Otherwise the page is looked at too, as at a click: redirects are
            followed under the rules of :mod:`app.kit.safe_http`; a link that works once is not opened.
        fetcher: Fetches the page; None: with the default bounds.
        sources: The signal sources; offline only those that answer from memory are asked. Closed afterwards.
        clock: Aware UTC.
    """
    feed = FeedFile(feed_file) if feed is None else feed
    feed.refresh()
    chain, opened = open_chain(url)
    own = frozenset[str]() if lists is None else lists.own_domains
    page, asked = NO_PAGE, NOTHING_ASKED
    if not offline or sources is not None:
        page, asked = asyncio.run(_look(chain, feed, own, fetcher, sources, offline))
    page = replace(page, degraded=page.degraded or asked.degraded or asked.waiting)
    thresholds = DEFAULT_THRESHOLDS if lists is None else Thresholds(*lists.level_from)
    judgement = judge(
        url, source=feed, own_domains=own, more=asked.signals, page=page, thresholds=thresholds, clock=clock
    )
    verdict, chain = judgement.verdict, judgement.chain
    try:
        canonical, expressions = canonical_url(chain[-1]), lookup_expressions(chain[-1])
    except NotCanonical:
        canonical, expressions = "", ()
    decision = None if lists is None else lists.at_click(chain, verdict.level.value, degraded=verdict.degraded)
    return Inspection(
        url=url,
        chain=chain,
        wrappers=tuple(hit.vendor for hit in opened.chain),
        canonical=canonical,
        expressions=expressions,
        verdict=verdict,
        decision=decision,
        offline=offline,
    )


async def _look(
    chain: tuple[str, ...],
    feed: InlineSource,
    own: frozenset[str],
    fetcher: SafeFetcher | None,
    sources: SourceDesk | None,
    offline: bool,
) -> tuple[PageResult, Asked]:
    """What the page and the sources say."""
    page, asked = NO_PAGE, NOTHING_ASKED
    try:
        if not offline:
            page = await _page(chain[-1], feed, own, fetcher)
        if sources is not None:
            carried = embedded_target(chain[-1])
            urls = (*chain, *([] if carried is None else [carried]), *page.chain)
            asked = await sources.ask(urls, LOOK_SECONDS, slow=not offline)
    finally:
        if sources is not None:
            await sources.aclose()
    return page, asked


async def _page(url: str, feed: InlineSource, own: frozenset[str], fetcher: SafeFetcher | None) -> PageResult:
    # Imported where it is wanted: the HTML parser is no part of an offline look.
    from app.kit.safe_http import SafeFetcher
    from app.verdicts.page_check import PageCheck

    pages = PageCheck(fetcher or SafeFetcher(), feed)
    try:
        return await pages.check(url, LOOK_SECONDS, own) or PageResult(degraded=True)
    finally:
        await pages.aclose()
