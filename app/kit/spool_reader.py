"""Following a spool: the reading side of :mod:`app.kit.spool`."""

from __future__ import annotations

import fcntl
import os
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import structlog

from app.kit.spool import HEADER, MAGIC, MAX_RECORD, SUFFIX

_ACK_SUFFIX: Final = ".ack"

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Batch:
    """Records of one segment, and where they end.

    Attributes:
        segment: The file.
        payloads: In order.
        end: Offset to note once they are taken in.
        finished: The segment ends here and has no writer any more.
    """

    segment: Path
    payloads: tuple[bytes, ...]
    end: int
    finished: bool


@dataclass(slots=True)
class ReaderStats:
    """What a reader met: records read, records torn by a killed writer, stretches of damaged bytes."""

    read: int = 0
    torn: int = 0
    damaged: int = 0


@dataclass(slots=True)
class SpoolReader:
    """Follows all segments of a folder, oldest first. One reader per folder at a time (see :meth:`lock`)."""

    folder: Path
    stats: ReaderStats = field(default_factory=ReaderStats)
    _lock: int = -1

    def lock(self) -> bool:
        """Become the folder's one reader; False where another process is."""
        if self._lock >= 0:
            return True
        self.folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.folder / "reader.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            return False
        self._lock = handle
        return True

    def unlock(self) -> None:
        """Let another process read."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def batches(self, limit: int = 500) -> Iterator[Batch]:
        """What is there and was not acknowledged, at most ``limit`` records per batch."""
        for segment in sorted(self.folder.glob(f"*{SUFFIX}")):
            yield from self._segment(segment, limit)

    def pending_bytes(self) -> int:
        """Bytes that wait to be taken in."""
        total = 0
        for segment in self.folder.glob(f"*{SUFFIX}"):
            with suppress(FileNotFoundError):
                total += max(0, segment.stat().st_size - self._position(segment))
        return total

    def acknowledge(self, batch: Batch) -> None:
        """Note durably that a batch was taken in; a finished segment is removed."""
        ack = batch.segment.with_suffix(_ACK_SUFFIX)
        if batch.finished:
            batch.segment.unlink(missing_ok=True)
            ack.unlink(missing_ok=True)
            return
        draft = ack.with_suffix(".ack-new")
        with draft.open("w") as file:
            file.write(f"{batch.end}\n")
            file.flush()
            os.fdatasync(file.fileno())
        draft.replace(ack)

    def _position(self, segment: Path) -> int:
        try:
            return int(segment.with_suffix(_ACK_SUFFIX).read_text())
        except (FileNotFoundError, ValueError):
            return 0

    def _segment(self, segment: Path, limit: int) -> Iterator[Batch]:
        try:
            handle = os.open(segment, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        with os.fdopen(handle, "rb") as file:
            # Asked before reading: whoever held the lock then may add to the file, nobody else can.
            live = _has_writer(handle)
            at = self._position(segment)
            file.seek(at)
            data = file.read()
        start = 0
        payloads: list[bytes] = []
        while True:
            payload, end = self._next(data, start, live)
            if payload is None:
                finished = not live
                if payloads or finished:
                    if finished and end < len(data):
                        self.stats.torn += 1
                        log.warning("spool.torn_record", segment=segment.name, bytes=len(data) - end)
                    yield Batch(segment, tuple(payloads), at + end, finished)
                return
            payloads.append(payload)
            self.stats.read += 1
            start = end
            if len(payloads) >= limit:
                yield Batch(segment, tuple(payloads), at + end, finished=False)
                payloads = []

    def _next(self, data: bytes, start: int, live: bool) -> tuple[bytes | None, int]:
        """The next whole record and where it ends; None and ``start`` where there is none (yet)."""
        at = start
        while at >= 0:
            if at + HEADER.size <= len(data):
                magic, length, checksum = HEADER.unpack_from(data, at)
                end = at + HEADER.size + length
                if magic == MAGIC and length <= MAX_RECORD and end <= len(data):
                    payload = data[at + HEADER.size : end]
                    if zlib.crc32(payload) == checksum:
                        if at > start:
                            self.stats.damaged += 1
                            log.error("spool.damaged", skipped_bytes=at - start)
                        return payload, end
            if live:
                return None, start
            # Nobody writes any more: step over what is damaged to the next whole record, if there is one.
            at = data.find(MAGIC, at + 1)
        return None, start


def _has_writer(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(handle, fcntl.LOCK_UN)
    return False
