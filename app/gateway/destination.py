"""Where a link leads: as bytes for ``Location``, and as parts for a page."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

import ada_url

from app.messages.hosts import registrable_domain, unicode_host
from app.messages.lookalike import inspect_host
from app.verdicts.sentences import readable

MAX_SHOWN: Final = 90
_DECEPTIVE: Final = ("homograph", "homograph_unnamed", "mixed_script")
_PLAIN_RE = re.compile(r"[Hh][Tt][Tt][Pp][Ss]?://[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]+\Z")


def location(url: str) -> bytes | None:
    """The value of ``Location`` for a link's target.

    An address of plain URL characters goes out as it stands, with its case, port and fragment; any other as the
    WHATWG parser serialises it. Neither can hold a line end or another scheme.

    Returns:
        None where it is not an http or https address with a host.
    """
    try:
        parsed = ada_url.URL(url)
    except (ValueError, UnicodeError):
        return None
    if parsed.protocol not in ("http:", "https:") or not parsed.hostname:
        return None
    return (url if _PLAIN_RE.match(url) else parsed.href).encode("ascii")


@dataclass(frozen=True, slots=True)
class Destination:
    """An address taken apart for reading.

    Attributes:
        scheme: With its slashes.
        lead: Labels of the host before the registrable domain, with the dot.
        name: The part of the host that somebody registered: to be shown in bold. A name that uses foreign
            letters to look like another is in Punycode here.
        rest: Port, path and query, shortened.
        ascii_host: The host in Punycode where ``name`` is in other letters, else empty.
        looks_like: How the host looks where ``name`` is in Punycode for that reason, else empty.
        text: Everything on one line.
    """

    scheme: str
    lead: str
    name: str
    rest: str
    ascii_host: str
    looks_like: str
    text: str


def destination(url: str) -> Destination:
    """Take an address apart for a page; one that cannot be read is shown shortened as it is."""
    try:
        parsed = ada_url.URL(url)
    except (ValueError, UnicodeError):
        parsed = None
    if parsed is None or not parsed.hostname:
        shown = readable(url, MAX_SHOWN)
        return Destination("", "", shown, "", "", "", shown)
    host = parsed.hostname
    letters = readable(unicode_host(host), 253)
    deceptive = letters != host and any(found.code in _DECEPTIVE for found in inspect_host(host))
    shown_host = host if deceptive else letters
    own = registrable_domain(host) or host
    own = own if deceptive else unicode_host(own)
    lead = shown_host.removesuffix(own) if shown_host.endswith(own) else ""
    path = readable(_decoded(parsed.pathname + parsed.search), MAX_SHOWN)
    rest = (f":{parsed.port}" if parsed.port else "") + ("" if path == "/" else path)
    scheme = f"{parsed.protocol}//"
    return Destination(
        scheme,
        lead,
        shown_host[len(lead) :],
        rest,
        host if shown_host != host else "",
        letters if deceptive else "",
        scheme + shown_host + rest,
    )


def _decoded(text: str) -> str:
    """Percent-escapes of readable characters undone; a text that would not be UTF-8 stays as it is."""
    if "%" not in text:
        return text
    plain = unquote(text, errors="replace")
    return text if "\N{REPLACEMENT CHARACTER}" in plain else plain
