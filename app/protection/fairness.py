"""Which job a worker takes next: fair over tenants, and unmoved by a database that is away for a moment.

Each tenant's jobs wait in a queue of their own (``app.protection.queue``). Procrastinate takes the oldest job of
the highest priority of all queues, so that a tenant with thousands of waiting mailboxes would have everybody
else wait behind them. Here the choice of the queue comes first (weighted round robin: the queue with the least
running per weight, of equal ones the one that waited longest), then Procrastinate's own choice within it. A
queue never fills all slots of a worker, so that another tenant's single mail finds one free at once; jobs are
cut into slices (:class:`app.protection.batch.Turn`), so that slots come free often.

See https://procrastinate.readthedocs.io/ ("Queues", "Locks") and, for the idea, Shreedhar and Varghese,
"Efficient fair queueing using deficit round robin", SIGCOMM 1995.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime
from typing import Any, TypeVar

import psycopg
import structlog
from procrastinate.connector import BaseConnector
from procrastinate.exceptions import ConnectorException, UniqueViolation
from procrastinate.jobs import Job, Status
from procrastinate.manager import JobManager, NotificationCallback

from app.protection.liveness import FINISH_OF_WORKER, RETRY_OF_WORKER, Life

log = structlog.get_logger()

_T = TypeVar("_T")

READY_SECONDS = 0.05
"""How long an answer of the database about queues with work may be used."""

_AGAIN_SECONDS = 0.3
_WAKE: dict[str, object] = {"type": "job_inserted", "job_id": 0}

# Queues that hold a job that could be taken now. The distinct names are found by hopping over the index of
# queue names (https://wiki.postgresql.org/wiki/Loose_indexscan), whatever the number of jobs.
_READY = """
WITH RECURSIVE names AS (
    (SELECT queue_name FROM procrastinate_jobs ORDER BY queue_name LIMIT 1)
    UNION ALL
    SELECT (SELECT queue_name FROM procrastinate_jobs WHERE queue_name > names.queue_name
            ORDER BY queue_name LIMIT 1)
    FROM names WHERE names.queue_name IS NOT NULL
)
SELECT queue_name FROM names
WHERE queue_name IS NOT NULL AND EXISTS (
    SELECT 1 FROM procrastinate_jobs job
    WHERE job.queue_name = names.queue_name AND job.status = 'todo'
      AND (job.scheduled_at IS NULL OR job.scheduled_at <= now())
)
"""


class FairJobManager(JobManager):
    """Procrastinate's job manager with a fair choice of the queue.

    Args:
        connector: Procrastinate's connection to the database.
        concurrency: Jobs that this worker runs at once.
        stopping: Set when the process is asked to stop: a database that is away is not waited for any more.
        weight: Weight of a queue; by default all are equal.
        life: This process's sign of life, given as long as it is registered.
    """

    def __init__(
        self,
        connector: BaseConnector,
        concurrency: int,
        stopping: asyncio.Event,
        weight: Callable[[str], float] = lambda _: 1.0,
        life: Life | None = None,
    ) -> None:
        super().__init__(connector)
        self._share = max(1, concurrency - 1)
        self._stopping = stopping
        self._weight = weight
        self._life = life
        self._running: dict[int, str] = {}
        self._served: dict[str, int] = {}
        self._turn = 0
        self._ready: list[str] = []
        self._ready_until = 0.0
        self._wake: NotificationCallback | None = None

    async def register_worker(self) -> int:
        """Register this process; it lives from here on, before its first job."""
        worker_id = await super().register_worker()
        if self._life is not None:
            await self._life.begin(worker_id)
        return worker_id

    async def unregister_worker(self, worker_id: int) -> None:
        """Sign off, after the last job."""
        await super().unregister_worker(worker_id)
        if self._life is not None:
            await self._life.end()

    async def fetch_job(self, queues: Iterable[str] | None, worker_id: int) -> Job | None:
        """The next job, or None where there is none or the database is away.

        Args:
            queues: Must be None: which queues there are is read from the database.
            worker_id: Who asks.
        """
        if self._life is not None and not self._life.is_seen:
            # Others may take this worker for dead: what it began now, they would begin as well.
            await asyncio.sleep(_AGAIN_SECONDS)
            return None
        try:
            return await self._next(worker_id)
        except ConnectorException as error:
            if not is_away(error):
                raise
            log.warning("worker.database_away", error=type(error.__cause__).__name__)
            self._ready_until = 0.0
            await asyncio.sleep(_AGAIN_SECONDS)
            return None

    async def _next(self, worker_id: int) -> Job | None:
        fresh = False
        while True:
            if time.monotonic() >= self._ready_until or not self._ready:
                self._ready = await self._queues_with_work()
                self._ready_until = time.monotonic() + READY_SECONDS
                fresh = True
            for queue in self._in_order():
                try:
                    job = await super().fetch_job([queue], worker_id)
                except UniqueViolation:
                    job = None  # another one of the same lock was begun at the same instant
                if job is not None and job.id is not None:
                    self._turn += 1
                    self._served[queue] = self._turn
                    self._running[job.id] = queue
                    return job
                self._ready.remove(queue)  # all its jobs wait for a lock
            if fresh:
                return None
            self._ready_until = 0.0

    def _in_order(self) -> list[str]:
        running = Counter(self._running.values())
        allowed = [queue for queue in self._ready if running[queue] < self._share]
        return sorted(allowed, key=lambda queue: (running[queue] / self._weight(queue), self._served.get(queue, 0)))

    async def _queues_with_work(self) -> list[str]:
        rows = await self.connector.execute_query_all_async(_READY)
        found = [str(row["queue_name"]) for row in rows]
        self._served = {queue: turn for queue, turn in self._served.items() if queue in found}
        return found

    async def finish_job(self, job: Job, status: Status, delete_job: bool) -> None:
        """Store a job's end, however long the database is away: a job left "doing" by a living worker would
        keep its mailbox locked for good. Then look for work: the mailbox's next job may have waited for this one.
        """
        self._running.pop(job.id or 0, None)
        mine = await self._of_mine(FINISH_OF_WORKER, job, status=status.value, delete=delete_job)
        if not mine:
            log.warning("worker.job_was_taken_over", job=job.id)
        await self._look_again()

    async def retry_job(
        self,
        job: Job,
        retry_at: datetime | None = None,
        priority: int | None = None,
        queue: str | None = None,
        lock: str | None = None,
    ) -> None:
        """Have a job done again; where an equal one is waiting already, this one is not needed any more."""
        self._running.pop(job.id or 0, None)
        try:
            await self._of_mine(RETRY_OF_WORKER, job, at=retry_at, priority=priority, queue=queue, lock=lock)
        except UniqueViolation:
            await self._of_mine(FINISH_OF_WORKER, job, status=Status.ABORTED.value, delete=True)
        await self._look_again()

    async def _of_mine(self, query: str, job: Job, **values: Any) -> bool:
        """Change a job of this worker's; False where another one has taken it up, after silence on our side.

        It is that one's job then: jobs are idempotent, but a lock must not be opened under somebody at work.
        """
        ask = self.connector.execute_query_all_async
        return bool(await self._patiently(lambda: ask(query, job=job.id, worker=job.worker_id, **values)))

    def forget_what_is_ready(self) -> None:
        """There may be new work: ask the database before the next choice."""
        self._ready_until = 0.0

    async def _look_again(self) -> None:
        self.forget_what_is_ready()
        if self._wake is not None:
            await self._wake(channel="", notification=_WAKE)  # type: ignore[arg-type]  # a TypedDict there

    async def listen_for_jobs(
        self, *, on_notification: NotificationCallback, queues: Iterable[str] | None = None
    ) -> None:
        """Listen, and go on listening after the database was away."""
        self._wake = on_notification

        async def heard(**values: object) -> None:
            self.forget_what_is_ready()
            await on_notification(**values)  # type: ignore[arg-type]  # passed through unchanged

        listen = super().listen_for_jobs
        await self._patiently(lambda: listen(on_notification=heard, queues=queues))

    async def update_heartbeat(self, worker_id: int) -> None:
        """Give a sign of life, as soon as the database is there; a :class:`Life` does it by itself."""
        if self._life is not None:
            return
        beat = super().update_heartbeat
        await self._patiently(lambda: beat(worker_id))

    async def list_jobs_to_abort_async(self, queue: str | None = None) -> Iterable[int]:
        """Jobs that were asked to end."""
        ask = super().list_jobs_to_abort_async
        return await self._patiently(lambda: ask(queue))

    async def _patiently(self, call: Callable[[], Awaitable[_T]]) -> _T:
        """Try until the database is there, or the process is told to stop.

        Raises:
            ConnectorException: Something else than a database that is away.
        """
        while True:
            try:
                return await call()
            except ConnectorException as error:
                if not is_away(error) or self._stopping.is_set():
                    raise
                log.warning("worker.database_away", error=type(error.__cause__).__name__)
                await asyncio.sleep(_AGAIN_SECONDS)


def is_away(error: BaseException) -> bool:
    """Whether an error of Procrastinate's means that the database cannot be reached now."""
    cause = error.__cause__
    return isinstance(cause, (psycopg.OperationalError, psycopg.InterfaceError, OSError))
