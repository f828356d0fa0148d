"""Building the installation's feed store from what the sources gave, and giving it to every machine.

The store in force is the base: what a source that did not change has in it is taken over as it is, so a build
costs a merge, not another reading of every list. A build that was killed leaves the store in force, and the lists that
wait for the next one.
"""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog
from sqlalchemy import delete, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.clock import Clock, utc_now
from app.kit.db import Database
from app.kit.jobs import defer
from app.verdicts.feed_merge import Part, StoreRun, newly_listed, part_of, write
from app.verdicts.feed_store import MappedStore, StoreHeader, StoreSource
from app.verdicts.sources.distribution import (
    KEPT_STORES,
    LIST,
    STORE,
    FileGone,
    drop_older,
    fetch_file,
    newest,
    put_file,
)
from app.verdicts.sources.models import FeedFileRow, ThreatSourceRow
from app.verdicts.sources.registry import kinds
from app.verdicts.sources.service import QUEUE, SWAPPED, announce

if TYPE_CHECKING:
    from numpy.typing import NDArray

BUILD_LOCK: Final = 0x706F7374_66656564
_ATTEMPTS: Final = 3

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Published:
    """A new store.

    Attributes:
        number: Of the file; 0: nothing had changed, nothing was built.
        entries: In it.
        added: Listed now and not before, or worse than before.
    """

    number: int = 0
    entries: int = 0
    added: int = 0


@dataclass(frozen=True, slots=True)
class _Plan:
    """What a build works from."""

    base: FeedFileRow | None
    sources: list[StoreSource]
    waiting: list[FeedFileRow]


async def build_and_publish(database: Database, folder: Path, clock: Clock = utc_now) -> Published:
    """Build the store from the one in force and the lists that wait, and publish it.

    Args:
        database: The process's.
        folder: For drafts; removed again.
        clock: Aware UTC.

    Raises:
        FileGone: Others published again and again meanwhile; the next build takes the rest.
    """
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    for _ in range(_ATTEMPTS):
        async with database.untenanted() as session:
            plan = await _plan(session)
        with tempfile.TemporaryDirectory(prefix="build-", dir=folder) as work:
            base = None if plan.base is None else await _fetched(database, plan.base, Path(work))
            if not plan.waiting and base is not None and _names(base.header) == _names_of(plan.sources):
                return Published()
            if not plan.waiting and base is None and not plan.sources:
                return Published()
            lists = [await _fetched(database, row, Path(work)) for row in plan.waiting]
            out, delta = Path(work) / "store.pfs", Path(work) / "delta.pfs"
            header, added = await asyncio.to_thread(_build, out, delta, plan, base, lists, clock)
            async with database.untenanted() as session:
                number = await _publish(session, plan, out, header, added, clock)
        if number:
            entries = sum(source.entries for source in header.sources)
            log.info("feeds.published", number=number, entries=entries, added=added)
            return Published(number, entries, added)
    raise FileGone("The store was published by others meanwhile.")


async def _plan(session: AsyncSession) -> _Plan:
    rows = await session.scalars(
        select(ThreatSourceRow)
        .where(ThreatSourceRow.enabled)
        .order_by(ThreatSourceRow.created_at, ThreatSourceRow.name)
    )
    lists = [row for row in rows if (kind := kinds().get(row.kind)) is not None and kind.family == "list"]
    waiting = await session.scalars(
        select(FeedFileRow)
        .where(FeedFileRow.kind == LIST, ~FeedFileRow.held, FeedFileRow.source.in_([row.name for row in lists]))
        .order_by(FeedFileRow.id)
    )
    return _Plan(await newest(session, STORE), [StoreSource(row.name, 0, row.weight) for row in lists], list(waiting))


async def _fetched(database: Database, row: FeedFileRow, work: Path) -> MappedStore:
    path = work / f"{row.id}.pfs"
    await fetch_file(database, row.id, path)
    return MappedStore(path)


def _names(header: StoreHeader) -> list[tuple[str, int]]:
    return [(source.name, source.weight) for source in header.sources]


def _names_of(sources: list[StoreSource]) -> list[tuple[str, int]]:
    return [(source.name, source.weight) for source in sources]


def _build(
    out: Path, delta: Path, plan: _Plan, base: MappedStore | None, lists: list[MappedStore], clock: Clock
) -> tuple[StoreHeader, int]:
    """Merge; in a thread, since it takes seconds."""
    parts = [_part(source, plan, base, lists) for source in plan.sources]
    version = 1 if base is None else base.header.version + 1
    header = write(out, parts, now=clock(), version=version)
    added = newly_listed(base, MappedStore(out), delta)
    return header, sum(source.entries for source in added.sources)


def _part(source: StoreSource, plan: _Plan, base: MappedStore | None, lists: list[MappedStore]) -> Part:
    import numpy

    before = part_of(base, source.name)
    mine = [(row, made) for row, made in zip(plan.waiting, lists, strict=True) if row.source == source.name]
    wholes = [place for place, (row, _) in enumerate(mine) if row.whole]
    if wholes:
        mine = mine[wholes[-1] :]
    removed: list[NDArray[numpy.uint64]] = [
        numpy.frombuffer(row.removed, dtype="<u8") for row, _ in mine if row.removed
    ]
    without = numpy.unique(numpy.concatenate(removed)) if removed else None
    added = [StoreRun(made, 0) for _, made in mine]
    if wholes:
        # What was listed before gives its dates to what is listed still; with additions after a whole list,
        # what they take away is taken away from that one.
        return Part(source, added, history=before, without=without)
    runs = [*([] if before is None else [before]), *added]
    return Part(source, runs, without=None if before is None else without)


async def _publish(session: AsyncSession, plan: _Plan, out: Path, header: StoreHeader, added: int, clock: Clock) -> int:
    """Everything at once, or nothing where the ground moved: 0."""
    await session.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": BUILD_LOCK})
    now = await _plan(session)
    same_base = (now.base.id if now.base else 0) == (plan.base.id if plan.base else 0)
    used = [row.id for row in plan.waiting]
    if not same_base or now.sources != plan.sources or not set(used) <= {row.id for row in now.waiting}:
        return 0
    total = sum(source.entries for source in header.sources)
    number = await put_file(session, out, kind=STORE, entries=total, made_at=clock())
    changed = {row.source for row in plan.waiting}
    await session.execute(delete(FeedFileRow).where(FeedFileRow.id.in_(used)))
    await drop_older(session, STORE, keep=KEPT_STORES)
    for source in header.sources:
        row = await session.get(ThreatSourceRow, source.name, with_for_update=True)
        if row is not None:
            row.entries = source.entries
            if source.name in changed:
                row.last_change = clock()
    if added:
        await defer(session, SWAPPED, {"number": number}, queue=QUEUE, lock=SWAPPED, queueing_lock=SWAPPED)
    await announce(session)
    return number
