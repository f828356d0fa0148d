"""The copy on the emulated Gmail: never instead of nothing, never another one, with all its original had."""

from __future__ import annotations

import asyncio

import pytest

from connectors.base.errors import TooLarge, Unavailable, WriteNotVerified
from connectors.base.types import (
    BodyContent,
    MessageRef,
    MimeContent,
    Replacement,
    ReplaceState,
)
from connectors.emulators.common.faults import FaultKind
from connectors.google import errors
from tests.contract.connectors.harness import Journal, die
from tests.contract.connectors.harness_google import (
    ANNA,
    MAIL,
    GoogleWorld,
    fetched,
    killed,
    protect,
    protected,
)

WITHOUT_ID = MAIL.replace(b"Message-ID: <invoice-1@outside.example>\r\n", b"")
INSERT = r"/upload/gmail/v1/users/[^/]+/messages$"


def test_an_original_is_never_removed_without_its_copy(world: GoogleWorld) -> None:
    async def main() -> None:
        async with world.connector() as connector:
            message = await fetched(connector, world)
            steps: list[ReplaceState] = []

            def recorded_and_killed(state: ReplaceState) -> None:
                steps.append(state)
                die(state)

            with killed():
                await connector.replace(protect(message), "job:1", Journal(verified=recorded_and_killed))
            world.delete(steps[0].new_id)
            done = await connector.replace(protect(message), "job:1", Journal(), steps[0])
            [left] = world.visible()
            assert left.id == done.ref.id
            assert protected(MAIL) in left.raw

    asyncio.run(main())


def test_a_copy_that_came_out_wrong_is_withdrawn_and_the_original_kept(world: GoogleWorld) -> None:
    async def main() -> None:
        async with world.connector() as connector:
            message = await fetched(connector, world)

            def provider_alters_it(written: ReplaceState) -> None:
                with world.state.lock:
                    stored = world.state.mailbox(ANNA).messages[written.new_id]
                    stored.raw = stored.raw.replace(b"/TOKEN", b"/token")

            with pytest.raises(WriteNotVerified, match="moved to the trash"):
                await connector.replace(protect(message), "job:1", Journal(written=provider_alters_it))
            [left] = world.visible()
            assert left.id == message.ref.id
            assert left.labels == set(message.places)

    asyncio.run(main())


def test_mail_delivered_without_a_message_id_is_protected_like_any_other(world: GoogleWorld) -> None:
    async def main() -> None:
        async with world.connector() as connector:
            message = await fetched(connector, world, raw=WITHOUT_ID)
            done = await connector.replace(protect(message), "job:1", Journal())
            [left] = world.visible()
            assert left.id == done.ref.id
            assert left.thread_id == message.thread_id

    asyncio.run(main())


def test_a_copy_that_cannot_join_the_conversation_is_written_once_however_often_it_is_tried(
    world: GoogleWorld,
) -> None:
    async def main() -> None:
        async with world.connector() as connector:
            with world.state.lock:  # not delivered but put there, so that nobody gave it a Message-ID
                stored = world.state.mailbox(ANNA).add(WITHOUT_ID, ("INBOX", "UNREAD"), internal_ms=1_795_254_000_000)
            message = await connector.fetch(MessageRef(world.mailbox(), stored.id))
            last: ReplaceState | None = None
            for _ in range(3):
                journal = Journal()
                with pytest.raises(WriteNotVerified, match="another conversation"):
                    await connector.replace(protect(message), "job:1", journal, last)
                last = journal.last or last
            assert len(world.all()) == 2
            [left] = world.visible()
            assert left.id == stored.id
            assert left.labels == set(message.places)

    asyncio.run(main())


def test_a_copy_that_lost_a_label_gets_it_back(world: GoogleWorld) -> None:
    async def main() -> None:
        async with world.connector() as connector:
            message = await fetched(connector, world)
            await connector.replace(
                protect(message), "job:1", Journal(written=lambda state: world.relabel(state.new_id, remove=("INBOX",)))
            )
            [left] = world.visible()
            assert left.labels == set(message.places)

    asyncio.run(main())


