"""Whatever an attacker wrote into a mail is shown as text and never as a link or markup."""

from __future__ import annotations

import uuid

import pytest
from selectolax.lexbor import LexborHTMLParser
from sqlalchemy import select

from app.gateway.models import ClickReport
from app.policy.models import ListEntry
from app.protection.models import (
    MailboxRow,
    MessageEvent,
    MessageLink,
)
from app.tenants.models import Tenant, User
from tests.integration.console.estate import add_click, add_message, make_estate
from tests.integration.console.world import Console

pytestmark = pytest.mark.anyio


HOSTILE = '"><img src=x onerror=alert(1)><script>alert(1)</script>\u202egnp.exe'


async def test_hostile_subjects_senders_addresses_and_names_are_text_and_never_a_link(console: Console) -> None:
    tenant_id, browser, box = await make_estate(console)
    async with console.database.tenant(tenant_id) as session:
        (await session.scalars(select(Tenant))).one().name = "<b>Nordwind</b>"
        (await session.scalars(select(User))).one().name = HOSTILE
    url = f"https://evil.example/{HOSTILE}"
    message_id = await add_message(console, tenant_id, box, subject=HOSTILE, sender=HOSTILE, reason=HOSTILE)
    async with console.database.tenant(tenant_id) as session:
        session.add(
            MessageLink(
                tenant_id=tenant_id,
                message_id=message_id,
                ordinal=0,
                url=url,
                host="evil.example",
                kind=HOSTILE,
                text=HOSTILE,
                action=HOSTILE,
                findings=[{"message": HOSTILE}, HOSTILE],
            )
        )
        session.add(
            MessageEvent(
                tenant_id=tenant_id,
                message_id=message_id,
                kind=HOSTILE,
                actor=HOSTILE,
                detail={"reason": HOSTILE, "error": HOSTILE},
            )
        )
        session.add(ListEntry(tenant_id=tenant_id, action="block", pattern=HOSTILE, note=HOSTILE, created_by=HOSTILE))
        session.add(
            ClickReport(
                tenant_id=tenant_id,
                id=uuid.uuid4(),
                at=console.clock(),
                kind=HOSTILE,
                url=url,
                host="evil.example",
                reason=HOSTILE,
            )
        )
        (await session.scalars(select(MailboxRow))).one().error = HOSTILE
    await add_click(
        console,
        tenant_id,
        "malicious",
        "block",
        url=url,
        host="evil.example",
        mailbox_id=box,
        message_id=message_id,
        rule=HOSTILE,
        evidence=[{"text": HOSTILE}, HOSTILE],
        automated_reasons=[HOSTILE],
        automated=True,
    )
    pages = ["/overview", "/messages", f"/messages?open={message_id}", f"/messages/{message_id}", "/clicks", "/lists"]
    for path in [*pages, "/connector", "/people", "/settings", f"/messages?q={HOSTILE}", "/my-clicks"]:
        page = await browser.page(path)
        tree = LexborHTMLParser(page)
        assert tree.css("img") == [], path
        assert [node.text() for node in tree.css("script") if node.text()] == [], path
        assert "\u202e" not in page, path
        assert not [node for node in tree.css("*") if any(name.startswith("on") for name in node.attributes)], path
        for link in tree.css("a[href]"):
            target = str(link.attributes["href"])
            assert target.startswith(("/", "#")), (path, target)
            assert not target.startswith("//")


async def test_a_remedys_link_is_shown_only_where_it_leads_to_a_web_page(console: Console) -> None:
    tenant_id, browser, _ = await make_estate(console)
    async with console.database.tenant(tenant_id) as session:
        (await session.scalars(select(Tenant))).one().checks = [
            {"key": "a", "status": "failed", "summary": "s", "remedy": "r", "link": "javascript:alert(1)"},
            {"key": "b", "status": "failed", "summary": "s", "remedy": "r", "link": "https://entra.microsoft.com/x"},
        ]
    page = await browser.page("/connector")
    assert "javascript:" not in page
    assert 'href="https://entra.microsoft.com/x"' in page
