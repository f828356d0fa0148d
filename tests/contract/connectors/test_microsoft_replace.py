"""Graph: a body is changed in place, verified by its meaning, and put back where that fails."""

from __future__ import annotations

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from connectors.base import errors
from connectors.base.errors import (
    PermissionMissing,
    TooLarge,
    VersionConflict,
    WriteNotVerified,
)
from connectors.base.types import (
    BodyContent,
    MimeContent,
    Replacement,
    ReplaceState,
    ReplaceStep,
)
from tests.contract.connectors.harness import (
    NEW_LINK,
    OLD_LINK,
    Call,
    Journal,
    Weather,
    mail,
    protect,
    restore,
)
from tests.contract.connectors.harness_microsoft import MicrosoftHarness, graph_that


async def test_the_message_keeps_its_id_and_only_its_body_changes(microsoft: MicrosoftHarness) -> None:
    ref = microsoft.deliver(microsoft.ada, mail())
    before = microsoft.message(ref)
    kept = (before.subject, before.received_at, before.internet_message_id, before.is_draft, list(before.to))

    done = await microsoft.connector.replace(protect(microsoft, await microsoft.connector.fetch(ref)), "key", Journal())

    after = microsoft.message(done.ref)
    assert done.ref == ref
    assert not done.normalised
    assert kept == (
        after.subject,
        after.received_at,
        after.internet_message_id,
        after.is_draft,
        list(after.to),
    )


async def test_a_body_that_exchange_normalises_is_verified_by_meaning(microsoft: MicrosoftHarness) -> None:
    microsoft.state.switches.exchange_html = True
    ref = microsoft.deliver(microsoft.ada, mail())
    message = await microsoft.connector.fetch(ref)
    assert isinstance(message.content, BodyContent)
    untidy = BodyContent(message.content.content.replace("<p>", "<P  CLASS=x id=y>"), is_html=True)
    change = protect(microsoft, message)
    assert isinstance(change.content, BodyContent)
    content = BodyContent(change.content.content.replace("<p>", "<P  CLASS=x id=y>"), is_html=True)
    change = Replacement(message, content, change.expected_links, change.replaced_links)

    done = await microsoft.connector.replace(change, "key", Journal())

    assert untidy != message.content
    assert done.normalised
    assert isinstance(done.content, BodyContent)
    assert done.content == (await microsoft.connector.fetch(ref)).content
    assert NEW_LINK in done.content.content and OLD_LINK not in done.content.content


async def test_a_normalised_body_is_recognised_after_a_timeout(microsoft: MicrosoftHarness) -> None:
    microsoft.state.switches.exchange_html = True
    message = await microsoft.connector.fetch(microsoft.deliver(microsoft.ada, mail()))
    change = protect(microsoft, message)
    assert isinstance(change.content, BodyContent)
    content = BodyContent(change.content.content.replace("<p>", "<P  CLASS=x>"), is_html=True)
    change = Replacement(message, content, change.expected_links, change.replaced_links)
    microsoft.make(Weather.TIMEOUT_AFTER, Call.WRITE_MESSAGE)
    with pytest.raises(errors.Unavailable):
        await microsoft.connector.replace(change, "key", Journal())
    written = microsoft.message(message.ref).change

    journal = Journal()
    await microsoft.connector.replace(change, "key", journal)

    assert microsoft.message(message.ref).change == written  # not written a second time
    assert [state.step for state in journal.steps] == [ReplaceStep.WRITTEN, ReplaceStep.VERIFIED]


async def test_a_mail_that_was_opened_meanwhile_is_still_protected(microsoft: MicrosoftHarness) -> None:
    message = await microsoft.connector.fetch(microsoft.deliver(microsoft.ada, mail()))
    microsoft.set_read(message.ref, True)  # the change key moves on: 412

    await microsoft.connector.replace(protect(microsoft, message), "key", Journal())

    assert NEW_LINK in microsoft.message(message.ref).body
    assert microsoft.is_read(message.ref)


async def test_a_body_that_somebody_else_changed_is_left_alone(microsoft: MicrosoftHarness) -> None:
    message = await microsoft.connector.fetch(microsoft.deliver(microsoft.ada, mail()))
    microsoft.edit(message.ref, "<p>edited</p>")
    journal = Journal()

    with pytest.raises(VersionConflict):
        await microsoft.connector.replace(protect(microsoft, message), "key", journal)

    assert microsoft.message(message.ref).body == "<p>edited</p>"
    assert journal.steps == []


async def test_a_write_that_cannot_be_verified_is_taken_back(microsoft: MicrosoftHarness) -> None:
    message = await microsoft.connector.fetch(microsoft.deliver(microsoft.ada, mail()))
    change = protect(microsoft, message)
    wrong = Replacement(message, change.content, (NEW_LINK, "https://gw.example/never/there"), (OLD_LINK,))
    journal = Journal()

    with pytest.raises(WriteNotVerified, match="original body was put back") as caught:
        await microsoft.connector.replace(wrong, "key", journal)

    assert (await microsoft.connector.fetch(message.ref)).content == message.content
    assert [state.step for state in journal.steps] == [ReplaceStep.WRITTEN]
    assert "example" not in str(caught.value)


async def test_where_putting_back_fails_the_error_says_so(microsoft: MicrosoftHarness) -> None:
    message = await microsoft.connector.fetch(microsoft.deliver(microsoft.ada, mail()))
    change = protect(microsoft, message)
    wrong = Replacement(message, change.content, ("https://gw.example/never/there",), (OLD_LINK,))
    journal = Journal(written=lambda _: microsoft.make(Weather.TIMEOUT_BEFORE, Call.WRITE_MESSAGE))

    with pytest.raises(WriteNotVerified, match="not known whether"):
        await microsoft.connector.replace(wrong, "key", journal)


