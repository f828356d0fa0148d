"""The worker's part of a backfill: a mailbox is counted, then protected a few messages at a time.

See :mod:`app.protection.backfill` for what a run is. Each step stores where the part stands and defers the next
below everything else of the mailbox.
"""

from __future__ import annotations

import dataclasses
import uuid
from datetime import timedelta

import structlog
from sqlalchemy import func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.at_once import within
from app.protection import journal
from app.protection.backfill import LIVE, LIVE_PARTS
from app.protection.batch import protect_all
from app.protection.models import BackfillPart, BackfillRun, MailboxRow, MessageRow
from app.protection.queue import defer_backfill, defer_sync
from app.protection.runtime import Runtime
from app.protection.states import UNFINISHED, MessageState
from app.protection.sync import open_work, stop_tenant
from app.protection.work import MailboxWork
from app.tenants.accounts import TenantStatus
from app.tenants.models import Tenant
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

CHUNK = 10
"""Messages per job: at Gmail's quota about ten seconds, the longest that a fresh message waits behind it."""

_COUNT_PAGES_PER_JOB = 20
_BACKOFF_FIRST = 2.0
_BACKOFF_CAP = 300.0
_TENANT_AWAY_SECONDS = 60.0
_REST_SECONDS = 5.0


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
        found = await within(session, journal.registration(runtime, part.tenant_id, part.mailbox_id, chunk))
        pending = journal.pending(found)
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
