"""The worker's jobs about threat-intelligence sources: ask them, build the feed store, act on what is newly listed."""

from __future__ import annotations

import shutil
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import procrastinate
import structlog

from app.kit.clock import Clock
from app.kit.db import Database
from app.policy.curated import CURATED_HOSTS
from app.protection.queue import defer_turn
from app.protection.runtime import Runtime, all_grants
from app.protection.turn_services import ServiceReview
from app.settings import Settings
from app.verdicts.lists import store_path
from app.verdicts.sources.client import HttpSourceClient
from app.verdicts.sources.distribution import FeedFollower, FileGone
from app.verdicts.sources.networks import source_networks
from app.verdicts.sources.publish import build_and_publish
from app.verdicts.sources.refresh import Refresher
from app.verdicts.sources.service import (
    BUILD,
    REFRESH,
    REVIEW,
    SWAPPED,
    active_signal_sources,
    due_sources,
    want_build,
    want_refresh,
    want_review,
)

LOOK_SECONDS: Final = 60
"""How often the scheduler looks for sources whose time has come."""

_STALE_SECONDS: Final = 86_400.0

log = structlog.get_logger()

AfterSwap = Callable[[Runtime, int], Awaitable[None]]
"""Called by the worker when a new store lists what was not listed before: the process, and the store's number. May be
called again for the same store where the worker was killed."""


async def turn_every_tenant(runtime: Runtime, _number: int) -> None:
    """Compare the mail of every tenant with the new lists (:mod:`app.protection.turn`)."""
    async with runtime.db.untenanted() as session:
        grants = await all_grants(session)
    for grant, status in grants:
        if status in ("onboarding", "leaving"):
            continue
        async with runtime.db.tenant(grant.tenant_id) as session:
            await defer_turn(session, grant.tenant_id)


AFTER_STORE_SWAP: Final[list[AfterSwap]] = [turn_every_tenant]
"""What is done once a store is in force that lists something new."""


def source_client(settings: Settings) -> HttpSourceClient:
    """What asks the servers of sources."""
    return HttpSourceClient(
        source_networks(settings), max_bytes=settings.source_max_mb * 1_000_000, folder=work_folder(settings)
    )


def work_folder(settings: Settings) -> Path:
    """Where lists and stores are drafted."""
    return store_path(settings.data_dir).parent / "work"


def make_refresher(database: Database, settings: Settings, clock: Clock) -> Refresher:
    """Asks sources with a process's resources. A list that blocks this installation itself is held, too."""
    own = {urlsplit(url).hostname or "" for url in (settings.gateway_url, settings.console_url, settings.intake_url)}
    return Refresher(
        database, source_client(settings), work_folder(settings), frozenset(CURATED_HOSTS | own - {""}), clock
    )


def register(app: procrastinate.App, runtime: Runtime, retry: procrastinate.BaseRetryStrategy) -> None:
    """Give the Procrastinate application these tasks, bound to this process's resources.

    Args:
        app: The application.
        runtime: The process.
        retry: When a job that met an error is tried again.
    """

    @app.task(name=REFRESH, retry=retry)
    async def refresh(name: str, force: bool = False) -> None:
        del force  # it only tells a job that was asked for from one whose time had come
        await make_refresher(runtime.db, runtime.settings, runtime.clock).refresh(name)

    @app.task(name=BUILD, retry=retry)
    async def build() -> None:
        await build_store(runtime)

    reviewing = ServiceReview(runtime)

    @app.task(name=REVIEW, retry=retry)
    async def review() -> None:
        await reviewing.run()

    @app.task(name=SWAPPED, retry=retry)
    async def swapped(number: int) -> None:
        await after_swap(runtime, number)


async def build_store(runtime: Runtime) -> None:
    """Build the store from what waits; where others were faster again and again, later."""
    try:
        await build_and_publish(runtime.db, work_folder(runtime.settings), runtime.clock)
    except FileGone as error:
        log.warning("feeds.build_again", why=str(error))
        async with runtime.db.untenanted() as session:
            await want_build(session)


async def after_swap(runtime: Runtime, number: int) -> None:
    """Bring this machine's store up to date, then do what follows from its new entries."""
    await FeedFollower(runtime.db, runtime.settings.data_dir).catch_up()
    for action in AFTER_STORE_SWAP:
        await action(runtime, number)


async def fire_due(runtime: Runtime) -> None:
    """Have the sources asked whose time has come, and delivered links asked about again. For the scheduler."""
    async with runtime.db.untenanted() as session:
        for name in await due_sources(session, runtime.clock()):
            await want_refresh(session, name)
        if runtime.settings.service_review_days and await active_signal_sources(session):
            await want_review(session)


def clear_drafts(settings: Settings) -> None:
    """Remove what killed workers left behind, once it is a day old."""
    folder = work_folder(settings)
    if not folder.is_dir():
        return
    for path in folder.iterdir():
        if path.stat().st_mtime < time.time() - _STALE_SECONDS:
            shutil.rmtree(path, ignore_errors=True)
