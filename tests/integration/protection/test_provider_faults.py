"""Providers at their worst: expired cursors, deleted and changed messages, throttling, poison, lost answers."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select, update

from app.links.mint import LinkOpener
from app.links.token import PayloadNeeded
from app.protection import protect, transforming
from app.protection.models import MailboxRow, MessageEvent
from app.protection.payloads import StoredPayloads
from app.protection.states import MAX_ATTEMPTS
from connectors.base.types import Provider
from connectors.emulators.common.faults import FaultKind
from tests.integration.protection.hands import Hands
from tests.integration.protection.world import GATEWAY, Organisation, mail

pytestmark = pytest.mark.anyio


async def rest_is_over(organisation: Organisation) -> None:
    """Time passes: every wait has ended."""
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        await session.execute(update(MessageEvent).values(at=MessageEvent.at - timedelta(hours=1)))
        await session.execute(update(MailboxRow).values(not_before=None))


def protected_once(organisation: Organisation, address: str, count: int) -> None:
    texts = organisation.readable(address)
    assert len(texts) == count
    for text in texts:
        assert "https://news.example/" not in text
        assert f"{GATEWAY}/l/news.example/" in text


async def test_an_expired_cursor_costs_a_listing_and_doubles_nothing(organisation: Organisation) -> None:
    address = organisation.people[0]
    organisation.deliver(address, mail(address, "Before"))
    await organisation.sync()
    organisation.deliver(address, mail(address, "While nobody looked"))
    Hands(organisation).expire_cursor(address)
    report = await organisation.sync()
    assert report.stopped == ""
    protected_once(organisation, address, 2)
    organisation.deliver(address, mail(address, "After"))
    await organisation.sync()
    protected_once(organisation, address, 3)


async def test_a_message_that_the_user_deleted_before_its_turn_is_gone_and_no_failure(
    organisation: Organisation, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = organisation.people[0]
    doomed = organisation.deliver(address, mail(address, "Doomed"))
    transform = transforming.run_transform

    async def deleted_meanwhile(*args: Any) -> Any:
        Hands(organisation).delete(address, doomed)
        return await transform(*args)

    monkeypatch.setattr(protect, "run_transform", deleted_meanwhile)
    await organisation.sync()
    (row,) = await organisation.messages()
    assert row.state == "gone"
    assert organisation.readable(address) == []


async def test_what_the_user_does_to_a_message_meanwhile_is_kept(
    organisation: Organisation, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = organisation.people[0]
    message = organisation.deliver(address, mail(address))
    transform = transforming.run_transform

    async def read_meanwhile(*args: Any) -> Any:
        Hands(organisation).read_and_star(address, message)
        return await transform(*args)

    monkeypatch.setattr(protect, "run_transform", read_meanwhile)
    await organisation.sync()
    protected_once(organisation, address, 1)
    (state,) = Hands(organisation).state_of(address)
    if organisation.provider is Provider.MICROSOFT:
        assert state[1:] == (True, "flagged")
    else:
        assert "STARRED" in state and "INBOX" in state and "UNREAD" not in state


async def test_a_version_conflict_is_solved_by_reading_again(organisation: Organisation) -> None:
    address = organisation.people[0]
    organisation.deliver(address, mail(address))
    Hands(organisation).fail_writing(FaultKind.CONFLICT, limit=2)
    for _ in range(MAX_ATTEMPTS):
        await organisation.sync()
        await rest_is_over(organisation)
    protected_once(organisation, address, 1)


async def test_a_throttled_mailbox_is_left_in_peace_for_exactly_as_long_as_asked(organisation: Organisation) -> None:
    ada, ben = organisation.people
    for address in (ada, ben):
        organisation.deliver(address, mail(address))
    hands = Hands(organisation)
    hands.fail_writing(FaultKind.THROTTLE, limit=1, retry_after=120)
    before = organisation.runtime.clock()
    assert (await organisation.sync(ada)).stopped == "throttled"
    after = organisation.runtime.clock()
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        row = await session.get(MailboxRow, (organisation.tenant_id, await organisation.mailbox_id(ada)))
        assert row is not None and row.not_before is not None
    assert before + timedelta(seconds=119) <= row.not_before <= after + timedelta(seconds=121)
    assert row.not_before in await organisation.waiting("mailbox.sync")
    # A hint does not break the peace, and another mailbox does not suffer from it.
    assert (await organisation.sync(ada)).stopped == "the provider asked for quiet"
    await organisation.sync(ben)
    protected_once(organisation, ben, 1)
    await rest_is_over(organisation)
    await organisation.restart()
    await organisation.sync(ada)
    protected_once(organisation, ada, 1)


@pytest.mark.parametrize(
    ("kind", "tries"),
    [(FaultKind.CONFLICT, MAX_ATTEMPTS), (FaultKind.TIMEOUT_BEFORE, 3)],
    ids=["refused", "times out"],
)
async def test_a_poison_message_ends_as_failed_and_holds_back_nobody(
    organisation: Organisation, kind: FaultKind, tries: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protect, "MAX_TRANSIENT_ATTEMPTS", 3)
    address, hands = organisation.people[0], Hands(organisation)
    poison = organisation.deliver(address, mail(address, "Poison"))
    hands.fail_reading(kind, poison)
    organisation.deliver(address, mail(address, "Beside it"))
    report = await organisation.sync()
    assert report.stopped == ""
    states = {row.external_id == poison: row.state for row in await organisation.messages()}
    assert states == {True: "seen", False: "protected"}
    (at,) = await organisation.waiting("mailbox.sync")
    assert isinstance(at, datetime) and at > organisation.runtime.clock() - timedelta(seconds=60)
    organisation.deliver(address, mail(address, "After it"))
    for _ in range(tries + 1):
        await organisation.sync()
        await rest_is_over(organisation)
    rows = {row.external_id == poison: row for row in await organisation.messages()}
    assert rows[True].state == "failed"
    assert rows[True].reason
    assert sorted(row.state for row in await organisation.messages()) == ["failed", "protected", "protected"]
    assert any("https://news.example/" in text for text in organisation.readable(address))


async def test_mail_gets_through_when_every_third_answer_is_lost_after_the_write(organisation: Organisation) -> None:
    address = organisation.people[0]
    for number in range(6):
        organisation.deliver(address, mail(address, f"Message {number}", n=number))
    Hands(organisation).fail_writing(FaultKind.TIMEOUT_AFTER, probability=0.34)
    for _ in range(12):
        await organisation.sync()
        await rest_is_over(organisation)
    protected_once(organisation, address, 6)
    assert {row.state for row in await organisation.messages()} == {"protected"}


async def test_a_link_too_long_for_an_address_is_stored_and_opens(organisation: Organisation) -> None:
    from tests.integration.protection.test_restore import restore

    address = organisation.people[0]
    long_link = "https://news.example/" + "".join(f"{number:x}." for number in range(900))
    organisation.deliver(address, mail(address, link=long_link))
    before = organisation.readable(address)
    await organisation.sync()
    (text,) = organisation.readable(address)
    start = text.index(f"{GATEWAY}/l/news.example/")
    found = text[start:].split('"')[0].split()[0].split("<")[0]
    assert len(found) <= 1_800
    runtime = organisation.runtime
    keys, settings = runtime.keyring, runtime.settings
    with pytest.raises(PayloadNeeded) as needed:
        LinkOpener(keys, settings.gateway_url, settings.gateway_prefix).open(found)
    payloads = StoredPayloads(needed.value.tenant_no)
    opener = LinkOpener(keys, settings.gateway_url, settings.gateway_prefix, payloads)
    payloads.missing.add(needed.value.digest)
    await payloads.fetch(runtime.db, organisation.tenant_id)
    assert opener.open(found).url == long_link
    await restore(organisation, "tenant", "")
    assert organisation.readable(address) == before


async def test_a_busy_mailbox_that_is_throttled_again_and_again_is_not_one_that_fails(
    organisation: Organisation,
) -> None:
    address = organisation.people[0]
    hands = Hands(organisation)
    for number in range(8):
        organisation.deliver(address, mail(address, f"Message {number}", n=number))
    for _ in range(2):
        hands.fail_writing(FaultKind.THROTTLE, limit=1, retry_after=0.05)
        assert (await organisation.sync()).stopped == "throttled"
        await rest_is_over(organisation)
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        assert (await session.scalars(select(MailboxRow.failures).where(MailboxRow.address == address))).one() == 0
    await organisation.sync()
    protected_once(organisation, address, 8)
