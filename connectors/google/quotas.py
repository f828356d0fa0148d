"""Gmail's quota, in units: how much a call costs, and pacing so that a mailbox stays under its limit.

Figures of projects created from May 2026, https://developers.google.com/workspace/gmail/api/reference/quota:
6,000 units per user and minute. Going over costs a refusal and a back-off; keeping under costs nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from connectors.base.errors import Throttled

UNITS: dict[str, int] = {
    "gmail.users.getProfile": 1,
    "gmail.users.watch": 100,
    "gmail.users.stop": 50,
    "gmail.users.history.list": 2,
    "gmail.users.labels.list": 1,
    "gmail.users.labels.create": 5,
    "gmail.users.messages.list": 5,
    "gmail.users.messages.get": 20,
    "gmail.users.messages.insert": 25,
    "gmail.users.messages.modify": 5,
    "gmail.users.messages.trash": 20,
    "gmail.users.messages.delete": 10,
    "gmail.users.threads.get": 40,
}
"""Units by the discovery document's method id."""

REPLACEMENT_UNITS = sum(
    UNITS[name]
    for name in (
        "gmail.users.messages.get",  # read the original
        "gmail.users.history.list",  # has an earlier try written already?
        "gmail.users.messages.insert",
        "gmail.users.messages.get",  # read back
        "gmail.users.messages.get",  # the original's labels, just before it goes
        "gmail.users.messages.modify",  # into the trash
    )
)
"""What one replacement costs when nothing goes wrong: for estimating a backfill."""


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at: float


class Pacer:
    """A token bucket per mailbox.

    A fifth of a minute's units may be used at once, the rest comes evenly, so that no window of 60 seconds
    holds more than the limit.

    Args:
        units_per_minute: The limit per mailbox.
        longest_wait: A wait above this many seconds is raised as ``Throttled`` instead of slept.
        clock: Monotonic seconds.
        sleep: Awaits that many seconds.
    """

    def __init__(
        self,
        units_per_minute: int,
        *,
        longest_wait: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        if units_per_minute < 600:
            raise ValueError("units_per_minute must be at least 600: less does not let one replacement through.")
        self._burst = units_per_minute * 0.2
        self._rate = units_per_minute * 0.8 / 60.0
        self._longest_wait = longest_wait
        self._clock = clock
        self._sleep = sleep
        self._buckets: dict[str, _Bucket] = {}

    async def spend(self, mailbox: str, method: str) -> None:
        """Wait until the mailbox may make this call, and count it.

        Raises:
            Throttled: That would take longer than ``longest_wait``; nothing was sent or counted.
        """
        units = UNITS.get(method, 5)
        now = self._clock()
        bucket = self._buckets.get(mailbox)
        if bucket is None:
            if len(self._buckets) > 10_000:
                self._drop_full(now)
            bucket = self._buckets[mailbox] = _Bucket(self._burst, now)
        bucket.tokens = min(self._burst, bucket.tokens + (now - bucket.at) * self._rate)
        bucket.at = now
        wait = max(0.0, (units - bucket.tokens) / self._rate)
        if wait > self._longest_wait:
            raise Throttled("This mailbox has used up its Gmail quota for now.", wait)
        bucket.tokens -= units  # taken before the wait, so that callers queue up behind each other
        if wait > 0:
            await self._sleep(wait)

    def _drop_full(self, now: float) -> None:
        """Forget mailboxes that have been idle long enough to have a full bucket."""
        self._buckets = {
            key: bucket
            for key, bucket in self._buckets.items()
            if bucket.tokens + (now - bucket.at) * self._rate < self._burst
        }
