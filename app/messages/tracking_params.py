"""Parameters that only follow the reader: finding them, and taking them out.

Only whole ``name=value`` pairs of the query are ever removed; every other byte of the address stays as it
was, in its order and its encoding, and the fragment is not looked at. A tenant's own patterns are compiled
with RE2, whose time is linear in the input whatever the pattern.

The built-in names are those that the vendors document as campaign or click identifiers: Google Analytics
and Ads, Meta, Microsoft Advertising, X, TikTok, LinkedIn, Pinterest, Reddit, Snapchat, Yandex, Mailchimp,
HubSpot, Marketo, Klaviyo, Adobe, Matomo, Piano, Drip, ActiveCampaign, Braze, MailerLite, Olytics,
Vero, Wicked Reports, Outbrain and Taboola.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal, Protocol
from urllib.parse import unquote

import re2

from app.messages.hosts import words

MAX_PATTERNS: Final = 100
"""Most patterns one tenant can have."""

MAX_PATTERN_LENGTH: Final = 500
"""Longest pattern, in characters."""

_PATTERN_MEMORY: Final = 1 << 20

TRACKING_NAMES: Final[frozenset[str]] = words("""
    gclid gclsrc gbraid wbraid dclid srsltid gad_source gad_campaignid _gl _ga
    fbclid fb_action_ids fb_action_types fb_source fb_ref fb_comment_id igshid igsh
    msclkid cvid_ms twclid ttclid li_fat_id epik rdt_cid sccid sc_click_id
    yclid ymclid ysclid _openstat
    mc_cid mc_eid mc_tc ml_subscriber ml_subscriber_hash
    _hsenc _hsmi __hssc __hstc __hsfp hsctatracking
    mkt_tok trk_contact trk_msg trk_module trk_sid
    _ke _kx klaviyo_id
    s_cid s_kwcid ef_id s_vi adobe_mc adobe_mc_sdid adobe_mc_ref
    mtm_campaign mtm_cid mtm_content mtm_group mtm_keyword mtm_medium mtm_placement mtm_source
    pk_campaign pk_cid pk_content pk_keyword pk_kwd pk_medium pk_source
    at_campaign at_medium at_custom1 at_custom2 at_custom3 at_custom4 at_recipient_id at_recipient_list
    __s vgo_ee bsft_clkid bsft_eid bsft_mid bsft_uid
    oly_anon_id oly_enc_id vero_conv vero_id wickedid dicbo tblci obclid
    guccounter guce_referrer guce_referrer_sig rb_clickid spm_id sms_click sms_source sms_uph
    ck_subscriber_id dm_i dm_t elqtrackid elqtrack hmb_campaign hmb_medium hmb_source
    irclickid irgwc mkwid pcrid nr_email_referer sb_referer_host sfmc_id sfmc_activityid
    wt_mc wt_zmc ns_campaign ns_mchannel ns_source ns_linkname ns_fee
""")
"""Built-in names, in lower case."""

TRACKING_PREFIXES: Final = ("utm_", "hsa_")
"""Built-in beginnings of names, in lower case."""

_SIGNATURES: Final = words("""
    signature sig x-amz-signature x-goog-signature hmac __token__ hdnea hdnts hdntl
