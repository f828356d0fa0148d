"""The signal of a service that reports an address."""

from __future__ import annotations

from app.messages.hosts import unicode_host
from app.verdicts.advisories import FIELD
from app.verdicts.feed import LISTED_WEIGHT
from app.verdicts.scoring import Level, Signal
from app.verdicts.sources.types import SourceConfig


def reported_signal(config: SourceConfig, code: str, level: Level, expression: str, advisory: str = "") -> Signal:
    """The signal of a report. As for lists, less than a full weight adds points and decides nothing.

    Args:
        config: Of the service; its level is the worst that it may say.
        code: What it says.
        level: How bad that is.
        expression: What it says it of: a host, or a host and a path.
        advisory: Whose advice must be named as such (:mod:`app.verdicts.advisories`); empty: nobody's.
    """
    level = min(level, config.level, key=lambda found: found.rank)
    full = LISTED_WEIGHT[level]
    points = min(config.weight, full)
    host, slash, rest = expression.partition("/")
    shown = unicode_host(host) + slash + rest
    fields: tuple[tuple[str, str], ...] = (("entry", shown), ("list", config.name))
    if advisory:
        fields = (*fields, (FIELD, advisory))
    return Signal(code, points, fields, config.name, level if points >= full else None)
