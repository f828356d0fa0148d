"""What people do to a message on the emulated Gmail while it is being replaced."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest

from connectors.base.errors import MessageGone, VersionConflict
from connectors.base.types import (
    ReplaceState,
    Trait,
)
from tests.contract.connectors.harness import Journal, die
from tests.contract.connectors.harness_google import (
    ANNA,
    GoogleWorld,
    fetched,
    killed,
    protect,
)


def test_what_the_user_does_to_the_original_meanwhile_reaches_the_copy(world: GoogleWorld) -> None:
    async def main() -> None:
        async with world.connector() as connector:
            message = await fetched(connector, world)

            def user_reads_and_archives(_: ReplaceState) -> None:
                world.relabel(message.ref.id, add=("STARRED",), remove=("UNREAD", "INBOX"))

            done = await connector.replace(protect(message), "job:1", Journal(verified=user_reads_and_archives))
            [left] = world.visible()
            assert left.id == done.ref.id
            assert left.labels == {"STARRED", "CATEGORY_PERSONAL"}

    asyncio.run(main())


def test_what_the_user_did_before_the_restart_reaches_the_copy(world: GoogleWorld) -> None:
    async def main() -> None:
        async with world.connector() as connector:
            message = await fetched(connector, world)
            with killed():
                await connector.replace(protect(message), "job:1", journal := Journal(verified=die))
            world.relabel(message.ref.id, remove=("UNREAD",))
            await connector.replace(protect(message), "job:1", Journal(), journal.last)
            [left] = world.visible()
            assert "UNREAD" not in left.labels

    asyncio.run(main())


def test_a_message_trashed_meanwhile_is_trashed_in_its_new_form(world: GoogleWorld) -> None:
    async def main() -> None:
        async with world.connector() as connector:
            message = await fetched(connector, world)

            def user_trashes(_: ReplaceState) -> None:
                world.relabel(message.ref.id, add=("TRASH",), remove=("INBOX",))

            await connector.replace(protect(message), "job:1", Journal(verified=user_trashes))
            assert world.visible() == []

    asyncio.run(main())


@pytest.mark.parametrize("removal", ["trash", "delete"])
def test_a_message_deleted_meanwhile_takes_its_copy_along(world: GoogleWorld, removal: str) -> None:
    world.delegate(removal=removal)

    async def main() -> None:
        async with world.connector(removal=removal) as connector:
            message = await fetched(connector, world)
            with pytest.raises(MessageGone):
                await connector.replace(
                    protect(message), "job:1", Journal(verified=lambda _: world.delete(message.ref.id))
                )
            assert world.visible() == []

    asyncio.run(main())


def test_a_message_moved_away_before_the_write_is_left_alone(world: GoogleWorld) -> None:
    async def main() -> None:
        async with world.connector() as connector:
            message = await fetched(connector, world)
            world.relabel(message.ref.id, add=("TRASH",), remove=("INBOX",))
            with pytest.raises(VersionConflict):
                await connector.replace(protect(message), "job:1", Journal())
            world.state.expire_history(ANNA)
            with pytest.raises(VersionConflict):
                await connector.replace(protect(message), "job:1", Journal())
            assert len(world.all()) == 1

    asyncio.run(main())


@pytest.mark.parametrize("expired", [False, True], ids=["by_history", "by_thread"])
def test_a_message_deleted_before_the_write_stays_deleted(world: GoogleWorld, expired: bool) -> None:
    async def main() -> None:
        async with world.connector() as connector:
            message = await fetched(connector, world)
            world.delete(message.ref.id)
            if expired:
                world.state.expire_history(ANNA)
            with pytest.raises(MessageGone):
                await connector.replace(protect(message), "job:1", Journal())
            assert world.all() == []

    asyncio.run(main())


def test_deleting_originals_for_good_leaves_only_the_copy(world: GoogleWorld) -> None:
    world.delegate(removal="delete")

    async def main() -> None:
        async with world.connector(removal="delete") as connector:
            message = await fetched(connector, world)
            done = await connector.replace(protect(message), "job:1", Journal())
            assert [stored.id for stored in world.all()] == [done.ref.id]

    asyncio.run(main())


@pytest.mark.parametrize("removal", ["trash", "delete"])
def test_killed_between_removing_and_recording_it_the_copy_stays(world: GoogleWorld, removal: str) -> None:
    world.delegate(removal=removal)

    async def main() -> None:
        async with world.connector(removal=removal) as connector:
            message = await fetched(connector, world)
            journal = Journal(removed=die)
            with killed():
                await connector.replace(protect(message), "job:1", journal)
            change = protect(message)
            if removal == "trash":  # a restarted application reads the original anew
                change = dataclasses.replace(change, original=await connector.fetch(message.ref))
                assert Trait.TRASH in change.original.traits
            done = await connector.replace(change, "job:1", Journal(), journal.last)
            assert [stored.id for stored in world.visible()] == [done.ref.id]

    asyncio.run(main())
