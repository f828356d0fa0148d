"""Reading the lists that others publish, in their own formats. PURE.

Columns and members are found by name, not by position, so that a list may grow. What names no web address or host
(a file hash, an IP address with a port of some other service) is passed over.

=============  =====================================================================================
``lines``      one host or address per line; OpenPhish's feed, URLhaus' text list
               (https://openphish.com/, https://urlhaus.abuse.ch/api/)
``hosts``      a hosts file: an address, then names; URLhaus' host file
``csv``        with a header line, also behind ``#``: URLhaus (``url``), PhishTank (``url``, ``verified``),
               ThreatFox (``ioc_value``, ``ioc_type``, ``confidence_level``)
``json``       the same as objects, in a list or below any keys: PhishTank, URLhaus, ThreatFox
``misp``       a MISP event: attributes ``url``, ``domain``, ``hostname`` with ``to_ids``
               (https://www.misp-project.org/datamodels/)
``stix``       a STIX 2.1 bundle: indicators on ``url:value`` and ``domain-name:value``
               (https://docs.oasis-open.org/cti/stix/v2.1/stix-v2.1.html, section 4.7)
=============  =====================================================================================

Their licences are for whoever downloads them to keep: OpenPhish and PhishTank restrict commercial use, abuse.ch asks
for an account; none of them is shipped.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from app.kit.errors import Refused

FORMATS: Final = ("auto", "lines", "hosts", "csv", "json", "misp", "stix")
LEAST_CONFIDENCE: Final = 50
_ADDRESS_COLUMNS: Final = ("url", "ioc_value", "ioc", "indicator", "domain", "hostname", "host")
_WEB_TYPES: Final = ("url", "domain", "hostname", "host", "fqdn")
_STIX_RE: Final = re.compile(r"(?:url:value|domain-name:value)\s*=\s*'((?:[^'\\]|\\.)*)'")
_HOSTS_RE: Final = re.compile(r"(?:0\.0\.0\.0|127\.0\.0\.1|::1?)\s+(\S+)")
_OWN_NAMES: Final = frozenset({"localhost", "localhost.localdomain", "local", "broadcasthost", "ip6-localhost"})


def entries(lines: Iterable[str], kind: str = "auto") -> Iterator[str]:
    """The entries of a list, ready for :func:`app.verdicts.feed_build.build`.

    Args:
        lines: The list's text.
        kind: One of :data:`FORMATS`.

    Raises:
        Refused: It is not of that format; nothing of it was used.
    """
    stream = iter(lines)
    if kind == "auto":
        head = list(itertools.islice(stream, 30))
        kind = detect("".join(line if line.endswith("\n") else line + "\n" for line in head))
        stream = itertools.chain(head, stream)
    if kind == "lines":
        yield from stream
    elif kind == "hosts":
        yield from _hosts(stream)
    elif kind == "csv":
        yield from _csv(stream)
    elif kind in ("json", "misp", "stix"):
        yield from _json(stream)
    else:
        raise Refused(f"“{kind}” is not a format; there are {', '.join(FORMATS)}.", "feed_format")


def detect(head: str) -> str:
    """The format of a list by its beginning."""
    text = head.lstrip("\ufeff \r\n\t")
    if text.startswith(("{", "[")):
        return "json"
    lines = [line for line in text.splitlines() if line.strip()]
    if any(_header(line) is not None for line in lines):
        return "csv"
    plain = [line for line in lines if not line.startswith("#")]
    if plain and all(_HOSTS_RE.match(line) for line in plain):
        return "hosts"
    return "lines"


def _hosts(lines: Iterator[str]) -> Iterator[str]:
    for line in lines:
        match = _HOSTS_RE.match(line.strip())
        if match is not None and match[1].lower() not in _OWN_NAMES:
            yield match[1]


def _header(line: str) -> list[str] | None:
    """The columns, where a line is a header: it names one that holds addresses."""
    if "," not in line:
        return None
    cells = next(csv.reader([line.lstrip("# ").strip()], skipinitialspace=True), [])
    names = [cell.strip().strip('"').lower() for cell in cells]
    return names if any(name in names for name in _ADDRESS_COLUMNS) and all(names) else None


def _csv(lines: Iterator[str]) -> Iterator[str]:
    columns: list[str] | None = None
    for line in lines:
        columns = _header(line)
        if columns is not None:
            break
    if columns is None:
        raise Refused("The list has no header that names a column of addresses; none of it was used.", "feed_header")
    rows = csv.reader((line for line in lines if not line.startswith("#")), skipinitialspace=True)
    for row in rows:
        found = _address(dict(zip(columns, row, strict=False)))
        if found:
            yield found


def _address(record: Mapping[str, Any]) -> str:
    """The address that a record is about; empty where it is about none, or not sure enough."""
    kind = str(record.get("ioc_type", record.get("type", ""))).lower()
    if kind and kind not in _WEB_TYPES and "ioc_type" in record:
        return ""
    if str(record.get("verified", "yes")).lower() not in ("yes", "true", "1", "y"):
        return ""
    confidence = str(record.get("confidence_level", "100"))
    if confidence.isdigit() and int(confidence) < LEAST_CONFIDENCE:
        return ""
    for name in _ADDRESS_COLUMNS:
        value = record.get(name)
        if isinstance(value, str) and value.strip():
            return value.strip()
    return ""


def _json(lines: Iterator[str]) -> Iterator[str]:
    text = io.StringIO()
    text.writelines(lines)
    try:
        data = json.loads(text.getvalue().lstrip("\ufeff"))
    except (ValueError, RecursionError):
        raise Refused("The list is cut off or no JSON; none of it was used.", "feed_json") from None
    yield from _walk(data, 0)


def _walk(data: Any, depth: int) -> Iterator[str]:
    if depth > 8:
        return
    if isinstance(data, list):
        for item in data:
            yield from _walk(item, depth + 1)
    elif isinstance(data, dict):
        if data.get("type") == "indicator":
            yield from _stix(data)
        elif "to_ids" in data and "value" in data:
            if data["to_ids"] in (True, "1", 1) and data.get("type") in _WEB_TYPES and isinstance(data["value"], str):
                yield data["value"]
        else:
            found = _address(data)
            if found:
                yield found
            else:
                for item in data.values():
                    if isinstance(item, list | dict):
                        yield from _walk(item, depth + 1)


def _stix(indicator: Mapping[str, Any]) -> Iterator[str]:
    if indicator.get("revoked") is True or indicator.get("pattern_type", "stix") != "stix":
        return
    for value in _STIX_RE.findall(str(indicator.get("pattern", ""))):
        yield re.sub(r"\\(.)", r"\1", value)
