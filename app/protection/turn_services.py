"""Links that were delivered are asked about again at the services that judge single addresses.

Lists are compared with delivered mail whenever they change (:mod:`app.protection.turn`). A service (Safe Browsing, Web
Risk, a list over DNS) announces nothing: it has to be asked. So each delivered link is asked about again when its mail
reaches certain ages, at growing intervals, until it is ``service_review_days`` old; what a service then calls malicious
goes the way of everything that turns: an incident, quarantine where the tenant wants it, and gateways that forget what
they remembered (:mod:`app.verdicts.sources.reports`).

What leaves the machine is what leaves it at a click: of Google's services the first bytes of a hash, and only where the
list on this machine has them; of lists over DNS the registrable domain. What the tenant's own list decides is not asked
about. There is one such job at a time in the installation. It runs once a minute, asks at most
``service_review_per_minute`` questions, the youngest mail first, turn by turn for all tenants, and keeps its place per
tenant and age, so it can be killed at any instant. A service that does not answer holds the place for an hour; then it
goes on, and what was missed is counted and asked about at the next age.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

import structlog
from prometheus_client import Counter
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.policy.engine import PolicySnapshot
from app.protection.incident_models import ServiceReviewState
from app.protection.incidents import SERVICE, TurnPolicy, add_copies, confirm, ensure_incident
from app.protection.models import MessageLink, MessageRow
from app.protection.queue import defer_turn
from app.protection.runtime import Runtime, all_grants
from app.protection.turn import Link, decide, links_of, tenant_of
from app.protection.turn_match import Subject, addresses_in, decided_by_own_list, reported
from app.verdicts.asking import ASK_SECONDS, Asked, SourceDesk, open_desk
from app.verdicts.canonical import expression_digest
from app.verdicts.lists import store_path
from app.verdicts.scoring import Signal
from app.verdicts.sources.reporting import add_reports
from app.verdicts.sources.reports import Report
from app.verdicts.waiting import all_of

log = structlog.get_logger()

AGES: Final = tuple(
    timedelta(minutes=minutes)
    for minutes in (10, 60, 4 * 60, 12 * 60, 24 * 60, 2 * 24 * 60, 4 * 24 * 60, 7 * 24 * 60, 14 * 24 * 60)
)
"""Ages of mail at which its links are asked about again: an attacker's page often comes minutes after the mail, a
service's notice hours later."""
HOLD: Final = timedelta(hours=1)
"""How long a place is held for a service that does not answer."""
LINKS: Final = Counter(
    "postern_service_review_links_total",
    "Delivered links that services were asked about again: asked, of these missed (no answer) and reported.",
    ["outcome"],
)
TOLD_AGAIN: Final = timedelta(hours=1)
RUN_SECONDS: Final = 45.0
LINKS_PER_RUN: Final = 3_000
LINKS_PER_STEP: Final = 100
AT_ONCE: Final = 8


@dataclass(slots=True)
class Reviewed:
    """What came of a run.

    Attributes:
        asked: Addresses asked about.
        missed: Those about which a service did not answer.
        reported: Those that a service calls malicious.
    """

    asked: int = 0
    missed: int = 0
    reported: int = 0


