"""Graph: what is new is found once, in every folder, at little cost."""

from __future__ import annotations

import dataclasses
import datetime as dt

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from connectors.base import errors
from connectors.base.errors import (
    CursorExpired,
)
from connectors.base.types import (
    Place,
)
from connectors.microsoft.changes import PAGE, SWEEP_SECONDS, Cursor
from tests.contract.connectors.harness import (
    Journal,
    mail,
    protect,
)
from tests.contract.connectors.harness_microsoft import MicrosoftHarness, graph_that


def an_hour_ago() -> dt.datetime:
    return dt.datetime.now(dt.UTC) - dt.timedelta(hours=1)


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


def refuse_filters(request: Request) -> Response | None:
    """As some mailboxes do in delta (microsoft-graph-docs issue 18636)."""
    if "/delta" in request.url.path and "$filter" in request.query_params:
        return JSONResponse({"error": {"code": "ErrorInvalidUrlQuery", "message": "not supported"}}, 400)
    return None


async def test_a_mailbox_that_refuses_to_filter_is_read_whole_and_still_bounded(
    microsoft: MicrosoftHarness,
) -> None:
    microsoft.deliver(microsoft.ada, mail("old"))
    microsoft.advance(7_200)
    expected = {microsoft.deliver(microsoft.ada, mail(f"new {n}")).id for n in range(3)}
    since = microsoft.emulators.world.clock.now() - dt.timedelta(seconds=600)
    with graph_that(microsoft.emulators.graph_url, refuse_filters) as url:
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
