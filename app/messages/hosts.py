"""Hosts of web addresses, as browsers read them.

A link's host is taken with the WHATWG URL parser (``ada_url``), because that is what a browser will
contact; every other reading is a place for a link to hide in. Registrable domains come from the Public
Suffix List bundled with ``publicsuffixlist``: nothing is downloaded.

References:
    WHATWG URL Standard, "host parsing" (https://url.spec.whatwg.org/#host-parsing).
    Public Suffix List (https://publicsuffix.org/list/).
    RFC 4291 section 2.5.5 (IPv4-mapped IPv6 addresses).
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

import ada_url
from publicsuffixlist import PublicSuffixList

MAX_HOST_LENGTH: Final = 253
"""Longest host name in octets (RFC 1035 section 2.3.4, without the root dot)."""

Spelling = Literal[
    "dotted",
    "decimal",
    "octal",
    "hex",
    "short",
    "encoded",
    "ipv6",
    "ipv6-mapped",
]

_SUFFIXES = PublicSuffixList(accept_unknown=True)
_C0_AND_SPACE = "".join(map(chr, range(0x21)))
_STRIPPED_INSIDE = str.maketrans("", "", "\t\n\r")
_SCHEME_RE = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*:")
_AUTHORITY_END_RE = re.compile(r"[/\\?#]")
_PORT_RE = re.compile(r":[0-9]*\Z")
_DOTTED_RE = re.compile(r"(?:0|[1-9][0-9]{0,2})(?:\.(?:0|[1-9][0-9]{0,2})){3}\.?\Z")


@dataclass(frozen=True, slots=True)
class IpHost:
    """A host that is an IP address.

    Attributes:
        address: The address in its usual form (``127.0.0.1``, ``2001:db8::1``), without brackets.
        written: The host as the address spells it, at most 80 characters.
        spelling: How it was written; ``dotted`` and ``ipv6`` are the plain ways, the others are
            spellings that people do not recognise as an address.
        mapped: The IPv4 address inside an IPv4-mapped IPv6 address, else ``""``.
    """

    address: str
    written: str
    spelling: Spelling
    mapped: str = ""

    @property
    def disguised(self) -> bool:
        """Whether the address is spelt in a way that hides that it is one."""
        return self.spelling not in ("dotted", "ipv6")


def words(text: str) -> frozenset[str]:
    """Return the words of a curated list, which are easier to keep in order as a block of text."""
    return frozenset(text.split())


def host_of(url: str) -> str | None:
    """Return the host a browser would contact for an absolute address.

    Args:
        url: An absolute address of any scheme.

    Returns:
        The host as the WHATWG parser serialises it (lower case, A-labels, IPv4 in dotted decimal,
        IPv6 in brackets), without a trailing root dot; None where the address has no host or is
        not valid.
    """
    try:
        host = ada_url.URL(url).hostname
    except (ValueError, UnicodeError):
        return None
    return host.rstrip(".") or None


def written_host(url: str) -> str:
    """Return the host of an ``http`` or ``https`` address exactly as it is spelt there.

    The characters are found where the WHATWG parser would find them: leading control characters and
    spaces are skipped, tabs and line ends inside are ignored, back slashes count as slashes, and
    everything up to the last ``@`` of the authority is user information.
    """
    return _authority(url)[1]


def user_information(url: str) -> str:
    """Return the user information (before ``@``) of an ``http`` or ``https`` address, or ``""``."""
    return _authority(url)[0]


def _authority(url: str) -> tuple[str, str]:
    """Split an address into user information and host as written."""
    text = url.lstrip(_C0_AND_SPACE).translate(_STRIPPED_INSIDE)
    scheme = _SCHEME_RE.match(text)
    rest = text[scheme.end() :] if scheme else text
    rest = rest.lstrip("/\\")
    end = _AUTHORITY_END_RE.search(rest)
    authority = rest[: end.start()] if end else rest.rstrip(_C0_AND_SPACE)
    user, _, host = authority.rpartition("@")
    return user, _PORT_RE.sub("", host)


def ip_host(url: str) -> IpHost | None:
    """Recognise an IP-address host in every spelling that a browser accepts.

    Decimal (``http://2130706433/``), octal, hexadecimal, short (``http://127.1/``), percent-encoded
    and full-width digits, IPv6 and IPv4-mapped IPv6 are all read.

    Args:
        url: An absolute address.

    Returns:
        The address and how it was spelt, or None where the host is a name.
    """
    host = host_of(url)
    if host is None or not (host[0] == "[" or host[-1].isdigit()):
        return None
    return ip_from_host(host, written_host(url))


def ip_from_host(host: str, written: str) -> IpHost | None:
    """Like :func:`ip_host` for a host that has been parsed already.

    Args:
        host: The host as :func:`host_of` returns it.
        written: The host as it was spelt (see :func:`written_host`).

    Returns:
        The address, or None where ``host`` is a name.
    """
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None
    shown = written[:80]
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped
        if inner is not None:
            return IpHost(str(address), shown, "ipv6-mapped", str(inner))
        return IpHost(str(address), shown, "ipv6")
    return IpHost(str(address), shown, _ipv4_spelling(written))


def _ipv4_spelling(written: str) -> Spelling:
    if _DOTTED_RE.match(written):
        return "dotted"
    if not written.isascii() or "%" in written:
        return "encoded"
    parts = written.lower().rstrip(".").split(".")
    if any(part.startswith("0x") for part in parts):
        return "hex"
    if any(len(part) > 1 and part.startswith("0") for part in parts):
        return "octal"
    return "decimal" if len(parts) == 1 else "short"


def is_ip(host: str) -> bool:
    """Whether a host as :func:`host_of` returns it is an IP address (the WHATWG parser has made sure
    that a host ending in a number is one)."""
    return host.startswith("[") or host.rpartition(".")[2].isdigit()


@lru_cache(maxsize=65_536)
def registrable_domain(host: str) -> str | None:
    """Return the registrable domain (public suffix and one label) of a host name.

    Args:
        host: A host as :func:`host_of` returns it.

    Returns:
        The registrable domain; None for an IP address, for a public suffix itself and for a host
        of one label. Private suffixes count (``example.github.io`` is its own registrable domain).
    """
    if is_ip(host) or len(host) > MAX_HOST_LENGTH:
        return None
    domain: str | None = _SUFFIXES.privatesuffix(host)
    return domain


@lru_cache(maxsize=16_384)
def public_suffix(host: str) -> str | None:
    """Return the public suffix of a host if the Public Suffix List knows it, else None."""
    if is_ip(host) or len(host) > MAX_HOST_LENGTH:
        return None
    suffix: str | None = _SUFFIXES.publicsuffix(host, accept_unknown=False)
    return suffix


@lru_cache(maxsize=16_384)
def unicode_host(host: str) -> str:
    """Return a host with its A-labels (``xn--``) decoded; labels that do not decode stay as they are."""
    if "xn--" not in host:
        return host
    return ".".join(_unicode_label(label) for label in host.split("."))


def _unicode_label(label: str) -> str:
    if not label.startswith("xn--"):
        return label
    try:
        decoded = label[4:].encode("ascii").decode("punycode")
    except (UnicodeError, ValueError, OverflowError):
        return label
    return decoded if decoded and not decoded.isascii() else label
