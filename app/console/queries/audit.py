"""Reading the audit log."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.audit.models import AuditEntry
from app.console.queries.paging import PAGE_SIZE, Page, cut
from app.tenants.actor import Actor, Permission


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """What the log is narrowed to: part of actor, action or target; not before ``since``."""

    search: str = ""
    since: datetime | None = None
    page: int = 1


async def list_audit(session: AsyncSession, actor: Actor, wanted: AuditFilter) -> Page[AuditEntry]:
    """A page of the log, newest first.

    Raises:
        Forbidden: The role does not read the log.
    """
    actor.require(Permission.VIEW_AUDIT)
    query = select(AuditEntry).where(AuditEntry.tenant_id == actor.tenant_id)
    if wanted.search:
        query = query.where(
            AuditEntry.actor_label.icontains(wanted.search, autoescape=True)
            | AuditEntry.action.icontains(wanted.search, autoescape=True)
            | AuditEntry.target.icontains(wanted.search, autoescape=True)
        )
    if wanted.since is not None:
        query = query.where(AuditEntry.at >= wanted.since)
    query = query.order_by(AuditEntry.id.desc()).limit(PAGE_SIZE + 1)
    rows = (await session.scalars(query.offset((wanted.page - 1) * PAGE_SIZE))).all()
    return cut(rows, wanted.page)
