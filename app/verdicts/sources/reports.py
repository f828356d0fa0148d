"""Telling every gateway that a service began to report something, so that what it remembers of before is dropped.

A gateway keeps what a service answered for as long as the service allows. Where the worker learns that the answer is
another one now, it says so here: the SHA-256 of the expression and the name of the source, in a small file that goes
the way of all files (:mod:`app.verdicts.sources.distribution`), within a second. The gateway then forgets what it knew
of that expression and asks the service itself at the next click: nothing is blocked on the worker's word, which would
outlive the service's own (https://developers.google.com/safe-browsing/terms, 4: no older than thirty minutes).

No address and no tenant is in the file.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final, NamedTuple

REPORTS: Final = "reports.json"


class Report(NamedTuple):
    """A service began to report something.

    Attributes:
        source: Its name.
        digest: SHA-256 of the expression.
    """

    source: str
    digest: bytes


def read_reports(path: Path) -> set[tuple[Report, str]]:
    """The reports in a gateway's copy, each with its time; none where there is no file.

    Raises:
        ValueError: The file is damaged.
        OSError: It cannot be read.
    """
    try:
        found = json.loads(path.read_text())
    except FileNotFoundError:
        return set()
    try:
        return {(Report(str(one["source"]), bytes.fromhex(one["digest"])), str(one["at"])) for one in found}
    except (KeyError, TypeError):
        raise ValueError("reports that cannot be read") from None
