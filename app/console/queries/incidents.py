"""Incidents as the console shows them: the list, and one with its copies, its clicks and its timeline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Subquery, distinct, func, literal_column, select, union
from sqlalchemy.ext.asyncio import AsyncSession

from app.console.queries.clicks import ClickLine
from app.console.queries.paging import PAGE_SIZE, Page, cut
from app.gateway.models import Click
from app.protection.incident_models import Incident, IncidentEvent, IncidentMessage
from app.protection.incidents import get_incident
from app.protection.models import MailboxRow, MessageMove, MessageRow
from app.tenants.actor import Actor, Permission

STATES = ("open", "closed", "false_positive")
KINDS = ("listed", "rule", "checked")
MAX_COPIES = 200
MAX_CLICKS = 200


@dataclass(frozen=True, slots=True)
class Reach:
    """How far an incident spread, in the sight of whoever asks: messages, and the mailboxes that hold them."""

    messages: int = 0
    people: int = 0


@dataclass(frozen=True, slots=True)
class IncidentFilter:
    """What the incidents are narrowed to; empty means everything.

    Attributes:
        state: One of :data:`STATES`.
        kind: One of :data:`KINDS`.
        host: Of what turned bad.
        since: Not changed before.
        page: From 1.
    """

    state: str = ""
    kind: str = ""
    host: str = ""
    since: datetime | None = None
    page: int = 1


@dataclass(frozen=True, slots=True)
class IncidentLine:
    """An incident as listed."""

    incident: Incident
    reach: Reach
    clicks: int
    """By people; automated ones are not counted."""


@dataclass(frozen=True, slots=True)
class CopyLine:
    """A received copy."""

    copy: IncidentMessage
    subject: str
    sender: str
    recipient: str
    received_at: datetime | None
    message_state: str
    move_state: str | None


@dataclass(frozen=True, slots=True)
class IncidentMoment:
    """One point of an incident's timeline: an event, or a click."""

    at: datetime
    kind: str
    actor: str = ""
    detail: dict[str, Any] = field(default_factory=dict)
    line: ClickLine | None = None


@dataclass(frozen=True, slots=True)
class IncidentView:
    """Everything about one incident.

    Attributes:
        incident: The row.
        reach: Messages and mailboxes.
        human: Clicks by people, and how many of them got through.
        automated: Clicks by programs.
        opened: Clicks by people that were let through, before it turned.
        copies: The newest copies.
        timeline: What happened, in order.
        quarantined: Copies that are in quarantine, or on their way.
    """

    incident: Incident
    reach: Reach
    human: int
    automated: int
    opened: int
    copies: Sequence[CopyLine]
    timeline: Sequence[IncidentMoment]
    quarantined: int


def _clicks_of(actor: Actor, incident_ids: Sequence[int]) -> Subquery:
    """The clicks of incidents: those stopped for one, and earlier ones on the same address in one of its copies.

    Two look-ups by their own indexes: one condition with OR would read every click of the tenant.
    """
    stopped = select(Click.incident_id.label("incident_id"), Click.id, Click.automated, Click.action).where(
        Click.tenant_id == actor.tenant_id,
        Click.incident_id.in_(incident_ids),
        # The literal lets the planner use the partial index, whose condition leaves 0 out.
        Click.incident_id > literal_column("0"),
    )
    earlier = (
        select(IncidentMessage.incident_id.label("incident_id"), Click.id, Click.automated, Click.action)
        .join(Click, (Click.tenant_id == IncidentMessage.tenant_id) & (Click.message_id == IncidentMessage.message_id))
        .where(
            IncidentMessage.tenant_id == actor.tenant_id,
            IncidentMessage.incident_id.in_(incident_ids),
            Click.tenant_id == actor.tenant_id,
            IncidentMessage.urls.op("?")(Click.url),
        )
    )
    return union(stopped, earlier).subquery("of_incidents")


async def count_open(session: AsyncSession, actor: Actor) -> int:
    """Open incidents, for the navigation."""
    query = select(func.count()).where(Incident.tenant_id == actor.tenant_id, Incident.state == "open")
    return await session.scalar(query) or 0


async def list_incidents(session: AsyncSession, actor: Actor, wanted: IncidentFilter) -> Page[IncidentLine]:
    """A page of incidents, those that changed last first.

    Raises:
        Forbidden: The role does not see the tenant.
    """
    actor.require(Permission.VIEW_TENANT)
    query = select(Incident).where(Incident.tenant_id == actor.tenant_id)
    if wanted.state:
        query = query.where(Incident.state == wanted.state)
    if wanted.kind:
        query = query.where(Incident.kind == wanted.kind)
    if wanted.host:
        query = query.where(Incident.host == wanted.host.lower())
    if wanted.since is not None:
        query = query.where(Incident.updated_at >= wanted.since)
    query = query.order_by(Incident.updated_at.desc(), Incident.id.desc())
    rows = list(await session.scalars(query.limit(PAGE_SIZE + 1).offset((wanted.page - 1) * PAGE_SIZE)))
    ids = [row.id for row in rows]
    reach = await _reach(session, actor, rows)
    found = _clicks_of(actor, ids)
    by_person = select(found.c.incident_id, func.count()).where(~found.c.automated).group_by(found.c.incident_id)
    clicks = {row[0]: row[1] for row in await session.execute(by_person)}
    return cut([IncidentLine(row, reach[row.id], clicks.get(row.id, 0)) for row in rows], wanted.page)


