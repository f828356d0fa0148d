"""Everything goes wrong at once, repeatedly, and every message is there exactly once in the end."""

from __future__ import annotations

import asyncio
import random

import pytest

from connectors.base.errors import Transient
from connectors.base.types import MessageRef, MimeContent, Replacement, ReplaceState
from connectors.emulators.common.faults import FaultKind, FaultRule
from connectors.google.connector import GoogleConnector
from tests.contract.connectors.harness import Journal, Killed
from tests.contract.connectors.harness_google import ANNA, MAIL, GoogleWorld, protected

MESSAGES = 24
RULES = [
    FaultRule(FaultKind.THROTTLE, "/gmail/", probability=0.05, retry_after=0.01),
    FaultRule(FaultKind.UNAVAILABLE, "/gmail/", probability=0.02, retry_after=0.01),
    FaultRule(FaultKind.TIMEOUT_BEFORE, "/gmail/", probability=0.02),
    FaultRule(FaultKind.TIMEOUT_AFTER, "/gmail/", probability=0.05),
    FaultRule(FaultKind.TIMEOUT_BEFORE, "/token", probability=0.05),
]


class Worker:
    """What the application does with a message: journal, resume, try again; dies now and then.

    Args:
        dice: Decides over life and death.
    """

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice
        self.journals: dict[str, ReplaceState] = {}
        self.deaths = 0

    async def protect(self, connector: GoogleConnector, ref: MessageRef) -> None:
        message = await connector.fetch(ref)
        content = message.content
        assert isinstance(content, MimeContent)
        change = Replacement(message, MimeContent(protected(content.raw)))
        journal = Journal(**dict.fromkeys(("written", "verified", "removed"), self._maybe_die))
        try:
            await connector.replace(change, f"protect:{ref.id}", journal, self.journals.get(ref.id))
        finally:
            if journal.last is not None:
                self.journals[ref.id] = journal.last

    def _maybe_die(self, _: ReplaceState) -> None:
        if self._dice.random() < 0.1:
            self.deaths += 1
            raise Killed


@pytest.mark.parametrize("seed", range(2))
def test_every_message_is_there_once_and_protected(created: GoogleWorld, seed: int) -> None:
    created.reset()
    dice = random.Random(seed)  # repeatable, protects nothing
    refs = [created.deliver(MAIL.replace(b"invoice-1", b"invoice-%d" % number)) for number in range(MESSAGES)]
    read = {ref.id for ref in refs if dice.random() < 0.3}
    for message_id in read:
        created.relabel(message_id, remove=("UNREAD",))
    created.state.faults.set_rules(RULES, seed)
    worker = Worker(dice)

    async def main() -> None:
        left = list(refs)
        for _ in range(200):
            async with created.connector() as connector:  # a new process, knowing only its journals
                while left:
                    batch, again = left[:8], []
                    outcomes = await asyncio.gather(
                        *(worker.protect(connector, ref) for ref in batch), return_exceptions=True
                    )
                    for ref, outcome in zip(batch, outcomes, strict=True):
                        if isinstance(outcome, Transient | Killed):
                            again.append(ref)
                        elif outcome is not None:
                            raise outcome
                    left = left[8:] + again
                    if any(isinstance(outcome, Killed) for outcome in outcomes):
                        break
            if not left:
                return
        raise AssertionError(f"{len(left)} messages never got through")

    asyncio.run(main())
    created.state.faults.clear()
    shown = created.visible()
    assert sorted(message.envelope.message_id for message in shown) == sorted(
        f"<invoice-{number}@outside.example>" for number in range(MESSAGES)
    )
    assert all(b"gw.example/p/pay.outside.example/TOKEN" in message.raw for message in shown)
    assert sum("UNREAD" not in message.labels for message in shown) == len(read)
    assert all("INBOX" in message.labels for message in shown)
    assert worker.deaths > 0
    assert created.state.faults.counts[FaultKind.TIMEOUT_AFTER.value] > 0
    assert len(created.state.mailbox(ANNA).messages) >= 2 * MESSAGES
