"""What the protect journey counts (Prometheus); docs/admin/metrics.md has the list.

What a process does itself it counts itself: intake its notifications, a worker its requests to the providers. What
stands in the database (jobs, workers, threat lists) is asked for when somebody reads it, from the scheduler.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import structlog
from prometheus_client import REGISTRY, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector, CollectorRegistry
from sqlalchemy.exc import DBAPIError

from app.kit.at_once import Row, statement
from app.kit.connections import Room, room
from app.kit.db import Database
from app.protection.liveness import SILENT_SECONDS

log = structlog.get_logger()

NOTIFICATIONS = Counter(
    "postern_intake_notifications_total",
    "Notifications by provider and what became of them: taken, or why not.",
    ["provider", "outcome"],
)
ANSWER_SECONDS = Histogram(
    "postern_intake_answer_seconds",
    "Time until a notification was answered.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 3.0),
)

# A job has no time of its own: that of the one with the lowest number is when it was to be done, or was deferred.
_JOBS = """
WITH counted AS (
    SELECT task_name,
           count(*) FILTER (WHERE status = 'todo' AND (scheduled_at IS NULL OR scheduled_at <= now())) AS due,
           count(*) FILTER (WHERE status = 'todo' AND scheduled_at > now()) AS later,
           count(*) FILTER (WHERE status = 'doing') AS doing,
           count(*) FILTER (WHERE status = 'failed') AS failed,
           min(id) FILTER (WHERE status = 'todo' AND (scheduled_at IS NULL OR scheduled_at <= now())) AS oldest
    FROM procrastinate_jobs GROUP BY task_name
)
SELECT task_name, due, later, doing, failed, coalesce(extract(epoch FROM now() - coalesce(
    (SELECT scheduled_at FROM procrastinate_jobs WHERE id = oldest),
    (SELECT max(at) FROM procrastinate_events WHERE job_id = oldest AND type = 'deferred'))), 0)::float8
FROM counted ORDER BY task_name
"""
_WORKERS = """
SELECT count(*) FILTER (WHERE last_heartbeat > now() - make_interval(secs => %s)), count(*),
       coalesce(max(extract(epoch FROM now() - last_heartbeat)), 0)::float8
FROM procrastinate_workers
"""
_SOURCES = """
SELECT name, enabled, coalesce(extract(epoch FROM last_success), 0)::float8, entries, failures, refused
FROM threat_sources ORDER BY name
"""
_STORE = (
    "SELECT extract(epoch FROM made_at)::float8, entries FROM feed_files WHERE kind = 'store' ORDER BY id DESC LIMIT 1"
)


@dataclass(slots=True)
class _Seen:
    """What the database said last."""

    jobs: list[Row] = field(default_factory=list)
    workers: Row = (0, 0, 0.0)
    sources: list[Row] = field(default_factory=list)
    store: list[Row] = field(default_factory=list)
    room: Room | None = None


class FromDatabase(Collector):
    """Jobs, workers, threat lists and connections, as they are when somebody asks.

    Args:
        database: Where they stand.
        registry: Where it is read.
    """

    def __init__(self, database: Database, registry: CollectorRegistry = REGISTRY) -> None:
        self._database = database
        self._registry = registry
        self._seen: _Seen | None = None
        registry.register(self)

    def close(self) -> None:
        """Take it out of the registry."""
        self._registry.unregister(self)

    async def ask(self) -> None:
        """Read the database; where it is away, only that is told."""
        try:
            jobs, (workers,), sources, store = await self._database.at_once(
                None, statement(_JOBS), statement(_WORKERS, SILENT_SECONDS), statement(_SOURCES), statement(_STORE)
            )
            self._seen = _Seen(jobs, workers, sources, store, await room(self._database))
        except DBAPIError as error:
            log.warning("metrics.database_away", error=type(error).__name__)
            self._seen = None

    def collect(self) -> Iterator[Metric]:
        """For the registry."""
        yield _gauge("postern_database_up", "Whether the database answers.", float(self._seen is not None))
        if self._seen is None:
            return
        yield from _of_jobs(self._seen.jobs)
        alive, known, silent = self._seen.workers
        yield _gauge("postern_workers_alive", "Workers that gave a sign of life within a minute.", alive)
        yield _gauge("postern_workers_known", "Workers that signed on and did not sign off.", known)
        yield _gauge("postern_worker_heartbeat_age_seconds", "Age of the oldest last sign of life.", silent)
        yield from _of_sources(self._seen.sources)
        for made, entries in self._seen.store:
            yield _gauge(
                "postern_feed_store_made_timestamp_seconds", "When the lists in force were put together.", made
            )
            yield _gauge("postern_feed_store_entries", "Entries of the lists in force.", entries)
        if self._seen.room is not None:
            yield _gauge("postern_database_connections_most", "Connections PostgreSQL gives.", self._seen.room.most)
            yield _gauge("postern_database_connections_taken", "Connections that are open.", self._seen.room.taken)


class FromProviders(Collector):
    """Requests of this process to the mail providers.

    Args:
        counters: Provider -> (sent, throttled, retried, failed) since start.
        registry: Where it is read.
    """

    _NAMES: ClassVar[dict[str, str]] = {
        "sent": "Requests sent to a mail provider.",
        "throttled": "Requests that a mail provider answered with: slow down.",
        "retried": "Requests that were sent again.",
        "failed": "Requests without an answer, or with a server error.",
    }

    def __init__(
        self, counters: Callable[[], Mapping[str, tuple[int, int, int, int]]], registry: CollectorRegistry = REGISTRY
    ) -> None:
        self._counters = counters
        self._registry = registry
        registry.register(self)

    def close(self) -> None:
        """Take it out of the registry."""
        self._registry.unregister(self)

    def collect(self) -> Iterator[Metric]:
        """For the registry."""
        found = self._counters()
        for place, (name, what) in enumerate(self._NAMES.items()):
            family = CounterMetricFamily(f"postern_provider_requests_{name}", what, labels=["provider"])
            for provider, numbers in found.items():
                family.add_metric([provider], numbers[place])
            yield family


def _gauge(name: str, what: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, what, value=float(value))


def _of_jobs(rows: list[Row]) -> Iterator[Metric]:
    depth = GaugeMetricFamily(
        "postern_jobs", "Jobs by task and state: due, later, doing, failed.", labels=["task", "state"]
    )
    age = GaugeMetricFamily("postern_jobs_oldest_due_seconds", "How long the first job has been due.", labels=["task"])
    for task, due, later, doing, failed, oldest in rows:
        for state, number in (("due", due), ("later", later), ("doing", doing), ("failed", failed)):
            depth.add_metric([task, state], number)
        age.add_metric([task], oldest)
    yield depth
    yield age


def _of_sources(rows: list[Row]) -> Iterator[Metric]:
    families = [
        GaugeMetricFamily(f"postern_source_{name}", what, labels=["source"])
        for name, what in (
            ("enabled", "Whether a threat list or service is switched on."),
            ("last_success_timestamp_seconds", "When it was last read without an error; 0: never."),
            ("entries", "Entries it gave."),
            ("failures", "Failed tries since the last success."),
            ("refused_entries", "Entries of it that could not be used."),
        )
    ]
    for name, *values in rows:
        for family, value in zip(families, values, strict=True):
            family.add_metric([name], float(value))
    yield from families
