"""Which workers live, and the jobs of those that do not.

A worker's life is a session-level advisory lock on a connection of its own: PostgreSQL lets go of it the moment the
process is gone, whatever killed it, and keeps it however starved the process is
(https://www.postgresql.org/docs/current/explicit-locking.html, "Advisory Locks"). A heartbeat alone would have to
choose between taking living workers for dead on a busy machine and leaving the mailboxes of dead ones locked; it
remains for machines that vanish without closing their connections, and is generous.

The lock needs a session: behind a connection pooler, that of PgBouncer's session mode, as for LISTEN.
"""

from __future__ import annotations

import asyncio
import contextlib

import procrastinate
import psycopg
import structlog
from procrastinate.exceptions import UniqueViolation
from procrastinate.jobs import Job, Status

from app.kit.clock import Clock

log = structlog.get_logger()

LIFE_CLASS = 0x706F7374
"""First key of the lock ("post"); the second is the worker's number, modulo 2^31."""

LOOK_SECONDS = 1.0
"""Time between two looks; a worker whose lock is free at two of them is dead."""

HEARTBEAT_SECONDS = 5.0
SILENT_SECONDS = 60.0
"""A worker that gave no sign of life for so long is dead, whatever its connection says."""

GRACE_SECONDS = 10.0
"""After a start of PostgreSQL every lock is free, until the living have come back."""

_AGAIN_SECONDS = 0.3

_HOLD = "SELECT pg_try_advisory_lock(%s::int4, (%s::int8 %% 2147483648)::int4)"

_BEAT = "SELECT procrastinate_update_heartbeat_v1(%s::int8)"

_BEREFT = """
SELECT job.id, status, task_name, priority, lock, queueing_lock, args, scheduled_at, queue_name, attempts, worker_id,
       worker.id IS NULL OR worker.last_heartbeat < now() - make_interval(secs => %(silent)s) AS surely
FROM procrastinate_jobs job LEFT JOIN procrastinate_workers worker ON worker.id = job.worker_id
WHERE status = 'doing' AND (
    worker.id IS NULL
    OR worker.last_heartbeat < now() - make_interval(secs => %(silent)s)
    OR pg_postmaster_start_time() < now() - make_interval(secs => %(grace)s)
       AND (worker_id %% 2147483648) NOT IN (
           SELECT objid::int8 FROM pg_locks
           WHERE locktype = 'advisory' AND classid = %(life)s::int8::oid AND objsubid = 2 AND granted
             AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
       )
)
"""

# A job is changed only while it is the job of the worker it was found with: another one may have taken it up since.
FINISH_OF_WORKER = """
SELECT procrastinate_finish_job_v1(found.id, %(status)s, %(delete)s) FROM (
    SELECT id FROM procrastinate_jobs
    WHERE id = %(job)s AND status = 'doing' AND worker_id IS NOT DISTINCT FROM %(worker)s::int8 FOR UPDATE
) AS found
"""
RETRY_OF_WORKER = """
SELECT procrastinate_retry_job_v2(found.id, %(at)s::timestamptz, %(priority)s::int4, %(queue)s, %(lock)s) FROM (
    SELECT id FROM procrastinate_jobs
    WHERE id = %(job)s AND status = 'doing' AND worker_id IS NOT DISTINCT FROM %(worker)s::int8 FOR UPDATE
) AS found
"""


class Life:
    """This process's own sign of life.

    It has a connection that nothing else uses, for the lock and for the heartbeat: however busy the others are,
    neither waits.

    Args:
        url: libpq address of the database.
        every: Seconds between two heartbeats.
    """

    def __init__(self, url: str, every: float = HEARTBEAT_SECONDS) -> None:
        self._url = url
        self._every = every
        self._held = False
        self._connection: psycopg.AsyncConnection | None = None
        self._keeping: asyncio.Task[None] | None = None

    @property
    def is_seen(self) -> bool:
        """Whether others can see that this worker lives: while they cannot, it begins nothing."""
        return self._held

    async def begin(self, worker_id: int) -> None:
        """Live as this worker: before it takes its first job.

        Raises:
            psycopg.Error: The database is away.
        """
        await self._hold(worker_id)
        self._keeping = asyncio.create_task(self._keep(worker_id))

    async def end(self) -> None:
        """Live no more: after its last job."""
        if self._keeping is not None:
            self._keeping.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeping
        self._held = False
        if self._connection is not None:
            await self._connection.close()

    async def _hold(self, worker_id: int) -> bool:
        self._connection = await psycopg.AsyncConnection.connect(
            self._url,
            autocommit=True,
            connect_timeout=10,
            keepalives_idle=10,
            keepalives_interval=5,
            keepalives_count=3,
        )
        cursor = await self._connection.execute(_HOLD, (LIFE_CLASS, worker_id))
        row = await cursor.fetchone()
        self._held = row is not None and bool(row[0])
        return self._held

    async def _keep(self, worker_id: int) -> None:
        """Beat; whenever the connection ends, take the lock again on another one."""
        while True:
            try:
                held = await self._hold(worker_id) if self._connection is None else True
                while held and self._connection is not None:
                    await self._connection.execute(_BEAT, (worker_id,))
                    # Nothing is listened to: this ends with the time, or with the connection.
                    async for _ in self._connection.notifies(timeout=self._every):
                        log.debug("worker.unexpected_notification")
            except (psycopg.Error, OSError) as error:
                log.warning("worker.database_away", error=type(error).__name__)
            self._held = False
            if self._connection is not None:
                await self._connection.close()
                self._connection = None
            await asyncio.sleep(_AGAIN_SECONDS)


class Bereaved:
    """Finds jobs whose worker is dead and gives them back to the queue.

    Args:
        app: Procrastinate's application.
        clock: Aware UTC time.
    """

    def __init__(self, app: procrastinate.App, clock: Clock) -> None:
        self._app = app
        self._clock = clock
        self._suspected: set[tuple[int | None, int | None]] = set()

    async def take_up(self) -> int:
        """Give back the jobs of workers that are surely dead, or were found dead at the last look too.

        Returns:
            How many.

        Raises:
            ConnectorException: The database is away.
        """
        rows = await self._app.connector.execute_query_all_async(
            _BEREFT, silent=SILENT_SECONDS, grace=GRACE_SECONDS, life=LIFE_CLASS
        )
        suspected, count = set(), 0
        for row in rows:
            job = Job.from_row(row)
            if row["surely"] or (job.id, job.worker_id) in self._suspected:
                count += await self._give_back(job)
            else:
                suspected.add((job.id, job.worker_id))
        self._suspected = suspected
        if count:
            log.info("worker.took_up", jobs=count)
        return count

    async def _give_back(self, job: Job) -> bool:
        about = {"job": job.id, "worker": job.worker_id}
        query = self._app.connector.execute_query_all_async
        same = {"priority": None, "queue": None, "lock": None}
        try:
            return bool(await query(RETRY_OF_WORKER, at=self._clock(), **same, **about))
        except UniqueViolation:
            # An equal job waits already: this one is not needed any more.
            return bool(await query(FINISH_OF_WORKER, status=Status.ABORTED.value, delete=True, **about))
