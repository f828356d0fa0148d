"""The kinds of sources that are asked or synchronised over a protocol of their own, each with its terms.

The notes are a summary, read in November 2026; the publisher's own page counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from app.verdicts.sources.types import Kind, Licence

_HERE: Final = "app.verdicts.sources"
_MINUTE: Final = 60
_HOUR: Final = 3600
_SAFE_BROWSING_TERMS: Final = Licence(
    "Google Safe Browsing is for non-commercial use only; for any other take Web Risk. Warnings must say that a site "
    "may be unsafe, not that it is, and name Google as the source of the advice.",
    "https://developers.google.com/safe-browsing/terms",
    False,
)
_THREATS: Final[Mapping[str, str]] = {
    "threats": "threat types to ask for; SOCIAL_ENGINEERING, MALWARE and UNWANTED_SOFTWARE by default",
}
_NAMESERVERS: Final[Mapping[str, str]] = {
    "nameservers": "addresses of the resolvers to ask, with a port or without; the system's by default. "
    "The list does not answer public resolvers",
}

KINDS: Final[tuple[Kind, ...]] = (
    Kind(
        name="safe_browsing_v4",
        title="Google Safe Browsing",
        family="signal",
        target=f"{_HERE}.safe_browsing:SafeBrowsingV4",
        licence=_SAFE_BROWSING_TERMS,
        address="https://safebrowsing.googleapis.com",
        every_seconds=30 * _MINUTE,
        least_seconds=5 * _MINUTE,
        needs_secret=True,
        options={**_THREATS, "platform": "whose lists are asked for; ANY_PLATFORM by default"},
    ),
    Kind(
        name="safe_browsing",
        title="Google Safe Browsing",
        family="signal",
        target=f"{_HERE}.safe_browsing_v5:SafeBrowsingV5",
        licence=_SAFE_BROWSING_TERMS,
        address="https://safebrowsing.googleapis.com",
        every_seconds=30 * _MINUTE,
        least_seconds=5 * _MINUTE,
        needs_secret=True,
        options={**_THREATS, "lists": "names of lists, in place of those of the threat types"},
    ),
    Kind(
        name="web_risk",
        title="Google Web Risk",
        family="signal",
        target=f"{_HERE}.web_risk:WebRisk",
        licence=Licence(
            "A paid service of Google Cloud under its terms. Warnings must say that a site may be unsafe, not that it "
            "is, and name Google as the source of the advice.",
            "https://cloud.google.com/web-risk/docs/advisory",
            True,
        ),
        address="https://webrisk.googleapis.com",
        every_seconds=30 * _MINUTE,
        least_seconds=5 * _MINUTE,
        needs_secret=True,
        options=_THREATS,
    ),
    Kind(
        name="spamhaus_dbl",
        title="Spamhaus DBL",
        family="signal",
        target=f"{_HERE}.dns_lists:SpamhausDbl",
        licence=Licence(
            "Free of charge for low volumes and non-commercial use through a resolver of one's own; anything else "
            "needs the Data Query Service, whose zone is the address and whose key is the key.",
            "https://www.spamhaus.org/blocklists/dnsbl-fair-use-policy/",
            False,
        ),
        address="dbl.spamhaus.org",
        options=_NAMESERVERS,
    ),
    Kind(
        name="surbl",
        title="SURBL",
        family="signal",
        target=f"{_HERE}.dns_lists:Surbl",
        licence=Licence(
            "Free of charge for organisations with fewer than 1,000 users and few questions a day, through a resolver "
            "of one's own; anything else needs a subscription.",
            "https://www.surbl.org/usage-policy",
            None,
        ),
        address="multi.surbl.org",
        options=_NAMESERVERS,
    ),
    Kind(
        name="misp",
        title="MISP feed",
        family="list",
        target=f"{_HERE}.misp:MispFeed",
        licence=Licence("Under the terms of whoever runs the feed, and the TLP of its events.", "", None),
        every_seconds=_HOUR,
        options={
            "days": "age in days up to which events are taken; 180 by default, 0 for all",
            "auth_header": "header in which the key is sent; Authorization by default",
        },
    ),
    Kind(
        name="taxii",
        title="TAXII 2.1 server",
        family="list",
        target=f"{_HERE}.taxii:TaxiiSource",
        licence=Licence("Under the terms of whoever runs the server.", "", None),
        every_seconds=_HOUR,
        options={
            "collections": "ids, aliases or titles; all that may be read by default",
            "min_confidence": "indicators with a lower confidence are left out; 50 by default",
            "auth": "basic (the key is user:password), bearer, or the name of a header",
        },
    ),
    Kind(
        name="domain_age",
        title="Young domains",
        family="signal",
        target=f"{_HERE}.domain_age:DomainAge",
        licence=Licence("Under the terms of whoever publishes the list.", "", None),
        every_seconds=24 * _HOUR,
        least_seconds=_HOUR,
        weight=30,
        options={"days": "age in days up to which a name is young; 30 by default"},
    ),
)
