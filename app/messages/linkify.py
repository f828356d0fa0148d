"""Addresses in running text: which ones a mail client makes clickable, and where each of them ends.

Written for what clients do rather than for tidiness: whatever follows ``http://`` or ``https://`` is taken when it has
a host at all, since a missed address is a hole and a wrapped one still reads the same. Where an address ends
follows the usual rules (those that linkify-it documents): closing punctuation and quotes are not part of it, brackets
are when they are opened inside it, full-width punctuation ends it, letters of any script belong to it (RFC 3987).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from app.messages.hosts import public_suffix, words

_STOP = (
    '\\s\\x00-\\x20\\x7f-\\x9f<>"\u00ab\u00bb\u2018\u2019\u201c\u201d\u201e\u2039\u203a'
    "\u3000-\u3002\u3008-\u3011\u3014-\u301f\uff01\uff08\uff09\uff0c\uff0e\uff1a\uff1b\uff1c\uff1e\uff1f"
    "\uff3b\uff3d\uff5b\uff5c\uff5d\uff5e\uff5f\uff60\uff61-\uff64\u2028\u2029\u200b\u2060\ufeff\ufffc\ufffd"
)
_SCHEME = re.compile(r"https?\Z", re.I)
_SLASHES = re.compile("://+")  # more than two: browsers skip them
_UPPER = re.compile("[A-Z]+")
_AUTHORITY = re.compile(rf"[^{_STOP}/?#\\]*")
# A closing bracket followed by an opening one ends a markdown link; the rest of an address is taken in one go.
_REST = re.compile(rf"(?:[^{_STOP}\])]++|[\])](?![\[(]))*+")
_WWW_BEFORE = re.compile(r"[\w@/.\-:]\Z")
_HOST_END = re.compile(r"[/?#\\]")
_HOST = re.compile(r"[^\s.:@\[\]_\-()'!;,*$&+=~`|^{}]", re.UNICODE)
_BARE = re.compile(
    r"(?<![\w@/.\-:+=\\])"
    r"(?:(?:[^\W_](?:[\w\-]{0,61}[^\W_])?\.)+[^\W\d_]{2,24}|(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)(?:\.(?!\d{4})|(?!\.?\w))){4})"
    rf"(?::\d{{1,5}}(?!\d))?(?![\w@\-])(?!\.\w)(?!:\d)(?:[/?#][^{_STOP}]*)?"
)
_UNDECODABLE = re.compile("[\udc80-\udcff]")
_MAX_AUTHORITY = 2_000
_CLOSING = frozenset(".,:;!?*\u2026\u3002`|~^([{")
_PAIRS = {")": "(", "]": "[", "}": "{"}
_FILE_LIKE = words("py pl sh rs md cc so ps pm zip mov java app ml ai io js")
_PRODUCT_LIKE = frozenset({"node.js", "io.js", "asp.net", "next.js", "vue.js"})
_LISTED = re.compile(r"[,;|](?=https?:\Z)", re.I)
_TOKEN_CHARACTER = re.compile(r"[A-Za-z0-9_\-]")


class Address(NamedTuple):
    """An address in text.

    Attributes:
        start: Offset of its first character.
        end: Past its last character.
        url: Absolute URL: the address itself, or with ``http://`` in front where it has no scheme.
    """

    start: int
    end: int
    url: str


def find_addresses(text: str, *, bare_domains: bool = False) -> Iterator[Address]:
    """Find the addresses of a text.

    Args:
        text: Text as read, character references resolved.
        bare_domains: Also take ``example.com`` and ``example.com/path`` where the name ends in a public suffix.

    Yields:
        Addresses in order, never overlapping. The character after an address is never a letter of the token
        alphabet, so that a gateway URL written in its place ends where it ends.
    """
    if not bare_domains:
        yield from _with_scheme(text)
        return
    found = sorted([*_with_scheme(text), *_without_scheme(text)])
    last = 0
    for address in found:
        if address.start >= last:
            yield address
            last = address.end


def _with_scheme(text: str) -> Iterator[Address]:
    at = 0
    prefixes = _Prefixes(text)
    while (start := prefixes.following(at)) >= 0:
        schemed = text[start] in "hH"
        if schemed:
            slashes = _SLASHES.search(text, start)
            at = head = slashes.end() if slashes else start
        else:
            at = start + 4
            head = start
            if start and _WWW_BEFORE.match(text[start - 1]):
                continue
        found = _AUTHORITY.match(text, head, head + _MAX_AUTHORITY)
        authority = found[0] if found else ""
        listed = _LISTED.search(authority) if authority.endswith(":") else None
        if listed:
            authority = authority[: listed.start()]
        stop = head + len(authority)
        if not _is_host(authority, schemed):
            continue
        if not listed:
            rest = _REST.match(text, head)
            stop = max(rest.end(), head) if rest else stop
        end = _trim(text, start, stop, head)
        size = len(authority)
        if (end < head + size or size >= _MAX_AUTHORITY) and not _is_host(
            _HOST_END.split(text[head:end], maxsplit=1)[0], schemed
        ):
            continue  # what was taken off the end was part of the host
        while end < stop and _TOKEN_CHARACTER.match(text[end]):
            end += 1
        at = max(end, stop)
        url = text[start:end]
        if not url.isascii():
            url = _UNDECODABLE.sub("\ufffd", url)
        yield Address(start, end, url if schemed else "http://" + url)


class _Prefixes:
    """Where ``http://``, ``https://`` and ``www.`` begin in a text, not behind a letter or digit.

    Two plain searches, each of which goes through the text once: a pattern for all three takes ten times as long.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        lower = text if text.islower() else text.lower()
        # Some letters are two when they are lower-case; there, what is no letter of ASCII is left as it is.
        self._lower = lower if len(lower) == len(text) else _UPPER.sub(lambda hit: hit[0].lower(), text)
        self._colon = text.find("://")
        self._www = self._lower.find("www.")

    def following(self, at: int) -> int:
        """The first one at or after `at`, which must not fall from call to call; -1 when there is none."""
        text = self._text
        scheme = -1
        while self._colon >= 0:
            hit = _SCHEME.search(text, max(self._colon - 5, 0), self._colon)
            scheme = hit.start() if hit else -1
            if scheme >= at and not self._is_inside(scheme):
                break
            scheme = -1
            self._colon = text.find("://", self._colon + 3)
        while self._www >= 0 and (self._www < at or self._is_inside(self._www)):
            self._www = self._lower.find("www.", self._www + 1)
        if scheme < 0 or self._www < 0:
            return max(scheme, self._www)
        return min(scheme, self._www)

    def _is_inside(self, start: int) -> bool:
        before = self._text[start - 1] if start else " "
        return before.isascii() and before.isalnum()


