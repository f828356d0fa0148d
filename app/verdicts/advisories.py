"""What a page that warns on the word of Google must say besides. PURE.

Required wherever Google's services are why somebody is warned, and forbidden anywhere else: the line "Advisory provided
by Google" with a link to the advisory, that the advice may be wrong, and where to read more.

References:
    https://developers.google.com/safe-browsing/v4/usage-limits (user warnings)
    https://developers.google.com/safe-browsing/reference/Appropriate.Usage
    https://cloud.google.com/web-risk/docs/user-warnings
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from app.verdicts.scoring import Signal

FIELD: Final = "advisory"
"""The field of a signal that names a service of :data:`PAGES`."""

SAFE_BROWSING: Final = "safe_browsing"
WEB_RISK: Final = "web_risk"
PAGES: Final[Mapping[str, str]] = MappingProxyType(
    {
        SAFE_BROWSING: "https://developers.google.com/safe-browsing/v4/advisory",
        WEB_RISK: "https://cloud.google.com/web-risk/docs/advisory",
    }
)
"""Service -> its advisory."""

MORE: Final[Mapping[str, str]] = MappingProxyType(
    {
        "reported_phishing": "https://www.antiphishing.org/",
        "reported_malware": "https://developers.google.com/search/docs/monitor-debug/security/malware",
        "reported_unwanted": "https://www.google.com/about/company/unwanted-software-policy.html",
    }
)
"""Signal -> where to read more about such sites, from those that the terms name."""


@dataclass(frozen=True, slots=True)
class Advisory:
    """One service's word.

    Attributes:
        page: Address of its advisory.
        more: Where to read more; empty: nowhere that is named.
    """

    page: str
    more: str = ""


def advisories(signals: Iterable[Signal]) -> tuple[Advisory, ...]:
    """What must be said beside some signals, once for each page."""
    found: dict[Advisory, None] = {}
    for signal in signals:
        page = PAGES.get(dict(signal.fields).get(FIELD, ""))
        if page is not None:
            found[Advisory(page, MORE.get(signal.code, ""))] = None
    return tuple(found)
