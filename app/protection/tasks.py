"""The worker's jobs. Each is idempotent, short, and safe to lose at any instant."""

from __future__ import annotations

import uuid
from datetime import timedelta

import procrastinate
import structlog
from sqlalchemy import Select, delete, func, or_, select, update

from app.protection import feed_tasks, long_tasks, onboarding, queue, subscriptions
from app.protection.again import Again
from app.protection.copying import with_choice
from app.protection.incident_retention import IN_BATCH, forget_old_incidents
from app.protection.models import MailboxRow, MessageRow, SubscriptionRow
from app.protection.reach import any_work, protected_mailboxes
from app.protection.restore import run_mailbox
from app.protection.roster import refresh_mailboxes
from app.protection.runtime import Runtime, grant_of
from app.protection.states import LeftOut
from app.protection.sync import open_work, stop_tenant, sync_mailbox
from app.protection.turn import take_up_turn
from app.protection.work import STOPS_THE_MAILBOX
from app.tenants.models import Domain, Session, Tenant, UsedState
from connectors.base.errors import (
    AccessRevoked,
    ConnectorError,
    MailboxOutOfScope,
    PermissionMissing,
    Throttled,
    Transient,
)
from connectors.base.types import CheckStatus

log = structlog.get_logger()

_RETRY_SECONDS = 5.0
_SUBSCRIBE_AGAIN_SECONDS = 60.0
POLLS_PER_INTERVAL = 5
"""A poll takes its share of the mailboxes so many times in ``poll_seconds``."""


def register(app: procrastinate.App, runtime: Runtime) -> None:
    """Give the Procrastinate application its tasks, bound to this process's resources."""
    again = Again()

    @app.task(name=queue.SYNC, retry=again)
    async def sync(tenant_id: str, mailbox_id: int) -> None:
        report = await sync_mailbox(runtime, uuid.UUID(tenant_id), mailbox_id)
        log.debug("mailbox.synced", mailbox=mailbox_id, looked=report.looked, stopped=report.stopped)

    @app.task(name=queue.START, retry=again)
    async def start(tenant_id: str, mailbox_id: int) -> None:
        await start_mailbox(runtime, uuid.UUID(tenant_id), mailbox_id)

    @app.task(name=queue.STOP, retry=again)
    async def stop(tenant_id: str, mailbox_id: int) -> None:
        await stop_mailbox(runtime, uuid.UUID(tenant_id), mailbox_id)

    @app.task(name=queue.RENEW, retry=again)
    async def renew_one(tenant_id: str, mailbox_id: int, anew: bool) -> None:
        await renew_mailbox(runtime, uuid.UUID(tenant_id), mailbox_id, anew=anew)

    @app.task(name=queue.SUBSCRIBE, retry=again)
    async def subscribe_one(tenant_id: str, mailbox_id: int) -> None:
        await subscribe_mailbox(runtime, uuid.UUID(tenant_id), mailbox_id)

    @app.task(name=queue.RESTORE, retry=again)
    async def restore(tenant_id: str, mailbox_id: int, run_id: int) -> None:
        await restore_mailbox(runtime, uuid.UUID(tenant_id), mailbox_id, run_id)

    @app.task(name=queue.HOUSEKEEPING, retry=again)
    async def housekeeping(tenant_id: str, what: str) -> None:
        await HOUSEKEEPERS[what](runtime, uuid.UUID(tenant_id))

    long_tasks.register(app, runtime, again)
    feed_tasks.register(app, runtime, again)


async def start_mailbox(runtime: Runtime, tenant_id: uuid.UUID, mailbox_id: int) -> None:
    """Subscribe a mailbox and look at it. Where subscribing fails, polling still protects it."""
    opened = await open_work(runtime, tenant_id, mailbox_id)
    if isinstance(opened, str):
        return
    work, _ = opened
    try:
        await subscriptions.ensure(runtime, work)
    except (AccessRevoked, PermissionMissing) as error:
        await stop_tenant(runtime, tenant_id, _stopped_by(error), str(error))
        return
    except MailboxOutOfScope as error:
        log.info("subscription.out_of_scope", mailbox=mailbox_id, error=str(error))
    except ConnectorError as error:
        log.warning("subscription.failed", mailbox=mailbox_id, error=str(error))
        async with runtime.db.tenant(tenant_id) as session:
            await session.execute(
                update(MailboxRow).where(MailboxRow.id == mailbox_id).values(error=f"subscription: {error}"[:500])
            )
        await queue.defer_subscribes(runtime.db, tenant_id, [(mailbox_id, _SUBSCRIBE_AGAIN_SECONDS)])
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


async def stop_mailbox(runtime: Runtime, tenant_id: uuid.UUID, mailbox_id: int) -> None:
    """Unsubscribe a mailbox whose protection was switched off."""
    work = await any_work(runtime, tenant_id, mailbox_id)
    if work is None:
        return
    async with runtime.db.tenant(tenant_id) as session:
        # What is half written is finished by a sync, under the mailbox's lock: this job holds the subscription's.
        await queue.defer_sync(session, tenant_id, mailbox_id)
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


