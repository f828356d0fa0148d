"""From an opened token to the answer of a click: verdict, decision, and everything that can be made beforehand."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
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
from app.verdicts.asking import NOTHING_ASKED, Asked
from app.verdicts.heuristics import embedded_target
from app.verdicts.judge import NO_PAGE, InlineSource, Judgement, PageResult, judge
from app.verdicts.scoring import Level, Signal, Thresholds, Verdict

MAX_CACHED: Final = 50_000
PATIENCE_SECONDS: Final = 1.5
"""How long a click waits for a look at the page before a waiting page is shown."""
EARLY_RULE: Final = "failure:open"
"""What decides about a link that only a check that is not over stands against."""
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


class SourceAsker(Protocol):
    """Asks the signal sources (``app.verdicts.asking.SourceDesk``)."""

    def refresh(self) -> int:
        """Take in changes; returns a number that grows with each."""

    async def ask(self, urls: Iterable[str], seconds: float) -> Asked:
        """What they say; those that take longer go on by themselves."""

    def state(self) -> dict[str, int]:
        """How many sources there are, and how many cannot be asked."""

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
        asker: Asks the signal sources; None: there are none.
    """

    def __init__(
        self,
        snapshots: SnapshotStore,
        source: InlineSource,
        clock: Clock,
        delivery: DeliverySource | None = None,
        pages: PageSource | None = None,
        asker: SourceAsker | None = None,
    ) -> None:
        self._snapshots = snapshots
        self._source = source
        self._clock = clock
        self._delivery = delivery
        self._pages = pages
        self._asker = asker
        self._answers: dict[tuple[int, int, str], Answer] = {}

    def cached(self, token: LinkToken) -> Answer | None:
        """The answer where it stands already; nothing is awaited."""
        found = self._answers.get((token.tenant_no, token.message_no, token.url))
        if (
            found is None
            or found.generation != self._generation()
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
        asked, page = await self._look(made, snapshot, patience)
        if patience > 0 and (asked.waiting or page is None):
            return replace(made, waiting=True)
        page = page or PageResult(degraded=True)
        if asked.degraded or asked.waiting:
            page = replace(page, degraded=True)
        if asked.signals or page is not NO_PAGE:
            made = self.judge_now(token.url, snapshot, (*(more or ()), *asked.signals), page)
        if more is None:
            made = replace(made, expires_at=min(made.expires_at, self._clock() + _WITHOUT_DELIVERY))
        if len(self._answers) >= MAX_CACHED:
            self._answers.clear()
        self._answers[token.tenant_no, token.message_no, token.url] = made
        return made

    async def _look(self, made: Answer, snapshot: PolicySnapshot, patience: float) -> tuple[Asked, PageResult | None]:
        """What the signal sources and the page say, side by side; None for a page that takes longer."""
        until = time.monotonic() + patience
        chain = made.judgement.chain
        asker = self._asker if wants_asking(made) else None
        carried = embedded_target(chain[-1])
        urls = chain if carried is None else (*chain, carried)
        # A source of its own: nobody waits for one of the two longer because of the other.
        asking = asyncio.create_task(asker.ask(urls, patience)) if asker is not None else None
        page: PageResult | None = NO_PAGE
        if self._pages is not None and wants_a_look(made):
            page = await self._pages.check(made.verdict.final_url, patience, snapshot.own_domains)
        asked = NOTHING_ASKED if asking is None else await asking
        if asker is not None and page is not None and page.chain:
            further = await asker.ask(page.chain, max(0.0, until - time.monotonic()))
            asked = Asked(
                (*asked.signals, *further.signals),
                asked.degraded or further.degraded,
                asked.waiting or further.waiting,
            )
        return asked, page

    def _generation(self) -> int:
        return self._source.refresh() + (0 if self._asker is None else self._asker.refresh())

    def judge_now(
        self,
        url: str,
        snapshot: PolicySnapshot,
        more: tuple[Signal, ...] = (),
        page: PageResult = NO_PAGE,
    ) -> Answer:
        """Judge and decide, without the cache."""
        generation = self._generation()
        judgement = judge(
            url,
            source=self._source,
            own_domains=snapshot.own_domains,
            more=more,
            page=page,
            thresholds=Thresholds(*snapshot.level_from),
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


def wants_asking(answer: Answer) -> bool:
    """Whether a signal source could change anything. One that is known as good is asked about too: it may have been
    broken into, and most sources answer from memory."""
    return (
        answer.target is not None
        and not answer.decision.rule.startswith("list:")
        and answer.verdict.level is not Level.MALICIOUS
    )


def may_open_early(answer: Answer) -> bool:
    """Whether a person may open the link before its check is over: where the tenant's failure policy would let it
    through with no more than a warning if the check never ended."""
    if answer.target is None or answer.snapshot.failure != "open":
        return False
    context = PolicyContext(Stage.CLICK, answer.judgement.chain, answer.verdict.level.value, degraded=True)
    decision = answer.snapshot.decide(context)
    return decision.rule == EARLY_RULE or decision.action is Action.REDIRECT


def event_of(url: str, answer: Answer, action: str) -> bytes:
    """The part of a click's event that an answer makes.

    Args:
        url: Where the link leads, as it stood in the message.
        answer: What it got.
        action: What was done: an :class:`app.policy.engine.Action`, ``proceed`` (past a warning), ``early`` (without
            waiting for the check) or ``expired``.
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
