"""From signals to a verdict. PURE: no I/O, no clock.

A signal is one observation with a weight and the values of its sentence. Weights add up to a score from 0 to
100; thresholds make the level. A *decisive* signal sets the level whatever the score: a listing on a
trustworthy list is not outvoted. Nothing found is ``unknown``, never ``clean``: clean needs a reason of
its own. See ``docs/verdicts.md`` for the whole table.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from app.tenants.levels import LEVEL_FROM
from app.verdicts.sentences import readable, sentence


class Level(StrEnum):
    """What is thought of a URL. Unknown is not clean."""

    CLEAN = "clean"
    UNKNOWN = "unknown"
    SUSPICIOUS = "suspicious"
    MALICIOUS = "malicious"

    @property
    def rank(self) -> int:
        """Order of badness: clean 0 to malicious 3."""
        return _RANKS[self]


_RANKS: Final = {Level.CLEAN: 0, Level.UNKNOWN: 1, Level.SUSPICIOUS: 2, Level.MALICIOUS: 3}


@dataclass(frozen=True, slots=True)
class Signal:
    """One observation about a URL.

    Attributes:
        code: Stable name; a key of ``app.verdicts.sentences.SENTENCES``.
        weight: Points towards the score, negative for what speaks for the URL.
        fields: Names and values for the sentence. They come from the URL or from lists: hostile text.
        source: Who says so: ``heuristic``, ``delivery``, or the name of a list.
        decides: A level that this signal alone establishes, or None.
    """

    code: str
    weight: int
    fields: tuple[tuple[str, str], ...] = ()
    source: str = "heuristic"
    decides: Level | None = None

    @property
    def text(self) -> str:
        """The observation as one plain English sentence."""
        return sentence(self.code, dict(self.fields))

    def as_json(self) -> dict[str, Any]:
        """JSON form, as kept with a click; ``text`` is English, another language is made from the rest."""
        return {
            "code": self.code,
            "weight": self.weight,
            "fields": {name: readable(value) for name, value in self.fields},
            "source": self.source,
            "text": self.text,
        }


_ONE_FACT: Final[Mapping[str, str]] = (
    dict.fromkeys(
        (
            "homograph",
            "homograph_unnamed",
            "mixed_script",
            "punycode",
            "lookalike",
            "embedded",
            "other_suffix",
            "affixed",
        ),
        "name",
    )
    | dict.fromkeys(("ip_host", "ip_host_disguised"), "ip")
    | {"listed_malicious_since": "listed_malicious", "listed_suspicious_since": "listed_suspicious"}
)
"""Signals that see the same thing from several sides: of each such group only the heaviest counts."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """From which score on a level begins (inclusive). A tenant may set its own (``PolicySnapshot.level_from``); what a
    decisive signal says holds whatever they are."""

    suspicious: int = LEVEL_FROM[0]
    malicious: int = LEVEL_FROM[1]


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """How long a verdict may be used again, per level."""

    by_level: Mapping[Level, timedelta] = field(
        default_factory=lambda: {
            Level.CLEAN: timedelta(minutes=30),
            Level.UNKNOWN: timedelta(minutes=5),
            Level.SUSPICIOUS: timedelta(minutes=5),
            Level.MALICIOUS: timedelta(minutes=10),
        }
    )
    degraded: timedelta = timedelta(seconds=15)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is thought of a URL, why, and for how long.

    Attributes:
        level: See :class:`Level`.
        score: 0 to 100.
        signals: All observations, heaviest first.
        final_url: Where it leads in the end, as far as seen (behind wrappers and redirects).
        checked_at: When, aware UTC.
        expires_at: Until when it may be used again.
        degraded: A source that should have answered did not.
    """

    level: Level
    score: int
    signals: tuple[Signal, ...]
    final_url: str
    checked_at: datetime
    expires_at: datetime
    degraded: bool = False

    def as_json(self) -> dict[str, Any]:
        """JSON form with stable names."""
        return {
            "level": self.level.value,
            "score": self.score,
            "signals": [signal.as_json() for signal in self.signals],
            "final_url": self.final_url,
            "checked_at": self.checked_at.isoformat(),
            "expires_at": self.expires_at.isoformat(),
            "degraded": self.degraded,
        }


DEFAULT_THRESHOLDS: Final = Thresholds()
DEFAULT_LIFETIMES: Final = Lifetimes()


def score(
    signals: Iterable[Signal],
    *,
    final_url: str,
    now: datetime,
    degraded: bool = False,
    thresholds: Thresholds = DEFAULT_THRESHOLDS,
    lifetimes: Lifetimes = DEFAULT_LIFETIMES,
) -> Verdict:
    """Weigh signals.

    Args:
        signals: Observations; a code that occurs twice counts once, with its greatest weight.
        final_url: Where the URL leads in the end.
        now: Aware UTC.
        degraded: Whether a source that should have answered did not.
        thresholds: Where levels begin.
        lifetimes: How long the verdict holds.

    Returns:
        The verdict. The worst decisive signal wins over the score, and the score over a decisive *clean*.
    """
    heaviest: dict[tuple[str, tuple[tuple[str, str], ...]], Signal] = {}
    for signal in signals:
        key = (signal.code, signal.fields)
        if key not in heaviest or signal.weight > heaviest[key].weight:
            heaviest[key] = signal
    ordered = tuple(sorted(heaviest.values(), key=lambda signal: (-signal.weight, signal.code)))
    counted: dict[str, int] = {}
    for signal in ordered:
        counted.setdefault(_ONE_FACT.get(signal.code, signal.code), signal.weight)
    total = max(0, min(100, sum(counted.values())))
    level = Level.UNKNOWN
    if total >= thresholds.malicious:
        level = Level.MALICIOUS
    elif total >= thresholds.suspicious:
        level = Level.SUSPICIOUS
    decided = {signal.decides for signal in ordered if signal.decides is not None}
    if decided:
        worst = max(decided, key=lambda found: found.rank)
        if worst is Level.CLEAN:
            level = Level.CLEAN if level is Level.UNKNOWN else level
        elif worst.rank > level.rank:
            level = worst
    lifetime = lifetimes.by_level[level]
    if degraded:
        lifetime = min(lifetime, lifetimes.degraded)
    return Verdict(level, total, ordered, final_url, now, now + lifetime, degraded)
