"""A grant that is withdrawn or incomplete: noticed, said once, mail left as it is, taken up again afterwards."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from app.audit.models import AuditEntry
from app.protection.service import resume
from app.protection.tasks import probe, subscribe_mailbox
from app.tenants.models import Tenant
from connectors.base.types import Provider
from tests.integration.protection.hands import Hands
from tests.integration.protection.world import GATEWAY, Organisation, mail

pytestmark = pytest.mark.anyio


async def status_of(organisation: Organisation) -> str:
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        tenant = await session.get(Tenant, organisation.tenant_id)
        assert tenant is not None
        return tenant.status


async def said(organisation: Organisation, action: str) -> int:
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        return len(list(await session.scalars(select(AuditEntry).where(AuditEntry.action == action))))


async def test_a_revoked_grant_is_noticed_and_said_once(organisation: Organisation) -> None:
    hands = Hands(organisation)
    await organisation.sync()
    for address in organisation.people:
        organisation.deliver(address, mail(address))
    before = [organisation.readable(address) for address in organisation.people]
    hands.revoke()
    await organisation.restart()
    for address in (*organisation.people, *organisation.people):
        await organisation.sync(address)
    assert await status_of(organisation) == "revoked"
    assert await said(organisation, "tenant.revoked") == 1
    assert [organisation.readable(address) for address in organisation.people] == before


async def test_a_revoked_grant_is_noticed_by_the_hourly_probe_without_any_mail(organisation: Organisation) -> None:
    Hands(organisation).revoke()
    await organisation.restart()
    await probe(organisation.runtime, organisation.tenant_id)
    await probe(organisation.runtime, organisation.tenant_id)
    assert await status_of(organisation) == "revoked"
    assert await said(organisation, "tenant.revoked") == 1


async def test_a_revoked_grant_is_noticed_when_a_subscription_is_renewed(organisation: Organisation) -> None:
    Hands(organisation).revoke()
    await organisation.restart()
    mailbox = await organisation.mailbox_id(organisation.people[0])
    await subscribe_mailbox(organisation.runtime, organisation.tenant_id, mailbox)
    assert await status_of(organisation) == "revoked"


async def test_a_missing_permission_stops_the_tenant_and_mail_is_protected_once_it_is_there(
    organisation: Organisation,
) -> None:
    hands, address = Hands(organisation), organisation.people[0]
    await organisation.sync()
    hands.forbid_writing()
    await organisation.restart()
    organisation.deliver(address, mail(address, "First"))
    before = organisation.readable(address)
    await organisation.sync()
    # At Google one scope is for reading and writing: without it the grant as a whole is of no use.
    stopped = "blocked" if organisation.provider is Provider.MICROSOFT else "revoked"
    assert await status_of(organisation) in (stopped, "blocked")
    assert organisation.readable(address) == before
    organisation.deliver(address, mail(address, "Second"))
    await organisation.sync()
    hands.allow_writing()
    await organisation.restart()
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        await resume(session, organisation.actor)
    await organisation.sync()
    texts = organisation.readable(address)
    assert len(texts) == 2
    for text in texts:
        assert f"{GATEWAY}/l/news.example/" in text
        assert "https://news.example/" not in text
