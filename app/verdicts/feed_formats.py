"""Reading the lists that others publish, in their own formats. PURE.

Columns and members are found by name, not by position, so that a list may grow. What names no web address or host
(a file hash, an IP address with a port of some other service) is passed over.

=============  =====================================================================================
``lines``      one host or address per line, with ``malicious`` or ``suspicious`` and a tab in front
               where the list says so; OpenPhish's feed (https://openphish.com/phishing_feeds.html),
               URLhaus' text list (https://urlhaus.abuse.ch/api/)
``hosts``      a hosts file: an address, then a name; URLhaus' host file
``csv``        with a header line, also behind ``#``: URLhaus (``url``, ``dateadded``), PhishTank
               (``url``, ``verified``, ``online``, ``submission_time``;
               https://phishtank.org/developer_info.php), ThreatFox (``ioc_value``, ``ioc_type``,
               ``confidence_level``, ``first_seen_utc``; https://threatfox.abuse.ch/export/)
``json``       the same as objects, in a list or below any keys: PhishTank, URLhaus, ThreatFox
``misp``       a MISP event: attributes ``url``, ``domain``, ``hostname`` with ``to_ids``
               (https://www.misp-project.org/datamodels/)
``stix``       a STIX 2.1 bundle: indicators on ``url:value`` and ``domain-name:value``
               (https://docs.oasis-open.org/cti/stix/v2.1/stix-v2.1.html, section 4.7)
=============  =====================================================================================

Their licences are for whoever downloads them to keep (:mod:`app.verdicts.sources.catalogue`); none is shipped.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, date, datetime
from functools import lru_cache
from typing import Any, Final

from app.kit.errors import Refused
from app.verdicts.scoring import Level
from app.verdicts.sources.types import Entry, Tally

FORMATS: Final = ("auto", "lines", "hosts", "csv", "json", "misp", "stix")
LEAST_CONFIDENCE: Final = 50
MAX_JSON_CHARACTERS: Final = 100_000_000
"""JSON is read as a whole, and takes many times its size in memory."""

_LEVELS: Final = {"malicious": Level.MALICIOUS, "suspicious": Level.SUSPICIOUS}
_ADDRESS_COLUMNS: Final = ("url", "ioc_value", "ioc", "indicator", "domain", "hostname", "host")
_DATE_COLUMNS: Final = ("dateadded", "date_added", "first_seen_utc", "first_seen", "submission_time")
_WEB_TYPES: Final = ("url", "domain", "hostname", "host", "fqdn")
_STIX_RE: Final = re.compile(r"(?:url:value|domain-name:value)\s*=\s*'((?:[^'\\]|\\.)*)'")
_HOSTS_RE: Final = re.compile(r"(?:0\.0\.0\.0|127\.0\.0\.1|::1?)\s+(\S+)")
_OWN_NAMES: Final = frozenset({"localhost", "localhost.localdomain", "local", "broadcasthost", "ip6-localhost"})


def entries(lines: Iterable[str], kind: str = "auto", tally: Tally | None = None, column: str = "") -> Iterator[Entry]:
    """The entries of a list.

    Args:
        lines: The list's text.
        kind: One of :data:`FORMATS`.
        tally: Is told which line is being read.
        column: The column or member that holds addresses, where it has a name of its own.

    Raises:
        Refused: It is not of that format, or broken off; nothing of it may be used.
    """
    tally = Tally() if tally is None else tally
    columns = (column.lower(), *_ADDRESS_COLUMNS) if column else _ADDRESS_COLUMNS
    stream = iter(lines)
    if kind == "auto":
        head = list(itertools.islice(stream, 30))
        kind = detect("".join(line if line.endswith("\n") else line + "\n" for line in head), columns)
        stream = itertools.chain(head, stream)
    if kind == "lines":
        yield from plain_lines(stream, tally)
    elif kind == "hosts":
        yield from _hosts(stream, tally)
    elif kind == "csv":
        yield from _csv(stream, tally, columns)
    elif kind in ("json", "misp", "stix"):
        yield from _json(stream, columns)
    else:
        raise Refused(f"“{kind}” is not a format; there are {', '.join(FORMATS)}.", "feed_format")


def detect(head: str, columns: tuple[str, ...] = _ADDRESS_COLUMNS) -> str:
    """The format of a list by its beginning."""
    text = head.lstrip("\ufeff \r\n\t")
    if text.startswith(("{", "[")):
        return "json"
    lines = [line for line in text.splitlines() if line.strip()]
    if any(_header(line, columns) is not None for line in lines):
        return "csv"
    plain = [line for line in lines if not line.startswith("#")]
    if plain and all(_HOSTS_RE.match(line) for line in plain):
        return "hosts"
    return "lines"


def plain_lines(lines: Iterable[str], tally: Tally) -> Iterator[Entry]:
    """One host or address per line; ``#`` begins a comment."""
    for line in lines:
        tally.line += 1
        line = line.strip()
        if not line or line[0] == "#":
            continue
        if "\t" in line:
            word, _, entry = line.partition("\t")
            yield Entry(entry.strip(), _LEVELS.get(word.strip().lower()))
        else:
            yield Entry(line)


def _hosts(lines: Iterator[str], tally: Tally) -> Iterator[Entry]:
    for line in lines:
        tally.line += 1
        match = _HOSTS_RE.match(line.strip())
        if match is not None and match[1].lower() not in _OWN_NAMES:
            yield Entry(match[1])


