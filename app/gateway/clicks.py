"""From an opened token to the answer of a click: verdict, decision, and everything that can be made beforehand."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, Protocol

from app.gateway.destination import location
from app.gateway.events import judged_part
from app.kit.clock import Clock
from app.links.token import LinkToken
from app.messages.hosts import host_of
from app.policy.engine import Action, Decision, PolicyContext, PolicySnapshot, Stage
from app.policy.snapshots import SnapshotStore
from app.verdicts.judge import NO_PAGE, InlineSource, Judgement, PageResult, judge
from app.verdicts.scoring import Level, Signal, Verdict

MAX_CACHED: Final = 50_000
PATIENCE_SECONDS: Final = 1.5
"""How long a click waits for a look at the page before a waiting page is shown."""
_WITHOUT_DELIVERY: Final = timedelta(seconds=15)
"""How long an answer holds that lacks what was noticed at delivery."""


class DeliverySource(Protocol):
    """What was noticed about a link when its message was delivered."""

    def cached(self, tenant_no: int, message_no: int, url: str) -> tuple[Signal, ...] | None:
        """The signals where they are known already."""

    async def fetch(self, tenant_no: int, message_no: int, url: str) -> tuple[Signal, ...] | None:
        """Look them up; None where that takes too long."""


class PageSource(Protocol):
    """Looks at the pages behind links (``app.verdicts.page_check.PageCheck``)."""

    async def check(self, url: str, seconds: float, own_domains: frozenset[str]) -> PageResult | None:
        """The result, or None where it takes longer than some seconds; it then goes on by itself."""

    async def aclose(self) -> None:
        """Give up what is under way."""


PayloadSource = Callable[[int, bytes], Awaitable[bytes | None]]
"""Reads the stored target of a very long link: tenant number and digest -> sealed payload, or None."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a click gets.

    Attributes:
        snapshot: The policy it was decided by.
        generation: State of the list it was judged by.
        judgement: Verdict and addresses.
        decision: What to do, and why.
        target: Value of ``Location``; None where the target is no web address.
        redirect_headers: Complete headers of a redirect, made once.
        event: The part of the click's event that stays the same.
        expires_at: Until when this may be given again.
        waiting: The page behind the link is still being looked at.
    """

    snapshot: PolicySnapshot
    generation: int
    judgement: Judgement
    decision: Decision
    target: bytes | None
    redirect_headers: list[tuple[bytes, bytes]]
    event: bytes
    expires_at: datetime
    waiting: bool = False

    @property
    def verdict(self) -> Verdict:
        """The verdict."""
        return self.judgement.verdict


class ClickJudge:
    """Answers by token, and remembers answers as long as verdict, list and policy stand.

    Args:
        snapshots: Policies.
        source: The list in memory.
        clock: Aware UTC.
        delivery: What was noticed at delivery, where that can be looked up.
        pages: Looks at the pages behind links; None: that is not wanted.
    """

    def __init__(
        self,
        snapshots: SnapshotStore,
        source: InlineSource,
        clock: Clock,
        delivery: DeliverySource | None = None,
        pages: PageSource | None = None,
    ) -> None:
        self._snapshots = snapshots
        self._source = source
        self._clock = clock
        self._delivery = delivery
        self._pages = pages
        self._answers: dict[tuple[int, int, str], Answer] = {}

    def cached(self, token: LinkToken) -> Answer | None:
        """The answer where it stands already; nothing is awaited."""
        found = self._answers.get((token.tenant_no, token.message_no, token.url))
        if (
            found is None
            or found.generation != self._source.refresh()
            or found.snapshot is not self._snapshots.get(token.tenant_no)
            or found.expires_at <= self._clock()
        ):
            return None
        return found

    async def answer(self, token: LinkToken, *, patience: float = PATIENCE_SECONDS) -> Answer:
        """The answer, judged anew where needed.

        Args:
            token: The link.
            patience: How long to wait for a look at the page, in seconds. What is not there then makes the
                answer one to wait for (:attr:`Answer.waiting`); 0 takes what there is and calls it degraded.
        """
        found = self.cached(token)
        if found is not None:
            return found
        snapshot = self._snapshots.get(token.tenant_no)
        more: tuple[Signal, ...] | None = ()
        if self._delivery is not None and token.message_no:
            more = self._delivery.cached(token.tenant_no, token.message_no, token.url)
            if more is None:
                more = await self._delivery.fetch(token.tenant_no, token.message_no, token.url)
        made = self.judge_now(token.url, snapshot, more or ())
        if self._pages is not None and wants_a_look(made):
            final = made.verdict.final_url
            page = await self._pages.check(final, patience, snapshot.own_domains)
            if page is None and patience > 0:
                return replace(made, waiting=True)
            page = page or PageResult(degraded=True)
            made = self.judge_now(token.url, snapshot, more or (), page)
        if more is None:
            made = replace(made, expires_at=min(made.expires_at, self._clock() + _WITHOUT_DELIVERY))
        if len(self._answers) >= MAX_CACHED:
            self._answers.clear()
        self._answers[token.tenant_no, token.message_no, token.url] = made
        return made

    def judge_now(
        self,
        url: str,
        snapshot: PolicySnapshot,
        more: tuple[Signal, ...] = (),
        page: PageResult = NO_PAGE,
    ) -> Answer:
        """Judge and decide, without the cache."""
        generation = self._source.refresh()
        judgement = judge(
            url,
            source=self._source,
            own_domains=snapshot.own_domains,
            more=more,
            page=page,
            clock=self._clock,
        )
        verdict = judgement.verdict
        decision = snapshot.decide(
            PolicyContext(Stage.CLICK, judgement.chain, verdict.level.value, degraded=verdict.degraded)
        )
        target = location(url)
        if target is None:
            decision = Decision(Action.BLOCK, "no-web-address", decision.trace)
        headers = [
            (b"location", target or b""),
            (b"cache-control", b"no-store"),
            (b"referrer-policy", b"no-referrer"),
            (b"content-length", b"0"),
        ]
        made = Answer(snapshot, generation, judgement, decision, target, headers, b"", verdict.expires_at)
        return replace(made, event=event_of(url, made, decision.action))


def wants_a_look(answer: Answer) -> bool:
    """Whether seeing the page could change anything: not where a list decided, nor where all is known."""
    if answer.target is None or answer.decision.rule.startswith("list:"):
        return False
    return answer.verdict.level in (Level.UNKNOWN, Level.SUSPICIOUS)


def event_of(url: str, answer: Answer, action: str) -> bytes:
    """The part of a click's event that an answer makes.

    Args:
        url: Where the link leads, as it stood in the message.
        answer: What it got.
        action: What was done: an :class:`app.policy.engine.Action`, or ``proceed``.
    """
    verdict = answer.verdict
    return judged_part(
        url=url,
        host=host_of(answer.judgement.chain[-1]) or "",
        level=verdict.level.value,
        action=str(action),
        rule=answer.decision.rule,
        evidence=[signal.as_json() for signal in verdict.signals[:20]],
    )
