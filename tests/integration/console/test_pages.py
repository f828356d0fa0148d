"""What the pages say about messages, clicks, lists, mailboxes and people, read as a browser gets them."""

from __future__ import annotations

import re
import uuid
from datetime import timedelta
from typing import Any

import pytest
from selectolax.lexbor import LexborHTMLParser
from sqlalchemy import select, text

from app.gateway.models import Click, ClickReport
from app.policy.models import ListEntry
from app.protection.models import (
    MailboxRow,
    MessageEvent,
    MessageLink,
    MessageRow,
    RestoreRun,
    SubscriptionRow,
)
from app.tenants.actor import Role
from app.tenants.models import Domain, Tenant, User
from tests.integration.console.world import Browser, Console

pytestmark = pytest.mark.anyio

HOSTILE = '"><img src=x onerror=alert(1)><script>alert(1)</script>\u202egnp.exe'


async def mailbox(console: Console, tenant_id: uuid.UUID, address: str = "ada@nordwind.example", **more: Any) -> int:
    async with console.database.tenant(tenant_id) as session:
        row = MailboxRow(
            tenant_id=tenant_id, external_id=address, address=address, domain=address.partition("@")[2], **more
        )
        session.add(row)
        await session.flush()
        return row.id


async def message(console: Console, tenant_id: uuid.UUID, mailbox_id: int, **more: Any) -> int:
    values: dict[str, Any] = {
        "state": "protected",
        "subject": "Invoice",
        "sender": "billing@supplier.example",
        "links": 1,
        "seen_at": console.clock(),
        **more,
    }
    async with console.database.tenant(tenant_id) as session:
        name = uuid.uuid4().hex
        row = MessageRow(tenant_id=tenant_id, mailbox_id=mailbox_id, external_id=name, current_id=name, **values)
        session.add(row)
        await session.flush()
        return row.id


async def click(console: Console, tenant_id: uuid.UUID, level: str, action: str, **more: Any) -> None:
    values: dict[str, Any] = {
        "at": console.clock(),
        "url": f"https://{level}.example/path",
        "host": f"{level}.example",
        **more,
    }
    async with console.database.tenant(tenant_id) as session:
        session.add(Click(tenant_id=tenant_id, id=uuid.uuid4(), level=level, action=action, **values))


async def estate(console: Console, role: Role = Role.OWNER) -> tuple[uuid.UUID, Browser, int]:
    """A tenant with a protected domain and one mailbox, and somebody signed in."""
    tenant_id = await console.make_tenant()
    async with console.database.tenant(tenant_id) as session:
        session.add(Domain(tenant_id=tenant_id, name="nordwind.example", protected=True))
    box = await mailbox(console, tenant_id)
    return tenant_id, await console.signed_in(tenant_id, role), box


def rows(page: str, name: str) -> list[str]:
    return [row.text(separator=" ") for row in LexborHTMLParser(page).css(f'[data-testid="{name}"]')]


def number(page: str, name: str) -> str:
    found = LexborHTMLParser(page).css_first(f'[data-testid="{name}"]')
    assert found is not None
    return found.text(strip=True)


# --- messages ---------------------------------------------------------------------------------------------


async def test_a_trace_tells_in_order_what_happened_and_who_clicked(console: Console) -> None:
    tenant_id, browser, box = await estate(console)
    message_id = await message(console, tenant_id, box)
    start = console.clock()
    async with console.database.tenant(tenant_id) as session:
        for at, kind in enumerate(("seen", "written", "verified", "protected")):
            session.add(
                MessageEvent(
                    tenant_id=tenant_id, message_id=message_id, kind=kind, at=start + timedelta(seconds=at), detail={}
                )
            )
        session.add(
            MessageEvent(
                tenant_id=tenant_id,
                message_id=message_id,
                kind="restored",
                actor="ada@nordwind.example",
                at=start + timedelta(seconds=30),
                detail={},
            )
        )
        session.add(
            MessageLink(
                tenant_id=tenant_id,
                message_id=message_id,
                ordinal=0,
                url="https://login.evil.example/x",
                host="login.evil.example",
                kind="anchor",
                text="paypal.com",
                findings=[{"code": "text_host", "message": "The text shows paypal.com."}],
            )
        )
    await click(
        console,
        tenant_id,
        "malicious",
        "block",
        at=start + timedelta(seconds=10),
        message_id=message_id,
        mailbox_id=box,
        evidence=[{"code": "feed", "text": "Listed as phishing."}],
    )
    page = await browser.page(f"/messages/{message_id}")
    timeline = rows(page, "timeline")[0]
    order = ["Delivered and seen", "New content written", "Read back and verified", "Links protected", "Link clicked"]
    places = [timeline.index(words) for words in [*order, "Original links restored"]]
    assert places == sorted(places)
    assert "Listed as phishing." in timeline
    assert "ada@nordwind.example" in timeline
    link = rows(page, "link-row")[0]
    assert "login.evil.example" in link
    assert "paypal.com" in link
    assert "The text shows paypal.com." in link


