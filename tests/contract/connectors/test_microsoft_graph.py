"""What only Graph does: message classes, folders, throttling, subscriptions, permissions."""

from __future__ import annotations

import asyncio
import datetime as dt

import pytest

from connectors.base import errors
from connectors.base.errors import (
    AccessRevoked,
    MailboxUnavailable,
    MisconfiguredClient,
    PermissionMissing,
)
from connectors.base.types import (
    CheckStatus,
    HintKind,
    Place,
    Trait,
)
from connectors.emulators.common.faults import FaultKind, FaultRule
from connectors.emulators.testing import running_emulators
from connectors.microsoft.client import graph_requests, token_roles
from connectors.microsoft.config import ClientSecret
from connectors.microsoft.fetch import VERB_STREAM
from connectors.microsoft.folders import QUARANTINE_NAME
from tests.contract.connectors.conftest import Receiver
from tests.contract.connectors.harness import (
    Weather,
    mail,
)
from tests.contract.connectors.harness_microsoft import MicrosoftHarness


def an_hour_ago() -> dt.datetime:
    return dt.datetime.now(dt.UTC) - dt.timedelta(hours=1)


# --- fetch ---------------------------------------------------------------------------------------------------

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


# --- moving --------------------------------------------------------------------------------------------------


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


# --- throttling ----------------------------------------------------------------------------------------------


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


# --- notifications -------------------------------------------------------------------------------------------


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


# --- access and credentials ----------------------------------------------------------------------------------


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
    connector = microsoft.new_connector()
    await connector.fetch(ref)
    microsoft.expire_token(connector)
    sent = connector.http.counters.sent

    assert (await connector.fetch(ref)).ref == ref
    assert connector.http.counters.sent - sent == 3  # refused, the token, and again


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


async def test_the_sdk_builds_requests_and_cannot_send_them() -> None:
    with pytest.raises(AssertionError, match="must not send"):
        await graph_requests()._sdk.users.get()
