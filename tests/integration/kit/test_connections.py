"""How many connections a process opens, and what is said where PostgreSQL has too few."""

from __future__ import annotations

import asyncio
import uuid
from datetime import datetime

import psycopg
import pytest
from sqlalchemy import text

from app.kit.at_once import statement
from app.kit.connections import Room, check_connections, problem, room, wanted
from app.kit.db import Database
from app.kit.errors import ConfigurationError
from app.kit.jobs import make_app
from app.kit.postgres import DatabaseUrls
from app.protection.fairness import FairJobManager
from app.protection.liveness import Life

pytestmark = pytest.mark.anyio

WEB = ("gateway", "intake", "console")
POSTGRESQL_GIVES = 97
"""100 connections by default, three of them for superusers."""


def test_eight_workers_and_all_other_roles_fit_into_what_postgresql_gives_by_default() -> None:
    assert 8 * wanted(["worker"], None) + wanted(["scheduler"], None) + wanted(WEB, None) <= POSTGRESQL_GIVES


def test_a_process_counts_what_it_works_with_and_what_it_opens_beside() -> None:
    assert wanted(["worker"], None) == 9
    assert wanted(["worker"], 20) == 24
    assert wanted(WEB, None) == wanted(["gateway"], None) + wanted(["console"], None)


def test_a_process_that_cannot_fit_is_refused_and_told_what_to_do() -> None:
    said = problem(["worker"], 20, Room(most=17, taken=1))
    assert said is not None
    assert said[1]
    assert "needs 24 database connections, and PostgreSQL has 17" in said[0]
    assert "Raise max_connections" in said[0]


def test_a_process_that_fits_beside_too_many_others_is_warned_and_works() -> None:
    assert problem(["worker"], None, Room(most=97, taken=88)) is None
    said = problem(["worker"], None, Room(most=97, taken=89))
    assert said is not None
    assert not said[1]
    assert "97 connections, 89 are taken, and this process may need 9" in said[0]


async def test_the_room_is_the_servers_own(database: Database, database_urls: DatabaseUrls) -> None:
    with psycopg.connect(database_urls.owner) as owner:
        shown = [
            owner.execute(f"SHOW {name}").fetchone() for name in ("max_connections", "superuser_reserved_connections")
        ]
    most, reserved = (int(row[0]) for row in shown if row is not None)

    found = await room(database)

    assert found.most <= most - reserved
    assert 1 <= found.taken <= most


async def test_a_role_that_wants_more_than_the_server_has_does_not_start(database: Database) -> None:
    await check_connections(database, ["worker"], None)
    with pytest.raises(ConfigurationError, match=r"max_connections.*Nothing was started"):
        await check_connections(database, ["worker"], 200)


async def test_a_server_that_is_away_is_not_asked_twice() -> None:
    away = Database("postgresql://nobody@127.0.0.1:9/none")
    await check_connections(away, ["gateway"], None)
    await away.close()


async def test_a_pool_never_has_more_connections_than_its_size(database_urls: DatabaseUrls) -> None:
    pool = Database(database_urls.app, 5)
    app = make_app(pool.url, pool.pipelines)
    mine = text("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'crowd'")
    named = statement("SET application_name = 'crowd'")

    async def one() -> int:
        async with pool.untenanted() as session:
            await session.execute(text("SET application_name = 'crowd'"))
            return int((await session.execute(mine)).scalar_one())

    async def asked() -> None:
        await pool.at_once(None, named)

    try:
        async with app.open_async():
            others = [asked() for _ in range(30)]
            jobs = [app.connector.execute_query_async("SET application_name = 'crowd'") for _ in range(30)]
            counts, _, _ = await asyncio.gather(
                asyncio.gather(*(one() for _ in range(30))), asyncio.gather(*others), asyncio.gather(*jobs)
            )
            counts.append(await one())
    finally:
        await pool.close()
    assert 2 <= max(counts) <= 5


async def test_a_sign_of_life_waits_for_no_job(database_urls: DatabaseUrls) -> None:
    """Every connection that jobs use is occupied; the worker is seen to live all the same."""
    pool = Database(database_urls.app, 4)
    life = Life(pool.url, every=0.05)
    app = make_app(pool.url, pool.pipelines)
    manager = FairJobManager(app.connector, 4, asyncio.Event(), life=life)
    number = await manager.register_worker()
    sleeping = text("SELECT pg_sleep(120)")

    async def unit_of_work() -> None:
        async with pool.tenant(uuid.uuid4()) as session:
            await session.execute(sleeping)

    async def round_trip() -> None:
        await pool.at_once(None, statement("SELECT pg_sleep(120)"))

    busy = [asyncio.create_task(work()) for work in (unit_of_work, round_trip) for _ in range(4)]
    try:
        with psycopg.connect(database_urls.owner, autocommit=True) as owner:

            def asleep() -> int:
                row = owner.execute(
                    "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(%' AND state = 'active' "
                    "AND datname = current_database()"
                ).fetchone()
                return 0 if row is None else int(row[0])

            def beat() -> datetime | None:
                row = owner.execute(
                    "SELECT last_heartbeat FROM procrastinate_workers WHERE id = %s", (number,)
                ).fetchone()
                return None if row is None else row[0]

            while asleep() < 4:  # noqa: ASYNC110  # another process does it
                await asyncio.sleep(0.02)
            before = beat()
            while beat() == before:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
            assert life.is_seen
    finally:
        for task in busy:
            task.cancel()
        await asyncio.gather(*busy, return_exceptions=True)
        await life.end()
        await pool.close()


async def test_a_worker_that_nobody_can_see_begins_nothing(database: Database) -> None:
    life = Life(database.url)
    app = make_app(database.url)
    manager = FairJobManager(app.connector, 4, asyncio.Event(), life=life)
    async with app.open_async():
        async with database.untenanted() as session:
            await session.execute(
                text(
                    "SELECT procrastinate_defer_jobs_v1(ARRAY[ROW('q', 'some.task', 0, NULL, NULL, '{}', NULL)"
                    "::procrastinate_job_to_defer_v1])"
                )
            )
        worker = await manager.register_worker()
        await life.end()
        assert await manager.fetch_job(None, worker) is None
        await life.begin(worker)
        try:
            assert await manager.fetch_job(None, worker) is not None
        finally:
            await life.end()
