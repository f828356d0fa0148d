"""Protecting mail that was there before protection was switched on (C7).

A run names a mailbox, a domain or the tenant, and a range of days. Each mailbox's part has its own cursor: it
counts first, so that there is a total, and then takes a few messages per job, at the lowest priority of the
mailbox's lock, so that fresh mail always goes first. The ids of the page under way are kept with the part and
taken off as they are done, so a crash repeats a few messages at most, and the journal knows those.
"""

from __future__ import annotations

import dataclasses
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from sqlalchemy import Select, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.audit.service import record
from app.kit.errors import Conflict, NotFound, Refused
from app.kit.ids import row_number
from app.protection import journal
from app.protection.batch import protect_all
from app.protection.models import BackfillPart, BackfillRun, MailboxRow, MessageRow
from app.protection.protect import MailboxWork
from app.protection.queue import defer_backfill, defer_sync
from app.protection.runtime import Runtime
from app.protection.states import UNFINISHED, MessageState
from app.protection.sync import open_work, stop_tenant
from app.tenants.accounts import TenantStatus
from app.tenants.actor import Actor, Permission
from app.tenants.models import Domain, Tenant
from connectors.base.errors import (
    AccessRevoked,
    ConnectorError,
    CursorExpired,
    MailboxUnavailable,
    PermissionMissing,
    Throttled,
    Transient,
)

log = structlog.get_logger()

SCOPES = ("mailbox", "domain", "tenant")
MAX_DAYS = 3650
CHUNK = 10
"""Messages per job: at Gmail's quota about ten seconds, the longest that a fresh message waits behind it."""

LIVE = ("waiting", "running")
LIVE_PARTS = ("waiting", "counting", "running")
_COUNT_PAGES_PER_JOB = 20
_BACKOFF_FIRST = 2.0
_BACKOFF_CAP = 300.0
_TENANT_AWAY_SECONDS = 60.0
_REST_SECONDS = 5.0


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


async def backfill_mailbox(runtime: Runtime, tenant_id: uuid.UUID, mailbox_id: int, run_id: int) -> None:
    """Take one step of a mailbox's part and defer the next. Runs under the mailbox's lock."""
    async with runtime.db.tenant(tenant_id) as session:
        run = await session.get(BackfillRun, (tenant_id, run_id))
        part = await session.get(BackfillPart, (tenant_id, run_id, mailbox_id))
        tenant = await session.get(Tenant, tenant_id)
        if run is None or part is None or run.state not in LIVE or part.state not in LIVE_PARTS:
            return
        if tenant is None or tenant.status == TenantStatus.LEAVING:
            return
        if tenant.status != TenantStatus.ACTIVE:
            part.error = f"Protection is {tenant.status}; the backfill goes on when it is active again."
            await _again(runtime, session, part, _TENANT_AWAY_SECONDS)
            return
        run.state = "running"
        run.started_at = run.started_at or runtime.clock()
    opened = await open_work(runtime, tenant_id, mailbox_id)
    if isinstance(opened, str):
        await _end_part(runtime, part, "failed", opened)
        return
    work, mailbox = opened
    if mailbox.not_before is not None and mailbox.not_before > runtime.clock():
        async with runtime.db.tenant(tenant_id) as session:
            await defer_backfill(session, tenant_id, mailbox_id, run_id, at=mailbox.not_before)
        return
    work = dataclasses.replace(work, since=run.since, dry_run=run.dry_run or work.dry_run)
    try:
        if part.state == "running":
            await _work(runtime, work, part)
        else:
            await _count(runtime, work, part)
    except CursorExpired as error:
        await _start_over(runtime, part, str(error))
    except Throttled as error:
        await _put_off(runtime, part, error.retry_after, "", quiet=True)
    except (AccessRevoked, PermissionMissing) as error:
        status = TenantStatus.REVOKED if isinstance(error, AccessRevoked) else TenantStatus.BLOCKED
        await stop_tenant(runtime, tenant_id, status.value, str(error))
        await _put_off(runtime, part, _TENANT_AWAY_SECONDS, str(error))
    except MailboxUnavailable as error:
        await _end_part(runtime, part, "failed", str(error))
    except ConnectorError as error:
        if not isinstance(error, Transient):
            log.warning("backfill.stopped", tenant=str(tenant_id), mailbox=mailbox_id, kind=type(error).__name__)
        delay = min(_BACKOFF_FIRST * 2 ** min(part.failures, 10), _BACKOFF_CAP)
        # Stopping is no failure: the next process goes on at once.
        await _put_off(runtime, part, 0.0 if runtime.stopping.is_set() else delay, str(error))


