"""Incidents: opening one, finding its copies' state, and what people do about it.

An incident is found by what it is about, so the same link turning bad again changes the row that is there. Whatever
is asked for here is done by the tenant's ``tenant.turn`` job (:mod:`app.protection.turn`).
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog
from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from app.audit.service import record
from app.kit.db import Database
from app.kit.errors import Conflict, NotFound, Refused
from app.messages.hosts import public_suffix
from app.policy.service import PolicyService
from app.protection import journal
from app.protection.incident_models import Incident, IncidentEvent, IncidentMessage
from app.protection.models import MessageRow
from app.protection.queue import defer_turn
from app.protection.turn_match import REPORTED, Subject, pattern_subject, release_pattern
from app.tenants.actor import Actor, Permission, system_actor
from app.tenants.models import Tenant

log = structlog.get_logger()

LABEL = "Postern"
SERVICE = "service"
"""The cause of an incident that a service reported when it was asked again."""
MAX_EVIDENCE = 8
MAX_WEBHOOK = 500


@dataclass(frozen=True, slots=True)
class TurnPolicy:
    """What a tenant wants to happen; kept under ``settings["turn"]``.

    Attributes:
        quarantine: Move every copy of what a list or a check found to quarantine, without asking.
        webhook: https address that is told of incidents; empty: none.
    """

    quarantine: bool = False
    webhook: str = ""

    @classmethod
    def of(cls, tenant: Tenant) -> TurnPolicy:
        """As stored; what is not there has its default."""
        stored = tenant.settings.get("turn") or {}
        return cls(stored.get("quarantine") is True, str(stored.get("webhook", "")))


async def change_turn_policy(session: AsyncSession, actor: Actor, wanted: TurnPolicy) -> bool:
    """Set what happens when a link turns out to be bad.

    Returns:
        Whether anything changed.

    Raises:
        Forbidden: The role may not configure.
        Refused: The webhook is no https address.
        NotFound: The organisation is gone.
    """
    actor.require(Permission.CONFIGURE)
    webhook = wanted.webhook.strip()
    if webhook and (not webhook.startswith("https://") or len(webhook) > MAX_WEBHOOK or not webhook.isprintable()):
        raise Refused("A webhook is an https address. Nothing was changed.", "bad_webhook")
    tenant = await session.get(Tenant, actor.tenant_id, with_for_update=True)
    if tenant is None:
        raise NotFound("The organisation is not here any more.")
    before, after = TurnPolicy.of(tenant), TurnPolicy(wanted.quarantine, webhook)
    if before == after:
        return False
    tenant.settings = {**tenant.settings, "turn": {"quarantine": after.quarantine, "webhook": after.webhook}}
    detail: dict[str, dict[str, bool | str]] = {
        "automatic": {"before": before.quarantine, "after": after.quarantine},
        "webhook": {"before": _told(before.webhook), "after": _told(after.webhook)},
    }
    changed = {"automatic": before.quarantine != after.quarantine, "webhook": before.webhook != after.webhook}
    await record(
        session,
        actor,
        "turn.changed",
        tenant.name,
        {key: value for key, value in detail.items() if changed[key]},
    )
    await defer_turn(session, actor.tenant_id)
    return True


def _told(webhook: str) -> str:
    """A webhook as the audit log names it: whoever knows the path of one can often write to it."""
    scheme, mark, rest = webhook.partition("://")
    host, slash, more = rest.rpartition("@")[2].partition("/") if mark else ("", "", "")
    host = host.partition("?")[0].partition("#")[0]
    return f"{scheme}://{host}{'/…' if slash and more else ''}" if host else ""


async def ensure_incident(
    session: AsyncSession,
    tenant_id: uuid.UUID,
    subject: Subject,
    *,
    cause: str,
    by: str = LABEL,
    evidence: Sequence[Mapping[str, Any]] = (),
) -> Incident:
    """The incident of a subject, locked until the session commits; opened where there is none.

    One that was closed stays closed: see :func:`again`.
    """
    values = {
        "tenant_id": tenant_id,
        "kind": subject.kind,
        "subject": subject.text,
        "pattern_kind": subject.pattern_kind,
        "host": subject.host,
        "cause": cause,
        "evidence": [dict(item) for item in evidence][:MAX_EVIDENCE],
    }
    found: Incident | None = None
    while found is None:  # an old one may be removed between the two statements
        made = await session.scalar(
            insert(Incident)
            .values(values)
            .on_conflict_do_nothing(index_elements=["tenant_id", "kind", "subject"])
            .returning(Incident.id)
        )
        found = await session.scalar(
            select(Incident)
            .where(Incident.tenant_id == tenant_id, Incident.kind == subject.kind, Incident.subject == subject.text)
            .with_for_update()
            .execution_options(populate_existing=True)
        )
    if made is not None:
        _opened(session, found, "opened", by)
        await record(session, system_actor(tenant_id, by), "incident.opened", subject.text, {"incident": found.id})
    return found


def on_a_services_word(incident: Incident) -> bool:
    """Whether a service alone says so, which may say something else by now."""
    codes = {str(item.get("code", "")) for item in incident.evidence}
    return bool(codes & REPORTED) and not any(code.startswith("listed_") for code in codes)


def confirm(incident: Incident, evidence: Mapping[str, Any], now: datetime) -> None:
    """A service says it still, or again."""
    if on_a_services_word(incident):
        incident.evidence = [{**evidence, "confirmed_at": now.isoformat()}]


def confirmed_at(incident: Incident) -> datetime:
    """When a service last said it; when the incident was opened, where it was not asked since."""
    said = next((str(item["confirmed_at"]) for item in incident.evidence if "confirmed_at" in item), "")
    return datetime.fromisoformat(said) if said else incident.opened_at


def tells(incident: Incident) -> bool:
    """Whether administrators are told: not of what an entry in their own list stops."""
    return incident.kind != "rule" or incident.cause == "person"


def _opened(session: AsyncSession, incident: Incident, kind: str, by: str) -> None:
    add_event(session, incident, kind, by)
    if tells(incident):
        incident.alerts += 1
    log.warning(
        f"incident.{kind}",
        tenant=str(incident.tenant_id),
        incident=incident.id,
        kind=incident.kind,
        cause=incident.cause,
    )


def add_event(session: AsyncSession, incident: Incident, kind: str, actor: str = "", **detail: Any) -> None:
    """One line of an incident's timeline."""
    session.add(
        IncidentEvent(
            tenant_id=incident.tenant_id, incident_id=incident.id, kind=kind, actor=actor[:200], detail=detail
        )
    )


