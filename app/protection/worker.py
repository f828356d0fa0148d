"""The worker role: runs jobs, and takes up those of workers that died."""

from __future__ import annotations

import asyncio

import procrastinate
import psycopg
import structlog
from procrastinate.exceptions import ConnectorException

from app.kit.jobs import make_app
from app.protection.again import say_so
from app.protection.fairness import FairJobManager
from app.protection.feed_tasks import clear_drafts
from app.protection.liveness import HEARTBEAT_SECONDS, LOOK_SECONDS, SILENT_SECONDS, Bereaved, Life
from app.protection.runtime import Runtime
from app.protection.tasks import register
from app.verdicts.sources.distribution import FeedFollower

log = structlog.get_logger()

_KEEP_JOBS_HOURS = 7 * 24
_CLEAN_EVERY = 400
_AFTER_OUTAGE_SECONDS = 4.0


async def run_worker(runtime: Runtime, ready: asyncio.Event) -> None:
    """Work until ``stopping``; jobs under way end at their next safe point.

    Args:
        runtime: The process.
        ready: Set once jobs can be taken.
    """
    app = make_app(runtime.db.url, runtime.db.pipelines)
    concurrency = runtime.settings.worker_concurrency
    app.job_manager = FairJobManager(app.connector, concurrency, runtime.stopping, life=Life(runtime.db.url))
    register(app, runtime)
    async with app.open_async():
        working = asyncio.create_task(
            app.run_worker_async(
                concurrency=concurrency,
                install_signal_handlers=False,
                listen_notify=True,
                fetch_job_polling_interval=0.5,
                update_heartbeat_interval=HEARTBEAT_SECONDS,
                stalled_worker_timeout=SILENT_SECONDS,
                shutdown_graceful_timeout=10.0,
                delete_jobs="successful",
                worker_middleware=[say_so(runtime)],
            )
        )
        minding = asyncio.create_task(mind_the_bereaved(app, runtime))
        pacing = asyncio.create_task(runtime.pace.watch())
        await asyncio.to_thread(clear_drafts, runtime.settings)
        following = asyncio.create_task(FeedFollower(runtime.db, runtime.settings.data_dir).run())
        ready.set()
        stopped = asyncio.create_task(runtime.stopping.wait())
        await asyncio.wait({working, stopped}, return_when=asyncio.FIRST_COMPLETED)
        runtime.stopping.set()
        ready.clear()
        minding.cancel()
        pacing.cancel()
        following.cancel()
        working.cancel()
        results = await asyncio.gather(working, minding, pacing, following, stopped, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception):
            raise result


async def mind_the_bereaved(app: procrastinate.App, runtime: Runtime) -> None:
    """Give jobs of dead workers back to the queue; bounded by the process's life."""
    bereaved = Bereaved(app, runtime.clock)
    rounds = 0
    while not runtime.stopping.is_set():
        try:
            await bereaved.take_up()
            if rounds % _CLEAN_EVERY == 0:
                await app.job_manager.delete_old_jobs(_KEEP_JOBS_HOURS, include_failed=True, include_aborted=True)
        except (ConnectorException, psycopg.Error) as error:
            log.warning("worker.database_away", error=type(error).__name__)
            # While it was away nobody could give signs of life: the living ones come first.
            await asyncio.sleep(_AFTER_OUTAGE_SECONDS)
        rounds += 1
        await asyncio.sleep(LOOK_SECONDS)