@dataclass(slots=True)
class _Bounds:
    """What a run may still do."""

    desk: SourceDesk
    questions: int
    monotonic: Callable[[], float]
    links: int = LINKS_PER_RUN
    most: int = field(init=False)
    until: float = field(init=False)
    stopped: bool = False

    def __post_init__(self) -> None:
        self.most = self.desk.questions + self.questions
        self.until = self.monotonic() + RUN_SECONDS

    def left(self) -> int:
        """How many questions may still be asked; 0: the run is over."""
        if self.stopped or self.links <= 0 or self.monotonic() > self.until:
            return 0
        return max(0, self.most - self.desk.questions)

    def at_once(self, most: int) -> int:
        """How many addresses may be asked about side by side now.

        Args:
            most: The count of questions at which to stop.
        """
        left = min(self.left(), most - self.desk.questions)
        return 0 if left <= 0 else max(1, min(AT_ONCE, left // max(1, len(self.desk.services))))


@dataclass(slots=True)
class _Answers:
    """What was learnt about the links of one step."""

    seen_to: int
    found: dict[str, tuple[Subject, Signal]] = field(default_factory=dict)
    asked: int = 0
    missed: int = 0
    held: bool = False
    more: bool = False
    partly: set[str] = field(default_factory=set)


class ServiceReview:
    """Asks again; one per process, since sources remember answers and how long they want to be left alone.

    Args:
        runtime: The process.
        desk: The sources; None: those of the data directory.
        monotonic: Seconds, for tests.
    """

    def __init__(
        self, runtime: Runtime, desk: SourceDesk | None = None, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._runtime = runtime
        self._desk = desk or open_desk(runtime.settings)
        self._monotonic = monotonic
        self._told: dict[Report, datetime] = {}
        self._turn = 0
        self._partly: dict[tuple[uuid.UUID, timedelta], set[str]] = {}
        """Of messages that were asked about in part: what needs not be asked again when it is their turn."""

    async def run(self) -> Reviewed:
        """Ask for as long as the bounds allow."""
        done = Reviewed()
        settings = self._runtime.settings
        self._desk.refresh()
        if not settings.service_review_days or not self._desk.services:
            return done
        bounds = _Bounds(self._desk, settings.service_review_per_minute, self._monotonic)
        async with self._runtime.db.untenanted() as session:
            grants = await all_grants(session)
        tenants = [grant.tenant_id for grant, status in grants if status not in ("onboarding", "leaving")]
        # Everybody is the first at some time.
        self._turn = (self._turn + 1) % max(1, len(tenants))
        tenants = tenants[self._turn :] + tenants[: self._turn]
        try:
            for age in (age for age in AGES if age < timedelta(days=settings.service_review_days)):
                open_tenants = tenants
                while open_tenants and bounds.left() and not self._runtime.stopping.is_set():
                    share = max(1, bounds.left() // len(open_tenants))
                    open_tenants = [one for one in open_tenants if await self._step(one, age, bounds, share, done)]
        finally:
            await self._desk.aclose()
        if done.asked:
            log.info("services.reviewed", asked=done.asked, missed=done.missed, reported=done.reported)
        return done

    async def _step(self, tenant_id: uuid.UUID, age: timedelta, bounds: _Bounds, share: int, done: Reviewed) -> bool:
        """Ask about some links of one tenant, with its share of the questions; True where there are more."""
        if not bounds.left():
            return False
        now = self._runtime.clock()
        async with self._runtime.db.tenant(tenant_id) as session:
            tenant = await tenant_of(session, self._runtime, tenant_id)
            if tenant is None:
                return False
            before = await session.get(ServiceReviewState, (tenant_id, _seconds(age)))
            seen_to, held_since = (0, None) if before is None else (before.seen_to, before.held_since)
            links = await self._links(session, age, seen_to, now)
        if not links:
            return False
        patient = held_since is None or now - held_since < HOLD
        # Taken out, so that all is asked again where this step does not come to its end.
        partly = self._partly.pop((tenant_id, age), set())
        answers = await self._ask(links, tenant.snapshot, bounds, share, partly, patient=patient)
        waits = answers.held and patient
        if waits:
            bounds.stopped = True
        await self._tell(answers, now)
        async with self._runtime.db.tenant(tenant_id) as session:
            await self._note(session, tenant_id, tenant.policy, links, answers.found, now)
            state = await _state(session, tenant_id, age)
            state.asked += answers.asked
            state.missed += answers.missed
            state.reported += len(answers.found)
            state.updated_at = now
            if answers.held:
                state.held_since = held_since or now
            elif answers.asked:
                state.held_since = None
            if not waits:
                state.seen_to = max(state.seen_to, seen_to, answers.seen_to)
            if answers.found:
                await session.flush()
                await defer_turn(session, tenant_id)
        if answers.partly and not waits:
            self._partly[tenant_id, age] = answers.partly
        done.asked += answers.asked
        done.missed += answers.missed
        done.reported += len(answers.found)
        for outcome, number in (
            ("asked", answers.asked),
            ("missed", answers.missed),
            ("reported", len(answers.found)),
        ):
            LINKS.labels(outcome).inc(number)
        return answers.more and not waits

    async def _links(self, session: AsyncSession, age: timedelta, seen_to: int, now: datetime) -> Sequence[Link]:
        """Links of mail that has this age, and not the next one yet."""
        days = timedelta(days=self._runtime.settings.service_review_days)
        oldest = min((later for later in AGES if later > age), default=days)
        newest = await session.scalar(select(func.max(MessageRow.id)).where(MessageRow.seen_at <= now - age))
        return await links_of(
            session,
            now - min(oldest, days),
            MessageLink.message_id > seen_to,
            MessageLink.message_id <= (newest or 0),
            ascending=True,
            limit=LINKS_PER_STEP,
        )

    async def _ask(
        self,
        links: Sequence[Link],
        snapshot: PolicySnapshot,
        bounds: _Bounds,
        share: int,
        partly: set[str],
        *,
        patient: bool,
    ) -> _Answers:
        """Ask about the links, message by message, until the bounds are reached (``patient``: or no answer comes)."""
        made = _Answers(0)
        most = self._desk.questions + share
        urls: dict[str, int] = {}
        for row in links:
            urls[row.url] = min(row.message_id, urls.get(row.url, row.message_id))
        waiting = [url for url in urls if url not in partly and not decided_by_own_list(url, snapshot)]
        while waiting:
            size = bounds.at_once(most)
            if not size or (made.held and patient):
                break
            part, waiting = waiting[:size], waiting[size:]
            bounds.links -= len(part)
            answers = await all_of(self._desk.ask(addresses_in(url), ASK_SECONDS + 1.0) for url in part)
            for url, answer in zip(part, answers, strict=True):
                made.asked += 1
                if self._missed(answer):
                    made.missed += 1
                    made.held = True
                hit = reported(url, answer.signals)
                if hit is not None:
                    made.found[url] = hit
        # All messages before the first whose link was not asked about.
        first_left = min((urls[url] for url in waiting), default=links[-1].message_id + 1)
        made.seen_to = first_left - 1
        made.more = bool(waiting) or len(links) >= LINKS_PER_STEP
        made.partly = urls.keys() - set(waiting) if waiting else set()
        return made

    def _missed(self, answer: Asked) -> bool:
        """Whether a service that can be asked here did not answer."""
        silent = {signal.source for signal in answer.signals if signal.code == "not_asked"}
        return answer.waiting or bool(silent & self._desk.services)

    async def _tell(self, answers: _Answers, now: datetime) -> None:
        """Have every gateway forget what it remembers of what is reported now."""
        self._told = {report: at for report, at in self._told.items() if now - at < TOLD_AGAIN}
        reports = {Report(signal.source, expression_digest(subject.text)) for subject, signal in answers.found.values()}
        new = sorted(reports - self._told.keys())
        if new:
            work = store_path(self._runtime.settings.data_dir).parent / "work"
            await add_reports(self._runtime.db, work, new, now)
            self._told.update(dict.fromkeys(new, now))

    async def _note(
        self,
        session: AsyncSession,
        tenant_id: uuid.UUID,
        policy: TurnPolicy,
        links: Sequence[Link],
        found: dict[str, tuple[Subject, Signal]],
        now: datetime,
    ) -> None:
        """Open incidents, or join them, and note the copies that are known already."""
        copies: dict[Subject, dict[int, tuple[int, set[str]]]] = {}
        evidence: dict[Subject, Signal] = {}
        for row in links:
            if row.url in found:
                subject, signal = found[row.url]
                evidence[subject] = signal
                held = copies.setdefault(subject, {}).setdefault(row.message_id, (row.mailbox_id, set()))
                held[1].add(row.url)
        # Always in one order, so that two workers cannot wait for each other.
        for subject in sorted(copies, key=lambda one: (one.kind, one.text)):
            said = evidence[subject].as_json()
            incident = await ensure_incident(session, tenant_id, subject, cause=SERVICE, evidence=(said,))
            confirm(incident, said, now)
            await add_copies(session, incident, copies[subject], now)
            if incident.state == "open" and incident.searched:
                decide(session, incident, policy)


async def _state(session: AsyncSession, tenant_id: uuid.UUID, age: timedelta) -> ServiceReviewState:
    state = await session.get(ServiceReviewState, (tenant_id, _seconds(age)), with_for_update=True)
    if state is None:
        state = ServiceReviewState(
            tenant_id=tenant_id, age_seconds=_seconds(age), seen_to=0, asked=0, missed=0, reported=0, held_since=None
        )
        session.add(state)
    return state


def _seconds(age: timedelta) -> int:
    return int(age.total_seconds())
