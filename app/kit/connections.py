"""How many connections each process opens, and whether PostgreSQL has that many.

A process opens no more than is counted here: those it works with, in pools of a fixed size, and a few that each have
one purpose. A worker that gets no connection for its sign of life would be taken for dead by the others, and an
installation whose processes together want more than PostgreSQL gives finds out under load
(https://www.postgresql.org/docs/current/runtime-config-connection.html, ``max_connections``,
``superuser_reserved_connections``, ``reserved_connections``).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import structlog
from sqlalchemy.exc import DBAPIError

from app.kit.at_once import statement
from app.kit.db import Database
from app.kit.errors import ConfigurationError

log = structlog.get_logger()

FOR_WORK = {"worker": 5, "scheduler": 2, "gateway": 4, "intake": 6, "console": 8}
"""Connections that a role works with, where ``POSTERN_DATABASE_POOL_SIZE`` is not set."""

BESIDE = {"worker": 4, "scheduler": 1, "gateway": 2, "intake": 0, "console": 0}
"""Connections of one purpose each. Worker: its sign of life, new jobs, words that verdicts may have turned, new threat
lists. Scheduler: the leader's lock. Gateway: changed policies, new threat lists."""

_ROOM = """
SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
           - coalesce(nullif(current_setting('reserved_connections', true), ''), '0')::int,
       (SELECT coalesce(sum(numbackends), 0)::int FROM pg_stat_database)
"""


@dataclass(frozen=True, slots=True)
class Room:
    """What PostgreSQL has for the application.

    Attributes:
        most: Connections at most, without those it reserves.
        taken: Connections open now, whoever's.
    """

    most: int
    taken: int


def pool_size(role: str, setting: int | None) -> int:
    """Connections that a role works with: as set, or by role."""
    return FOR_WORK[role] if setting is None else setting


def wanted(roles: Iterable[str], setting: int | None) -> int:
    """Connections that a process with these roles opens at most; intake and console share theirs."""
    given = set(roles)
    if {"intake", "console"} <= given:
        given.remove("intake")
    return sum(pool_size(role, setting) + BESIDE[role] for role in given)


async def room(database: Database) -> Room:
    """Ask PostgreSQL.

    Raises:
        DBAPIError: It is away.
    """
    ((row,),) = [await database.at_once(None, statement(_ROOM))]
    ((most, taken),) = row
    return Room(most, taken)


def problem(roles: Iterable[str], setting: int | None, found: Room) -> tuple[str, bool] | None:
    """What is wrong with the room that a process finds.

    Returns:
        What to say, and whether the process cannot work at all; None where nothing is wrong.
    """
    need = wanted(roles, setting)
    remedy = (
        "Raise max_connections of PostgreSQL, run fewer processes, or lower POSTERN_DATABASE_POOL_SIZE. "
        "docs/admin/database.md has the sum."
    )
    if need > found.most:
        return f"This process needs {need} database connections, and PostgreSQL has {found.most} in all. {remedy}", True
    if found.taken + need > found.most:
        return (
            f"PostgreSQL has {found.most} connections, {found.taken} are taken, and this process may need {need}. "
            f"Where they run out, work waits. {remedy}"
        ), False
    return None


async def check_connections(database: Database, roles: Iterable[str], setting: int | None) -> None:
    """Look at the start whether there are connections enough; where the others leave too few, say so in the log.

    Raises:
        ConfigurationError: PostgreSQL has fewer than this process alone may need. Nothing was started.
    """
    given = tuple(roles)
    try:
        found = await room(database)
    except DBAPIError:
        return  # a gateway starts without the database; the others have asked it already
    wrong = problem(given, setting, found)
    if wrong is None:
        return
    text, fatal = wrong
    if fatal:
        raise ConfigurationError(f"{text} Nothing was started.")
    log.warning("database.few_connections", problem=text, most=found.most, taken=found.taken)