async def _count(runtime: Runtime, work: MailboxWork, part: BackfillPart) -> None:
    """Count a mailbox's messages; the cursor of the count is stored with it."""
    cursor, total = part.cursor, part.total
    for _ in range(_COUNT_PAGES_PER_JOB):
        page = await work.connector.changes(work.mailbox, cursor, work.since)
        total += sum(1 for change in page.changes if not change.removed)
        cursor = page.cursor if page.more else None
        values = {"state": "counting" if page.more else "running", "cursor": cursor, "total": total}
        await _keep(runtime, part, **values, error="", failures=0)
        if not page.more or runtime.stopping.is_set():
            break
    async with runtime.db.tenant(part.tenant_id) as session:
        await _again(runtime, session, part)


async def _work(runtime: Runtime, work: MailboxWork, part: BackfillPart) -> None:
    """Protect the next few messages of the page under way; with none under way, ask for the next page."""
    waiting = [str(external_id) for external_id in part.pending]
    following, last = part.next_cursor, part.last_page
    if following is None and last:
        await _finish_part(runtime, part)
        return
    if following is None:
        page = await work.connector.changes(work.mailbox, part.cursor, work.since)
        waiting = list(dict.fromkeys(change.ref.id for change in page.changes if not change.removed))
        following, last = page.cursor, not page.more
        await _keep(runtime, part, pending=waiting, next_cursor=following, last_page=last)
    chunk, rest = waiting[:CHUNK], waiting[CHUNK:]
    async with runtime.db.tenant(part.tenant_id) as session:
        if not work.dry_run:
            await _undo_dry_runs(session, part, chunk)
        pending = await journal.register(session, runtime, part.mailbox_id, chunk)
        await session.execute(
            update(MessageRow)
            .where(MessageRow.id.in_([message.id for message in pending]))
            .values(backfill_run=part.run_id)
        )
    if await protect_all(runtime, work, pending):
        values: dict[str, object] = {"pending": rest, "looked": part.looked + len(chunk)}
        if not rest:
            values |= {"cursor": following, "next_cursor": None}
        await _keep(runtime, part, **values, **await _counts(runtime, part), error="", failures=0)
    async with runtime.db.tenant(part.tenant_id) as session:
        await _again(runtime, session, part)


async def _finish_part(runtime: Runtime, part: BackfillPart) -> None:
    """End the part once no message of it waits for another try; those that do are the mailbox's sync's to finish."""
    async with runtime.db.tenant(part.tenant_id) as session:
        rest = await session.scalar(
            select(MessageRow.id)
            .where(
                MessageRow.mailbox_id == part.mailbox_id,
                MessageRow.backfill_run == part.run_id,
                MessageRow.state.in_([state.value for state in UNFINISHED]),
            )
            .limit(1)
        )
        if rest is not None:
            await defer_sync(session, part.tenant_id, part.mailbox_id)
            await _again(runtime, session, part, _REST_SECONDS)
    await _keep(runtime, part, **await _counts(runtime, part))
    if rest is None:
        await _end_part(runtime, part, "done", "")


async def _undo_dry_runs(session: AsyncSession, part: BackfillPart, external_ids: list[str]) -> None:
    """What a dry run only looked at is looked at again."""
    await session.execute(
        update(MessageRow)
        .where(
            MessageRow.mailbox_id == part.mailbox_id,
            MessageRow.state == MessageState.DRY_RUN.value,
            or_(MessageRow.external_id.in_(external_ids), MessageRow.current_id.in_(external_ids)),
        )
        .values(state=MessageState.SEEN.value, attempts=0)
    )


