"""What every connector promises when it reads, asked of each provider over its emulator."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta

import pytest

from connectors.base.errors import (
    AccessRevoked,
    CursorExpired,
    MailboxUnavailable,
    MessageGone,
    Throttled,
    Transient,
    Unavailable,
)
from connectors.base.protocol import MailboxConnector
from connectors.base.types import (
    Change,
    CheckStatus,
    FetchedMessage,
    HintKind,
    Mailbox,
    Provider,
    Trait,
)
from tests.contract.connectors.conftest import Receiver
from tests.contract.connectors.harness import (
    Call,
    ProviderHarness,
    Weather,
    mail,
)


def an_hour_ago() -> datetime:
    return datetime.now(UTC) - timedelta(hours=1)


async def all_changes(
    harness: ProviderHarness, mailbox: Mailbox, cursor: str | None, since: datetime | None = None
) -> tuple[list[Change], str]:
    """Every page, as a worker reads them."""
    found: list[Change] = []
    for _ in range(200):
        page = await harness.connector.changes(mailbox, cursor, since or an_hour_ago())
        found.extend(page.changes)
        cursor = page.cursor
        if not page.more:
            return found, cursor
    raise AssertionError("the changes never end")


def ids(changes: list[Change]) -> set[str]:
    return {change.ref.id for change in changes if not change.removed}


async def fetched(harness: ProviderHarness, **options: str) -> FetchedMessage:
    return await harness.connector.fetch(harness.deliver(harness.ada, mail(), **options))


# --- access --------------------------------------------------------------------------------------------------


async def test_it_is_a_mailbox_connector(harness: ProviderHarness) -> None:
    assert isinstance(harness.connector, MailboxConnector)
    assert harness.connector.capabilities.required_permissions


async def test_all_access_checks_pass_where_everything_is_granted(harness: ProviderHarness) -> None:
    if harness.provider is Provider.MICROSOFT and harness.makes_copies:
        pytest.skip("not everything is granted where messages are replaced by copies")
    checks = await harness.connector.check_access()

    assert {check.status for check in checks} <= {CheckStatus.PASSED, CheckStatus.SKIPPED}
    assert any(check.status is CheckStatus.PASSED for check in checks)
    assert len({check.key for check in checks}) == len(checks)


async def test_a_withdrawn_grant_is_a_failed_check_with_a_remedy_and_a_link(harness: ProviderHarness) -> None:
    harness.revoke()

    checks = await harness.new_connector().check_access()

    failed = [check for check in checks if check.status is CheckStatus.FAILED]
    assert failed
    assert all(check.remedy and check.link.startswith("http") for check in failed)


async def test_an_outage_fails_no_check(harness: ProviderHarness) -> None:
    harness.make(Weather.TIMEOUT_BEFORE, Call.GET_TOKEN, times=None)

    checks = await harness.new_connector().check_access()

    assert CheckStatus.FAILED not in {check.status for check in checks}
    assert CheckStatus.UNKNOWN in {check.status for check in checks}


async def test_mailboxes_are_listed_with_lower_case_addresses(harness: ProviderHarness) -> None:
    found = {mailbox.address: mailbox async for mailbox in harness.connector.mailboxes()}

    assert {harness.ada.address, harness.ben.address, harness.cleo.address} <= set(found)
    assert found[harness.ben.address].id == harness.ben.id
    assert all(address == address.lower() for address in found)


async def test_a_withdrawn_grant_is_revoked_access(harness: ProviderHarness) -> None:
    harness.revoke()

    with pytest.raises(AccessRevoked):
        await harness.new_connector().changes(harness.ada, None, an_hour_ago())


async def test_an_outage_of_the_token_endpoint_is_not_revoked_access(harness: ProviderHarness) -> None:
    harness.make(Weather.TIMEOUT_BEFORE, Call.GET_TOKEN, times=None)

    with pytest.raises(Transient):
        await harness.new_connector().changes(harness.ada, None, an_hour_ago())


async def test_a_mailbox_that_does_not_exist_is_unavailable_alone(harness: ProviderHarness) -> None:
    nobody = Mailbox("00000000-0000-0000-0000-000000000001", f"nobody@{harness.ada.address.partition('@')[2]}")

    with pytest.raises(MailboxUnavailable):
        await harness.connector.changes(nobody, None, an_hour_ago())
    assert (await harness.connector.changes(harness.ada, None, an_hour_ago())).cursor


# --- changes -------------------------------------------------------------------------------------------------


async def test_a_new_message_is_a_change_and_then_is_none(harness: ProviderHarness) -> None:
    _, start = await all_changes(harness, harness.ada, None)
    ref = harness.deliver(harness.ada, mail())

    found, after = await all_changes(harness, harness.ada, start)
    rest, _ = await all_changes(harness, harness.ada, after)

    assert ids(found) == {ref.id}
    assert ids(rest) <= {ref.id}


async def test_the_same_cursor_gives_the_same_messages_again(harness: ProviderHarness) -> None:
    _, start = await all_changes(harness, harness.ada, None)
    ref = harness.deliver(harness.ada, mail())

    first, _ = await all_changes(harness, harness.ada, start)
    again, _ = await all_changes(harness, harness.ada, start)

    assert ids(first) == ids(again) == {ref.id}


async def test_messages_in_folders_of_the_user_are_found(harness: ProviderHarness) -> None:
    _, start = await all_changes(harness, harness.ada, None)
    ref = harness.deliver(harness.ada, mail(), place="other")

    assert ids((await all_changes(harness, harness.ada, start))[0]) == {ref.id}


async def test_a_mailboxs_changes_are_its_own(harness: ProviderHarness) -> None:
    _, start = await all_changes(harness, harness.ada, None)
    harness.deliver(harness.ben, mail())

    assert ids((await all_changes(harness, harness.ada, start))[0]) == set()


async def test_without_a_cursor_the_past_is_bounded(harness: ProviderHarness) -> None:
    harness.deliver(harness.ada, mail("old"))
    harness.advance(7_200)
    new = harness.deliver(harness.ada, mail("new"))

    found, _ = await all_changes(
        harness, harness.ada, None, since=(await harness.connector.fetch(new)).received_at or an_hour_ago()
    )

    assert ids(found) == {new.id}


async def test_many_messages_come_in_pages_and_none_is_missing(harness: ProviderHarness) -> None:
    _, start = await all_changes(harness, harness.ada, None)
    expected = {harness.deliver(harness.ada, mail(f"mail {n}")).id for n in range(130)}
    expected |= {harness.deliver(harness.ada, mail(f"more {n}"), place="other").id for n in range(20)}

    found, after = await all_changes(harness, harness.ada, start)
    last = harness.deliver(harness.ada, mail("last"))

    assert ids(found) == expected
    assert last.id in ids((await all_changes(harness, harness.ada, after))[0])


async def test_all_of_a_backlog_is_found_without_a_cursor(harness: ProviderHarness) -> None:
    expected = {harness.deliver(harness.ada, mail(f"mail {n}")).id for n in range(120)}

    assert ids((await all_changes(harness, harness.ada, None))[0]) == expected


async def test_an_expired_cursor_loses_no_message(harness: ProviderHarness) -> None:
    _, start = await all_changes(harness, harness.ada, None)
    harness.expire_cursors(harness.ada)
    ref = harness.deliver(harness.ada, mail())

    try:
        found, _ = await all_changes(harness, harness.ada, start)
    except CursorExpired:
        found, _ = await all_changes(harness, harness.ada, None)

    assert ref.id in ids(found)


@pytest.mark.parametrize("cursor", ["", "x", "{}", '{"v":99}', "[]", "-1"])
async def test_a_cursor_that_cannot_be_read_asks_for_a_resync(harness: ProviderHarness, cursor: str) -> None:
    with pytest.raises(CursorExpired):
        await harness.connector.changes(harness.ada, cursor, an_hour_ago())


async def test_reading_changes_survives_bad_weather(harness: ProviderHarness) -> None:
    _, start = await all_changes(harness, harness.ada, None)
    ref = harness.deliver(harness.ada, mail())
    harness.make(Weather.UNAVAILABLE, Call.LOOK_FOR_CHANGES)
    harness.make(Weather.TIMEOUT_BEFORE, Call.LOOK_FOR_CHANGES)

    assert ids((await all_changes(harness, harness.ada, start))[0]) == {ref.id}


# --- fetch ---------------------------------------------------------------------------------------------------


async def test_a_message_is_fetched_with_what_its_headers_say(harness: ProviderHarness) -> None:
    ref = harness.deliver(harness.ada, mail("Grüße", Cc="Ben <ben@reader.example>"))

    message = await harness.connector.fetch(ref)

    assert message.ref.id == ref.id
    assert message.subject == "Grüße"
    assert message.sender == "news@shop.example"
    assert message.recipients == ("ada@reader.example", "ben@reader.example")
    assert message.internet_message_id.startswith("<")
    assert message.received_at is not None
    assert message.received_at.tzinfo is not None
    assert message.version and message.thread_id and message.places
    assert message.traits == frozenset()
    assert not message.is_read


@pytest.mark.parametrize(("place", "trait"), [("junk", Trait.SPAM), ("sent", Trait.SENT), ("drafts", Trait.DRAFT)])
async def test_where_a_message_is_shows_in_its_traits(harness: ProviderHarness, place: str, trait: Trait) -> None:
    assert trait in (await fetched(harness, place=place)).traits


async def test_a_deleted_message_is_gone(harness: ProviderHarness) -> None:
    ref = harness.deliver(harness.ada, mail())
    harness.delete(ref)

    with pytest.raises(MessageGone):
        await harness.connector.fetch(ref)


async def test_a_read_is_tried_again_and_then_given_up(harness: ProviderHarness) -> None:
    ref = harness.deliver(harness.ada, mail())
    harness.make(Weather.TIMEOUT_BEFORE, Call.READ_MESSAGE, times=2)
    assert (await harness.connector.fetch(ref)).ref.id == ref.id

    harness.make(Weather.TIMEOUT_BEFORE, Call.READ_MESSAGE, times=None)
    with pytest.raises(Unavailable):
        await harness.connector.fetch(ref)


async def test_a_short_throttle_is_waited_out(harness: ProviderHarness) -> None:
    ref = harness.deliver(harness.ada, mail())
    harness.make(Weather.THROTTLED, Call.READ_MESSAGE, retry_after=0.05)

    assert (await harness.connector.fetch(ref)).ref.id == ref.id


async def test_a_long_throttle_is_handed_to_the_caller_and_holds_back_that_mailbox_only(
    harness: ProviderHarness,
) -> None:
    ada, ben = harness.deliver(harness.ada, mail()), harness.deliver(harness.ben, mail())
    harness.make(Weather.THROTTLED, Call.READ_MESSAGE, retry_after=120)

    with pytest.raises(Throttled) as first:
        await harness.connector.fetch(ada)
    with pytest.raises(Throttled) as second:
        await harness.connector.fetch(ada)  # not even sent: the weather is fair again

    assert first.value.retry_after == pytest.approx(120, abs=1)
    assert 100 < second.value.retry_after <= 120
    assert (await harness.connector.fetch(ben)).ref.id == ben.id


# --- notifications -------------------------------------------------------------------------------------------


async def test_a_delivery_knocks_and_the_knock_names_the_subscription(
    harness: ProviderHarness, receiver: Receiver
) -> None:
    harness.push_to(receiver.url)
    subscription = await harness.connector.subscribe(harness.ada, receiver.url)
    harness.deliver(harness.ada, mail())

    received = await asyncio.to_thread(receiver.wait_for, 1)

    hints = [hint for headers, body in received for hint in await harness.notifications.read(headers, body)]
    assert {hint.subscription_id for hint in hints} == {subscription.id}
    assert {hint.secret for hint in hints} == {subscription.secret}
    assert {hint.kind for hint in hints} == {HintKind.CHANGED}


async def test_a_subscription_lives_for_days_and_is_renewed(harness: ProviderHarness, receiver: Receiver) -> None:
    harness.push_to(receiver.url)
    first = await harness.connector.subscribe(harness.ada, receiver.url)
    ttl = harness.connector.capabilities.subscription_ttl

    harness.advance(3_600)
    second = await harness.connector.renew(first, receiver.url)

    assert second.id == first.id
    assert second.secret == first.secret
    assert second.mailbox == harness.ada
    for subscription in (first, second):
        left = subscription.expires_at - datetime.now(UTC)
        assert timedelta(days=1) < left <= ttl + timedelta(days=1)


async def test_an_ended_subscription_does_not_knock_and_ending_twice_is_fine(
    harness: ProviderHarness, receiver: Receiver
) -> None:
    ended = await harness.connector.subscribe(harness.ada, receiver.url)
    await harness.connector.unsubscribe(ended)
    await harness.connector.unsubscribe(ended)
    harness.push_to(receiver.url)  # only now: Gmail also knocks once for the subscription itself
    kept = await harness.connector.subscribe(harness.ben, receiver.url)

    harness.deliver(harness.ada, mail())
    harness.deliver(harness.ben, mail())
    received = await asyncio.to_thread(receiver.wait_for, 1)

    hints = [hint for headers, body in received for hint in await harness.notifications.read(headers, body)]
    assert {hint.subscription_id for hint in hints} == {kept.id}


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", json.dumps({"value": 1}).encode(), b"\xff"])
async def test_what_is_no_notification_is_refused(harness: ProviderHarness, body: bytes) -> None:
    with pytest.raises((ValueError, PermissionError)):
        await harness.notifications.read({}, body)
