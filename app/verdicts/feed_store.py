"""Lists of millions of addresses in one immutable file that every process maps into memory.

The file is made by :mod:`app.verdicts.feed_build` and swapped by renaming, never written in place (a process that
has a file mapped dies when it is cut short); a gateway notices within a fifth of a
second and maps the new one. Mapped pages are shared by all processes of a machine.

Layout, little endian::

    8 bytes   magic "PSTNFEED"
    4 bytes   version (1)
    4 bytes   length of the header text
    8 bytes   number of entries
    4 bytes   CRC-32 of fences and entries
    4 bytes   zero
    n bytes   header text: JSON with the names of the sources and when it was made; padded to 8 bytes
    65,537 * 4 bytes   fences: where the entries begin whose first two bytes are the index
    8 bytes each       entries, ascending: 56 bits of the expression's hash, then level (1 bit) and source (7 bits)

An entry stands for one Safe Browsing expression (:mod:`app.verdicts.canonical`). With 56 bits and ten million
entries an address that is not listed is taken for listed once in about ten thousand million look-ups.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import struct
import sys
import time
import zlib
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from app.verdicts.canonical import NotCanonical, lookup_expressions
from app.verdicts.feed import CHECK_SECONDS, listed_signal
from app.verdicts.scoring import Level, Signal

SUFFIX: Final = ".pfs"
MAGIC: Final = b"PSTNFEED"
VERSION: Final = 1
HEAD: Final = struct.Struct("<8sIIQII")
FENCES: Final = 65_537
MAX_SOURCES: Final = 128
_HASH_MASK: Final = ~0xFF & (1 << 64) - 1

log = structlog.get_logger(__name__)


class StoreDamaged(ValueError):
    """The file is not one of ours, is cut off, or was changed."""


def entry_key(expression: str) -> int:
    """The upper 56 bits of an entry; the lower eight are zero."""
    digest = hashlib.blake2b(expression.encode("ascii", "replace"), digest_size=8).digest()
    return int.from_bytes(digest, "little") & _HASH_MASK


def entry_tag(level: Level, source: int) -> int:
    """The lower 8 bits of an entry."""
    return (0x80 if level is Level.MALICIOUS else 0) | source


@dataclass(frozen=True)
class Hit:
    """A listed expression."""

    expression: str
    level: Level
    source: str


class MappedStore:
    """One file, mapped.

    Args:
        path: The file.

    Raises:
        StoreDamaged: It is none.
        OSError: It cannot be read.
    """

    def __init__(self, path: Path) -> None:
        if sys.byteorder != "little":
            raise StoreDamaged("feed stores need a little-endian machine")
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size < HEAD.size:
                raise StoreDamaged("cut off")
            self._map = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        magic, version, header_length, count, checksum, _ = HEAD.unpack_from(self._map)
        if magic != MAGIC or version != VERSION:
            raise StoreDamaged("not a feed store of this version")
        body = HEAD.size + header_length
        entries = body + _padded(FENCES * 4)
        if len(self._map) != entries + count * 8:
            raise StoreDamaged("cut off")
        whole = memoryview(self._map)
        if zlib.crc32(whole[body:]) != checksum:
            raise StoreDamaged("the checksum is wrong")
        try:
            header = json.loads(bytes(whole[HEAD.size : body]))
            self.sources: list[str] = [str(name) for name in header["sources"]]
            self.made_at: str = str(header["made_at"])
        except (ValueError, KeyError, TypeError):
            raise StoreDamaged("the header cannot be read") from None
        self._fences = whole[body : body + FENCES * 4].cast("I")
        self._entries = whole[entries:].cast("Q")

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, expressions: tuple[str, ...]) -> list[Hit]:
        """The listed ones among some expressions."""
        entries, fences = self._entries, self._fences
        hits: list[Hit] = []
        for expression in expressions:
            key = int.from_bytes(hashlib.blake2b(expression.encode(), digest_size=8).digest(), "little") & _HASH_MASK
            bucket = key >> 48
            end = fences[bucket + 1]
            at = bisect_left(entries, key, fences[bucket], end)
            while at < end and entries[at] & _HASH_MASK == key:
                tag = entries[at] & 0xFF
                level = Level.MALICIOUS if tag & 0x80 else Level.SUSPICIOUS
                source = tag & 0x7F
                hits.append(Hit(expression, level, self.sources[source] if source < len(self.sources) else "?"))
                at += 1
        return hits


def _padded(length: int) -> int:
    return length + -length % 8


class FeedStore:
    """The store as it is on disk now; an :class:`app.verdicts.judge.InlineSource`.

    Args:
        path: The file; it may appear later.
        monotonic: Seconds, for tests.
    """

    name = "feeds"

    def __init__(self, path: Path, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._monotonic = monotonic
        self._checked = float("-inf")
        self._stamp: tuple[int, int, int] | None = None
        self._store: MappedStore | None = None
        self.generation = 0
        self.error = ""

    def __len__(self) -> int:
        return 0 if self._store is None else len(self._store)

    def refresh(self) -> int:
        """Map the file again if it was swapped; a file that is gone or damaged leaves the last one in force."""
        now = self._monotonic()
        if now - self._checked < CHECK_SECONDS:
            return self.generation
        self._checked = now
        try:
            found = os.stat(self._path)
            stamp = (found.st_mtime_ns, found.st_size, found.st_ino)
            if stamp == self._stamp:
                return self.generation
            store = MappedStore(self._path)
        except (OSError, StoreDamaged) as error:
            if isinstance(error, FileNotFoundError) and self._store is None:
                return self.generation  # none was ever made
            if self.error != str(error):
                log.warning("feed_store.not_used", path=str(self._path), error=str(error), kept=len(self))
            self.error = str(error)
            return self.generation
        # The old map goes when the last look-up that uses it is done.
        self._store, self._stamp, self.error = store, stamp, ""
        self.generation += 1
        log.info("feed_store.mapped", entries=len(store), sources=store.sources, made_at=store.made_at)
        return self.generation

    def signals(self, url: str) -> tuple[Signal, ...]:
        """What the lists say about an address: the worst entry of each list that covers it."""
        store = self._store
        if store is None:
            return ()
        try:
            hits = store.find(lookup_expressions(url))
        except NotCanonical:
            return ()
        worst: dict[str, Hit] = {}
        for hit in hits:
            before = worst.get(hit.source)
            if before is None or hit.level.rank > before.level.rank:
                worst[hit.source] = hit
        return tuple(listed_signal(hit.expression, hit.level, hit.source) for hit in worst.values())
