"""Reading lists into feed stores: ``python -m app.verdicts.feed_build OUT LIST...`` for a store made by hand.

A list is in any of the formats of :mod:`app.verdicts.feed_formats`, by default the one it looks like; an entry without
a level takes ``--level``. The file's name without its ending names the source. The worker builds the installation's
own store from its sources by the same functions (:mod:`app.verdicts.sources.publish`).

A list can be poisoned or broken off. So one that would block the whole of a site that many people use
(``google.com``, ``github.io``), that holds nothing, a tenth or less, or more than twenty times of what was
there before, is *held*, not used, until somebody has looked (here: ``--force``).
"""

from __future__ import annotations

import argparse
import re
import sys
from array import array
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from app.kit.errors import Refused
from app.messages.brands import OWNERS, USER_CONTENT
from app.messages.hosts import public_suffix
from app.verdicts.canonical import NotCanonical
from app.verdicts.feed import entry_expression
from app.verdicts.feed_formats import FORMATS, entries, plain_lines
from app.verdicts.feed_keys import PATH_BITS, entry_tag, host_key, path_key
from app.verdicts.feed_merge import Part, Run, write
from app.verdicts.feed_store import MappedStore, StoreDamaged, StoreSource
from app.verdicts.heuristics import FREE_HOSTING
from app.verdicts.scoring import Level
from app.verdicts.sources.types import Entry, SourceFailed, Tally

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Numbers = NDArray[Any]

SHRINK_SHARE: Final = 0.1
"""A list that shrinks to this share of what it held, or below, waits for review."""
GROWTH: Final = 20
"""So does one that grows to more than this many times what it held."""
LEAST_COMPARED: Final = 100
GROWTH_COMPARED: Final = 100_000
MAX_ENTRIES: Final = 40_000_000
MAX_HELD: Final = 20

_RUN: Final = 1 << 20
_PROTECTED: Final = frozenset(OWNERS) | USER_CONTENT | FREE_HOSTING
_SIMPLE_RE: Final = re.compile(
    r"(?:https?://)?([a-z0-9_-]+(?:\.[a-z0-9_-]+)*\.[a-z][a-z0-9-]*)(?::[0-9]+)?(/[A-Za-z0-9._~!$&'()*+,;=:@/-]*)?"
    r"(\?[A-Za-z0-9._~!$&'()*+,;=:@/?-]+)?\Z"
)
_NOT_SIMPLE_RE: Final = re.compile(r"//|/\.{1,2}(?:/|\Z)")


@dataclass(slots=True)
class Collected:
    """A list that was read.

    Attributes:
        runs: Its entries.
        held: Why it should not be used before somebody looked, in words.
        read: How many entries were taken, doubles included.
    """

    runs: list[Run] = field(default_factory=list)
    held: list[str] = field(default_factory=list)
    read: int = 0


def fast_parts(entry: str) -> tuple[str, str]:
    """Host and expression of an entry; ordinary ones are recognised without taking them apart.

    Raises:
        NotCanonical: It is none.
    """
    match = _SIMPLE_RE.match(entry)
    if match is not None:
        host, path, query = match.groups()
        if path is None or ("//" not in path and "/." not in path) or not _NOT_SIMPLE_RE.search(path):
            return host, f"{host}{path or '/'}{query or ''}"
    expression = entry_expression(entry)
    return expression.partition("/")[0], expression


def whole_of(host: str, protected: Collection[str] = ()) -> str:
    """Whether an entry for a whole host would block a site of many people.

    Args:
        host: Of an entry without a path.
        protected: More hosts than the brands' own domains, the services where anybody can put pages, and the
            public suffixes.

    Returns:
        The host; empty where it is none that many people use.
    """
    bare = host.removeprefix("www.")
    for name in (host, bare):
        if name in _PROTECTED or name in protected:
            return host
    # Private suffixes count: an entry "github.io/" would block all that lies below.
    return host if host.count(".") < 4 and public_suffix(host) == host else ""


