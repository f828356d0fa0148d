"""Lists of millions of addresses in one immutable file that every process maps into memory.

The file is made by :mod:`app.verdicts.feed_build` and swapped by renaming, never written in place (a process that
has a file mapped dies when it is cut short); a gateway notices within a fifth of a second and maps the new one. Mapped
pages are shared by all processes of a machine.

Layout, little endian::

    8 bytes   magic "PSTNFEED"
    4 bytes   version (2)
    4 bytes   length of the header text
    8 bytes   number of entries
    4 bytes   CRC-32 of fences and entries
    4 bytes   zero
    n bytes   header text: JSON, see :class:`StoreHeader`; padded to 8 bytes
    65,537 * 4 bytes   fences: where the entries begin whose first two bytes are the index
    8 bytes each       entries, ascending; see :mod:`app.verdicts.feed_keys`

An entry stands for one Safe Browsing expression (:mod:`app.verdicts.canonical`). All entries of one host lie
together, so a look-up hashes the host's suffixes first and the paths only where the host is known: for most
addresses three hashes instead of fifteen.
"""

from __future__ import annotations

import json
import mmap
import os
import struct
import sys
import threading
import time
import zlib
from bisect import bisect_left
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from datetime import date
from hashlib import blake2b
from pathlib import Path
from typing import Final, NamedTuple

import structlog

from app.verdicts.canonical import NotCanonical, lookup_parts, path_prefixes
from app.verdicts.feed import CHECK_SECONDS, LISTED_WEIGHT, listed_signal
from app.verdicts.feed_keys import (
    BUCKETS,
    LEVEL_BIT,
    PATH_MASK,
    PATH_SHIFT,
    SOURCE_MASK,
    host_key,
    since_date,
)
from app.verdicts.scoring import Level, Signal

SUFFIX: Final = ".pfs"
MAGIC: Final = b"PSTNFEED"
VERSION: Final = 2
HEAD: Final = struct.Struct("<8sIIQII")
FENCES: Final = BUCKETS + 1
CHECKED_AT_ONCE: Final = 4 << 20
"""Bytes up to which a new file's checksum is verified in the calling thread."""

_NO_SOURCE: Final = ("?", 100)

log = structlog.get_logger(__name__)


class StoreDamaged(ValueError):
    """The file is not one of ours, is cut off, or was changed."""


@dataclass(frozen=True, slots=True)
class StoreSource:
    """A source whose entries are in a store.

    Attributes:
        name: What evidence calls it.
        entries: How many are in.
        weight: Points of its signal.
    """

    name: str
    entries: int = 0
    weight: int = 100


@dataclass(frozen=True, slots=True)
class StoreHeader:
    """What a store says about itself.

    Attributes:
        sources: By number.
        made_at: When it was built, ISO 8601.
        version: Number of the published version; 0: built by hand.
    """

    sources: tuple[StoreSource, ...]
    made_at: str
    version: int = 0

    def encode(self) -> bytes:
        """As it stands in the file, padded."""
        text = json.dumps(asdict(self)).encode()
        return text + b" " * (-(HEAD.size + len(text)) % 8)

    @classmethod
    def decode(cls, text: bytes) -> StoreHeader:
        """Read it.

        Raises:
            StoreDamaged: It is none.
        """
        try:
            data = json.loads(text)
            sources = tuple(
                StoreSource(str(found["name"]), int(found["entries"]), int(found["weight"]))
                for found in data["sources"]
            )
            return cls(sources, str(data["made_at"]), int(data["version"]))
        except (ValueError, KeyError, TypeError):
            raise StoreDamaged("the header cannot be read") from None


class Hit(NamedTuple):
    """A listed expression.

    Attributes:
        expression: The one that is listed.
        level: Of the entry.
        source: Name of the source.
        since: Since when it is listed there, as far as known.
        weight: The source's points.
    """

    expression: str
    level: Level
    source: str
    since: date | None = None
    weight: int = 100


