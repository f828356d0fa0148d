"""Building a feed store from text lists: ``python -m app.verdicts.feed_build OUT LIST...``.

A list is in any of the formats of :mod:`app.verdicts.feed_formats`, by default the one it looks like; an entry without
a level takes ``--level``. The file's name without its ending names the source. The store is written beside the old one
and swapped in whole.

A list can be poisoned or broken off. So a build is *held*, not swapped, where it would list the very name of a
well-known owner (``google.com``), or holds less than half of what the store held before; ``--force`` swaps it after
somebody has looked.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import zlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from app.kit.errors import Refused
from app.messages.brands import OWNERS
from app.verdicts.canonical import NotCanonical
from app.verdicts.feed import entry_expression
from app.verdicts.feed_formats import FORMATS, entries
from app.verdicts.feed_store import (
    FENCES,
    HEAD,
    MAGIC,
    MAX_SOURCES,
    VERSION,
    MappedStore,
    StoreDamaged,
    entry_key,
    entry_tag,
)
from app.verdicts.scoring import Level

MIN_SHARE: Final = 0.5
_MIN_COMPARED: Final = 100
_LEVELS: Final = {"malicious": Level.MALICIOUS, "suspicious": Level.SUSPICIOUS}
_SIMPLE_RE: Final = re.compile(
    r"(?:https?://)?([a-z0-9_-]+(?:\.[a-z0-9_-]+)*\.[a-z][a-z0-9-]*)(?::[0-9]+)?(/[A-Za-z0-9._~!$&'()*+,;=:@/-]*)?"
    r"(\?[A-Za-z0-9._~!$&'()*+,;=:@/?-]+)?\Z"
)
_NOT_SIMPLE_RE: Final = re.compile(r"//|/\.{1,2}(?:/|\Z)")


@dataclass(frozen=True, slots=True)
class BuildReport:
    """What a build did.

    Attributes:
        entries: Different entries.
        refused: Lines passed over.
        problems: The first of these, as ``file:line: why``.
        held: Why the store was not swapped; empty where it was.
    """

    entries: int
    refused: int
    problems: tuple[str, ...]
    held: tuple[str, ...]


def fast_expression(entry: str) -> str:
    """The expression of an entry; ordinary ones are recognised without taking them apart.

    Raises:
        NotCanonical: It is none.
    """
    match = _SIMPLE_RE.match(entry)
    if match is None:
        return entry_expression(entry)
    host, path, query = match.groups()
    if path is not None and _NOT_SIMPLE_RE.search(path):
        return entry_expression(entry)
    return f"{host}{path or '/'}{query or ''}"


def build(
    out: Path,
    lists: Sequence[tuple[str, Iterable[str]]],
    *,
    level: Level = Level.MALICIOUS,
    force: bool = False,
    now: datetime | None = None,
) -> BuildReport:
    """Build a store and swap it in.

    Args:
        out: The store.
        lists: Name of a source and its lines.
        level: Of lines that name none.
        force: Swap in although something looks wrong.
        now: Aware UTC, kept in the header.

    Raises:
        ValueError: There are too many sources.
        OSError: The store cannot be written.
    """
    import numpy  # needed here alone: a gateway maps stores without it

    if len(lists) > MAX_SOURCES:
        raise ValueError(f"A store holds {MAX_SOURCES} sources at most.")
    keys = array("Q")
    problems: list[str] = []
    held: list[str] = []
    refused = 0
    for number, (name, lines) in enumerate(lists):
        tags = {found: entry_tag(found, number) for found in _LEVELS.values()}
        for line_number, found, entry in _entries(lines, level):
            try:
                expression = fast_expression(entry)
            except NotCanonical as error:
                refused += 1
                if len(problems) < 20:
                    problems.append(f"{name}:{line_number}: {error}")
                continue
            if expression.endswith("/") and expression[:-1] in OWNERS and len(held) < 20:
                held.append(f"{name}:{line_number}: lists the whole of {expression[:-1]}")
            keys.append(entry_key(expression) | tags[found])
    keys_sorted = numpy.unique(numpy.frombuffer(keys, dtype="<u8")) if keys else numpy.empty(0, dtype="<u8")
    before = _entries_before(out)
    if before >= _MIN_COMPARED and len(keys_sorted) < before * MIN_SHARE:
        held.append(f"holds {len(keys_sorted)} entries, the store before held {before}")
    fences = numpy.searchsorted(keys_sorted >> numpy.uint64(48), numpy.arange(FENCES, dtype="<u8")).astype("<u4")
    body = fences.tobytes()
    body += bytes(-len(body) % 8)
    made_at = (now or datetime.now(UTC)).isoformat(timespec="seconds")
    header = json.dumps({"sources": [name for name, _ in lists], "made_at": made_at}).encode()
    header += b" " * (-(HEAD.size + len(header)) % 8)
    checksum = zlib.crc32(keys_sorted.view(numpy.uint8).data, zlib.crc32(body))
    draft = out.with_name(f".{out.name}.{os.getpid()}.new")
    with draft.open("wb") as file:
        file.write(HEAD.pack(MAGIC, VERSION, len(header), len(keys_sorted), checksum, 0))
        file.write(header)
        file.write(body)
        keys_sorted.tofile(file)
        file.flush()
        os.fsync(file.fileno())
    if held and not force:
        draft.replace(out.with_name(out.name + ".held"))
    else:
        draft.replace(out)
        held = []
    return BuildReport(len(keys_sorted), refused, tuple(problems), tuple(held))


def _entries(lines: Iterable[str], level: Level) -> Iterator[tuple[int, Level, str]]:
    for number, line in enumerate(lines, 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        word, tab, entry = line.partition("\t")
        if tab:
            yield number, _LEVELS.get(word.strip().lower(), level), entry.strip()
        else:
            yield number, level, line


def _entries_before(out: Path) -> int:
    try:
        return len(MappedStore(out))
    except (OSError, StoreDamaged):
        return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; see the module.

    Returns:
        0 when swapped in, 2 when a list cannot be read, 3 when held.
    """
    parser = argparse.ArgumentParser(description="Build a feed store from text lists.")
    parser.add_argument("out", type=Path, metavar="OUT", help="The store, by custom with the ending .pfs")
    parser.add_argument("lists", type=Path, nargs="+", metavar="LIST")
    parser.add_argument("--level", choices=sorted(_LEVELS), default="malicious", help="Of lines that name none")
    parser.add_argument("--format", choices=FORMATS, default="auto", help="Of all lists")
    parser.add_argument("--force", action="store_true", help="Swap in although something looks wrong")
    options = parser.parse_args(arguments)
    files = [path.open(encoding="utf-8", errors="replace") for path in options.lists]
    try:
        named = [(path.stem, entries(file, options.format)) for path, file in zip(options.lists, files, strict=True)]
        report = build(options.out, named, level=_LEVELS[options.level], force=options.force)
    except Refused as error:
        sys.stderr.write(f"{error} The store was left as it was.\n")
        return 2
    finally:
        for file in files:
            file.close()
    sys.stdout.write(f"{report.entries} entries, {report.refused} lines passed over\n")
    sys.stdout.writelines(f"passed over {problem}\n" for problem in report.problems)
    if report.held:
        sys.stdout.writelines(f"held: {reason}\n" for reason in report.held)
        sys.stdout.write(f"The store was left as it was; the new one is {options.out}.held.\n")
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