async def test_after_a_restart_a_body_that_changed_since_is_not_overwritten(microsoft: MicrosoftHarness) -> None:
    message = await microsoft.connector.fetch(microsoft.deliver(microsoft.ada, mail()))
    change = protect(microsoft, message)
    journal = Journal()
    await microsoft.connector.replace(change, "key", journal)
    microsoft.edit(message.ref, "<p>edited</p>")

    with pytest.raises(WriteNotVerified, match="left as it is"):
        await microsoft.connector.replace(
            change, "key", Journal(), resume=ReplaceState(ReplaceStep.WRITTEN, message.ref.id)
        )
    assert microsoft.message(message.ref).body == "<p>edited</p>"


@pytest.mark.parametrize("code", ["ErrorAccessDenied", "ErrorInvalidPropertySet"])
async def test_the_rule_of_31_december_2026_is_a_named_missing_permission(
    microsoft: MicrosoftHarness, code: str
) -> None:
    microsoft.state.switches.refuse_code = code
    message = await microsoft.connector.fetch(microsoft.deliver(microsoft.ada, mail()))
    microsoft.forbid_writing()

    with pytest.raises(PermissionMissing) as caught:
        await microsoft.new_connector().replace(protect(microsoft, message), "key", Journal())

    assert caught.value.which == "Mail-Advanced.ReadWrite.All"
    assert OLD_LINK.split("?")[0] in microsoft.message(message.ref).body


async def test_one_message_that_cannot_be_changed_does_not_stop_the_tenant(microsoft: MicrosoftHarness) -> None:
    fine, odd = (microsoft.deliver(microsoft.ada, mail(f"{n}")) for n in range(2))

    def refuse_one(request: Request) -> Response | None:
        if request.method == "PATCH" and request.url.path.endswith(odd.id):
            return JSONResponse({"error": {"code": "ErrorAccessDenied", "message": "Access is denied."}}, 403)
        return None

    with graph_that(microsoft.emulators.graph_url, refuse_one) as url:
        connector = microsoft.new_connector(graph_url=url)
        change = protect(microsoft, await connector.fetch(odd))
        with pytest.raises(PermissionMissing):  # nothing tells yet that the permission works
            await connector.replace(change, "key", Journal())
        await connector.replace(protect(microsoft, await connector.fetch(fine)), "key", Journal())
        with pytest.raises(errors.ConnectorError, match="changed others") as caught:
            await connector.replace(change, "key", Journal())

    assert not isinstance(caught.value, PermissionMissing)
    assert OLD_LINK.split("?")[0] in microsoft.message(odd).body


async def test_a_permission_withdrawn_after_other_messages_were_changed_is_missing(
    microsoft: MicrosoftHarness,
) -> None:
    first, second = (microsoft.deliver(microsoft.ada, mail(f"{n}")) for n in range(2))
    connector = microsoft.new_connector()
    await connector.replace(protect(microsoft, await connector.fetch(first)), "key", Journal())
    change = protect(microsoft, await connector.fetch(second))
    microsoft.forbid_writing()
    microsoft.expire_token(connector)

    with pytest.raises(PermissionMissing):
        await connector.replace(change, "key", Journal())


async def test_before_that_day_the_ordinary_permission_suffices(microsoft: MicrosoftHarness) -> None:
    microsoft.state.switches.strict_updates = False
    message = await microsoft.connector.fetch(microsoft.deliver(microsoft.ada, mail()))
    microsoft.forbid_writing()

    await microsoft.new_connector().replace(protect(microsoft, message), "key", Journal())

    assert NEW_LINK in microsoft.message(message.ref).body


async def test_a_body_over_four_megabytes_is_not_sent(microsoft: MicrosoftHarness) -> None:
    message = await microsoft.connector.fetch(microsoft.deliver(microsoft.ada, mail()))
    huge = BodyContent("x" * (4 * 1024 * 1024), is_html=True)

    with pytest.raises(TooLarge) as caught:
        await microsoft.connector.replace(Replacement(message, huge), "key", Journal())
    assert caught.value.limit == 4 * 1024 * 1024
    assert OLD_LINK.split("?")[0] in microsoft.message(message.ref).body


async def test_a_japanese_body_of_three_megabytes_is_not_blown_up_over_the_limit(
    microsoft: MicrosoftHarness,
) -> None:
    message = await microsoft.connector.fetch(microsoft.deliver(microsoft.ada, mail()))
    body = BodyContent("日本語" * 350_000, is_html=True)

    done = await microsoft.connector.replace(Replacement(message, body), "key", Journal())

    assert not done.normalised
    assert microsoft.message(message.ref).body == body.content


async def test_mime_content_is_refused(microsoft: MicrosoftHarness) -> None:
    message = await microsoft.connector.fetch(microsoft.deliver(microsoft.ada, mail()))

    with pytest.raises(TypeError):
        await microsoft.connector.replace(Replacement(message, MimeContent(b"x")), "key", Journal())


async def test_unsafe_html_survives_protecting_and_restoring(microsoft: MicrosoftHarness) -> None:
    raw = mail().replace(b"<p>Hello", b"<script>var a = 1</script><p onclick=3D'x()'>Hello")
    message = await microsoft.connector.fetch(microsoft.deliver(microsoft.ada, raw))
    assert isinstance(message.content, BodyContent)
    assert "<script>" in message.content.content

    await microsoft.connector.replace(protect(microsoft, message), "key", Journal())
    again = await microsoft.connector.fetch(message.ref)
    await microsoft.connector.replace(restore(microsoft, again), "key", Journal())

    assert (await microsoft.connector.fetch(message.ref)).content == message.content
