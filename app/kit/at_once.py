"""Whole transactions of one tenant in one round trip, for what is done for every message.

The statements go out together in pipeline mode (https://www.psycopg.org/psycopg3/docs/advanced/pipeline.html,
https://www.postgresql.org/docs/current/libpq-pipeline-mode.html) on a bare connection of the driver: a fifth of the
processor time of the same statements one by one through SQLAlchemy, and one wait for the network in place of five.
Errors are SQLAlchemy's all the same, so that callers need to know one kind.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Generator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

Row = tuple[Any, ...]
_PING_AFTER_IDLE_SECONDS = 1.0
_CONNECT_SECONDS = 10


@dataclass(frozen=True, slots=True)
class Statement:
    """One SQL statement, with its parameters apart.

    Attributes:
        sql: With ``%s`` or ``%(name)s`` placeholders. Constant text: no value is ever written into it.
        values: The parameters.
    """

    sql: str
    values: Sequence[Any] | dict[str, Any] = ()


def statement(sql: str, *values: Any) -> Statement:
    """A statement with positional parameters."""
    return Statement(sql, values)


async def within(session: AsyncSession, each: Statement) -> list[Row]:
    """Run a statement in a session's transaction instead."""
    connection = await session.connection()
    values = each.values if isinstance(each.values, dict) else tuple(each.values)
    result = await connection.exec_driver_sql(each.sql, values)
    return [tuple(row) for row in result] if result.returns_rows else []


class Pipelines:
    """A few bare connections to the database.

    Args:
        url: libpq address.
        most: Connections at most; each is in use for one round trip.
    """

    def __init__(self, url: str, most: int) -> None:
        self._url = url
        self._slots = asyncio.Semaphore(most)
        self._free: list[tuple[psycopg.AsyncConnection[Row], float]] = []

    async def run(self, tenant_id: uuid.UUID | None, statements: Sequence[Statement]) -> list[list[Row]]:
        """Run statements in one transaction that sees one tenant, or with None no tenant's rows at all.

        Returns:
            The rows of each statement.

        Raises:
            DBAPIError: One of them failed; nothing was changed.
        """
        try:
            async with self._connection() as connection:
                cursors = []
                async with _in_one_piece(connection):
                    # The commands are constant texts of this application: psycopg's types ask for literals.
                    await connection.execute("BEGIN")
                    if tenant_id is not None:
                        await connection.execute("SELECT set_config('postern.tenant_id', %s, true)", (str(tenant_id),))
                    for each in statements:
                        cursors.append(await connection.execute(each.sql.encode(), each.values or None))
                    await connection.execute("COMMIT")
                return [await cursor.fetchall() if cursor.description else [] for cursor in cursors]
        except psycopg.Error as error:
            raise DBAPIError.instance(None, None, error, psycopg.Error, hide_parameters=True) from error

    async def ask(self, query: str, values: dict[str, Any]) -> list[dict[str, Any]]:
        """Run one statement that is a transaction of its own and sees no tenant's rows.

        Args:
            query: Constant text with ``%(name)s`` placeholders.
            values: The parameters.

        Returns:
            The rows by column name.

        Raises:
            psycopg.Error: It failed; nothing was changed.
        """
        async with self._connection() as connection:
            cursor = await connection.execute(query.encode(), values)
            if cursor.description is None:
                return []
            names = [column.name for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in await cursor.fetchall()]

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[psycopg.AsyncConnection[Row]]:
        async with self._slots:
            connection: psycopg.AsyncConnection[Row] | None = None
            try:
                connection = await self._take()
                yield connection
            except psycopg.Error:
                if connection is not None and not await _rolled_back(connection):
                    connection = None
                raise
            except BaseException:
                # Cancelled half way: what the connection is doing is not known.
                if connection is not None:
                    await connection.close()
                    connection = None
                raise
            finally:
                if connection is not None:
                    self._free.append((connection, time.monotonic()))

    async def _take(self) -> psycopg.AsyncConnection[Row]:
        """A connection that is alive; one that has rested is asked first."""
        while self._free:
            connection, since = self._free.pop()
            if time.monotonic() - since < _PING_AFTER_IDLE_SECONDS:
                return connection
            try:
                await connection.execute("SELECT 1")
                return connection
            except psycopg.Error:
                await connection.close()
        return await psycopg.AsyncConnection.connect(self._url, autocommit=True, connect_timeout=_CONNECT_SECONDS)

    async def close(self) -> None:
        """Close what is not in use."""
        free, self._free = self._free, []
        for connection, _ in free:
            await connection.close()


class _InOnePiece(psycopg.AsyncPipeline):
    """Keeps statements in libpq's buffer until the end, and sends them with one system call.

    psycopg's own pipeline flushes and looks for answers after each statement: a third of the processor time of a
    transaction here, and a wake-up of the server for each. A statement over 64 kB is still sent at once by libpq.
    """

    def _communicate_gen(self) -> Generator[Any, Any, None]:
        while self.command_queue:
            self.command_queue.popleft()()
        yield from ()


@asynccontextmanager
async def _in_one_piece(connection: psycopg.AsyncConnection[Row]) -> AsyncIterator[None]:
    """What ``connection.pipeline()`` does, with the class above."""
    pipeline = connection._pipeline = _InOnePiece(connection)
    try:
        async with pipeline:
            yield
    finally:
        connection._pipeline = None


async def _rolled_back(connection: psycopg.AsyncConnection[Row]) -> bool:
    """Whether the connection can be used again after an error."""
    try:
        await connection.rollback()
        return not connection.closed
    except psycopg.Error:
        await connection.close()
        return False
