"""Create, verify, remove: what can go wrong when a message of Microsoft 365 is replaced by a copy."""

from __future__ import annotations

import base64
import copy as copying
import dataclasses
import json
from email.message import EmailMessage
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response

from connectors.base.errors import (
    MessageGone,
    NotCopyable,
    PermissionMissing,
    TooLarge,
    Transient,
    Unavailable,
    VersionConflict,
    WriteNotVerified,
)
from connectors.base.types import (
    BodyContent,
    FetchedMessage,
    Mailbox,
    MessageRef,
    MimeContent,
    Place,
    Replacement,
    ReplaceState,
    ReplaceStep,
    Returned,
    Trait,
)
from connectors.emulators.common.faults import FaultKind, FaultRule
from connectors.emulators.microsoft import ids
from connectors.emulators.microsoft.model import Message
from connectors.microsoft import marks
from tests.contract.connectors.harness import (
    NEW_LINK,
    OLD_LINK,
    Call,
    Journal,
    Killed,
    Weather,
    die,
    mail,
    protect,
    restore,
)
from tests.contract.connectors.harness_microsoft import MicrosoftCopiesHarness, graph_that

PICTURE = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGNgYGBgAAAABQABpfZFQAAAAABJRU5ErkJggg=="
)


def everything(message: Message) -> dict[str, Any]:
    """What must be the same of an original and its copy."""
    names = "subject body_type sender from_ to cc bcc reply_to internet_message_id conversation_id importance"
    names += " categories flag inference is_read is_draft folder_id"
    found: dict[str, Any] = {name: getattr(message, name) for name in names.split()}
    found["times"] = [time.replace(microsecond=0) for time in (message.received_at, message.sent_at)]
    found["files"] = [
        (each.name, each.content_type, each.content, each.is_inline, each.content_id) for each in message.attachments
    ]
    return found


def visible(copies: MicrosoftCopiesHarness, mailbox: Mailbox) -> list[Message]:
    """Messages outside of the deleted items."""
    bin_id = copies.state.folder(mailbox.id, "deleteditems").id
    return [message for message in copies.state.messages_of(mailbox.id) if message.folder_id != bin_id]


def every(copies: MicrosoftCopiesHarness, mailbox: Mailbox) -> list[Message]:
    return copies.state.messages_of(mailbox.id)


def move(copies: MicrosoftCopiesHarness, ref: MessageRef, folder: str) -> None:
    """The owner moves a message."""
    copies.state.move(copies.message(ref), copies.state.folder(ref.mailbox.id, folder))


async def fetched(copies: MicrosoftCopiesHarness, raw: bytes | None = None, **options: Any) -> FetchedMessage:
    return await copies.connector.fetch(copies.deliver(copies.ada, raw or mail(), **options))


def rich_mail() -> bytes:
    """A reply with a picture that the text shows and a file."""
    message = EmailMessage()
    message["From"] = "Shop <news@shop.example>"
    message["Reply-To"] = "Desk <desk@shop.example>"
    message["To"] = "Ada <ada@reader.example>, Ben <ben@reader.example>"
    message["Cc"] = "cleo@reader.example"
    message["Subject"] = "Re: Your order"
    message["Message-ID"] = "<order-2@shop.example>"
    message["References"] = "<order-1@shop.example>"
    message["In-Reply-To"] = "<order-1@shop.example>"
    message["Importance"] = "high"
    message["List-Unsubscribe"] = "<https://shop.example/leave>"
    message["Date"] = "Sat, 21 Nov 2026 10:00:00 +0000"
    message.set_content(
        f'<html><body><img src="cid:logo@shop"><a href="{OLD_LINK.replace("&", "&amp;")}">look</a></body></html>',
        subtype="html",
    )
    message.add_related(PICTURE, "image", "png", cid="<logo@shop>", filename="logo.png")
    message.add_attachment(b"%PDF-1.4 an order", maintype="application", subtype="pdf", filename="order.pdf")
    return message.as_bytes()


