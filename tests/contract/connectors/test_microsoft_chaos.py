"""A worker that dies, a provider that fails, users who read and move mail: every message is protected once."""

from __future__ import annotations

import dataclasses
import random
from datetime import UTC, datetime, timedelta

import pytest

from connectors.base.errors import CursorExpired, Transient
from connectors.base.types import BodyContent, FetchedMessage, MessageRef, Replacement, ReplaceState, ReplaceStep
from connectors.emulators.common.faults import FaultKind, FaultRule
from connectors.microsoft.connector import MicrosoftConnector
from tests.contract.connectors.harness import NEW_LINK, OLD_LINK, Journal, Killed, mail, protect
from tests.contract.connectors.harness_microsoft import MicrosoftCopiesHarness, MicrosoftHarness

RULES = [
    FaultRule(FaultKind.THROTTLE, "/graph/", probability=0.05, retry_after=0.01),
    FaultRule(FaultKind.UNAVAILABLE, "/graph/", probability=0.02, retry_after=0.01),
    FaultRule(FaultKind.TIMEOUT_BEFORE, "/graph/", probability=0.03),
    FaultRule(FaultKind.TIMEOUT_AFTER, "/graph/", probability=0.05),
    FaultRule(FaultKind.TIMEOUT_BEFORE, "/token", probability=0.05),
]
WAVES, WAVE = 5, 8


class Worker:
    """What the application keeps between two lives: the cursor, and a journal with the original per message."""

    def __init__(self, harness: MicrosoftHarness, dice: random.Random) -> None:
        self.harness = harness
        self.dice = dice
        self.cursor: str | None = None
        self.originals: dict[str, FetchedMessage] = {}
        self.states: dict[str, ReplaceState] = {}
        self.last = ReplaceStep.REMOVED if harness.makes_copies else ReplaceStep.VERIFIED
        self.deaths = 0
        self.resyncs = 0

    async def live(self, connector: MicrosoftConnector) -> None:
        """Until nothing is new."""
        since = datetime.now(UTC) - timedelta(hours=1)
        while True:
            try:
                page = await connector.changes(self.harness.ada, self.cursor, since)
            except CursorExpired:
                self.cursor, self.resyncs = None, self.resyncs + 1
                continue
            for change in page.changes:
                if not change.removed:
                    await self._protect(connector, change.ref)
            self.cursor = page.cursor
            if not page.more:
                return

    async def _protect(self, connector: MicrosoftConnector, ref: MessageRef) -> None:
        state = self.states.get(ref.id)
        if state is not None and state.step is self.last:
            return
        if ref.id not in self.originals:
            found = await connector.fetch(ref)
            if found.copy is not None:
                return  # its original leads to it
            self.originals[ref.id] = found
            self._maybe_die(None)
        change = self._change(self.originals[ref.id])
        journal = Journal(written=self._maybe_die, verified=self._maybe_die, removed=self._maybe_die)
        try:
            await connector.replace(change, ref.id, journal, state)
        finally:
            if journal.last is not None:
                self.states[ref.id] = journal.last

    def _change(self, message: FetchedMessage) -> Replacement:
        change = protect(self.harness, message)
        assert isinstance(change.content, BodyContent)
        untidy = change.content.content.replace("<p>", "<P  CLASS=x>")  # so that normalising shows
        return dataclasses.replace(change, content=BodyContent(untidy, True))

    def now_at(self, ref: MessageRef) -> MessageRef:
        """Where the message is that its owner sees."""
        state = self.states.get(ref.id)
        return MessageRef(ref.mailbox, state.new_id) if state is not None and state.step is self.last else ref

    def _maybe_die(self, _: ReplaceState | None) -> None:
        if self.dice.random() < 0.08:
            self.deaths += 1
            raise Killed


@pytest.mark.parametrize("seed", range(2))
async def test_every_message_is_there_once_and_protected_once(microsoft: MicrosoftHarness, seed: int) -> None:
    await survive(microsoft, seed)


@pytest.mark.parametrize("seed", range(2))
async def test_every_message_is_there_once_where_it_is_replaced_by_a_copy(
    copies: MicrosoftCopiesHarness, seed: int
) -> None:
    await survive(copies, seed)


async def survive(microsoft: MicrosoftHarness, seed: int) -> None:
    """Mail in waves, everything goes wrong, and at the end it is all there, once, with its read state."""
    dice = random.Random(seed)
    faults = microsoft.emulators.world.faults
    before = faults.counts.copy()
    faults.set_rules(RULES, seed)
    microsoft.state.switches.exchange_html = True
    worker = Worker(microsoft, dice)
    refs: list[MessageRef] = []
    read: set[str] = set()
    for wave in range(WAVES):
        for number in range(WAVE):
            place = dice.choice(["inbox", "inbox", "other"])
            refs.append(microsoft.deliver(microsoft.ada, mail(f"{wave}.{number}"), place=place))
        if wave == 2:
            microsoft.expire_cursors(microsoft.ada)
        for ref in dice.sample(refs, 4):
            microsoft.set_read(worker.now_at(ref), True)
            read.add(ref.id)
        for _ in range(200):
            try:
                await worker.live(microsoft.new_connector())
            except (Transient, Killed):
                continue
            break
        else:
            raise AssertionError("the worker never got through")
    microsoft.clear()

    await worker.live(microsoft.new_connector())

    texts = microsoft.texts(microsoft.ada)
    assert len(texts) == len(refs) == WAVES * WAVE
    assert [text.count(NEW_LINK) for text in texts] == [1] * len(refs)
    assert not any(OLD_LINK.split("?")[0] in text for text in texts)
    assert {ref.id for ref in refs} == set(worker.states)
    assert {state.step for state in worker.states.values()} == {worker.last}
    assert [microsoft.is_read(worker.now_at(ref)) for ref in refs] == [ref.id in read for ref in refs]
    assert worker.deaths > 0
    assert worker.resyncs > 0 or microsoft.makes_copies  # copies are new mail: the quick look is answer enough
    assert faults.counts[FaultKind.TIMEOUT_AFTER.value] > before[FaultKind.TIMEOUT_AFTER.value]