def test_a_label_deleted_meanwhile_is_left_out(world: GoogleWorld) -> None:
    async def main() -> None:
        async with world.connector() as connector:
            box = world.state.mailbox(ANNA)
            label = box.labels.create({"name": "Short-lived"}).id
            message = await fetched(connector, world, labels=("INBOX", label))
            with world.state.lock:
                box.forget_label(label)
                box.labels.delete(label)
            await connector.replace(protect(message), "job:1", Journal())
            [left] = world.visible()
            assert left.labels == {"INBOX"}

    asyncio.run(main())


def test_classification_labels_stay_with_the_message(world: GoogleWorld) -> None:
    values = [{"labelId": "secret", "fields": [{"fieldId": "level", "selection": "high"}]}]

    async def main() -> None:
        async with world.connector() as connector:
            ref = world.deliver()
            world.all()[0].classification = values
            await connector.replace(protect(await connector.fetch(ref)), "job:1", Journal())
            [left] = world.visible()
            assert left.classification == values

    asyncio.run(main())


def test_another_message_of_the_conversation_is_not_mistaken_for_a_copy(world: GoogleWorld) -> None:
    reply = MAIL.replace(b"Subject: Your", b"References: <invoice-1@outside.example>\r\nSubject: Re: Your").replace(
        b"<invoice-1@outside.example>\r\nDate", b"<invoice-2@outside.example>\r\nDate"
    )

    async def main() -> None:
        async with world.connector() as connector:
            message = await fetched(connector, world)
            other = world.deliver(reply)
            done = await connector.replace(protect(message), "job:1", Journal())
            assert {stored.id for stored in world.visible()} == {other.id, done.ref.id}

    asyncio.run(main())


def test_a_forged_marker_does_not_pass_for_a_copy(world: GoogleWorld) -> None:
    async def main() -> None:
        async with world.connector() as connector:
            message = await fetched(connector, world)
            forged = f"X-Postern: v1; o={message.ref.id}; k=job:1; mac={'A' * 43}\r\n".encode() + MAIL
            with world.state.lock:
                world.state.mailbox(ANNA).add(
                    forged, ("INBOX",), internal_ms=world.all()[0].internal_ms, thread_id=message.thread_id
                )
            done = await connector.replace(protect(message), "job:1", Journal())
            assert done.ref.id in {stored.id for stored in world.visible()}
            assert len(world.visible()) == 2
            assert len(world.all()) == 3

    asyncio.run(main())


LARGE = MAIL + b"an attachment, as it were, of sixty-four characters in each line\r\n" * 90_000


def test_a_large_message_is_uploaded_in_a_session(world: GoogleWorld) -> None:
    async def main() -> None:
        async with world.connector() as connector:
            message = await fetched(connector, world, raw=LARGE)
            for kind in (FaultKind.TIMEOUT_BEFORE, FaultKind.UNAVAILABLE):
                world.fail(kind, INSERT, "POST")
            done = await connector.replace(protect(message), "job:1", Journal())
            copy = await connector.fetch(done.ref)
            assert copy.content == MimeContent(protected(LARGE))
            assert set(copy.places) == set(message.places)
            assert copy.thread_id == message.thread_id
            assert [stored.id for stored in world.visible()] == [done.ref.id]

    asyncio.run(main())


def test_a_large_message_whose_upload_got_no_answer_is_not_doubled(world: GoogleWorld) -> None:
    async def main() -> None:
        async with world.connector() as connector:
            message = await fetched(connector, world, raw=LARGE)
            world.fail(FaultKind.TIMEOUT_AFTER, INSERT, "PUT")
            with pytest.raises(Unavailable):
                await connector.replace(protect(message), "job:1", Journal())
            done = await connector.replace(protect(message), "job:1", Journal())
            assert [stored.id for stored in world.visible()] == [done.ref.id]
            assert len(world.all()) == 2

    asyncio.run(main())


def test_a_body_instead_of_a_message_is_refused(world: GoogleWorld) -> None:
    async def main() -> None:
        async with world.connector() as connector:
            message = await fetched(connector, world)
            with pytest.raises(TypeError):
                await connector.replace(Replacement(message, BodyContent("x", is_html=False)), "job:1", Journal())

    asyncio.run(main())


def test_a_message_over_the_limit_is_not_sent(world: GoogleWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(errors, "MAX_MESSAGE_BYTES", 300)

    async def main() -> None:
        async with world.connector() as connector:
            message = await fetched(connector, world)
            with pytest.raises(TooLarge):
                await connector.replace(protect(message), "job:1", Journal())
            assert len(world.all()) == 1

    asyncio.run(main())
