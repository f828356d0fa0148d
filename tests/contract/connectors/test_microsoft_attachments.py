"""Graph: a file attachment is put in another's place, each exactly once, whatever breaks off in between."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from email.message import EmailMessage

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from connectors.base.errors import (
    ConnectorError,
    MailboxOutOfScope,
    MessageGone,
    Transient,
    Unavailable,
    WriteNotVerified,
)
from connectors.base.types import AttachedFile, AttachmentStep, AttachmentSwap, CheckStatus, MessageRef, SwapOutcome
from connectors.emulators.common.faults import FaultKind, FaultRule
from tests.contract.connectors.harness import Killed
from tests.contract.connectors.harness_microsoft import MicrosoftHarness, graph_that

OLD = b"\x89PNG the picture as it came" * 40
NEW = b"\x89PNG the picture as it is to be" * 50
OTHER = b"%PDF-1.7 an invoice"
ADD = ("POST", r"/messages/[^/]+/attachments$")
REMOVE = ("DELETE", r"/messages/[^/]+/attachments/[^/]+$")
READ = ("GET", r"/messages/[^/]+/attachments/[^/]+$")
LIST = ("GET", r"/messages/[^/]+/attachments$")

Seen = list[tuple[str, str, str | None, bool, bytes]]


def letter(*, inline: bool = True, copies: int = 1) -> bytes:
    made = EmailMessage()
    made["From"], made["To"], made["Subject"] = "a@sender.example", "ada@reader.example", "Your parcel"
    made["Message-ID"] = "<parcel@sender.example>"
    made.set_content('<p>Scan <img src="cid:qr@x"></p>', subtype="html")
    for _ in range(copies):
        if inline:
            made.add_related(OLD, "image", "png", cid="<qr@x>", filename="qr code ü.png")
        else:
            made.add_attachment(OLD, "image", "png", filename="qr code ü.png")
    made.add_attachment(OTHER, "application", "pdf", filename="invoice.pdf")
    return made.as_bytes()


def seen(harness: MicrosoftHarness, ref: MessageRef) -> Seen:
    """What is attached, as the mailbox has it, in no order."""
    stored = harness.message(ref).attachments
    return sorted((a.name, a.content_type, a.content_id, a.is_inline, a.content) for a in stored)


def with_content(before: Seen, content: bytes) -> Seen:
    return sorted((*entry[:4], content) if entry[4] == OLD else entry for entry in before)


async def swap_of(harness: MicrosoftHarness, ref: MessageRef, content: bytes = NEW) -> AttachmentSwap:
    """The swap of the first picture, as the application makes it from what it has read."""
    message = await harness.connector.fetch(ref)
    picture = next(each for each in message.attached if each.content_type == "image/png")
    file = await harness.connector.read_attached(ref, picture.id)
    return replacing(file, content, picture.id)


def replacing(file: AttachedFile, content: bytes, old_id: str = "") -> AttachmentSwap:
    new = AttachedFile(file.name, file.content_type, file.content_id, file.is_inline, content)
    return AttachmentSwap(new, hashlib.sha256(file.content).digest(), old_id)


class Steps:
    """Records; may do something before a step is durable."""

    def __init__(self, **before: Callable[[], None]) -> None:
        self.steps: list[tuple[int, AttachmentStep]] = []
        self._before = before

    async def __call__(self, number: int, step: AttachmentStep) -> None:
        act = self._before.get(step.value)
        if act is not None:
            act()
        self.steps.append((number, step))


def die() -> None:
    raise Killed


@pytest.mark.parametrize("inline", [True, False], ids=["inline", "attached"])
async def test_the_new_one_has_the_place_of_the_old_one_and_nothing_else_changes(
    microsoft: MicrosoftHarness, inline: bool
) -> None:
    ref = microsoft.deliver(microsoft.ada, letter(inline=inline))
    before, body = seen(microsoft, ref), microsoft.message(ref).body
    steps = Steps()

    done = await microsoft.connector.swap_attachments(ref, [await swap_of(microsoft, ref)], steps)

    assert done.outcomes == (SwapOutcome.DONE,)
    assert done.reason == ""
    assert seen(microsoft, ref) == with_content(before, NEW)
    assert microsoft.message(ref).body == body
    assert steps.steps == [(0, AttachmentStep.ADDED), (0, AttachmentStep.VERIFIED), (0, AttachmentStep.REMOVED)]
    assert await microsoft.connector.attachments_fixed() == ""


async def test_asked_again_it_does_nothing_twice(microsoft: MicrosoftHarness) -> None:
    ref = microsoft.deliver(microsoft.ada, letter())
    swap = await swap_of(microsoft, ref)
    await microsoft.connector.swap_attachments(ref, [swap], Steps())
    change = microsoft.message(ref).change
    steps = Steps()

    done = await microsoft.connector.swap_attachments(ref, [swap], steps)

    assert done.outcomes == (SwapOutcome.DONE,)
    assert steps.steps == []
    assert microsoft.message(ref).change == change


async def test_swapped_back_the_message_has_what_it_had(microsoft: MicrosoftHarness) -> None:
    ref = microsoft.deliver(microsoft.ada, letter())
    before = seen(microsoft, ref)
    swap = await swap_of(microsoft, ref)
    await microsoft.connector.swap_attachments(ref, [swap], Steps())

    back = replacing(swap.file, OLD)
    done = await microsoft.connector.swap_attachments(ref, [back], Steps())

    assert done.outcomes == (SwapOutcome.DONE,)
    assert seen(microsoft, ref) == before


async def test_a_file_attached_twice_is_swapped_twice(microsoft: MicrosoftHarness) -> None:
    ref = microsoft.deliver(microsoft.ada, letter(inline=False, copies=2))
    before = seen(microsoft, ref)
    swap = await swap_of(microsoft, ref)

    done = await microsoft.connector.swap_attachments(ref, [replacing(swap.file, NEW)], Steps())
    assert done.outcomes == (SwapOutcome.ABSENT,)  # nothing with that content to replace

    ids = [a.id for a in (await microsoft.connector.fetch(ref)).attached if a.content_type == "image/png"]
    both = [AttachmentSwap(swap.file, swap.old_sha256, each) for each in ids]
    done = await microsoft.connector.swap_attachments(ref, both, Steps())

    assert done.outcomes == (SwapOutcome.DONE, SwapOutcome.DONE)
    assert seen(microsoft, ref) == with_content(before, NEW)


@pytest.mark.parametrize("moment", [step.value for step in AttachmentStep if step is not AttachmentStep.WITHDRAWN])
async def test_after_a_kill_at_any_step_the_next_try_ends_with_each_once(
    microsoft: MicrosoftHarness, moment: str
) -> None:
    ref = microsoft.deliver(microsoft.ada, letter())
    before = seen(microsoft, ref)
    swap = await swap_of(microsoft, ref)
    with pytest.raises(Killed):
        await microsoft.connector.swap_attachments(ref, [swap], Steps(**{moment: die}))
    contents = [entry[4] for entry in seen(microsoft, ref)]
    assert OLD in contents or NEW in contents
    assert OTHER in contents

    done = await microsoft.new_connector().swap_attachments(ref, [swap], Steps())

    assert done.outcomes == (SwapOutcome.DONE,)
    assert seen(microsoft, ref) == with_content(before, NEW)


@pytest.mark.parametrize("moment", ["added", "verified"])
async def test_what_was_begun_is_ended_without_knowing_what_was_added(microsoft: MicrosoftHarness, moment: str) -> None:
    ref = microsoft.deliver(microsoft.ada, letter())
    before = seen(microsoft, ref)
    swap = await swap_of(microsoft, ref)
    empty = AttachedFile(swap.file.name, swap.file.content_type, swap.file.content_id, swap.file.is_inline, b"")
    finish = AttachmentSwap(empty, swap.old_sha256, finish_sha256=hashlib.sha256(NEW).digest())
    assert (await microsoft.connector.swap_attachments(ref, [finish], Steps())).outcomes == (SwapOutcome.ABSENT,)
    assert seen(microsoft, ref) == before
    with pytest.raises(Killed):
        await microsoft.connector.swap_attachments(ref, [swap], Steps(**{moment: die}))

    done = await microsoft.connector.swap_attachments(ref, [finish], Steps())

    assert done.outcomes == (SwapOutcome.DONE,)
    assert seen(microsoft, ref) == with_content(before, NEW)


@pytest.mark.parametrize("call", [ADD, REMOVE, READ, LIST], ids=["add", "remove", "read", "list"])
@pytest.mark.parametrize(
    "kind", [FaultKind.THROTTLE, FaultKind.UNAVAILABLE, FaultKind.TIMEOUT_BEFORE, FaultKind.TIMEOUT_AFTER]
)
async def test_whatever_the_weather_each_is_there_once_in_the_end(
    microsoft: MicrosoftHarness, call: tuple[str, str], kind: FaultKind
) -> None:
    ref = microsoft.deliver(microsoft.ada, letter())
    before = seen(microsoft, ref)
    swap = await swap_of(microsoft, ref)
    microsoft.emulators.world.faults.add(FaultRule(kind, call[1], call[0], limit=1, retry_after=0.05))

    for _ in range(3):
        try:
            done = await microsoft.connector.swap_attachments(ref, [swap], Steps())
        except Transient:
            contents = [entry[4] for entry in seen(microsoft, ref)]
            assert OLD in contents or NEW in contents
            continue
        break
    else:
        pytest.fail("it came to no end")

    assert done.outcomes == (SwapOutcome.DONE,)
    assert seen(microsoft, ref) == with_content(before, NEW)
    assert await microsoft.connector.attachments_fixed() == ""


async def test_where_received_mail_takes_no_attachment_nothing_changes_and_no_second_one_is_tried(
    microsoft: MicrosoftHarness,
) -> None:
    microsoft.state.switches.attachments_to_received = False
    first, second = (microsoft.deliver(microsoft.ada, letter()) for _ in range(2))
    before, change = seen(microsoft, first), microsoft.message(first).change
    steps = Steps()

    done = await microsoft.connector.swap_attachments(first, [await swap_of(microsoft, first)], steps)

    assert done.outcomes == (SwapOutcome.REFUSED,)
    assert "403" in done.reason and "stay as they are" in done.reason
    assert await microsoft.connector.attachments_fixed() == done.reason
    assert (seen(microsoft, first), microsoft.message(first).change, steps.steps) == (before, change, [])
    assert seen(microsoft, second) == before


async def test_a_refusal_holds_an_hour_and_only_for_the_same_permissions(microsoft: MicrosoftHarness) -> None:
    microsoft.state.switches.attachments_to_received = False
    ref = microsoft.deliver(microsoft.ada, letter())
    connector = microsoft.connector
    client = connector._client
    swap = await swap_of(microsoft, ref)
    await connector.swap_attachments(ref, [swap], Steps())
    assert await connector.attachments_fixed() != ""

    microsoft.may_read_groups()
    await client.fresh_token()
    assert await connector.attachments_fixed() == ""  # another set of permissions: to be found out anew

    await connector.swap_attachments(ref, [swap], Steps())
    assert await connector.attachments_fixed() != ""
    at = client.now() + 3_601.0
    client._clock = lambda: at
    assert await connector.attachments_fixed() == ""


async def test_one_message_that_takes_no_attachment_does_not_stop_the_tenant(microsoft: MicrosoftHarness) -> None:
    fine, odd = (microsoft.deliver(microsoft.ada, letter()) for _ in range(2))
    before = seen(microsoft, odd)
    swaps = {ref: await swap_of(microsoft, ref) for ref in (fine, odd)}
    await microsoft.connector.swap_attachments(fine, [swaps[fine]], Steps())
    microsoft.state.switches.attachments_to_received = False

    done = await microsoft.connector.swap_attachments(odd, [swaps[odd]], Steps())

    assert done.outcomes == (SwapOutcome.REFUSED,)
    assert seen(microsoft, odd) == before
    assert await microsoft.connector.attachments_fixed() == ""


async def test_what_comes_back_otherwise_than_given_is_taken_away_again(microsoft: MicrosoftHarness) -> None:
    microsoft.state.switches.attachments_keep_identity = False
    ref = microsoft.deliver(microsoft.ada, letter())
    before = seen(microsoft, ref)
    steps = Steps()

    done = await microsoft.connector.swap_attachments(ref, [await swap_of(microsoft, ref)], steps)

    assert done.outcomes == (SwapOutcome.REFUSED,)
    assert "content id, inline flag" in done.reason
    assert seen(microsoft, ref) == before
    assert steps.steps == [(0, AttachmentStep.ADDED), (0, AttachmentStep.WITHDRAWN)]
    assert await microsoft.connector.attachments_fixed() == done.reason


async def test_where_the_old_one_cannot_go_and_neither_the_new_one_it_is_said(microsoft: MicrosoftHarness) -> None:
    microsoft.state.switches.attachments_from_received = False
    ref = microsoft.deliver(microsoft.ada, letter())

    with pytest.raises(WriteNotVerified, match="shown twice"):
        await microsoft.connector.swap_attachments(ref, [await swap_of(microsoft, ref)], Steps())


async def test_where_the_old_one_cannot_go_the_new_one_goes_again(microsoft: MicrosoftHarness) -> None:
    ref = microsoft.deliver(microsoft.ada, letter())
    before = seen(microsoft, ref)
    swap = await swap_of(microsoft, ref)

    def keep_the_old_one(request: Request) -> Response | None:
        if request.method == "DELETE" and request.url.path.endswith(swap.old_id):
            return JSONResponse({"error": {"code": "ErrorAccessDenied", "message": "Access is denied."}}, 403)
        return None

    with graph_that(microsoft.emulators.graph_url, keep_the_old_one) as url:
        done = await microsoft.new_connector(graph_url=url).swap_attachments(ref, [swap], Steps())

    assert done.outcomes == (SwapOutcome.REFUSED,)
    assert seen(microsoft, ref) == before


async def test_an_attachment_that_is_removed_only_in_words_is_noticed(microsoft: MicrosoftHarness) -> None:
    ref = microsoft.deliver(microsoft.ada, letter())
    swap = await swap_of(microsoft, ref)

    def say_so(request: Request) -> Response | None:
        return Response(status_code=204) if request.method == "DELETE" else None

    with (
        graph_that(microsoft.emulators.graph_url, say_so) as url,
        pytest.raises(WriteNotVerified, match="still lists it"),
    ):
        await microsoft.new_connector(graph_url=url).swap_attachments(ref, [swap], Steps())


async def test_a_mailbox_out_of_reach_is_no_word_about_attachments(microsoft: MicrosoftHarness) -> None:
    ref = microsoft.deliver(microsoft.ada, letter())
    swap = await swap_of(microsoft, ref)
    microsoft.tenant.mailbox_scope = [microsoft.ben.id]

    with pytest.raises(MailboxOutOfScope):
        await microsoft.connector.swap_attachments(ref, [swap], Steps())
    assert await microsoft.connector.attachments_fixed() == ""


async def test_a_message_that_was_deleted_meanwhile_is_gone(microsoft: MicrosoftHarness) -> None:
    ref = microsoft.deliver(microsoft.ada, letter())
    swap = await swap_of(microsoft, ref)
    microsoft.delete(ref)
    with pytest.raises(MessageGone):
        await microsoft.connector.swap_attachments(ref, [swap], Steps())


async def test_an_attachment_that_the_reader_removed_stays_away(microsoft: MicrosoftHarness) -> None:
    ref = microsoft.deliver(microsoft.ada, letter())
    swap = await swap_of(microsoft, ref)
    message = microsoft.message(ref)
    microsoft.state.remove_attachment(message, next(a for a in message.attachments if a.content == OLD))

    done = await microsoft.connector.swap_attachments(ref, [swap], Steps())

    assert done.outcomes == (SwapOutcome.ABSENT,)
    assert [entry[4] for entry in seen(microsoft, ref)] == [OTHER]


async def test_a_file_of_three_megabytes_is_refused_by_itself(microsoft: MicrosoftHarness) -> None:
    ref = microsoft.deliver(microsoft.ada, letter())
    before = seen(microsoft, ref)

    done = await microsoft.connector.swap_attachments(ref, [await swap_of(microsoft, ref, b"x" * 3_000_000)], Steps())

    assert done.outcomes == (SwapOutcome.REFUSED,)
    assert "3 MB" in done.reason
    assert seen(microsoft, ref) == before
    assert await microsoft.connector.attachments_fixed() == ""


async def test_two_who_do_the_same_leave_one(microsoft: MicrosoftHarness) -> None:
    ref = microsoft.deliver(microsoft.ada, letter())
    before = seen(microsoft, ref)
    swap = await swap_of(microsoft, ref)
    message = microsoft.message(ref)

    class TakenOver(ConnectorError):
        pass

    def other_was_faster() -> None:
        """The other one has finished: its attachment lies before ours, and the old one is gone."""
        ours = message.attachments[-1]
        theirs = type(ours)(
            "theirs", ours.name, ours.content_type, ours.content, ours.is_inline, ours.content_id, ours.modified_at
        )
        message.attachments[:] = [a for a in message.attachments if a.content == OTHER] + [theirs, ours]
        raise TakenOver

    with pytest.raises(TakenOver):
        await microsoft.connector.swap_attachments(ref, [swap], Steps(added=other_was_faster))

    assert seen(microsoft, ref) == with_content(before, NEW)
    assert "theirs" in [a.id for a in message.attachments]


async def test_the_access_check_tells_what_was_found_out_and_never_fails(microsoft: MicrosoftHarness) -> None:
    async def check() -> CheckStatus:
        (found,) = [each for each in await microsoft.connector.check_access() if each.key == "attachments"]
        return found.status

    assert await check() is CheckStatus.SKIPPED
    microsoft.state.switches.attachments_to_received = False
    ref = microsoft.deliver(microsoft.ada, letter())
    await microsoft.connector.swap_attachments(ref, [await swap_of(microsoft, ref)], Steps())
    assert await check() is CheckStatus.UNKNOWN
    microsoft.state.switches.attachments_to_received = True
    await microsoft.connector.swap_attachments(ref, [await swap_of(microsoft, ref)], Steps())
    assert await check() is CheckStatus.PASSED
    assert await microsoft.connector.attachments_fixed() == ""


@pytest.mark.parametrize("call", [ADD, REMOVE], ids=["add", "remove"])
async def test_a_write_that_never_gets_an_answer_counts_as_refused_in_the_end(
    microsoft: MicrosoftHarness, call: tuple[str, str]
) -> None:
    ref = microsoft.deliver(microsoft.ada, letter())
    before = seen(microsoft, ref)
    swap = await swap_of(microsoft, ref)
    microsoft.emulators.world.faults.add(FaultRule(FaultKind.TIMEOUT_BEFORE, call[1], call[0], limit=None))

    for _ in range(4):
        with pytest.raises(Unavailable):
            await microsoft.connector.swap_attachments(ref, [swap], Steps())
    if call is ADD:
        done = await microsoft.connector.swap_attachments(ref, [swap], Steps())
        assert done.outcomes == (SwapOutcome.REFUSED,)
        assert seen(microsoft, ref) == before
        assert "5 times no answer" in await microsoft.connector.attachments_fixed()
    else:
        with pytest.raises(WriteNotVerified, match="shown twice"):  # nothing can be removed any more
            await microsoft.connector.swap_attachments(ref, [swap], Steps())
        microsoft.clear()
        done = await microsoft.connector.swap_attachments(ref, [swap], Steps())
        assert done.outcomes == (SwapOutcome.DONE,)
        assert seen(microsoft, ref) == with_content(before, NEW)