async def test_a_copy_has_all_that_the_original_had_and_carries_our_marker(copies: MicrosoftCopiesHarness) -> None:
    message = await fetched(copies, rich_mail())
    stored = copies.message(message.ref)
    stored.categories, stored.flag, stored.inference = ["Red", "Shop"], "flagged", "other"
    copies.state.changed(stored)
    before, journal = everything(stored), Journal()

    done = await copies.connector.replace(protect(copies, message), "protect:1", journal)

    assert everything(copies.message(done.ref)) == before
    assert [state.step for state in journal.steps] == list(ReplaceStep)
    assert {state.new_id for state in journal.steps} == {done.ref.id}
    assert copies.place_of(message.ref) == "trash"
    copy = await copies.connector.fetch(done.ref)
    assert Trait.OWN_COPY in copy.traits
    assert copy.copy is not None
    assert copy.copy.original_id == message.ref.id
    assert copy.list_unsubscribe == "<https://shop.example/leave>"
    original = await copies.connector.fetch(message.ref)
    assert original.copy is None
    assert Trait.OWN_COPY not in original.traits


async def test_only_where_changing_is_refused_and_only_where_that_was_chosen(copies: MicrosoftCopiesHarness) -> None:
    refused = dataclasses.replace(protect(copies, await fetched(copies)), copy_if_refused=False)
    with pytest.raises(PermissionMissing):
        await copies.connector.replace(refused, "protect:1", Journal())
    assert len(every(copies, copies.ada)) == 1

    copies.grant_only("Mail.ReadWrite", "Mail-Advanced.ReadWrite.All", "User.Read.All")
    message = await fetched(copies)
    done = await copies.new_connector().replace(protect(copies, message), "protect:2", Journal())
    assert done.ref == message.ref
    assert len(every(copies, copies.ada)) == 2


async def test_after_a_refusal_changing_is_not_tried_for_every_message_but_again_with_the_permission(
    copies: MicrosoftCopiesHarness,
) -> None:
    patched: list[str] = []

    def count(request: Request) -> Response | None:
        if request.method == "PATCH":
            patched.append(request.url.path)
        return None

    with graph_that(copies.emulators.graph_url, count) as url:
        connector = copies.new_connector(graph_url=url)
        for number in range(3):
            ref = copies.deliver(copies.ada, mail(str(number)))
            copies.set_read(ref, True)  # a copy is created as read: nothing to set
            await connector.replace(protect(copies, await connector.fetch(ref)), f"protect:{number}", Journal())
        assert len(patched) == 1
        copies.grant_only("Mail.ReadWrite", "Mail-Advanced.ReadWrite.All", "User.Read.All")
        copies.expire_token(connector)
        ref = copies.deliver(copies.ada, mail("in place"))
        done = await connector.replace(protect(copies, await connector.fetch(ref)), "protect:9", Journal())
    assert done.ref == ref


async def test_a_body_that_exchange_normalises_is_verified_by_meaning(copies: MicrosoftCopiesHarness) -> None:
    copies.state.switches.exchange_html = True
    change = protect(copies, await fetched(copies))
    assert isinstance(change.content, BodyContent)
    untidy = BodyContent(change.content.content.replace("<p>", "<P  CLASS=x>"), is_html=True)

    done = await copies.connector.replace(dataclasses.replace(change, content=untidy), "protect:1", Journal())

    assert done.normalised
    assert done.content == (await copies.connector.fetch(done.ref)).content


async def test_what_exchange_refuses_to_be_set_is_left_out_of_every_copy(copies: MicrosoftCopiesHarness) -> None:
    copies.state.switches.creation_takes_times_only = True
    messages = [await fetched(copies, rich_mail()) for _ in range(2)]

    made = [
        await copies.connector.replace(protect(copies, message), f"protect:{number}", Journal())
        for number, message in enumerate(messages)
    ]

    for done, message in zip(made, messages, strict=True):
        assert copies.message(done.ref).received_at == copies.message(message.ref).received_at.replace(microsecond=0)
    assert {each.id for each in visible(copies, copies.ada)} == {done.ref.id for done in made}


