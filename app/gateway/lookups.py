"""The two things a click may ask the database for, each with a short deadline and a memory.

No click needs an answer: the target of a very long link apart (links over 1,800 characters), what is looked up
here only adds evidence. While the database is away nothing is waited for.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

import structlog
from sqlalchemy import select, text
from sqlalchemy.exc import SQLAlchemyError

from app.kit.db import Database
from app.links.models import LinkPayload
from app.policy.snapshots import SnapshotStore
from app.verdicts.heuristics import delivery_signals
from app.verdicts.scoring import Signal

PAYLOAD_SECONDS: Final = 2.0
DELIVERY_SECONDS: Final = 0.25
QUIET_SECONDS: Final = 2.0
_MAX_PAYLOADS: Final = 2_000
_MAX_MESSAGES: Final = 20_000

# The table belongs to a sibling package (protection), which the gateway does not import.
_FINDINGS = text("SELECT url, findings FROM message_links WHERE message_id = :message AND findings <> '[]'::jsonb")

log = structlog.get_logger(__name__)


class StoredPayloads:
    """Targets of links that are too long for a URL."""

    def __init__(self, database: Database, snapshots: SnapshotStore) -> None:
        self._database = database
        self._snapshots = snapshots
        self._known: dict[tuple[int, bytes], bytes] = {}

    async def __call__(self, tenant_no: int, digest: bytes) -> bytes | None:
        """The sealed payload; None where there is none.

        Raises:
            LookupError: The database is away or too slow, or the tenant is not known here yet.
        """
        found = self._known.get((tenant_no, digest))
        if found is not None:
            return found
        tenant_id = self._snapshots.tenant_id(tenant_no)
        if tenant_id is None:
            raise LookupError("tenant not known")
        try:
            async with asyncio.timeout(PAYLOAD_SECONDS), self._database.tenant(tenant_id) as session:
                found = await session.scalar(select(LinkPayload.sealed).where(LinkPayload.digest == digest))
        except (SQLAlchemyError, OSError, TimeoutError) as error:
            raise LookupError(type(error).__name__) from None
        if found is not None:
            if len(self._known) >= _MAX_PAYLOADS:
                self._known.clear()
            self._known[tenant_no, digest] = found
        return found


class DeliveryFindings:
    """What was noticed about a message's links when it was delivered.

    Args:
        database: The application's database.
        snapshots: Knows tenants by number.
        monotonic: Seconds, for tests.
    """

    def __init__(
        self, database: Database, snapshots: SnapshotStore, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._database = database
        self._snapshots = snapshots
        self._monotonic = monotonic
        self._quiet_until = 0.0
        self._known: dict[tuple[int, int], dict[str, tuple[Signal, ...]]] = {}

    def cached(self, tenant_no: int, message_no: int, url: str) -> tuple[Signal, ...] | None:
        """The signals where the message was looked up before."""
        links = self._known.get((tenant_no, message_no))
        return None if links is None else links.get(url, ())

    async def fetch(self, tenant_no: int, message_no: int, url: str) -> tuple[Signal, ...] | None:
        """Look the message up; None where the database is away or takes longer than a quarter second."""
        tenant_id = self._snapshots.tenant_id(tenant_no)
        if tenant_id is None or self._monotonic() < self._quiet_until:
            return None
        try:
            async with asyncio.timeout(DELIVERY_SECONDS), self._database.tenant(tenant_id) as session:
                rows = (await session.execute(_FINDINGS, {"message": message_no})).all()
        except (SQLAlchemyError, OSError, TimeoutError) as error:
            self._quiet_until = self._monotonic() + QUIET_SECONDS
            log.info("delivery_findings.skipped", error=type(error).__name__)
            return None
        links: dict[str, tuple[Signal, ...]] = {}
        for row in rows:
            links[row.url] = (*links.get(row.url, ()), *delivery_signals(row.findings))
        if len(self._known) >= _MAX_MESSAGES:
            self._known.clear()
        self._known[tenant_no, message_no] = links
        return links.get(url, ())
