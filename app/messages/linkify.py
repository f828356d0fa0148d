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
_ADDRESS = re.compile(rf"(?<![a-zA-Z0-9])(?:https?://|www\.)[^{_STOP}]+", re.I)
_WWW_BEFORE = re.compile(r"[\w@/.\-:]\Z")
_HOST_END = re.compile(r"[/?#\\]")
_HOST = re.compile(r"[^\s.:@\[\]_\-()'!;,*$&+=~`|^{}]", re.UNICODE)
_BARE = re.compile(
    r"(?<![\w@/.\-:+=\\])"
    r"(?:(?:[^\W_](?:[\w\-]{0,61}[^\W_])?\.)+[^\W\d_]{2,24}|(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)(?:\.(?!\d{4})|(?!\.?\w))){4})"
    rf"(?::\d{{1,5}}(?!\d))?(?![\w@\-])(?!\.\w)(?!:\d)(?:[/?#][^{_STOP}]*)?"
)
_PAIRS = {")": "(", "]": "[", "}": "{"}
_FILE_LIKE = words("py pl sh rs md cc so ps pm zip mov java app ml ai io js")
_PRODUCT_LIKE = frozenset({"node.js", "io.js", "asp.net", "next.js", "vue.js"})
_LISTED = re.compile(r"[,;|](?=https?:/)", re.I)
_MARKDOWN = re.compile(r"[\])][\[(](?=[^\])]*[\])])")
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
    if "://" not in text and "www." not in text and "www." not in text.lower():
        return
    at = 0
    while True:
        hit = _ADDRESS.search(text, at)
        if hit is None:
            return
        start, stop = hit.span()
        at = stop
        schemed = text[start] in "hH"
        if not schemed and start and _WWW_BEFORE.match(text[start - 1]):
            at = start + 4
            continue
        head = text.index("://", start) + 3 if schemed else start
        end = _trim(text, start, stop, head)
        if schemed:
            nested = _second_scheme(text, head, end)
            if nested:
                end = _trim(text, start, nested, head)
                at = nested
        if not _has_host(text[head:end], schemed):
            at = max(head, start + 4)
            continue
        while end < stop and _TOKEN_CHARACTER.match(text[end]):
            end += 1
        at = max(end, at if at < stop else end)
        url = text[start:end]
        yield Address(start, end, url if schemed else "http://" + url)


def _second_scheme(text: str, head: int, end: int) -> int:
    """Where this address is over because another one begins (``http://a.example,http://b.example``), 0 for nowhere."""
    authority = _HOST_END.search(text, head, end)
    listed = _LISTED.search(text, head, authority.start() + 1 if authority else end)
    bracket = _MARKDOWN.search(text, head, end)
    return min((hit.start() for hit in (listed, bracket) if hit), default=0)


def _trim(text: str, start: int, end: int, head: int) -> int:
    """Take closing punctuation off the end; brackets stay when they were opened inside the address."""
    balance: dict[str, int] | None = None
    while end > head:
        last = text[end - 1]
        if last == "'" and text.count("'", head, end) % 2 == 0:
            break
        if last in ".,:;!?'*\u2026\u3002`|~^":
            end -= 1
        elif last in _PAIRS:
            if balance is None:
                run = text[start:end]
                balance = {close: run.count(close) - run.count(opened) for close, opened in _PAIRS.items()}
            if balance[last] <= 0:
                break
            balance[last] -= 1
            end -= 1
        elif last in "([{":
            end -= 1
        else:
            break
    # An unopened bracket in the middle closes something that stood before the address: "[example.com/a.jpg)]".
    return end


def _has_host(rest: str, schemed: bool) -> bool:
    authority = _HOST_END.split(rest, maxsplit=1)[0].rpartition("@")[2]
    if not _HOST.search(authority) or authority[0] in ".-":
        return False
    if schemed:
        return True
    name = authority.partition(":")[0]
    return name.lower().startswith("www.") and bool(_HOST.search(name[4:]))


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