def _protected_query(tenant_id: uuid.UUID) -> Select[int]:
    """Ids of the mailboxes that are to be looked at; none unless the tenant is active."""
    return (
        select(MailboxRow.id)
        .join(Domain, (Domain.tenant_id == MailboxRow.tenant_id) & (Domain.name == MailboxRow.domain))
        .join(Tenant, Tenant.tenant_id == MailboxRow.tenant_id)
        .where(
            Tenant.tenant_id == tenant_id,
            Tenant.status == "active",
            Domain.protected,
            MailboxRow.enabled,
            ~MailboxRow.opted_out,
        )
    )


async def poll(runtime: Runtime, tenant_id: uuid.UUID) -> None:
    """Look at protected mailboxes that were not looked at for a poll interval.

    It runs several times in an interval and takes only its share each time, so that the looks are spread evenly
    however they began.
    """
    now = runtime.clock()
    interval = timedelta(seconds=runtime.settings.poll_seconds)
    mailboxes = _protected_query(tenant_id)
    async with runtime.db.tenant(tenant_id) as session:
        total = await session.scalar(select(func.count()).select_from(mailboxes.subquery())) or 0
        due = list(
            await session.scalars(
                mailboxes.where(
                    or_(MailboxRow.last_synced_at.is_(None), MailboxRow.last_synced_at <= now - interval),
                    or_(MailboxRow.not_before.is_(None), MailboxRow.not_before <= now),
                )
                .order_by(MailboxRow.last_synced_at.nulls_first())
                .limit(-(-total * 5 // (4 * POLLS_PER_INTERVAL)))
            )
        )
    await queue.defer_syncs(runtime.db, tenant_id, due)


async def renew(runtime: Runtime, tenant_id: uuid.UUID) -> None:
    """Have subscriptions renewed that are due, spread over the time until the next round.

    A mailbox without a subscription gets one. When one is due differs a little from mailbox to mailbox, so that
    those made together are not renewed together for ever.
    """
    now = runtime.clock()
    async with runtime.db.tenant(tenant_id) as session:
        grant, _ = await grant_of(session, tenant_id)
        life = runtime.providers.connector(grant).capabilities.subscription_ttl
        rows = await session.scalars(
            _protected_query(tenant_id)
            .outerjoin(
                SubscriptionRow,
                (SubscriptionRow.tenant_id == MailboxRow.tenant_id) & (SubscriptionRow.mailbox_id == MailboxRow.id),
            )
            .where(subscriptions.due(now, life), MailboxRow.left_out != LeftOut.OUT_OF_SCOPE)
        )
        due = list(rows)
    step = subscriptions.ROUND_SECONDS / max(len(due), 1)
    await queue.defer_subscribes(
        runtime.db, tenant_id, [(mailbox_id, place * step) for place, mailbox_id in enumerate(due)]
    )


async def subscribe_mailbox(runtime: Runtime, tenant_id: uuid.UUID, mailbox_id: int) -> None:
    """See to one mailbox's subscription: make it, or renew it where it is due."""
    opened = await open_work(runtime, tenant_id, mailbox_id)
    if isinstance(opened, str):
        return
    try:
        await subscriptions.ensure(runtime, opened[0])
    except (AccessRevoked, PermissionMissing) as error:
        await stop_tenant(runtime, tenant_id, _stopped_by(error), str(error))
    except ConnectorError as error:
        # The next round tries again; polling covers the gap.
        log.warning("subscription.renew_failed", mailbox=mailbox_id, error=str(error))


def _stopped_by(error: AccessRevoked | PermissionMissing) -> str:
    return "revoked" if isinstance(error, AccessRevoked) else "blocked"


async def probe(runtime: Runtime, tenant_id: uuid.UUID) -> None:
    """Check the grant and have the directory read again: new mailboxes are protected, a lost grant is noticed."""
    async with runtime.db.tenant(tenant_id) as session:
        grant, status = await grant_of(session, tenant_id)
        known = await protected_mailboxes(session)
    if status == "leaving":
        return
    checks = await onboarding.probe(runtime.providers, grant, known)
    async with runtime.db.tenant(tenant_id) as session:
        tenant = await session.get(Tenant, tenant_id)
        if tenant is None:
            return
        tenant.checks = onboarding.checks_to_json(with_choice(checks, tenant.settings))
        tenant.checked_at = runtime.clock()
    lost = next((check for check in checks if check.vital and check.status is CheckStatus.FAILED), None)
    if lost is not None:
        await stop_tenant(runtime, tenant_id, "blocked", lost.summary)
    await refresh_mailboxes(runtime, tenant_id)


async def purge(runtime: Runtime, tenant_id: uuid.UUID) -> None:
    """Remove what has outlived its time: ended sessions, spent states, undo records past the restore period, old
    incidents."""
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
    days = max(runtime.settings.incident_days, runtime.settings.turn_days)
    removed = IN_BATCH
    while removed >= IN_BATCH and not runtime.stopping.is_set():
        async with runtime.db.tenant(tenant_id) as session:
            removed = await forget_old_incidents(session, now, days)


HOUSEKEEPERS = {
    "poll": poll,
    "renew": renew,
    "probe": probe,
    "purge": purge,
    "take_up": long_tasks.take_up,
    "turn": take_up_turn,
}
"""Scheduled work by name."""
