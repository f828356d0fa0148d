"""Clicks: the tenant's, and a person's own (L23, L25)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.console.queries.paging import PAGE_SIZE, Page, cut
from app.gateway.models import Click
from app.protection.models import MailboxRow, MessageRow
from app.tenants.actor import Actor, Permission
from app.tenants.models import User

STOPPED = ("warn", "block", "lock")
SORTS: dict[str, tuple[ColumnElement[Any], ...]] = {
    "newest": (Click.at.desc(), Click.id.asc()),
    "oldest": (Click.at.asc(), Click.id.asc()),
    "host": (Click.host.asc(), Click.at.desc()),
    "person": (MailboxRow.address.asc(), Click.at.desc()),
}


@dataclass(frozen=True, slots=True)
class ClickFilter:
    """What the click list is narrowed to; empty means everything.

    Attributes:
        search: Part of the URL, the host or the person's address.
        level: A verdict level.
        action: What was answered, or ``stopped`` for warned, blocked and locked.
        who: ``people`` or ``automated``.
        since: Not before.
        sort: One of :data:`SORTS`.
        page: From 1.
    """

    search: str = ""
    level: str = ""
    action: str = ""
    who: str = ""
    since: datetime | None = None
    sort: str = "newest"
    page: int = 1


@dataclass(frozen=True, slots=True)
class ClickLine:
    """A click as listed. ``person`` is None where the mailbox is not known (any more)."""

    click: Click
    person: str | None
    subject: str | None


async def list_clicks(session: AsyncSession, actor: Actor, wanted: ClickFilter) -> Page[ClickLine]:
    """A page of the tenant's clicks.

    Raises:
        Forbidden: The role does not see the tenant.
    """
    actor.require(Permission.VIEW_TENANT)
    query = _joined().where(Click.tenant_id == actor.tenant_id)
    if wanted.search:
        query = query.where(
            Click.url.icontains(wanted.search, autoescape=True)
            | Click.host.icontains(wanted.search, autoescape=True)
            | MailboxRow.address.icontains(wanted.search, autoescape=True)
        )
    if wanted.level:
        query = query.where(Click.level == wanted.level)
    if wanted.action == "stopped":
        query = query.where(Click.action.in_(STOPPED))
    elif wanted.action:
        query = query.where(Click.action == wanted.action)
    if wanted.who:
        query = query.where(Click.automated.is_(wanted.who == "automated"))
    if wanted.since is not None:
        query = query.where(Click.at >= wanted.since)
    query = query.order_by(*SORTS.get(wanted.sort, SORTS["newest"]))
    rows = await session.execute(query.limit(PAGE_SIZE + 1).offset((wanted.page - 1) * PAGE_SIZE))
    return cut([ClickLine(*row) for row in rows], wanted.page)


async def own_mailboxes(session: AsyncSession, actor: Actor) -> Sequence[MailboxRow]:
    """The mailboxes of the person who asks: those of the provider's same account.

    The account's immutable id is compared, never the address: an address can be given to somebody else.
    """
    actor.require(Permission.VIEW_OWN_CLICKS)
    query = (
        select(MailboxRow)
        .join(User, (User.tenant_id == MailboxRow.tenant_id) & (User.subject == MailboxRow.external_id))
        .where(User.tenant_id == actor.tenant_id, User.id == actor.user_id)
    )
    return (await session.scalars(query)).all()


async def list_own_clicks(session: AsyncSession, actor: Actor, page: int = 1) -> Page[ClickLine]:
    """A page of the person's own clicks: what was recorded about them and nothing of anybody else."""
    mailboxes = [mailbox.id for mailbox in await own_mailboxes(session, actor)]
    query = (
        _joined()
        .where(Click.tenant_id == actor.tenant_id, Click.mailbox_id.in_(mailboxes))
        .order_by(*SORTS["newest"])
        .limit(PAGE_SIZE + 1)
        .offset((page - 1) * PAGE_SIZE)
    )
    return cut([ClickLine(*row) for row in await session.execute(query)], page)


def _joined() -> Select[Click, str | None, str | None]:
    return (
        select(Click, MailboxRow.address, MessageRow.subject)
        .outerjoin(MailboxRow, (MailboxRow.tenant_id == Click.tenant_id) & (MailboxRow.id == Click.mailbox_id))
        .outerjoin(MessageRow, (MessageRow.tenant_id == Click.tenant_id) & (MessageRow.id == Click.message_id))
    )