async def test_a_draft_is_no_copy_of_received_mail(copies: MicrosoftCopiesHarness) -> None:
    copies.state.switches.creation_makes_drafts = True
    message = await fetched(copies)

    with pytest.raises(PermissionMissing, match="draft"):
        await copies.connector.replace(protect(copies, message), "protect:1", Journal())

    assert [each.id for each in visible(copies, copies.ada)] == [message.ref.id]


@pytest.mark.parametrize("mark", [True, False], ids=["protect", "restore"])
@pytest.mark.parametrize("step", list(ReplaceStep))
async def test_killed_right_after_any_step_and_run_again_there_is_one_message(
    copies: MicrosoftCopiesHarness, step: ReplaceStep, mark: bool
) -> None:
    message = await fetched(copies)
    change = dataclasses.replace(protect(copies, message), mark=mark)
    before = everything(copies.message(message.ref))
    with pytest.raises(Killed):
        await copies.connector.replace(change, "job:1", journal := Journal(**{step.value: die}))

    done = await copies.new_connector().replace(change, "job:1", again := Journal(), journal.last)

    [left] = visible(copies, copies.ada)
    assert left.id == done.ref.id
    assert everything(left) == before
    assert again.steps[-1].step is ReplaceStep.REMOVED
    assert len(every(copies, copies.ada)) == 2


@pytest.mark.parametrize("mark", [True, False], ids=["protect", "restore"])
async def test_a_creation_that_took_effect_without_an_answer_is_found_again(
    copies: MicrosoftCopiesHarness, mark: bool
) -> None:
    change = dataclasses.replace(protect(copies, await fetched(copies)), mark=mark)
    copies.make(Weather.TIMEOUT_AFTER, Call.WRITE_MESSAGE)
    with pytest.raises(Unavailable):
        await copies.connector.replace(change, "job:1", Journal())
    assert len(every(copies, copies.ada)) == 2

    done = await copies.new_connector().replace(change, "job:1", Journal())

    assert [each.id for each in visible(copies, copies.ada)] == [done.ref.id]
    assert len(every(copies, copies.ada)) == 2


async def test_a_copy_that_arrives_late_does_not_stay_beside_the_other(copies: MicrosoftCopiesHarness) -> None:
    change = protect(copies, await fetched(copies))
    copies.make(Weather.TIMEOUT_BEFORE, Call.WRITE_MESSAGE)
    with pytest.raises(Unavailable):
        await copies.connector.replace(change, "job:1", Journal())

    def first_creation_arrives(written: ReplaceState) -> None:
        late = copying.deepcopy(copies.message(MessageRef(copies.ada, written.new_id)))
        late.id = ids.new_message_id(copies.state.random)
        copies.state.add_message(late)

    done = await copies.connector.replace(change, "job:1", Journal(written=first_creation_arrives))

    assert len(every(copies, copies.ada)) == 3
    assert [each.id for each in visible(copies, copies.ada)] == [done.ref.id]


@pytest.mark.parametrize("recorded", [False, True])
async def test_a_copy_of_an_earlier_try_with_other_content_is_superseded(
    copies: MicrosoftCopiesHarness, recorded: bool
) -> None:
    change = protect(copies, await fetched(copies))
    moment = {"verified" if recorded else "written": die}
    with pytest.raises(Killed):
        await copies.connector.replace(change, "job:1", journal := Journal(**moment))
    assert isinstance(change.content, BodyContent)
    link = "https://gw.example/l/shop.example/OTHER"
    content = BodyContent(change.content.content.replace(NEW_LINK, link), is_html=True)
    other = dataclasses.replace(change, content=content, expected_links=(link,))

    done = await copies.connector.replace(other, "job:1", Journal(), journal.last)

    [left] = visible(copies, copies.ada)
    assert left.id == done.ref.id
    assert link in left.body


