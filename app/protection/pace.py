"""How many messages a worker has under way: as many as its event loop keeps up with.

Where providers answer slowly, many messages under way cost nothing; where they answer fast, the processor is the limit,
and each message more makes every other one slower: a single mail of another tenant would wait a whole round of the
loop at each of its steps. So the number follows the loop's lag, additive up and multiplicative down (Chiu and Jain,
"Analysis of the increase and decrease algorithms for congestion avoidance", 1989). Every tenant may have one message
under way whatever the number is.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

LAG_SECONDS = 0.015
"""A round of the event loop may take so long."""

FEWEST, MOST, FIRST = 2.0, 96.0, 24.0
_TICK_SECONDS = 0.02
_DOWN = 0.8


class Pace:
    """The messages of one process that are under way.

    Attributes:
        limit: How many there may be at the moment.
    """

    def __init__(self) -> None:
        self.limit = FIRST
        self._under_way: Counter[uuid.UUID] = Counter()
        self._changed = asyncio.Condition()

    @asynccontextmanager
    async def one(self, tenant_id: uuid.UUID) -> AsyncIterator[None]:
        """One message of a tenant: waits while there are too many, unless it is the tenant's only one."""
        async with self._changed:
            await self._changed.wait_for(
                lambda: not self._under_way[tenant_id] or self._under_way.total() < int(self.limit)
            )
            self._under_way[tenant_id] += 1
            if self._under_way.total() == 1:
                self._changed.notify_all()  # the watch begins again
        try:
            yield
        finally:
            self._under_way[tenant_id] -= 1
            if not self._under_way[tenant_id]:
                del self._under_way[tenant_id]
            async with self._changed:
                self._changed.notify_all()

    def lagged(self, seconds: float) -> None:
        """The last round of the loop took so long: adapt."""
        if seconds > LAG_SECONDS:
            self.limit = max(FEWEST, self.limit * _DOWN)
        elif self._under_way.total() >= int(self.limit):
            self.limit = min(MOST, self.limit + 0.5)

    async def watch(self) -> None:
        """Measure the loop's lag until cancelled, while there is something under way."""
        while True:
            if not self._under_way:
                async with self._changed:
                    await self._changed.wait_for(lambda: bool(self._under_way))
            began = time.monotonic()
            await asyncio.sleep(_TICK_SECONDS)
            before = self.limit
            self.lagged(time.monotonic() - began - _TICK_SECONDS)
            if self.limit > before:
                async with self._changed:
                    self._changed.notify_all()
