"""Procrastinate's connection to the database, on the process's own few connections.

Its stock connector asks a pooled connection whether it lives before each statement, begins a transaction and commits
it: four round trips, and a pool of connections beside the one we have. All that the worker asks is single statements,
each a transaction of its own, so that one round trip on a bare connection does the same
(https://procrastinate.readthedocs.io/en/stable/reference.html, "Connectors").
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import psycopg
from procrastinate import PsycopgConnector
from procrastinate.connector import LISTEN_TIMEOUT, Notify
from procrastinate.exceptions import NoResult
from procrastinate.sync_psycopg_connector import wrap_exceptions
from psycopg import sql

from app.kit.at_once import Pipelines

_OF_ITS_OWN = 2


class OneRoundTripConnector(PsycopgConnector):
    """Asks over :class:`app.kit.at_once.Pipelines`; errors are Procrastinate's.

    Args:
        url: libpq address of the database; the ear for new jobs is a connection of its own.
        pipelines: Connections to share; None: a few of its own, closed with it.
    """

    def __init__(self, url: str, pipelines: Pipelines | None = None) -> None:
        super().__init__(conninfo=url)
        self._url = url
        self._shared = pipelines is not None
        self._pipelines = pipelines or Pipelines(url, _OF_ITS_OWN)

    async def open_async(self, pool: object = None) -> None:
        """Nothing to open: connections are made when they are wanted."""

    async def close_async(self) -> None:
        """Close what is not shared."""
        if not self._shared:
            await self._pipelines.close()

    async def execute_query_async(self, query: str, **arguments: Any) -> None:
        """Run a statement.

        Raises:
            ConnectorException: It failed, or the database is away.
        """
        await self.execute_query_all_async(query, **arguments)

    async def execute_query_one_async(self, query: str, **arguments: Any) -> dict[str, Any]:
        """Run a statement and give its first row.

        Raises:
            NoResult: It has none.
            ConnectorException: It failed, or the database is away.
        """
        rows = await self.execute_query_all_async(query, **arguments)
        if not rows:
            raise NoResult
        return rows[0]

    async def execute_query_all_async(self, query: str, **arguments: Any) -> list[dict[str, Any]]:
        """Run a statement and give its rows.

        Raises:
            ConnectorException: It failed, or the database is away.
        """
        with wrap_exceptions():
            return await self._pipelines.ask(query, self._wrap_json(arguments))

    async def listen_notify(self, on_notification: Notify, channels: Iterable[str]) -> None:
        """Listen until cancelled, on a connection of its own.

        Raises:
            ConnectorException: The database is away.
        """
        with wrap_exceptions():
            async with await psycopg.AsyncConnection.connect(self._url, autocommit=True) as connection:
                for channel in channels:
                    await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
                while True:
                    async for notice in connection.notifies(timeout=LISTEN_TIMEOUT):
                        await on_notification(channel=notice.channel, payload=notice.payload)
                    # A connection that a firewall forgot is found by asking.
                    await connection.execute("SELECT 1")
