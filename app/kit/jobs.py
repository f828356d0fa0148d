"""Jobs on Procrastinate (PostgreSQL), deferred in the same transaction as the row they belong to.

``procrastinate_defer_jobs_v1`` is Procrastinate's own SQL function, called here inside SQLAlchemy's
transaction. A queueing-lock collision is a unique violation: it happens in a savepoint and means that the
same work is waiting already, so the two coalesce (https://procrastinate.readthedocs.io/ "queueing lock").
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

if TYPE_CHECKING:
    import procrastinate

    from app.kit.at_once import Pipelines

_DEFER = text(
    "SELECT procrastinate_defer_jobs_v1(ARRAY[ROW(:queue, :task, :priority, :lock, :queueing_lock, "
    "CAST(:args AS jsonb), :scheduled_at)::procrastinate_job_to_defer_v1])"
)


async def defer(
    session: AsyncSession,
    task: str,
    args: dict[str, Any],
    *,
    queue: str = "default",
    priority: int = 0,
    lock: str | None = None,
    queueing_lock: str | None = None,
    at: datetime | None = None,
) -> bool:
    """Defer a job with the session's transaction.

    Args:
        session: The unit of work; the job exists if and only if it commits.
        task: Name of the task.
        args: JSON arguments.
        queue: Which workers take it.
        priority: Higher goes first.
        lock: Jobs of the same lock run one at a time, in order.
        queueing_lock: At most one waiting job of this name.
        at: Not before this aware time.

    Returns:
        False where an equal job was waiting already.
    """
    values = {
        "queue": queue,
        "task": task,
        "priority": priority,
        "lock": lock,
        "queueing_lock": queueing_lock,
        "args": json.dumps(args),
        "scheduled_at": at,
    }
    try:
        async with session.begin_nested():
            await session.execute(_DEFER, values)
    except IntegrityError as error:
        if queueing_lock is not None and "queueing_lock" in str(error.orig):
            return False
        raise
    return True


def make_app(url: str, pipelines: Pipelines | None = None) -> procrastinate.App:
    """The Procrastinate application of this process.

    Args:
        url: libpq address of the database.
        pipelines: Connections to share with; by default a few of its own.
    """
    # Imported where it is wanted: deferring a job needs SQL alone.
    import procrastinate

    from app.kit.job_connector import OneRoundTripConnector

    return procrastinate.App(connector=OneRoundTripConnector(url, pipelines))
