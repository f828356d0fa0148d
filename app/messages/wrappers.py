"""Opening the protected links of other vendors.

A link that was rewritten by another mail filter says nothing about where it leads until it is opened. The
formats below carry the original address in the link itself, so opening them needs no network. A wrapper is
recognised by its exact host or by a dot-suffix of it, never by a substring, and nesting is followed to a
fixed depth.

Formats, each with where it is described or was seen:
    Microsoft Safe Links: ``?url=``
        (https://learn.microsoft.com/en-us/defender-office-365/safe-links-about).
    Proofpoint URL Defense v1, v2, v3
        (https://help.proofpoint.com/Threat_Insight_Dashboard/Concepts/How_do_I_decode_a_rewritten_URL%3F).
    Barracuda Link Protection: ``linkprotect.cudasvc.com/url?a=``;
    Cisco Secure Email: ``secure-web.cisco.com/TOKEN/ENCODED-URL``;
    Check Point Harmony / Avanan: ``/v2/[rNN/]___URL___.SIGNATURE``; Sophos: ``?d=HOST&u=BASE64``;
    Hornetsecurity ATP: ``?u=``; Trend Micro click time: ``/wis/clicktime/...?url=``; FireEye and Trellix:
    ``/[v1/]url?u=``; Symantec click time: ``?u=``: undocumented, as seen in public mailing-list archives.
    Google: ``/url?q=`` or ``/url?url=`` on a Google domain.
    Mimecast URL Protect: ``/s/TOKEN?domain=``: the token is a database key, so the link is *opaque*
        (https://mimecastsupport.zendesk.com/hc/en-us/articles/34000769379219).
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final
from urllib.parse import unquote_to_bytes

import ada_url

from app.messages.brands import OWNERS
from app.messages.hosts import host_of, registrable_domain

MAX_DEPTH: Final = 5
"""How many wrappers inside each other are opened by default."""

MAX_LENGTH: Final = 65_536
"""Longest address looked at, in characters."""


@dataclass(frozen=True, slots=True)
class WrapperHit:
    """One wrapper that a link went through.

    Attributes:
        vendor: Whose wrapper it is, as people call it.
        url: The wrapped link.
        shown_host: The host the wrapper names in the clear beside its target, where it does. It is
            only what the link claims: not signed in any way that can be checked here.
    """

    vendor: str
    url: str
    shown_host: str = ""


@dataclass(frozen=True, slots=True)
class Unwrapped:
    """What is inside a link.

    Attributes:
        url: The innermost address that could be reached; the link itself where it is no wrapper.
        chain: The wrappers that were passed, outermost first.
        opaque: Whether ``url`` is still a wrapper: one that cannot be opened without its vendor, is
            damaged, or lies deeper than the cap.
    """

    url: str
    chain: tuple[WrapperHit, ...] = ()
    opaque: bool = False


@dataclass(frozen=True, slots=True)
class _Parts:
    """A link taken apart as it is written, without normalising."""

    host: str
    path: str
    query: str
    after_authority: str


_Opener = Callable[[_Parts], str | None]


@dataclass(frozen=True, slots=True)
class _Rule:
    vendor: str
    opener: _Opener | None
    paths: re.Pattern[str] | None = None
    shown: str = ""


def unwrap(url: str, max_depth: int = MAX_DEPTH) -> Unwrapped:
    """Open other vendors' wrappers around an address.

    Args:
        url: An absolute address; one without a scheme is read as ``https``.
        max_depth: How many wrappers inside each other are opened.

    Returns:
        The innermost address with the wrappers around it. Never raises.
    """
    chain: list[WrapperHit] = []
    current = url
    while True:
        parts, rule = _recognise(current)
        if parts is None or rule is None:
            return Unwrapped(current, tuple(chain))
        if len(chain) >= max_depth:
            return Unwrapped(current, tuple(chain), opaque=True)
        shown = _parameter(parts.query, rule.shown) if rule.shown else None
        chain.append(WrapperHit(rule.vendor, current, (shown or "").lower()[:253]))
        inner = None if rule.opener is None else rule.opener(parts)
        target = None if inner is None else _as_web_address(inner)
        if target is None or target == current:
            return Unwrapped(current, tuple(chain), opaque=True)
        current = target


def is_wrapper(url: str) -> bool:
    """Whether an address is another vendor's wrapper, whether or not it can be opened."""
    return _recognise(url)[1] is not None


@lru_cache(maxsize=16_384)
def host_may_wrap(origin: str) -> bool:
    """Whether any wrapper lives on a host; a cheap and cached answer that spares most links :func:`unwrap`.

    Args:
        origin: Scheme and authority of an absolute address, such as ``https://urldefense.com``.
    """
    host = host_of(origin + "/")
    return host is not None and bool(_rules_for(host))


