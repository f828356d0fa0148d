"""What every connector promises when it writes and moves, asked of each provider over its emulator."""

from __future__ import annotations

import asyncio

import pytest

from connectors.base.errors import (
    AccessRevoked,
    MessageGone,
    PermissionMissing,
    Transient,
)
from connectors.base.types import (
    FetchedMessage,
    Mailbox,
    MessageRef,
    Place,
    ReplaceStep,
)
from tests.contract.connectors.harness import (
    NEW_LINK,
    Call,
    Journal,
    Killed,
    ProviderHarness,
    Weather,
    die,
    mail,
    protect,
    restore,
)


def count_new(harness: ProviderHarness, mailbox: Mailbox) -> tuple[int, int]:
    """How many messages there are, and how many of them carry the new link exactly once per part."""
    texts = harness.texts(mailbox)
    return len(texts), sum(NEW_LINK in text for text in texts)


async def fetched(harness: ProviderHarness, **options: str) -> FetchedMessage:
    return await harness.connector.fetch(harness.deliver(harness.ada, mail(), **options))


# --- replace -------------------------------------------------------------------------------------------------


async def test_a_message_is_replaced_and_there_is_still_one(harness: ProviderHarness) -> None:
    message, journal = await fetched(harness), Journal()

    done = await harness.connector.replace(protect(harness, message), "protect:1", journal)

    steps = [ReplaceStep.WRITTEN, ReplaceStep.VERIFIED]
    if harness.makes_copies:
        steps.append(ReplaceStep.REMOVED)
    assert [state.step for state in journal.steps] == steps
    assert {state.new_id for state in journal.steps} == {done.ref.id}
    assert count_new(harness, harness.ada) == (1, 1)
    again = await harness.connector.fetch(done.ref)
    assert NEW_LINK in str(again.content)
    assert again.internet_message_id == message.internet_message_id
    assert again.thread_id == message.thread_id
    assert again.places == message.places
    assert again.is_read == message.is_read


async def test_the_read_state_is_kept(harness: ProviderHarness) -> None:
    ref = harness.deliver(harness.ada, mail())
    harness.set_read(ref, True)

    done = await harness.connector.replace(protect(harness, await harness.connector.fetch(ref)), "protect:1", Journal())

    assert harness.is_read(done.ref)


async def test_restoring_gives_the_content_that_was_delivered(harness: ProviderHarness) -> None:
    message = await fetched(harness)
    done = await harness.connector.replace(protect(harness, message), "protect:1", Journal())

    back = await harness.connector.replace(
        restore(harness, await harness.connector.fetch(done.ref)), "restore:1", Journal()
    )

    assert (await harness.connector.fetch(back.ref)).content == message.content
    assert count_new(harness, harness.ada) == (1, 0)


async def test_asking_twice_writes_once(harness: ProviderHarness) -> None:
    change = protect(harness, await fetched(harness))
    await harness.connector.replace(change, "protect:1", Journal())
    journal = Journal()

    done = await harness.connector.replace(change, "protect:1", journal, resume=None)

    assert journal.last is not None
    assert count_new(harness, harness.ada) == (1, 1)
    assert NEW_LINK in str((await harness.connector.fetch(done.ref)).content)


@pytest.mark.parametrize("weather", list(Weather))
async def test_bad_weather_at_the_write_loses_and_doubles_nothing(harness: ProviderHarness, weather: Weather) -> None:
    change = protect(harness, await fetched(harness))
    harness.make(weather, Call.WRITE_MESSAGE)
    journal = Journal()

    with pytest.raises(Transient):
        await harness.connector.replace(change, "protect:1", journal)
    assert journal.steps == []
    harness.clear()
    await asyncio.sleep(0.06)  # the Retry-After of the weather
    await harness.connector.replace(change, "protect:1", journal)

    assert count_new(harness, harness.ada) == (1, 1)


@pytest.mark.parametrize("step", list(ReplaceStep))
async def test_killed_before_a_step_is_recorded_it_goes_on_where_it_stopped(
    harness: ProviderHarness, step: ReplaceStep
) -> None:
    insert = harness.makes_copies
    if step is ReplaceStep.REMOVED and not insert:
        pytest.skip("a message edited in place is not removed")
    change = protect(harness, await fetched(harness))
    journal = Journal(**{step.value: die})
    with pytest.raises(Killed):
        await harness.connector.replace(change, "protect:1", journal)

    after = Journal()
    done = await harness.new_connector().replace(change, "protect:1", after, resume=journal.last)

    assert count_new(harness, harness.ada) == (1, 1)
    assert NEW_LINK in str((await harness.connector.fetch(done.ref)).content)
    assert after.last is not None
    assert after.last.step is (ReplaceStep.REMOVED if insert else ReplaceStep.VERIFIED)