async def again(session: AsyncSession, incident: Incident, now: datetime) -> None:
    """Something new came to an incident: a closed one is open again; a false positive stays one."""
    incident.updated_at = now
    if incident.state == "closed":
        incident.state, incident.ended_at, incident.searched, incident.search_from = "open", None, False, None
        _opened(session, incident, "reopened", LABEL)
        await record(
            session,
            system_actor(incident.tenant_id, LABEL),
            "incident.reopened",
            incident.subject,
            {"incident": incident.id},
        )


async def add_copies(
    session: AsyncSession, incident: Incident, copies: Mapping[int, tuple[int, set[str]]], now: datetime
) -> int:
    """Note messages that hold the bad address; those noted before stay as they are.

    Args:
        session: The unit of work.
        incident: Locked by it.
        copies: Message number -> mailbox number and addresses.
        now: The time.

    Returns:
        How many were new. Each of them says so in its own trace.
    """
    if not copies:
        return 0
    rows = [
        {
            "tenant_id": incident.tenant_id,
            "incident_id": incident.id,
            "message_id": message_id,
            "mailbox_id": mailbox_id,
            "urls": sorted(urls)[:20],
            "found_at": now,
        }
        for message_id, (mailbox_id, urls) in copies.items()
    ]
    new = list(
        await session.scalars(
            insert(IncidentMessage).values(rows).on_conflict_do_nothing().returning(IncidentMessage.message_id)
        )
    )
    if new:
        incident.messages += len(new)
        await again(session, incident, now)
        for row in await session.scalars(select(MessageRow).where(MessageRow.id.in_(new))):
            journal.add_event(session, row, "incident", LABEL, incident=incident.id, subject=incident.subject)
    return len(new)