def _recognise(url: str) -> tuple[_Parts | None, _Rule | None]:
    if len(url) > MAX_LENGTH:
        return None, None
    host = host_of(url) if ":" in url[:12] else host_of("https://" + url)
    if host is None:
        return None, None
    rules = _rules_for(host)
    if not rules:
        return None, None
    parts = _split(url, host)
    for rule in rules:
        if rule.paths is None or rule.paths.match(parts.path):
            return parts, rule
    return None, None


def _rules_for(host: str) -> tuple[_Rule, ...]:
    """Return the rules of a host: its own, or those of the longest dot-suffix that has any."""
    labels = host.split(".")
    for start in range(max(len(labels) - 5, 0), len(labels) - 1):
        suffix = ".".join(labels[start:])
        rules = _BY_HOST.get(suffix)
        if rules is not None and (suffix == host or suffix in _WITH_SUBDOMAINS):
            return rules
    if "google" in labels and "google" in OWNERS.get(registrable_domain(host) or "", ()):
        return _GOOGLE
    return ()


_AFTER_SCHEME_RE = re.compile(r"\s*(?:[A-Za-z][A-Za-z0-9+.\-]*:)?[/\\]*")
_AUTHORITY_RE = re.compile(r"[^/\\?#]*")


def _split(url: str, host: str) -> _Parts:
    scheme = _AFTER_SCHEME_RE.match(url)
    start = scheme.end() if scheme else 0
    authority = _AUTHORITY_RE.match(url, start)
    rest = url[authority.end() if authority else start :]
    path, _, query = rest.partition("#")[0].partition("?")
    return _Parts(host, path.replace("\\", "/"), query, rest)


def _raw_parameter(query: str, name: str) -> str | None:
    """Return the first value of a parameter, still encoded; an undecoded ``&amp;`` counts as ``&``."""
    for pair in query.split("&"):
        key, found, value = pair.removeprefix("amp;").partition("=")
        if found and key == name:
            return value
    return None


def _parameter(query: str, name: str) -> str | None:
    value = _raw_parameter(query, name)
    return None if value is None else _percent_decoded(value)


def _percent_decoded(value: str) -> str:
    """Decode percent escapes; bytes that are not UTF-8 keep theirs."""
    if "%" not in value:
        return value
    raw = unquote_to_bytes(value)
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return "".join(chr(byte) if byte < 0x80 else f"%{byte:02X}" for byte in raw)


_COLLAPSED_RE = re.compile(r"(https?):/(?!/)", re.IGNORECASE)
_WEB_SCHEME_RE = re.compile(r"https?:", re.IGNORECASE)
_ANY_SCHEME_RE = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*:(?!\d)")


def _as_web_address(inner: str) -> str | None:
    """Return an inner address if it leads to the web, given a scheme where it has none; else None."""
    inner = _COLLAPSED_RE.sub(r"\1://", inner.strip(), count=1) if _COLLAPSED_RE.match(inner.strip()) else inner.strip()
    if not _WEB_SCHEME_RE.match(inner):
        if _ANY_SCHEME_RE.match(inner) or "." not in inner.partition("/")[0]:
            return None
        inner = "http://" + inner.lstrip("/")
    return inner if ada_url.check_url(inner) and host_of(inner) else None


# -- openers: one per way of carrying the address ------------------------------------------------------


def _from_parameter(*names: str) -> _Opener:
    def open_parameter(parts: _Parts) -> str | None:
        for name in names:
            value = _parameter(parts.query, name)
            if value:
                return value
        return None

    return open_parameter


def _cisco(parts: _Parts) -> str | None:
    """``/TOKEN/http%3A%2F%2F...``: the last segment, percent-encoded."""
    _, _, tail = parts.after_authority.lstrip("/").partition("/")
    return _percent_decoded(tail.partition("?")[0]) if tail else None


_CHECKPOINT_RE = re.compile(r"/v\d+/(?:[A-Za-z0-9]{1,8}/)?___(.+?)(?:___(?:\.[^/]*)?|__)?\Z", re.DOTALL)


def _checkpoint(parts: _Parts) -> str | None:
    """``/v2/r01/___URL___.SIGNATURE``; the address may be percent-encoded or have lost a slash."""
    body, found, _ = parts.after_authority.rpartition("___.")
    match = _CHECKPOINT_RE.match(body + "___" if found else parts.after_authority)
    if match is None:
        return None
    inner = match.group(1)
    return inner if _WEB_SCHEME_RE.match(inner) and "/" in inner else _percent_decoded(inner)


def _sophos(parts: _Parts) -> str | None:
    """``u``: the address in Base64, of either alphabet, with or without padding."""
    value = _parameter(parts.query, "u")
    if not value:
        return None
    return _base64_text(value)


def _base64_text(value: str) -> str | None:
    compact = value.rstrip("=").replace("-", "+").replace("_", "/").replace(" ", "+")
    try:
        return base64.b64decode(compact + "=" * (-len(compact) % 4), validate=True).decode("utf-8")
    except (binascii.Error, ValueError):
        return None


