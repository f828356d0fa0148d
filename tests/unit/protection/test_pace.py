"""How many messages are under way follows how the event loop keeps up."""

from __future__ import annotations

import asyncio
import uuid

import pytest

from app.protection.pace import FEWEST, FIRST, LAG_SECONDS, Pace

pytestmark = pytest.mark.anyio


class Told(Pace):
    """Tells when the loop's lag was measured."""

    def __init__(self) -> None:
        super().__init__()
        self.measured = asyncio.Event()

    def lagged(self, seconds: float) -> None:
        self.measured.set()
        super().lagged(seconds)


async def test_the_lag_is_measured_while_there_is_work_and_again_after_a_rest() -> None:
    pace = Told()
    watching = asyncio.create_task(pace.watch())
    try:
        for _ in range(2):
            async with pace.one(uuid.uuid4()), asyncio.timeout(60):
                await pace.measured.wait()
            # It rests once it has seen that nothing is under way, and measures no more.
            async with asyncio.timeout(60):
                while not pace._changed._waiters:  # noqa: ASYNC110  # nothing else shows it
                    await asyncio.sleep(0)
            pace.measured.clear()
    finally:
        watching.cancel()


async def test_fewer_messages_are_begun_while_the_loop_lags_and_one_of_each_tenant_always() -> None:
    pace, busy, other = Pace(), uuid.uuid4(), uuid.uuid4()
    assert pace.limit == FIRST
    for _ in range(100):
        pace.lagged(LAG_SECONDS * 2)
    assert pace.limit == FEWEST

    async with pace.one(busy), pace.one(busy):
        third = asyncio.create_task(pace.one(busy).__aenter__())
        async with asyncio.timeout(60), pace.one(other):
            assert not third.done()
        third.cancel()