async def test_a_message_opens_beside_the_list_and_the_filters_stay_in_the_address(console: Console) -> None:
    tenant_id, browser, box = await estate(console)
    message_id = await message(console, tenant_id, box)
    page = await browser.page(f"/messages?state=protected&q=Invoice&open={message_id}")
    tree = LexborHTMLParser(page)
    assert tree.css_first('[data-testid="panel"]') is not None
    close = tree.css_first("[data-close]")
    assert close is not None
    assert close.attributes["href"] == "/messages?q=Invoice&state=protected" or set(
        str(close.attributes["href"]).partition("?")[2].split("&")
    ) == {"state=protected", "q=Invoice"}


async def test_a_message_that_is_gone_leaves_the_list_usable(console: Console) -> None:
    tenant_id, browser, box = await estate(console)
    await message(console, tenant_id, box)
    page = await browser.page("/messages?open=123456789")
    assert len(rows(page, "message-row")) == 1
    assert rows(page, "panel") == []


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", {"Invoice", "Newsletter", "Skipped one"}),
        ("?state=protected", {"Invoice", "Newsletter"}),
        ("?state=skipped", {"Skipped one"}),
        ("?q=news", {"Newsletter"}),
        ("?q=NEWS@HARBOUR", {"Newsletter"}),
        ("?q=ben@", {"Newsletter"}),
        ("?q=%25", set()),
        ("?mailbox=ada@nordwind.example", {"Invoice", "Skipped one"}),
        ("?days=1", {"Invoice", "Skipped one"}),
        ("?host=harbour.example", {"Newsletter"}),
        ("?state=unfinished", set()),
    ],
)
async def test_filters_narrow_the_list(console: Console, query: str, expected: set[str]) -> None:
    tenant_id, browser, ada = await estate(console)
    ben = await mailbox(console, tenant_id, "ben@nordwind.example")
    await message(console, tenant_id, ada)
    await message(console, tenant_id, ada, subject="Skipped one", state="skipped", reason="signed")
    old = await message(
        console,
        tenant_id,
        ben,
        subject="Newsletter",
        sender="news@harbour.example",
        seen_at=console.clock() - timedelta(days=3),
    )
    async with console.database.tenant(tenant_id) as session:
        session.add(
            MessageLink(
                tenant_id=tenant_id,
                message_id=old,
                ordinal=0,
                url="https://harbour.example/",
                host="harbour.example",
                kind="anchor",
            )
        )
    page = await browser.page(f"/messages{query}")
    listed = " ".join(rows(page, "message-row"))
    found = {subject for subject in ("Invoice", "Newsletter", "Skipped one") if subject in listed}
    assert found == expected


