"""The process dies between any two steps of a replacement: the next one finds where it was."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from app.protection import protect as protect_module
from app.protection import restore as restore_module
from app.protection.service import pause
from app.protection.steps import StepRecorder
from app.protection.tasks import restore_mailbox
from connectors.base.types import ReplaceState, ReplaceStep
from tests.integration.protection.hands import Hands
from tests.integration.protection.test_restore import ask, result
from tests.integration.protection.world import GATEWAY, Organisation, mail

pytestmark = pytest.mark.anyio

MOMENTS = [(step, journaled) for step in ReplaceStep for journaled in (False, True)]


class Killed(BaseException):
    """kill -9: nothing catches it."""


def killed_at(step: ReplaceStep, *, journaled: bool) -> Callable[..., Any]:
    """A recorder that dies at a step, before or after the step is in the journal."""

    class Dying(StepRecorder):
        async def __call__(self, state: ReplaceState) -> None:
            if state.step is step and not journaled:
                raise Killed
            await super().__call__(state)
            if state.step is step:
                raise Killed

    return Dying


def steps_of(organisation: Organisation) -> list[tuple[ReplaceStep, bool]]:
    return [moment for moment in MOMENTS if organisation.makes_copies or moment[0] is not ReplaceStep.REMOVED]


async def test_protecting_goes_on_where_it_was(organisation: Organisation, monkeypatch: pytest.MonkeyPatch) -> None:
    address, hands = organisation.people[0], Hands(organisation)
    for step, journaled in steps_of(organisation):
        message = organisation.deliver(address, mail(address, f"{step} {journaled}"))
        hands.read_and_star(address, message)
        wanted = hands.state_of(address)
        with monkeypatch.context() as patch:
            patch.setattr(protect_module, "StepRecorder", killed_at(step, journaled=journaled))
            with pytest.raises(Killed):
                await organisation.sync()
        await organisation.restart()
        await organisation.sync()
        assert hands.state_of(address) == wanted
    texts = organisation.readable(address)
    assert len(texts) == len(steps_of(organisation))
    for text in texts:
        assert "https://news.example/" not in text
        assert f"{GATEWAY}/l/news.example/" in text
    assert {row.state for row in await organisation.messages()} == {"protected"}


async def test_what_was_half_written_is_finished_even_while_protection_is_paused(
    organisation: Organisation, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = organisation.people[0]
    organisation.deliver(address, mail(address, "begun"))
    with monkeypatch.context() as patch:
        patch.setattr(protect_module, "StepRecorder", killed_at(ReplaceStep.WRITTEN, journaled=False))
        with pytest.raises(Killed):
            await organisation.sync()
    await organisation.restart()
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        await pause(session, organisation.actor)
    organisation.deliver(address, mail(address, "new", link="https://later.example/"))
    await organisation.sync()
    texts = organisation.readable(address)
    assert len(texts) == 2
    assert sum("https://news.example/" in text for text in texts) == 0
    assert sum("https://later.example/" in text for text in texts) == 1


@pytest.mark.parametrize("moment", MOMENTS, ids=lambda moment: f"{moment[0]}-{'after' if moment[1] else 'before'}")
async def test_restoring_goes_on_where_it_was(
    organisation: Organisation, monkeypatch: pytest.MonkeyPatch, moment: tuple[ReplaceStep, bool]
) -> None:
    if moment not in steps_of(organisation):
        moment = (ReplaceStep.VERIFIED, moment[1])
    address, mailbox = organisation.people[0], await organisation.mailbox_id(organisation.people[0])
    organisation.deliver(address, mail(address))
    before = organisation.readable(address)
    await organisation.sync()
    run = await ask(organisation, "tenant", "")
    with monkeypatch.context() as patch:
        patch.setattr(restore_module, "StepRecorder", killed_at(moment[0], journaled=moment[1]))
        with pytest.raises(Killed):
            await restore_mailbox(organisation.runtime, organisation.tenant_id, mailbox, run)
    await organisation.restart()
    # A look at the mailbox comes first, as it may.
    await organisation.sync()
    await restore_mailbox(organisation.runtime, organisation.tenant_id, mailbox, run)
    assert organisation.readable(address) == before
    assert {row.state for row in await organisation.messages()} == {"restored"}
    assert (await result(organisation, run)).state == "done"
