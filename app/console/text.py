"""Showing things to people: hostile text made visible, times, addresses.

Subjects, senders, hosts and URLs are whatever an attacker wrote. Templates escape them (Jinja autoescape) and
never link them; :func:`visible` also takes away what escaping does not: control characters and the Unicode
bidirectional and invisible formatting characters that make text look like another one (UAX #9, UTS #39).
"""

from __future__ import annotations

import unicodedata
from datetime import UTC, datetime

from markupsafe import Markup

_INVISIBLE = {"Cc", "Cf", "Co", "Cs", "Cn", "Zl", "Zp"}
_JOINERS = {"\u200c", "\u200d"}


def visible(text: object, limit: int = 300) -> str:
    """The text with every invisible or direction-changing character shown as its code point.

    Args:
        text: Anything; None is empty.
        limit: Characters kept; the rest becomes an ellipsis.
    """
    source = "" if text is None else str(text)
    cut = source[: limit + 1]
    # What is printable holds none of these characters: the usual case, and cheap.
    shown = (
        cut
        if cut.isprintable()
        else "".join(
            f"\u27e8U+{ord(character):04X}\u27e9"
            if unicodedata.category(character) in _INVISIBLE and character not in _JOINERS
            else character
            for character in cut
        )
    )
    return shown if len(shown) <= limit else shown[:limit] + "…"


def clean_query(text: str, limit: int = 200) -> str:
    """A search text without what PostgreSQL text cannot hold, and of bounded length."""
    return "".join(character for character in text[:limit] if character.isprintable()).strip()


def exact(moment: datetime) -> str:
    """ISO 8601 in UTC, to the millisecond: for the ``datetime`` attribute."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def time_tag(moment: datetime | None, style: str = "moment") -> Markup:
    """A ``<time>`` that the page's script shows in local time; without script it is UTC.

    Args:
        moment: Aware time; None gives a dash.
        style: ``moment`` (date and time), ``clock`` (time alone on the same day) or ``ago`` (relative).
    """
    if moment is None:
        return Markup('<span class="none">–</span>')
    utc = moment.astimezone(UTC)
    return Markup('<time datetime="{}" data-show="{}" title="{}">{}</time>').format(
        exact(moment), style, f"{utc:%Y-%m-%d %H:%M:%S} UTC", f"{utc:%Y-%m-%d %H:%M} UTC"
    )


def split_url(url: str, host: str) -> tuple[str, str, str]:
    """A URL as (before the host, the host, after it), to print the host in bold.

    The host is the one that was parsed when the click or link was recorded; where it is not literally in
    the URL (odd spellings), the URL comes back whole.
    """
    authority_at = url.find("//") + 2
    authority_end = next((at for at in range(authority_at, len(url)) if url[at] in "/?#\\"), len(url))
    at = url.lower().rfind(host.lower(), authority_at, authority_end) if host and authority_at > 1 else -1
    if at < 0:
        return url, "", ""
    return url[:at], url[at : at + len(host)], url[at + len(host) :]