async def test_a_copy_that_was_thrown_away_never_takes_the_original_s_place(copies: MicrosoftCopiesHarness) -> None:
    change = protect(copies, await fetched(copies))
    with pytest.raises(Killed):
        await copies.connector.replace(change, "job:1", journal := Journal(verified=die))
    assert journal.last is not None
    move(copies, MessageRef(copies.ada, journal.last.new_id), "deleteditems")

    done = await copies.connector.replace(change, "job:1", Journal(), journal.last)

    assert done.ref.id != journal.last.new_id
    assert [each.id for each in visible(copies, copies.ada)] == [done.ref.id]


async def test_an_original_is_never_removed_without_its_copy(copies: MicrosoftCopiesHarness) -> None:
    change = protect(copies, await fetched(copies))
    steps: list[ReplaceState] = []

    def recorded_and_killed(state: ReplaceState) -> None:
        steps.append(state)
        die(state)

    with pytest.raises(Killed):
        await copies.connector.replace(change, "job:1", Journal(verified=recorded_and_killed))
    copies.delete(MessageRef(copies.ada, steps[0].new_id))

    done = await copies.connector.replace(change, "job:1", Journal(), steps[0])

    [left] = visible(copies, copies.ada)
    assert left.id == done.ref.id
    assert NEW_LINK in left.body


async def test_what_the_user_does_to_the_original_meanwhile_reaches_the_copy(copies: MicrosoftCopiesHarness) -> None:
    message = await fetched(copies)

    def user_reads_files_and_flags(_: ReplaceState) -> None:
        stored = copies.message(message.ref)
        stored.is_read, stored.flag, stored.categories, stored.importance = True, "complete", ["Done"], "low"
        copies.state.changed(stored)
        move(copies, message.ref, "archive")

    done = await copies.connector.replace(
        protect(copies, message), "job:1", Journal(verified=user_reads_files_and_flags)
    )

    left = copies.message(done.ref)
    assert (left.is_read, left.flag, left.categories, left.importance) == (True, "complete", ["Done"], "low")
    assert left.folder_id == copies.state.folder(copies.ada.id, "archive").id


async def test_what_was_done_to_either_before_the_restart_is_kept(copies: MicrosoftCopiesHarness) -> None:
    message = await fetched(copies)
    with pytest.raises(Killed):
        await copies.connector.replace(protect(copies, message), "job:1", journal := Journal(verified=die))
    assert journal.last is not None
    original, copy = copies.message(message.ref), copies.message(MessageRef(copies.ada, journal.last.new_id))
    original.categories, original.is_read, copy.categories, copy.flag = ["Red"], True, ["Blue"], "flagged"
    copies.state.changed(original)
    copies.state.changed(copy)

    await copies.new_connector().replace(protect(copies, message), "job:1", Journal(), journal.last)

    assert (set(copy.categories), copy.flag, copy.is_read) == ({"Red", "Blue"}, "flagged", True)


async def test_a_message_thrown_away_meanwhile_is_thrown_away_in_its_new_form(copies: MicrosoftCopiesHarness) -> None:
    message = await fetched(copies)

    await copies.connector.replace(
        protect(copies, message), "job:1", Journal(verified=lambda _: move(copies, message.ref, "deleteditems"))
    )

    assert visible(copies, copies.ada) == []
    assert len(every(copies, copies.ada)) == 2


async def test_a_message_deleted_meanwhile_takes_its_copy_along(copies: MicrosoftCopiesHarness) -> None:
    message = await fetched(copies)

    with pytest.raises(MessageGone):
        await copies.connector.replace(
            protect(copies, message), "job:1", Journal(verified=lambda _: copies.delete(message.ref))
        )

    assert visible(copies, copies.ada) == []


