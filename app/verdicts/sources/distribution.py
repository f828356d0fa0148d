"""Files that workers make and every machine needs: the feed store, and the files of signal sources.

A file travels through PostgreSQL in pieces, written in one transaction: it is there as a whole or not at all, whatever
is killed when. Others hear of it over ``NOTIFY postern_feeds``, fetch it in the background beside the one in force,
verify its length and SHA-256, and swap it in by renaming. A machine that cannot reach the database keeps what it has.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import json
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final

import psycopg
import structlog
from sqlalchemy import delete, insert, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.db import Database
from app.verdicts.lists import store_path
from app.verdicts.sources.models import FeedChunkRow, FeedFileRow
from app.verdicts.sources.service import CHANNEL, active_signal_sources

CHUNK_BYTES: Final = 1 << 20
LOOK_SECONDS: Final = 30.0
STORE: Final = "store"
LIST: Final = "list"
FILE: Final = "file"
KEPT_STORES: Final = 2
"""The newest, and the one before for whoever is in the middle of fetching it."""

_RETRY_SECONDS: Final = (0.2, 0.5, 1.0, 2.0, 5.0)
_MANIFEST: Final = "have.json"
CONFIGS: Final = "sources.json"

log = structlog.get_logger(__name__)


class FileGone(Exception):
    """A newer version replaced the file while it was fetched, or what came is not what was announced."""


async def put_file(session: AsyncSession, path: Path, *, kind: str, source: str = "", **values: Any) -> int:
    """Store a file with the session's transaction.

    Args:
        session: The unit of work.
        path: The file.
        kind: See :class:`app.verdicts.sources.models.FeedFileRow`.
        source: Whose it is.
        values: More columns.

    Returns:
        Its number; later ones are greater.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        while piece := file.read(CHUNK_BYTES):
            digest.update(piece)
        row = {"kind": kind, "source": source, "size": size, "sha256": digest.digest(), **values}
        number: int = (await session.execute(insert(FeedFileRow).values(**row).returning(FeedFileRow.id))).scalar_one()
        file.seek(0)
        place = 0
        while piece := file.read(CHUNK_BYTES):
            await session.execute(insert(FeedChunkRow).values(file_id=number, no=place, data=piece))
            place += 1
    return number


async def fetch_file(database: Database, number: int, out: Path) -> None:
    """Fetch a file, verified, to a path that nobody reads yet.

    Raises:
        FileGone: It was replaced meanwhile, or is damaged.
        OSError: It cannot be written.
    """
    async with database.untenanted() as session:
        row = await session.get(FeedFileRow, number)
    if row is None:
        raise FileGone(f"file {number} was replaced")
    digest = hashlib.sha256()
    size = place = 0
    with out.open("wb") as file:
        while size < row.size:
            async with database.untenanted() as session:
                piece = await session.scalar(
                    select(FeedChunkRow.data).where(FeedChunkRow.file_id == number, FeedChunkRow.no == place)
                )
            if not piece:
                raise FileGone(f"file {number} was replaced")
            digest.update(piece)
            file.write(piece)
            size += len(piece)
            place += 1
        await asyncio.to_thread(_flush, file.fileno(), file)
    if size != row.size or digest.digest() != row.sha256:
        raise FileGone(f"file {number} is damaged: its length or SHA-256 is not the announced one")


def _flush(number: int, file: Any) -> None:
    file.flush()
    os.fsync(number)


async def newest(session: AsyncSession, kind: str, source: str = "") -> FeedFileRow | None:
    """The newest file of a kind that is not held."""
    query = select(FeedFileRow).where(FeedFileRow.kind == kind, FeedFileRow.source == source, ~FeedFileRow.held)
    return await session.scalar(query.order_by(FeedFileRow.id.desc()).limit(1))


async def drop_older(session: AsyncSession, kind: str, source: str = "", keep: int = 1) -> None:
    """Remove all but the newest files of a kind."""
    kept = (
        select(FeedFileRow.id)
        .where(FeedFileRow.kind == kind, FeedFileRow.source == source, ~FeedFileRow.held)
        .order_by(FeedFileRow.id.desc())
        .limit(keep)
    )
    await session.execute(
        delete(FeedFileRow).where(
            FeedFileRow.kind == kind, FeedFileRow.source == source, ~FeedFileRow.held, FeedFileRow.id.not_in(kept)
        )
    )


