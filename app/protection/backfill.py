"""Protecting mail that was there before protection was switched on (C7).

A run names a mailbox, a domain or the tenant, and a range of days. Each mailbox's part has its own cursor: it
counts first, so that there is a total, and then takes a few messages per job, at the lowest priority of the
mailbox's lock, so that fresh mail always goes first. The ids of the page under way are kept with the part and
taken off as they are done, so a crash repeats a few messages at most, and the journal knows those.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Select, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.audit.service import record
from app.kit.errors import Conflict, NotFound, Refused
from app.kit.ids import row_number
from app.protection.models import BackfillPart, BackfillRun, MailboxRow, MessageRow
from app.protection.queue import defer_backfill
from app.tenants.accounts import TenantStatus
from app.tenants.actor import Actor, Permission
from app.tenants.models import Domain, Tenant

SCOPES = ("mailbox", "domain", "tenant")
MAX_DAYS = 3650
LIVE = ("waiting", "running")
LIVE_PARTS = ("waiting", "counting", "running")


@dataclass(frozen=True, slots=True)
class BackfillExtent:
    """What a backfill would look at, known before it is started.

    Attributes:
        label: Readable name of the target.
        mailboxes: Mailboxes that it would look through.
        left_out: Mailboxes of the target that are not protected (domain off, opted out, disabled).
        handled: Messages of these days that were handled already and are left as they are.
    """

    label: str
    mailboxes: int
    left_out: int
    handled: int


@dataclass(frozen=True, slots=True)
class BackfillProgress:
    """How far a run has come.

    Attributes:
        run: The request.
        mailboxes: Parts in all; ``mailboxes_done`` of them have ended.
        counting: Mailboxes that are still being counted, so ``total`` still grows.
        total: Messages found.
        looked: Messages looked at; of these ``done`` were protected (dry run: would be), ``skipped`` left as they
            are with a reason, ``failed`` given up; the others had been handled before.
        rate: Messages a minute since the start; 0 where it cannot be told yet.
        seconds_left: Estimate, or None where it cannot be told.
        errors: What stands in the way, by mailbox address.
    """

    run: BackfillRun
    mailboxes: int
    mailboxes_done: int
    counting: int
    total: int
    looked: int
    done: int
    skipped: int
    failed: int
    rate: float
    seconds_left: int | None
    errors: tuple[tuple[str, str], ...]

    @property
    def already(self) -> int:
        """Messages that had been handled before."""
        return max(0, self.looked - self.done - self.skipped - self.failed)


def _mailboxes(scope: str, target: str) -> Select[MailboxRow, bool]:
    """Mailboxes of a target, each with whether it is protected."""
    protected = func.coalesce(Domain.protected, False) & MailboxRow.enabled & ~MailboxRow.opted_out
    query = select(MailboxRow, protected).outerjoin(
        Domain, (Domain.tenant_id == MailboxRow.tenant_id) & (Domain.name == MailboxRow.domain)
    )
    match scope:
        case "mailbox":
            return query.where(MailboxRow.id == (row_number(target) or 0))
        case "domain":
            return query.where(MailboxRow.domain == target)
        case "tenant":
            return query
        case _:
            raise Refused(f"A backfill is for a {', '.join(SCOPES)}; nothing was started.", "backfill_scope")


async def backfill_extent(
    session: AsyncSession, actor: Actor, scope: str, target: str, days: int, now: datetime
) -> BackfillExtent:
    """How much a backfill would look through, before it is started.

    Raises:
        Forbidden: The role does not configure.
        NotFound: There is no such mailbox or domain.
        Refused: There is no such scope, or the number of days is out of range.
    """
    actor.require(Permission.CONFIGURE)
    if not 1 <= days <= MAX_DAYS:
        raise Refused(f"Choose 1 to {MAX_DAYS} days; nothing was started.", "backfill_days")
    rows = (await session.execute(_mailboxes(scope, target))).all()
    domain = await session.get(Domain, (actor.tenant_id, target)) if scope == "domain" else None
    if (scope == "mailbox" and not rows) or (scope == "domain" and domain is None):
        raise NotFound(f"There is no {scope} {target}.")
    chosen = [mailbox.id for mailbox, protected in rows if protected]
    handled = await session.scalar(
        select(func.count())
        .select_from(MessageRow)
        .where(MessageRow.mailbox_id.in_(chosen), MessageRow.received_at >= now - timedelta(days=days))
    )
    label = rows[0][0].address if scope == "mailbox" else target
    return BackfillExtent(label, len(chosen), len(rows) - len(chosen), handled or 0)


async def request_backfill(
    session: AsyncSession,
    actor: Actor,
    scope: str,
    target: str,
    *,
    days: int,
    now: datetime,
    dry_run: bool = False,
) -> int:
    """Ask for mail of the last ``days`` days to be protected.

    Args:
        session: The unit of work.
        actor: Who asks.
        scope: ``mailbox``, ``domain`` or ``tenant``.
        target: Mailbox number, domain name, or anything for the tenant.
        days: How far back.
        now: The time.
        dry_run: Only record what would be done.

    Returns:
        The run's number.

    Raises:
        Forbidden: The role does not configure.
        NotFound: There is no such mailbox or domain.
        Refused: There is no such scope, or the number of days is out of range.
        Conflict: Protection is off for the target or the tenant, or a run is going through it already.
    """
    extent = await backfill_extent(session, actor, scope, target, days, now)
    tenant = await session.get(Tenant, actor.tenant_id, with_for_update=True)
    if tenant is None or tenant.status != TenantStatus.ACTIVE:
        raise Conflict("Protection is not active for this organisation. Nothing was started.")
    if not extent.mailboxes:
        raise Conflict("Protection is off for these mailboxes: switch it on first. Nothing was started.")
    chosen = [mailbox.id for mailbox, protected in await session.execute(_mailboxes(scope, target)) if protected]
    busy = await session.scalar(
        select(BackfillPart.run_id)
        .where(BackfillPart.mailbox_id.in_(chosen), BackfillPart.state.in_(LIVE_PARTS))
        .limit(1)
    )
    if busy is not None:
        raise Conflict(f"Backfill {busy} is going through some of these mailboxes. Nothing was started.")
    run = BackfillRun(
        tenant_id=actor.tenant_id,
        scope=scope,
        target=target,
        since=now - timedelta(days=days),
        until=now,
        dry_run=dry_run,
        requested_by=actor.label,
    )
    session.add(run)
    await session.flush()
    for mailbox_id in chosen:
        session.add(BackfillPart(tenant_id=actor.tenant_id, run_id=run.id, mailbox_id=mailbox_id))
        await defer_backfill(session, actor.tenant_id, mailbox_id, run.id)
    detail = {"run": run.id, "days": days, "mailboxes": len(chosen), "dry_run": dry_run}
    await record(session, actor, "backfill.requested", f"{scope} {extent.label}".strip(), detail)
    return run.id


async def cancel_backfill(session: AsyncSession, actor: Actor, run_id: int, now: datetime) -> None:
    """Stop a run; what was protected stays protected.

    Raises:
        Forbidden: The role does not configure.
        NotFound: There is no such run, or it has ended.
    """
    actor.require(Permission.CONFIGURE)
    changed = await session.execute(
        update(BackfillRun)
        .where(BackfillRun.id == run_id, BackfillRun.state.in_(LIVE))
        .values(state="cancelled", finished_at=now)
        .returning(BackfillRun.id)
    )
    if changed.first() is None:
        raise NotFound(f"There is no running backfill {run_id}.")
    await session.execute(
        update(BackfillPart)
        .where(BackfillPart.run_id == run_id, BackfillPart.state.in_(LIVE_PARTS))
        .values(state="cancelled")
    )
    await record(session, actor, "backfill.cancelled", str(run_id))


async def backfill_progress(
    session: AsyncSession, actor: Actor, now: datetime, run_id: int | None = None, limit: int = 10
) -> list[BackfillProgress]:
    """The latest runs, or one.

    Raises:
        Forbidden: The role does not see the tenant.
        NotFound: There is no such run.
    """
    actor.require(Permission.VIEW_TENANT)
    query = select(BackfillRun).order_by(BackfillRun.id.desc()).limit(limit)
    if run_id is not None:
        query = query.where(BackfillRun.id == run_id)
    runs = list(await session.scalars(query))
    if run_id is not None and not runs:
        raise NotFound(f"There is no backfill {run_id}.")
    return [await _progress(session, run, now) for run in runs]


async def _progress(session: AsyncSession, run: BackfillRun, now: datetime) -> BackfillProgress:
    row = (
        await session.execute(
            select(
                func.count(),
                func.count().filter(BackfillPart.state.not_in(LIVE_PARTS)),
                func.count().filter(BackfillPart.state.in_(("waiting", "counting"))),
                *(
                    func.coalesce(func.sum(column), 0)
                    for column in (
                        BackfillPart.total,
                        BackfillPart.looked,
                        BackfillPart.done,
                        BackfillPart.skipped,
                        BackfillPart.failed,
                    )
                ),
            ).where(BackfillPart.run_id == run.id)
        )
    ).one()
    mailboxes, ended, counting, total, looked, done, skipped, failed = (int(value) for value in row)
    errors = await session.execute(
        select(MailboxRow.address, BackfillPart.error)
        .join(
            MailboxRow,
            (MailboxRow.tenant_id == BackfillPart.tenant_id) & (MailboxRow.id == BackfillPart.mailbox_id),
        )
        .where(BackfillPart.run_id == run.id, BackfillPart.error != "")
        .order_by(MailboxRow.address)
        .limit(20)
    )
    rate, left = 0.0, None
    if run.started_at is not None and looked:
        seconds = max(1.0, ((run.finished_at or now) - run.started_at).total_seconds())
        rate = 60.0 * looked / seconds
        if run.state in LIVE and not counting:
            left = int(max(0, total - looked) * seconds / looked)
    return BackfillProgress(
        run=run,
        mailboxes=mailboxes,
        mailboxes_done=ended,
        counting=counting,
        total=max(total, looked),
        looked=looked,
        done=done,
        skipped=skipped,
        failed=failed,
        rate=rate,
        seconds_left=left,
        errors=tuple((address, error) for address, error in errors),
    )
