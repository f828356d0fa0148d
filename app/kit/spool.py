"""An append-only spool on local disk: an event is durable before its answer goes out.

Writers append checksummed records to segment files; a reader follows them, hands batches on and remembers how
far it got. Records written at the same time share one ``fdatasync`` (group commit), so durability does not cost
a disk flush per event.

A record is ``magic (2) | length (4) | CRC-32 (4) | payload``, big endian. A segment has one writer, which holds
an advisory lock on it (``flock``, https://man7.org/linux/man-pages/man2/flock.2.html); the kernel drops the lock
when the process dies, however it dies. So a reader knows whether an incomplete record at the end is still being
written or is torn. A torn record was never acknowledged to anybody.

Delivery is at least once: a reader that dies between handing on and noting its position hands on again. Whoever
takes the records in makes that harmless by the id that each record carries.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import struct
import threading
import time
import uuid
import zlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import structlog

MAGIC: Final = b"\xe7\x51"
HEADER: Final = struct.Struct(">2sII")
MAX_RECORD: Final = 1 << 20
SEGMENT_BYTES: Final = 16 << 20
SUFFIX: Final = ".spool"
_BACKLOG_RECORDS: Final = 20_000
FAST_FLUSH_SECONDS: Final = 0.001
SLOW_FLUSH_SECONDS: Final = 0.05
SLOW_FLUSHES: Final = 3
GATHER_SECONDS: Final = 0.002

Mode = Literal["auto", "inline", "thread"]

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class SpoolStats:
    """Counters since the start.

    Attributes:
        written: Records made durable.
        groups: Disk flushes they took.
        late: Records that could not be written at once and are kept in memory.
        lost: Records given up.
        error: The last write error; empty while writing works.
    """

    written: int = 0
    groups: int = 0
    late: int = 0
    lost: int = 0
    error: str = ""


def encode(payload: bytes) -> bytes:
    """The record of a payload."""
    return HEADER.pack(MAGIC, len(payload), zlib.crc32(payload)) + payload


class SpoolWriter:
    """Appends records from an event loop; one per process and folder.

    Args:
        folder: Made where it does not exist.
        segment_bytes: When a new segment is begun.
        mode: Where the flush happens. ``inline``: in the event loop, once for everything that arrived in one
            turn of it: the fewest switches, right where a flush takes a fraction of a millisecond.
            ``thread``: beside the loop; what arrives during one flush shares the next. ``auto``: measured at
            the start, and moved to the thread when a flush takes long.
    """

    def __init__(self, folder: Path, *, segment_bytes: int = SEGMENT_BYTES, mode: Mode = "auto") -> None:
        self.folder = folder
        self.stats = SpoolStats()
        self._segment_bytes = segment_bytes
        self._pending: list[bytes] = []
        self._waiters: list[asyncio.Future[bool]] = []
        self._backlog: list[bytes] = []
        self._writer_id = f"{time.time_ns():020d}-{uuid.uuid4().hex[:8]}"
        self._sequence = 0
        self._handle = -1
        self._size = 0
        self._mode = mode
        self._inline = mode == "inline"
        self._scheduled = False
        self._slow_flushes = 0
        self._committing = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake = threading.Condition()
        self._thread: threading.Thread | None = None
        self._stopping = False

    def start(self) -> None:
        """Begin in the running event loop.

        Raises:
            OSError: The folder cannot be made.
        """
        if self._thread is not None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        self._loop = asyncio.get_running_loop()
        self._stopping = False
        if self._mode == "auto":
            self._inline = self._flush_is_fast()
        self._thread = threading.Thread(target=self._run, name="spool", daemon=True)
        self._thread.start()

    async def append(self, payload: bytes) -> bool:
        """Append a record and wait until it is on disk.

        Returns:
            False where the disk does not take it now: it is then kept in memory and written as soon as that
            works again (see :class:`SpoolStats` for what was late or lost). The caller goes on either way.
        """
        return await self.submit(payload)

    def submit(self, payload: bytes) -> asyncio.Future[bool]:
        """Like :meth:`append`; returns the future. Call it from the loop of :meth:`start`."""
        loop = self._loop
        if loop is None:
            raise RuntimeError("the spool is not started")
        waiter: asyncio.Future[bool] = loop.create_future()
        record = encode(payload)
        if self._inline:
            # Only the loop touches the two lists now: the thread takes from them under the lock and finds none.
            self._pending.append(record)
            self._waiters.append(waiter)
            if not self._scheduled:
                self._scheduled = True
                loop.call_soon(self._gather, 0, time.perf_counter() + GATHER_SECONDS)
            return waiter
        with self._wake:
            self._pending.append(record)
            self._waiters.append(waiter)
            if len(self._pending) == 1:
                self._wake.notify()
        return waiter

    def _gather(self, seen: int, until: float) -> None:
        """Let the loop turn as long as each turn brings company, for two milliseconds at most."""
        loop, found = self._loop, len(self._pending)
        if loop is not None and found > seen and time.perf_counter() < until:
            loop.call_soon(self._gather, found, until)
        else:
            self._scheduled = False
            self._flush_inline()

    def _flush_inline(self) -> None:
        with self._wake:
            records, self._pending = self._pending, []
            waiters, self._waiters = self._waiters, []
        if not records:
            return
        started = time.perf_counter()
        with self._committing:
            durable = self._commit(records)
        _resolve(waiters, durable)
        if not durable:
            with self._wake:
                self._wake.notify()  # the thread tries again from time to time
        slow = not durable or time.perf_counter() - started > SLOW_FLUSH_SECONDS
        self._slow_flushes = self._slow_flushes + 1 if slow else 0
        if self._mode == "auto" and self._slow_flushes >= SLOW_FLUSHES:
            self._inline = False

    def _flush_is_fast(self) -> bool:
        """Flush a small file some times; whether the disk itself took under a millisecond.

        The lower quartile, because a busy machine makes some flushes look slow that were not.
        """
        draft = self.folder / f"{self._writer_id}.probe"
        taken = []
        try:
            handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                for _ in range(9):
                    started = time.perf_counter()
                    os.write(handle, bytes(512))
                    os.fdatasync(handle)
                    taken.append(time.perf_counter() - started)
            finally:
                os.close(handle)
                draft.unlink()
        except OSError as error:
            log.warning("spool.probe_failed", folder=self.folder.name, error=str(error))
            return False
        return sorted(taken)[len(taken) // 4] < FAST_FLUSH_SECONDS

    async def stop(self) -> None:
        """Write what is there and close the segment."""
        thread = self._thread
        if thread is None:
            return
        with self._wake:
            self._stopping = True
            self._wake.notify()
        await asyncio.to_thread(thread.join)
        self._thread = None

    def _run(self) -> None:
        while True:
            with self._wake:
                while not self._stopping and (self._inline or not self._pending):
                    # With a backlog, try again from time to time even where no event arrives.
                    if not self._wake.wait(timeout=0.5 if self._backlog else None):
                        break
                stopping = self._stopping
                records: list[bytes] = []
                waiters: list[asyncio.Future[bool]] = []
                if stopping or not self._inline:
                    records, self._pending = self._pending, []
                    waiters, self._waiters = self._waiters, []
            if records or self._backlog:
                with self._committing:
                    durable = self._commit(records)
                loop = self._loop
                if loop is not None and waiters:
                    with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                        loop.call_soon_threadsafe(_resolve, waiters, durable)
            if stopping and not self._pending:
                break
        if self._backlog:
            self.stats.lost += len(self._backlog)
            log.error("spool.lost", folder=self.folder.name, records=len(self._backlog), error=self.stats.error)
        self._close_segment()

    def _commit(self, records: list[bytes]) -> bool:
        group = [*self._backlog, *records] if self._backlog else records
        durable = self._write(b"".join(group))
        if durable:
            self.stats.written += len(group)
            self.stats.groups += 1
            self._backlog = []
        else:
            kept = group[-_BACKLOG_RECORDS:]
            self.stats.lost += len(group) - len(kept)
            self.stats.late += len(records)
            self._backlog = kept
        return durable

    def _write(self, data: bytes) -> bool:
        start = self._size
        try:
            if self._handle < 0 or self._size >= self._segment_bytes:
                self._open_segment()
                start = self._size
            view = memoryview(data)
            while view:
                written = os.write(self._handle, view)
                view = view[written:]
                self._size += written
            os.fdatasync(self._handle)
        except OSError as error:
            self._failed(error, start)
            return False
        if self.stats.error:
            log.warning("spool.recovered", folder=self.folder.name, late=self.stats.late, lost=self.stats.lost)
            self.stats.error = ""
        return True

    def _failed(self, error: OSError, start: int) -> None:
        name = errno.errorcode.get(error.errno or 0, "error")
        if self.stats.error != name:
            log.error("spool.write_failed", folder=self.folder.name, error=name, detail=str(error))
        self.stats.error = name
        if self._handle >= 0:
            # What was written of the group is cut off again, so that it is not there twice later. Where even
            # that fails the next segment starts afresh, and readers step over the torn record.
            try:
                os.ftruncate(self._handle, start)
                self._size = start
            except OSError:
                self._close_segment()

    def _open_segment(self) -> None:
        self._close_segment()
        self._sequence += 1
        path = self.folder / f"{self._writer_id}-{self._sequence:06d}{SUFFIX}"
        draft = path.with_suffix(".new")
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            # Locked before it gets the name that readers look for: they never see a segment without its writer.
            fcntl.flock(handle, fcntl.LOCK_EX)
            draft.rename(path)
            _sync_folder(self.folder)
        except OSError:
            os.close(handle)
            raise
        self._handle, self._size = handle, 0

    def _close_segment(self) -> None:
        if self._handle >= 0:
            with suppress(OSError):
                os.close(self._handle)
        self._handle, self._size = -1, 0


def _resolve(waiters: list[asyncio.Future[bool]], durable: bool) -> None:
    for waiter in waiters:
        if not waiter.done():
            waiter.set_result(durable)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
