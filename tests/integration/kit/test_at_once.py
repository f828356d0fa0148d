"""Transactions of one tenant in one round trip."""

from __future__ import annotations

import asyncio
import uuid

import psycopg
import pytest
from sqlalchemy.exc import DataError, OperationalError

from app.kit.at_once import Statement, statement, within
from app.kit.db import Database
from app.kit.postgres import DatabaseUrls

pytestmark = pytest.mark.anyio

NAMES = statement("SELECT name FROM tenants")


def tenant(tenant_id: uuid.UUID, name: str) -> Statement:
    return Statement(
        "INSERT INTO tenants (tenant_id, name, provider, external_id) "
        "VALUES (%(id)s::uuid, %(name)s, 'microsoft', %(id)s::text) RETURNING name",
        {"id": str(tenant_id), "name": name},
    )


async def test_it_gives_each_statements_rows_and_keeps_what_it_wrote(database: Database) -> None:
    one = uuid.uuid4()

    rows = await database.at_once(one, tenant(one, "Nordwind"), statement("SELECT 1 WHERE false"), NAMES)

    assert rows == [[("Nordwind",)], [], [("Nordwind",)]]
    assert await database.at_once(one, NAMES) == [[("Nordwind",)]]


async def test_it_sees_and_writes_one_tenants_rows_only(database: Database) -> None:
    one, other = uuid.uuid4(), uuid.uuid4()
    await database.at_once(one, tenant(one, "One"))
    await database.at_once(other, tenant(other, "Other"))

    assert await database.at_once(one, NAMES) == [[("One",)]]
    assert await database.at_once(other, statement("UPDATE tenants SET name = 'mine' RETURNING name")) == [[("mine",)]]
    assert await database.at_once(None, NAMES) == [[]]
    assert await database.at_once(one, NAMES) == [[("One",)]]


async def test_a_failing_statement_undoes_all_and_the_connection_goes_on_being_used(database: Database) -> None:
    one = uuid.uuid4()
    for bad in (statement("SELECT 1 / 0"), statement("SELECT %s::text", "a\x00b")):
        with pytest.raises(DataError):
            await database.at_once(one, tenant(one, "Lost"), bad, NAMES)

    assert await database.at_once(one, NAMES) == [[]]
    assert len(database.pipelines._free) == 1


async def test_a_connection_that_was_closed_meanwhile_is_replaced(
    database: Database, database_urls: DatabaseUrls
) -> None:
    one = uuid.uuid4()
    await database.at_once(one, tenant(one, "Nordwind"))
    [[(pid,)]] = await database.at_once(one, statement("SELECT pg_backend_pid()"))
    with psycopg.connect(database_urls.owner, autocommit=True) as owner:
        owner.execute("SELECT pg_terminate_backend(%s)", (pid,))

    with pytest.raises(OperationalError):
        await database.at_once(one, NAMES)
    assert await database.at_once(one, NAMES) == [[("Nordwind",)]]


async def test_a_cancelled_transaction_leaves_no_connection_in_doubt(database: Database) -> None:
    one = uuid.uuid4()
    await database.at_once(one, tenant(one, "Nordwind"))
    sleeping = asyncio.create_task(
        database.at_once(one, statement("UPDATE tenants SET name = 'x'"), statement("SELECT pg_sleep(60)"))
    )
    while database.pipelines._free:  # noqa: ASYNC110  # until it has taken the connection
        await asyncio.sleep(0)
    sleeping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sleeping

    assert await database.at_once(one, NAMES) == [[("Nordwind",)]]


async def test_the_same_statement_runs_within_a_session(database: Database) -> None:
    one = uuid.uuid4()
    async with database.tenant(one) as session:
        assert await within(session, tenant(one, "Nordwind")) == [("Nordwind",)]
        assert await within(session, statement("UPDATE tenants SET name = %s", "Other")) == []

    assert await database.at_once(one, NAMES) == [[("Other",)]]


async def test_no_value_shows_in_an_error(database: Database) -> None:
    with pytest.raises(DataError) as caught:
        await database.at_once(uuid.uuid4(), statement("SELECT %s::text, 1 / 0", "private@mail.example"))

    assert "private" not in str(caught.value)
