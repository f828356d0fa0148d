"""The Turn journey: what is bad after all, who received it, and what is done about it.

One job per tenant at a time (``tenant.turn``), in short steps that each end with a commit, so that it can be killed at
any instant and goes on where it was:

1. stopped clicks that belong to no incident yet become one, or join theirs (L18);
2. where a list changed, the mail of the last ``turn_days`` is compared with the lists as they are now;
3. for each open incident the messages with its address are found, those that come later too;
4. copies are moved to quarantine or put back, some at a time;
5. administrators are told (:mod:`app.protection.turn_alert`).

Everything is found by what it is about and written at most once, so doing it twice changes nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog
from sqlalchemy import ColumnElement, Row, column, func, or_, select, table, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.errors import Conflict, NotFound
from app.policy.engine import PolicySnapshot
from app.policy.service import load_snapshot
from app.protection.incident_models import Incident, IncidentMessage, TurnState
from app.protection.incidents import (
    LABEL,
    TurnPolicy,
    add_copies,
    add_event,
    again,
    confirmed_at,
    ensure_incident,
    on_a_services_word,
)
from app.protection.mail_alerts import mail_of_incident
from app.protection.models import MessageLink, MessageMove, MessageRow
from app.protection.quarantine import request_move, request_release
from app.protection.queue import defer_alert, defer_turn
from app.protection.runtime import Runtime
from app.protection.turn_match import EXACT, Subject, click_subject, list_hit
from app.tenants.actor import system_actor
from app.tenants.models import Tenant
from app.verdicts.lists import READING, lists_stamp, shared_lists
from connectors.base.types import Place

log = structlog.get_logger()

CLICKS_PER_STEP = 200
LINKS_PER_STEP = 2_000
COPIES_PER_STEP = 100
STEPS_PER_JOB = 10
COMPARE_AGAIN = timedelta(minutes=10)
"""All mail is compared with changed lists at most so often; the tenant's own list is not waited for."""
MOST_AUTOMATIC = 500
"""More copies than that are not moved without a person: a list may have listed something that everybody uses."""
WORD_HOLDS = timedelta(minutes=30)
"""Copies that come later are moved on a service's word for so long; then it has to say it again
(https://developers.google.com/safe-browsing/terms, 4)."""
_PACE_SECONDS = 1.0
_SETTLE_SECONDS = 5.0

# The table belongs to a sibling package (gateway), which protection does not import.
_CLICKS = table(
    "clicks",
    *(column(name) for name in ("tenant_id", "id", "url", "rule", "evidence", "action", "level", "message_id")),
    column("mailbox_id"),
    column("host"),
    column("incident_id"),
)


@dataclass(frozen=True, slots=True)
class TurnTenant:
    """What the steps of one job need to know."""

    snapshot: PolicySnapshot
    policy: TurnPolicy
    since: datetime


async def run_turn(runtime: Runtime, tenant_id: uuid.UUID) -> None:
    """Take some steps, and have the job come again where there is more to do."""
    for _ in range(STEPS_PER_JOB):
        async with runtime.db.tenant(tenant_id) as session:
            tenant = await tenant_of(session, runtime, tenant_id)
            if tenant is None:
                return
            clicks = await take_clicks(session, runtime, tenant.snapshot)
        compared = await compare_mail(runtime, tenant_id, tenant)
        async with runtime.db.tenant(tenant_id) as session:
            searched = await search_mail(session, runtime, tenant)
        async with runtime.db.tenant(tenant_id) as session:
            await tell(session, tenant_id)
        if not (clicks or compared or searched):
            break
        if runtime.stopping.is_set():
            break
    else:
        async with runtime.db.tenant(tenant_id) as session:
            await defer_turn(session, tenant_id)
    async with runtime.db.tenant(tenant_id) as session:
        pause = await move_copies(session, tenant_id)
        if pause is not None:
            await defer_turn(session, tenant_id, at=runtime.clock() + timedelta(seconds=pause))


async def tenant_of(session: AsyncSession, runtime: Runtime, tenant_id: uuid.UUID) -> TurnTenant | None:
    """A tenant whose mail is looked after; None where it is not yet, or leaves."""
    row = await session.get(Tenant, tenant_id)
    if row is None or row.status in ("onboarding", "leaving"):
        return None
    since = runtime.clock() - timedelta(days=runtime.settings.turn_days)
    return TurnTenant(await load_snapshot(session, tenant_id), TurnPolicy.of(row), since)


