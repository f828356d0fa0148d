"""What only Graph does: edits in place, conflicts, normalised HTML, folders, permissions."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import datetime as dt
import socket
import threading
from collections.abc import Iterator

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from connectors.base.errors import (
    AccessRevoked,
    CursorExpired,
    MailboxUnavailable,
    MisconfiguredClient,
    PermissionMissing,
    TooLarge,
    VersionConflict,
    WriteNotVerified,
)
from connectors.base.types import (
    BodyContent,
    CheckStatus,
    HintKind,
    MimeContent,
    Place,
    Replacement,
    ReplaceState,
    ReplaceStep,
    Trait,
)
from connectors.emulators.common.faults import FaultKind, FaultRule
from connectors.emulators.testing import running_emulators
from connectors.microsoft import errors
from connectors.microsoft.changes import PAGE, SWEEP_SECONDS, Cursor
from connectors.microsoft.client import token_roles
from connectors.microsoft.config import ClientSecret
from connectors.microsoft.fetch import VERB_STREAM
from connectors.microsoft.folders import QUARANTINE_NAME
from tests.contract.connectors.conftest import Receiver
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
from tests.contract.connectors.harness_microsoft import MicrosoftHarness


def an_hour_ago() -> dt.datetime:
    return dt.datetime.now(dt.UTC) - dt.timedelta(hours=1)


# --- replacing in place -----------------------------------------------------------------------------------


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


# --- changes ----------------------------------------------------------------------------------------------


async def test_a_message_moved_here_with_an_old_date_is_found(microsoft: MicrosoftHarness) -> None:
    old = microsoft.deliver(microsoft.ada, mail(), place="sent")
    microsoft.advance(600)
    page = await microsoft.connector.changes(microsoft.ada, None, an_hour_ago())
    while page.more:
        page = await microsoft.connector.changes(microsoft.ada, page.cursor, an_hour_ago())

    inbox = microsoft.state.folder(microsoft.ada.id, "inbox")
    microsoft.state.move(microsoft.message(old), inbox)
    page = await microsoft.connector.changes(microsoft.ada, page.cursor, an_hour_ago())

    assert [change.ref.id for change in page.changes] == [old.id]


async def test_sent_mail_and_drafts_are_no_changes(microsoft: MicrosoftHarness) -> None:
    for place in ("sent", "drafts"):
        microsoft.deliver(microsoft.ada, mail(), place=place)
    first = await microsoft.connector.changes(microsoft.ada, None, an_hour_ago())
    for place in ("sent", "drafts"):
        microsoft.deliver(microsoft.ada, mail(), place=place)
    second = await microsoft.connector.changes(microsoft.ada, first.cursor, an_hour_ago())

    assert (first.changes, second.changes) == ((), ())


async def test_mail_in_nested_and_in_new_folders_is_found(microsoft: MicrosoftHarness) -> None:
    start = await microsoft.connector.changes(microsoft.ada, None, an_hour_ago())
    parent = microsoft.folder(microsoft.ada, "Customers")
    for level in range(5):
        parent = microsoft.folder(microsoft.ada, f"Level {level}", parent)
    expected = microsoft.state.deliver(microsoft.ada.address, mail(), folder=parent).id

    cursor = Cursor.load(start.cursor)
    stale = Cursor(cursor.since, cursor.folders, newest="2100-01-01T00:00:00Z", seen=cursor.seen).dump()
    for found in (start.cursor, stale):  # by the quick look, and by delta where that is blind
        page = await microsoft.connector.changes(microsoft.ada, found, an_hour_ago())
        assert [change.ref.id for change in page.changes] == [expected]


async def test_a_folder_that_went_away_is_forgotten(microsoft: MicrosoftHarness) -> None:
    folder = microsoft.folder(microsoft.ada, "Temporary")
    page = await microsoft.connector.changes(microsoft.ada, None, an_hour_ago())
    assert folder in Cursor.load(page.cursor).folders

    with microsoft.state.lock:
        del microsoft.state.folders[folder]
        del microsoft.state._folders_by_user[microsoft.ada.id][folder]
    page = await microsoft.connector.changes(microsoft.ada, page.cursor, an_hour_ago())

    assert folder not in Cursor.load(page.cursor).folders


async def test_one_new_message_costs_one_request(microsoft: MicrosoftHarness) -> None:
    page = await microsoft.connector.changes(microsoft.ada, None, an_hour_ago())
    connector = microsoft.new_connector()
    await connector.changes(microsoft.ada, page.cursor, an_hour_ago())  # learns the well-known folders
    ref = microsoft.deliver(microsoft.ada, mail())
    sent = connector.http.counters.sent

    page = await connector.changes(microsoft.ada, page.cursor, an_hour_ago())

    assert [change.ref.id for change in page.changes] == [ref.id]
    assert not page.more
    assert connector.http.counters.sent - sent == 1


async def test_an_idle_mailbox_is_looked_at_with_two_requests(microsoft: MicrosoftHarness) -> None:
    microsoft.deliver(microsoft.ada, mail())
    connector = microsoft.new_connector()
    page = await connector.changes(microsoft.ada, None, an_hour_ago())
    page = await connector.changes(microsoft.ada, page.cursor, an_hour_ago())
    sent = connector.http.counters.sent

    page = await connector.changes(microsoft.ada, page.cursor, an_hour_ago())

    assert (page.changes, page.more) == ((), False)
    assert connector.http.counters.sent - sent == 2  # the newest messages, and the folders' counts


async def test_a_restart_costs_no_more_than_that(microsoft: MicrosoftHarness) -> None:
    page = await microsoft.connector.changes(microsoft.ada, None, an_hour_ago())
    restarted = microsoft.new_connector()

    page = await restarted.changes(microsoft.ada, page.cursor, an_hour_ago())

    assert (page.changes, page.more) == ((), False)
    assert restarted.http.counters.sent == 1 + 2  # the token, the newest messages, the folders' counts


async def test_well_known_folders_that_are_not_this_mailboxs_are_looked_up_again(
    microsoft: MicrosoftHarness,
) -> None:
    page = await microsoft.connector.changes(microsoft.ben, None, an_hour_ago())
    foreign = Cursor.load(page.cursor).known
    page = await microsoft.connector.changes(microsoft.ada, None, an_hour_ago())
    right = Cursor.load(page.cursor)

    wrong = dataclasses.replace(right, known=foreign).dump()
    page = await microsoft.new_connector().changes(microsoft.ada, wrong, an_hour_ago())

    assert Cursor.load(page.cursor).known == right.known


async def test_only_the_folder_whose_count_changed_is_asked(microsoft: MicrosoftHarness) -> None:
    old = microsoft.deliver(microsoft.ada, mail(), place="sent")
    connector = microsoft.new_connector()
    page = await connector.changes(microsoft.ada, None, an_hour_ago())
    microsoft.state.move(microsoft.message(old), microsoft.state.folder(microsoft.ada.id, "archive"))
    page = await connector.changes(microsoft.ada, page.cursor, an_hour_ago())  # the quick look sees this one
    page = await connector.changes(microsoft.ada, page.cursor, an_hour_ago())
    microsoft.advance(600)
    microsoft.state.move(microsoft.message(old), microsoft.state.folder(microsoft.ada.id, "inbox"))
    sent = connector.http.counters.sent

    page = await connector.changes(microsoft.ada, page.cursor, an_hour_ago())

    assert old.id in {change.ref.id for change in page.changes}
    assert connector.http.counters.sent - sent <= 2 + 2  # inbox and archive


async def test_every_half_hour_every_folder_is_asked(microsoft: MicrosoftHarness) -> None:
    page = await microsoft.connector.changes(microsoft.ada, None, an_hour_ago())
    state = Cursor.load(page.cursor)
    microsoft.expire_cursors(microsoft.ada)

    assert (await microsoft.connector.changes(microsoft.ada, page.cursor, an_hour_ago())).changes == ()
    with pytest.raises(CursorExpired):
        stale = dataclasses.replace(state, swept=state.swept - SWEEP_SECONDS - 1)
        await microsoft.connector.changes(microsoft.ada, stale.dump(), an_hour_ago())


@contextlib.contextmanager
def refusing_filters(graph_url: str) -> Iterator[str]:
    """A Graph that refuses ``$filter`` in delta, as some mailboxes do (microsoft-graph-docs issue 18636)."""
    listener = socket.create_server(("127.0.0.1", 0))
    base = f"http://127.0.0.1:{listener.getsockname()[1]}/v1.0"

    async def forward(request: Request) -> Response:
        if "/delta" in request.url.path and "$filter" in request.query_params:
            return JSONResponse({"error": {"code": "ErrorInvalidUrlQuery", "message": "not supported"}}, 400)
        async with httpx.AsyncClient() as client:
            headers = {"authorization": request.headers["authorization"], "prefer": request.headers["prefer"]}
            url = f"{graph_url}/{request.path_params['rest']}?{request.url.query}"
            answer = await client.get(url, headers=headers)
        body = answer.content.replace(graph_url.encode(), base.encode())
        return Response(body, answer.status_code, media_type="application/json")

    app = Starlette(routes=[Route("/v1.0/{rest:path}", forward)])
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield base
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()


async def test_a_mailbox_that_refuses_to_filter_is_read_whole_and_still_bounded(
    microsoft: MicrosoftHarness,
) -> None:
    microsoft.deliver(microsoft.ada, mail("old"))
    microsoft.advance(7_200)
    expected = {microsoft.deliver(microsoft.ada, mail(f"new {n}")).id for n in range(3)}
    since = microsoft.emulators.world.clock.now() - dt.timedelta(seconds=600)
    with refusing_filters(microsoft.emulators.graph_url) as url:
        connector = microsoft.new_connector(graph_url=url, graph_scope="https://graph.microsoft.com/.default")

        page = await connector.changes(microsoft.ada, None, since)
        found = {change.ref.id for change in page.changes}
        while page.more:
            page = await connector.changes(microsoft.ada, page.cursor, since)
            found |= {change.ref.id for change in page.changes}

    assert found == expected


async def test_more_new_messages_than_a_page_shows_are_found_by_delta(microsoft: MicrosoftHarness) -> None:
    page = await microsoft.connector.changes(microsoft.ada, None, an_hour_ago())
    expected = {microsoft.deliver(microsoft.ada, mail(f"{n}")).id for n in range(PAGE + 7)}

    page = await microsoft.connector.changes(microsoft.ada, page.cursor, an_hour_ago())
    found = {change.ref.id for change in page.changes}
    assert page.more
    while page.more:
        page = await microsoft.connector.changes(microsoft.ada, page.cursor, an_hour_ago())
        found |= {change.ref.id for change in page.changes}

    assert found == expected


async def test_our_own_write_is_no_change(microsoft: MicrosoftHarness) -> None:
    ref = microsoft.deliver(microsoft.ada, mail())
    page = await microsoft.connector.changes(microsoft.ada, None, an_hour_ago())
    await microsoft.connector.replace(protect(microsoft, await microsoft.connector.fetch(ref)), "key", Journal())

    page = await microsoft.connector.changes(microsoft.ada, page.cursor, an_hour_ago())

    assert page.changes == ()


async def test_quarantined_mail_is_no_change(microsoft: MicrosoftHarness) -> None:
    ref = microsoft.deliver(microsoft.ada, mail())
    page = await microsoft.connector.changes(microsoft.ada, None, an_hour_ago())
    await microsoft.connector.move(ref, Place.QUARANTINE)

    page = await microsoft.connector.changes(microsoft.ada, page.cursor, an_hour_ago())

    assert ref.id not in {change.ref.id for change in page.changes if not change.removed}


async def test_a_cursor_does_not_lead_to_another_host(microsoft: MicrosoftHarness) -> None:
    page = await microsoft.connector.changes(microsoft.ada, None, an_hour_ago())
    state = Cursor.load(page.cursor)
    forged = Cursor(state.since, dict.fromkeys(state.folders, "https://evil.example/x"), tuple(state.folders))

    with pytest.raises(errors.ConnectorError, match=r"evil\.example"):
        await microsoft.connector.changes(microsoft.ada, forged.dump(), an_hour_ago())


# --- fetch ------------------------------------------------------------------------------------------------

CALENDAR = (
    b"BEGIN:VCALENDAR\r\nMETHOD:REQUEST\r\nBEGIN:VEVENT\r\nUID:1\r\nDTSTART:20261122T100000Z\r\n"
    b"END:VEVENT\r\nEND:VCALENDAR\r\n"
)


def typed(content_type: str, body: bytes) -> bytes:
    head = (
        "From: a@x.example\r\nTo: ada@reader.example\r\nSubject: s\r\nMessage-ID: <t@x.example>\r\n"
        f"MIME-Version: 1.0\r\nContent-Type: {content_type}\r\n\r\n"
    )
    return head.encode() + body


SIGNED = typed(
    'multipart/signed; protocol="application/pkcs7-signature"; micalg=sha-256; boundary=b',
    b"--b\r\nContent-Type: text/html\r\n\r\n<p>x</p>\r\n--b\r\nContent-Type: application/pkcs7-signature; "
    b"name=smime.p7s\r\nContent-Disposition: attachment; filename=smime.p7s\r\n\r\nAAAA\r\n--b--\r\n",
)
ENCRYPTED = typed("application/pkcs7-mime; smime-type=enveloped-data; name=smime.p7m", b"AAAA")
MEETING = typed("text/calendar; method=REQUEST; charset=utf-8", CALENDAR)


@pytest.mark.parametrize(
    ("raw", "trait"),
    [(SIGNED, Trait.SIGNED), (ENCRYPTED, Trait.ENCRYPTED), (MEETING, Trait.MEETING)],
    ids=["signed", "encrypted", "meeting"],
)
async def test_what_must_not_be_touched_is_told(microsoft: MicrosoftHarness, raw: bytes, trait: Trait) -> None:
    ref = microsoft.deliver(microsoft.ada, raw)

    assert trait in (await microsoft.connector.fetch(ref)).traits


@pytest.mark.parametrize(
    ("name", "trait"),
    [
        ("IPM.Note.rpmsg.Microsoft", Trait.RIGHTS_MANAGED),
        ("REPORT.IPM.Note.NDR", Trait.REPORT),
        ("IPM.Note.Microsoft.Approval.Request", Trait.APPROVAL),
        ("IPM.Something.New", Trait.UNKNOWN_CLASS),
    ],
)
async def test_the_message_class_is_read_from_the_mailbox(microsoft: MicrosoftHarness, name: str, trait: Trait) -> None:
    ref = microsoft.deliver(microsoft.ada, mail(), message_class=name)

    assert (await microsoft.connector.fetch(ref)).traits == {trait}


async def test_a_message_with_voting_buttons_is_told(microsoft: MicrosoftHarness) -> None:
    ref = microsoft.deliver(microsoft.ada, mail())
    assert (await microsoft.connector.fetch(ref)).traits == frozenset()

    microsoft.message(ref).extended[VERB_STREAM] = "AgEEAAAAAAAAAAVSZXBseQ=="

    assert (await microsoft.connector.fetch(ref)).traits == {Trait.APPROVAL}


# --- moving -----------------------------------------------------------------------------------------------


async def test_the_quarantine_folder_is_hidden_and_made_once(microsoft: MicrosoftHarness) -> None:
    refs = [microsoft.deliver(microsoft.ada, mail()) for _ in range(2)]

    await microsoft.connector.move(refs[0], Place.QUARANTINE)
    await microsoft.new_connector().move(refs[1], Place.QUARANTINE)

    found = [f for f in microsoft.state.folders_of(microsoft.ada.id) if f.name == QUARANTINE_NAME]
    assert len(found) == 1
    assert found[0].hidden


async def test_a_quarantine_folder_that_was_deleted_is_made_again(microsoft: MicrosoftHarness) -> None:
    first, second = (microsoft.deliver(microsoft.ada, mail()) for _ in range(2))
    moved = await microsoft.connector.move(first, Place.QUARANTINE)
    await microsoft.connector.move_back(moved.ref, moved.undo)
    with microsoft.state.lock:
        folder = microsoft.state.folders[microsoft.message(first).folder_id]
        gone = next(f for f in microsoft.state.folders_of(microsoft.ada.id) if f.name == QUARANTINE_NAME)
        assert folder.id != gone.id
        del microsoft.state.folders[gone.id]
        del microsoft.state._folders_by_user[microsoft.ada.id][gone.id]

    again = await microsoft.connector.move(second, Place.QUARANTINE)

    assert microsoft.place_of(again.ref) == "quarantine"


@pytest.mark.parametrize("weather", [Weather.TIMEOUT_BEFORE, Weather.TIMEOUT_AFTER])
async def test_a_move_of_unknown_outcome_can_be_asked_for_again(microsoft: MicrosoftHarness, weather: Weather) -> None:
    ref = microsoft.deliver(microsoft.ada, mail())
    kind = FaultKind.TIMEOUT_AFTER if weather is Weather.TIMEOUT_AFTER else FaultKind.TIMEOUT_BEFORE
    microsoft.emulators.world.faults.add(FaultRule(kind, r"/move$", "POST", limit=1))
    with pytest.raises(errors.Unavailable):
        await microsoft.connector.move(ref, Place.QUARANTINE)

    moved = await microsoft.connector.move(ref, Place.QUARANTINE)

    assert microsoft.place_of(moved.ref) == "quarantine"
    assert microsoft.place_of(await microsoft.connector.move_back(moved.ref, moved.undo)) == "inbox"


# --- throttling -------------------------------------------------------------------------------------------


async def test_never_more_than_four_requests_of_a_mailbox_are_under_way(microsoft: MicrosoftHarness) -> None:
    refs = [microsoft.deliver(microsoft.ada, mail(f"{n}")) for n in range(30)]
    microsoft.emulators.world.faults.add(FaultRule(FaultKind.LATENCY, r"/messages/", delay=0.02))
    connector = microsoft.new_connector()

    await asyncio.gather(*(connector.fetch(ref) for ref in refs))

    assert connector.http.counters.throttled == 0  # the emulator answers 429 to the fifth


async def test_four_slow_requests_of_a_mailbox_do_not_hold_up_another(microsoft: MicrosoftHarness) -> None:
    ada = [microsoft.deliver(microsoft.ada, mail(f"{n}")) for n in range(8)]
    ben = microsoft.deliver(microsoft.ben, mail())
    connector = microsoft.new_connector()
    await connector.fetch(ben)
    microsoft.emulators.world.faults.add(FaultRule(FaultKind.LATENCY, rf"{microsoft.ada.id}/messages/", delay=0.3))
    slow = [asyncio.create_task(connector.fetch(ref)) for ref in ada]

    await connector.fetch(ben)

    assert not any(task.done() for task in slow)
    await asyncio.gather(*slow)


# --- notifications ----------------------------------------------------------------------------------------


async def test_a_subscription_that_graph_removed_is_made_anew(microsoft: MicrosoftHarness, receiver: Receiver) -> None:
    first = await microsoft.connector.subscribe(microsoft.ada, receiver.url)
    del microsoft.state.subscriptions[first.id]

    second = await microsoft.connector.renew(first, receiver.url)

    assert second.id != first.id and second.secret != first.secret
    assert second.id in microsoft.state.subscriptions


async def test_a_subscription_asks_for_new_mail_of_all_folders_with_immutable_ids(
    microsoft: MicrosoftHarness, receiver: Receiver
) -> None:
    made = await microsoft.connector.subscribe(microsoft.ada, receiver.url)

    stored = microsoft.state.subscriptions[made.id]
    assert (stored.folder_id, stored.change_types, stored.immutable_ids) == (None, ["created"], True)
    assert stored.lifecycle_url == receiver.url
    assert stored.client_state == made.secret
    assert 32 <= len(made.secret) <= 128
    assert made.secret not in repr(made)


async def test_a_notification_names_the_message_by_its_immutable_id(
    microsoft: MicrosoftHarness, receiver: Receiver
) -> None:
    await microsoft.connector.subscribe(microsoft.ada, receiver.url)
    ref = microsoft.deliver(microsoft.ada, mail())

    ((headers, body),) = (await asyncio.to_thread(receiver.wait_for, 1))[:1]

    (hint,) = await microsoft.notifications.read(headers, body)
    assert (hint.kind, hint.message_id) == (HintKind.CHANGED, ref.id)


async def test_an_address_that_answers_no_handshake_is_an_error_and_makes_no_subscription(
    microsoft: MicrosoftHarness,
) -> None:
    before = set(microsoft.state.subscriptions)

    with pytest.raises(errors.ConnectorError):
        await microsoft.connector.subscribe(microsoft.ada, "http://127.0.0.1:9/hook")
    assert set(microsoft.state.subscriptions) == before


# --- access and credentials -------------------------------------------------------------------------------


async def test_each_missing_permission_is_named_with_the_page_where_it_is_granted(
    microsoft: MicrosoftHarness,
) -> None:
    microsoft.grant_only("Mail.ReadWrite")

    checks = {check.key: check for check in await microsoft.new_connector().check_access()}

    assert checks["consent"].status is CheckStatus.PASSED
    assert checks["mail_read_write"].status is CheckStatus.PASSED
    assert checks["mail_advanced"].status is CheckStatus.FAILED
    assert checks["directory"].status is CheckStatus.FAILED
    assert checks["mailbox_access"].status is CheckStatus.SKIPPED
    assert "Mail-Advanced.ReadWrite.All" in checks["mail_advanced"].remedy
    assert checks["mail_advanced"].link.startswith("https://entra.microsoft.com/#view/")
    assert checks["mail_advanced"].link.endswith(f"/appId/{microsoft.emulators.client_id}")


async def test_a_permission_granted_meanwhile_is_seen_by_the_next_check(microsoft: MicrosoftHarness) -> None:
    microsoft.grant_only("Mail.ReadWrite", "User.Read.All")
    connector = microsoft.new_connector()
    before = {check.key: check.status for check in await connector.check_access()}
    microsoft.grant_only("Mail.ReadWrite", "User.Read.All", "Mail-Advanced.ReadWrite.All")

    after = {check.key: check.status for check in await connector.check_access()}

    assert (before["mail_advanced"], after["mail_advanced"]) == (CheckStatus.FAILED, CheckStatus.PASSED)


async def test_a_token_without_any_role_is_a_failed_check(microsoft: MicrosoftHarness) -> None:
    microsoft.grant_only()

    checks = {check.key: check.status for check in await microsoft.new_connector().check_access()}

    assert checks["consent"] is CheckStatus.PASSED
    assert {checks["mail_read_write"], checks["mail_advanced"], checks["directory"]} == {CheckStatus.FAILED}


async def test_without_the_directory_permission_listing_mailboxes_names_it(microsoft: MicrosoftHarness) -> None:
    microsoft.grant_only("Mail.ReadWrite", "Mail-Advanced.ReadWrite.All")

    with pytest.raises(PermissionMissing) as caught:
        [mailbox async for mailbox in microsoft.new_connector().mailboxes()]
    assert caught.value.which == "User.Read.All"


async def test_a_token_with_no_role_left_is_revoked_access(microsoft: MicrosoftHarness) -> None:
    microsoft.grant_only()

    with pytest.raises(AccessRevoked):
        await microsoft.new_connector().changes(microsoft.ada, None, an_hour_ago())


async def test_a_wrong_secret_is_our_own_fault(microsoft: MicrosoftHarness) -> None:
    connector = microsoft.new_connector(credential=ClientSecret("wrong"))

    with pytest.raises(MisconfiguredClient, match="7000215"):
        await connector.changes(microsoft.ada, None, an_hour_ago())
    (check, *_) = await connector.check_access()
    assert check.status is CheckStatus.FAILED
    assert "/Credentials/appId/" in check.link


@pytest.mark.parametrize("number", [700016, 7000229, 500011])
async def test_every_way_of_being_gone_is_revoked_access(microsoft: MicrosoftHarness, number: int) -> None:
    microsoft.state.switches.revoked_error = number
    microsoft.revoke()

    with pytest.raises(AccessRevoked, match=str(number)):
        await microsoft.new_connector().changes(microsoft.ada, None, an_hour_ago())


async def test_an_expired_token_is_renewed_on_the_way(microsoft: MicrosoftHarness) -> None:
    ref = microsoft.deliver(microsoft.ada, mail())
    await microsoft.connector.fetch(ref)

    microsoft.advance(4_000)  # the token in use has expired for Graph

    assert (await microsoft.connector.fetch(ref)).ref == ref


async def test_a_user_without_a_mailbox_is_unavailable_alone(microsoft: MicrosoftHarness) -> None:
    microsoft.state.person(microsoft.cleo.id).has_mailbox = False

    with pytest.raises(MailboxUnavailable):
        await microsoft.connector.changes(microsoft.cleo, None, an_hour_ago())


def test_the_roles_of_what_is_no_token_are_none() -> None:
    assert token_roles("") == token_roles("a.b.c") == token_roles("a.e30.c") == frozenset()


async def test_a_restarted_provider_is_reached_again() -> None:
    with running_emulators(seed=5) as first:
        harness = MicrosoftHarness(first, 1)
        ref = harness.deliver(harness.ada, mail())
        await harness.connector.fetch(ref)
    with pytest.raises(errors.Unavailable):
        await harness.connector.fetch(ref)
    await harness.aclose()
