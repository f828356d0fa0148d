"""Asking one source for what is new: the worker's part, one call per source and time.

A list that came whole is read into a store of its own, checked, and put into the database for the next build; one
that looks poisoned or broken off is held there until somebody has looked. Whatever goes wrong, what the source gave
before stays in force, the reason is kept in words, and it is asked again later and later.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Final

import structlog
from sqlalchemy import delete

from app.kit.clock import Clock, utc_now
from app.kit.db import Database
from app.kit.errors import Refused
from app.verdicts.feed_build import Collected, collect, expression_keys, shrunk_or_grown
from app.verdicts.feed_merge import Part, write
from app.verdicts.feed_store import StoreSource
from app.verdicts.sources.distribution import FILE, LIST, drop_older, fetch_file, newest, put_file
from app.verdicts.sources.files import FileSource, file_name
from app.verdicts.sources.keys import read_secret
from app.verdicts.sources.models import FeedFileRow, ThreatSourceRow
from app.verdicts.sources.registry import kind_of, make_list_source, make_signal_source
from app.verdicts.sources.service import _held, announce, config_of, want_build, want_refresh
from app.verdicts.sources.types import Download, SourceClient, SourceConfig, SourceFailed, Tally

FIRST_RETRY_SECONDS: Final = 60.0
LONGEST_SECONDS: Final = 900.0
"""A download and its reading take no longer."""
MAX_RETRY_SECONDS: Final = 6 * 3600.0
MAX_OWN_RETRY_SECONDS: Final = 24 * 3600.0
MAX_STATE_BYTES: Final = 65_536
JITTER: Final = 0.1

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Refreshed:
    """What came of asking a source.

    Attributes:
        outcome: ``taken``, ``unchanged``, ``held``, ``failed``, ``off`` (not switched on), ``nothing`` (it has no
            list: it is asked at clicks).
        entries: Of what came.
        why: For ``failed`` and ``held``, in words.
    """

    outcome: str
    entries: int = 0
    why: str = ""


@dataclass(frozen=True, slots=True)
class Refresher:
    """Asks sources.

    Attributes:
        database: The process's.
        client: Asks their servers.
        folder: For drafts; removed again.
        protected: Hosts that no list may block as a whole.
        clock: Aware UTC.
        chance: A number from 0 to 1, for spreading the next time.
    """

    database: Database
    client: SourceClient
    folder: Path
    protected: Collection[str] = frozenset()
    clock: Clock = utc_now
    chance: Callable[[], float] = random.random

    async def refresh(self, name: str) -> Refreshed:
        """Ask one source now.

        Returns:
            What came of it; a failure of the source is an outcome, not an error.
        """
        async with self.database.untenanted() as session:
            row = await session.get(ThreatSourceRow, name)
            if row is None or not row.enabled:
                return Refreshed("off")
            row.last_try = self.clock()
            # Whatever becomes of this process, the source is not asked again and again, nor while it still answers.
            row.next_try = self._later(LONGEST_SECONDS)
            held = await _held(session, name)
            config = config_of(row)
            state = held.state if held is not None and held.whole else row.state
            before = row.entries
        try:
            kind = kind_of(config.kind)
            secret = read_secret(config.secret_ref)
            if kind.needs_secret and not secret:
                raise SourceFailed(f"{kind.title} wants a key. The source was not asked.", reason="secret")
            if kind.family == "signal":
                return await self._renew(config, secret)
            async with make_list_source(config, secret).download(self.client, state) as download:
                if download.unchanged:
                    return await self._unchanged(config, download, held is not None)
                return await self._take(config, download, before)
        except (SourceFailed, Refused) as error:
            return await self._failed(config, error)
        except OSError as error:
            return await self._failed(config, SourceFailed(f"Cannot be kept here: {error.strerror}.", reason="connect"))

    async def _take(self, config: SourceConfig, download: Download, before: int) -> Refreshed:
        if len(download.state) > MAX_STATE_BYTES:
            raise SourceFailed("The source wants too much to be remembered for it.", reason="format")
        await asyncio.to_thread(self.folder.mkdir, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="list-", dir=self.folder) as folder:
            path = Path(folder) / "list.pfs"
            made = await asyncio.to_thread(_to_store, path, config, download, self.protected, self.clock().date())
            reasons = list(made.held)
            if download.whole:
                changed = shrunk_or_grown(before, made.entries, download.refused)
                if changed:
                    reasons.append(changed)
            async with self.database.untenanted() as session:
                row = await session.get(ThreatSourceRow, config.name, with_for_update=True)
                if row is None or not row.enabled:
                    return Refreshed("off")
                replaced = delete(FeedFileRow).where(FeedFileRow.kind == LIST, FeedFileRow.source == config.name)
                if not download.whole:
                    replaced = replaced.where(FeedFileRow.held)  # additions that wait for the build are wanted too
                elif reasons:
                    replaced = replaced.where(FeedFileRow.held)
                await session.execute(replaced)
                await put_file(
                    session,
                    path,
                    kind=LIST,
                    source=config.name,
                    held=bool(reasons),
                    reasons=reasons,
                    whole=download.whole,
                    state=download.state,
                    removed=made.removed,
                    entries=made.entries,
                    made_at=self.clock(),
                )
                self._succeeded(row, config)
                row.refused, row.problems = download.refused, list(download.problems)
                if not reasons:
                    row.state = download.state
                    await want_build(session)
        if reasons:
            log.error("source.held", source=config.name, entries=made.entries, reasons=reasons)
            return Refreshed("held", made.entries, "; ".join(reasons))
        log.info("source.taken", source=config.name, entries=made.entries, refused=download.refused)
        return Refreshed("taken", made.entries)

    async def _unchanged(self, config: SourceConfig, download: Download, held: bool) -> Refreshed:
        async with self.database.untenanted() as session:
            row = await session.get(ThreatSourceRow, config.name, with_for_update=True)
            if row is None:
                return Refreshed("off")
            self._succeeded(row, config)
            if not held and download.state:
                row.state = download.state[:MAX_STATE_BYTES]
        return Refreshed("unchanged", row.entries)

    async def _renew(self, config: SourceConfig, secret: str) -> Refreshed:
        source = make_signal_source(config, secret)
        try:
            if not isinstance(source, FileSource):
                return await self._asked_at_clicks(config)
            renewed = await source.renew(self.client, await self._previous(config))
        finally:
            await source.aclose()
        with tempfile.TemporaryDirectory(prefix="file-", dir=await self._existing_folder()) as folder:
            path = Path(folder) / "file"
            if renewed.content is not None:
                await asyncio.to_thread(path.write_bytes, renewed.content)
            async with self.database.untenanted() as session:
                row = await session.get(ThreatSourceRow, config.name, with_for_update=True)
                if row is None or not row.enabled:
                    return Refreshed("off")
                self._succeeded(row, config, renewed.wait_seconds)
                if renewed.content is None:
                    return Refreshed("unchanged", row.entries)
                row.refused, row.problems = renewed.refused, list(renewed.problems)
                row.entries, row.last_change = renewed.entries, self.clock()
                name = file_name(config)
                await put_file(session, path, kind=FILE, source=name, entries=renewed.entries, made_at=self.clock())
                await drop_older(session, FILE, name, keep=2)
                await announce(session)
                if renewed.wait_seconds == 0:
                    await want_refresh(session, config.name, force=True)
        log.info("source.taken", source=config.name, entries=renewed.entries, refused=renewed.refused)
        return Refreshed("taken", renewed.entries)

    async def _existing_folder(self) -> Path:
        await asyncio.to_thread(self.folder.mkdir, parents=True, exist_ok=True)
        return self.folder

    async def _previous(self, config: SourceConfig) -> bytes | None:
        async with self.database.untenanted() as session:
            row = await newest(session, FILE, file_name(config))
        if row is None:
            return None
        with tempfile.TemporaryDirectory(prefix="file-", dir=await self._existing_folder()) as folder:
            path = Path(folder) / "file"
            await fetch_file(self.database, row.id, path)
            return await asyncio.to_thread(path.read_bytes)

    async def _asked_at_clicks(self, config: SourceConfig) -> Refreshed:
        async with self.database.untenanted() as session:
            row = await session.get(ThreatSourceRow, config.name, with_for_update=True)
            if row is not None:
                row.next_try = self._later(config.every_seconds)
                row.error, row.failures = "", 0
        return Refreshed("nothing")

    async def _failed(self, config: SourceConfig, error: Exception) -> Refreshed:
        wait = error.retry_after if isinstance(error, SourceFailed) else None
        own = error.first_retry if isinstance(error, SourceFailed) else None
        first, most = (FIRST_RETRY_SECONDS, MAX_RETRY_SECONDS) if own is None else (own, MAX_OWN_RETRY_SECONDS)
        async with self.database.untenanted() as session:
            row = await session.get(ThreatSourceRow, config.name, with_for_update=True)
            if row is None:
                return Refreshed("off")
            row.failures += 1
            row.error = str(error)[:500]
            delay = min(most, first * 2 ** min(row.failures - 1, 20))
            row.next_try = self._later(max(delay, wait or 0.0))
            failures = row.failures
        log.warning("source.failed", source=config.name, error=str(error), failures=failures)
        return Refreshed("failed", why=str(error))

    def _succeeded(self, row: ThreatSourceRow, config: SourceConfig, wait: float | None = None) -> None:
        row.last_success = self.clock()
        row.error, row.failures = "", 0
        row.next_try = self._later(config.every_seconds if wait is None else max(wait, 0.0))

    def _later(self, seconds: float) -> Any:
        # Only later: a publisher's own bound is never undercut.
        return self.clock() + timedelta(seconds=seconds * (1 + JITTER * self.chance()))


@dataclass(frozen=True, slots=True)
class _Made:
    entries: int
    held: list[str]
    removed: bytes


def _to_store(path: Path, config: SourceConfig, download: Download, protected: Collection[str], today: date) -> _Made:
    """Read a download into a store of its own; in a thread, since a list can be long."""
    tally: Tally = download.tally
    found: Collected = collect(download.entries, config.level, tally, protected, config.name, today)
    header = write(path, [Part(StoreSource(config.name, 0, config.weight), found.runs)])
    removed = expression_keys(download.removed, tally)
    return _Made(header.sources[0].entries, found.held, removed.tobytes())
