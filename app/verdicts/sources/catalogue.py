"""The kinds of downloaded lists, each with its terms.

Nothing of any of them is shipped, and none is switched on by itself: whoever switches one on accepts its publisher's
terms. The notes are a summary, read in November 2026; the publisher's own page counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from app.verdicts.sources.types import Kind, Licence

_FILE_LIST: Final = "app.verdicts.sources.lists:FileList"
_FORMAT: Final = "auto, lines, hosts, csv, json, misp or stix; what the list looks like by default"
_OPTIONS: Final[Mapping[str, str]] = {
    "format": _FORMAT,
    "column": "name of the column or member that holds the addresses, where it is an unusual one",
    "key_header": "name of the header in which the key is sent",
}
_YOURS: Final = Licence("Under the terms of whoever publishes the list.", "", None)
_ABUSE_CH: Final = (
    "Free under abuse.ch's fair-use terms with a free account's Auth-Key; use beyond that needs an agreement with "
    "Spamhaus."
)
_MINUTE: Final = 60
_HOUR: Final = 3600

KINDS: Final[tuple[Kind, ...]] = (
    Kind(
        name="urlhaus",
        title="URLhaus",
        family="list",
        target=_FILE_LIST,
        licence=Licence(_ABUSE_CH, "https://urlhaus.abuse.ch/api/", None),
        address="https://urlhaus-api.abuse.ch/v2/files/exports/{key}/recent.csv",
        every_seconds=15 * _MINUTE,
        least_seconds=5 * _MINUTE,
        needs_secret=True,
        options={"format": "csv (recent.csv, online.csv, full.csv.zip), or lines for the text list"},
        defaults={"format": "csv"},
    ),
    Kind(
        name="threatfox",
        title="ThreatFox",
        family="list",
        target=_FILE_LIST,
        licence=Licence(_ABUSE_CH, "https://threatfox.abuse.ch/export/", None),
        address="https://threatfox-api.abuse.ch/v2/files/exports/{key}/recent.csv",
        every_seconds=15 * _MINUTE,
        least_seconds=5 * _MINUTE,
        needs_secret=True,
        options={"format": "csv or json"},
        defaults={"format": "csv"},
    ),
    Kind(
        name="openphish",
        title="OpenPhish",
        family="list",
        target=_FILE_LIST,
        licence=Licence(
            "For non-commercial and internal business purposes only; any other commercial use needs OpenPhish's "
            "written permission.",
            "https://openphish.com/terms.html",
            False,
        ),
        address="https://raw.githubusercontent.com/openphish/public_feed/refs/heads/main/feed.txt",
        every_seconds=6 * _HOUR,
        least_seconds=5 * _MINUTE,
        options={"format": "lines"},
        defaults={"format": "lines"},
    ),
    Kind(
        name="phishtank",
        title="PhishTank",
        family="list",
        target=_FILE_LIST,
        licence=Licence(
            "Free of charge for use as described in PhishTank's terms; the data may not be passed on. An application "
            "key is needed for more than a few downloads a day.",
            "https://phishtank.org/terms_of_service.php",
            None,
        ),
        address="http://data.phishtank.com/data/{key}/online-valid.csv.gz",
        every_seconds=_HOUR,
        least_seconds=_HOUR,
        needs_secret=True,
        options={"format": "csv or json"},
        defaults={"format": "csv"},
    ),
    Kind(
        name="list",
        title="A list",
        family="list",
        target=_FILE_LIST,
        licence=_YOURS,
        every_seconds=_HOUR,
        least_seconds=_MINUTE,
        options=_OPTIONS,
    ),
)
