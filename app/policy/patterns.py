"""What a line of a list matches. PURE.

Two kinds of pattern:

``wildcard``
    ``host``, ``host:port``, ``host/path`` or both; ``*`` stands for any characters.
    ``example.com`` matches the host and its subdomains, ``*.example.com`` the subdomains alone,
    ``=example.com`` the host alone. A path is matched whole (``example.com/docs/*``); it takes the query into
    account only where it has a ``?``. A scheme in front is ignored.
``re2``
    A regular expression searched in the whole address as a browser writes it. RE2 works in linear time
    (https://github.com/google/re2/wiki/Syntax), so a tenant's pattern cannot stall the gateway.

Hosts and paths are compared as a browser reads them, with percent-escapes undone, so that no spelling slips by.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

import ada_url
import re2

from app.kit.errors import Refused

MAX_PATTERN: Final = 500
MAX_RE2_BYTES: Final = 1 << 20
_SCHEME_RE = re.compile(r"https?://", re.IGNORECASE)
_HOST_RE = re.compile(r"(?P<mark>=|\*\.)?(?P<host>\[[0-9A-Fa-f:.]+\]|(?!=)[^/:?#*\s@\\]+)(?::(?P<port>[0-9]{1,5}))?\Z")
_SLASHES_RE = re.compile(r"/{2,}")


@dataclass(frozen=True, slots=True)
class Address:
    """An http or https address taken apart for matching.

    Attributes:
        href: As the WHATWG parser serialises it.
        host: Lower case, A-labels, without a root dot.
        port: As written, or the scheme's own.
        path: Percent-escapes undone, runs of slashes folded.
        query: With its ``?``, escapes undone; empty where there is none.
    """

    href: str
    host: str
    port: str
    path: str
    query: str


def address(url: str) -> Address | None:
    """Take an address apart; None where it is not http or https with a host."""
    try:
        parsed = ada_url.URL(url)
    except (ValueError, UnicodeError):
        return None
    if parsed.protocol not in ("http:", "https:"):
        return None
    host = parsed.hostname.rstrip(".")
    if not host:
        return None
    port = parsed.port or ("443" if parsed.protocol == "https:" else "80")
    return Address(parsed.href, host, port, _plain_path(parsed.pathname), _unescape(parsed.search))


def _unescape(text: str) -> str:
    for _ in range(5):
        plain = unquote(text)
        if plain == text:
            break
        text = plain
    return text


def _plain_path(path: str) -> str:
    return _SLASHES_RE.sub("/", _unescape(path)) or "/"


@dataclass(frozen=True, slots=True)
class Wildcard:
    """A compiled ``wildcard`` pattern."""

    host: str
    exact: bool = False
    below_only: bool = False
    port: str = ""
    path: tuple[str, ...] = ()
    """The path split at ``*``; empty: any path."""
    with_query: bool = False

    def matches(self, target: Address) -> bool:
        """Whether the address is meant."""
        return self.matches_host(target.host) and self.matches_rest(target)

    def matches_host(self, host: str) -> bool:
        """Whether the host is meant."""
        if host == self.host:
            return not self.below_only
        return not self.exact and host.endswith("." + self.host)

    def matches_rest(self, target: Address) -> bool:
        """Whether port and path are meant."""
        if self.port and self.port != target.port:
            return False
        return not self.path or _glob(self.path, target.path + target.query if self.with_query else target.path)


@dataclass(frozen=True, slots=True)
class Expression:
    """A compiled ``re2`` pattern."""

    pattern: str
    compiled: re2._Regexp  # the package's own name for a compiled pattern

    def matches(self, target: Address) -> bool:
        """Whether the expression is found in the address."""
        return self.compiled.search(target.href) is not None


def compile_pattern(kind: str, pattern: str) -> Wildcard | Expression:
    """Compile a line of a list.

    Raises:
        Refused: It cannot be what the writer means; the message says why.
    """
    text = pattern.strip()
    if not text or len(text) > MAX_PATTERN or not text.isprintable():
        raise Refused(f"A pattern has 1 to {MAX_PATTERN} printable characters.", "pattern_length")
    if kind == "re2":
        return _compile_expression(text)
    if kind == "wildcard":
        return _compile_wildcard(text)
    raise Refused(f"“{kind}” is not a kind of pattern; there are wildcard and re2.", "pattern_kind")


def _compile_expression(text: str) -> Expression:
    options = re2.Options()
    options.max_mem = MAX_RE2_BYTES
    options.log_errors = False
    try:
        return Expression(text, re2.compile(text, options))
    except re2.error as error:
        raise Refused(f"RE2 does not take this expression: {_reason(error)}", "pattern_re2") from None


def _reason(error: Exception) -> str:
    first = error.args[0] if error.args else ""
    return first.decode("utf-8", "replace") if isinstance(first, bytes) else str(first)


def _compile_wildcard(text: str) -> Wildcard:
    text = _SCHEME_RE.sub("", text, count=1)
    end = min((text.index(mark) for mark in "/?" if mark in text), default=len(text))
    match = _HOST_RE.match(text[:end])
    if match is None:
        raise Refused(
            f"“{pattern_excerpt(text)}” does not begin with a host. Write example.com, *.example.com, "
            "=example.com or example.com/path/*; for anything else use an RE2 expression.",
            "pattern_host",
        )
    try:
        host = ada_url.URL(f"http://{match['host']}/").hostname.rstrip(".")
    except (ValueError, UnicodeError):
        host = ""
    if not host:
        raise Refused(f"“{pattern_excerpt(match['host'])}” is not a host name.", "pattern_host")
    rest = text[end:].partition("#")[0]
    path: tuple[str, ...] = ()
    if rest not in ("", "/", "/*"):
        rest = rest if rest.startswith("/") else "/" + rest
        bare, mark, query = rest.partition("?")
        path = tuple((_plain_path(bare) + (mark + _unescape(query) if mark else "")).split("*"))
    return Wildcard(
        host=host,
        exact=match["mark"] == "=",
        below_only=match["mark"] == "*.",
        port=match["port"] or "",
        path=path,
        with_query="?" in rest,
    )


def pattern_excerpt(text: str) -> str:
    """A pattern short enough for a sentence."""
    return text if len(text) <= 60 else text[:59] + "…"


def _glob(parts: tuple[str, ...], text: str) -> bool:
    """Match text against literal parts with anything between them, in linear time per part."""
    if len(parts) == 1:
        return text == parts[0]
    first, last = parts[0], parts[-1]
    if not text.startswith(first) or not text.endswith(last) or len(text) < len(first) + len(last):
        return False
    at, end = len(first), len(text) - len(last)
    for part in parts[1:-1]:
        found = text.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True