async def take_clicks(session: AsyncSession, runtime: Runtime, snapshot: PolicySnapshot) -> bool:
    """Give stopped clicks to incidents; True where there may be more."""
    tenant_id = uuid.UUID(snapshot.tenant_id)
    rows = (
        await session.execute(
            select(_CLICKS)
            .where(
                _CLICKS.c.tenant_id == tenant_id,
                _CLICKS.c.incident_id.is_(None),
                or_(_CLICKS.c.action == "block", _CLICKS.c.level == "malicious"),
            )
            .order_by(_CLICKS.c.id)
            .limit(CLICKS_PER_STEP)
            .with_for_update(skip_locked=True)
        )
    ).all()
    rules = {rule.id: rule for rule in snapshot.rules}
    by_subject: dict[Subject | None, list[Row[Any]]] = defaultdict(list)
    for row in rows:
        by_subject[click_subject(row.url, row.rule, row.evidence or [], rules, row.host or "")].append(row)
    # Always in one order, so that two workers cannot wait for each other.
    for subject in sorted(by_subject, key=lambda key: ("", "") if key is None else (key.kind, key.text)):
        clicks = by_subject[subject]
        number = 0
        if subject is not None:
            incident = await ensure_incident(session, tenant_id, subject, cause="click", evidence=clicks[0].evidence)
            number = incident.id
            await _note_copies(session, runtime, incident, clicks)
        ids = [row.id for row in clicks]
        await session.execute(
            update(_CLICKS).where(_CLICKS.c.tenant_id == tenant_id, _CLICKS.c.id.in_(ids)).values(incident_id=number)
        )
    return len(rows) == CLICKS_PER_STEP


async def _note_copies(session: AsyncSession, runtime: Runtime, incident: Incident, clicks: Sequence[Row[Any]]) -> None:
    urls: dict[int, set[str]] = defaultdict(set)
    for row in clicks:
        if row.message_id is not None:
            urls[row.message_id].add(row.url)
    known = await session.execute(select(MessageRow.id, MessageRow.mailbox_id).where(MessageRow.id.in_(list(urls))))
    copies = {message_id: (mailbox_id, urls[message_id]) for message_id, mailbox_id in known}
    await add_copies(session, incident, copies, runtime.clock())
    await again(session, incident, runtime.clock())


async def compare_mail(runtime: Runtime, tenant_id: uuid.UUID, tenant: TurnTenant) -> bool:
    """One step of comparing the mail with changed lists; True where there is more to compare."""
    settings = runtime.settings
    stamp = await asyncio.to_thread(lists_stamp, settings.feed_file, settings.data_dir)
    rules = hashlib.sha256(repr(tenant.snapshot.rules).encode("utf-8", "replace")).hexdigest()[:16]
    now = runtime.clock()
    async with runtime.db.tenant(tenant_id) as session:
        state = await session.get(TurnState, (tenant_id,), with_for_update=True) or TurnState(
            tenant_id=tenant_id, compared="", comparing="", next_message=0
        )
        wanted = f"{stamp}:{rules}"
        if not state.comparing:
            if state.compared == wanted:
                return False
            same_rules = state.compared.partition(":")[2] == rules
            if same_rules and state.started_at is not None and now - state.started_at < COMPARE_AGAIN:
                return False
            state.comparing, state.started_at = wanted, now
            state.next_message = (await session.scalar(select(func.max(MessageRow.id))) or 0) + 1
        session.add(state)
        links = await links_of(session, tenant.since, MessageLink.message_id < state.next_message)
        hits = await asyncio.to_thread(_hits, runtime, tenant.snapshot, links)
        # Always in one order, so that two workers cannot wait for each other.
        for subject in sorted(hits, key=lambda subject: (subject.kind, subject.text)):
            evidence, copies = hits[subject]
            incident = await ensure_incident(session, tenant_id, subject, cause="list", evidence=evidence)
            await add_copies(session, incident, copies, now)
        if len(links) < LINKS_PER_STEP:
            state.compared, state.comparing, state.next_message = state.comparing, "", 0
            return False
        state.next_message = links[-1].message_id
        return True


Link = Row[int, str, int]
"""Message, address, mailbox."""
_Hits = dict[Subject, tuple[tuple[dict[str, Any], ...], dict[int, tuple[int, set[str]]]]]


