"""From how many points on a verdict has a level in a tenant. PURE; ``app.verdicts.scoring`` adds the points up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

LEVEL_FROM: Final = (40, 85)
"""Where ``suspicious`` and ``malicious`` begin if the tenant says nothing else."""

MAX_LEVEL_FROM: Final = 200
"""Points end at 100: a level that begins above is one that only a list or a service makes."""


def is_level_from(suspicious: object, malicious: object) -> bool:
    """Whether levels can begin there: two whole numbers from 1 to 200, the first lower."""
    return type(suspicious) is int and type(malicious) is int and 1 <= suspicious < malicious <= MAX_LEVEL_FROM


def level_from(settings: object) -> tuple[int, int]:
    """Where ``suspicious`` and ``malicious`` begin, from a tenant's settings.

    Args:
        settings: ``{"suspicious": 40, "malicious": 85}``. One half of a pair is understood with the other's default;
            what is no pair is not used at all.
    """
    if not isinstance(settings, Mapping):
        return LEVEL_FROM
    suspicious, malicious = settings.get("suspicious", LEVEL_FROM[0]), settings.get("malicious", LEVEL_FROM[1])
    return (suspicious, malicious) if is_level_from(suspicious, malicious) else LEVEL_FROM
