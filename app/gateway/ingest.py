"""From the spool into the database: each event once, none lost, whatever is killed when.

Events carry the id they were written with; inserting does nothing where the id is there already. The position is
noted after the commit, so a crash between the two reads again and changes nothing. While the database is away the
spool simply grows. An event that can never be taken in (a tenant that is gone, a line that is none) is put aside
in ``rejected.jsonl`` beside the spool, counted and reported; it stops nobody else's.
"""

from __future__ import annotations

import asyncio
import json
import os
import uuid
from collections import defaultdict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import structlog
from sqlalchemy import Table, cast, text, update
from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError

from app.gateway.events import VERSION
from app.gateway.labels import DATACENTRE, DRAWN_WITHIN, PAGE, SEEN, label_clicks
from app.gateway.models import Click, ClickReport
from app.kit.clock import utc_now
from app.kit.db import Database
from app.kit.spool_reader import SpoolReader
from app.policy.snapshots import SnapshotStore
from app.verdicts.turned import notify_turned

_RETRY_SECONDS: Final = (0.2, 0.5, 1.0, 2.0, 5.0)
_OTHER_READER_SECONDS: Final = 1.0
_ROWS_PER_INSERT: Final = 500
LABEL_TRIES: Final = 5
_MAX_TO_LABEL: Final = 10_000
_MAX_PAGES: Final = 10_000
_PAGE_SECONDS: Final = DRAWN_WITHIN.total_seconds() + 5.0

log = structlog.get_logger(__name__)

_SEEN: Final = cast({SEEN: "1"}, JSONB)


@dataclass(slots=True)
class IngestStats:
    """Counters since the start.

    Attributes:
        ingested: Rows taken in.
        rejected: Events put aside.
        outages: Times the database was away.
        label_failures: Times the clicks of a tenant could not be labelled; they are in the database all the same.
        unlabelled: Clicks that were given up on.
    """

    ingested: int = 0
    rejected: int = 0
    outages: int = 0
    label_failures: int = 0
    unlabelled: int = 0


@dataclass(slots=True)
class _ToLabel:
    """Clicks of one tenant that are in the database without a label."""

    clicks: list[uuid.UUID] = field(default_factory=list)
    tries: int = 0
    not_before: float = 0.0


@dataclass(frozen=True, slots=True)
class _Row:
    """One event: a row for a table, or (without one) that the page of a click was drawn."""

    table: Table | None
    values: dict[str, Any]
    payload: bytes


