"""Looking at one mailbox: what the provider says has changed since the cursor, each message to its end.

The provider's cursor is the durable log. It moves only when every message up to it has reached a final state or
rests in the journal until its next try, so a worker may die anywhere: the next run sees the same page again, and
the journal knows what of it is done. Notifications are hints that only make this run sooner.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from sqlalchemy import update

from app.audit.service import record
from app.kit.at_once import Statement, statement
from app.protection import journal
from app.protection.batch import Turn, protect_all, protect_page
from app.protection.mail_alerts import mail_of_stop
from app.protection.models import MailboxRow
from app.protection.opening import read_mailbox
from app.protection.protect import protect_one
from app.protection.queue import defer_sync, looking_again, notified, run_with_looks
from app.protection.reach import any_work
from app.protection.restore import resume_restore
from app.protection.runtime import Runtime
from app.protection.states import LeftOut, MessageState
from app.protection.work import STOPS_THE_MAILBOX, MailboxWork
from app.tenants.accounts import TenantStatus
from app.tenants.actor import system_actor
from app.tenants.models import Tenant
from connectors.base.errors import (
    AccessRevoked,
    CursorExpired,
    MailboxOutOfScope,
    MailboxUnavailable,
    MisconfiguredClient,
    PermissionMissing,
    Throttled,
    Transient,
)
from connectors.base.types import ChangePage, ReplaceMode

log = structlog.get_logger()

_SCOPE_AGAIN = timedelta(hours=1)
HALF_WRITTEN_AGAIN = timedelta(seconds=30)
RESYNC_MARGIN = timedelta(minutes=10)
_SOON = timedelta(seconds=0.2)
_WRITTEN_FOR = (TenantStatus.ACTIVE, TenantStatus.REVOKED, TenantStatus.BLOCKED)
_LOOK_AFTER_COPIES = timedelta(seconds=1.2)
_ADVANCE = """
UPDATE mailboxes SET cursor = %s, cursor_at = %s, last_synced_at = %s, error = '', failures = 0, not_before = NULL,
    left_out = ''
