"""Limits per token, per address and per tenant, in fixed memory."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

_MAX_KEYS: Final = 200_000


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is answered within one window.

    Attributes:
        window_seconds: Length of a window.
        per_token: Requests with one link. A person clicks a link a few times; a mailing list of people behind
            one forwarded link some hundreds of times.
        per_address: Requests from one network address. A big office is one address.
        broken_per_address: Links that do not open, from one address: guessing is stopped far sooner.
        forms_per_token: What is said on the pages of one link.
        per_tenant: Clicks on the links of one tenant, in one process: a flood of one must not slow the others.
    """

    window_seconds: float = 10.0
    per_token: int = 100
    per_address: int = 3_000
    broken_per_address: int = 100
    forms_per_token: int = 10
    per_tenant: int = 10_000


class Counter:
    """Counts keys in windows of fixed length.

    Two windows are weighed by how much of each lies in the last ``window`` seconds (a sliding estimate).
    When too many keys come within one window, the counter starts over: memory has a bound, and whoever comes
    with that many addresses is not stopped by counting addresses.

    Args:
        window: Seconds.
        monotonic: Seconds, for tests.
    """

    def __init__(self, window: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._window = window
        self._monotonic = monotonic
        self._current: dict[str, int] = {}
        self._previous: dict[str, int] = {}
        self._start = monotonic()
        self.overflows = 0

    def add(self, key: str, limit: int) -> bool:
        """Count one; False where that is more than the limit."""
        now = self._monotonic()
        age = now - self._start
        if age >= self._window:
            self._previous = self._current if age < 2 * self._window else {}
            self._current = {}
            self._start = now
            age = 0.0
        count = self._current.get(key, 0) + 1
        if count == 1 and len(self._current) >= _MAX_KEYS:
            self._current = {}
            self.overflows += 1
        self._current[key] = count
        before = self._previous.get(key)
        if before is not None:
            count += int(before * (1.0 - age / self._window))
        return count <= limit


@lru_cache(maxsize=8_192)
def address_key(address: str) -> str:
    """What an address is counted under: IPv6 by its /64, which is what one customer gets (RFC 6177)."""
    if ":" not in address:
        return address
    try:
        number = int(ipaddress.IPv6Address(address.partition("%")[0]))
    except ValueError:
        return address
    mapped = ipaddress.IPv6Address(number).ipv4_mapped
    return str(mapped) if mapped is not None else f"{number >> 64:x}/64"
