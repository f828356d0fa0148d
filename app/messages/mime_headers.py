"""Header fields of MIME parts: the few that decide how a part is read, found leniently."""

from __future__ import annotations

import re

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
    for raw in _split_parameters(value):
        key, equals, text = raw.partition(b"=")
        if not equals:
            continue
        key = key.strip().lower()
        if key == name or key.startswith(name + b"*"):
            found.setdefault(key, _unquote(text.strip()))
    if name in found:
        return found[name]
    if not found:
        return b""
    if name + b"*" in found:
        return _extended(found[name + b"*"])
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
    if b'"' not in value:
        return value.split(b";")[1:]
    return [m[1] for m in re.finditer(rb';((?:[^;"]|"(?:[^"\\]|\\.)*(?:"|\Z))*)', value, re.S)]


def _unquote(value: bytes) -> bytes:
    if value[:1] == b'"':
        inner = value[1:-1] if len(value) > 1 and value[-1:] == b'"' else value[1:]
        return re.sub(rb"\\(.)", rb"\1", inner, flags=re.S) if b"\\" in inner else inner
    return value


def read_headers(raw: bytes, start: int, limit: int) -> tuple[dict[bytes, bytes], tuple[bytes, ...], int]:
    """Return the interesting fields, those that were repeated, and the offset where the body begins."""
    found = END_OF_HEADER.search(raw, max(start - 1, 0) if start and raw[start - 1 : start] == b"\n" else start, limit)
    if raw.startswith(b"\r\n", start) or raw.startswith(b"\n", start):
        return {}, (), start + (2 if raw[start : start + 1] == b"\r" else 1)
    end = found.start() if found else limit
    body = found.end() if found else limit
    block = raw[start:end]
    bare_cr = b"\r" in block and BARE_CR.search(block) is not None
    headers: dict[bytes, bytes] = {}
    folded: dict[bytes, list[bytes]] = {}
    repeated: list[bytes] = []
    name = b""
    at = start
    lines = _LINES.split(block) if bare_cr else block.split(b"\n")
    for line in lines:
        first = line[:1]
        if first == b" " or first == b"\t":
            if name:
                folded[name].append(line.strip())
        else:
            colon = line.find(b":")
            if colon < 0 or not _NAME.match(line, 0, colon):
                if not line.startswith(b"From "):
                    body = at
                    break
                colon = 0
            name = line[:colon].lower()
            if name not in _WANTED:
                name = b""
            elif name in headers:
                repeated.append(name)
                name = b""
            else:
                headers[name] = line[colon + 1 :].strip()
                folded[name] = [headers[name]]
        at += len(line) + 1
        if bare_cr and raw[at - 1 : at + 1] == b"\r\n":
            at += 1
    for name, pieces in folded.items():
        headers[name] = b" ".join(pieces)
    return headers, tuple(repeated), body


def content_type(headers: dict[bytes, bytes], default: str) -> str:
    """Lower-case ``type/subtype``; what is no type is plain text (RFC 2045 section 5.2)."""
    value = headers.get(b"content-type")
    if value is None:
        return default
    kind = value.split(b";", 1)[0].strip().lower().decode("latin-1")
    return kind if kind.count("/") == 1 else "text/plain"