_PROOFPOINT_V2_TABLE: Final = str.maketrans("-_", "%/")


def _proofpoint_v2(parts: _Parts) -> str | None:
    """``u`` with ``-`` for ``%`` and ``_`` for ``/``."""
    value = _raw_parameter(parts.query, "u")
    return None if not value else _percent_decoded(value.translate(_PROOFPOINT_V2_TABLE))


_PROOFPOINT_V3_RE = re.compile(r"/v3/__(.*?)__;(.*?)!", re.DOTALL)
_PROOFPOINT_V3_MARK_RE = re.compile(r"\*(?:\*(.))?", re.DOTALL)
_RUN_ALPHABET: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_RUN_LENGTH: Final = {char: number for number, char in enumerate(_RUN_ALPHABET, 2)}


def _proofpoint_v3(parts: _Parts) -> str | None:
    """``/v3/__URL__;BASE64!...``: ``*`` stands for one and ``**X`` for several characters of the Base64."""
    match = _PROOFPOINT_V3_RE.match(parts.after_authority)
    if match is None:
        return None
    masked, encoded = match.groups()
    replaced = _base64_text(encoded)
    if replaced is None:
        return None
    used = 0

    def fill(mark: re.Match[str]) -> str:
        nonlocal used
        run = _RUN_LENGTH.get(mark.group(1) or "", 1)
        taken = replaced[used : used + run]
        used += run
        return taken if run > 1 or mark.group(1) is None else taken + mark.group(0)[1:]

    inner = _PROOFPOINT_V3_MARK_RE.sub(fill, masked)
    return inner if used == len(replaced) else None


_url_path = re.compile(r"/(?:v\d+/)?url/?\Z", re.IGNORECASE)

_SAFE_LINKS = (_Rule("Microsoft Safe Links", _from_parameter("url")),)
_PROOFPOINT = (
    _Rule("Proofpoint URL Defense", _proofpoint_v3, re.compile(r"/v3/")),
    _Rule("Proofpoint URL Defense", _proofpoint_v2, re.compile(r"/v2/url")),
    _Rule("Proofpoint URL Defense", _from_parameter("u"), re.compile(r"/v1/url")),
)
_CHECKPOINT = (_Rule("Check Point Harmony Email", _checkpoint, re.compile(r"/v\d+/")),)
_FIREEYE = (_Rule("Trellix Email Security (FireEye)", _from_parameter("u"), _url_path),)
_MIMECAST = (_Rule("Mimecast URL Protect", None, re.compile(r"/(?:s|r)/"), "domain"),)
_GOOGLE = (_Rule("Google redirect", _from_parameter("q", "url"), re.compile(r"/url/?\Z")),)

_BY_HOST: Final[dict[str, tuple[_Rule, ...]]] = {
    "safelinks.protection.outlook.com": _SAFE_LINKS,
    "safelinks.protection.outlook.cn": _SAFE_LINKS,
    "safelinks.protection.office365.us": _SAFE_LINKS,
    "statics.teams.cdn.office.net": (
        _Rule("Microsoft Safe Links", _from_parameter("url"), re.compile(r"/.*safelinks/", re.IGNORECASE)),
    ),
    "urldefense.com": _PROOFPOINT,
    "urldefense.us": _PROOFPOINT,
    "urldefense.proofpoint.com": _PROOFPOINT,
    "linkprotect.cudasvc.com": (_Rule("Barracuda Link Protection", _from_parameter("a"), _url_path),),
    "secure-web.cisco.com": (_Rule("Cisco Secure Email", _cisco),),
    "url.avanan.click": _CHECKPOINT,
    "protect.checkpoint.com": _CHECKPOINT,
    "protection.sophos.com": (_Rule("Sophos Time-of-Click", _sophos, shown="d"),),
    "atpscan.global.hornetsecurity.com": (_Rule("Hornetsecurity ATP", _from_parameter("u")),),
    "trendmicro.com": (
        _Rule("Trend Micro click-time protection", _from_parameter("url"), re.compile(r"/wis/clicktime/")),
    ),
    "fireeye.com": _FIREEYE,
    "trellix.com": _FIREEYE,
    "clicktime.symantec.com": (_Rule("Symantec Click-time Protection", _from_parameter("u")),),
    "mimecast.com": _MIMECAST,
    "mimecastprotect.com": _MIMECAST,
}

_WITH_SUBDOMAINS: Final = frozenset(
    {
        "safelinks.protection.outlook.com",
        "safelinks.protection.outlook.cn",
        "safelinks.protection.office365.us",
        "protection.sophos.com",
        "trendmicro.com",
        "fireeye.com",
        "trellix.com",
        "mimecast.com",
        "mimecastprotect.com",
    }
)