async def test_a_message_deleted_meanwhile_is_not_brought_back(harness: ProviderHarness) -> None:
    message = await fetched(harness)
    harness.delete(message.ref)

    with pytest.raises(MessageGone):
        await harness.connector.replace(protect(harness, message), "protect:1", Journal())
    assert harness.texts(harness.ada) == []


async def test_without_the_permission_to_write_nothing_is_written(harness: ProviderHarness) -> None:
    message = await fetched(harness)
    harness.forbid_writing()

    with pytest.raises((PermissionMissing, AccessRevoked)):
        await harness.new_connector().replace(protect(harness, message), "protect:1", Journal())
    assert count_new(harness, harness.ada) == (1, 0)


# --- move ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", [Place.JUNK, Place.QUARANTINE])
@pytest.mark.parametrize("is_read", [False, True])
async def test_a_moved_message_comes_back_as_it_was(harness: ProviderHarness, place: Place, is_read: bool) -> None:
    ref = harness.deliver(harness.ada, mail())
    harness.set_read(ref, is_read)
    before = await harness.connector.fetch(ref)

    moved = await harness.connector.move(ref, place)
    assert harness.place_of(moved.ref) == place.value
    back = await harness.connector.move_back(moved.ref, moved.undo)

    after = await harness.connector.fetch(back)
    assert harness.place_of(back) == "inbox"
    assert (after.places, after.is_read, after.content) == (before.places, before.is_read, before.content)


async def test_moving_twice_is_moving_once(harness: ProviderHarness) -> None:
    ref = harness.deliver(harness.ada, mail())

    first = await harness.connector.move(ref, Place.QUARANTINE)
    second = await harness.connector.move(first.ref, Place.QUARANTINE)

    assert harness.place_of(second.ref) == "quarantine"
    assert harness.place_of(await harness.connector.move_back(second.ref, second.undo)) == "inbox"


async def test_a_message_goes_back_to_the_users_own_folder(harness: ProviderHarness) -> None:
    ref = harness.deliver(harness.ada, mail(), place="other")
    before = await harness.connector.fetch(ref)

    moved = await harness.connector.move(ref, Place.QUARANTINE)
    back = await harness.connector.move_back(moved.ref, moved.undo)

    assert (await harness.connector.fetch(back)).places == before.places


async def test_junk_can_be_released_to_the_inbox(harness: ProviderHarness) -> None:
    ref = harness.deliver(harness.ada, mail(), place="junk")

    moved = await harness.connector.move(ref, Place.INBOX)

    assert harness.place_of(moved.ref) == "inbox"


async def test_moving_a_deleted_message_says_gone(harness: ProviderHarness) -> None:
    ref = harness.deliver(harness.ada, mail())
    harness.delete(ref)

    with pytest.raises(MessageGone):
        await harness.connector.move(ref, Place.JUNK)


@pytest.mark.parametrize("undo", ["", "{}", "null", '{"v":99}', "x"])
async def test_an_undo_record_that_cannot_be_read_moves_nothing(harness: ProviderHarness, undo: str) -> None:
    ref = (await harness.connector.move(harness.deliver(harness.ada, mail()), Place.JUNK)).ref

    with pytest.raises(ValueError):
        await harness.connector.move_back(ref, undo)
    assert harness.place_of(ref) == "junk"


# --- all together --------------------------------------------------------------------------------------------


async def test_forty_messages_at_once_end_up_once_each(harness: ProviderHarness) -> None:
    refs = [harness.deliver(harness.ada, mail(f"mail {n}")) for n in range(20)]
    refs += [harness.deliver(harness.ben, mail(f"mail {n}")) for n in range(20)]

    async def one(ref: MessageRef) -> None:
        message = await harness.connector.fetch(ref)
        await harness.connector.replace(protect(harness, message), f"protect:{ref.id}", Journal())

    await asyncio.gather(*map(one, refs))

    assert count_new(harness, harness.ada) == (20, 20)
    assert count_new(harness, harness.ben) == (20, 20)