async def _reach(session: AsyncSession, actor: Actor, incidents: Sequence[Incident]) -> dict[int, Reach]:
    """The reach of each. What an incident itself counts is of the whole tenant: who sees some domains alone gets the
    number of copies that they see."""
    ids = [incident.id for incident in incidents]
    query = (
        select(IncidentMessage.incident_id, func.count(), func.count(distinct(IncidentMessage.mailbox_id)))
        .where(IncidentMessage.tenant_id == actor.tenant_id, IncidentMessage.incident_id.in_(ids))
        .group_by(IncidentMessage.incident_id)
    )
    seen = {row[0]: Reach(row[1], row[2]) for row in await session.execute(query)}
    found = {number: seen.get(number, Reach()) for number in ids}
    if actor.domains is None:
        return {one.id: Reach(one.messages, found[one.id].people) for one in incidents}
    return found


async def read_incident(session: AsyncSession, actor: Actor, incident_id: int) -> IncidentView:
    """One incident.

    Raises:
        Forbidden: The role does not see the tenant.
        NotFound: There is none of that number in this tenant.
    """
    actor.require(Permission.VIEW_TENANT)
    incident = await get_incident(session, actor, incident_id)
    found = _clicks_of(actor, [incident_id])
    let_through = found.c.action.in_(("redirect", "proceed", "early"))
    human, automated, opened = (
        await session.execute(
            select(
                func.count().filter(~found.c.automated),
                func.count().filter(found.c.automated),
                func.count().filter(~found.c.automated, let_through),
            ).select_from(found)
        )
    ).one()
    return IncidentView(
        incident=incident,
        reach=(await _reach(session, actor, [incident]))[incident_id],
        human=human,
        automated=automated,
        opened=opened,
        copies=await _copies(session, actor, incident_id),
        timeline=await _timeline(session, actor, incident_id),
        quarantined=await session.scalar(
            select(func.count()).where(
                IncidentMessage.tenant_id == actor.tenant_id,
                IncidentMessage.incident_id == incident_id,
                IncidentMessage.move_id.is_not(None),
            )
        )
        or 0,
    )


async def _copies(session: AsyncSession, actor: Actor, incident_id: int) -> list[CopyLine]:
    rows = await session.execute(
        select(
            IncidentMessage,
            MessageRow.subject,
            MessageRow.sender,
            MailboxRow.address,
            MessageRow.received_at,
            MessageRow.state,
            MessageMove.state,
        )
        .join(
            MessageRow,
            (MessageRow.tenant_id == IncidentMessage.tenant_id) & (MessageRow.id == IncidentMessage.message_id),
        )
        .join(
            MailboxRow,
            (MailboxRow.tenant_id == IncidentMessage.tenant_id) & (MailboxRow.id == IncidentMessage.mailbox_id),
        )
        .outerjoin(
            MessageMove,
            (MessageMove.tenant_id == IncidentMessage.tenant_id) & (MessageMove.id == IncidentMessage.move_id),
        )
        .where(IncidentMessage.tenant_id == actor.tenant_id, IncidentMessage.incident_id == incident_id)
        .order_by(IncidentMessage.message_id.desc())
        .limit(MAX_COPIES)
    )
    return [CopyLine(*row) for row in rows]


async def _timeline(session: AsyncSession, actor: Actor, incident_id: int) -> list[IncidentMoment]:
    found = _clicks_of(actor, [incident_id])
    events = await session.scalars(
        select(IncidentEvent)
        .where(IncidentEvent.tenant_id == actor.tenant_id, IncidentEvent.incident_id == incident_id)
        .order_by(IncidentEvent.id)
        .limit(MAX_CLICKS)
    )
    clicks = await session.execute(
        select(Click, MailboxRow.address, MessageRow.subject)
        .outerjoin(MailboxRow, (MailboxRow.tenant_id == Click.tenant_id) & (MailboxRow.id == Click.mailbox_id))
        .outerjoin(MessageRow, (MessageRow.tenant_id == Click.tenant_id) & (MessageRow.id == Click.message_id))
        .join(found, found.c.id == Click.id)
        .where(Click.tenant_id == actor.tenant_id)
        .order_by(Click.at.desc())
        .limit(MAX_CLICKS)
    )
    moments = [IncidentMoment(event.at, event.kind, event.actor, event.detail) for event in events]
    moments += [IncidentMoment(row[0].at, "click", line=ClickLine(*row)) for row in clicks]
    # Stable: events of one transaction share their time and keep their order.
    moments.sort(key=lambda moment: moment.at)
    return moments
