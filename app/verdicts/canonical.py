"""Canonical URLs and the expressions under which lists are searched.

An address is first read by the WHATWG parser, because that is what the browser will contact; host, path and
query of that reading are then brought into the Safe Browsing canonical form, and the host-suffix and
path-prefix expressions are made from it. One rule for every list: an entry for a host also covers its
subdomains, an entry for a folder covers what is below it.

References:
    https://developers.google.com/safe-browsing/v4/urls-hashing (canonicalization; suffix/prefix expressions)
    https://url.spec.whatwg.org/#url-parsing
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

import ada_url

MAX_URL_LENGTH: Final = 16_384
"""Characters of an address that are looked at; longer ones are not canonical for anybody."""

_UNESCAPE_ROUNDS: Final = 1024
_ESCAPE_RE = re.compile(rb"%([0-9A-Fa-f]{2})")
_SCHEME_RE = re.compile(rb"([A-Za-z][A-Za-z0-9+.\-]*)://(.*)\Z", re.DOTALL)
_OTHER_SCHEME_RE = re.compile(rb"[A-Za-z][A-Za-z0-9+.\-]*:[^0-9]")
_PORT_TEXT_RE = re.compile(r":[0-9]*\Z")
_PORT_RE = re.compile(rb":[0-9]*\Z")
_DOTS_RE = re.compile(rb"\.{2,}")
_SLASHES_RE = re.compile(rb"/{2,}")
_QUOTED: Final = tuple(
    bytes([byte]) if 0x20 < byte < 0x7F and byte not in b"#%" else b"%%%02X" % byte for byte in range(256)
)
_NUMBER_RE = re.compile(rb"(0[xX][0-9A-Fa-f]*|[0-9]+)\Z")


class NotCanonical(ValueError):
    """The text has no host to look up."""


def canonical_url(url: str | bytes) -> str:
    """The Safe Browsing canonical form, without port and user information, with the query.

    Args:
        url: Any spelling of an address; a missing scheme means http.

    Returns:
        ASCII text ``scheme://host/path?query``.

    Raises:
        NotCanonical: There is no host.
    """
    scheme, host, path, query = _parts(url)
    return f"{scheme}://{host}{path}" + ("" if query is None else f"?{query}")


def expressions(url: str | bytes) -> tuple[str, ...]:
    """The expressions under which a URL may be listed, most specific first (48 at most).

    Args:
        url: As for :func:`canonical_url`.

    Raises:
        NotCanonical: There is no host.
    """
    _, host, path, query = _parts(url)
    paths = path_prefixes(path, query)
    return tuple(suffix + prefix for suffix in host_suffixes(host) for prefix in paths)


def lookup_expressions(url: str) -> tuple[str, ...]:
    """Like :func:`expressions` for an address as a browser reads it.

    User information cannot be mistaken for the host here, whatever is escaped in it.

    Raises:
        NotCanonical: The WHATWG parser finds no http or https host.
    """
    hosts, path, query = lookup_parts(url)
    paths = path_prefixes(path, query)
    return tuple([suffix + prefix for suffix in hosts for prefix in paths])


def lookup_parts(url: str) -> tuple[list[str], str, str | None]:
    """What :func:`lookup_expressions` are made of, for look-ups that stop at the host.

    Returns:
        The host and its suffixes, the path, and the query (None: there is none); see :func:`path_prefixes`.

    Raises:
        NotCanonical: The WHATWG parser finds no http or https host.
    """
    try:
        href = ada_url.normalize_url(url)
    except (ValueError, UnicodeError):
        raise NotCanonical("not an address") from None
    if not href.startswith(("http://", "https://")):
        raise NotCanonical("not an http or https address")
    if "#" in href:
        href = href.partition("#")[0]
    authority, _, rest = href[href.index("//") + 2 :].partition("/")
    if "@" in authority:
        authority = authority.rpartition("@")[2]
    host = _PORT_TEXT_RE.sub("", authority) if ":" in authority else authority
    path, mark, query = rest.partition("?")
    # The parser has resolved dots, lowered the host and normalised IP addresses; where nothing is escaped and
    # nothing is doubled, what it wrote is the canonical form already.
    if not host or "%" in rest or "//" in rest or path.startswith("/") or ".." in host or host.endswith("."):
        _, host, path, found = _parts(f"http://{host}/{rest}")
        return host_suffixes(host), path, found
    hosts = [host] if host[0] == "[" or host[-1].isdigit() else _suffixes(host)
    return hosts, "/" + path, query if mark and query else None


def expression_digest(expression: str) -> bytes:
    """SHA-256 of an expression; lists carry its first 4 to 32 bytes."""
    return hashlib.sha256(expression.encode("ascii", "replace")).digest()


def host_suffixes(host: str) -> list[str]:
    """The exact host and its last seven components, dropping the leading one each time.

    The documentation asks for five; Google's own client (github.com/google/safebrowsing) looks under seven,
    which finds everything that five do."""
    if host.startswith("[") or _parse_ipv4(host.encode("ascii", "replace")) is not None:
        return [host]
    return _suffixes(host)


def _suffixes(host: str) -> list[str]:
    labels = host.split(".")
    first = max(1, len(labels) - 7)
    return [host, *(".".join(labels[index:]) for index in range(first, len(labels) - 1))]


def path_prefixes(path: str, query: str | None) -> list[str]:
    """The path with and without query, then up to four folders above it, the deepest first."""
    found = [] if query is None else [f"{path}?{query}"]
    found.append(path)
    segments = path.split("/")[1:-1]
    prefix = "/"
    folders = [prefix]
    for segment in segments[:3]:
        prefix += segment + "/"
        folders.append(prefix)
    found += [folder for folder in reversed(folders) if folder != path]
    return found


def _parts(url: str | bytes) -> tuple[str, str, str, str | None]:
    raw = url if isinstance(url, bytes) else url.encode("utf-8", "surrogatepass")
    text = raw[:MAX_URL_LENGTH].partition(b"#")[0].strip(b" \t\r\n\v\f")
    text = _unescape(text.translate(None, b"\t\r\n"))
    match = _SCHEME_RE.match(text)
    if match is not None:
        scheme, rest = match[1].lower(), match[2]
    elif _OTHER_SCHEME_RE.match(text):
        raise NotCanonical("no host")
    else:
        scheme, rest = b"http", text
    rest, mark, query = rest.partition(b"?")
    authority, slash, path = rest.partition(b"/")
    host = _canonical_host(_PORT_RE.sub(b"", authority.rpartition(b"@")[2]))
    if not host:
        raise NotCanonical("no host")
    return (
        scheme.decode("ascii"),
        host,
        _quote(_canonical_path(slash + path)),
        _quote(query) if mark and query else None,
    )


def _unescape(text: bytes) -> bytes:
    for _ in range(_UNESCAPE_ROUNDS):
        plain = _ESCAPE_RE.sub(lambda match: bytes([int(match[1], 16)]), text)
        if plain == text:
            return plain
        text = plain
    raise NotCanonical("escaped without end")


def _quote(text: bytes) -> str:
    return b"".join(_QUOTED[byte] for byte in text).decode("ascii")


def _canonical_host(host: bytes) -> str:
    host = _DOTS_RE.sub(b".", host).strip(b".").lower()
    if not host.isascii():
        host = _idna(host).lower()
    address = _parse_ipv4(host)
    return address if address is not None else _quote(host)


def _idna(host: bytes) -> bytes:
    """A-labels for a UTF-8 host; other bytes stay and are escaped."""
    try:
        return host.decode("utf-8").encode("idna")
    except UnicodeError:
        return host


def _parse_ipv4(host: bytes) -> str | None:
    """An IPv4 address in decimal, octal, hexadecimal and with one to four parts, else None."""
    # A resolver takes four parts, a space and rubbish up to 15 characters for an address.
    if len(host) <= 15 and b" " in host:
        host = host.partition(b" ")[0]
        if host.count(b".") != 3:
            return None
    parts = host.split(b".")
    if not host or len(parts) > 4:
        return None
    numbers = []
    for part in parts:
        if _NUMBER_RE.match(part) is None:
            return None
        try:
            if part[:2].lower() == b"0x":
                numbers.append(int(part[2:] or b"0", 16))
            else:
                numbers.append(int(part, 8 if part.startswith(b"0") and len(part) > 1 else 10))
        except ValueError:
            return None
    value = 0
    for number in numbers[:-1]:
        value = value << 8 | number & 0xFF
    tail_bits = 8 * (5 - len(numbers))
    value = value << tail_bits | numbers[-1] & ((1 << tail_bits) - 1)
    return ".".join(str(value >> shift & 0xFF) for shift in (24, 16, 8, 0))


def _canonical_path(path: bytes) -> bytes:
    segments: list[bytes] = []
    parts = _SLASHES_RE.sub(b"/", path).split(b"/")[1:]
    for part in parts:
        if part == b"..":
            del segments[-1:]
        elif part != b".":
            segments.append(part)
    if parts and parts[-1] in (b".", b".."):
        segments.append(b"")
    return b"/" + b"/".join(segments)