def collect(
    entries: Iterable[Entry],
    level: Level,
    tally: Tally,
    protected: Collection[str] = frozenset(),
    name: str = "",
    seen: date | None = None,
) -> Collected:
    """Read a list.

    Args:
        entries: As the source gave them.
        level: Of those that carry none.
        tally: Counts what is passed over.
        protected: Hosts that must not be listed as a whole, beside those of :func:`whole_of`.
        name: Of the list, in front of problems.
        seen: Since when an entry is listed that does not say so itself: the day on which it was seen first.

    Raises:
        SourceFailed: There are too many, or the list broke off.
    """
    found = Collected()
    keys, tags = array("Q"), array("I")
    made: dict[object, int] = {}
    last_host, last_key = "", 0
    number = 0
    for number, (value, own_level, since) in enumerate(entries, 1):
        try:
            host, expression = fast_parts(value)
        except NotCanonical as error:
            tally.refuse(f"{name}:{tally.line or number}: {error}")
            continue
        if host != last_host:
            last_host, last_key = host, host_key(host) << PATH_BITS
        if len(expression) == len(host) + 1 and len(found.held) < MAX_HELD:
            whole = whole_of(host, protected)
            if whole:
                found.held.append(f"{name}:{tally.line or number}: lists the whole of {whole}")
        keys.append(last_key | path_key(expression))
        kept = (own_level, since)
        tag = made.get(kept)
        if tag is None:
            tag = made[kept] = entry_tag(own_level or level, 0, since or seen)
        tags.append(tag)
        if len(keys) >= _RUN:
            found.runs.append(_run(keys, tags))
            found.read += len(keys)
            keys, tags = array("Q"), array("I")
            if found.read > MAX_ENTRIES:
                raise SourceFailed(
                    f"The list has more than {MAX_ENTRIES:,} entries; none of it was used.", reason="too_large"
                )
    if keys:
        found.runs.append(_run(keys, tags))
        found.read += len(keys)
    return found


def _run(keys: array[int], tags: array[int]) -> Run:
    import numpy

    unsorted = numpy.frombuffer(keys, dtype="<u8")
    order = numpy.argsort(unsorted)
    return Run(unsorted[order], numpy.frombuffer(tags, dtype="<u4")[order])


def expression_keys(values: Iterable[str], tally: Tally) -> Numbers:
    """Keys of entries, ascending; what is none is counted."""
    import numpy

    keys = array("Q")
    for value in values:
        try:
            host, expression = fast_parts(value)
        except NotCanonical as error:
            tally.refuse(str(error))
            continue
        keys.append(host_key(host) << PATH_BITS | path_key(expression))
    return numpy.unique(numpy.frombuffer(keys, dtype="<u8")) if keys else numpy.empty(0, dtype="<u8")


def shrunk_or_grown(before: int, now: int, refused: int = 0) -> str:
    """Why a list's new size is suspicious, in words; empty where it is not."""
    if now == 0 and (before or refused):
        return f"holds no entries ({refused} lines were passed over); it held {before} before"
    if before >= LEAST_COMPARED and now <= before * SHRINK_SHARE:
        return f"holds {now} entries; it held {before} before"
    if before >= LEAST_COMPARED and now >= GROWTH_COMPARED and now > before * GROWTH:
        return f"holds {now} entries; it held only {before} before"
    return ""


NamedList = tuple[str, Iterable[str] | Callable[[Tally], Iterator[Entry]]]


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


def build(
    out: Path,
    lists: Sequence[NamedList],
    *,
    level: Level = Level.MALICIOUS,
    force: bool = False,
    now: datetime | None = None,
) -> BuildReport:
    """Build a store from lists alone and swap it in; one that looks wrong is put beside it as ``.held``.

    Args:
        out: The store.
        lists: Name of a source and its lines, or what gives its entries and tells the tally about lines.
        level: Of those that name none.
        force: Swap in although something looks wrong.
        now: Aware UTC, kept in the header.

    Raises:
        ValueError: There are too many sources.
        SourceFailed: A list has too many entries.
        OSError: The store cannot be written.
    """
    tally, held, parts = Tally(), list[str](), list[Part]()
    for name, lines in lists:
        tally.line = 0
        found = collect(lines(tally) if callable(lines) else plain_lines(lines, tally), level, tally, name=name)
        held += found.held
        parts.append(Part(StoreSource(name), found.runs))
    before = _entries_before(out)
    target = out.with_name(out.name + ".held")
    header = write(target, parts, now=now)
    entries = sum(source.entries for source in header.sources)
    changed = shrunk_or_grown(before, entries)
    if changed:
        held.append(changed)
    if force or not held:
        target.replace(out)
        held = []
    return BuildReport(entries, tally.refused, tuple(tally.problems), tuple(held))


def _entries_before(out: Path) -> int:
    try:
        return len(MappedStore(out))
    except (OSError, StoreDamaged):
        return 0


_LEVELS: Final = {"malicious": Level.MALICIOUS, "suspicious": Level.SUSPICIOUS}


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
        named: list[NamedList] = [
            (path.stem, lambda tally, file=file: entries(file, options.format, tally))  # type: ignore[misc]  # bound now
            for path, file in zip(options.lists, files, strict=True)
        ]
        report = build(options.out, named, level=_LEVELS[options.level], force=options.force)
    except (Refused, SourceFailed) as error:
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
