"""Quarantine and junk on the emulated Gmail, and the way back."""

from __future__ import annotations

import asyncio

import pytest

from connectors.base.types import (
    Place,
)
from tests.contract.connectors.harness_google import (
    ANNA,
    GoogleWorld,
)


def test_quarantine_and_junk_are_undone_with_all_labels(world: GoogleWorld) -> None:
    async def main() -> None:
        async with world.connector() as connector:
            label = world.state.mailbox(ANNA).labels.create({"name": "Work"}).id
            ref = world.deliver(labels=("INBOX", "UNREAD", "IMPORTANT", label))
            before = {"INBOX", "UNREAD", "IMPORTANT", label}
            for place in (Place.QUARANTINE, Place.JUNK):
                moved = await connector.move(ref, place)
                assert moved.ref == ref
                now = world.all()[0].labels
                assert "INBOX" not in now
                assert ("SPAM" in now) == (place is Place.JUNK)
                world.relabel(ref.id, remove=("UNREAD",))
                await connector.move_back(moved.ref, moved.undo)
                assert world.all()[0].labels == before

    asyncio.run(main())


def test_a_deleted_quarantine_label_is_made_anew(world: GoogleWorld) -> None:
    async def main() -> None:
        async with world.connector() as connector:
            first, second = world.deliver(), world.deliver()
            await connector.move(first, Place.QUARANTINE)
            box = world.state.mailbox(ANNA)
            with world.state.lock:
                label = next(item for item in box.labels.all() if item.name == "Postern quarantine").id
                box.forget_label(label)
                box.labels.delete(label)
            moved = await connector.move(second, Place.QUARANTINE)
            assert "INBOX" not in next(stored for stored in world.all() if stored.id == moved.ref.id).labels

    asyncio.run(main())


def test_nonsense_is_no_way_back(world: GoogleWorld) -> None:
    async def main() -> None:
        async with world.connector() as connector:
            ref = world.deliver()
            for undo in ("", "{}", '{"v": 1}', '{"v": 2, "labels": []}', '{"v": 1, "labels": [1]}', "[]"):
                with pytest.raises(ValueError, match="nothing was moved"):
                    await connector.move_back(ref, undo)

    asyncio.run(main())
