"""MIME structure as byte ranges: where each part's header and body begin and end, and nothing else.

The message is never taken apart and put together again; parts are found so that bytes inside them can be
replaced in place. One pass over the lines that begin with ``--``, with every open boundary in a table, so that
time is linear however deep the parts are nested (RFC 2046 section 5.1.2: an outer boundary ends inner parts).

Broken structure is read as lenient clients (and Python's own parser) read it: a header ends at the first line that
is none, a missing final boundary ends with the message, text after a final boundary is not part of the message.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from app.messages.mime_headers import (
    END_OF_HEADER,
    charset_of,
    content_type,
    has_bare_cr,
    header_end,
    parameter,
    read_headers,
    usual_header,
)

_TOKEN = re.compile(rb"[^\s;,\"'()]+")
_COMMENT = re.compile(rb"\([^()]*\)")
_SEPARATOR = re.compile(rb"(?:\A|\n|\r(?!\n))(?:\r\n|\r|\n)\Z")
_DELIMITER = re.compile(rb"(?:\r\n|\r|\n)--")
_NO_MESSAGE = frozenset(
    {
        *("message/delivery-status", "message/global-delivery-status", "message/disposition-notification"),
        *("message/global-disposition-notification", "message/feedback-report", "message/tracking-status"),
        *("message/global-headers", "message/http", "message/sip", "message/sipfrag"),
    }
)
_HEADER_LINE = re.compile(rb"\s{0,100}[!-9;-~]{1,200}[ \t]{0,100}:")
_PLAIN_EQUALS = re.compile(rb"=(?![0-9A-F]{2}|[ \t]*\r?\n)")
_ENCODED_MESSAGE = frozenset({"base64", "quoted-printable"})
_MAX_DELIMITER = 2_000
_MAX_BEGINNING = 40
_FEW_BOUNDARIES = 8
_MAX_REMEMBERED = 100
MAX_PARTS = 20_000
"""Parts beyond this number are left as they are and reported (a message of nothing but boundaries)."""


def _encoding(value: bytes) -> str:
    found = _TOKEN.search(_COMMENT.sub(b" ", value))
    return found[0].decode("latin-1").lower() if found else "7bit"


_known_encoding = lru_cache(maxsize=256)(_encoding)


@dataclass(slots=True, eq=False)
class Part:
    """One entity of a message.

    Attributes:
        path: Position such as ``1.2`` (``""`` for a multipart message itself).
        start: Offset of the header.
        body_start: Offset of the first byte of the body.
        body_end: Offset past the last byte of the body, without the line break that belongs to the next boundary.
        content_type: Lower-case ``type/subtype``.
        headers: The interesting header fields, lower-case names, unfolded values, first occurrence wins.
        repeated: Names of interesting fields that stood more than once.
        boundary: Boundary of a multipart, else ``b""``.
        delimiter: Offset of the boundary line (its ``--``) before this part; -1 for the message itself.
        children: Parts inside.
        closed: Whether the final boundary of a multipart has been seen.
        no_separator: Whether the header is not followed by an empty line.
        parent: The entity this one is in.
    """

    path: str
    start: int
    body_start: int
    body_end: int
    content_type: str
    headers: dict[bytes, bytes]
    parent: Part | None = None
    repeated: tuple[bytes, ...] = ()
    boundary: bytes = b""
    delimiter: int = -1
    closed: bool = False
    no_separator: bool = False
    children: list[Part] = field(default_factory=list)

    @property
    def encoding(self) -> str:
        """Content-Transfer-Encoding, lower-case, ``7bit`` when there is none (RFC 2045 section 6.1)."""
        value = self.headers.get(b"content-transfer-encoding")
        return "7bit" if value is None else _known_encoding(value) if len(value) < _MAX_REMEMBERED else _encoding(value)

    @property
    def charset(self) -> str:
        """The ``charset`` parameter as written, or ``""``."""
        value = self.headers.get(b"content-type")
        return charset_of(value) if value else ""

    @property
    def disposition(self) -> str:
        """Lower-case Content-Disposition without its parameters, or ``""``."""
        value = self.headers.get(b"content-disposition")
        return value.split(b";", 1)[0].strip().decode("latin-1").lower() if value else ""

    @property
    def filename(self) -> str:
        """The file name that the part gives itself, undecoded where it is encoded; ``""`` when there is none."""
        name = parameter(self.headers.get(b"content-disposition", b""), b"filename")
        return (name or parameter(self.headers.get(b"content-type", b""), b"name")).decode("utf-8", "replace")

    @property
    def is_leaf(self) -> bool:
        """Whether the part has a body of its own rather than parts."""
        return not self.children


@dataclass(slots=True)
class Structure:
    """A parsed message.

    Attributes:
        root: The message itself.
        defects: ``(code, part path)`` of what was not as it should be.
    """

    root: Part
    defects: list[tuple[str, str]]
    _parts: list[Part] | None = None

    def walk(self) -> Sequence[Part]:
        """Every part in the order of the message, the message itself first."""
        if self._parts is None:
            self._parts = self._walk()
        return self._parts

    def _walk(self) -> list[Part]:
        out: list[Part] = []
        todo = [self.root]
        while todo:
            part = todo.pop()
            out.append(part)
            todo.extend(reversed(part.children))
        return out


class _Scanner:
    """The state of one pass over a message."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.stack: list[Part] = []
        self.open: dict[bytes, list[int]] = {}
        self.defects: list[tuple[str, str]] = []
        self.count = 0
        self._blank_known = (0, -1, -1)
        self._needle: bytes | None = None
        self.has_cr = b"\r" in raw
        self.bare_cr = self.has_cr and has_bare_cr(raw)
        """Whether some line ends with a carriage return alone."""

    def enter(self, start: int, path: str, default: str, delimiter: int) -> int:
        """Open the entity whose header begins at `start`, and the messages nested in it; return where to go on."""
        while True:
            raw = self.raw
            usual = None if self.open or self.bare_cr else usual_header(raw, start)
            if usual is None:
                end, body = self._header_span(start)
                usual = read_headers(raw, start, end, body, bare_cr=self.bare_cr)
            headers, repeated, body, is_ended = usual
            kind = content_type(headers, default)
            parent = self.stack[-1] if self.stack else None
            part = Part(path, start, body, body, kind, headers, parent, repeated, delimiter=delimiter)
            if not is_ended and not _SEPARATOR.search(raw[max(body - 4, start) : body]):
                part.no_separator = True
                self.defects.append(("no_separator", path))
            if repeated:
                self.defects.append(("repeated_header", path))
            self.count += 1
            if parent is not None:
                parent.children.append(part)
            self.stack.append(part)
            if kind.startswith("multipart/"):
                self._open_boundary(part)
                return body
            if not kind.startswith("message/") or kind in _NO_MESSAGE or self._is_encoded(part, body):
                return body
            start, path, default, delimiter = body, f"{path}.1" if path else "1", "text/plain", -1
            if self.count > MAX_PARTS:
                return body

    def _is_encoded(self, part: Part, body: int) -> bool:
        """Whether an attached message really is encoded: many only say so, and readers then take it as it stands."""
        if part.encoding not in _ENCODED_MESSAGE:
            return False
        if part.encoding == "base64":
            return _HEADER_LINE.match(self.raw, body) is None
        end = END_OF_HEADER.search(self.raw, body, body + _MAX_DELIMITER)
        return _PLAIN_EQUALS.search(self.raw, body, end.end() if end else body + _MAX_DELIMITER) is None

    def _header_span(self, start: int) -> tuple[int, int]:
        """Where the last line of the header at `start` ends, and where its body begins.

        A header cannot reach past the next delimiter line of an open multipart.
        """
        raw = self.raw
        first = start - 1 if start and raw[start - 1] == 10 else start
        if not self.open:
            return header_end(raw, first, len(raw), bare_cr=self.bare_cr, has_cr=self.has_cr) or (len(raw), len(raw))
        known_from, gap, blank = self._blank_known
        if not known_from <= start <= gap:
            # Remembered, so that parts without a blank line do not look for the same far one again and again.
            found = header_end(raw, max(start - 1, 0), len(raw), bare_cr=self.bare_cr, has_cr=self.has_cr)
            gap, blank = found or (len(raw), len(raw))
            self._blank_known = (start, gap, blank)
        at = start
        while (here := self.next_delimiter(at, blank)) >= 0:
            depth, _, at = self.match(here)
            if depth is not None:
                return header_end(raw, first, here, bare_cr=self.bare_cr, has_cr=self.has_cr) or (here, here)
        if gap < first:
            return header_end(raw, first, blank, bare_cr=self.bare_cr, has_cr=self.has_cr) or (blank, blank)
        return gap, blank

    def _open_boundary(self, part: Part) -> None:
        boundary = parameter(part.headers.get(b"content-type", b""), b"boundary").rstrip()
        if not boundary:
            self.defects.append(("no_boundary", part.path))
            return
        part.boundary = boundary
        self.open.setdefault(boundary, []).append(len(self.stack) - 1)
        self._needle = None

    def match(self, at: int) -> tuple[int | None, bool, int]:
        """Look at the line that begins with ``--`` at `at`: depth of its multipart, whether it closes, next line."""
        raw = self.raw
        far = at + _MAX_DELIMITER
        end = raw.find(b"\n", at, far) + 1
        if self.bare_cr:
            cr = raw.find(b"\r", at, end or far)
            if cr >= 0 and raw[cr + 1 : cr + 2] != b"\n":
                end = cr + 1
        if not end:
            if far < len(raw):
                return None, False, far
            end = len(raw)
        line = raw[at + 2 : end].rstrip(b" \t\r\n")
        depths = self.open.get(line)
        if depths:
            return depths[0], False, end  # of two open multiparts with one boundary, readers end the outer one's part
        if line.endswith(b"--"):
            depths = self.open.get(line[:-2])
            if depths:
                return depths[0], True, end
        return None, False, end

    def close_above(self, depth: int, end: int) -> None:
        """End every entity that is nested deeper than `depth` at offset `end`."""
        while len(self.stack) > depth + 1:
            part = self.stack.pop()
            part.body_end = max(end, part.body_start)
            if part.boundary and not part.closed:
                self._forget(part, len(self.stack))
                self.defects.append(("no_final_boundary" if part.children else "boundary_not_found", part.path))

    def _forget(self, part: Part, depth: int) -> None:
        depths = self.open[part.boundary]
        if depths[-1] == depth:
            depths.pop()
        else:
            depths.remove(depth)
        if not depths:
            del self.open[part.boundary]
            self._needle = None

    def next_delimiter(self, at: int, limit: int | None = None) -> int:
        """Offset of the next line at or after `at` (and before `limit`) that may be a delimiter, or -1.

        It begins with ``--``; those that no open boundary can make a delimiter of are passed over where that is quick.
        """
        raw = self.raw
        stop = len(raw) if limit is None else limit
        if raw.startswith(b"--", at) and (not at or raw[at - 1] in b"\r\n"):
            return at if at < stop else -1
        if self.bare_cr:
            found = _DELIMITER.search(raw, max(at - 1, 0), stop)
            return found.end() - 2 if found else -1
        needle = self._needle
        if needle is None:
            needle = self._needle = b"\n--" + _common_beginning(self.open)
        hit = raw.find(needle, max(at - 1, 0), stop + len(needle) - 3)
        return hit + 1 if hit >= 0 else -1

    def run(self) -> Structure:
        at = self.enter(0, "", "text/plain", -1)
        raw = self.raw
        while self.open:
            here = self.next_delimiter(at)
            if here < 0:
                break
            depth, closing, at = self.match(here)
            if depth is None:
                continue
            end = here
            if raw[end - 1 : end] == b"\n":
                end -= 1
            if raw[end - 1 : end] == b"\r":
                end -= 1
            self.close_above(depth, end)
            parent = self.stack[depth]
            if closing:
                parent.closed = True
                self._forget(parent, depth)
                continue
            if self.count >= MAX_PARTS:
                self.defects.append(("too_many_parts", ""))
                break
            number = len(parent.children) + 1
            path = f"{parent.path}.{number}" if parent.path else str(number)
            at = self.enter(
                at,
                path,
                "message/rfc822" if parent.content_type == "multipart/digest" else "text/plain",
                here,
            )
        root = self.stack[0]
        self.close_above(-1, len(raw))
        if root.is_leaf and not root.path:
            root.path = "1"
        return Structure(root, self.defects)


def _common_beginning(boundaries: Collection[bytes]) -> bytes:
    """What all of the boundaries begin with: the longer it is, the faster it is searched for."""
    if len(boundaries) > _FEW_BOUNDARIES:
        return b""  # asked for each time that one is opened or closed: time must stay linear
    first, last = min(boundaries), max(boundaries)
    if first == last:
        return first[:_MAX_BEGINNING]
    length = 0
    for one, other in zip(first[:_MAX_BEGINNING], last, strict=False):
        if one != other:
            break
        length += 1
    return first[:length]


def parse(raw: bytes) -> Structure:
    """Find the parts of a message.

    Args:
        raw: The message as received (any bytes).

    Returns:
        Its structure; every offset refers to `raw`.
    """
    return _Scanner(raw).run()
