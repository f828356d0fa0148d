"""The local database of hash prefixes: one immutable file with all lists of one source, mapped by who asks.

Layout, little endian::

    8 bytes   magic "PSTNPFX1"
    4 bytes   length of the header text
    4 bytes   CRC-32 of everything that follows, begun with the length
    n bytes   header text: JSON, padded with spaces to 8 bytes; per list its name, its threat, the version that the
              server gave (base64) and how many prefixes of which length there are
    ...       per list: the 4-byte prefixes as ascending 32-bit numbers, padded to 8 bytes; then the longer ones,
              each length for itself, ascending

The version stands in the file, so that what is in force and what the server is told cannot come apart.
"""

from __future__ import annotations

import base64
import binascii
import json
import mmap
import struct
import sys
import zlib
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, overload

MAGIC: Final = b"PSTNPFX1"
HEAD: Final = struct.Struct("<8sII")
SHORT: Final = 4
LONGEST: Final = 32


@dataclass(frozen=True, slots=True)
class ListHeader:
    """One list in a file.

    Attributes:
        name: As the server calls it.
        version: What the server wants back (state, version, token); empty: everything is to be sent anew.
        short: How many 4-byte prefixes.
        long: Length in bytes -> how many.
    """

    name: str
    version: bytes
    short: int
    long: tuple[tuple[int, int], ...] = ()

    @property
    def entries(self) -> int:
        """All prefixes."""
        return self.short + sum(count for _, count in self.long)

    def as_json(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "name": self.name,
            "version": base64.b64encode(self.version).decode(),
            "short": self.short,
            "long": [list(pair) for pair in self.long],
        }


def padded(length: int) -> int:
    """The next multiple of 8."""
    return length + -length % 8


def write_file(lists: Iterable[tuple[ListHeader, bytes, Sequence[bytes]]]) -> bytes:
    """A whole file.

    Args:
        lists: Header, the short prefixes as little-endian numbers, and the longer ones: concatenated, in the order
            of the header.
    """
    headers, parts = [], []
    for header, short, long in lists:
        headers.append(header.as_json())
        for part in (short, *long):
            parts.append(part.ljust(padded(len(part)), b"\0"))
    text = json.dumps({"lists": headers}, sort_keys=True).encode()
    body = b"".join([text.ljust(padded(len(text))), *parts])
    return HEAD.pack(MAGIC, padded(len(text)), _checksum(padded(len(text)), body)) + body


def _checksum(header_length: int, body: bytes | memoryview) -> int:
    return zlib.crc32(body, header_length)


def read_headers(content: bytes | memoryview) -> tuple[list[ListHeader], memoryview]:
    """The lists of a file, and the bytes behind the header.

    Raises:
        ValueError: It is none, is cut off, or was changed.
    """
    if sys.byteorder != "little":
        raise ValueError("prefix files need a little-endian machine")
    whole = memoryview(content)
    if len(whole) < HEAD.size:
        raise ValueError("cut off")
    magic, header_length, checksum = HEAD.unpack_from(whole)
    if magic != MAGIC:
        raise ValueError("not a file of hash prefixes")
    body = whole[HEAD.size :]
    if _checksum(header_length, body) != checksum:
        raise ValueError("cut off or changed")
    try:
        found = json.loads(bytes(body[:header_length]))
        headers = [
            ListHeader(
                str(item["name"]),
                base64.b64decode(item["version"], validate=True),
                int(item["short"]),
                tuple((int(length), int(count)) for length, count in item["long"]),
            )
            for item in found["lists"]
        ]
    except (ValueError, KeyError, TypeError, binascii.Error):
        raise ValueError("the header cannot be read") from None
    return headers, body[header_length:]


def split(header: ListHeader, body: memoryview, at: int) -> tuple[memoryview, list[memoryview], int]:
    """The parts of one list, and where the next begins.

    Raises:
        ValueError: The file is shorter than its header says.
    """
    short = body[at : at + header.short * SHORT]
    at += padded(header.short * SHORT)
    long = []
    for length, count in header.long:
        long.append(body[at : at + length * count])
        at += padded(length * count)
    if at > len(body):
        raise ValueError("cut off")
    return short, long, at


class _Fixed(Sequence[bytes]):
    """Records of one length, one after the other."""

    def __init__(self, data: memoryview, length: int) -> None:
        self._data = data
        self._length = length

    def __len__(self) -> int:
        return len(self._data) // self._length

    @overload
    def __getitem__(self, index: int) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[bytes]: ...
    def __getitem__(self, index: int | slice) -> bytes | Sequence[bytes]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        return bytes(self._data[index * self._length : (index + 1) * self._length])


@dataclass(frozen=True, slots=True)
class PrefixHit:
    """A listed prefix of a full hash.

    Attributes:
        list_name: On which list.
        prefix: As listed, 4 to 32 bytes.
    """

    list_name: str
    prefix: bytes


class PrefixFile:
    """One file, mapped.

    Args:
        path: The file.

    Raises:
        ValueError: It is damaged.
        OSError: It cannot be read.
    """

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
        self.headers, body = read_headers(memoryview(self._map))
        self._lists: list[tuple[str, memoryview, list[tuple[int, _Fixed]]]] = []
        at = 0
        for header in self.headers:
            short, long, at = split(header, body, at)
            groups = [
                (length, _Fixed(data, length)) for (length, _), data in zip(header.long, long, strict=True) if len(data)
            ]
            self._lists.append((header.name, short.cast("I"), groups))

    def __len__(self) -> int:
        return sum(header.entries for header in self.headers)

    def find(self, digest: bytes) -> list[PrefixHit]:
        """The listed prefixes of a full hash.

        Args:
            digest: SHA-256 of an expression.
        """
        key = int.from_bytes(digest[:SHORT], "big")
        hits: list[PrefixHit] = []
        for name, short, groups in self._lists:
            at = bisect_left(short, key)
            if at < len(short) and short[at] == key:
                hits.append(PrefixHit(name, digest[:SHORT]))
            for length, records in groups:
                wanted = digest[:length]
                at = bisect_left(records, wanted)
                if at < len(records) and records[at] == wanted:
                    hits.append(PrefixHit(name, wanted))
        return hits