def _header(line: str, columns: tuple[str, ...]) -> list[str] | None:
    """The columns, where a line is a header: it names one that holds addresses."""
    if "," not in line:
        return None
    try:
        cells = next(csv.reader([line.lstrip("# ").strip()], skipinitialspace=True), [])
    except csv.Error:  # a field of more than 128 KB: no name of a column
        return None
    names = [cell.strip().strip('"').lower() for cell in cells]
    return names if any(name in names for name in columns) and all(names) else None


def _csv(lines: Iterator[str], tally: Tally, columns: tuple[str, ...]) -> Iterator[Entry]:
    names: list[str] | None = None
    for line in lines:
        tally.line += 1
        names = _header(line, columns)
        if names is not None:
            break
    if names is None:
        raise Refused("The list has no header that names a column of addresses; none of it was used.", "feed_header")
    before = tally.line
    rows = csv.reader(_plain_rows(lines), skipinitialspace=True)
    try:
        for row in rows:
            tally.line = before + rows.line_num
            found = record_entry(dict(zip(names, row, strict=False)), columns)
            if found is not None:
                yield found
    except csv.Error as error:
        raise Refused(
            f"The list is no CSV at line {before + rows.line_num} ({error}); none of it was used.", "feed_csv"
        ) from None


def _plain_rows(lines: Iterator[str]) -> Iterator[str]:
    # A comment is kept as an empty line, so that line numbers stay right.
    return ("\n" if line.startswith("#") else line for line in lines)


def record_entry(record: Mapping[str, Any], columns: tuple[str, ...] = _ADDRESS_COLUMNS) -> Entry | None:
    """The entry that a record is about; None where it is about none, or not sure enough."""
    if "ioc_type" in record and str(record["ioc_type"]).lower() not in _WEB_TYPES:
        return None
    # PhishTank: only what somebody verified, and what was still there.
    for name in ("verified", "online"):
        if str(record.get(name, "yes")).lower() not in ("yes", "true", "1", "y"):
            return None
    confidence = str(record.get("confidence_level", "100"))
    # Bounded and ASCII: int() knows neither a superscript two nor a number of thousands of digits.
    if len(confidence) < 10 and confidence.isascii() and confidence.isdigit() and int(confidence) < LEAST_CONFIDENCE:
        return None
    for name in columns:
        value = record.get(name)
        if isinstance(value, str) and value.strip():
            return Entry(value.strip(), None, _record_date(record))
    return None


def _record_date(record: Mapping[str, Any]) -> date | None:
    for name in _DATE_COLUMNS:
        value = record.get(name)
        if isinstance(value, str) and value:
            return iso_date(value[:10])
    return None


@lru_cache(maxsize=8192)
def iso_date(text: str) -> date | None:
    """The date that a text begins with, as ``2026-11-21``; None where it does not."""
    try:
        return date.fromisoformat(text[:10])
    except ValueError:
        return None


def unix_date(value: Any) -> date | None:
    """The UTC date of seconds since 1970, given as a number or its digits."""
    try:
        return datetime.fromtimestamp(int(value), UTC).date()
    except (TypeError, ValueError, OverflowError, OSError):
        return None


def _json(lines: Iterator[str], columns: tuple[str, ...]) -> Iterator[Entry]:
    text = io.StringIO()
    size = 0
    for line in lines:
        size += len(line)
        if size > MAX_JSON_CHARACTERS:
            raise Refused(
                "The list is JSON of more than 100 MB; none of it was used. Take its CSV or text form.", "feed_size"
            )
        text.write(line)
    try:
        data = json.loads(text.getvalue().lstrip("\ufeff"))
    except (ValueError, RecursionError):
        raise Refused("The list is cut off or no JSON; none of it was used.", "feed_json") from None
    yield from _walk(data, 0, columns)


def _walk(data: Any, depth: int, columns: tuple[str, ...]) -> Iterator[Entry]:
    if depth > 8:
        return
    if isinstance(data, list):
        for item in data:
            yield from _walk(item, depth + 1, columns)
    elif isinstance(data, dict):
        if data.get("type") == "indicator":
            yield from stix_entries(data)
        elif "to_ids" in data and "value" in data:
            found = misp_entry(data)
            if found is not None:
                yield found
        else:
            found = record_entry(data, columns)
            if found is not None:
                yield found
            else:
                for item in data.values():
                    if isinstance(item, list | dict):
                        yield from _walk(item, depth + 1, columns)


def misp_entry(attribute: Mapping[str, Any]) -> Entry | None:
    """The entry of a MISP attribute; None where it is none, or not meant for detection (``to_ids``)."""
    value = attribute.get("value")
    if attribute.get("to_ids") not in (True, "1", 1) or attribute.get("type") not in _WEB_TYPES:
        return None
    if not isinstance(value, str):
        return None
    since = attribute.get("first_seen")
    return Entry(value, None, iso_date(since) if isinstance(since, str) else unix_date(attribute.get("timestamp")))


def stix_entries(indicator: Mapping[str, Any]) -> Iterator[Entry]:
    """The entries of a STIX indicator, none where it is revoked or of another pattern language."""
    if indicator.get("revoked") is True or indicator.get("pattern_type", "stix") != "stix":
        return
    since = iso_date(str(indicator.get("valid_from", "")))
    for value in _STIX_RE.findall(str(indicator.get("pattern", ""))):
        yield Entry(re.sub(r"\\(.)", r"\1", value), None, since)
