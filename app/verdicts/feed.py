"""One local list of known links, read from a text file and read again when it changes.

Lines are ``<malicious|suspicious> TAB <host or URL>``; ``#`` begins a comment. A host also covers its subdomains
and all its paths, a URL that ends in ``/`` what lies below it (the Safe Browsing expressions, see
:mod:`app.verdicts.canonical`). A line that cannot be understood is passed over, counted and named in
:attr:`FeedFile.problems`; the others count.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from app.messages.hosts import unicode_host
from app.verdicts.canonical import NotCanonical, expressions, lookup_expressions
from app.verdicts.scoring import Level, Signal

CHECK_SECONDS: Final = 0.2
MAX_PROBLEMS: Final = 20
_LEVELS: Final = {"malicious": Level.MALICIOUS, "suspicious": Level.SUSPICIOUS}
LISTED_WEIGHT: Final = {Level.MALICIOUS: 100, Level.SUSPICIOUS: 60}

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Entries:
    """What a file said.

    Attributes:
        levels: Expression -> the worst level given for it.
        problems: The first lines that were passed over, as ``line N: why``.
        refused: How many were passed over.
    """

    levels: dict[str, Level]
    problems: tuple[str, ...] = ()
    refused: int = 0


def parse(text: str) -> Entries:
    """Read the lines of a list."""
    levels: dict[str, Level] = {}
    problems: list[str] = []
    refused = 0
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        word, _, entry = line.partition("\t")
        level = _LEVELS.get(word.strip().lower())
        try:
            if level is None:
                raise NotCanonical("the line does not begin with malicious or suspicious and a tab")
            expression = entry_expression(entry.strip())
        except NotCanonical as error:
            refused += 1
            if len(problems) < MAX_PROBLEMS:
                problems.append(f"line {number}: {error}")
            continue
        before = levels.get(expression)
        if before is None or level.rank > before.rank:
            levels[expression] = level
    return Entries(levels, tuple(problems), refused)


def entry_expression(entry: str) -> str:
    """The one expression that a listed host or URL stands for.

    Raises:
        NotCanonical: It is neither.
    """
    if not entry or any(character.isspace() for character in entry):
        raise NotCanonical("not a host or an address")
    found = expressions(entry)
    if "/" not in found[0] or ("." not in found[0].partition("/")[0] and not found[0].startswith("[")):
        raise NotCanonical("a host needs a dot")
    return found[0]


class FeedFile:
    """The list as it is on disk now.

    Args:
        path: None: an empty list.
        monotonic: Seconds, for tests.
    """

    name = "local list"

    def __init__(self, path: Path | None, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._monotonic = monotonic
        self._checked = float("-inf")
        self._stamp: tuple[int, int, int] | None = None
        self._entries = Entries({})
        self.generation = 0
        """Grows by one with every change, so that caches know."""
        self.error = ""

    def __len__(self) -> int:
        return len(self._entries.levels)

    @property
    def problems(self) -> tuple[str, ...]:
        """The first lines that were passed over."""
        return self._entries.problems

    def look_again(self) -> None:
        """Look at the file at the next :meth:`refresh`, however short ago that was done."""
        self._checked = float("-inf")

    def refresh(self) -> int:
        """Read the file again if it changed; looks at most five times a second.

        A file that is gone or cannot be read leaves the last entries in force: an accident must not open
        what was blocked. An emptied file empties the list.

        Returns:
            The generation.
        """
        now = self._monotonic()
        if self._path is None or now - self._checked < CHECK_SECONDS:
            return self.generation
        self._checked = now
        try:
            found = os.stat(self._path)
            stamp = (found.st_mtime_ns, found.st_size, found.st_ino)
            if stamp == self._stamp:
                return self.generation
            text = self._path.read_bytes().decode("utf-8", "replace")
        except OSError as error:
            if self.error != str(error):
                log.warning("feed.unreadable", path=str(self._path), error=str(error), kept=len(self))
            self.error = str(error)
            return self.generation
        self._entries = parse(text)
        self._stamp = stamp
        self.error = ""
        self.generation += 1
        log.info("feed.read", entries=len(self), refused=self._entries.refused, problems=self.problems)
        return self.generation

    def signals(self, url: str) -> tuple[Signal, ...]:
        """What the list says about an address: the worst entry that covers it."""
        levels = self._entries.levels
        if not levels:
            return ()
        try:
            candidates = lookup_expressions(url)
        except NotCanonical:
            return ()
        hits = [(levels[expression], expression) for expression in candidates if expression in levels]
        if not hits:
            return ()
        level, expression = max(hits, key=lambda hit: hit[0].rank)
        return (listed_signal(expression, level, self.name),)


def listed_signal(expression: str, level: Level, source: str, *, since: str = "", weight: int | None = None) -> Signal:
    """The signal of a listing.

    Args:
        expression: What is listed.
        level: As what.
        source: By whom.
        since: ISO date since when, where known.
        weight: Points; None: the level's. Less than these decides nothing by itself.
    """
    host, _, rest = expression.partition("/")
    shown = unicode_host(host) + (f"/{rest}" if rest else "")
    full = LISTED_WEIGHT[level]
    points = full if weight is None else weight
    decides = level if points >= full else None
    if since:
        return Signal(
            f"listed_{level}_since", points, (("entry", shown), ("list", source), ("since", since)), source, decides
        )
    return Signal(f"listed_{level}", points, (("entry", shown), ("list", source)), source, decides)
