"""What people asked for on click pages: releases and mistakes (L19, L21)."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.audit.service import record
from app.gateway.models import ClickReport
from app.kit.errors import Conflict, NotFound
from app.protection.models import MailboxRow
from app.tenants.actor import Actor, Permission


@dataclass(frozen=True, slots=True)
class ReportLine:
    """A request as listed."""

    report: ClickReport
    person: str | None


async def list_open_reports(session: AsyncSession, actor: Actor, limit: int = 50) -> list[ReportLine]:
    """Requests that nobody has answered, oldest first.

    Raises:
        Forbidden: The role does not see the tenant.
    """
    actor.require(Permission.VIEW_TENANT)
    rows = await session.execute(
        select(ClickReport, MailboxRow.address)
        .outerjoin(
            MailboxRow,
            (MailboxRow.tenant_id == ClickReport.tenant_id) & (MailboxRow.id == ClickReport.mailbox_id),
        )
        .where(ClickReport.tenant_id == actor.tenant_id, ClickReport.state == "open")
        .order_by(ClickReport.at)
        .limit(limit)
    )
    return [ReportLine(report, address) for report, address in rows]


async def open_report(session: AsyncSession, actor: Actor, report_id: uuid.UUID) -> ClickReport:
    """A request that nobody has answered, held until the transaction ends.

    Raises:
        Forbidden: The role does not configure.
        NotFound: No such request in this tenant.
        Conflict: Somebody has answered it.
    """
    actor.require(Permission.CONFIGURE)
    report = await session.get(ClickReport, (actor.tenant_id, report_id), with_for_update=True)
    if report is None:
        raise NotFound("There is no such request.")
    if report.state != "open":
        raise Conflict("Somebody has answered this request already. Nothing was changed.")
    return report


async def answer_report(
    session: AsyncSession, actor: Actor, report_id: uuid.UUID, answer: str, now: datetime
) -> ClickReport:
    """Mark a request as answered.

    Args:
        session: The unit of work.
        actor: Who answers.
        report_id: Which.
        answer: ``allowed``, ``blocked`` or ``dismissed``.
        now: The time.

    Raises:
        Forbidden: The role does not configure.
        NotFound: No such request in this tenant.
        Conflict: Somebody has answered it.
    """
    report = await open_report(session, actor, report_id)
    report.state, report.handled_by, report.handled_at = answer, actor.label, now
    await record(session, actor, f"report.{answer}", report.host, {"kind": report.kind})
    return report
