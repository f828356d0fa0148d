"""Messages and their traces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.console.queries.paging import PAGE_SIZE, Page, cut
from app.gateway.models import Click
from app.kit.errors import NotFound
from app.protection.models import MailboxRow, MessageEvent, MessageLink, MessageMove, MessageRow
from app.protection.quarantine import live_move
from app.protection.states import UNFINISHED, MessageState
from app.tenants.actor import Actor, Permission

SORTS: dict[str, tuple[ColumnElement[Any], ...]] = {
    "newest": (MessageRow.seen_at.desc(), MessageRow.id.desc()),
    "oldest": (MessageRow.seen_at.asc(), MessageRow.id.asc()),
    "links": (MessageRow.links.desc(), MessageRow.id.desc()),
    "sender": (MessageRow.sender.asc(), MessageRow.id.desc()),
}
MAX_TRACE = 500


@dataclass(frozen=True, slots=True)
class MessageFilter:
    """What the message list is narrowed to; empty means everything.

    Attributes:
        search: Part of subject, sender or recipient address.
        state: A message state, or ``unfinished``.
        mailbox: Recipient's address.
        mailbox_id: Row number of the recipient's mailbox: what the address of a page may name.
        host: Messages with a link to that host.
        since: Not seen before.
        sort: One of :data:`SORTS`.
        page: From 1.
    """

    search: str = ""
    state: str = ""
    mailbox: str = ""
    host: str = ""
    since: datetime | None = None
    sort: str = "newest"
    page: int = 1
    mailbox_id: int | None = None


@dataclass(frozen=True, slots=True)
class MessageLine:
    """A message as listed."""

    id: int
    subject: str
    sender: str
    recipient: str
    mailbox_id: int
    state: str
    reason: str
    links: int
    received_at: datetime | None
    seen_at: datetime
    finished_at: datetime | None
    clicks: int


@dataclass(frozen=True, slots=True)
class TraceEvent:
    """One point of a message's timeline.

    Attributes:
        at: When.
        kind: A message event, or ``click``.
        actor: Who, where it was a person.
        detail: Facts of a message event.
        click: The click, where it is one.
    """

    at: datetime
    kind: str
    actor: str = ""
    detail: dict[str, Any] = field(default_factory=dict)
    click: Click | None = None


@dataclass(frozen=True, slots=True)
class MessageTrace:
    """Everything about one message."""

    message: MessageRow
    mailbox: MailboxRow
    links: Sequence[MessageLink]
    events: Sequence[TraceEvent]
    move: MessageMove | None = None
    """Its stay in quarantine or junk, where it is there or on its way."""

    @property
    def can_restore(self) -> bool:
        """Whether its original links can be given back now."""
        return self.message.state == MessageState.PROTECTED


def _clicks_of_message() -> Any:
    return (
        select(func.count())
        .where(Click.tenant_id == MessageRow.tenant_id, Click.message_id == MessageRow.id)
        .correlate(MessageRow)
        .scalar_subquery()
    )


def _narrowed(actor: Actor, wanted: MessageFilter) -> Select[MessageRow, str, int]:
    query = (
        select(MessageRow, MailboxRow.address, _clicks_of_message())
        .join(
            MailboxRow,
            (MailboxRow.tenant_id == MessageRow.tenant_id) & (MailboxRow.id == MessageRow.mailbox_id),
        )
        .where(MessageRow.tenant_id == actor.tenant_id)
    )
    if wanted.search:
        query = query.where(
            MessageRow.subject.icontains(wanted.search, autoescape=True)
            | MessageRow.sender.icontains(wanted.search, autoescape=True)
            | MailboxRow.address.icontains(wanted.search, autoescape=True)
        )
    if wanted.state == "unfinished":
        query = query.where(MessageRow.state.in_([state.value for state in UNFINISHED]))
    elif wanted.state:
        query = query.where(MessageRow.state == wanted.state)
    if wanted.mailbox:
        query = query.where(MailboxRow.address == wanted.mailbox.lower())
    if wanted.mailbox_id is not None:
        query = query.where(MessageRow.mailbox_id == wanted.mailbox_id)
    if wanted.host:
        query = query.where(
            select(MessageLink.ordinal)
            .where(
                MessageLink.tenant_id == MessageRow.tenant_id,
                MessageLink.message_id == MessageRow.id,
                MessageLink.host == wanted.host.lower(),
            )
            .exists()
        )
    if wanted.since is not None:
        query = query.where(MessageRow.seen_at >= wanted.since)
    return query


async def list_messages(session: AsyncSession, actor: Actor, wanted: MessageFilter) -> Page[MessageLine]:
    """A page of messages.

    Raises:
        Forbidden: The role does not see the tenant.
    """
    actor.require(Permission.VIEW_TENANT)
    query = (
        _narrowed(actor, wanted)
        .order_by(*SORTS.get(wanted.sort, SORTS["newest"]))
        .limit(PAGE_SIZE + 1)
        .offset((wanted.page - 1) * PAGE_SIZE)
    )
    rows = [
        MessageLine(
            id=row.id,
            subject=row.subject,
            sender=row.sender,
            recipient=address,
            mailbox_id=row.mailbox_id,
            state=row.state,
            reason=row.reason,
            links=row.links,
            received_at=row.received_at,
            seen_at=row.seen_at,
            finished_at=row.finished_at,
            clicks=clicks,
        )
        for row, address, clicks in await session.execute(query)
    ]
    return cut(rows, wanted.page)


async def mailbox_address(session: AsyncSession, actor: Actor, mailbox_id: int) -> str:
    """Whose mailbox it is; empty where there is no such one in this tenant.

    Raises:
        Forbidden: The role does not see the tenant.
    """
    actor.require(Permission.VIEW_TENANT)
    query = select(MailboxRow.address).where(MailboxRow.tenant_id == actor.tenant_id, MailboxRow.id == mailbox_id)
    return await session.scalar(query) or ""


async def trace_message(session: AsyncSession, actor: Actor, message_id: int) -> MessageTrace:
    """One message with its links and its timeline: what was done, and every click, in order of time.

    Raises:
        Forbidden: The role does not see the tenant.
        NotFound: No such message in this tenant.
    """
    actor.require(Permission.VIEW_TENANT)
    found = (
        await session.execute(
            select(MessageRow, MailboxRow)
            .join(
                MailboxRow,
                (MailboxRow.tenant_id == MessageRow.tenant_id) & (MailboxRow.id == MessageRow.mailbox_id),
            )
            .where(MessageRow.tenant_id == actor.tenant_id, MessageRow.id == message_id)
        )
    ).one_or_none()
    if found is None:
        raise NotFound("There is no such message.")
    message, mailbox = found
    links = (
        await session.scalars(
            select(MessageLink)
            .where(MessageLink.tenant_id == actor.tenant_id, MessageLink.message_id == message_id)
            .order_by(MessageLink.ordinal)
            .limit(MAX_TRACE)
        )
    ).all()
    events = (
        await session.scalars(
            select(MessageEvent)
            .where(MessageEvent.tenant_id == actor.tenant_id, MessageEvent.message_id == message_id)
            .order_by(MessageEvent.id)
            .limit(MAX_TRACE)
        )
    ).all()
    clicks = (
        await session.scalars(
            select(Click)
            .where(Click.tenant_id == actor.tenant_id, Click.message_id == message_id)
            .order_by(Click.at)
            .limit(MAX_TRACE)
        )
    ).all()
    timeline = [TraceEvent(event.at, event.kind, event.actor, event.detail) for event in events]
    timeline += [TraceEvent(click.at, "click", click=click) for click in clicks]
    # Stable: events of one transaction share their time and keep their order.
    timeline.sort(key=lambda event: event.at)
    return MessageTrace(message, mailbox, links, timeline, await live_move(session, message_id))
