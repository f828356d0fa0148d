"""The worker's jobs of backfills, moves, incidents and off-boarding. Each is idempotent, short, and safe to lose."""

from __future__ import annotations

import uuid

import procrastinate

from app.protection import queue
from app.protection.backfill_work import backfill_mailbox, take_up_backfills
from app.protection.mail_alerts import send_mails, take_up_mails
from app.protection.offboarding import drain_mailbox, offboard_step, take_up_offboarding
from app.protection.quarantine import run_move, take_up_moves
from app.protection.restore import take_up_restores
from app.protection.roster import refresh_mailboxes
from app.protection.runtime import Runtime
from app.protection.turn import run_turn
from app.protection.turn_alert import send_alert


def register(app: procrastinate.App, runtime: Runtime, retry: procrastinate.BaseRetryStrategy) -> None:
    """Give the Procrastinate application these tasks, bound to this process's resources.

    Args:
        app: The application.
        runtime: The process.
        retry: When a job that met an error is tried again.
    """

    @app.task(name=queue.BACKFILL, retry=retry)
    async def backfill(tenant_id: str, mailbox_id: int, run_id: int) -> None:
        await backfill_mailbox(runtime, uuid.UUID(tenant_id), mailbox_id, run_id)

    @app.task(name=queue.MOVE, retry=retry)
    async def move(tenant_id: str, mailbox_id: int, move_id: int) -> None:
        await run_move(runtime, uuid.UUID(tenant_id), mailbox_id, move_id)

    @app.task(name=queue.DRAIN, retry=retry)
    async def drain(tenant_id: str, mailbox_id: int) -> None:
        await drain_mailbox(runtime, uuid.UUID(tenant_id), mailbox_id)

    @app.task(name=queue.OFFBOARD, retry=retry)
    async def offboard(tenant_id: str) -> None:
        await offboard_step(runtime, uuid.UUID(tenant_id))

    @app.task(name=queue.REFRESH, retry=retry)
    async def refresh(tenant_id: str) -> None:
        await refresh_mailboxes(runtime, uuid.UUID(tenant_id))

    @app.task(name=queue.TURN, retry=retry)
    async def turn(tenant_id: str) -> None:
        await run_turn(runtime, uuid.UUID(tenant_id))

    @app.task(name=queue.ALERT, retry=retry)
    async def alert(tenant_id: str, incident_id: int) -> None:
        await send_alert(runtime, uuid.UUID(tenant_id), incident_id)

    @app.task(name=queue.MAIL, retry=retry)
    async def mail(tenant_id: str) -> None:
        await send_mails(runtime, uuid.UUID(tenant_id))


async def take_up(runtime: Runtime, tenant_id: uuid.UUID) -> None:
    """Defer the next step of whatever is under way: a job that was lost is found again."""
    await take_up_restores(runtime, tenant_id)
    await take_up_backfills(runtime, tenant_id)
    await take_up_moves(runtime, tenant_id)
    await take_up_mails(runtime, tenant_id)
    await take_up_offboarding(runtime, tenant_id)