WHERE tenant_id = %s AND id = %s
"""
_BACKOFF_FIRST = 2.0
_BACKOFF_CAP = 300.0


@dataclass(frozen=True, slots=True)
class SyncReport:
    """What one run did.

    Attributes:
        looked: Changes seen.
        more: Whether another job was deferred at once because there is more.
        stopped: Why it ended early, or empty.
    """

    looked: int
    more: bool = False
    stopped: str = ""


async def open_work(runtime: Runtime, tenant_id: uuid.UUID, mailbox_id: int) -> tuple[MailboxWork, MailboxRow] | str:
    """Everything needed to work on a mailbox, or why it is not to be worked on."""
    opened = await read_mailbox(runtime, tenant_id, mailbox_id)
    if why := opened.closed():
        return why
    assert opened.mailbox is not None
    return opened.work(runtime), opened.mailbox


async def sync_mailbox(runtime: Runtime, tenant_id: uuid.UUID, mailbox_id: int) -> SyncReport:
    """Bring one mailbox up to date. Runs under the mailbox's lock; never raises for the provider's failures."""
    opened = await read_mailbox(runtime, tenant_id, mailbox_id)
    mailbox, why = opened.mailbox, opened.closed()
    if mailbox is None or why:
        await finish_half_written(runtime, tenant_id, mailbox_id)
        return SyncReport(0, stopped=why)
    work = opened.work(runtime)
    if mailbox.not_before is not None and mailbox.not_before > runtime.clock():
        await _again(runtime, work, mailbox.not_before)
        return SyncReport(0, stopped="the provider asked for quiet")
    looked, turn, cursor = 0, Turn(runtime), mailbox.cursor
    announced = _was_just_announced(runtime, mailbox)
    try:
        page = await _changes(work, cursor)
        retry_at = await _take_up(runtime, work, turn, opened.unfinished)
        while True:
            new = [change.ref.id for change in page.changes if not change.removed]
            if not await protect_page(runtime, work, new, turn):
                return await _go_on(runtime, work, looked)
            looked += len(page.changes)
            if not page.more:
                # Written together with the end of the look.
                break
            await runtime.db.at_once(tenant_id, _advance(runtime, work, page))
            if turn.is_over():
                return await _go_on(runtime, work, looked)
            page = await _changes(work, page.cursor)
    except Throttled as error:
        # No failure: the provider says when to go on.
        await _wait(runtime, work, error.retry_after, str(error), quiet=True)
        return SyncReport(looked, stopped="throttled")
    except Transient as error:
        # Messages that came to an end show that the mailbox works: only what fails in a row makes it wait longer.
        before = 0 if turn.done > turn.aside else mailbox.failures
        delay = min(_BACKOFF_FIRST * 2 ** min(before, 10), _BACKOFF_CAP)
        await _wait(runtime, work, delay, str(error), failures=before + 1)
        return SyncReport(looked, stopped="transient")
    except MailboxOutOfScope:
        await _out_of_scope(runtime, work)
        return SyncReport(looked, stopped="mailbox out of scope")
    except MailboxUnavailable as error:
        await _mailbox_trouble(runtime, work, str(error))
        return SyncReport(looked, stopped="mailbox unavailable")
    except MisconfiguredClient as error:
        log.error("client.misconfigured", provider=work.grant.provider.value, error=str(error))
        await _wait(runtime, work, 60.0, str(error), failures=mailbox.failures + 1)
        return SyncReport(looked, stopped="misconfigured")
    except (AccessRevoked, PermissionMissing) as error:
        status = "revoked" if isinstance(error, AccessRevoked) else "blocked"
        await stop_tenant(runtime, tenant_id, status, str(error))
        return SyncReport(looked, stopped=status)
    then: tuple[Statement, ...] = ()
    if not turn.aside and retry_at is None and _drops_notifications(work) and (turn.done or announced):
        # Our own copies are changes too, and Gmail drops notifications within a second of another one: mail that came
        # within it is not announced (https://developers.google.com/workspace/gmail/api/guides/push, "Limitations").
        then = (looking_again(tenant_id, mailbox_id, runtime.clock() + _LOOK_AFTER_COPIES),)
    await run_with_looks(runtime.db, tenant_id, _advance(runtime, work, page), *then)
    if turn.aside or retry_at is not None:
        await _try_again_later(runtime, work)
    return SyncReport(looked)


def _drops_notifications(work: MailboxWork) -> bool:
    """Whether the provider keeps silent about what happens just after something else (Gmail)."""
    return work.connector.capabilities.replace_mode is ReplaceMode.INSERT_VERIFY_REMOVE


def _was_just_announced(runtime: Runtime, mailbox: MailboxRow) -> bool:
    """Whether something was notified, or the subscription made, so shortly before that more may go unannounced."""
    notified = mailbox.last_notified_at
    return mailbox.cursor is None or (notified is not None and runtime.clock() - notified < _LOOK_AFTER_COPIES)


async def finish_half_written(runtime: Runtime, tenant_id: uuid.UUID, mailbox_id: int) -> None:
    """Bring messages to their end whose copy was made already, even where protection was paused or switched off.

    Otherwise the person would see them twice until it is on again.
    """
    async with runtime.db.tenant(tenant_id) as session:
        rows = await journal.half_written(session, mailbox_id)
    if not rows:
        return
    work = await any_work(runtime, tenant_id, mailbox_id)
    if work is None:
        return
    try:
        for message in rows:
            await protect_one(runtime, work, message)
    except STOPS_THE_MAILBOX as error:
        log.warning("mailbox.half_written", mailbox=mailbox_id, error=str(error))
        async with runtime.db.tenant(tenant_id) as session:
            await defer_sync(session, tenant_id, mailbox_id, at=runtime.clock() + HALF_WRITTEN_AGAIN)


async def _go_on(runtime: Runtime, work: MailboxWork, looked: int) -> SyncReport:
    """The turn is over and there is more: the tenant's other mailboxes and the other tenants come first."""
    await run_with_looks(runtime.db, work.tenant_id, notified(work.tenant_id, [work.mailbox_id]))
    return SyncReport(looked, more=True)


async def _try_again_later(runtime: Runtime, work: MailboxWork) -> None:
    """Look at the mailbox when the first of the messages that were set aside is due."""
    (rows,) = await runtime.db.at_once(work.tenant_id, journal.asking_unfinished(work.tenant_id, work.mailbox_id))
    if rest := journal.unfinished(rows):
        now = runtime.clock()
        at = min(message.due or now for message in rest)
        await _again(runtime, work, max(at, now + _SOON))