async def get_incident(session: AsyncSession, actor: Actor, incident_id: int, *, lock: bool = False) -> Incident:
    """An incident of the actor's tenant.

    Raises:
        NotFound: There is none of that number.
    """
    found = await session.get(Incident, (actor.tenant_id, incident_id), with_for_update=lock)
    if found is None:
        raise NotFound(f"There is no incident {incident_id}.")
    return found


async def request_quarantine(session: AsyncSession, actor: Actor, incident_id: int) -> None:
    """Have every copy moved to quarantine, those found later too.

    Raises:
        Forbidden: The role may not act on messages.
        NotFound: There is no such incident.
        Conflict: That is under way already, or the incident is no open one.
    """
    actor.require(Permission.RESTORE)
    incident = await get_incident(session, actor, incident_id, lock=True)
    if incident.state != "open":
        raise Conflict("This incident has ended. Open it again first. Nothing was moved.")
    if incident.wanted == "quarantine":
        raise Conflict("Its copies are being moved to quarantine already. Nothing was changed.")
    await _want(session, incident, "quarantine", actor.label)
    # What was put back before is meant again.
    await session.execute(
        update(IncidentMessage)
        .where(
            IncidentMessage.incident_id == incident.id,
            IncidentMessage.move_id.is_(None),
            IncidentMessage.note != "gone",
        )
        .values(note="")
    )
    await record(session, actor, "incident.quarantine", incident.subject, {"incident": incident.id})


async def request_release_all(session: AsyncSession, actor: Actor, incident_id: int) -> None:
    """Have every copy put back that this incident moved.

    Raises:
        Forbidden: The role may not act on messages.
        NotFound: There is no such incident.
        Conflict: That is under way already, or it moved none.
    """
    actor.require(Permission.RESTORE)
    incident = await get_incident(session, actor, incident_id, lock=True)
    moved = await _moved(session, incident)
    if incident.wanted == "release" or (not moved and incident.wanted != "quarantine"):
        raise Conflict("There is no copy of this incident in quarantine to be released. Nothing was changed.")
    await _want(session, incident, "release", actor.label)
    await record(session, actor, "incident.release", incident.subject, {"incident": incident.id, "messages": moved})


async def _moved(session: AsyncSession, incident: Incident) -> int:
    query = (
        select(func.count())
        .select_from(IncidentMessage)
        .where(IncidentMessage.incident_id == incident.id, IncidentMessage.move_id.is_not(None))
    )
    return await session.scalar(query) or 0


async def _want(session: AsyncSession, incident: Incident, what: str, by: str) -> None:
    incident.wanted, incident.wanted_by = what, by
    add_event(session, incident, what, by)
    await session.flush()
    await defer_turn(session, incident.tenant_id)


async def close_incident(session: AsyncSession, actor: Actor, incident_id: int, now: datetime) -> None:
    """End an incident; what was moved stays where it is, and new copies open it again.

    Raises:
        Forbidden: The role may not investigate.
        NotFound: There is no such incident.
        Conflict: It has ended already.
    """
    actor.require(Permission.INVESTIGATE)
    incident = await get_incident(session, actor, incident_id, lock=True)
    if incident.state != "open":
        raise Conflict("This incident has ended already. Nothing was changed.")
    incident.state, incident.ended_at = "closed", now
    if incident.wanted == "quarantine":
        # What is asked for is done; no more is asked for.
        incident.wanted = ""
    add_event(session, incident, "closed", actor.label)
    await record(session, actor, "incident.closed", incident.subject, {"incident": incident.id})