async def _counts(runtime: Runtime, part: BackfillPart) -> dict[str, int]:
    """What became of the part's messages so far. Counted from the journal, so that a repetition counts once."""
    async with runtime.db.tenant(part.tenant_id) as session:
        rows = await session.execute(
            select(MessageRow.state, func.count())
            .where(MessageRow.mailbox_id == part.mailbox_id, MessageRow.backfill_run == part.run_id)
            .group_by(MessageRow.state)
        )
        by_state = {str(state): int(count) for state, count in rows}
    changed = (MessageState.PROTECTED, MessageState.DRY_RUN, MessageState.RESTORED, MessageState.RESTORING)
    return {
        "done": sum(by_state.get(state.value, 0) for state in changed),
        "skipped": sum(by_state.get(state.value, 0) for state in (MessageState.SKIPPED, MessageState.GONE)),
        "failed": by_state.get(MessageState.FAILED.value, 0),
    }


async def _keep(runtime: Runtime, part: BackfillPart, **values: object) -> None:
    """Store where the part stands, unless it was cancelled meanwhile."""
    async with runtime.db.tenant(part.tenant_id) as session:
        await session.execute(
            update(BackfillPart)
            .where(
                BackfillPart.run_id == part.run_id,
                BackfillPart.mailbox_id == part.mailbox_id,
                BackfillPart.state.in_(LIVE_PARTS),
            )
            .values(**values, updated_at=runtime.clock())
        )


async def _again(runtime: Runtime, session: AsyncSession, part: BackfillPart, seconds: float = 0.0) -> None:
    at = runtime.clock() + timedelta(seconds=seconds) if seconds else None
    await defer_backfill(session, part.tenant_id, part.mailbox_id, part.run_id, at=at)


async def _put_off(runtime: Runtime, part: BackfillPart, seconds: float, error: str, *, quiet: bool = False) -> None:
    await _keep(runtime, part, error=error[:500], failures=0 if quiet else part.failures + 1)
    async with runtime.db.tenant(part.tenant_id) as session:
        if quiet:
            at = runtime.clock() + timedelta(seconds=seconds)
            await session.execute(update(MailboxRow).where(MailboxRow.id == part.mailbox_id).values(not_before=at))
        await _again(runtime, session, part, seconds)


async def _start_over(runtime: Runtime, part: BackfillPart, error: str) -> None:
    """The provider forgot the cursor: list again. What is done is in the journal and is not done again."""
    values: dict[str, object] = {"cursor": None, "next_cursor": None, "pending": [], "last_page": False}
    if part.state == "running":
        values["looked"] = 0
    else:
        values["total"] = 0
    await _keep(runtime, part, **values)
    await _put_off(runtime, part, _BACKOFF_FIRST, error)


async def _end_part(runtime: Runtime, part: BackfillPart, state: str, error: str) -> None:
    await _keep(runtime, part, state=state, error=error[:500])
    async with runtime.db.tenant(part.tenant_id) as session:
        run = await session.get(BackfillRun, (part.tenant_id, part.run_id), with_for_update=True)
        if run is None or run.state not in LIVE:
            return
        live = select(BackfillPart.mailbox_id).where(
            BackfillPart.run_id == part.run_id, BackfillPart.state.in_(LIVE_PARTS)
        )
        if await session.scalar(live.limit(1)) is None:
            run.state, run.finished_at = "done", runtime.clock()


async def take_up_backfills(runtime: Runtime, tenant_id: uuid.UUID) -> None:
    """Defer the next step of every part under way: a job that was lost is found again."""
    async with runtime.db.tenant(tenant_id) as session:
        parts = await session.scalars(select(BackfillPart).where(BackfillPart.state.in_(LIVE_PARTS)))
        for part in list(parts):
            await defer_backfill(session, tenant_id, part.mailbox_id, part.run_id)