@pytest.mark.parametrize("folder", ["deleteditems", "junkemail"])
async def test_a_message_moved_away_before_the_write_is_left_alone(copies: MicrosoftCopiesHarness, folder: str) -> None:
    message = await fetched(copies)
    move(copies, message.ref, folder)

    with pytest.raises(VersionConflict):
        await copies.connector.replace(protect(copies, message), "job:1", Journal())

    assert len(every(copies, copies.ada)) == 1


async def test_a_body_that_somebody_else_changed_is_left_alone(copies: MicrosoftCopiesHarness) -> None:
    message = await fetched(copies)
    copies.edit(message.ref, "<p>edited</p>")

    with pytest.raises(VersionConflict):
        await copies.connector.replace(protect(copies, message), "job:1", Journal())

    assert [each.body for each in every(copies, copies.ada)] == ["<p>edited</p>"]


async def test_a_body_that_was_changed_in_place_before_the_permission_went_is_not_copied(
    copies: MicrosoftCopiesHarness,
) -> None:
    message = await fetched(copies)
    change = protect(copies, message)
    assert isinstance(change.content, BodyContent)
    copies.edit(message.ref, change.content.content)

    done = await copies.connector.replace(change, "job:1", journal := Journal())

    assert done.ref == message.ref
    assert [state.step for state in journal.steps] == [ReplaceStep.WRITTEN, ReplaceStep.VERIFIED]
    assert len(every(copies, copies.ada)) == 1


@pytest.mark.parametrize("what", ["body", "received", "attachment"])
async def test_a_copy_that_came_out_wrong_is_withdrawn_and_the_original_kept(
    copies: MicrosoftCopiesHarness, what: str
) -> None:
    message = await fetched(copies, rich_mail())

    def exchange_alters_it(written: ReplaceState) -> None:
        copy = copies.message(MessageRef(copies.ada, written.new_id))
        if what == "body":
            copy.body = copy.body.replace(NEW_LINK, "https://elsewhere.example/")
        elif what == "received":
            copy.received_at = copies.state.clock.now().replace(year=2030)
        else:
            copy.attachments.pop()
        copies.state.changed(copy)

    with pytest.raises(WriteNotVerified, match="moved to the deleted items"):
        await copies.connector.replace(protect(copies, message), "job:1", Journal(written=exchange_alters_it))

    [left] = visible(copies, copies.ada)
    assert left.id == message.ref.id


async def test_a_message_with_another_one_attached_is_not_copied(copies: MicrosoftCopiesHarness) -> None:
    outer = EmailMessage()
    outer["Message-ID"], outer["Subject"] = "<outer@shop.example>", "Fwd"
    outer.set_content(f'<a href="{OLD_LINK.replace("&", "&amp;")}">look</a>', subtype="html")
    inner = EmailMessage()
    inner["Subject"] = "inner"
    inner.set_content("hello")
    outer.add_attachment(inner)
    message = await fetched(copies, outer.as_bytes())

    with pytest.raises(NotCopyable):
        await copies.connector.replace(protect(copies, message), "job:1", Journal())

    assert len(every(copies, copies.ada)) == 1


async def test_attachments_that_do_not_fit_into_one_request_are_not_even_read(copies: MicrosoftCopiesHarness) -> None:
    big = EmailMessage()
    big["Message-ID"], big["Subject"] = "<big@shop.example>", "Big"
    big.set_content(f'<a href="{OLD_LINK.replace("&", "&amp;")}">look</a>', subtype="html")
    for number in range(2):
        big.add_attachment(b"x" * 1_700_000, maintype="application", subtype="zip", filename=f"{number}.zip")
    message = await fetched(copies, big.as_bytes())

    with pytest.raises(TooLarge):
        await copies.connector.replace(protect(copies, message), "job:1", Journal())

    assert len(every(copies, copies.ada)) == 1


async def test_mime_content_is_refused(copies: MicrosoftCopiesHarness) -> None:
    with pytest.raises(TypeError):
        await copies.connector.replace(Replacement(await fetched(copies), MimeContent(b"x")), "job:1", Journal())


