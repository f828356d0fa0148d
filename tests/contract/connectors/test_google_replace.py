"""Insert, verify, remove on the emulated Gmail: killed at any step, there is one message."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest

from connectors.base.errors import Transient, Unavailable, WriteNotVerified
from connectors.base.types import (
    MimeContent,
    ReplaceState,
    ReplaceStep,
    Trait,
)
from connectors.emulators.common.faults import FaultKind
from connectors.emulators.google.behaviour import Deduplication
from tests.contract.connectors.harness import Journal, die
from tests.contract.connectors.harness_google import (
    ANNA,
    MAIL,
    GoogleWorld,
    fetched,
    killed,
    protect,
    protected,
    restore,
)

INSERT = r"/upload/gmail/v1/users/[^/]+/messages$"


def test_a_protected_message_takes_the_place_of_its_original(world: GoogleWorld) -> None:
    async def main() -> None:
        async with world.connector() as connector:
            label = world.state.mailbox(ANNA).labels.create({"name": "Invoices"}).id
            message = await fetched(connector, world, labels=("INBOX", "UNREAD", "STARRED", label))
            journal = Journal()
            done = await connector.replace(protect(message), "protect:1", journal)
            copy = await connector.fetch(done.ref)
            assert copy.content == MimeContent(protected(MAIL))
            assert Trait.OWN_COPY in copy.traits
            assert set(copy.places) == {"INBOX", "UNREAD", "STARRED", label}
            assert copy.thread_id == message.thread_id
            assert [step.step for step in journal.steps] == list(ReplaceStep)
            assert {step.new_id for step in journal.steps} == {done.ref.id}
            assert [stored.id for stored in world.visible()] == [done.ref.id]
            assert world.all()[-1].internal_ms // 60_000 == world.all()[0].internal_ms // 60_000

    asyncio.run(main())


def test_restoring_gives_back_the_bytes_that_were_delivered(world: GoogleWorld) -> None:
    async def main() -> None:
        async with world.connector() as connector:
            message = await fetched(connector, world)
            copy = await connector.replace(protect(message), "protect:1", Journal())
            again = await connector.replace(restore(await connector.fetch(copy.ref)), "restore:1", Journal())
            assert not again.normalised
            [left] = world.visible()
            assert left.id == again.ref.id
            assert left.raw == MAIL

    asyncio.run(main())


def test_a_received_line_that_gmail_prepends_is_no_obstacle(world: GoogleWorld) -> None:
    world.state.behaviour.received_line = True

    async def main() -> None:
        async with world.connector() as connector:
            message = await fetched(connector, world)
            done = await connector.replace(protect(message), "protect:1", Journal())
            assert not done.normalised
            copy = await connector.fetch(done.ref)
            assert Trait.OWN_COPY in copy.traits
            assert copy.content == MimeContent(protected(MAIL))
            again = await connector.replace(restore(copy), "restore:1", Journal())
            assert again.normalised
            assert isinstance(again.content, MimeContent)
            assert again.content.raw.startswith(b"Received: ")
            assert again.content.raw.endswith(MAIL)
            assert len(world.visible()) == 1

    asyncio.run(main())


def test_where_gmail_takes_the_copy_for_a_duplicate_nothing_is_touched(world: GoogleWorld) -> None:
    world.state.behaviour.deduplication = Deduplication.INSERT_AND_IMPORT

    async def main() -> None:
        async with world.connector() as connector:
            message = await fetched(connector, world)
            journal = Journal()
            with pytest.raises(WriteNotVerified, match="duplicate"):
                await connector.replace(protect(message), "protect:1", journal)
            assert journal.steps == []
            [left] = world.all()
            assert left.id == message.ref.id
            assert left.labels == set(message.places)

    asyncio.run(main())


def test_a_duplicate_of_a_third_message_is_not_taken_for_our_copy(world: GoogleWorld) -> None:
    async def main() -> None:
        async with world.connector() as connector:
            other = world.deliver(MAIL.replace(b"please pay", b"please do pay"))
            message = await fetched(connector, world)
            world.state.behaviour.deduplication = Deduplication.INSERT_AND_IMPORT
            with pytest.raises(WriteNotVerified, match="left where it is"):
                await connector.replace(protect(message), "protect:1", Journal())
            assert {stored.id for stored in world.visible()} == {other.id, message.ref.id}

    asyncio.run(main())


@pytest.mark.parametrize("mark", [True, False], ids=["protect", "restore"])
@pytest.mark.parametrize("step", list(ReplaceStep))
def test_killed_right_after_any_step_and_run_again_there_is_one_message(
    world: GoogleWorld, step: ReplaceStep, mark: bool
) -> None:
    async def main() -> None:
        async with world.connector() as connector:
            message = await fetched(connector, world)
            journal = Journal(**{step.value: die})
            change = dataclasses.replace(protect(message), mark=mark)
            with killed():
                await connector.replace(change, "job:1", journal)
        async with world.connector() as connector:  # another process
            done = await connector.replace(change, "job:1", again := Journal(), journal.last)
            [left] = world.visible()
            assert left.id == done.ref.id
            assert set(message.places) == left.labels
            assert again.steps[-1].step is ReplaceStep.REMOVED
            assert len(world.all()) == 2

    asyncio.run(main())


@pytest.mark.parametrize("expired", [False, True], ids=["by_history", "by_thread"])
@pytest.mark.parametrize("mark", [True, False], ids=["protect", "restore"])
def test_an_insert_that_took_effect_without_an_answer_is_found_again(
    world: GoogleWorld, mark: bool, expired: bool
) -> None:
    async def main() -> None:
        async with world.connector() as connector:
            message = await fetched(connector, world)
            change = dataclasses.replace(protect(message), mark=mark)
            world.fail(FaultKind.TIMEOUT_AFTER, INSERT)
            with pytest.raises(Unavailable):
                await connector.replace(change, "job:1", journal := Journal())
            assert journal.steps == []
            assert len(world.all()) == 2
        if expired:
            world.state.expire_history(ANNA)
        async with world.connector() as connector:  # another process
            done = await connector.replace(change, "job:1", Journal())
            assert [stored.id for stored in world.visible()] == [done.ref.id]
            assert len(world.all()) == 2

    asyncio.run(main())


@pytest.mark.parametrize("kind", [FaultKind.TIMEOUT_BEFORE, FaultKind.TIMEOUT_AFTER, FaultKind.UNAVAILABLE])
def test_the_same_process_finds_it_too(world: GoogleWorld, kind: FaultKind) -> None:
    async def main() -> None:
        async with world.connector() as connector:
            message = await fetched(connector, world)
            world.fail(kind, INSERT, limit=3)
            for _ in range(5):
                try:
                    await connector.replace(protect(message), "job:1", Journal())
                    break
                except Transient:
                    continue
            assert len(world.visible()) == 1
            assert len(world.all()) == 2

    asyncio.run(main())


def test_a_copy_that_arrives_late_does_not_stay_beside_the_other(world: GoogleWorld) -> None:
    async def main() -> None:
        async with world.connector() as connector:
            message = await fetched(connector, world)
            world.fail(FaultKind.TIMEOUT_BEFORE, INSERT)
            with pytest.raises(Unavailable):
                await connector.replace(protect(message), "job:1", Journal())

            def first_insert_arrives(written: ReplaceState) -> None:
                copy = next(stored for stored in world.all() if stored.id == written.new_id)
                labels = tuple(copy.labels)
                with world.state.lock:
                    box = world.state.mailbox(ANNA)
                    box.add(copy.raw, labels, internal_ms=copy.internal_ms, thread_id=copy.thread_id)

            done = await connector.replace(protect(message), "job:1", Journal(written=first_insert_arrives))
            assert len(world.all()) == 3
            assert [stored.id for stored in world.visible()] == [done.ref.id]

    asyncio.run(main())


def test_a_copy_of_an_earlier_try_with_other_content_is_superseded(world: GoogleWorld) -> None:
    async def main() -> None:
        async with world.connector() as connector:
            message = await fetched(connector, world)
            change = protect(message)
            with killed():
                await connector.replace(change, "job:1", Journal(written=die))
            assert isinstance(change.content, MimeContent)
            other = MimeContent(change.content.raw.replace(b"/TOKEN", b"/OTHER"))
            done = await connector.replace(dataclasses.replace(change, content=other), "job:1", Journal())
            [left] = world.visible()
            assert left.id == done.ref.id
            assert b"/OTHER" in left.raw

    asyncio.run(main())


def test_a_recorded_copy_with_other_content_is_superseded(world: GoogleWorld) -> None:
    async def main() -> None:
        async with world.connector() as connector:
            message = await fetched(connector, world)
            change = protect(message)
            with killed():
                await connector.replace(change, "job:1", journal := Journal(verified=die))
            assert isinstance(change.content, MimeContent)
            other = MimeContent(change.content.raw.replace(b"/TOKEN", b"/OTHER"))
            done = await connector.replace(dataclasses.replace(change, content=other), "job:1", Journal(), journal.last)
            [left] = world.visible()
            assert left.id == done.ref.id
            assert b"/OTHER" in left.raw

    asyncio.run(main())


def test_a_copy_that_was_withdrawn_never_takes_the_original_s_place(world: GoogleWorld) -> None:
    async def main() -> None:
        async with world.connector() as connector:
            message = await fetched(connector, world)
            with killed():
                await connector.replace(protect(message), "job:1", journal := Journal(verified=die))
            assert journal.last is not None
            world.relabel(journal.last.new_id, add=("TRASH",), remove=("INBOX",))
            done = await connector.replace(protect(message), "job:1", Journal(), journal.last)
            assert done.ref.id != journal.last.new_id
            [left] = world.visible()
            assert left.id == done.ref.id
            assert left.labels == set(message.places)

    asyncio.run(main())