class Ingest:
    """Takes events from a spool into the database.

    Args:
        reader: The spool.
        database: The application's database.
        snapshots: Knows tenants by number; asked first.
        interval: Seconds between looks.
    """

    def __init__(
        self, reader: SpoolReader, database: Database, snapshots: SnapshotStore, interval: float = 0.2
    ) -> None:
        self._reader = reader
        self._database = database
        self._snapshots = snapshots
        self._interval = interval
        self._tenants: dict[int, uuid.UUID] = {}
        self._to_label: dict[uuid.UUID, _ToLabel] = {}
        self._pages: deque[tuple[float, uuid.UUID, list[uuid.UUID]]] = deque(maxlen=_MAX_PAGES)
        """When clicks that showed a page are labelled once more: by then it was drawn, or never will be."""
        self.stats = IngestStats()

    async def run(self) -> None:
        """Take events in until cancelled."""
        failures = 0
        try:
            while True:
                if not self._reader.lock():
                    await asyncio.sleep(_OTHER_READER_SECONDS)
                    continue
                try:
                    await self.once()
                except (SQLAlchemyError, OSError) as error:
                    if failures == 0:
                        self.stats.outages += 1
                        log.warning("ingest.waiting", error=type(error).__name__)
                    await asyncio.sleep(_RETRY_SECONDS[min(failures, len(_RETRY_SECONDS) - 1)])
                    failures += 1
                else:
                    if failures:
                        log.info("ingest.resumed", ingested=self.stats.ingested)
                    failures = 0
                    await asyncio.sleep(self._interval)
        finally:
            self._reader.unlock()

    async def once(self) -> int:
        """Take in all that is there now.

        Returns:
            How many events were handled.

        Raises:
            SQLAlchemyError: The database is away; the events wait in the spool.
            OSError: The spool cannot be read or the position not be noted.
        """
        handled = 0
        batches = self._reader.batches(_ROWS_PER_INSERT)
        while (batch := await asyncio.to_thread(next, batches, None)) is not None:
            if batch.payloads:
                await self._take(batch.payloads)
            await asyncio.to_thread(self._reader.acknowledge, batch)
            handled += len(batch.payloads)
        if self._to_label or self._pages:
            await self._label()
        return handled

    async def _take(self, payloads: tuple[bytes, ...]) -> None:
        by_tenant: dict[int, list[_Row]] = defaultdict(list)
        for payload in payloads:
            try:
                tenant_no, row = _row(payload)
            except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
                self._reject(payload, f"not an event: {error!r}")
                continue
            by_tenant[tenant_no].append(row)
        for tenant_no, rows in by_tenant.items():
            tenant_id = await self._tenant(tenant_no)
            if tenant_id is None:
                for row in rows:
                    self._reject(row.payload, f"no tenant {tenant_no}")
                continue
            await self._insert(tenant_id, rows)
            clicks = [row.values["id"] for row in rows if row.table is Click.__table__]
            drawn = [row.values["click"] for row in rows if row.table is None]
            if clicks or drawn:
                self._to_label.setdefault(tenant_id, _ToLabel()).clicks += [*clicks, *drawn]
            pages = [row.values["id"] for row in rows if PAGE in row.values.get("signals", ())]
            if pages:
                self._pages.append((asyncio.get_running_loop().time() + _PAGE_SECONDS, tenant_id, pages))
        await self._label()

    async def _label(self) -> None:
        """Label what was taken in. Where that fails for one tenant, it is tried again later and holds up nobody."""
        now = asyncio.get_running_loop().time()
        while self._pages and self._pages[0][0] <= now:
            _, tenant_id, pages = self._pages.popleft()
            self._to_label.setdefault(tenant_id, _ToLabel()).clicks += pages
        for tenant_id, waiting in list(self._to_label.items()):
            if waiting.not_before > now:
                continue
            try:
                async with self._database.tenant(tenant_id) as session:
                    await label_clicks(session, waiting.clicks[:_ROWS_PER_INSERT], utc_now())
            except Exception as error:  # noqa: BLE001 - whatever it is, the clicks are stored and the others go on
                self.stats.label_failures += 1
                waiting.tries += 1
                waiting.not_before = now + _RETRY_SECONDS[min(waiting.tries, len(_RETRY_SECONDS)) - 1]
                log.warning("ingest.not_labelled", tenant=str(tenant_id), error=type(error).__name__)
                if waiting.tries >= LABEL_TRIES or len(waiting.clicks) > _MAX_TO_LABEL:
                    log.error("ingest.labels_given_up", tenant=str(tenant_id), clicks=len(waiting.clicks))
                    self.stats.unlabelled += len(waiting.clicks)
                    del self._to_label[tenant_id]
            else:
                waiting.tries, waiting.not_before = 0, 0.0
                del waiting.clicks[:_ROWS_PER_INSERT]
                if not waiting.clicks:
                    del self._to_label[tenant_id]

    async def _insert(self, tenant_id: uuid.UUID, rows: list[_Row]) -> None:
        try:
            async with self._database.tenant(tenant_id) as session:
                for table in (Click.__table__, ClickReport.__table__):
                    values = [{"tenant_id": tenant_id, **row.values} for row in rows if row.table is table]
                    if values:
                        assert isinstance(table, Table)
                        await session.execute(insert(table).on_conflict_do_nothing(), values)
                drawn = [row.values["click"] for row in rows if row.table is None]
                if drawn:
                    await session.execute(
                        update(Click)
                        .where(Click.tenant_id == tenant_id, Click.id.in_(drawn))
                        .values(signals=Click.signals.op("||")(_SEEN))
                    )
                if any(_was_stopped(row) for row in rows):
                    await notify_turned(session, tenant_id)
            self.stats.ingested += len(rows)
        except (OperationalError, InterfaceError):
            raise
        except DBAPIError as error:
            if error.connection_invalidated:
                raise
            if len(rows) == 1:
                self._reject(rows[0].payload, f"refused by the database: {type(error.orig).__name__}")
                return
            # One row spoils the others' insert: find it by halves.
            middle = len(rows) // 2
            await self._insert(tenant_id, rows[:middle])
            await self._insert(tenant_id, rows[middle:])

    async def _tenant(self, tenant_no: int) -> uuid.UUID | None:
        known = self._snapshots.tenant_id(tenant_no) or self._tenants.get(tenant_no)
        if known is not None:
            return known
        async with self._database.untenanted() as session:
            found: uuid.UUID | None = await session.scalar(
                text("SELECT tenant_id FROM postern_tenants() WHERE no = :no"), {"no": tenant_no}
            )
        if found is not None:
            self._tenants[tenant_no] = found
        return found

    def _reject(self, payload: bytes, why: str) -> None:
        self.stats.rejected += 1
        log.error("ingest.put_aside", reason=why)
        line = json.dumps({"reason": why, "event": payload.decode("utf-8", "replace")}) + "\n"
        path = self._reader.folder / "rejected.jsonl"
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "w") as file:
            file.write(line)
            file.flush()
            os.fdatasync(file.fileno())


def _was_stopped(row: _Row) -> bool:
    """Whether a click belongs to an incident."""
    return row.values.get("action") == "block" or row.values.get("level") == "malicious"


def _row(payload: bytes) -> tuple[int, _Row]:
    """Tenant number and row of an event.

    Raises:
        ValueError, KeyError, TypeError, AttributeError, OverflowError: It is none.
    """
    event = json.loads(payload)
    if event["v"] != VERSION:
        raise ValueError(f"version {event['v']}")
    if event["kind"] == "seen":
        return int(event["tenant"]), _Row(None, {"click": uuid.UUID(event["click"])}, payload)
    values: dict[str, Any] = {
        "id": uuid.UUID(event["id"]),
        "at": datetime.fromtimestamp(event["at"], UTC),
        "mailbox_id": event["mailbox"] or None,
        "message_id": event["message"] or None,
        "url": event["url"],
        "host": event["host"],
    }
    if event["kind"] == "click":
        signals = event["signals"]
        if not isinstance(signals, Mapping):
            raise TypeError("signals")
        values |= {
            "level": event["level"],
            "action": event["action"],
            "rule": event["rule"],
            "evidence": event["evidence"],
            "user_agent": event["agent"],
            "client_address": event.get("address"),
            "signals": dict(signals) | {name: "1" for name in (PAGE, DATACENTRE) if event.get(name) is True},
        }
        table = Click.__table__
    elif event["kind"] == "report":
        values |= {"kind": event["report"], "reason": event["reason"]}
        table = ClickReport.__table__
    else:
        raise ValueError(f"kind {event['kind']}")
    assert isinstance(table, Table)
    return int(event["tenant"]), _Row(table, values, payload)