def _trim(text: str, start: int, end: int, head: int) -> int:
    """Take closing punctuation off the end; brackets and quotes stay when they were opened inside the address."""
    balance: dict[str, int] | None = None
    while end > head:
        last = text[end - 1]
        if last in _PAIRS or last == "'":
            if balance is None:
                run = text[start:end]
                balance = {close: run.count(close) - run.count(opened) for close, opened in _PAIRS.items()}
                balance["'"] = run.count("'")
            if (balance[last] % 2 == 0) if last == "'" else balance[last] <= 0:
                break
            balance[last] -= 1
        elif last not in _CLOSING:
            break
        end -= 1
    return end


def _is_host(authority: str, schemed: bool) -> bool:
    authority = authority.rpartition("@")[2]
    if not _HOST.search(authority) or authority[0] in ".-":
        return False
    if schemed:
        return True
    name = authority.partition(":")[0]
    return name.lower().startswith("www.") and _HOST.search(name, 4) is not None


def _without_scheme(text: str) -> Iterator[Address]:
    for hit in _BARE.finditer(text):
        start, end = hit.span()
        end = _trim(text, start, end, start)
        name = _HOST_END.split(text[start:end], maxsplit=1)[0].partition(":")[0]
        host = name.lower()
        if host.replace(".", "").isdigit():
            yield Address(start, end, "http://" + text[start:end])
            continue
        suffix = public_suffix(host if host.isascii() else _ascii(host))
        if suffix is None or suffix == host or host in _PRODUCT_LIKE:
            continue
        labels = host.count(".")
        if host.rpartition(".")[2] in _FILE_LIKE and labels == 1 and end - start == len(name):
            continue
        while end < len(text) and end < hit.end() and _TOKEN_CHARACTER.match(text[end]):
            end += 1
        yield Address(start, end, "http://" + text[start:end])


def _ascii(host: str) -> str:
    try:
        return host.encode("idna").decode("ascii")
    except UnicodeError:
        return host
