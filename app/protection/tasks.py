"""The worker's jobs. Each is idempotent, short, and safe to lose at any instant."""

from __future__ import annotations

import random
import uuid
from datetime import timedelta

import procrastinate
import psycopg
import structlog
from sqlalchemy import delete, select, update
from sqlalchemy.exc import DisconnectionError, InterfaceError, OperationalError

from app.policy.service import load_snapshot
from app.protection import queue, subscriptions
from app.protection.models import MailboxRow, MessageRow
from app.protection.protect import STOPS_THE_MAILBOX, MailboxWork
from app.protection.restore import run_mailbox
from app.protection.runtime import Runtime, grant_of, mailbox_row, to_mailbox
from app.protection.service import import_mailboxes
from app.protection.sync import open_work, stop_tenant, sync_mailbox
from app.tenants.models import Domain, Session, Tenant, UsedState
from connectors.base.errors import AccessRevoked, ConnectorError, PermissionMissing, Throttled, Transient

log = structlog.get_logger()

_RETRY_SECONDS = 5.0
_POLL_SPREAD = 0.5

DATABASE_AWAY = procrastinate.RetryStrategy(
    max_attempts=100,
    wait=1,
    linear_wait=1,
    retry_exceptions={OperationalError, InterfaceError, DisconnectionError, psycopg.OperationalError, OSError},
)
"""A job that met a database that was away is tried again, each time a second later, for more than an hour."""


def register(app: procrastinate.App, runtime: Runtime) -> None:
    """Give the Procrastinate application its tasks, bound to this process's resources."""

    @app.task(name=queue.SYNC, retry=DATABASE_AWAY)
    async def sync(tenant_id: str, mailbox_id: int) -> None:
        report = await sync_mailbox(runtime, uuid.UUID(tenant_id), mailbox_id)
        log.debug("mailbox.synced", mailbox=mailbox_id, looked=report.looked, stopped=report.stopped)

    @app.task(name=queue.START, retry=DATABASE_AWAY)
    async def start(tenant_id: str, mailbox_id: int) -> None:
        await start_mailbox(runtime, uuid.UUID(tenant_id), mailbox_id)

    @app.task(name=queue.STOP, retry=DATABASE_AWAY)
    async def stop(tenant_id: str, mailbox_id: int) -> None:
        await stop_mailbox(runtime, uuid.UUID(tenant_id), mailbox_id)

    @app.task(name=queue.RENEW, retry=DATABASE_AWAY)
    async def renew_one(tenant_id: str, mailbox_id: int, anew: bool) -> None:
        await renew_mailbox(runtime, uuid.UUID(tenant_id), mailbox_id, anew=anew)

    @app.task(name=queue.RESTORE, retry=DATABASE_AWAY)
    async def restore(tenant_id: str, mailbox_id: int, run_id: int) -> None:
        await restore_mailbox(runtime, uuid.UUID(tenant_id), mailbox_id, run_id)

    @app.task(name=queue.HOUSEKEEPING, retry=DATABASE_AWAY)
    async def housekeeping(tenant_id: str, what: str) -> None:
        await HOUSEKEEPERS[what](runtime, uuid.UUID(tenant_id))


async def start_mailbox(runtime: Runtime, tenant_id: uuid.UUID, mailbox_id: int) -> None:
    """Subscribe a mailbox and look at it. Where subscribing fails, polling still protects it."""
    opened = await open_work(runtime, tenant_id, mailbox_id)
    if isinstance(opened, str):
        return
    work, _ = opened
    try:
        await subscriptions.ensure(runtime, work)
    except (AccessRevoked, PermissionMissing) as error:
        status = "revoked" if isinstance(error, AccessRevoked) else "blocked"
        await stop_tenant(runtime, tenant_id, status, str(error))
        return
    except ConnectorError as error:
        log.warning("subscription.failed", mailbox=mailbox_id, error=str(error))
        async with runtime.db.tenant(tenant_id) as session:
            await session.execute(
                update(MailboxRow).where(MailboxRow.id == mailbox_id).values(error=f"subscription: {error}"[:500])
            )
    async with runtime.db.tenant(tenant_id) as session:
        await queue.defer_sync(session, tenant_id, mailbox_id, notified=True)


async def renew_mailbox(runtime: Runtime, tenant_id: uuid.UUID, mailbox_id: int, *, anew: bool) -> None:
    """Renew a subscription because the provider said so; what was missed meanwhile is looked up."""
    opened = await open_work(runtime, tenant_id, mailbox_id)
    if isinstance(opened, str):
        return
    try:
        await subscriptions.renew_now(runtime, opened[0], anew=anew)
    except ConnectorError as error:
        # The hourly renewal tries again; polling covers the gap.
        log.warning("subscription.renew_failed", mailbox=mailbox_id, error=str(error))
    async with runtime.db.tenant(tenant_id) as session:
        await queue.defer_sync(session, tenant_id, mailbox_id, notified=True)