def _hits(runtime: Runtime, snapshot: PolicySnapshot, links: Sequence[Link]) -> _Hits:
    """Which links the lists call bad. Runs in a thread: beside it mail is waiting to be protected."""
    lists = shared_lists(runtime.settings.feed_file, runtime.settings.data_dir)
    found: _Hits = {}
    known: dict[str, tuple[Subject, tuple[dict[str, Any], ...]] | None] = {}
    with READING:
        lists.refresh()
    for row in links:
        if row.url not in known:
            with READING:
                known[row.url] = list_hit(row.url, lists, snapshot)
        hit = known[row.url]
        if hit is not None:
            subject, evidence = hit
            copies = found.setdefault(subject, (evidence, {}))[1]
            copies.setdefault(row.message_id, (row.mailbox_id, set()))[1].add(row.url)
    return found


async def links_of(
    session: AsyncSession,
    since: datetime,
    *where: ColumnElement[bool],
    ascending: bool = False,
    limit: int = LINKS_PER_STEP,
) -> Sequence[Link]:
    """Links of whole messages, the newest first: some more than a step's number where the last message has many."""
    of_message = (MessageRow.tenant_id == MessageLink.tenant_id) & (MessageRow.id == MessageLink.message_id)
    order = MessageLink.message_id.asc() if ascending else MessageLink.message_id.desc()
    query = (
        select(MessageLink.message_id, MessageLink.url, MessageRow.mailbox_id)
        .join(MessageRow, of_message)
        .where(MessageRow.seen_at >= since, *where)
        .order_by(order)
        .limit(limit)
    )
    rows = list((await session.execute(query)).all())
    if len(rows) == limit:
        # The last message may be cut: it is read whole.
        last = rows[-1].message_id
        whole = select(MessageLink.message_id, MessageLink.url, MessageRow.mailbox_id).join(MessageRow, of_message)
        rest = await session.execute(whole.where(MessageLink.message_id == last, *where))
        rows = [row for row in rows if row.message_id != last] + list(rest)
    return rows


