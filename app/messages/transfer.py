"""Content transfer encodings, changed only where a link stood (RFC 2045 section 6).

A `Body` offers the decoded bytes of a part, tells which raw bytes stand behind a range of them, and writes a new raw
body with some ranges replaced. Everything outside those ranges comes out byte for byte: quoted-printable keeps its soft
breaks and its odd spellings, base64 its line width and line ends.

Soft breaks of ours can be told from those that were there: a replacement runs from the raw byte of its first character
to that of its last one, and breaks only between them. An inserted tag may also be followed (``<a ...>``) or preceded
(``</a>``) by one; it is put on the side of an original break where none can have been (see `QuotedPrintableBody`).
"""

from __future__ import annotations

import binascii
from bisect import bisect_right
from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

_LINE = 76
_FEW_LOOKUPS = 60
_FEW_ESCAPES = 5_000
_SMALL_BODY = 24_000
_FEW_RESTARTS = 8
_FEW_PLACES = 100
_LONG_LINE = 2_000
_DIGITS = b"0123456789abcdefABCDEF"
_PLAIN = frozenset(range(33, 127)) - {61}
_PLAIN_BYTES = bytes(sorted(_PLAIN))
_QUOTED = tuple(b"%c" % octet if octet in _PLAIN else b"=%02X" % octet for octet in range(256))


class Edge(Enum):
    """On which side of a splice a soft break may be added."""

    NONE = 0
    AFTER = 1
    BEFORE = 2


class Splice(NamedTuple):
    """Decoded bytes ``[start, end)`` replaced by `new`.

    Attributes:
        start: First decoded byte replaced.
        end: Past the last decoded byte replaced; equal to `start` for an insertion.
        new: The new decoded bytes.
        edge: See `Edge`; insertions before text use AFTER, insertions behind text BEFORE.
        token: Whether restoring works from the gateway URL in `new` alone.
    """

    start: int
    end: int
    new: bytes
    edge: Edge = Edge.NONE
    token: bool = True


class RawSplice(NamedTuple):
    """A splice as it was written: raw offsets of the old body, the new raw bytes, and whether tokens restore it."""

    start: int
    end: int
    new: bytes
    token: bool


class Restoration(NamedTuple):
    """Decoded bytes ``[start, end)`` that go back to `source`, the bytes that `Body.source` gave.

    Attributes:
        start: First decoded byte.
        end: Past the last decoded byte.
        source: What stood there; empty for an inserted tag.
        side: 1 for an inserted tag before text, -1 for one behind text, 0 for a replaced link.
    """

    start: int
    end: int
    source: bytes
    side: int


