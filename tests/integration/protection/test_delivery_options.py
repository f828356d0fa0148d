"""How a tenant wants links treated, at both providers: headers that only the connector sees, and changes half way."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select

from app.messages.options import DeliveryOptions
from app.protection import protect as protect_module
from app.protection.models import MessageLink
from app.protection.plan import change_options
from app.protection.service import request_restore
from app.protection.tasks import restore_mailbox
from connectors.base.types import Provider, ReplaceStep
from tests.integration.protection.test_crash_between_steps import Killed, killed_at
from tests.integration.protection.world import GATEWAY, Organisation, mail

pytestmark = pytest.mark.anyio


async def _want(organisation: Organisation, **values: Any) -> None:
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        await change_options(session, organisation.actor, DeliveryOptions.parse(values))


async def test_a_link_to_unsubscribe_with_is_neither_redacted_nor_left_unmarked(organisation: Organisation) -> None:
    address = organisation.people[0]
    await _want(organisation, other="redact", suspicious="redact")
    raw = mail(address, link="https://news.example/leave?u=1").replace(
        b"MIME-Version",
        b"List-Unsubscribe: <mailto:leave@news.example>,\r\n <https://news.example/leave?u=1>\r\nMIME-Version",
        1,
    )
    organisation.deliver(address, raw)
    organisation.deliver(address, mail(address, link="https://other.example/"))
    await organisation.sync()
    texts = organisation.readable(address)
    assert sum("https://news.example/leave" in text for text in texts) == 1
    assert sum("https://other.example/" in text for text in texts) == 0
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        links = list(await session.scalars(select(MessageLink).order_by(MessageLink.message_id, MessageLink.ordinal)))
    marked = {link.host for link in links for finding in link.findings if finding["code"] == "list_unsubscribe"}
    assert marked == {"news.example"}
