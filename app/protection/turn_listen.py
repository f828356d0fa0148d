"""The worker's ear for words that verdicts may have turned; a look once a minute covers what it misses."""

from __future__ import annotations

import asyncio
import uuid
from contextlib import suppress
from datetime import timedelta

import psycopg
import structlog
from sqlalchemy.exc import SQLAlchemyError

from app.policy.service import CHANNEL as POLICY
from app.protection.queue import defer_turn
from app.protection.runtime import Runtime, all_grants
from app.verdicts.sources.service import CHANNEL as FEEDS
from app.verdicts.turned import CHANNEL as TURNED

log = structlog.get_logger()

_RETRY_SECONDS = 3.0
_LOOK_SECONDS = 1.0
_COPY_SECONDS = 5.0


async def listen_for_turns(runtime: Runtime) -> None:
    """Defer a tenant's turn job when its list changes or a click of it was stopped, and everybody's when a list of
    the installation changes. Until cancelled; whatever the database does, this goes on."""
    while not runtime.stopping.is_set():
        try:
            await _listen(runtime)
            continue
        except (psycopg.Error, SQLAlchemyError, OSError) as error:
            log.warning("turn.database_away", error=type(error).__name__)
        with suppress(TimeoutError):
            await asyncio.wait_for(runtime.stopping.wait(), _RETRY_SECONDS)


async def _listen(runtime: Runtime) -> None:
    async with await psycopg.AsyncConnection.connect(runtime.db.url, autocommit=True) as connection:
        await connection.execute(f"LISTEN {POLICY}")
        await connection.execute(f"LISTEN {TURNED}")
        await connection.execute(f"LISTEN {FEEDS}")
        while not runtime.stopping.is_set():
            async for notice in connection.notifies(timeout=_LOOK_SECONDS):
                # New lists are in the database when the word comes; this machine's copy follows within seconds.
                late = notice.channel == FEEDS
                await heard(runtime, "" if late else notice.payload, after=_COPY_SECONDS if late else 0.0)


async def heard(runtime: Runtime, payload: str, *, after: float = 0.0) -> None:
    """Act on one word: a tenant's id, or nothing for all tenants.

    Args:
        runtime: The process.
        payload: The word.
        after: Seconds to wait with the work.
    """
    at = runtime.clock() + timedelta(seconds=after) if after else None
    tenants: list[uuid.UUID] = []
    if payload:
        with suppress(ValueError):
            tenants = [uuid.UUID(payload)]
    else:
        async with runtime.db.untenanted() as session:
            tenants = [grant.tenant_id for grant, status in await all_grants(session) if status != "onboarding"]
    for tenant_id in tenants:
        async with runtime.db.tenant(tenant_id) as session:
            await defer_turn(session, tenant_id, at=at)
