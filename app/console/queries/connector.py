"""The connector's health: mailboxes, subscriptions, restores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.console.queries.paging import PAGE_SIZE, Page, cut
from app.kit.errors import NotFound
from app.kit.ids import row_number
from app.protection.models import MailboxRow, MessageRow, RestoreRun, SubscriptionRow
from app.protection.states import UNFINISHED, MessageState
from app.tenants.actor import Actor, Permission
from app.tenants.models import Domain


@dataclass(frozen=True, slots=True)
class MailboxLine:
    """A mailbox as listed.

    Attributes:
        mailbox: The row.
        protected: Whether its domain's protection is on and it has not opted out.
        expires_at: Of its subscription; None where there is none.
        waiting_since: When the oldest message that is not finished was seen.
        restorable: Messages whose original links can be given back.
    """

    mailbox: MailboxRow
    protected: bool
    expires_at: datetime | None
    waiting_since: datetime | None
    restorable: int


@dataclass(frozen=True, slots=True)
class MailboxFilter:
    """What the mailbox list is narrowed to: part of address or name; ``trouble`` for those with an error."""

    search: str = ""
    trouble: bool = False
    page: int = 1


async def list_mailboxes(session: AsyncSession, actor: Actor, wanted: MailboxFilter) -> Page[MailboxLine]:
    """A page of mailboxes, those in trouble first.

    Raises:
        Forbidden: The role does not see the tenant.
    """
    actor.require(Permission.VIEW_TENANT)
    of_mailbox = (MessageRow.tenant_id == MailboxRow.tenant_id) & (MessageRow.mailbox_id == MailboxRow.id)
    waiting = (
        select(func.min(MessageRow.seen_at))
        .where(of_mailbox, MessageRow.state.in_([state.value for state in UNFINISHED]))
        .correlate(MailboxRow)
        .scalar_subquery()
    )
    restorable = (
        select(func.count())
        .where(of_mailbox, MessageRow.state == MessageState.PROTECTED.value)
        .correlate(MailboxRow)
        .scalar_subquery()
    )
    query = (
        select(MailboxRow, Domain.protected, SubscriptionRow.expires_at, waiting, restorable)
        .outerjoin(Domain, (Domain.tenant_id == MailboxRow.tenant_id) & (Domain.name == MailboxRow.domain))
        .outerjoin(
            SubscriptionRow,
            (SubscriptionRow.tenant_id == MailboxRow.tenant_id) & (SubscriptionRow.mailbox_id == MailboxRow.id),
        )
        .where(MailboxRow.tenant_id == actor.tenant_id)
        .order_by((MailboxRow.error != "").desc(), MailboxRow.address)
    )
    if wanted.search:
        query = query.where(
            MailboxRow.address.icontains(wanted.search, autoescape=True)
            | MailboxRow.name.icontains(wanted.search, autoescape=True)
        )
    if wanted.trouble:
        query = query.where(MailboxRow.error != "")
    rows = await session.execute(query.limit(PAGE_SIZE + 1).offset((wanted.page - 1) * PAGE_SIZE))
    lines = [
        MailboxLine(mailbox, bool(protected) and mailbox.enabled and not mailbox.opted_out, expires, since, count)
        for mailbox, protected, expires, since, count in rows
    ]
    return cut(lines, wanted.page)


async def list_runs(session: AsyncSession, actor: Actor, limit: int = 10) -> Sequence[RestoreRun]:
    """The latest restores.

    Raises:
        Forbidden: The role does not see the tenant.
    """
    actor.require(Permission.VIEW_TENANT)
    return (
        await session.scalars(
            select(RestoreRun)
            .where(RestoreRun.tenant_id == actor.tenant_id)
            .order_by(RestoreRun.id.desc())
            .limit(limit)
        )
    ).all()


@dataclass(frozen=True, slots=True)
class Extent:
    """What a restore would touch.

    Attributes:
        label: Readable name of the target.
        messages: Messages whose original links would be given back.
        mailboxes: In how many mailboxes.
    """

    label: str
    messages: int
    mailboxes: int


async def restore_extent(session: AsyncSession, actor: Actor, scope: str, target: str) -> Extent:
    """How much a restore would touch, before it is started.

    Raises:
        Forbidden: The role does not restore.
        NotFound: No such mailbox or domain in this tenant.
    """
    actor.require(Permission.RESTORE)
    chosen = (MessageRow.tenant_id == actor.tenant_id) & (MessageRow.state == MessageState.PROTECTED.value)
    query = (
        select(func.count(), func.count(func.distinct(MessageRow.mailbox_id)))
        .join(
            MailboxRow,
            (MailboxRow.tenant_id == MessageRow.tenant_id) & (MailboxRow.id == MessageRow.mailbox_id),
        )
        .where(chosen)
    )
    label = ""
    if scope == "mailbox":
        number = row_number(target)
        mailbox = None if number is None else await session.get(MailboxRow, (actor.tenant_id, number))
        if mailbox is None:
            raise NotFound("There is no such mailbox.")
        label = mailbox.address
        query = query.where(MessageRow.mailbox_id == mailbox.id)
    elif scope == "domain":
        domain = await session.get(Domain, (actor.tenant_id, target))
        if domain is None:
            raise NotFound("There is no such domain.")
        label = domain.name
        query = query.where(MailboxRow.domain == domain.name)
    messages, mailboxes = (await session.execute(query)).one()
    return Extent(label, messages, mailboxes)
