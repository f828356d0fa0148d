"""The feed store while its builder or fetcher is killed with -9: the old one stays, and the next try succeeds.

The place of death is chosen by locks that the test holds in the database: the process stops there, and is killed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text

from app.kit.db import Database
from app.kit.postgres import DatabaseUrls
from app.verdicts.feed_build import collect
from app.verdicts.feed_merge import Part, write
from app.verdicts.feed_store import FeedStore, StoreSource
from app.verdicts.lists import store_path
from app.verdicts.scoring import Level
from app.verdicts.sources.distribution import LIST, FeedFollower, put_file
from app.verdicts.sources.publish import BUILD_LOCK, build_and_publish
from app.verdicts.sources.service import add_source, new_config
from app.verdicts.sources.types import Entry, Tally

pytestmark = pytest.mark.anyio
_ROOT = Path(__file__).resolve().parents[2]
_PATIENCE_SECONDS = 60.0


async def offer(database: Database, folder: Path, name: str) -> None:
    """Put a downloaded list into the database, as a refresh does."""
    path = folder / "offered.pfs"
    found = collect([Entry(f"http://{name}.example/{number}") for number in range(3_000)], Level.MALICIOUS, Tally())
    write(path, [Part(StoreSource("L"), found.runs)])
    async with database.untenanted() as session:
        await put_file(session, path, kind=LIST, source="L", entries=3_000)


async def names(database: Database, folder: Path) -> set[str]:
    """Which of the lists a gateway's store has after catching up."""
    await FeedFollower(database, folder).catch_up()
    return mapped(folder)


def mapped(folder: Path) -> set[str]:
    store = FeedStore(store_path(folder))
    store.refresh()
    assert store.error == ""
    return {name for name in ("first", "second") if store.signals(f"http://{name}.example/7")}


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + _PATIENCE_SECONDS
    while not condition():
        assert process.poll() is None, "the process ended before it came to the place where it was to be killed"
        assert time.monotonic() < until, "the process never came to the place where it was to be killed"
        time.sleep(0.01)


@contextmanager
def process(what: str, url: str, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    started = subprocess.Popen(
        [sys.executable, "-m", "tests.chaos.feed_process", what, url, str(folder)], cwd=_ROOT, stdout=subprocess.DEVNULL
    )
    try:
        yield started
    finally:
        if started.poll() is None:
            os.kill(started.pid, signal.SIGKILL)
        started.wait()


def waits_for_a_lock(urls: DatabaseUrls) -> Callable[[], bool]:
    """Whether somebody waits for a lock in this database."""

    def look() -> bool:
        with psycopg.connect(urls.owner, autocommit=True) as connection:
            row = connection.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            ).fetchone()
        return row is not None and row[0] > 0

    return look


_LOCKS = {
    "before it publishes": f"SELECT pg_advisory_lock({BUILD_LOCK})",
    "while it writes the pieces": "BEGIN; LOCK TABLE feed_chunks IN EXCLUSIVE MODE",
    "before it commits": "BEGIN; LOCK TABLE procrastinate_jobs IN ACCESS EXCLUSIVE MODE",
}


@pytest.mark.parametrize("place", _LOCKS)
async def test_a_builder_that_is_killed_leaves_the_old_store(
    database: Database, database_urls: DatabaseUrls, tmp_path: Path, place: str
) -> None:
    async with database.untenanted() as session:
        await add_source(session, new_config("list", "L", address="https://lists.example/", enabled=True))
    await offer(database, tmp_path, "first")
    await build_and_publish(database, tmp_path / "work")
    assert await names(database, tmp_path / "gateway") == {"first"}
    await offer(database, tmp_path, "second")

    with psycopg.connect(database_urls.owner, autocommit=True) as connection:
        for statement in _LOCKS[place].split("; "):
            connection.execute(statement.encode())
        with process("build", database_urls.app, tmp_path) as builder:
            wait_for(waits_for_a_lock(database_urls), builder)
            os.kill(builder.pid, signal.SIGKILL)
    assert await names(database, tmp_path / "gateway") == {"first"}

    await build_and_publish(database, tmp_path / "work")
    assert await names(database, tmp_path / "gateway") == {"second"}
    async with database.untenanted() as session:
        left = (await session.execute(text("SELECT count(*) FROM feed_files WHERE kind = 'list'"))).scalar_one()
    assert left == 0


async def test_a_gateway_that_is_killed_while_it_fetches_keeps_the_old_store(
    database: Database, database_urls: DatabaseUrls, tmp_path: Path
) -> None:
    async with database.untenanted() as session:
        await add_source(session, new_config("list", "L", address="https://lists.example/", enabled=True))
    await offer(database, tmp_path, "first")
    await build_and_publish(database, tmp_path / "work")
    assert await names(database, tmp_path) == {"first"}
    await offer(database, tmp_path, "second")
    await build_and_publish(database, tmp_path / "work")

    with psycopg.connect(database_urls.owner) as connection:
        connection.execute("LOCK TABLE feed_chunks IN ACCESS EXCLUSIVE MODE")
        with process("fetch", database_urls.app, tmp_path) as fetcher:
            wait_for(waits_for_a_lock(database_urls), fetcher)
            assert any(store_path(tmp_path).parent.glob(".store.pfs.*.fetched"))
            os.kill(fetcher.pid, signal.SIGKILL)
    assert mapped(tmp_path) == {"first"}
    assert await names(database, tmp_path) == {"second"}