# --- what lies in Recoverable Items was deleted, though its id may go on to work ------------------------------


async def test_a_message_deleted_softly_before_the_write_is_not_brought_back(copies: MicrosoftCopiesHarness) -> None:
    message = await fetched(copies)
    move(copies, message.ref, "recoverableitemsdeletions")

    with pytest.raises(MessageGone):
        await copies.connector.replace(protect(copies, message), "job:1", Journal())

    assert every(copies, copies.ada) == []


async def test_a_message_deleted_softly_meanwhile_takes_its_copy_along_and_stays_deleted(
    copies: MicrosoftCopiesHarness,
) -> None:
    message = await fetched(copies)

    def user_deletes(_: ReplaceState) -> None:
        move(copies, message.ref, "recoverableitemsdeletions")

    with pytest.raises(MessageGone):
        await copies.connector.replace(protect(copies, message), "job:1", Journal(verified=user_deletes))

    assert visible(copies, copies.ada) == []
    hidden = copies.state.folder(copies.ada.id, "recoverableitemsdeletions")
    assert copies.message(message.ref).folder_id == hidden.id


async def test_an_original_that_was_emptied_out_of_the_bin_is_brought_back_while_it_can_be(
    copies: MicrosoftCopiesHarness,
) -> None:
    original, copy = await protected_copy(copies)
    move(copies, original, "recoverableitemsdeletions")
    assert await copies.connector.remove_again(original, copy.ref) is Returned.AWAY

    done = await copies.connector.replace(restore(copies, copy), "restore:1", Journal())

    assert done.ref == original
    assert [each.id for each in visible(copies, copies.ada)] == [original.id]


# --- the choice is taken back half way -----------------------------------------------------------------------


@pytest.mark.parametrize("recorded", [False, True])
async def test_a_copy_that_was_begun_is_finished_where_it_is_known_and_else_withdrawn(
    copies: MicrosoftCopiesHarness, recorded: bool
) -> None:
    change = protect(copies, await fetched(copies))
    with pytest.raises(Killed):
        moment = {"verified" if recorded else "written": die}
        await copies.connector.replace(change, "job:1", journal := Journal(**moment))
    forbidden = dataclasses.replace(change, copy_if_refused=False)

    if recorded:
        done = await copies.new_connector().replace(forbidden, "job:1", Journal(), journal.last)
        assert [each.id for each in visible(copies, copies.ada)] == [done.ref.id]
        return
    with pytest.raises(PermissionMissing):
        await copies.new_connector().replace(forbidden, "job:1", Journal(), journal.last)
    assert [each.id for each in visible(copies, copies.ada)] == [change.original.ref.id]


async def test_no_other_copy_is_made_for_one_that_is_gone(copies: MicrosoftCopiesHarness) -> None:
    change = protect(copies, await fetched(copies))
    with pytest.raises(Killed):
        await copies.connector.replace(change, "job:1", journal := Journal(verified=die))
    assert journal.last is not None
    copies.delete(MessageRef(copies.ada, journal.last.new_id))

    with pytest.raises(PermissionMissing):
        forbidden = dataclasses.replace(change, copy_if_refused=False)
        await copies.new_connector().replace(forbidden, "job:1", Journal(), journal.last)

    assert [each.id for each in every(copies, copies.ada)] == [change.original.ref.id]


# --- markers -------------------------------------------------------------------------------------------------


async def test_a_forged_marker_does_not_pass_for_a_copy(copies: MicrosoftCopiesHarness) -> None:
    message = await fetched(copies)
    forged = copies.message(copies.deliver(copies.ada, mail()))
    forged.extended = {marks.COPY: "a" * 64, marks.ORIGINAL: message.ref.id, marks.WRITE: "0" * 16}
    assert (await copies.connector.fetch(MessageRef(copies.ada, forged.id))).copy is None

    done = await copies.connector.replace(protect(copies, message), "job:1", Journal())

    assert {each.id for each in visible(copies, copies.ada)} == {forged.id, done.ref.id}


