"""Link targets as browsers read them (WHATWG URL Standard), without changing what need not be changed."""

from __future__ import annotations

import re
from enum import Enum

import ada_url

_EDGES = "".join(map(chr, range(0x21)))
_INSIDE = str.maketrans("", "", "\t\n\r")
_ORDINARY = re.compile(r"https?://[!-.0-;=@-\[\]-~][!-\[\]-~]*\Z")
_PLAIN_HTTP = re.compile(r"[hH][tT][tT][pP][sS]?://[^/\\?#\s]")
_SCHEME = re.compile(r"[a-zA-Z][a-zA-Z0-9+.\-]*:")
_SLASHES = re.compile(r"[/\\]{2}")
_HTTP_SCHEME = re.compile(r"(?i)https?:")
_SAFE_SCHEMES = frozenset(
    {
        "mailto",
        "tel",
        "sms",
        "smsto",
        "callto",
        "cid",
        "mid",
        "xmpp",
        "sip",
        "sips",
        "geo",
        "webcal",
        "maps",
        "about",
    }
)
_ACTIVE_SCHEMES = frozenset(
    {
        "javascript",
        "data",
        "blob",
        "file",
        "vbscript",
        "livescript",
        "mocha",
        "jar",
        "view-source",
        "filesystem",
    }
    | {"mhtml", "mk", "res", "its", "ms-its", "shell", "wscript", "jscript", "search", "search-ms", "outlook"}
)
_HARMLESS_SPECIAL = frozenset({"ftp", "ftps", "news", "nntp", "irc", "ircs", "ldap", "urn", "tag", "skype"})


class TargetClass(Enum):
    """What a link's target is, as far as rewriting goes."""

    HTTP = 1
    DANGEROUS = 2
    OTHER = 3


def clean(value: str) -> str:
    """Strip what URL parsers strip: C0 controls and spaces at the ends, tabs and line breaks inside."""
    value = value.strip(_EDGES)
    if "\n" in value or "\t" in value or "\r" in value:
        value = value.translate(_INSIDE)
    return value


def resolve(value: str, base: str | None = None) -> tuple[TargetClass, str]:
    """Resolve the value of a link attribute.

    Args:
        value: The attribute's value with its character references resolved.
        base: Absolute base URL of the document, None when it has none.

    Returns:
        The class of the target and the absolute URL: for http(s) targets the value itself where it is absolute
        already, else what a browser makes of it; for a target without a meaning of its own (relative, without a
        base) class OTHER and the value.
    """
    if _ORDINARY.match(value):
        return TargetClass.HTTP, value
    value = clean(value)
    if _PLAIN_HTTP.match(value) and "\\" not in value:
        return TargetClass.HTTP, value
    scheme = _SCHEME.match(value)
    if scheme is None:
        if _SLASHES.match(value):
            return TargetClass.HTTP, _parsed(value, base or "https://invalid/") or "https:" + value
        if base is None or not value or value[0] == "#":
            return TargetClass.OTHER, value
        joined = _parsed(value, base)
        if joined is None:
            return TargetClass.OTHER, value
        return (TargetClass.HTTP if _HTTP_SCHEME.match(joined) else TargetClass.OTHER), joined
    name = value[: scheme.end() - 1].lower()
    if name in ("http", "https"):
        return TargetClass.HTTP, _parsed(value, base) or value
    return (TargetClass.DANGEROUS if is_dangerous(name) else TargetClass.OTHER), value


def is_parsable(url: str) -> bool:
    """Whether a browser takes an absolute URL for one."""
    return _parsed(url, None) is not None


def is_dangerous(scheme: str) -> bool:
    """Whether a lower-case scheme runs code, opens a local file or starts a program rather than a web page."""
    if scheme in _SAFE_SCHEMES or scheme in _HARMLESS_SPECIAL:
        return False
    return scheme in _ACTIVE_SCHEMES or scheme.startswith(("ms-", "search-", "vnd.ms", "onenote", "calculator"))


def _parsed(value: str, base: str | None) -> str | None:
    try:
        return str(ada_url.join_url(base, value)) if base else str(ada_url.normalize_url(value))
    except ValueError:
        return None