async def reopen_incident(session: AsyncSession, actor: Actor, incident_id: int, now: datetime) -> None:
    """Take an ended incident up again.

    Raises:
        Forbidden: The role may not investigate.
        NotFound: There is no such incident.
        Conflict: It is open.
    """
    actor.require(Permission.INVESTIGATE)
    incident = await get_incident(session, actor, incident_id, lock=True)
    if incident.state == "open":
        raise Conflict("This incident is open. Nothing was changed.")
    incident.state, incident.ended_at, incident.updated_at = "open", None, now
    incident.searched, incident.search_from = False, None
    add_event(session, incident, "reopened", actor.label)
    await record(session, actor, "incident.reopened", incident.subject, {"incident": incident.id})
    await session.flush()
    await defer_turn(session, actor.tenant_id)


async def mark_false_positive(database: Database, actor: Actor, incident_id: int, now: datetime) -> None:
    """Say that an incident is about nothing bad: an entry allows it from now on, and its copies are released.

    Raises:
        Forbidden: The role may not configure.
        NotFound: There is no such incident.
        Conflict: It is one already.
    """
    actor.require(Permission.CONFIGURE)
    async with database.tenant(actor.tenant_id) as session:
        incident = await get_incident(session, actor, incident_id)
        if incident.state == "false_positive":
            raise Conflict("This incident is marked as a false positive already. Nothing was changed.")
        subject = Subject(incident.kind, incident.subject, incident.pattern_kind, incident.host)
    # The entry comes first: nothing may pass for allowed where the list does not take it.
    kind = subject.pattern_kind if subject.kind == "rule" else "wildcard"
    pattern = release_pattern(subject)
    policy = PolicyService(database)
    try:
        await policy.add(actor, action="allow", kind=kind, pattern=pattern, note=f"Incident {incident_id}")
    except Conflict:
        if not any(entry.action == "allow" and entry.pattern == pattern for entry in await policy.entries(actor)):
            raise
    async with database.tenant(actor.tenant_id) as session:
        incident = await get_incident(session, actor, incident_id, lock=True)
        incident.state, incident.ended_at = "false_positive", now
        add_event(session, incident, "false_positive", actor.label)
        await record(session, actor, "incident.false_positive", incident.subject, {"incident": incident.id})
        if incident.wanted == "quarantine" or await _moved(session, incident):
            await _want(session, incident, "release", actor.label)


async def mark_malicious(database: Database, actor: Actor, target: str, *, quarantine: bool, note: str = "") -> int:
    """Say that a host or address is bad: it is blocked from now on, also in mail already delivered.

    Args:
        database: The application's database.
        actor: An analyst, operator or owner.
        target: A host, an address, or any pattern of the tenant's list.
        quarantine: Move every copy; needs the right to act on messages.
        note: Kept with the list entry.

    Returns:
        The incident's number.

    Raises:
        Forbidden: The role may not investigate, or not act on messages.
        Refused: The target is neither host nor address, or a whole public suffix.
    """
    actor.require(Permission.INVESTIGATE)
    if quarantine:
        actor.require(Permission.RESTORE)
    pattern = target.strip()
    host = pattern_subject("wildcard", pattern).host
    if host and public_suffix(host) == host:
        raise Refused(f"“{host}” is not one site but all below it. Nothing was changed.", "too_wide")
    policy = PolicyService(database)
    try:
        # An analyst may say what is bad without being allowed to change the list otherwise.
        by = system_actor(actor.tenant_id, actor.label)
        await policy.add(by, action="block", pattern=pattern, note=note.strip() or "Marked as malicious")
    except Conflict:
        entries = await policy.entries(system_actor(actor.tenant_id, actor.label))
        if not any(entry.action == "block" and entry.pattern == pattern for entry in entries):
            raise
    async with database.tenant(actor.tenant_id) as session:
        subject = pattern_subject("wildcard", pattern)
        incident = await ensure_incident(session, actor.tenant_id, subject, cause="person", by=actor.label)
        incident.cause = "person"
        if incident.state != "open":
            incident.state, incident.ended_at, incident.searched, incident.search_from = "open", None, False, None
            _opened(session, incident, "reopened", actor.label)
        await record(session, actor, "incident.marked", pattern, {"incident": incident.id, "note": note.strip()[:300]})
        if quarantine and incident.wanted != "quarantine":
            await _want(session, incident, "quarantine", actor.label)
        await session.flush()
        await defer_turn(session, actor.tenant_id)
        return incident.id