async def test_a_marker_of_another_mailbox_does_not_pass_for_a_copy(copies: MicrosoftCopiesHarness) -> None:
    done = await copies.connector.replace(protect(copies, await fetched(copies)), "job:1", Journal())
    theirs = copies.message(copies.deliver(copies.ben, mail()))
    theirs.extended = dict(copies.message(done.ref).extended)

    assert (await copies.connector.fetch(MessageRef(copies.ben, theirs.id))).copy is None


# --- restoring -----------------------------------------------------------------------------------------------


async def protected_copy(copies: MicrosoftCopiesHarness) -> tuple[MessageRef, FetchedMessage]:
    """The original's place and the copy that stands for it."""
    message = await fetched(copies)
    done = await copies.connector.replace(protect(copies, message), "protect:1", Journal())
    return message.ref, await copies.connector.fetch(done.ref)


@pytest.mark.parametrize("step", list(ReplaceStep))
async def test_killed_while_restoring_the_original_comes_back_once(
    copies: MicrosoftCopiesHarness, step: ReplaceStep
) -> None:
    original, copy = await protected_copy(copies)
    copies.set_read(copy.ref, True)
    change = restore(copies, copy)
    with pytest.raises(Killed):
        await copies.connector.replace(change, "restore:1", journal := Journal(**{step.value: die}))

    done = await copies.new_connector().replace(change, "restore:1", again := Journal(), journal.last)

    assert done.ref == original
    [left] = visible(copies, copies.ada)
    assert (left.id, left.is_read) == (original.id, True)
    assert again.steps[-1] == ReplaceState(ReplaceStep.REMOVED, original.id, done.version)
    assert len(every(copies, copies.ada)) == 2


@pytest.mark.parametrize("weather", list(Weather))
async def test_bad_weather_while_restoring_loses_and_doubles_nothing(
    copies: MicrosoftCopiesHarness, weather: Weather
) -> None:
    original, copy = await protected_copy(copies)
    kinds = {
        Weather.THROTTLED: FaultKind.THROTTLE,
        Weather.UNAVAILABLE: FaultKind.UNAVAILABLE,
        Weather.TIMEOUT_BEFORE: FaultKind.TIMEOUT_BEFORE,
        Weather.TIMEOUT_AFTER: FaultKind.TIMEOUT_AFTER,
    }
    rule = FaultRule(kinds[weather], r"/messages/[^/]+/move$", "POST", limit=2, retry_after=0.01)
    copies.emulators.world.faults.add(rule)
    state: ReplaceState | None = None
    for _ in range(20):
        journal = Journal()
        try:
            done = await copies.connector.replace(restore(copies, copy), "restore:1", journal, state)
            break
        except Transient:
            state = journal.last or state
    else:
        raise AssertionError("restoring never got through")

    assert done.ref == original
    assert [each.id for each in visible(copies, copies.ada)] == [original.id]


async def test_where_the_original_was_edited_in_the_bin_a_copy_gives_the_links_back(
    copies: MicrosoftCopiesHarness,
) -> None:
    original, copy = await protected_copy(copies)
    copies.edit(original, "<p>edited</p>")

    done = await copies.connector.replace(restore(copies, copy), "restore:1", Journal())

    assert done.ref not in (original, copy.ref)
    [left] = visible(copies, copies.ada)
    assert left.id == done.ref.id
    assert OLD_LINK.split("?")[0] in left.body
    assert not any("Postern" in name for name in left.extended)


async def test_a_message_changed_in_place_is_restored_by_a_copy_once_that_is_refused(
    copies: MicrosoftCopiesHarness,
) -> None:
    copies.grant_only("Mail.ReadWrite", "Mail-Advanced.ReadWrite.All", "User.Read.All")
    message = await fetched(copies)
    await copies.new_connector().replace(protect(copies, message), "protect:1", Journal())
    copies.grant_only("Mail.ReadWrite", "User.Read.All")
    connector = copies.new_connector()

    done = await connector.replace(restore(copies, await connector.fetch(message.ref)), "restore:1", Journal())

    assert done.ref != message.ref
    [left] = visible(copies, copies.ada)
    assert left.id == done.ref.id
    assert OLD_LINK.split("?")[0] in left.body


