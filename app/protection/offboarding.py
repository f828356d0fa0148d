"""A tenant leaves: everything is restored, then everything that is kept of it is deleted, and a receipt remains (C6).

::

    stopping ── subscriptions ended, half-written mail finished, quarantine released ──> restoring
    restoring ── every link is back ──> deleting ──> (the tenant is gone, its receipt is done)
        └── some links could not be taken back ──> stuck ── try again ──> restoring
                                                     └── "delete anyway" ──> deleting

Each step is one job that looks at what is true and defers the next, so it may be killed at any point. The deletion
is one transaction, together with the receipt: either all is there, or nothing but the receipt.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog
from sqlalchemy import func, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.audit.service import record
from app.kit.errors import Conflict, NotFound, Refused
from app.protection import journal, subscriptions
from app.protection.backfill import LIVE, LIVE_PARTS
from app.protection.batch import protect_all
from app.protection.models import (
    BackfillPart,
    BackfillRun,
    MailboxRow,
    MessageMove,
    MessageRow,
    Offboarding,
    OffboardingReceipt,
    RestoreRun,
    SubscriptionRow,
)
from app.protection.quarantine import release_all
from app.protection.queue import defer_drain, defer_offboard
from app.protection.reach import any_work
from app.protection.receipt import write_receipt
from app.protection.runtime import Runtime
from app.protection.service import request_restore
from app.protection.states import MessageState
from app.tenants.accounts import TenantStatus
from app.tenants.actor import Actor, Permission, system_actor
from app.tenants.models import Tenant
from connectors.base.errors import ConnectorError, Throttled, Transient

log = structlog.get_logger()

CARRIES_LINKS = (MessageState.WRITING.value, MessageState.PROTECTED.value, MessageState.RESTORING.value)
"""States in which a message may have links of ours in the mailbox."""

UNDER_WAY = ("stopping", "restoring", "stuck", "deleting")
_STEP_SECONDS = 2.0
_RETRY_SECONDS = 5.0
_SWEEP_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class OffboardingExtent:
    """What leaving would touch, in numbers.

    Attributes:
        mailboxes: Known mailboxes.
        to_restore: Messages whose original links would be given back.
        quarantined: Messages that would be released from quarantine.
        messages: Journaled messages whose records would be deleted.
        clicks: Click records that would be deleted.
        people: Accounts of the console that would be deleted.
    """

    mailboxes: int
    to_restore: int
    quarantined: int
    messages: int
    clicks: int
    people: int


async def offboarding_extent(session: AsyncSession, actor: Actor) -> OffboardingExtent:
    """How much leaving would touch.

    Raises:
        Forbidden: Only owners may ask.
    """
    actor.require(Permission.MANAGE_PEOPLE)
    moved = MessageMove.state.in_(("asked", "moving", "moved", "releasing")) & (MessageMove.place == "quarantine")
    return OffboardingExtent(
        mailboxes=await _count(session, select(func.count()).select_from(MailboxRow)),
        to_restore=await not_restored(session),
        quarantined=await _count(session, select(func.count()).select_from(MessageMove).where(moved)),
        messages=await _count(session, select(func.count()).select_from(MessageRow)),
        clicks=await _count(session, text("SELECT count(*) FROM clicks")),
        people=await _count(session, text("SELECT count(*) FROM users")),
    )


async def _count(session: AsyncSession, query: Any) -> int:
    return int(await session.scalar(query) or 0)


async def not_restored(session: AsyncSession) -> int:
    """Messages that may still carry links of ours."""
    return await _count(
        session, select(func.count()).select_from(MessageRow).where(MessageRow.state.in_(CARRIES_LINKS))
    )


async def current_offboarding(session: AsyncSession, actor: Actor) -> Offboarding | None:
    """The tenant's off-boarding, if it is leaving.

    Raises:
        Forbidden: Only owners may look.
    """
    actor.require(Permission.MANAGE_PEOPLE)
    return await session.get(Offboarding, actor.tenant_id)


async def request_offboarding(session: AsyncSession, actor: Actor, confirm: str, now: datetime) -> uuid.UUID:
    """Begin to leave: protection stops, everything is restored, then deleted.

    Args:
        session: The unit of work.
        actor: An owner.
        confirm: The organisation's name, typed.
        now: The time.

    Returns:
        The receipt's id; it works while the tenant is leaving and after it has gone.

    Raises:
        Forbidden: Only owners may ask.
        Refused: The name is not the organisation's.
        Conflict: It is leaving already, or was never connected.
    """
    actor.require(Permission.MANAGE_PEOPLE)
    tenant = await _confirmed(session, actor, confirm)
    if await session.get(Offboarding, actor.tenant_id) is not None:
        raise Conflict("This organisation is leaving already. Nothing was changed.")
    if tenant.status == TenantStatus.ONBOARDING:
        raise Conflict("This organisation is not connected yet. Nothing was changed.")
    receipt_id = uuid.uuid4()
    session.add(OffboardingReceipt(id=receipt_id, state="stopping", requested_at=now, updated_at=now))
    session.add(
        Offboarding(
            tenant_id=actor.tenant_id,
            receipt_id=receipt_id,
            requested_by=actor.label,
            requested_by_id=actor.user_id,
            requested_at=now,
        )
    )
    before, tenant.status = tenant.status, TenantStatus.LEAVING.value
    await session.execute(
        update(BackfillRun).where(BackfillRun.state.in_(LIVE)).values(state="cancelled", finished_at=now)
    )
    await session.execute(update(BackfillPart).where(BackfillPart.state.in_(LIVE_PARTS)).values(state="cancelled"))
    await defer_offboard(session, actor.tenant_id)
    await record(session, actor, "tenant.offboarding_requested", tenant.name, {"before": before})
    return receipt_id


async def _confirmed(session: AsyncSession, actor: Actor, confirm: str) -> Tenant:
    tenant = await session.get(Tenant, actor.tenant_id, with_for_update=True)
    if tenant is None:
        raise NotFound("The organisation is not here any more.")
    if confirm.strip() != tenant.name.strip():
        raise Refused("That is not the organisation's name. Nothing was changed.", "offboarding_name")
    return tenant


async def _leaving(session: AsyncSession, actor: Actor, *states: str) -> Offboarding:
    actor.require(Permission.MANAGE_PEOPLE)
    row = await session.get(Offboarding, actor.tenant_id, with_for_update=True)
    if row is None or row.state not in states:
        raise Conflict("This is not possible now: the organisation is not leaving, or is past that point.")
    return row


async def cancel_offboarding(session: AsyncSession, actor: Actor, now: datetime) -> None:
    """Stay: nothing was deleted, what was restored stays restored, and protection is paused.

    Raises:
        Forbidden: Only owners may ask.
        Conflict: It is not leaving, or the deletion has begun.
    """
    row = await _leaving(session, actor, "stopping", "restoring", "stuck")
    tenant = await session.get_one(Tenant, actor.tenant_id)
    tenant.status = TenantStatus.PAUSED.value
    await session.execute(
        update(RestoreRun)
        .where(RestoreRun.id == row.restore_run, RestoreRun.state.in_(("waiting", "running")))
        .values(state="cancelled", finished_at=now)
    )
    await session.execute(
        update(OffboardingReceipt)
        .where(OffboardingReceipt.id == row.receipt_id)
        .values(state="cancelled", updated_at=now)
    )
    await session.delete(row)
    await record(session, actor, "tenant.offboarding_cancelled", tenant.name)


async def retry_offboarding(session: AsyncSession, actor: Actor) -> None:
    """Try once more to restore what could not be restored.

    Raises:
        Forbidden: Only owners may ask.
        Conflict: It is not stuck.
    """
    row = await _leaving(session, actor, "stuck")
    row.state = "stopping"
    await defer_offboard(session, actor.tenant_id)
    await record(session, actor, "tenant.offboarding_retried", "")


async def delete_anyway(session: AsyncSession, actor: Actor, confirm: str) -> None:
    """Delete although some messages still carry links of ours.

    These links go on leading through the gateway as long as it runs; those too long to carry their target break,
    since their targets are kept with the tenant.

    Args:
        session: The unit of work.
        actor: An owner.
        confirm: The organisation's name, typed.

    Raises:
        Forbidden: Only owners may ask.
        Refused: The name is not the organisation's.
        Conflict: It is not leaving.
    """
    actor.require(Permission.MANAGE_PEOPLE)
    await _confirmed(session, actor, confirm)
    row = await _leaving(session, actor, "stopping", "restoring", "stuck")
    row.delete_anyway, row.state = True, "deleting"
    await defer_offboard(session, actor.tenant_id)
    left = await not_restored(session)
    await record(session, actor, "tenant.delete_anyway", "", {"messages_not_restored": left})


async def offboard_step(runtime: Runtime, tenant_id: uuid.UUID) -> None:
    """Take the next step and defer the one after. Safe to repeat at any point."""
    async with runtime.db.tenant(tenant_id) as session:
        row = await session.get(Offboarding, tenant_id, with_for_update=True)
        if row is None:
            await _sweep(session, tenant_id)
            return
        if row.state == "stopping":
            await _stop(session, row)
        elif row.state == "restoring":
            await _see_restored(session, row)
        if row.state in ("stopping", "restoring"):
            at = runtime.clock() + timedelta(seconds=_STEP_SECONDS)
            await defer_offboard(session, tenant_id, at=at)
        await _tell(session, row, runtime.clock())
        deleting = row.state == "deleting"
    if deleting:
        await _delete(runtime, tenant_id)


async def _stop(session: AsyncSession, row: Offboarding) -> None:
    subscribed = set(await session.scalars(select(SubscriptionRow.mailbox_id)))
    writing = select(MessageRow.mailbox_id).where(MessageRow.state == MessageState.WRITING.value).distinct()
    busy = subscribed | set(await session.scalars(writing))
    for mailbox_id in sorted(busy):
        await defer_drain(session, row.tenant_id, mailbox_id)
    if busy or await release_all(session, "Postern"):
        return
    actor = system_actor(row.tenant_id, "Postern")
    row.restore_run = await request_restore(session, actor, "tenant", "")
    row.state = "restoring"


async def _see_restored(session: AsyncSession, row: Offboarding) -> None:
    run = await session.get(RestoreRun, (row.tenant_id, row.restore_run))
    if run is not None and run.state in ("waiting", "running"):
        return
    left = await not_restored(session)
    # A subscription may have been made by a job that was under way when it began.
    subscribed = await _count(session, select(func.count()).select_from(SubscriptionRow))
    if left:
        row.state = "stuck"
        row.error = f"{left} messages still carry rewritten links. Nothing was deleted."
    else:
        row.state, row.error = ("stopping" if subscribed else "deleting"), ""


async def _tell(session: AsyncSession, row: Offboarding, now: datetime) -> None:
    """Progress in numbers, for the page that works without signing in."""
    run = await session.get(RestoreRun, (row.tenant_id, row.restore_run)) if row.restore_run else None
    progress = {
        "total": run.total if run else 0,
        "restored": run.restored if run else 0,
        "gone": run.gone if run else 0,
        "failed": run.failed if run else 0,
        "left": await not_restored(session),
        "subscriptions_ended": row.subscriptions_ended,
    }
    await session.execute(
        update(OffboardingReceipt)
        .where(OffboardingReceipt.id == row.receipt_id)
        .values(state=row.state, progress=progress, updated_at=now)
    )


_OTHERS_AT_WORK = text(
    "SELECT count(*) FROM procrastinate_jobs WHERE status = 'doing' AND args->>'tenant_id' = :tenant "
    "AND task_name <> 'offboarding.tenant'"
)
_DROP_JOBS = text("DELETE FROM procrastinate_jobs WHERE status <> 'doing' AND args->>'tenant_id' = :tenant")


async def _delete(runtime: Runtime, tenant_id: uuid.UUID) -> None:
    """Delete everything and write the receipt, in one transaction; not while another job of the tenant runs."""
    now = runtime.clock()
    async with runtime.db.tenant(tenant_id) as session:
        if await _count(session, _OTHERS_AT_WORK.bindparams(tenant=str(tenant_id))):
            await defer_offboard(session, tenant_id, at=now + timedelta(seconds=_STEP_SECONDS))
            return
        row = await session.get(Offboarding, tenant_id, with_for_update=True)
        if row is None or row.state != "deleting":
            return
        facts = await _facts(session, row)
        await session.execute(_DROP_JOBS, {"tenant": str(tenant_id)})
        await session.flush()
        session.expunge(row)
        removed: dict[str, int] = await session.scalar(text("SELECT postern_erase_tenant()")) or {}
        document, digest = write_receipt(row, facts, removed, now)
        await session.execute(
            update(OffboardingReceipt)
            .where(OffboardingReceipt.id == row.receipt_id)
            .values(state="done", document=document, sha256=digest, updated_at=now)
        )
        # What a process still held when the tenant went (a click in the spool) is swept up a little later.
        await defer_offboard(session, tenant_id, at=now + timedelta(seconds=_SWEEP_SECONDS))
    log.info("tenant.offboarded", receipt=str(row.receipt_id))


async def _facts(session: AsyncSession, row: Offboarding) -> dict[str, Any]:
    tenant = await session.get_one(Tenant, row.tenant_id)
    states = await session.execute(select(MessageRow.state, func.count()).group_by(MessageRow.state))
    return {
        "provider": tenant.provider,
        "external_id": tenant.external_id,
        "states": {str(state): int(count) for state, count in states},
        "mailboxes": await _count(session, select(func.count()).select_from(MailboxRow)),
        "not_restored": await not_restored(session),
    }


async def _sweep(session: AsyncSession, tenant_id: uuid.UUID) -> None:
    if await session.get(Tenant, tenant_id) is not None:
        # Cancelled: the organisation stays.
        return
    removed: dict[str, int] = await session.scalar(text("SELECT postern_erase_tenant()")) or {}
    late = sum(removed.values())
    if late:
        log.info("tenant.swept", rows=late)


async def drain_mailbox(runtime: Runtime, tenant_id: uuid.UUID, mailbox_id: int) -> None:
    """Finish what is half written in a mailbox and end its subscription. Runs under the mailbox's lock."""
    async with runtime.db.tenant(tenant_id) as session:
        row = await session.get(Offboarding, tenant_id)
        if row is None or row.state == "deleting":
            return
        writing = await journal.half_written(session, mailbox_id)
    work = await any_work(runtime, tenant_id, mailbox_id)
    if work is None:
        return
    delay: float | None = None
    try:
        await protect_all(runtime, work, writing)
    except ConnectorError as error:
        log.warning("offboarding.not_finished", mailbox=mailbox_id, kind=type(error).__name__)
        delay = error.retry_after if isinstance(error, Throttled) else _RETRY_SECONDS
    try:
        await subscriptions.stop(runtime, work)
        await _note_subscription(runtime, tenant_id, mailbox_id, ended=True)
    except Transient as error:
        delay = max(delay or 0.0, error.retry_after if isinstance(error, Throttled) else _RETRY_SECONDS)
    except ConnectorError as error:
        # The provider will not hear of it any more (access withdrawn, mailbox gone): it ends by itself.
        log.warning("offboarding.subscription_left", mailbox=mailbox_id, kind=type(error).__name__)
        await _note_subscription(runtime, tenant_id, mailbox_id, ended=False)
    async with runtime.db.tenant(tenant_id) as session:
        if delay is not None:
            at = runtime.clock() + timedelta(seconds=delay)
            await defer_drain(session, tenant_id, mailbox_id, at=at)
        await defer_offboard(session, tenant_id)


async def _note_subscription(runtime: Runtime, tenant_id: uuid.UUID, mailbox_id: int, *, ended: bool) -> None:
    async with runtime.db.tenant(tenant_id) as session:
        column = Offboarding.subscriptions_ended if ended else Offboarding.subscriptions_left
        left = await session.scalar(select(SubscriptionRow).where(SubscriptionRow.mailbox_id == mailbox_id))
        if left is not None:
            await session.delete(left)
        await session.execute(update(Offboarding).values({column: column + 1}))


async def take_up_offboarding(runtime: Runtime, tenant_id: uuid.UUID) -> None:
    """Defer the next step of an off-boarding under way: a job that was lost is found again."""
    async with runtime.db.tenant(tenant_id) as session:
        row = await session.get(Offboarding, tenant_id)
        if row is not None and row.state != "stuck":
            await defer_offboard(session, tenant_id)
