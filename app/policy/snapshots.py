"""The snapshots a gateway decides by: in memory, kept on disk, refreshed from the database.

A gateway that starts while the database is away goes on with the copy on disk. Changes arrive over
``LISTEN postern_policy``; a full refresh every half minute catches what a lost connection missed.
"""

from __future__ import annotations

import asyncio
import json
import os
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Final

import psycopg
import structlog
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from app.kit.db import Database
from app.kit.errors import NotFound
from app.policy.engine import PolicySnapshot
from app.policy.service import CHANNEL, load_snapshot

FULL_REFRESH_SECONDS: Final = 30.0
_RETRY_SECONDS: Final = (0.2, 0.5, 1.0, 2.0, 5.0)
_FORMAT = 1

log = structlog.get_logger(__name__)


class SnapshotStore:
    """Snapshots by tenant number.

    Args:
        folder: Where the copy on disk lies; None keeps none.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._path = None if folder is None else folder / "policies.json"
        self._by_no: dict[int, PolicySnapshot] = {}
        self._no_by_id: dict[str, int] = {}
        self.loaded = False
        """Whether snapshots came from the database or from disk."""
        self.from_database = False
        self._wanted = asyncio.Event()

    def __len__(self) -> int:
        return len(self._by_no)

    def get(self, tenant_no: int) -> PolicySnapshot:
        """The tenant's snapshot; a tenant not known yet gets an empty one, and a refresh is asked for."""
        found = self._by_no.get(tenant_no)
        if found is None:
            self._wanted.set()
            found = PolicySnapshot(tenant_no)
        return found

    def has(self, tenant_no: int) -> bool:
        """Whether the tenant is known; asks for nothing where it is not."""
        return tenant_no in self._by_no

    def tenant_id(self, tenant_no: int) -> uuid.UUID | None:
        """The tenant's id, where it is known."""
        found = self._by_no.get(tenant_no)
        return None if found is None or not found.tenant_id else uuid.UUID(found.tenant_id)

    def put(self, snapshot: PolicySnapshot) -> None:
        """Use a snapshot from now on."""
        if snapshot.problems:
            log.warning("policy.entries_passed_over", tenant=snapshot.tenant_no, problems=snapshot.problems[:5])
        self._by_no[snapshot.tenant_no] = snapshot
        self._no_by_id[snapshot.tenant_id] = snapshot.tenant_no
        self.loaded = True

    def load_from_disk(self) -> int:
        """Take the copy on disk, where there is one.

        Returns:
            How many tenants it held. A damaged copy is reported and not used.
        """
        if self._path is None or not self._path.exists():
            return 0
        try:
            data = json.loads(self._path.read_text())
            if data["format"] != _FORMAT:
                raise ValueError(f"format {data['format']}")
            snapshots = [PolicySnapshot.from_json(item) for item in data["snapshots"]]
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            log.error("policy.copy_damaged", path=str(self._path), error=str(error))
            return 0
        for snapshot in snapshots:
            self.put(snapshot)
        self.loaded = True
        return len(snapshots)

    def save_to_disk(self) -> None:
        """Write the copy on disk, whole or not at all."""
        if self._path is None:
            return
        data = {"format": _FORMAT, "snapshots": [snapshot.as_json() for snapshot in self._by_no.values()]}
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            draft = self._path.with_suffix(f".{os.getpid()}.new")
            with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
                json.dump(data, file)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self._path)
        except OSError as error:
            log.error("policy.copy_not_written", path=str(self._path), error=str(error))

    async def refresh_all(self, database: Database) -> None:
        """Load every tenant from the database."""
        async with database.untenanted() as session:
            rows = (await session.execute(text("SELECT tenant_id FROM postern_tenants()"))).scalars().all()
        changed = False
        for tenant_id in rows:
            changed |= await self._refresh(database, tenant_id)
        gone = set(self._no_by_id) - {str(tenant_id) for tenant_id in rows}
        for name in gone:
            self._by_no.pop(self._no_by_id.pop(name), None)
        self.loaded = self.from_database = True
        if changed or gone:
            self.save_to_disk()

    async def refresh_tenant(self, database: Database, tenant_id: uuid.UUID) -> None:
        """Load one tenant from the database."""
        if await self._refresh(database, tenant_id):
            self.save_to_disk()

    async def _refresh(self, database: Database, tenant_id: uuid.UUID) -> bool:
        try:
            async with database.tenant(tenant_id) as session:
                snapshot = await load_snapshot(session, tenant_id)
        except NotFound:
            return False
        if self._by_no.get(snapshot.tenant_no) == snapshot:
            return False
        self.put(snapshot)
        return True

    async def follow(self, database: Database) -> None:
        """Keep the snapshots fresh until cancelled; whatever the database does, this goes on."""
        failures = 0
        while True:
            try:
                await self._follow(database)
            except (psycopg.Error, SQLAlchemyError, OSError) as error:
                if failures == 0:
                    log.warning("policy.database_away", error=type(error).__name__, tenants=len(self))
                await asyncio.sleep(_RETRY_SECONDS[min(failures, len(_RETRY_SECONDS) - 1)])
                failures += 1
            else:
                failures = 0

    async def _follow(self, database: Database) -> None:
        connection = await psycopg.AsyncConnection.connect(database.url, autocommit=True)
        try:
            # Listen first, load after: no change can fall between the two.
            await connection.execute(f"LISTEN {CHANNEL}")
            await self.refresh_all(database)
            log.info("policy.following", tenants=len(self))
            loop = asyncio.get_running_loop()
            full_at = loop.time() + FULL_REFRESH_SECONDS
            while True:
                async for notice in connection.notifies(timeout=0.2):
                    with suppress(ValueError):
                        await self.refresh_tenant(database, uuid.UUID(notice.payload))
                if self._wanted.is_set() or loop.time() >= full_at:
                    await self.refresh_all(database)
                    self._wanted.clear()
                    full_at = loop.time() + FULL_REFRESH_SECONDS
                    await asyncio.sleep(0.2)
        finally:
            await connection.close()
