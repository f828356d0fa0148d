"""The tenant's domains and how many mailboxes each has."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.protection.models import MailboxRow
from app.tenants.actor import Actor, Permission
from app.tenants.models import Domain


@dataclass(frozen=True, slots=True)
class DomainLine:
    """A domain as listed."""

    name: str
    protected: bool
    dry_run: bool
    protect_since: datetime | None
    mailboxes: int


async def list_domains(session: AsyncSession, actor: Actor) -> list[DomainLine]:
    """All domains of the tenant, by name.

    Raises:
        Forbidden: The role does not see the tenant.
    """
    actor.require(Permission.VIEW_TENANT)
    counts = (
        select(MailboxRow.domain, func.count().label("mailboxes"))
        .where(MailboxRow.tenant_id == actor.tenant_id, MailboxRow.enabled)
        .group_by(MailboxRow.domain)
        .subquery()
    )
    rows = await session.execute(
        select(Domain, func.coalesce(counts.c.mailboxes, 0))
        .outerjoin(counts, counts.c.domain == Domain.name)
        .where(Domain.tenant_id == actor.tenant_id)
        .order_by(Domain.name)
    )
    return [
        DomainLine(domain.name, domain.protected, domain.dry_run, domain.protect_since, mailboxes)
        for domain, mailboxes in rows
    ]
