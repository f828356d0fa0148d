"""Works off waiting jobs one after another, whatever their time, as a worker would: for tests of whole journeys."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from sqlalchemy import text

from app.protection import queue
from app.protection.backfill_work import backfill_mailbox
from app.protection.offboarding import drain_mailbox, offboard_step
from app.protection.quarantine import run_move
from app.protection.runtime import Runtime
from app.protection.sync import sync_mailbox
from app.protection.tasks import restore_mailbox, start_mailbox, stop_mailbox, subscribe_mailbox
from app.protection.turn import run_turn
from app.protection.turn_alert import send_alert

TASKS: dict[str, Callable[..., Awaitable[Any]]] = {
    queue.SYNC: sync_mailbox,
    queue.START: start_mailbox,
    queue.STOP: stop_mailbox,
    queue.SUBSCRIBE: subscribe_mailbox,
    queue.RESTORE: restore_mailbox,
    queue.BACKFILL: backfill_mailbox,
    queue.MOVE: run_move,
    queue.DRAIN: drain_mailbox,
    queue.OFFBOARD: offboard_step,
    queue.TURN: run_turn,
    queue.ALERT: send_alert,
}


async def next_job(runtime: Runtime) -> tuple[int, str, dict[str, Any]] | None:
    """The job that is due first, of equal ones that of the highest priority; taken as a worker takes it."""
    async with runtime.db.untenanted() as session:
        row = (
            await session.execute(
                text(
                    "UPDATE procrastinate_jobs SET status = 'doing' WHERE id = (SELECT id FROM procrastinate_jobs "
                    "WHERE status = 'todo' ORDER BY scheduled_at NULLS FIRST, priority DESC, id LIMIT 1) "
                    "RETURNING id, task_name, args"
                )
            )
        ).one_or_none()
    return None if row is None else (row.id, row.task_name, row.args)


async def finish_job(runtime: Runtime, job_id: int) -> None:
    async with runtime.db.untenanted() as session:
        await session.execute(text("DELETE FROM procrastinate_jobs WHERE id = :id"), {"id": job_id})


async def give_back(runtime: Runtime) -> None:
    """What a dead worker had taken waits again."""
    async with runtime.db.untenanted() as session:
        await session.execute(text("UPDATE procrastinate_jobs SET status = 'todo' WHERE status = 'doing'"))


async def work_off(runtime: Runtime, until: Callable[[], Awaitable[bool]] | None = None, limit: int = 400) -> None:
    """Run jobs until none waits, or until ``until`` says so.

    Raises:
        AssertionError: There is no end of it.
    """
    for _ in range(limit):
        if until is not None and await until():
            return
        job = await next_job(runtime)
        if job is None:
            return
        job_id, task, args = job
        await TASKS[task](runtime, **{**args, "tenant_id": uuid.UUID(args["tenant_id"])})
        await finish_job(runtime, job_id)
    raise AssertionError("jobs go on for ever")