async def test_long_lists_come_in_pages_without_loss_or_repetition(console: Console) -> None:
    tenant_id, browser, box = await estate(console)
    async with console.database.tenant(tenant_id) as session:
        for at in range(120):
            session.add(
                MessageRow(
                    tenant_id=tenant_id,
                    mailbox_id=box,
                    external_id=f"x{at}",
                    current_id=f"x{at}",
                    state="protected",
                    seen_at=console.clock() - timedelta(minutes=at // 4),
                )
            )
    seen: list[str] = []
    path = "/messages"
    while path:
        page = LexborHTMLParser(await browser.page(path))
        seen += [str(row.attributes["data-id"]) for row in page.css('[data-testid="message-row"]')]
        following = page.css_first('a[rel="next"]')
        path = str(following.attributes["href"]) if following else ""
    assert len(seen) == len(set(seen)) == 120


async def test_restoring_a_message_asks_for_it_and_comes_back_to_the_list(console: Console) -> None:
    tenant_id, browser, box = await estate(console)
    message_id = await message(console, tenant_id, box)
    await browser.page(f"/messages/{message_id}")
    answer = await browser.post(f"/messages/{message_id}/restore", {"next": f"/messages?open={message_id}"})
    assert answer.headers["location"] == f"/messages?open={message_id}"
    async with console.database.tenant(tenant_id) as session:
        run = (await session.scalars(select(RestoreRun))).one()
        jobs = await session.scalar(
            text("SELECT count(*) FROM procrastinate_jobs WHERE args->>'run_id' = :run"), {"run": str(run.id)}
        )
    assert (run.scope, run.target, run.total) == ("message", str(message_id), 1)
    assert jobs == 1


async def test_a_message_that_is_not_protected_has_no_restore_button(console: Console) -> None:
    tenant_id, browser, box = await estate(console)
    message_id = await message(console, tenant_id, box, state="skipped", reason="signed")
    page = await browser.page(f"/messages/{message_id}")
    assert "restore-message" not in page
    assert "a change would break the signature" in page


# --- clicks and overview ----------------------------------------------------------------------------------


async def test_a_click_is_in_the_list_on_the_next_load_with_word_and_icon(console: Console) -> None:
    tenant_id, browser, box = await estate(console)
    message_id = await message(console, tenant_id, box, subject="Your parcel")
    assert rows(await browser.page("/clicks"), "click-row") == []
    for level, action in (("clean", "redirect"), ("suspicious", "warn"), ("malicious", "block")):
        await click(console, tenant_id, level, action, mailbox_id=box, message_id=message_id)
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
    tenant_id, browser, box = await estate(console)
    await click(console, tenant_id, "clean", "redirect", mailbox_id=box)
    await click(console, tenant_id, "clean", "redirect", mailbox_id=box, automated=True)
    await click(console, tenant_id, "suspicious", "warn", mailbox_id=box, at=console.clock() - timedelta(days=2))
    await click(console, tenant_id, "malicious", "block", mailbox_id=box)
    assert len(rows(await browser.page(f"/clicks{query}"), "click-row")) == expected


async def test_the_overview_counts_people_and_says_what_needs_attention(console: Console) -> None:
    tenant_id, browser, box = await estate(console)
    await message(console, tenant_id, box, links=3)
    await message(console, tenant_id, box, state="failed")
    await click(console, tenant_id, "clean", "redirect", mailbox_id=box)
    await click(console, tenant_id, "malicious", "block", mailbox_id=box)
    await click(console, tenant_id, "malicious", "block", mailbox_id=box, automated=True)
    await click(console, tenant_id, "suspicious", "warn", mailbox_id=box, at=console.clock() - timedelta(days=5))
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
    tenant_id, browser, box = await estate(console)
    assert 'data-status="on"' in await browser.page("/overview")
    await message(console, tenant_id, box, state="seen", seen_at=console.clock() - timedelta(seconds=5))
    assert "1 message in progress" in await browser.page("/overview")
    await message(console, tenant_id, box, state="seen", seen_at=console.clock() - timedelta(minutes=9))
    assert 'data-status="late"' in await browser.page("/overview")
    await browser.post("/connector/pause")
    assert 'data-status="paused"' in await browser.page("/overview")
    async with console.database.tenant(tenant_id) as session:
        (await session.scalars(select(Domain))).one().protected = False
    assert 'data-status="off"' in await browser.page("/overview")


async def test_the_json_api_says_the_same_as_the_pages(console: Console) -> None:
    tenant_id, browser, box = await estate(console)
    message_id = await message(console, tenant_id, box)
    await click(console, tenant_id, "malicious", "block", mailbox_id=box, message_id=message_id)
    overview = (await browser.get("/api/v1/overview")).json()
    assert overview["messages"] == {"protected": 1}
    assert overview["actions"] == {"block": 1}
    assert (await browser.get("/api/v1/messages")).json()["items"][0]["subject"] == "Invoice"
    trace = (await browser.get(f"/api/v1/messages/{message_id}")).json()
    assert trace["events"][-1]["kind"] == "click"
    assert (await browser.get("/api/v1/clicks")).json()["items"][0]["person"] == "ada@nordwind.example"
    described = (await browser.get("/api/v1/openapi.json")).json()
    assert set(described["paths"]) == {
        "/api/v1/session",
        "/api/v1/overview",
        "/api/v1/messages",
        "/api/v1/messages/{message_id}",
        "/api/v1/clicks",
        "/api/v1/domains",
        "/api/v1/domains/{name}",
        "/api/v1/restores",
    }


# --- hostile content --------------------------------------------------------------------------------------


async def test_hostile_subjects_senders_addresses_and_names_are_text_and_never_a_link(console: Console) -> None:
    tenant_id, browser, box = await estate(console)
    async with console.database.tenant(tenant_id) as session:
        (await session.scalars(select(Tenant))).one().name = "<b>Nordwind</b>"
        (await session.scalars(select(User))).one().name = HOSTILE
    url = f"https://evil.example/{HOSTILE}"
    message_id = await message(console, tenant_id, box, subject=HOSTILE, sender=HOSTILE, reason=HOSTILE)
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
    await click(
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
    tenant_id, browser, _ = await estate(console)
    async with console.database.tenant(tenant_id) as session:
        (await session.scalars(select(Tenant))).one().checks = [
            {"key": "a", "status": "failed", "summary": "s", "remedy": "r", "link": "javascript:alert(1)"},
            {"key": "b", "status": "failed", "summary": "s", "remedy": "r", "link": "https://entra.microsoft.com/x"},
        ]
    page = await browser.page("/connector")
    assert "javascript:" not in page
    assert 'href="https://entra.microsoft.com/x"' in page


# --- lists, requests, mailboxes, people, settings ---------------------------------------------------------


async def test_list_entries_are_added_moved_and_removed(console: Console) -> None:
    _, browser, _ = await estate(console)
    await browser.page("/lists")
    for action, pattern in (("block", "bad.example"), ("allow", "good.example"), ("lock", "held.example")):
        assert (await browser.post("/lists", {"action": action, "pattern": pattern})).status_code == 303

    async def order() -> list[str]:
        return re.findall(r'<code class="pattern">([^<]+)<', await browser.page("/lists"))

    assert await order() == ["held.example", "good.example", "bad.example"]
    page = await browser.page("/lists")
    last = re.findall(r"/lists/(\d+)/remove", page)[-1]
    await browser.post(f"/lists/{last}/move", {"direction": "up"})
    assert await order() == ["held.example", "bad.example", "good.example"]
    await browser.post(f"/lists/{last}/move", {"direction": "down"})
    assert await order() == ["held.example", "good.example", "bad.example"]
    await browser.post(f"/lists/{last}/remove")
    assert await order() == ["held.example", "good.example"]
    answer = await browser.post("/lists", {"action": "block", "pattern": "not a host"})
    assert answer.status_code == 400


async def test_allowing_what_somebody_asked_for_adds_exactly_that_host(console: Console) -> None:
    tenant_id, browser, box = await estate(console)
    report_id = uuid.uuid4()
    async with console.database.tenant(tenant_id) as session:
        session.add(
            ClickReport(
                tenant_id=tenant_id,
                id=report_id,
                at=console.clock(),
                kind="release",
                mailbox_id=box,
                url="https://portal.example/x",
                host="portal.example",
                reason="Needed for orders",
            )
        )
    page = await browser.page("/lists")
    assert "Needed for orders" in page
    assert (await browser.post(f"/lists/requests/{report_id}", {"decision": "allow"})).status_code == 303
    async with console.database.tenant(tenant_id) as session:
        entry = (await session.scalars(select(ListEntry))).one()
        report = (await session.scalars(select(ClickReport))).one()
    assert (entry.action, entry.pattern) == ("allow", "=portal.example")
    assert (report.state, report.handled_by) == ("allowed", browser_email(await browser.page("/people")))
    assert (await browser.post(f"/lists/requests/{report_id}", {"decision": "dismiss"})).status_code == 409


def browser_email(page: str) -> str:
    found = re.search(r"owner-[0-9a-f]{6}@nordwind\.example", page)
    assert found
    return found[0]


async def test_the_connector_page_shows_each_mailbox_with_its_health(console: Console) -> None:
    tenant_id, browser, box = await estate(console)
    await mailbox(console, tenant_id, "broken@nordwind.example", error="No licence.")
    await mailbox(console, tenant_id, "out@nordwind.example", opted_out=True)
    async with console.database.tenant(tenant_id) as session:
        session.add(
            SubscriptionRow(
                tenant_id=tenant_id,
                provider="microsoft",
                id="s",
                mailbox_id=box,
                expires_at=console.clock() - timedelta(hours=1),
                secret_sealed=b"x",
            )
        )
    await message(console, tenant_id, box)
    page = await browser.page("/connector")
    found = rows(page, "mailbox-row")
    assert "broken@nordwind.example" in found[0], "those in trouble come first"
    assert "No licence." in found[0]
    ada = next(row for row in found if "ada@nordwind.example" in row)
    assert "expired" in ada
    assert "Restore" in ada
    assert "Opted out" in next(row for row in found if "out@nordwind.example" in row)
    assert len(rows(await browser.page("/connector?show=trouble"), "mailbox-row")) == 1


async def test_a_restore_says_in_numbers_what_it_will_touch_before_it_starts(console: Console) -> None:
    tenant_id, browser, box = await estate(console)
    other = await mailbox(console, tenant_id, "ben@nordwind.example")
    for _ in range(3):
        await message(console, tenant_id, box)
    await message(console, tenant_id, other)
    await message(console, tenant_id, other, state="skipped")
    page = await browser.page(f"/connector/restore?scope=mailbox&target={box}")
    assert 'data-messages="3"' in page
    assert "ada@nordwind.example" in page
    page = await browser.page("/connector/restore?scope=tenant")
    assert 'data-messages="4"' in page
    await browser.post("/connector/restore", {"scope": "tenant"})
    page = await browser.page("/connector")
    assert 'data-scope="tenant"' in page
    assert "0 of 4" in page


async def test_a_domain_is_switched_in_the_settings_and_by_the_api(console: Console) -> None:
    tenant_id, browser, _ = await estate(console)
    await browser.page("/settings")
    await browser.post("/settings/domains/nordwind.example", {"protected": "false"})
    async with console.database.tenant(tenant_id) as session:
        assert not (await session.scalars(select(Domain))).one().protected
    answer = await browser.http.put(
        "/api/v1/domains/nordwind.example",
        json={"protected": True, "dry_run": True, "days": 30},
        headers={"x-csrf-token": browser.csrf},
    )
    assert answer.status_code == 200
    assert answer.json()["dry_run"] is True


async def test_the_organisations_words_are_stored_where_the_gateway_reads_them(console: Console) -> None:
    from app.policy.service import PolicyService

    tenant_id, browser, _ = await estate(console)
    await browser.page("/settings")
    form = {"name": "Nordwind AG", "contact": "help@nordwind.example", "note": "Ask us", "failure": "closed"}
    await browser.post("/settings/organisation", {**form, "keep_address": "true"})
    snapshot = await PolicyService(console.database).snapshot(tenant_id)
    assert (snapshot.name, snapshot.words.contact, snapshot.words.note) == (
        "Nordwind AG",
        "help@nordwind.example",
        "Ask us",
    )
    assert snapshot.failure == "closed"
    assert snapshot.keep_address
    page = await browser.page("/audit")
    assert "tenant.settings" in page


@pytest.mark.parametrize(
    "form",
    [
        {"name": ""},
        {"name": "x" * 101},
        {"name": "a\x00b"},
        {"name": "N", "contact": "c" * 201},
        {"name": "N", "note": "line\nline"},
        {"name": "N", "failure": "explode"},
    ],
)
async def test_unusable_settings_are_refused_and_change_nothing(console: Console, form: dict[str, str]) -> None:
    tenant_id, browser, _ = await estate(console)
    assert (await browser.post("/settings/organisation", form)).status_code == 400
    async with console.database.tenant(tenant_id) as session:
        assert (await session.scalars(select(Tenant.name))).one() == "Nordwind"


async def test_the_last_owner_stays_owner(console: Console) -> None:
    tenant_id, browser, _ = await estate(console)
    answer = await browser.post(f"/people/{browser.user_id}/role", {"role": "user"})
    assert answer.status_code == 409
    second = await console.signed_in(tenant_id, Role.ANALYST)
    assert (await browser.post(f"/people/{second.user_id}/role", {"role": "owner"})).status_code == 303
    assert (await browser.post(f"/people/{browser.user_id}/role", {"role": "user"})).status_code == 303
    assert (await browser.post(f"/people/{second.user_id}/role", {"role": "user"})).status_code == 404


async def test_an_owner_signs_a_person_out_everywhere(console: Console) -> None:
    tenant_id, browser, _ = await estate(console)
    analyst = await console.signed_in(tenant_id, Role.ANALYST)
    await analyst.page("/overview")
    await browser.post(f"/people/{analyst.user_id}/sign-out")
    assert (await analyst.get("/overview")).status_code == 303


async def test_pages_speak_the_readers_language(console: Console) -> None:
    _, browser, _ = await estate(console)
    page = (await browser.get("/overview", headers={"accept-language": "de-AT, en;q=0.5"})).text
    assert '<html lang="de">' in page
    assert "Übersicht" in page
    await browser.page("/settings")
    await browser.post("/settings/language", {"locale": "ja"})
    page = (await browser.get("/overview", headers={"accept-language": "de"})).text
    assert '<html lang="ja">' in page
    assert "概要" in page
    visitor = console.browser()
    chosen = await visitor.get("/language/de", params={"next": "/"})
    assert chosen.headers["location"] == "/"
    assert "Anmelden" in await visitor.page("/")


async def test_static_files_are_kept_for_long_under_an_address_that_changes_with_them(console: Console) -> None:
    browser = console.browser()
    page = await browser.page("/")
    for path in re.findall(r'(?:href|src)="(/static/[^"]+)"', page):
        answer = await browser.get(path)
        assert answer.status_code == 200
        assert "immutable" in answer.headers["cache-control"]
        assert "?v=" in path


async def test_a_look_at_a_message_is_recorded_once_and_not_at_every_refresh(console: Console) -> None:
    tenant_id, browser, box = await estate(console)
    message_id = await message(console, tenant_id, box)
    for _ in range(3):
        await browser.page(f"/messages?open={message_id}")
        await browser.page(f"/messages/{message_id}")
        await browser.get(f"/api/v1/messages/{message_id}")

    async def looks() -> list[str]:
        async with console.database.tenant(tenant_id) as session:
            lines = await session.scalars(text("SELECT target FROM audit_log WHERE action = 'message.viewed'"))
            return list(lines)

    assert await looks() == ["ada@nordwind.example"]
    console.clock.offset = timedelta(minutes=11)
    await browser.page(f"/messages/{message_id}")
    assert await looks() == ["ada@nordwind.example"] * 2


async def test_a_restore_is_cancelled_from_the_connector_page(console: Console) -> None:
    tenant_id, browser, box = await estate(console)
    await message(console, tenant_id, box)
    await browser.page("/connector")
    await browser.post("/connector/restore", {"scope": "tenant"})
    page = await browser.page("/connector")
    cancel = re.search(r'action="(/connector/restores/\d+/cancel)"', page)
    assert cancel
    assert (await browser.post(cancel[1])).status_code == 303
    page = await browser.page("/connector")
    assert 'data-state="cancelled"' in page
    assert "cancel-restore" not in page


async def test_renewing_a_grant_that_was_withdrawn_goes_on_where_it_stopped(console: Console) -> None:
    _, (ada,) = console.microsoft("ada")
    browser = console.browser()
    await browser.sign_in("microsoft", ada)
    await browser.get(await browser.accept_consent(await browser.to_consent()))
    await browser.post("/onboarding/protect", {"domains": console.domain})
    row = await console.only_tenant(ada.tenant_id)
    async with console.database.tenant(row.tenant_id) as session:
        (await session.scalars(select(Tenant))).one().status = "revoked"
        await session.execute(
            text("DELETE FROM procrastinate_jobs WHERE args->>'tenant_id' = :id"), {"id": str(row.tenant_id)}
        )
    assert "access was withdrawn" in await browser.page("/overview")
    done = await browser.get(await browser.accept_consent(await browser.to_consent()))
    assert done.headers["location"] == "/onboarding"
    async with console.database.tenant(row.tenant_id) as session:
        tenant = (await session.scalars(select(Tenant))).one()
        jobs = await session.scalar(
            text("SELECT count(*) FROM procrastinate_jobs WHERE args->>'tenant_id' = :id"), {"id": str(row.tenant_id)}
        )
    assert tenant.status == "active"
    assert jobs == 1
