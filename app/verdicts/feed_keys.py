"""How a listed expression becomes the 64 bits of an entry. PURE.

An expression is a host and a path. Its key has 59 bits: 24 of the host's hash, then 35 of the whole expression's; the
first 16 are the number of the bucket in which the entry lies and are not repeated in it::

    63 .. 56   the last 8 bits of the host's hash
    55 .. 21   35 bits of the expression's hash
    20 ..  8   since when it is listed: days since 2015-01-01, 0: not known
          7    1: malicious, 0: suspicious
     6 ..  0   number of the source

With ten million entries an address that is not listed is taken for listed once in about four thousand million look-ups;
below a host of which a hundred thousand paths are listed, once in 300,000. Nobody can choose a colliding address
for somebody else's host: the host's own hash is part of the key.
"""

from __future__ import annotations

from datetime import date
from hashlib import blake2b
from typing import Final

from app.verdicts.scoring import Level

BUCKETS: Final = 1 << 16
MAX_SOURCES: Final = 128
PATH_BITS: Final = 35
TAG_BITS: Final = 21
PATH_SHIFT: Final = TAG_BITS
PATH_MASK: Final = ~((1 << TAG_BITS) - 1) & (1 << 64) - 1
LEVEL_BIT: Final = 0x80
SOURCE_MASK: Final = 0x7F
SINCE_SHIFT: Final = 8
MAX_DAYS: Final = (1 << 13) - 1
EPOCH: Final = date(2015, 1, 1)
_EPOCH_DAYS: Final = EPOCH.toordinal()


def host_key(host: str) -> int:
    """24 bits of a host."""
    return int.from_bytes(blake2b(host.encode("ascii", "replace"), digest_size=3).digest(), "big")


def path_key(expression: str) -> int:
    """35 bits of an expression."""
    return int.from_bytes(blake2b(expression.encode("ascii", "replace"), digest_size=5).digest(), "big") >> 5


def entry_tag(level: Level, source: int, since: date | None = None) -> int:
    """The lower 21 bits of an entry."""
    return since_days(since) << SINCE_SHIFT | (LEVEL_BIT if level is Level.MALICIOUS else 0) | source


def since_days(since: date | None) -> int:
    """A date as the entry holds it; what lies outside of 2015 to 2037 becomes the nearest day of it."""
    return 0 if since is None else max(1, min(MAX_DAYS, since.toordinal() - _EPOCH_DAYS))


def since_date(tag: int) -> date | None:
    """The date in an entry's lower bits."""
    days = tag >> SINCE_SHIFT & MAX_DAYS
    return date.fromordinal(_EPOCH_DAYS + days) if days else None
