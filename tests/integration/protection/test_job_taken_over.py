"""A worker that was taken for dead and lives changes nothing that another one works on by now."""

from __future__ import annotations

import asyncio

import pytest

from app.protection import batch
from app.protection.holding import HELD, Held, JobTakenOver
from tests.integration.protection.hands import Hands
from tests.integration.protection.world import GATEWAY, Organisation, mail

pytestmark = pytest.mark.anyio

_NO_JOB = Held(job_id=987_654_321, worker_id=1)


async def test_a_step_of_a_job_that_is_anothers_is_not_taken(organisation: Organisation) -> None:
    if not organisation.makes_copies:
        pytest.skip("where the provider edits in place, no step is waited for")
    address, hands = organisation.people[0], Hands(organisation)
    message = organisation.deliver(address, mail(address, "hello"))
    hands.read_and_star(address, message)
    wanted = hands.state_of(address)
    held = HELD.set(_NO_JOB)
    try:
        with pytest.raises(JobTakenOver):
            await organisation.sync()
    finally:
        HELD.reset(held)
    assert any("https://news.example/" in text for text in organisation.readable(address))  # the original stands
    await organisation.sync()
    (text,) = organisation.readable(address)
    assert "https://news.example/" not in text
    assert f"{GATEWAY}/l/news.example/" in text
    assert hands.state_of(address) == wanted


async def test_a_job_ends_only_when_all_it_began_has_ended(
    organisation: Organisation, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        organisation.deliver(organisation.people[0], mail(organisation.people[0], f"number {number}"))
    begun, ended = 0, 0
    all_begun = asyncio.Event()

    async def one(*_: object) -> None:
        nonlocal begun, ended
        begun += 1
        first = begun == 1
        if begun == batch.AT_ONCE:
            all_begun.set()
        await all_begun.wait()
        if first:
            raise JobTakenOver
        await asyncio.sleep(0.2)
        ended += 1

    monkeypatch.setattr("app.protection.batch.protect_one", one)
    with pytest.raises(JobTakenOver):
        await organisation.sync()
    assert ended == batch.AT_ONCE - 1
