"""Protect and Restore over the real connectors, the emulated providers and a real database."""

from __future__ import annotations

import pytest

from app.protection.service import request_restore, set_opted_out
from app.protection.sync import sync_mailbox
from app.protection.tasks import restore_mailbox
from tests.integration.protection.world import GATEWAY, Organisation, mail

pytestmark = pytest.mark.anyio


async def test_a_delivered_message_is_rewritten_in_place_once(organisation: Organisation) -> None:
    address = organisation.people[0]
    organisation.deliver(address, mail(address))
    mailbox = await organisation.mailbox_id(address)
    for _ in range(3):
        report = await sync_mailbox(organisation.runtime, organisation.tenant_id, mailbox)
        assert not report.stopped
    (text,) = organisation.readable(address)
    assert "https://news.example/" not in text
    assert f"{GATEWAY}/l/news.example/" in text
    (row,) = await organisation.messages()
    assert row.state == "protected"


async def test_a_restored_message_is_what_it_was_and_stays_so(organisation: Organisation) -> None:
    address = organisation.people[0]
    organisation.deliver(address, mail(address))
    mailbox = await organisation.mailbox_id(address)
    before = organisation.readable(address)
    await sync_mailbox(organisation.runtime, organisation.tenant_id, mailbox)
    assert organisation.readable(address) != before
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        run = await request_restore(session, organisation.actor, "mailbox", str(mailbox))
    await restore_mailbox(organisation.runtime, organisation.tenant_id, mailbox, run)
    await sync_mailbox(organisation.runtime, organisation.tenant_id, mailbox)
    assert organisation.readable(address) == before
    (row,) = await organisation.messages()
    assert row.state == "restored"


async def test_an_opted_out_mailbox_is_left_alone_until_it_is_taken_in_again(organisation: Organisation) -> None:
    address = organisation.people[0]
    mailbox = await organisation.mailbox_id(address)
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        await set_opted_out(session, organisation.actor, mailbox, out=True)
    organisation.deliver(address, mail(address))
    report = await sync_mailbox(organisation.runtime, organisation.tenant_id, mailbox)
    assert report.stopped
    assert "https://news.example/" in organisation.readable(address)[0]
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        await set_opted_out(session, organisation.actor, mailbox, out=False)
    await sync_mailbox(organisation.runtime, organisation.tenant_id, mailbox)
    assert "https://news.example/" not in organisation.readable(address)[0]
