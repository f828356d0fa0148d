"""Merging runs of entries into a feed store.

A store is made of *runs*: keys with their tags, ascending. What a list held before is a run of the old store; what it
holds now are runs made by :func:`app.verdicts.feed_build.collect`. All are merged in slices of the key space, so that
memory does not grow with the number of sources, and written beside the old store; the swap is a renaming.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from app.verdicts.feed_keys import BUCKETS, LEVEL_BIT, MAX_DAYS, MAX_SOURCES, SINCE_SHIFT, SOURCE_MASK, TAG_BITS
from app.verdicts.feed_store import FENCES, HEAD, MAGIC, VERSION, MappedStore, StoreHeader, StoreSource, padded

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Numbers = NDArray[Any]

_SLICES: Final = 64


@dataclass(slots=True)
class Run:
    """Entries of one source, ascending by key; a key may occur more than once.

    Attributes:
        keys: 59 bits each.
        tags: 21 bits each, with any source number.
    """

    keys: Numbers
    tags: Numbers

    def slice(self, first: int, last: int) -> tuple[Numbers, Numbers]:
        """Keys and tags of the buckets from ``first`` to before ``last``."""
        import numpy

        begin, end = numpy.searchsorted(
            self.keys, numpy.array([first << 43, last << 43], dtype="<u8")
        )  # 59 - 16 bits follow the bucket's number
        return self.keys[begin:end], self.tags[begin:end]


class StoreRun:
    """What one source has in a store.

    Args:
        store: The store.
        number: Of the source in it; None: all.
    """

    def __init__(self, store: MappedStore, number: int | None) -> None:
        self._store = store
        self._number = number

    def slice(self, first: int, last: int) -> tuple[Numbers, Numbers]:
        """Keys and tags of the buckets from ``first`` to before ``last``."""
        import numpy

        fences = numpy.frombuffer(self._store.fences, dtype="<u4")[first : last + 1].astype("<i8")
        entries = numpy.frombuffer(self._store.entries, dtype="<u8")[fences[0] : fences[-1]]
        if self._number is not None:
            chosen = (entries & numpy.uint64(SOURCE_MASK)) == self._number
            buckets = numpy.repeat(numpy.arange(first, last, dtype="<u8"), numpy.diff(fences))[chosen]
            entries = entries[chosen]
        else:
            buckets = numpy.repeat(numpy.arange(first, last, dtype="<u8"), numpy.diff(fences))
        keys = buckets << numpy.uint64(43) | entries >> numpy.uint64(TAG_BITS)
        return keys, (entries & numpy.uint64((1 << TAG_BITS) - 1)).astype("<u4")


@dataclass(slots=True)
class Part:
    """What goes into a store for one source.

    Attributes:
        source: Its name and weight; the number of entries is counted.
        runs: Entries that count.
        history: Entries of which only "since when" is taken over.
        without: Keys that are left out, ascending; applied to the first run alone, which is what was there before.
    """

    source: StoreSource
    runs: Sequence[Run | StoreRun]
    history: Run | StoreRun | None = None
    without: Numbers | None = None


def write(
    out: Path,
    parts: Sequence[Part],
    *,
    now: datetime | None = None,
    version: int = 0,
    keep: Callable[[Numbers, Numbers], Numbers] | None = None,
) -> StoreHeader:
    """Merge parts into a store and swap it in.

    Args:
        out: The store; a draft lies beside it while it is written.
        parts: What goes in; their order makes the numbers of the sources.
        now: Aware UTC, kept in the header.
        version: Number of the published version, kept in the header.
        keep: Given keys and tags of a slice: which of them to keep, as a mask.

    Raises:
        ValueError: There are too many sources.
        OSError: It cannot be written.
    """
    import numpy  # needed here alone: a gateway maps stores without it

    if len(parts) > MAX_SOURCES:
        raise ValueError(f"A store holds {MAX_SOURCES} sources at most.")
    draft = out.with_name(f".{out.name}.{os.getpid()}.new")
    counted = [0] * len(parts)
    fences = numpy.zeros(FENCES, dtype="<u4")
    total, checksum = 0, 0
    step = BUCKETS // _SLICES
    try:
        # The header's length depends on the counts: entries go to a file of their own first.
        with draft.with_suffix(".entries").open("w+b") as body:
            for first in range(0, BUCKETS, step):
                keys, tags = _merged(parts, first, first + step)
                if keep is not None:
                    chosen = keep(keys, tags)
                    keys, tags = keys[chosen], tags[chosen]
                for number, count in enumerate(numpy.bincount(tags & SOURCE_MASK, minlength=len(parts))):
                    counted[number] += int(count)
                edges = numpy.arange(first, first + step, dtype="<u8") << numpy.uint64(43)
                fences[first : first + step] = numpy.searchsorted(keys, edges) + total
                (keys << numpy.uint64(TAG_BITS) | tags).tofile(body)
                total += len(keys)
            fences[BUCKETS] = total
            sources = [StoreSource(part.source.name, counted[n], part.source.weight) for n, part in enumerate(parts)]
            header = StoreHeader(tuple(sources), (now or datetime.now(UTC)).isoformat(timespec="seconds"), version)
            text, table = header.encode(), fences.tobytes()
            table += bytes(padded(len(table)) - len(table))
            with draft.open("wb") as file:
                file.write(HEAD.pack(MAGIC, VERSION, len(text), total, 0, 0))
                file.write(text)
                file.write(table)
                checksum = zlib.crc32(table)
                body.seek(0)
                while piece := body.read(1 << 20):
                    checksum = zlib.crc32(piece, checksum)
                    file.write(piece)
                file.seek(0)
                file.write(HEAD.pack(MAGIC, VERSION, len(text), total, checksum, 0))
                file.flush()
                os.fsync(file.fileno())
        draft.replace(out)
    finally:
        draft.with_suffix(".entries").unlink(missing_ok=True)
        draft.unlink(missing_ok=True)
    return header


def _merged(parts: Sequence[Part], first: int, last: int) -> tuple[Numbers, Numbers]:
    """All entries of a slice, ascending by key and source: one per key and source, with its worst level and the
    earliest date."""
    import numpy

    keys, tags, counts = [], [], []
    for number, part in enumerate(parts):
        for place, run in enumerate((*part.runs, *([] if part.history is None else [part.history]))):
            found, found_tags = run.slice(first, last)
            if place == 0 and part.without is not None and len(part.without) and len(part.runs) > 0:
                stays = ~numpy.isin(found, part.without)
                found, found_tags = found[stays], found_tags[stays]
            keys.append(found)
            tags.append(found_tags & ~numpy.uint32(SOURCE_MASK) | numpy.uint32(number))
            counts.append(numpy.full(len(found), place < len(part.runs)))
    if not keys:
        return numpy.empty(0, dtype="<u8"), numpy.empty(0, dtype="<u8")
    all_keys, all_tags, real = numpy.concatenate(keys), numpy.concatenate(tags), numpy.concatenate(counts)
    # Parts come in the order of their numbers, and the sort is stable: sources of one key stay in order.
    order = numpy.argsort(all_keys, kind="stable")
    all_keys, all_tags, real = all_keys[order], all_tags[order], real[order]
    if not len(all_keys):
        return all_keys, all_tags
    number_of = all_tags & SOURCE_MASK
    new = numpy.empty(len(all_keys), dtype=bool)
    new[0] = True
    new[1:] = (all_keys[1:] != all_keys[:-1]) | (number_of[1:] != number_of[:-1])
    starts = numpy.flatnonzero(new)
    counts_at = numpy.logical_or.reduceat(real, starts)
    if len(starts) < len(all_keys):
        level = numpy.maximum.reduceat(numpy.where(real, all_tags & LEVEL_BIT, 0), starts)
        days = all_tags >> SINCE_SHIFT
        days = numpy.minimum.reduceat(numpy.where(days == 0, MAX_DAYS + 1, days), starts)
        days = numpy.where(days == MAX_DAYS + 1, 0, days)
        merged = (days << SINCE_SHIFT | level | number_of[starts]).astype("<u4")
    else:
        merged = all_tags
    return all_keys[starts][counts_at], merged[counts_at].astype("<u8")


def part_of(store: MappedStore | None, name: str) -> StoreRun | None:
    """What a source has in a store; None where it is not in it."""
    if store is None:
        return None
    for number, source in enumerate(store.header.sources):
        if source.name == name:
            return StoreRun(store, number)
    return None


def newly_listed(old: MappedStore | None, new: MappedStore, out: Path) -> StoreHeader:
    """Write the store of what ``new`` lists and ``old`` did not, or not as badly.

    Args:
        old: None: there was none; everything is new.
        new: The new one.
        out: Where to.
    """
    import numpy

    def is_new(keys: Numbers, tags: Numbers) -> Numbers:
        if old is None or not len(keys):
            return numpy.ones(len(keys), dtype=bool)
        first = int(keys[0]) >> 43
        first -= first % (BUCKETS // _SLICES)
        old_keys, old_tags = StoreRun(old, None).slice(first, first + BUCKETS // _SLICES)
        malicious = old_keys[(old_tags & LEVEL_BIT) != 0]
        bad = (tags & LEVEL_BIT) != 0
        known: Numbers = numpy.where(bad, numpy.isin(keys, malicious), numpy.isin(keys, old_keys))
        return ~known

    parts = [Part(source, [StoreRun(new, number)]) for number, source in enumerate(new.header.sources)]
    return write(out, parts, version=new.header.version, keep=is_new)
