"""Insert, verify, remove: what can go wrong with it, on the emulated Gmail."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Coroutine
from typing import Any

import pytest

from connectors.base.errors import MessageGone, TooLarge, Transient, Unavailable, VersionConflict, WriteNotVerified
from connectors.base.types import (
    BodyContent,
    FetchedMessage,
    MessageRef,
    MimeContent,
    Place,
    Replacement,
    ReplaceState,
    ReplaceStep,
    Trait,
)
from connectors.emulators.common.faults import FaultKind
from connectors.emulators.google.behaviour import Deduplication
from connectors.google import errors
from connectors.google.connector import GoogleConnector
from tests.contract.connectors.harness import Journal, die
from tests.contract.connectors.harness_google import (
    ANNA,
    MAIL,
    GoogleWorld,
    killed,
    protected,
)

WITHOUT_ID = MAIL.replace(b"Message-ID: <invoice-1@outside.example>\r\n", b"")
INSERT = r"/upload/gmail/v1/users/[^/]+/messages$"


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    asyncio.run(coroutine)


async def fetched(connector: GoogleConnector, world: GoogleWorld, **options: Any) -> FetchedMessage:
    return await connector.fetch(world.deliver(**options))


def protect(message: FetchedMessage) -> Replacement:
    assert isinstance(message.content, MimeContent)
    return Replacement(message, MimeContent(protected(message.content.raw)))


def restore(message: FetchedMessage, raw: bytes = MAIL) -> Replacement:
    return Replacement(message, MimeContent(raw), mark=False)


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

    run(main())


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

    run(main())


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

    run(main())


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

    run(main())


def test_a_duplicate_of_a_third_message_is_not_taken_for_our_copy(world: GoogleWorld) -> None:
    async def main() -> None:
        async with world.connector() as connector:
            other = world.deliver(MAIL.replace(b"please pay", b"please do pay"))
            message = await fetched(connector, world)
            world.state.behaviour.deduplication = Deduplication.INSERT_AND_IMPORT
            with pytest.raises(WriteNotVerified, match="left where it is"):
                await connector.replace(protect(message), "protect:1", Journal())
            assert {stored.id for stored in world.visible()} == {other.id, message.ref.id}

    run(main())


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

    run(main())


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

    run(main())


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

    run(main())


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

    run(main())


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

    run(main())


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

    run(main())


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

    run(main())


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

    run(main())


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

    run(main())


def test_a_message_trashed_meanwhile_is_trashed_in_its_new_form(world: GoogleWorld) -> None:
    async def main() -> None:
        async with world.connector() as connector:
            message = await fetched(connector, world)

            def user_trashes(_: ReplaceState) -> None:
                world.relabel(message.ref.id, add=("TRASH",), remove=("INBOX",))

            await connector.replace(protect(message), "job:1", Journal(verified=user_trashes))
            assert world.visible() == []

    run(main())


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

    run(main())


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

    run(main())


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

    run(main())


def test_deleting_originals_for_good_leaves_only_the_copy(world: GoogleWorld) -> None:
    world.delegate(removal="delete")

    async def main() -> None:
        async with world.connector(removal="delete") as connector:
            message = await fetched(connector, world)
            done = await connector.replace(protect(message), "job:1", Journal())
            assert [stored.id for stored in world.all()] == [done.ref.id]

    run(main())


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

    run(main())


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

    run(main())


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

    run(main())


def test_mail_delivered_without_a_message_id_is_protected_like_any_other(world: GoogleWorld) -> None:
    async def main() -> None:
        async with world.connector() as connector:
            message = await fetched(connector, world, raw=WITHOUT_ID)
            done = await connector.replace(protect(message), "job:1", Journal())
            [left] = world.visible()
            assert left.id == done.ref.id
            assert left.thread_id == message.thread_id

    run(main())


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

    run(main())


def test_a_copy_that_lost_a_label_gets_it_back(world: GoogleWorld) -> None:
    async def main() -> None:
        async with world.connector() as connector:
            message = await fetched(connector, world)
            await connector.replace(
                protect(message), "job:1", Journal(written=lambda state: world.relabel(state.new_id, remove=("INBOX",)))
            )
            [left] = world.visible()
            assert left.labels == set(message.places)

    run(main())


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

    run(main())


def test_classification_labels_stay_with_the_message(world: GoogleWorld) -> None:
    values = [{"labelId": "secret", "fields": [{"fieldId": "level", "selection": "high"}]}]

    async def main() -> None:
        async with world.connector() as connector:
            ref = world.deliver()
            world.all()[0].classification = values
            await connector.replace(protect(await connector.fetch(ref)), "job:1", Journal())
            [left] = world.visible()
            assert left.classification == values

    run(main())


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

    run(main())


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

    run(main())


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

    run(main())


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

    run(main())


def test_a_body_instead_of_a_message_is_refused(world: GoogleWorld) -> None:
    async def main() -> None:
        async with world.connector() as connector:
            message = await fetched(connector, world)
            with pytest.raises(TypeError):
                await connector.replace(Replacement(message, BodyContent("x", is_html=False)), "job:1", Journal())

    run(main())


def test_a_message_over_the_limit_is_not_sent(world: GoogleWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(errors, "MAX_MESSAGE_BYTES", 300)

    async def main() -> None:
        async with world.connector() as connector:
            message = await fetched(connector, world)
            with pytest.raises(TooLarge):
                await connector.replace(protect(message), "job:1", Journal())
            assert len(world.all()) == 1

    run(main())


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

    run(main())


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

    run(main())


def test_nonsense_is_no_way_back(world: GoogleWorld) -> None:
    async def main() -> None:
        async with world.connector() as connector:
            ref = world.deliver()
            for undo in ("", "{}", '{"v": 1}', '{"v": 2, "labels": []}', '{"v": 1, "labels": [1]}', "[]"):
                with pytest.raises(ValueError, match="nothing was moved"):
                    await connector.move_back(ref, undo)

    run(main())
