"""Lists of hash prefixes as the worker keeps them: removals by index, additions, and the checksum over the result.

A list is the sorted sequence of its prefixes as byte strings; nearly all have 4 bytes, some up to 32. Removal indices
count in that sequence, before anything is added (https://developers.google.com/safe-browsing/v4/local-databases).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Final

import numpy as np
import numpy.typing as npt

from app.verdicts.sources.safe_browsing_file import LONGEST, SHORT, ListHeader, read_headers, split, write_file

_Short = npt.NDArray[np.uint32]
_NONE: Final[_Short] = np.empty(0, np.uint32)


class BadUpdate(ValueError):
    """An update that does not fit the list it is for."""


def short_prefixes(values: Iterable[int], count: int) -> _Short:
    """4-byte prefixes as numbers, first byte first.

    Args:
        values: The numbers.
        count: How many there are.
    """
    return np.fromiter(values, np.uint32, count)


def little_endian(values: _Short) -> _Short:
    """Numbers that were read from bytes with the least one first (v4), as prefixes."""
    return values.byteswap()


def raw_prefixes(data: bytes, size: int) -> tuple[_Short, list[bytes]]:
    """Prefixes that were sent one after the other.

    Args:
        data: All of them.
        size: Bytes of each.

    Returns:
        The short and the long ones; one of both is empty.

    Raises:
        BadUpdate: The length is no multiple of a size from 4 to 32.
    """
    if not SHORT <= size <= LONGEST or len(data) % size:
        raise BadUpdate(f"{len(data)} bytes are no hash prefixes of {size} bytes")
    if size == SHORT:
        return np.frombuffer(data, ">u4").astype(np.uint32), []
    return _NONE, [data[at : at + size] for at in range(0, len(data), size)]


@dataclass(slots=True)
class PrefixList:
    """One list.

    Attributes:
        name: As the server calls it.
        version: What the server wants back; empty: send everything.
        short: Ascending.
        long: Ascending, 5 to 32 bytes each.
    """

    name: str
    version: bytes = b""
    short: _Short = field(default_factory=lambda: _NONE)
    long: list[bytes] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.short) + len(self.long)

    def changed(
        self,
        version: bytes,
        removals: Sequence[int] | npt.NDArray[np.uint32],
        short: Sequence[_Short],
        long: list[bytes],
    ) -> PrefixList:
        """The list after an update; this one stays as it is.

        Args:
            version: Of the result.
            removals: Indices into this list.
            short: More 4-byte prefixes, in any order.
            long: More long ones.

        Raises:
            BadUpdate: An index is outside of the list.
        """
        kept_short, kept_long = self.short, self.long
        if len(removals):
            gone = np.unique(np.asarray(removals, np.int64))
            if int(gone[0]) < 0 or int(gone[-1]) >= len(self):
                raise BadUpdate(f"index {int(gone[-1])} is to be removed from {len(self)} prefixes")
            places = self._places_of_long()
            of_long = np.isin(places, gone)
            kept_long = [prefix for prefix, out in zip(self.long, of_long, strict=True) if not out]
            in_short = np.setdiff1d(gone, places, assume_unique=True)
            # A short prefix's place in its own array: less by the long ones before it.
            in_short = in_short - np.searchsorted(places, in_short)
            kept_short = np.delete(self.short, in_short)
        merged = np.sort(np.concatenate([kept_short, *short])) if short else kept_short
        return PrefixList(self.name, version, merged, sorted([*kept_long, *long]))

    def checksum(self) -> bytes:
        """SHA-256 over all prefixes in their order."""
        digest = hashlib.sha256()
        for part in self._parts():
            digest.update(part)
        return digest.digest()

    def _places_of_long(self) -> npt.NDArray[np.int64]:
        """Where the long prefixes stand in the whole list. A short one stands before those it begins."""
        if not self.long:
            return np.empty(0, np.int64)
        heads = np.array([int.from_bytes(prefix[:SHORT], "big") for prefix in self.long], np.uint32)
        before = np.searchsorted(self.short, heads, side="right")
        return before.astype(np.int64) + np.arange(len(self.long))

    def _parts(self) -> Iterator[bytes]:
        if not self.long:
            yield self.short.astype(">u4").tobytes()
            return
        at = 0
        for index, place in enumerate(self._places_of_long()):
            until = int(place) - index
            yield self.short[at:until].astype(">u4").tobytes()
            yield self.long[index]
            at = until
        yield self.short[at:].astype(">u4").tobytes()

    def prefixes(self) -> list[bytes]:
        """All of them as byte strings, in their order; for small lists and tests."""
        whole = [int(value).to_bytes(SHORT, "big") for value in self.short]
        return sorted([*whole, *self.long])


def load(content: bytes | None, names: Sequence[str]) -> dict[str, PrefixList]:
    """The lists of a file, and empty ones for those that are not in it.

    Args:
        content: The file; None: there is none.
        names: Which lists are wanted. Others are left out.

    Raises:
        ValueError: The file is damaged.
    """
    found: dict[str, PrefixList] = {name: PrefixList(name) for name in names}
    if content is None:
        return found
    headers, body = read_headers(content)
    at = 0
    for header in headers:
        short, long, at = split(header, body, at)
        if header.name in found:
            prefixes = [
                bytes(data[place : place + length])
                for (length, _), data in zip(header.long, long, strict=True)
                for place in range(0, len(data), length)
            ]
            numbers = np.frombuffer(short, "<u4").astype(np.uint32)
            found[header.name] = PrefixList(header.name, header.version, numbers, sorted(prefixes))
    return found


def dump(lists: Iterable[PrefixList]) -> bytes:
    """The file with these lists; the same lists give the same bytes."""
    parts: list[tuple[ListHeader, bytes, list[bytes]]] = []
    for one in sorted(lists, key=lambda item: item.name):
        by_length = [(length, sorted(group)) for length, group in groupby(sorted(one.long, key=len), key=len)]
        header = ListHeader(
            one.name, one.version, len(one.short), tuple((length, len(group)) for length, group in by_length)
        )
        parts.append((header, one.short.astype("<u4").tobytes(), [b"".join(group) for _, group in by_length]))
    return write_file(parts)