async def search_mail(session: AsyncSession, runtime: Runtime, tenant: TurnTenant) -> bool:
    """One step of finding who received what an open incident is about; True where there is more to find."""
    newest = await session.scalar(select(func.max(MessageRow.id))) or 0
    incident = await session.scalar(
        select(Incident)
        .where(Incident.state == "open", or_(~Incident.searched, Incident.seen_to < newest))
        .order_by(Incident.searched, Incident.id)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    if incident is None:
        return False
    subject = Subject(incident.kind, incident.subject, incident.pattern_kind, incident.host)
    where = _by_host(incident.host)
    forward = incident.searched
    if forward:
        rows = await links_of(session, tenant.since, MessageLink.message_id > incident.seen_to, *where, ascending=True)
    else:
        if incident.search_from is None:
            incident.search_from, incident.seen_to = newest + 1, newest
        rows = await links_of(session, tenant.since, MessageLink.message_id < incident.search_from, *where)
    matches = subject.matcher()
    copies: dict[int, tuple[int, set[str]]] = {}
    for row in rows:
        if matches(row.url):
            copies.setdefault(row.message_id, (row.mailbox_id, set()))[1].add(row.url)
    await add_copies(session, incident, copies, runtime.clock())
    more = len(rows) >= LINKS_PER_STEP
    if forward:
        incident.seen_to = rows[-1].message_id if more else newest
        _hold_back(session, incident, runtime.clock())
    elif more:
        incident.search_from = rows[-1].message_id
    else:
        incident.searched, incident.search_from = True, None
        decide(session, incident, tenant.policy)
    return True


def _by_host(host: str) -> list[ColumnElement[bool]]:
    """The host itself and what is below it; of wrapped links only the wrapper's host is stored, so those too."""
    if not host:
        return []
    wrapped = MessageLink.url.contains(host, autoescape=True)
    return [or_(MessageLink.host == host, MessageLink.host.endswith("." + host, autoescape=True), wrapped)]


def decide(session: AsyncSession, incident: Incident, policy: TurnPolicy) -> None:
    """Whether the copies are moved without asking: never for an entry of the tenant's own list, nor for one address of
    what may be everybody's redirector."""
    if not policy.quarantine or incident.kind == "rule" or incident.pattern_kind == EXACT or incident.wanted:
        return
    if incident.messages > MOST_AUTOMATIC:
        add_event(session, incident, "too_many", LABEL, messages=incident.messages)
        return
    incident.wanted, incident.wanted_by = "quarantine", LABEL
    add_event(session, incident, "quarantine", LABEL)


def _hold_back(session: AsyncSession, incident: Incident, now: datetime) -> None:
    """Copies that came later count too: nothing goes on moving everybody's mail because it began with a few, nor on a
    service's word that is old."""
    if incident.wanted != "quarantine" or incident.wanted_by != LABEL:
        return
    if incident.messages > MOST_AUTOMATIC:
        incident.wanted, incident.wanted_by = "", ""
        add_event(session, incident, "too_many", LABEL, messages=incident.messages)
    elif on_a_services_word(incident) and now - confirmed_at(incident) > WORD_HOLDS:
        incident.wanted, incident.wanted_by = "", ""


async def move_copies(session: AsyncSession, tenant_id: uuid.UUID) -> float | None:
    """Ask for some copies to be moved or put back.

    Returns:
        Seconds until the next step; None where there is nothing to do now.
    """
    incidents = list(await session.scalars(select(Incident).where(Incident.wanted != "").order_by(Incident.id)))
    pause: float | None = None
    for incident in incidents:
        step = _quarantine if incident.wanted == "quarantine" else _release
        if await step(session, tenant_id, incident):
            pause = _PACE_SECONDS if incident.wanted == "quarantine" else _SETTLE_SECONDS
    return pause


async def _quarantine(session: AsyncSession, tenant_id: uuid.UUID, incident: Incident) -> bool:
    if incident.state != "open":
        return False
    actor = system_actor(tenant_id, f"{incident.wanted_by} (incident {incident.id})")
    copies = list(
        await session.scalars(
            select(IncidentMessage)
            .where(
                IncidentMessage.incident_id == incident.id,
                IncidentMessage.move_id.is_(None),
                IncidentMessage.note == "",
            )
            .order_by(IncidentMessage.message_id)
            .limit(COPIES_PER_STEP)
            .with_for_update()
        )
    )
    moved = 0
    for copy in copies:
        try:
            why = f"Incident {incident.id}: {incident.subject}"
            copy.move_id = await request_move(session, actor, copy.message_id, Place.QUARANTINE, why)
            moved += 1
        except NotFound:
            copy.note = "gone"
        except Conflict:
            row = await session.get(MessageRow, (tenant_id, copy.message_id))
            copy.note = "gone" if row is None or row.state == "gone" else "moved_already"
    if moved:
        add_event(session, incident, "quarantined", incident.wanted_by, messages=moved)
    return len(copies) == COPIES_PER_STEP


async def _release(session: AsyncSession, tenant_id: uuid.UUID, incident: Incident) -> bool:
    actor = system_actor(tenant_id, f"{incident.wanted_by} (incident {incident.id})")
    of_copy = (MessageMove.tenant_id == IncidentMessage.tenant_id) & (MessageMove.id == IncidentMessage.move_id)
    copies = (
        await session.execute(
            select(IncidentMessage, MessageMove.id, MessageMove.state)
            .join(MessageMove, of_copy)
            .where(IncidentMessage.incident_id == incident.id)
            .order_by(MessageMove.state != "moved", IncidentMessage.message_id)
            .limit(COPIES_PER_STEP)
        )
    ).all()
    released = 0
    for copy, move_id, state in copies:
        if state in ("asked", "moving"):
            continue  # on its way: it is put back once it has arrived
        if state == "moved":
            try:
                await request_release(session, actor, move_id)
            except (Conflict, NotFound):
                continue  # somebody else is at it; the next step sees what came of it
            released += 1
        copy.move_id, copy.note = None, "released" if state in ("moved", "releasing", "released") else state
    if released:
        add_event(session, incident, "released", incident.wanted_by, messages=released)
    await session.flush()
    left = await session.scalar(
        select(func.count())
        .select_from(IncidentMessage)
        .where(IncidentMessage.incident_id == incident.id, IncidentMessage.move_id.is_not(None))
    )
    if not left:
        incident.wanted = ""
    return bool(left)


async def tell(session: AsyncSession, tenant_id: uuid.UUID) -> None:
    """Have administrators told of incidents of which they were not told yet."""
    due = await session.scalars(select(Incident.id).where(Incident.alerted < Incident.alerts, Incident.searched))
    for incident_id in list(due):
        await defer_alert(session, tenant_id, incident_id)
        await mail_of_incident(session, tenant_id, incident_id)


async def take_up_turn(runtime: Runtime, tenant_id: uuid.UUID) -> None:
    """Look at a tenant although nothing was said: a word or a job that was lost is made good."""
    async with runtime.db.tenant(tenant_id) as session:
        await defer_turn(session, tenant_id)