# --- originals that come back, quarantine --------------------------------------------------------------------


async def test_an_original_taken_out_of_the_bin_goes_back_while_its_copy_stands(copies: MicrosoftCopiesHarness) -> None:
    original, copy = await protected_copy(copies)
    assert await copies.connector.remove_again(original, copy.ref) is Returned.AWAY
    move(copies, original, "inbox")
    assert await copies.connector.remove_again(original, copy.ref) is Returned.REMOVED
    assert copies.place_of(original) == "trash"
    move(copies, original, "inbox")
    move(copies, copy.ref, "deleteditems")
    assert await copies.connector.remove_again(original, copy.ref) is Returned.ALONE
    copies.delete(copy.ref)
    assert await copies.connector.remove_again(original, copy.ref) is Returned.ALONE
    copies.delete(original)
    assert await copies.connector.remove_again(original, copy.ref) is Returned.AWAY


async def test_a_copy_in_quarantine_is_restored_there_and_released(copies: MicrosoftCopiesHarness) -> None:
    original, copy = await protected_copy(copies)
    moved = await copies.connector.move(copy.ref, Place.QUARANTINE)

    done = await copies.connector.replace(
        restore(copies, await copies.connector.fetch(moved.ref)), "restore:1", Journal()
    )

    assert done.ref == original
    assert copies.place_of(original) == "quarantine"
    assert copies.place_of(copy.ref) == "trash"
    back = await copies.connector.move_back(done.ref, moved.undo)
    assert copies.place_of(back) == "inbox"


async def test_discarding_twice_is_discarding_once(copies: MicrosoftCopiesHarness) -> None:
    ref = copies.deliver(copies.ada, mail())
    for _ in range(2):
        await copies.connector.discard(ref)
        assert copies.place_of(ref) == "trash"
    copies.delete(ref)
    await copies.connector.discard(ref)


# --- the request itself --------------------------------------------------------------------------------------


async def test_the_request_that_creates_a_copy_is_one_that_the_sdk_s_models_know(
    copies: MicrosoftCopiesHarness,
) -> None:
    from kiota_serialization_json.json_parse_node import JsonParseNode
    from msgraph.generated.models.file_attachment import FileAttachment
    from msgraph.generated.models.message import Message as SdkMessage

    sent: list[dict[str, Any]] = []
    message = await fetched(copies, rich_mail())
    create = copies.connector._client.requests.create_message
    made = create("ada", "inbox", {"subject": "x"})
    assert (made.method, made.path) == ("POST", "/users/ada/mailFolders/inbox/messages")
    assert json.loads(made.content or b"") == {"subject": "x"}

    def keep(user: str, folder: str, document: dict[str, Any]) -> Any:
        sent.append(document)
        return create(user, folder, document)

    requests = copies.connector._client.requests
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(requests, "create_message", keep)
        await copies.connector.replace(protect(copies, message), "job:1", Journal())

    [document] = sent
    parsed = JsonParseNode(document).get_object_value(SdkMessage)
    assert parsed.internet_message_id == "<order-2@shop.example>"
    assert [each.email_address and each.email_address.address for each in parsed.reply_to or ()] == [
        "desk@shop.example"
    ]
    assert all(isinstance(each, FileAttachment) for each in parsed.attachments or ())
    assert not parsed.additional_data
    assert {each.id for each in parsed.single_value_extended_properties or ()} >= {
        "Integer 0x0E07",
        "SystemTime 0x0E06",
        "SystemTime 0x0039",
        marks.COPY,
        marks.ORIGINAL,
        marks.WRITE,
    }
