"""The scheduler role: one leader at a time, by a PostgreSQL advisory lock; it only defers jobs.

APScheduler fires (https://apscheduler.readthedocs.io/en/3.x/), a job per tenant is deferred, a worker does the
work. Losing the leader costs a pause of a few seconds and no work: every job is found again from the database.
"""

from __future__ import annotations

import asyncio

import psycopg
import structlog
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.interval import IntervalTrigger

from app.protection.feed_tasks import LOOK_SECONDS, fire_due
from app.protection.queue import defer_housekeeping
from app.protection.runtime import Runtime, all_grants
from app.protection.subscriptions import ROUND_SECONDS
from app.protection.tasks import POLLS_PER_INTERVAL

log = structlog.get_logger()

LEADER_LOCK = 0x706F7374_6C656164
_RETRY_SECONDS = 3.0
_CHECK_SECONDS = 2.0

HOUR = 3600
INTERVALS = {"renew": ROUND_SECONDS, "probe": HOUR, "purge": 6 * HOUR, "take_up": HOUR // 12, "turn": HOUR // 60}
"""Seconds between two runs of what has a fixed pace; that of ``poll`` follows its setting."""


async def fire(runtime: Runtime, what: str) -> None:
    """Defer one piece of scheduled work for every tenant that is past onboarding."""
    async with runtime.db.untenanted() as session:
        grants = await all_grants(session)
    for grant, status in grants:
        if status == "onboarding":
            continue
        async with runtime.db.tenant(grant.tenant_id) as session:
            await defer_housekeeping(session, grant.tenant_id, what)


async def run_scheduler(runtime: Runtime, leading: asyncio.Event) -> None:
    """Stand for leader, schedule while leading, stand again when the lock is lost; ends with ``stopping``.

    Args:
        runtime: The process.
        leading: Set while this process is the leader.
    """
    while not runtime.stopping.is_set():
        try:
            await _lead_once(runtime, leading)
        except (psycopg.Error, OSError) as error:
            log.warning("scheduler.database_away", error=type(error).__name__)
        leading.clear()
        await _pause(runtime, _RETRY_SECONDS)


async def _lead_once(runtime: Runtime, leading: asyncio.Event) -> None:
    async with await psycopg.AsyncConnection.connect(runtime.db.url, autocommit=True) as connection:
        cursor = await connection.execute("SELECT pg_try_advisory_lock(%s)", (LEADER_LOCK,))
        row = await cursor.fetchone()
        if row is None or not row[0]:
            return
        log.info("scheduler.leading")
        scheduler = AsyncIOScheduler(timezone="UTC")
        pace = {"poll": max(1, runtime.settings.poll_seconds // POLLS_PER_INTERVAL), **INTERVALS}
        for what, seconds in pace.items():
            scheduler.add_job(
                fire,
                IntervalTrigger(seconds=seconds, jitter=max(1, seconds // 20)),
                args=[runtime, what],
                id=what,
                max_instances=1,
                coalesce=True,
                misfire_grace_time=None,
            )
        scheduler.add_job(
            fire_due,
            IntervalTrigger(seconds=LOOK_SECONDS, jitter=LOOK_SECONDS // 20),
            args=[runtime],
            id="sources",
            max_instances=1,
            coalesce=True,
            misfire_grace_time=None,
        )
        scheduler.start()
        leading.set()
        try:
            while not runtime.stopping.is_set():
                # The lock lives with this connection: when it fails, another process may lead.
                await connection.execute("SELECT 1")
                await _pause(runtime, _CHECK_SECONDS)
        finally:
            scheduler.shutdown(wait=False)


async def _pause(runtime: Runtime, seconds: float) -> None:
    try:
        await asyncio.wait_for(runtime.stopping.wait(), seconds)
    except TimeoutError:
        return