class MappedStore:
    """One file, mapped.

    Args:
        path: The file.
        check: Whether to verify the checksum, which reads all of it; its form is checked in any case.

    Raises:
        StoreDamaged: It is none.
        OSError: It cannot be read.
    """

    def __init__(self, path: Path, *, check: bool = True) -> None:
        if sys.byteorder != "little":
            raise StoreDamaged("feed stores need a little-endian machine")
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size < HEAD.size:
                raise StoreDamaged("cut off")
            self._map = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        magic, version, header_length, count, checksum, zero = HEAD.unpack_from(self._map)
        if magic != MAGIC or version != VERSION or zero:
            raise StoreDamaged("not a feed store of this version")
        body = HEAD.size + header_length
        entries = body + padded(FENCES * 4)
        if len(self._map) != entries + count * 8:
            raise StoreDamaged("cut off")
        whole = memoryview(self._map)
        if check and zlib.crc32(whole[body:]) != checksum:
            raise StoreDamaged("the checksum is wrong")
        self.header = StoreHeader.decode(bytes(whole[HEAD.size : body]))
        self.fences = whole[body : body + FENCES * 4].cast("I")
        self.entries = whole[entries:].cast("Q")
        self._sources = {number: (source.name, source.weight) for number, source in enumerate(self.header.sources)}

    @property
    def sources(self) -> list[str]:
        """Names of the sources."""
        return [source.name for source in self.header.sources]

    @property
    def made_at(self) -> str:
        """When it was built, ISO 8601."""
        return self.header.made_at

    def __len__(self) -> int:
        return len(self.entries)

    def find(self, expressions: Iterable[str]) -> list[Hit]:
        """The listed ones among some expressions."""
        hits: list[Hit] = []
        for expression in expressions:
            host, slash, path = expression.partition("/")
            key = host_key(host)
            begin, end = self.fences[key >> 8], self.fences[(key >> 8) + 1]
            at = bisect_left(self.entries, (key & 0xFF) << 56, begin, end)
            self._find_below(host, key, (slash + path,), hits, at)
        return hits

    def find_parts(self, hosts: Iterable[str], path: str, query: str | None) -> list[Hit]:
        """The listed ones among all expressions of an address (:func:`app.verdicts.canonical.lookup_parts`)."""
        entries, fences = self.entries, self.fences
        hits: list[Hit] = []
        paths: list[str] | None = None
        for host in hosts:
            # host_key(host), without the call: this loop is what an address that is not listed costs.
            key = int.from_bytes(blake2b(host.encode("ascii", "replace"), digest_size=3).digest(), "big")
            bucket = key >> 8
            end = fences[bucket + 1]
            at = bisect_left(entries, (key & 0xFF) << 56, fences[bucket], end)
            if at < end and entries[at] >> 56 == key & 0xFF:
                if paths is None:
                    paths = path_prefixes(path, query)
                self._find_below(host, key, paths, hits, at)
        return hits

    def _find_below(self, host: str, key: int, paths: Iterable[str], hits: list[Hit], begin: int) -> None:
        """The listed paths of a host whose entries begin at a place (or would)."""
        entries, end, of_host = self.entries, self.fences[(key >> 8) + 1], (key & 0xFF) << 56
        for path in paths:
            expression = host + path
            # path_key(expression), without the call, and in its place.
            digest = blake2b(expression.encode("ascii", "replace"), digest_size=5).digest()
            wanted = of_host | int.from_bytes(digest, "big") >> 5 << PATH_SHIFT
            at = bisect_left(entries, wanted, begin, end)
            while at < end and (tag := entries[at]) & PATH_MASK == wanted:
                level = Level.MALICIOUS if tag & LEVEL_BIT else Level.SUSPICIOUS
                name, weight = self._sources.get(tag & SOURCE_MASK, _NO_SOURCE)
                hits.append(Hit(expression, level, name, since_date(tag), weight))
                at += 1

    def signals(self, url: str) -> tuple[Signal, ...]:
        """What the lists say about an address: the worst entry of each list that covers it."""
        try:
            hits = self.find_parts(*lookup_parts(url))
        except NotCanonical:
            return ()
        if not hits:
            return ()
        if len(hits) == 1:
            return (signal_of(hits[0]),)
        worst: dict[str, Hit] = {}
        for hit in hits:
            before = worst.get(hit.source)
            if before is None or hit.level.rank > before.level.rank:
                worst[hit.source] = hit
        return tuple(signal_of(hit) for hit in worst.values())


def signal_of(hit: Hit) -> Signal:
    """The signal of a listing. A source that was given less than a full weight adds points and decides nothing."""
    full = LISTED_WEIGHT[hit.level]
    since = "" if hit.since is None else hit.since.isoformat()
    return listed_signal(hit.expression, hit.level, hit.source, since=since, weight=min(hit.weight, full))


def padded(length: int) -> int:
    """The next multiple of eight."""
    return length + -length % 8


class FeedStore:
    """The store as it is on disk now; an :class:`app.verdicts.judge.InlineSource`.

    A file of more than 4 MB is verified in a thread of its own before it takes the place of the one in force, so that
    no click waits for that; the first one is verified at once.

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
        self._looking: threading.Thread | None = None
        self._store: MappedStore | None = None
        self.generation = 0
        self.error = ""

    def __len__(self) -> int:
        return 0 if self._store is None else len(self._store)

    @property
    def header(self) -> StoreHeader | None:
        """Of the store in force; None: there is none yet."""
        return None if self._store is None else self._store.header

    def refresh(self) -> int:
        """Map the file again if it was swapped; a file that is gone or damaged leaves the last one in force."""
        now = self._monotonic()
        if now - self._checked < CHECK_SECONDS or (self._looking is not None and self._looking.is_alive()):
            return self.generation
        self._checked = now
        try:
            found = os.stat(self._path)
        except OSError as error:
            if not isinstance(error, FileNotFoundError) or self._store is not None:
                self._not_used(error)
            return self.generation  # none was ever made
        stamp = (found.st_mtime_ns, found.st_size, found.st_ino)
        if stamp == self._stamp:
            return self.generation
        if self._store is None or found.st_size <= CHECKED_AT_ONCE:
            self._take(stamp)
        else:
            self._looking = threading.Thread(target=self._take, args=(stamp,), daemon=True)
            self._looking.start()
        return self.generation

    def _take(self, stamp: tuple[int, int, int]) -> None:
        try:
            store = MappedStore(self._path)
        except (OSError, StoreDamaged) as error:
            self._not_used(error)
            return
        # The old map goes when the last look-up that uses it is done.
        self._store, self._stamp, self.error = store, stamp, ""
        self.generation += 1
        log.info("feed_store.mapped", entries=len(store), sources=store.sources, made_at=store.made_at)

    def _not_used(self, error: Exception) -> None:
        if self.error != str(error):
            log.warning("feed_store.not_used", path=str(self._path), error=str(error), kept=len(self))
        self.error = str(error)

    def signals(self, url: str) -> tuple[Signal, ...]:
        """What the lists say about an address: the worst entry of each list that covers it."""
        store = self._store
        return () if store is None else store.signals(url)
