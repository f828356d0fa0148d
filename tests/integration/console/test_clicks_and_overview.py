"""Clicks, the overview's numbers, and the JSON API that says the same."""

from __future__ import annotations

import uuid
from datetime import timedelta

import pytest
from sqlalchemy import select

from app.gateway.models import ClickReport
from app.tenants.models import Domain, Tenant
from tests.integration.console.estate import add_click, add_message, make_estate, number, rows
from tests.integration.console.world import Console

pytestmark = pytest.mark.anyio


async def test_a_click_is_in_the_list_on_the_next_load_with_word_and_icon(console: Console) -> None:
    tenant_id, browser, box = await make_estate(console)
    message_id = await add_message(console, tenant_id, box, subject="Your parcel")
    assert rows(await browser.page("/clicks"), "click-row") == []
    for level, action in (("clean", "redirect"), ("suspicious", "warn"), ("malicious", "block")):
        await add_click(console, tenant_id, level, action, mailbox_id=box, message_id=message_id)
    page = await browser.page("/clicks")
    found = rows(page, "click-row")
    assert len(found) == 3
    for words in (("No threat found", "Opened"), ("Suspicious", "Warned"), ("Malicious", "Blocked")):
        assert any(all(word in row for word in words) for row in found)
    assert all("ada@nordwind.example" in row and "Your parcel" in row for row in found)
    assert 'data-level="malicious" data-action="block"' in page
    assert page.count("<svg") > 6


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", 4),
        ("?level=malicious", 1),
        ("?action=stopped", 2),
        ("?action=redirect", 2),
        ("?who=people", 3),
        ("?who=automated", 1),
        ("?q=malicious.example", 1),
        ("?q=ada@", 4),
        ("?days=1", 3),
    ],
)
async def test_clicks_are_filtered(console: Console, query: str, expected: int) -> None:
    tenant_id, browser, box = await make_estate(console)
    await add_click(console, tenant_id, "clean", "redirect", mailbox_id=box)
    await add_click(console, tenant_id, "clean", "redirect", mailbox_id=box, automated=True)
    await add_click(console, tenant_id, "suspicious", "warn", mailbox_id=box, at=console.clock() - timedelta(days=2))
    await add_click(console, tenant_id, "malicious", "block", mailbox_id=box)
    assert len(rows(await browser.page(f"/clicks{query}"), "click-row")) == expected


async def test_the_overview_counts_people_and_says_what_needs_attention(console: Console) -> None:
    tenant_id, browser, box = await make_estate(console)
    await add_message(console, tenant_id, box, links=3)
    await add_message(console, tenant_id, box, state="failed")
    await add_click(console, tenant_id, "clean", "redirect", mailbox_id=box)
    await add_click(console, tenant_id, "malicious", "block", mailbox_id=box)
    await add_click(console, tenant_id, "malicious", "block", mailbox_id=box, automated=True)
    await add_click(console, tenant_id, "suspicious", "warn", mailbox_id=box, at=console.clock() - timedelta(days=5))
    async with console.database.tenant(tenant_id) as session:
        (await session.scalars(select(Tenant))).one().checks = [
            {"key": "mail_advanced", "status": "failed", "summary": "s", "remedy": "", "link": ""}
        ]
        session.add(
            ClickReport(
                tenant_id=tenant_id, id=uuid.uuid4(), at=console.clock(), kind="release", url="https://a.b/", host="a.b"
            )
        )
    page = await browser.page("/overview")
    assert number(page, "count-protected") == "1"
    assert number(page, "count-clicks") == "2"
    assert number(page, "count-blocked") == "1"
    assert number(page, "count-warned") == "0"
    needs = " ".join(rows(page, "needs"))
    assert "An access check failed" in needs
    assert "1 message could not be protected" in needs
    assert "1 request of a person is unanswered" in needs
    assert number(await browser.page("/overview?days=7"), "count-warned") == "1"


async def test_the_overview_says_when_protection_is_off_paused_late_or_keeping_up(console: Console) -> None:
    tenant_id, browser, box = await make_estate(console)
    assert 'data-status="on"' in await browser.page("/overview")
    await add_message(console, tenant_id, box, state="seen", seen_at=console.clock() - timedelta(seconds=5))
    assert "1 message in progress" in await browser.page("/overview")
    await add_message(console, tenant_id, box, state="seen", seen_at=console.clock() - timedelta(minutes=9))
    assert 'data-status="late"' in await browser.page("/overview")
    await browser.post("/connector/pause")
    assert 'data-status="paused"' in await browser.page("/overview")
    async with console.database.tenant(tenant_id) as session:
        (await session.scalars(select(Domain))).one().protected = False
    assert 'data-status="off"' in await browser.page("/overview")