async def _changes(work: MailboxWork, cursor: str | None) -> ChangePage:
    try:
        return await work.connector.changes(work.mailbox, cursor, work.since)
    except CursorExpired:
        log.info("cursor.expired", tenant=str(work.tenant_id), mailbox=work.mailbox_id)
        return await work.connector.changes(work.mailbox, None, work.since - RESYNC_MARGIN)


async def _take_up(runtime: Runtime, work: MailboxWork, turn: Turn, rows: list[journal.Unfinished]) -> datetime | None:
    """Finish what an earlier run left half way, before anything new; what failed shortly before rests a while.

    Returns:
        When the next of those that are left is due.
    """
    now = runtime.clock()
    due = [row for row in rows if row.due is None or row.due <= now]
    for row in due:
        if row.state == MessageState.RESTORING:
            await resume_restore(runtime, work, row.id)
    pending = [
        journal.Pending(row.id, row.external_id, fresh=False) for row in due if row.state != MessageState.RESTORING
    ]
    if not await protect_all(runtime, work, pending, turn):
        return now
    return min((row.due for row in rows if row.due is not None and row.due > now), default=None)


def _advance(runtime: Runtime, work: MailboxWork, page: ChangePage) -> Statement:
    """Moves the cursor behind a page of which every message has come to its end, or aside."""
    now = runtime.clock()
    return statement(_ADVANCE, page.cursor, now, now, work.tenant_id, work.mailbox_id)


async def _again(runtime: Runtime, work: MailboxWork, at: datetime | None) -> None:
    await run_with_looks(runtime.db, work.tenant_id, looking_again(work.tenant_id, work.mailbox_id, at))


async def _wait(
    runtime: Runtime,
    work: MailboxWork,
    seconds: float,
    error: str,
    *,
    quiet: bool = False,
    failures: int | None = None,
) -> None:
    at = runtime.clock() + timedelta(seconds=max(seconds, 0.05))
    async with runtime.db.tenant(work.tenant_id) as session:
        values: dict[str, object] = {"error": error[:500]}
        if failures is not None:
            values["failures"] = failures
        if quiet:
            values["not_before"] = at
        await session.execute(update(MailboxRow).where(MailboxRow.id == work.mailbox_id).values(**values))
        await defer_sync(session, work.tenant_id, work.mailbox_id, at=at)


async def _mailbox_trouble(runtime: Runtime, work: MailboxWork, error: str) -> None:
    async with runtime.db.tenant(work.tenant_id) as session:
        rest = runtime.clock() + timedelta(seconds=runtime.settings.poll_seconds)
        await session.execute(
            update(MailboxRow)
            .where(MailboxRow.id == work.mailbox_id)
            .values(
                error=error[:500],
                failures=MailboxRow.failures + 1,
                left_out=LeftOut.UNAVAILABLE.value,
                not_before=rest,
            )
        )


async def _out_of_scope(runtime: Runtime, work: MailboxWork) -> None:
    """The administrator gave us other mailboxes: nothing is wrong. Looked at again in an hour, it may be given then."""
    async with runtime.db.tenant(work.tenant_id) as session:
        values = {
            "error": "",
            "failures": 0,
            "left_out": LeftOut.OUT_OF_SCOPE.value,
            "not_before": runtime.clock() + _SCOPE_AGAIN,
        }
        await session.execute(update(MailboxRow).where(MailboxRow.id == work.mailbox_id).values(**values))


async def stop_tenant(runtime: Runtime, tenant_id: uuid.UUID, status: str, error: str) -> None:
    """Stop writing for a tenant whose grant is gone or lacks a permission; said once, mail left as it is.

    Args:
        runtime: The process.
        tenant_id: Whose.
        status: ``revoked`` or ``blocked``.
        error: What the provider said.
    """
    async with runtime.db.tenant(tenant_id) as session:
        tenant = await session.get(Tenant, tenant_id, with_for_update=True)
        # A tenant that was paused meanwhile, or is leaving, stays so: renewing the grant would switch it on again.
        if tenant is None or tenant.status == status or tenant.status not in _WRITTEN_FOR:
            return
        tenant.status = status
        await record(
            session, system_actor(tenant_id, "Postern"), f"tenant.{status}", tenant.name, {"error": error[:500]}
        )
        await mail_of_stop(session, tenant, runtime.clock())
    log.warning("tenant.stopped", tenant=str(tenant_id), status=status)