async def any_work(runtime: Runtime, tenant_id: uuid.UUID, mailbox_id: int) -> MailboxWork | None:
    """A mailbox's work even where protection is off: for stopping and restoring."""
    async with runtime.db.tenant(tenant_id) as session:
        grant, _ = await grant_of(session, tenant_id)
        row = await mailbox_row(session, mailbox_id)
        if row is None:
            return None
        policy = await load_snapshot(session, tenant_id)
    return MailboxWork(
        grant=grant,
        mailbox=to_mailbox(row),
        mailbox_id=mailbox_id,
        connector=runtime.providers.connector(grant),
        policy=policy,
        since=runtime.clock(),
        dry_run=False,
    )


async def stop_mailbox(runtime: Runtime, tenant_id: uuid.UUID, mailbox_id: int) -> None:
    """Unsubscribe a mailbox whose protection was switched off."""
    work = await any_work(runtime, tenant_id, mailbox_id)
    if work is None:
        return
    try:
        await subscriptions.stop(runtime, work)
    except ConnectorError as error:
        # It ends by itself within days, and hints for an unprotected mailbox do nothing.
        log.warning("subscription.stop_failed", mailbox=mailbox_id, error=str(error))


async def restore_mailbox(runtime: Runtime, tenant_id: uuid.UUID, mailbox_id: int, run_id: int) -> None:
    """One mailbox's part of a restore; put off where the provider is busy or away."""
    work = await any_work(runtime, tenant_id, mailbox_id)
    if work is None:
        return
    try:
        await run_mailbox(runtime, work, run_id)
    except STOPS_THE_MAILBOX as error:
        delay = error.retry_after if isinstance(error, Throttled) else _RETRY_SECONDS
        if not isinstance(error, Transient):
            delay = 300.0
        async with runtime.db.tenant(tenant_id) as session:
            at = runtime.clock() + timedelta(seconds=delay)
            await queue.defer_restore(session, tenant_id, mailbox_id, run_id, at=at)


async def _protected_mailboxes(runtime: Runtime, tenant_id: uuid.UUID) -> list[int]:
    async with runtime.db.tenant(tenant_id) as session:
        tenant = await session.get(Tenant, tenant_id)
        if tenant is None or tenant.status != "active":
            return []
        rows = await session.scalars(
            select(MailboxRow.id)
            .join(Domain, (Domain.tenant_id == MailboxRow.tenant_id) & (Domain.name == MailboxRow.domain))
            .where(Domain.protected, MailboxRow.enabled, ~MailboxRow.opted_out)
        )
        return list(rows)


async def poll(runtime: Runtime, tenant_id: uuid.UUID) -> None:
    """Look at every protected mailbox without waiting for a notification, spread over half the interval."""
    mailboxes = await _protected_mailboxes(runtime, tenant_id)
    spread = runtime.settings.poll_seconds * _POLL_SPREAD
    async with runtime.db.tenant(tenant_id) as session:
        for mailbox_id in mailboxes:
            # Jitter against thundering herds; not a secret.
            at = runtime.clock() + timedelta(seconds=random.uniform(0, spread))  # noqa: S311
            await queue.defer_sync(session, tenant_id, mailbox_id, at=at)


async def renew(runtime: Runtime, tenant_id: uuid.UUID) -> None:
    """Renew subscriptions that are due; a mailbox without one gets one."""
    for mailbox_id in await _protected_mailboxes(runtime, tenant_id):
        opened = await open_work(runtime, tenant_id, mailbox_id)
        if isinstance(opened, str):
            continue
        try:
            await subscriptions.ensure(runtime, opened[0])
        except ConnectorError as error:
            log.warning("subscription.renew_failed", mailbox=mailbox_id, error=str(error))


async def probe(runtime: Runtime, tenant_id: uuid.UUID) -> None:
    """Check the grant and read the directory again: new mailboxes are protected, a lost grant is noticed."""
    async with runtime.db.tenant(tenant_id) as session:
        grant, status = await grant_of(session, tenant_id)
    if status not in ("active", "blocked", "revoked"):
        return
    checks = await runtime.providers.connector(grant).check_access()
    async with runtime.db.tenant(tenant_id) as session:
        tenant = await session.get(Tenant, tenant_id)
        if tenant is None:
            return
        tenant.checks = [
            {
                "key": check.key,
                "status": check.status.value,
                "summary": check.summary,
                "remedy": check.remedy,
                "link": check.link,
            }
            for check in checks
        ]
        tenant.checked_at = runtime.clock()
    if status == "active":
        try:
            await import_mailboxes(runtime.db, runtime.providers, grant)
        except ConnectorError as error:
            log.warning("directory.not_read", tenant=str(tenant_id), error=str(error))


async def purge(runtime: Runtime, tenant_id: uuid.UUID) -> None:
    """Remove what has outlived its time: ended sessions, spent states, undo records past the restore period."""
    now = runtime.clock()
    async with runtime.db.tenant(tenant_id) as session:
        await session.execute(delete(Session).where(Session.expires_at < now))
        await session.execute(delete(UsedState).where(UsedState.expires_at < now))
        await session.execute(
            update(MessageRow)
            .where(
                MessageRow.undo_sealed.is_not(None),
                MessageRow.finished_at < now - timedelta(days=runtime.settings.restore_days),
            )
            .values(undo_sealed=None)
        )


HOUSEKEEPERS = {"poll": poll, "renew": renew, "probe": probe, "purge": purge}
"""Scheduled work by name."""
