"""Jobs that ended with an error: when they are tried again, and where that can be seen.

What a provider or a mailbox does wrong is dealt with in the jobs themselves. What comes as far as here is the
database being away, a worker that stops, or an error of ours; none of them may lose a job.
See https://procrastinate.readthedocs.io/ ("Retry", "Middlewares").
"""

from __future__ import annotations

import asyncio
import uuid
from datetime import timedelta

import psycopg
import structlog
from procrastinate import BaseRetryStrategy, RetryDecision
from procrastinate.job_context import JobContext
from procrastinate.jobs import Job
from procrastinate.middleware import AsyncCallNext, WorkerMiddleware
from procrastinate.worker import Worker
from sqlalchemy import update
from sqlalchemy.exc import DisconnectionError, InterfaceError, OperationalError

from app.kit.clock import utc_now
from app.protection.holding import HELD, Held
from app.protection.models import MailboxRow
from app.protection.queue import PUT_OFF_PRIORITY
from app.protection.runtime import Runtime

log = structlog.get_logger()

AWAY = (OperationalError, InterfaceError, DisconnectionError, psycopg.OperationalError, OSError)
"""What a job meets when the database, or the connection to it, is away."""

MOST_TRIES = 20
"""Of a job that meets an error of ours: more than an hour."""

_FIRST_SECONDS = 2.0
_LONGEST_SECONDS = 300.0
_LONGEST_AWAY_SECONDS = 10.0


class Again(BaseRetryStrategy):
    """Tries a job again: soon where the database was away or the worker stops, ever later where the error is ours."""

    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision | None:
        """When to try again; None: not any more."""
        if isinstance(exception, AWAY):
            return _in(min(1.0 + job.attempts, _LONGEST_AWAY_SECONDS), job.priority)
        if isinstance(exception, asyncio.CancelledError):
            return _in(0.0, job.priority)
        if job.attempts >= MOST_TRIES:
            return None
        # Below what comes fresh, which would have to wait for this one's time otherwise.
        seconds = min(_FIRST_SECONDS * 2.0**job.attempts, _LONGEST_SECONDS)
        return _in(seconds, min(job.priority, PUT_OFF_PRIORITY))


def _in(seconds: float, priority: int) -> RetryDecision:
    return RetryDecision(retry_at=utc_now() + timedelta(seconds=seconds), priority=priority)


def say_so(runtime: Runtime) -> WorkerMiddleware:
    """A middleware that shows an error of ours at the mailbox it concerns, until a look at it succeeds."""

    async def middleware(run: AsyncCallNext, context: JobContext, worker: Worker) -> object:
        if context.job.id is not None:
            HELD.set(Held(context.job.id, worker.worker_id))  # each job runs in a task, so in a context, of its own
        try:
            return await run()
        except AWAY:
            raise
        except Exception as error:
            task, about = context.job.task_name, context.job.task_kwargs
            log.exception("job.failed", task=task, tries=context.job.attempts + 1, **about)
            if "mailbox_id" in about:
                try:
                    await _show(runtime, str(about["tenant_id"]), int(str(about["mailbox_id"])), task, error)
                except AWAY as away:
                    log.warning("job.failure_not_shown", task=task, error=type(away).__name__)
            raise

    return middleware


async def _show(runtime: Runtime, tenant: str, mailbox_id: int, task: str, error: Exception) -> None:
    what = f"An error inside Postern stopped {task} ({type(error).__name__}). It is tried again; the log has more."
    async with runtime.db.tenant(uuid.UUID(tenant)) as session:
        await session.execute(
            update(MailboxRow).where(MailboxRow.id == mailbox_id).values(error=what, failures=MailboxRow.failures + 1)
        )