class Body:
    """A body without transfer encoding (7bit, 8bit, binary); the base of the others."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.data = raw

    def source(self, start: int, end: int) -> bytes:
        """The bytes that a link carries so that it can be restored: raw ones here."""
        return self.data[start:end]

    def write(self, splices: Sequence[Splice]) -> list[RawSplice]:
        """Turn splices of decoded bytes, sorted and not overlapping, into splices of the raw body."""
        return [RawSplice(s.start, s.end, s.new, s.token) for s in splices]

    def put_back(self, places: Sequence[Restoration]) -> list[RawSplice]:
        """Turn restorations of decoded bytes, sorted and not overlapping, into splices of the raw body."""
        return [RawSplice(p.start, p.end, p.source, True) for p in places]


class _QuotedMap:
    """Where escapes stand: arrays by escape, in order."""

    __slots__ = ("_ends", "_lookups", "_sorted", "length", "produced", "shrink")

    def __init__(
        self,
        ends: npt.NDArray[np.int64],
        shrink: npt.NDArray[np.int64],
        length: npt.NDArray[np.int64],
        produced: npt.NDArray[np.int64] | npt.NDArray[np.bool_],
    ) -> None:
        self._ends = ends
        self._sorted: list[int] | None = ends.tolist() if len(ends) < _FEW_ESCAPES else None
        self._lookups = 0
        self.shrink = shrink
        self.length = length
        self.produced = produced

    def index(self, at: int) -> int:
        """How many escapes end at or before decoded offset `at`."""
        if self._sorted is None:
            self._lookups += 1
            if self._lookups < _FEW_LOOKUPS:
                return int(self._ends.searchsorted(at, side="right"))
            self._sorted = self._ends.tolist()
        return bisect_right(self._sorted, at)

    def ends_at(self, index: int, at: int) -> bool:
        """Whether escape `index` makes the decoded byte before `at`."""
        return index < len(self._ends) and int(self._ends[index]) == at and bool(self.produced[index])


class _Walk:
    """Places in a body, found by decoding what lies between them: a few links need no table of all escapes."""

    __slots__ = ("_at", "_known", "_made", "_raw", "_restarts")

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._known: dict[int, int] = {}
        self._at = self._made = 0
        self._restarts = 0

    def is_dear(self) -> bool:
        """Whether so many places were asked for, or so out of order, that a table is cheaper from here on."""
        if len(self._raw) < _SMALL_BODY:
            return self._restarts > _FEW_RESTARTS
        return self._restarts > 1 or len(self._known) > _FEW_PLACES

    def start(self, wanted: int) -> int | None:
        """See `QuotedPrintableBody.raw_start`; None where a line of a large body is too long to be gone through."""
        place = self._known.get(wanted)
        if place is not None:
            return place
        raw = self._raw
        at, made = self._at, self._made
        if wanted < made:
            at = made = 0
            self._restarts += 1
        # Whole lines at once: decoded, they are never longer than they stand there, so that none goes too far.
        while (line := raw.rfind(b"\n", at, at + wanted - made) + 1) > at:
            made += len(binascii.a2b_qp(raw[at:line]))
            at = line
        if wanted - made > _LONG_LINE and len(raw) >= _SMALL_BODY:
            return None
        while (escape := raw.find(b"=", at, at + wanted - made + 1)) >= 0:
            made += escape - at
            size, produced = _escape(raw, escape)
            at = escape
            if produced and made == wanted:
                break
            at += size
            made += produced
        else:
            at += wanted - made
        self._at, self._made = at, wanted
        self._known[wanted] = at
        return at


class QuotedPrintableBody(Body):
    """A quoted-printable body (RFC 2045 section 6.7)."""

    def __init__(self, raw: bytes, eol: bytes) -> None:
        self.raw = raw
        self.data = binascii.a2b_qp(raw)
        self.eol = b"\n" if b"\n" in raw and b"\r\n" not in raw else eol
        self._map: _QuotedMap | None = None
        self._walk: _Walk | None = _Walk(raw)

    def _mapping(self) -> _QuotedMap:
        if self._map is None:
            self._map = _quick_map(self.raw, len(self.data)) or _careful_map(self.raw)
        return self._map

    def raw_start(self, at: int) -> int:
        """Raw offset of the first byte that makes decoded byte `at` (past soft breaks before it)."""
        if self._walk is not None:
            place = self._walk.start(at)
            if place is None or self._walk.is_dear():
                self._walk = None
            if place is not None:
                return place
        table = self._mapping()
        return at + int(table.shrink[table.index(at)])

    def raw_end(self, at: int) -> int:
        """Raw offset just past the last byte that makes decoded byte ``at - 1``."""
        if at <= 0:
            return 0
        if self._walk is not None:
            here = self.raw_start(at - 1)
            return here + (_escape(self.raw, here)[0] if self.raw.startswith(b"=", here) else 1)
        table = self._mapping()
        index = table.index(at - 1)
        here = at - 1 + int(table.shrink[index])
        return here + int(table.length[index]) if table.ends_at(index, at) else here + 1

    def _range(self, splice: Splice) -> tuple[int, int]:
        if splice.start < splice.end:
            return self.raw_start(splice.start), self.raw_end(splice.end)
        at = self.raw_end(splice.start) if splice.edge is Edge.BEFORE else self.raw_start(splice.start)
        return at, at

    def source(self, start: int, end: int) -> bytes:
        """The raw bytes, soft breaks and escapes included."""
        return self.raw[self.raw_start(start) : self.raw_end(end)] if start < end else b""

    def write(self, splices: Sequence[Splice]) -> list[RawSplice]:
        """See `Body.write`; lines stay within 76 characters where they did."""
        ranges = [self._range(s) for s in splices]
        out: list[RawSplice] = []
        column = 0
        at = 0
        raw = self.raw
        line_end = -1
        for index, splice in enumerate(splices):
            start, end = ranges[index]
            column = _column(column, raw[at:start])
            if line_end < end:  # else the line is the one of the splice before: a long one is not searched again
                line_end = raw.find(b"\n", end)
                line_end = len(raw) if line_end < 0 else line_end
            stop = line_end
            if raw[stop - 1 : stop] == b"\r" and stop > end:
                stop -= 1
            rest = stop - end
            if index + 1 < len(ranges) and ranges[index + 1][0] <= stop:
                rest = ranges[index + 1][0] - end + 2
            new = self._fold(splice.new, column, rest, splice.edge)
            out.append(RawSplice(start, end, new, splice.token))
            column = _column(column, new)
            at = end
        return out

    def _fold(self, new: bytes, column: int, rest: int, edge: Edge) -> bytes:
        """Encode `new` to stand at `column` with `rest` more bytes on its line."""
        plain = new.translate(None, _PLAIN_BYTES) == b""
        quoted = new if plain else b"".join(map(_QUOTED.__getitem__, new))
        if not quoted or column + len(quoted) + rest <= _LINE:
            return quoted
        soft = b"=" + self.eol
        out: list[bytes] = []
        if edge is Edge.BEFORE and column + 3 > _LINE - 1:
            out.append(soft)
            column = 0
        at = 0
        size = len(quoted)
        while size - at > (room := _LINE - 1 - column) or column + size - at + rest > _LINE:
            # At least one character stays before the first break and one after the last one.
            cut = min(at + max(room, 1), size - 1)
            if not plain:
                cut = _whole(quoted, at, cut)
            if cut <= at or cut >= size:
                break
            out += (quoted[at:cut], soft)
            at = cut
            column = 0
            if plain and size - at > _LINE:  # whole lines need no look at what stands at their end
                lines = (size - at - 1) // (_LINE - 1)
                stop = at + lines * (_LINE - 1)
                out += (soft.join([quoted[cut : cut + _LINE - 1] for cut in range(at, stop, _LINE - 1)]), soft)
                at = stop
        out.append(quoted[at:])
        if edge is Edge.AFTER and column + size - at + rest > _LINE:
            out.append(soft)
        return b"".join(out)

    def put_back(self, places: Sequence[Restoration]) -> list[RawSplice]:
        """See `Body.put_back`."""
        out: list[RawSplice] = []
        for place in places:
            start, end = self.raw_start(place.start), self.raw_end(place.end)
            if place.side > 0:
                end += self.soft_break_length(end)
            elif place.side < 0:
                for soft in (b"=\r\n", b"=\n"):
                    if self.raw.endswith(soft, 0, start):
                        start -= len(soft)
                        break
            out.append(RawSplice(start, end, place.source, True))
        return out

    def soft_break_length(self, at: int) -> int:
        """Length of the soft break that begins at raw offset `at`, 0 when there is none."""
        if self.raw.startswith(b"=\r\n", at):
            return 3
        return 2 if self.raw.startswith(b"=\n", at) else 0


def _whole(quoted: bytes, at: int, cut: int) -> int:
    """Move a cut so that it does not part an escape; at least one character stays before it."""
    for back in (1, 2):
        if quoted[cut - back : cut - back + 1] == b"=":
            return cut - back if cut - back > at else cut + 3 - back
    return cut


def _column(column: int, passed: bytes) -> int:
    newline = passed.rfind(b"\n")
    return column + len(passed) if newline < 0 else len(passed) - newline - 1


def _quick_map(raw: bytes, size: int) -> _QuotedMap | None:
    """The table of escapes by array arithmetic; None when the body holds something unusual.

    With one kind of line end, an ordinary escape is ``=XX`` (three bytes for one) or a soft break. Whatever else a "="
    may stand for shortens the body by less than these, so that the length alone tells that there is nothing else.

    Args:
        raw: The body.
        size: How long it is when it is decoded.
    """
    if raw[-1:] == b"=":
        return None
    octets = np.frombuffer(raw, dtype=np.uint8)
    at = np.flatnonzero(octets == 61)
    following = octets[at + 1]
    breaks = following < 32
    soft = int(np.count_nonzero(following == 13))
    if len(raw) - size != 2 * len(at) + soft or (soft and soft != np.count_nonzero(breaks)):
        return None
    if soft and (raw[-2:] == b"=\r" or not (octets[at[breaks] + 2] == 10).all()):
        return None
    shrink = np.arange(0, 2 * len(at) + 2, 2, dtype=np.int64)
    if soft:
        shrink[1:] += np.cumsum(breaks)
    produced = ~breaks
    return _QuotedMap(at - shrink[:-1] + produced, shrink, np.full(len(at), 3), produced)


def _escape(raw: bytes, at: int) -> tuple[int, int]:
    """How long the escape at an offset is, as ``binascii.a2b_qp`` reads it, and how many bytes it makes."""
    following = raw[at + 1 : at + 3]
    if following[:1] in (b"\n", b"\r"):
        newline = raw.find(b"\n", at + 1)
        return (newline + 1 if newline >= 0 else len(raw)) - at, 0
    if following[:1] == b"=":
        return 2, 1
    if len(following) == 2 and following[0] in _DIGITS and following[1] in _DIGITS:
        return 3, 1
    return 1, 1 if following else 0


def _careful_map(raw: bytes) -> _QuotedMap:
    """The same table, step by step, as ``binascii.a2b_qp`` reads an unusual body."""
    positions: list[int] = []
    lengths: list[int] = []
    produced: list[int] = []
    at = raw.find(b"=")
    while at >= 0:
        size, made = _escape(raw, at)
        positions.append(at)
        lengths.append(size)
        produced.append(made)
        at = raw.find(b"=", at + size)
    as_array = [np.array(values, dtype=np.int64) for values in (positions, lengths, produced)]
    return _table(as_array[0], as_array[1], as_array[2])


def _table(at: npt.NDArray[np.int64], length: npt.NDArray[np.int64], produced: npt.NDArray[np.int64]) -> _QuotedMap:
    shrink = np.concatenate((np.zeros(1, dtype=np.int64), np.cumsum(length - produced)))
    return _QuotedMap(at - shrink[:-1] + produced, shrink, length, produced)