class FeedFollower:
    """Keeps the files of a data directory those of the database.

    Args:
        database: The process's.
        data_dir: Its ``feeds`` folder holds the files.
    """

    def __init__(self, database: Database, data_dir: Path) -> None:
        self._database = database
        self._store = store_path(data_dir)
        self.folder = self._store.parent
        self._have: dict[str, int] = {}

    async def catch_up(self) -> bool:
        """Fetch what is newer.

        Returns:
            Whether anything was swapped.
        """
        async with self._database.untenanted() as session:
            store = await newest(session, STORE)
            files = list(
                await session.execute(
                    select(FeedFileRow.source, FeedFileRow.id).where(FeedFileRow.kind == FILE).order_by(FeedFileRow.id)
                )
            )
            configs = await active_signal_sources(session)
        wanted = {row.source: row.id for row in files}
        if store is not None:
            wanted[self._store.name] = store.id
        await asyncio.to_thread(self.folder.mkdir, parents=True, exist_ok=True)
        self._write_configs(configs)
        swapped = False
        async with self._alone():
            self._have = self._manifest()
            for left in self.folder.glob(".*.fetched"):
                left.unlink()  # of a process that was killed: nobody else fetches into this folder now
            for name in self._have.keys() - wanted.keys() - {self._store.name}:
                (self.folder / name).unlink(missing_ok=True)  # its source was removed
                del self._have[name]
                self._write(_MANIFEST, self._have)
            for name, number in wanted.items():
                target = self.folder / name
                if self._have.get(name) == number and target.exists():
                    continue
                draft = self.folder / f".{name}.{os.getpid()}.fetched"
                try:
                    await fetch_file(self._database, number, draft)
                    draft.replace(target)
                except FileGone as error:
                    # A newer one is announced already, or will be; what is in force stays.
                    log.warning("feeds.not_fetched", file=name, why=str(error))
                    continue
                finally:
                    draft.unlink(missing_ok=True)
                self._have[name] = number
                self._write(_MANIFEST, self._have)
                swapped = True
                log.info("feeds.fetched", file=name, number=number)
        return swapped

    def _manifest(self) -> dict[str, int]:
        try:
            found = json.loads((self.folder / _MANIFEST).read_text())
            return {str(name): int(number) for name, number in found.items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, AttributeError, TypeError) as error:
            log.warning("feeds.manifest_damaged", error=str(error))
            return {}

    def _write_configs(self, configs: list[dict[str, Any]]) -> None:
        path = self.folder / CONFIGS
        text_now = json.dumps(configs, indent=1, sort_keys=True)
        try:
            if path.read_text() == text_now:
                return
        except FileNotFoundError:
            pass  # the first time
        self._write(CONFIGS, configs)

    def _write(self, name: str, data: Any) -> None:
        draft = self.folder / f".{name}.{os.getpid()}.new"
        with draft.open("w") as file:
            json.dump(data, file, indent=1, sort_keys=True)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self.folder / name)

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        """One process of a machine fetches; the others wait and find it done."""
        with self._lock_file() as number:
            while True:
                try:
                    fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    await asyncio.sleep(0.05)
            yield

    @contextmanager
    def _lock_file(self) -> Iterator[int]:
        number = os.open(self.folder / ".lock", os.O_CREAT | os.O_RDWR, 0o600)
        try:
            yield number
        finally:
            os.close(number)

    async def run(self) -> None:
        """Keep fetching until cancelled; whatever the database does, this goes on."""
        failures = 0
        while True:
            try:
                await self._follow()
            except (psycopg.Error, SQLAlchemyError, OSError) as error:
                if failures == 0:
                    log.warning("feeds.not_followed", error=type(error).__name__)
                await asyncio.sleep(_RETRY_SECONDS[min(failures, len(_RETRY_SECONDS) - 1)])
                failures += 1
            else:
                failures = 0

    async def _follow(self) -> None:
        connection = await psycopg.AsyncConnection.connect(self._database.url, autocommit=True)
        try:
            # Listen first, look after: no announcement can fall between the two.
            await connection.execute(f"LISTEN {CHANNEL}")
            while True:
                await self.catch_up()
                async for _ in connection.notifies(timeout=LOOK_SECONDS, stop_after=1):
                    log.debug("feeds.announced")
        finally:
            await connection.close()
