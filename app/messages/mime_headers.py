"""Header fields of MIME parts: the few that decide how a part is read, found leniently."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

import numpy as np

_WANTED = frozenset(
    {
        b"content-type",
        b"content-transfer-encoding",
        b"content-disposition",
        b"content-class",
        b"list-unsubscribe",
        b"x-gm-locker",
        b"x-postern",
    }
)
_NAME = re.compile(rb"[!-9;-~]*\Z")
_MATTERS = (
    rb"(?:(?=[CcLlXx])(?i:(content-(?:type|transfer-encoding|disposition|class)"
    rb"|list-unsubscribe|x-gm-locker|x-postern)):"
)
_NEITHER = rb"|(?![ \t]|From |[!-9;-~]*+:))"
_NOTABLE_FIRST = re.compile(_MATTERS + _NEITHER)
_NOTABLE = re.compile(rb"\n" + _MATTERS + _NEITHER)
"""A field that matters, or (with no group) a line that is neither a field nor the continuation of one."""
_MAX_NAME = 100
_MAX_REMEMBERED = 200
_SMALL = 2_000
_LINES = re.compile(rb"\r\n|\r|\n")
END_OF_HEADER = re.compile(rb"\r\n\r\n|\n\r?\n|\r\r|\n\r(?!\n)")
BARE_CR = re.compile(rb"\r(?!\n)")


def parameter(value: bytes, name: bytes) -> bytes:
    """Read one parameter of a structured header field (RFC 2045 section 5.1, RFC 2231), leniently.

    Args:
        value: The unfolded field body, such as ``text/html; charset="utf-8"``.
        name: Lower-case parameter name.

    Returns:
        The value without its quotes, ``b""`` when the parameter is absent.
    """
    found: dict[bytes, bytes] = {}
    extended = name + b"*"
    for raw in _split_parameters(value):
        key, equals, text = raw.partition(b"=")
        key = key.strip().lower()
        if equals and (key == name or key.startswith(extended)):
            found.setdefault(key, _unquote(text.strip()))
    if name in found:
        return found[name]
    if not found:
        return b""
    if extended in found:
        return _extended(found[extended])
    pieces = []
    for index in range(len(found)):
        plain, encoded = b"%s*%d" % (name, index), b"%s*%d*" % (name, index)
        if plain in found:
            pieces.append(found[plain])
        elif encoded in found:
            pieces.append(_extended(found[encoded], first=index == 0))
        else:
            break
    return b"".join(pieces)


def _extended(value: bytes, *, first: bool = True) -> bytes:
    if first and value.count(b"'") >= 2:
        value = value.split(b"'", 2)[2]
    return re.sub(rb"%([0-9A-Fa-f]{2})", lambda hit: bytes.fromhex(hit[1].decode()), value)


def _split_parameters(value: bytes) -> list[bytes]:
    pieces = value.split(b";")[1:]
    if b'"' not in value or (b"\\" not in value and not any(piece.count(b'"') % 2 for piece in pieces)):
        return pieces  # no quoted text holds a semicolon
    return [m[1] for m in re.finditer(rb';((?:[^;"]|"(?:[^"\\]|\\.)*(?:"|\Z))*)', value, re.S)]


def _unquote(value: bytes) -> bytes:
    if value[:1] == b'"':
        inner = value[1:-1] if len(value) > 1 and value[-1:] == b'"' else value[1:]
        return re.sub(rb"\\(.)", rb"\1", inner, flags=re.S) if b"\\" in inner else inner
    return value


def has_bare_cr(raw: bytes) -> bool:
    """Whether some line ends with a carriage return alone."""
    if b"\r" not in raw:
        return False
    if len(raw) < _SMALL or raw[-1:] == b"\r":
        return BARE_CR.search(raw) is not None
    octets = np.frombuffer(raw, dtype=np.uint8)  # a sixth of the pattern's time
    return bool(np.count_nonzero((octets[:-1] == 13) > (octets[1:] == 10)))


def header_end(raw: bytes, start: int, limit: int, *, bare_cr: bool, has_cr: bool) -> tuple[int, int] | None:
    """Find the first empty line: the end of the line before it, and the offset behind it.

    Args:
        raw: The message.
        start: Where to begin.
        limit: Where to stop.
        bare_cr: Whether some line of the message ends with a carriage return alone.
        has_cr: Whether there is a carriage return in it at all.

    Returns:
        What `END_OF_HEADER` matches, or None.
    """
    if bare_cr:
        found = END_OF_HEADER.search(raw, start, limit)
        return found.span() if found else None
    # With every carriage return before a line feed, two plain searches do; they take a tenth of the pattern's time.
    crlf = raw.find(b"\n\r\n", start, limit) if has_cr else -1
    lf = raw.find(b"\n\n", start, limit if crlf < 0 else crlf + 1)  # they may share a line feed
    if lf >= 0:
        return lf, lf + 2
    if crlf < 0:
        return None
    return (crlf - 1 if crlf > start and raw[crlf - 1] == 13 else crlf), crlf + 3


def _field(name: bytes) -> bytes | None:
    """The lower-case name of a field that matters, ``b""`` for another one, None for what is no field name."""
    if not _NAME.match(name):
        return None
    name = name.lower()
    return name if name in _WANTED else b""


_known_field = lru_cache(maxsize=4096)(_field)


class Header(NamedTuple):
    """A header as it was read.

    Attributes:
        fields: The interesting fields (not to be changed), lower-case names, unfolded values, first occurrence wins.
        repeated: Names of interesting fields that stood more than once.
        body: Offset where the body begins.
        is_ended: Whether it ends with an empty line.
    """

    fields: dict[bytes, bytes]
    repeated: tuple[bytes, ...]
    body: int
    is_ended: bool


def usual_header(raw: bytes, start: int) -> Header | None:
    """Read a header of which every line is a field or goes on with one, and which an empty line ends; else None.

    One pattern goes over it, where `header_end` and `read_headers` take three passes and a step for each line. No line
    of the message may end with a carriage return alone.

    Args:
        raw: The message.
        start: Where the header begins.
    """
    first = _NOTABLE_FIRST.match(raw, start)
    if first is not None and first[1] is None:
        return None
    headers: dict[bytes, bytes] = {}
    repeated: list[bytes] = []
    if first is not None:
        headers[first[1].lower()] = _value(raw, first.end())
    for hit in _NOTABLE.finditer(raw, start):
        name = hit[1]
        if name is None:
            at = hit.end()
            if raw.startswith(b"\r\n", at):
                return Header(headers, tuple(repeated), at + 2, True)
            return Header(headers, tuple(repeated), at + 1, True) if raw.startswith(b"\n", at) else None
        name = name.lower()
        if name in headers:
            repeated.append(name)
        else:
            headers[name] = _value(raw, hit.end())
    return None


def _value(raw: bytes, at: int) -> bytes:
    """The unfolded value that begins at an offset of a header that an empty line ends."""
    end = raw.find(b"\n", at)
    value = raw[at:end].strip()
    if not raw.startswith((b" ", b"\t"), end + 1):
        return value
    pieces = [value]
    while raw.startswith((b" ", b"\t"), end + 1):
        at = end + 1
        end = raw.find(b"\n", at)
        if end < 0:
            end = len(raw)
        pieces.append(raw[at:end].strip())
    return b" ".join(pieces)


def read_headers(raw: bytes, start: int, end: int, body: int, *, bare_cr: bool) -> Header:
    """Read the header between two offsets.

    Args:
        raw: The message.
        start: Where it begins.
        end: Where its last line ends, without the line break.
        body: Offset behind the empty line; `end` itself where there is none.
        bare_cr: Whether some line of the message ends with a carriage return alone.
    """
    if raw.startswith((b"\r\n", b"\n"), start):
        return Header({}, (), start + (2 if raw[start] == 13 else 1), True)
    block = raw[start : end - 1 if raw.startswith(b"\r\n", end - 1) else end]
    bare_cr = bare_cr and BARE_CR.search(block) is not None
    read = _known_fields if len(block) <= _MAX_REMEMBERED and not bare_cr else _fields
    headers, repeated, stop = read(block, bare_cr)
    return Header(headers, repeated, body, body > end) if stop < 0 else Header(headers, repeated, start + stop, False)


def _fields(block: bytes, bare_cr: bool) -> tuple[dict[bytes, bytes], tuple[bytes, ...], int]:
    """The interesting fields of a header, those that stood there again, and where it ends early (else -1)."""
    headers: dict[bytes, bytes] = {}
    folded: dict[bytes, list[bytes]] = {}
    repeated: list[bytes] = []
    name = b""
    at = 0
    stop = -1
    for line in _LINES.split(block) if bare_cr else block.split(b"\n"):
        first = line[:1]
        if first == b" " or first == b"\t":
            if name:
                folded.setdefault(name, [headers[name]]).append(line.strip())
        else:
            colon = line.find(b":")
            if 0 <= colon <= _MAX_NAME:
                known = _known_field(line[:colon])
            else:
                known = _field(line[:colon]) if colon > 0 else None
            if known is None:
                if not line.startswith(b"From "):
                    stop = at
                    break
                known = b""
            name = known
            if name:
                if name in headers:
                    repeated.append(name)
                    name = b""
                else:
                    headers[name] = line[colon + 1 :].strip()
        at += len(line) + 1
        if bare_cr and block[at - 1 : at + 1] == b"\r\n":
            at += 1
    for name, pieces in folded.items():
        headers[name] = b" ".join(pieces)
    return headers, tuple(repeated), stop


# The headers of parts are the same few in most mail. Nobody changes what is returned.
_known_fields = lru_cache(maxsize=1024)(_fields)


def content_type(headers: dict[bytes, bytes], default: str) -> str:
    """Lower-case ``type/subtype``; what is no type is plain text (RFC 2045 section 5.2)."""
    value = headers.get(b"content-type")
    if value is None:
        return default
    kind = value.partition(b";")[0]
    return _known_kind(kind) if len(kind) <= _MAX_NAME else _kind(kind)


def charset_of(value: bytes) -> str:
    """The ``charset`` parameter of a Content-Type as written, or ``""``."""
    return _known_charset(value) if len(value) <= 2 * _MAX_NAME else _charset(value)


def _charset(value: bytes) -> str:
    return parameter(value, b"charset").decode("latin-1") if b"charset" in value.lower() else ""


_known_charset = lru_cache(maxsize=1024)(_charset)


def _kind(value: bytes) -> str:
    kind = value.strip().lower().decode("latin-1")
    return kind if kind.count("/") == 1 else "text/plain"


_known_kind = lru_cache(maxsize=1024)(_kind)