""")


class PatternError(ValueError):
    """A pattern that RE2 does not take. The message names the pattern and the reason."""


@dataclass(frozen=True, slots=True)
class TrackingParam:
    """One tracking parameter of an address.

    Attributes:
        name: The parameter's name, decoded.
        value: Its value, decoded.
        source: ``known`` for a built-in name, ``own`` for a tenant's pattern.
    """

    name: str
    value: str
    source: Literal["known", "own"]


class _Pattern(Protocol):
    """What is used of a compiled RE2 pattern."""

    def fullmatch(self, text: str, /) -> object | None:
        """Match the whole text."""


@dataclass(frozen=True, slots=True)
class _Pair:
    text: str
    name: str
    value: str


def detect(url: str, patterns: Sequence[str] = ()) -> tuple[TrackingParam, ...]:
    """Find the tracking parameters of an address.

    Args:
        url: An address.
        patterns: The tenant's own RE2 patterns. One matches a parameter when it matches its whole
            decoded name, or its whole decoded ``name=value``.

    Returns:
        The parameters in the order they stand in.

    Raises:
        PatternError: For a pattern that RE2 does not take, or too many or too long ones.
    """
    own = _compiled(tuple(patterns)) if patterns else ()
    query = _query_span(url)
    if query is None:
        return ()
    found = []
    for pair in _pairs(url[query[0] : query[1]]):
        source = _kind(pair, own)
        if source is not None:
            found.append(TrackingParam(pair.name, pair.value, source))
    return tuple(found)


def names(url: str, patterns: Sequence[str] = ()) -> list[str]:
    """The names alone of what :func:`detect` finds; many times faster where the tenant has no patterns.

    Raises:
        PatternError: As for :func:`detect`.
    """
    if patterns:
        return [found.name for found in detect(url, patterns)]
    query = _query_span(url)
    if query is None:
        return []
    found = []
    for pair in url[query[0] : query[1]].split("&"):
        name = pair.partition("=")[0]
        if "%" in name:
            name = unquote(name)
        if _is_known(name):
            found.append(name)
    return found


def remove(url: str, patterns: Sequence[str] = ()) -> str:
    """Return an address without its tracking parameters.

    Where the query is signed (``X-Amz-Signature``, ``sig`` and the like) built-in names stay, because
    taking anything out would break the link; a tenant's own patterns are obeyed even there.

    Args:
        url: An address.
        patterns: The tenant's own RE2 patterns (see :func:`detect`).

    Returns:
        The address with those pairs cut out; the very same string where there are none. A question mark
        with nothing left behind it goes too.

    Raises:
        PatternError: As for :func:`detect`.
    """
    own = _compiled(tuple(patterns)) if patterns else ()
    query = _query_span(url)
    if query is None:
        return url
    start, end = query
    pairs = list(_pairs(url[start:end]))
    signed = any(pair.name.lower() in _SIGNATURES for pair in pairs)
    kept = []
    for pair in pairs:
        source = _kind(pair, own)
        if source is None or (source == "known" and signed):
            kept.append(pair.text)
    if len(kept) == len(pairs):
        return url
    return url[:start] + "&".join(kept) + url[end:] if kept else url[: start - 1] + url[end:]


def check_pattern(pattern: str) -> None:
    """Make sure that a tenant's pattern can be used.

    Raises:
        PatternError: With the reason, for the person who wrote it.
    """
    _compile_one(pattern)


def _query_span(url: str) -> tuple[int, int] | None:
    """Return start and end of the query, without ``?`` and ``#``; None where there is none."""
    question = url.find("?")
    if question < 0:
        return None
    fragment = url.find("#")
    if 0 <= fragment < question:
        return None
    return question + 1, fragment if fragment >= 0 else len(url)


def _pairs(query: str) -> Iterator[_Pair]:
    for text in query.split("&"):
        name, _, value = text.partition("=")
        yield _Pair(text, unquote(name) if "%" in name else name, unquote(value) if "%" in value else value)


def _kind(pair: _Pair, own: tuple[_Pattern, ...]) -> Literal["known", "own"] | None:
    if any(_matches(pattern, pair) for pattern in own):
        return "own"
    return "known" if _is_known(pair.name) else None


def _is_known(name: str) -> bool:
    name = name.lower()
    return name in TRACKING_NAMES or name.startswith(TRACKING_PREFIXES)


def _matches(pattern: _Pattern, pair: _Pair) -> bool:
    try:
        return bool(pattern.fullmatch(pair.name) or pattern.fullmatch(f"{pair.name}={pair.value}"))
    except UnicodeEncodeError:  # RE2 works on UTF-8, which has no lone surrogates
        return False


@lru_cache(maxsize=256)
def _compiled(patterns: tuple[str, ...]) -> tuple[_Pattern, ...]:
    if len(patterns) > MAX_PATTERNS:
        raise PatternError(f"There are {len(patterns)} patterns; at most {MAX_PATTERNS} can be used.")
    return tuple(_compile_one(pattern) for pattern in patterns)


def _compile_one(pattern: str) -> _Pattern:
    if len(pattern) > MAX_PATTERN_LENGTH:
        raise PatternError(f"The pattern “{pattern[:40]}…” is longer than {MAX_PATTERN_LENGTH} characters.")
    options = re2.Options()
    options.log_errors = False
    options.max_mem = _PATTERN_MEMORY
    try:
        compiled: _Pattern = re2.compile(pattern, options)
    except (re2.error, UnicodeError) as error:
        raise PatternError(f"The pattern “{pattern}” cannot be used: {_reason(error)}.") from error
    return compiled


def _reason(error: Exception) -> str:
    text = error.args[0] if error.args else b""
    return text.decode("utf-8", "replace") if isinstance(text, bytes) else "it is not valid text"
