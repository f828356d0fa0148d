"""The verdict at the click from everything that answers at once: the list in memory and the address itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

from app.kit.clock import Clock, utc_now
from app.verdicts.heuristics import embedded_target, open_chain, url_signals
from app.verdicts.scoring import DEFAULT_THRESHOLDS, Signal, Thresholds, Verdict, score


class InlineSource(Protocol):
    """A list that answers from memory."""

    @property
    def name(self) -> str:
        """Stable name."""

    def refresh(self) -> int:
        """Take in changes; returns a number that grows with each."""

    def signals(self, url: str) -> tuple[Signal, ...]:
        """What it says about one address."""


class AllSources:
    """Several lists as one.

    Args:
        sources: Asked in this order.
    """

    name = "all"

    def __init__(self, *sources: InlineSource) -> None:
        self.sources = sources

    def refresh(self) -> int:
        """Take in changes of all; the sum grows with each."""
        return sum(source.refresh() for source in self.sources)

    def signals(self, url: str) -> tuple[Signal, ...]:
        """What all of them say."""
        return tuple(signal for source in self.sources for signal in source.signals(url))


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict, and the addresses it is about.

    Attributes:
        verdict: The verdict.
        chain: The address as written, then each one inside it; the last is what was judged.
    """

    verdict: Verdict
    chain: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PageResult:
    """What a check found.

    Attributes:
        signals: Observations.
        chain: Addresses that the link went on to, without the first.
        degraded: The end was not seen for a passing reason.
    """

    signals: tuple[Signal, ...] = ()
    chain: tuple[str, ...] = ()
    degraded: bool = False


NO_PAGE: Final = PageResult()
"""Nothing was seen, because nobody looked."""


def judge(
    url: str,
    *,
    source: InlineSource,
    own_domains: frozenset[str] = frozenset(),
    more: tuple[Signal, ...] = (),
    page: PageResult = NO_PAGE,
    thresholds: Thresholds = DEFAULT_THRESHOLDS,
    clock: Clock = utc_now,
) -> Judgement:
    """Judge an address inline.

    Args:
        url: As it stood in the message.
        source: The list; every address of the chain is looked up, and one that it carries along.
        own_domains: The tenant's own.
        more: Signals that others made, e.g. at delivery.
        page: What a look at the page gave.
        thresholds: The tenant's: where levels begin.
        clock: Aware UTC.
    """
    chain, _ = open_chain(url)
    signals = [*url_signals(url, own_domains), *more, *page.signals]
    looked_up = list(chain)
    carried = embedded_target(chain[-1])
    if carried is not None:
        looked_up.append(carried)
    for address in looked_up:
        signals.extend(source.signals(address))
    chain = (*chain, *page.chain)
    verdict = score(signals, final_url=chain[-1], now=clock(), degraded=page.degraded, thresholds=thresholds)
    return Judgement(verdict, chain)
