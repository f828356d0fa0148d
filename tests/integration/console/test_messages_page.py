"""The message list, its filters, the trace, and giving a message its links back."""

from __future__ import annotations

from datetime import timedelta

import pytest
from selectolax.lexbor import LexborHTMLParser
from sqlalchemy import select, text

from app.protection.models import (
    MessageEvent,
    MessageLink,
    MessageRow,
    RestoreRun,
)
from app.tenants.actor import Role
from tests.integration.console.estate import add_click, add_mailbox, add_message, make_estate, rows
from tests.integration.console.world import Console

pytestmark = pytest.mark.anyio


async def test_a_trace_tells_in_order_what_happened_and_who_clicked(console: Console) -> None:
    tenant_id, browser, box = await make_estate(console)
    message_id = await add_message(console, tenant_id, box)
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
    await add_click(
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
    tenant_id, browser, box = await make_estate(console)
    message_id = await add_message(console, tenant_id, box)
    page = await browser.page(f"/messages?state=protected&q=Invoice&open={message_id}")
    tree = LexborHTMLParser(page)
    assert tree.css_first('[data-testid="panel"]') is not None
    close = tree.css_first("[data-close]")
    assert close is not None
    assert close.attributes["href"] == "/messages?q=Invoice&state=protected" or set(
        str(close.attributes["href"]).partition("?")[2].split("&")
    ) == {"state=protected", "q=Invoice"}


async def test_a_message_that_is_gone_leaves_the_list_usable(console: Console) -> None:
    tenant_id, browser, box = await make_estate(console)
    await add_message(console, tenant_id, box)
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
        ("?mailbox={ada}", {"Invoice", "Skipped one"}),
        ("?q=ada@nordwind.example", {"Invoice", "Skipped one"}),
        ("?days=1", {"Invoice", "Skipped one"}),
        ("?host=harbour.example", {"Newsletter"}),
        ("?state=unfinished", set()),
    ],
)
async def test_filters_narrow_the_list(console: Console, query: str, expected: set[str]) -> None:
    tenant_id, browser, ada = await make_estate(console)
    ben = await add_mailbox(console, tenant_id, "ben@nordwind.example")
    await add_message(console, tenant_id, ada)
    await add_message(console, tenant_id, ada, subject="Skipped one", state="skipped", reason="signed")
    old = await add_message(
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
    page = await browser.page("/messages" + query.format(ada=ada))
    listed = " ".join(rows(page, "message-row"))
    found = {subject for subject in ("Invoice", "Newsletter", "Skipped one") if subject in listed}
    assert found == expected


async def test_long_lists_come_in_pages_without_loss_or_repetition(console: Console) -> None:
    tenant_id, browser, box = await make_estate(console)
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
    tenant_id, browser, box = await make_estate(console)
    message_id = await add_message(console, tenant_id, box)
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
    tenant_id, browser, box = await make_estate(console)
    message_id = await add_message(console, tenant_id, box, state="skipped", reason="signed")
    page = await browser.page(f"/messages/{message_id}")
    assert "restore-message" not in page
    assert "a change would break the signature" in page


async def test_a_look_at_a_message_is_recorded_once_and_not_at_every_refresh(console: Console) -> None:
    tenant_id, browser, box = await make_estate(console)
    message_id = await add_message(console, tenant_id, box)
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


async def test_pressing_a_column_head_again_turns_the_order_round(console: Console) -> None:
    tenant_id, browser, box = await make_estate(console)
    for age in range(3):
        await add_message(
            console, tenant_id, box, subject=f"Number {age}", seen_at=console.clock() - timedelta(hours=age)
        )
    page = await browser.page("/messages")
    assert [row.split("Number ")[1][0] for row in rows(page, "message-row")] == ["0", "1", "2"]
    turned = LexborHTMLParser(page).css_first("a.sorter")
    assert turned is not None
    page = await browser.page(str(turned.attributes["href"]))
    assert [row.split("Number ")[1][0] for row in rows(page, "message-row")] == ["2", "1", "0"]
    back = LexborHTMLParser(page).css_first("a.sorter")
    assert back is not None
    assert back.attributes["href"] == "/messages"


async def test_the_list_says_in_the_readers_words_why_a_message_was_left_as_it_was(console: Console) -> None:
    tenant_id, browser, box = await make_estate(console)
    await add_message(console, tenant_id, box, subject="A", state="skipped", reason="signed")
    await add_message(console, tenant_id, box, subject="B", state="skipped", reason="a reason of a later version")
    page = (await browser.get("/messages", headers={"accept-language": "de"})).text
    assert set(rows(page, "reason")) == {"signiert: eine Änderung bräche die Signatur", "a reason of a later version"}


async def test_evidence_of_a_click_is_in_the_readers_language(console: Console) -> None:
    tenant_id, browser, box = await make_estate(console)
    message_id = await add_message(console, tenant_id, box)
    signal = {"code": "login_page", "fields": {"brand": "<Moor>"}, "text": "The page asks for a password, but …"}
    unknown = {"code": "of_a_later_version", "fields": {}, "text": "Said by a later version."}
    await add_click(
        console, tenant_id, "malicious", "block", message_id=message_id, mailbox_id=box, evidence=[signal, unknown]
    )
    english = await browser.page(f"/messages/{message_id}")
    german = (await browser.get(f"/messages/{message_id}", headers={"accept-language": "de"})).text
    assert "The page asks for a password, but it does not belong to &lt;Moor&gt;." in english
    assert "The page asks for a password" not in german
    assert "&lt;Moor&gt;" in german
    assert "Said by a later version." in german


async def test_an_empty_list_leads_to_older_mail_only_who_may_protect_it(console: Console) -> None:
    _, owner, _ = await make_estate(console)
    assert rows(await owner.page("/messages"), "protect-older")
    _, auditor, _ = await make_estate(console, Role.AUDITOR)
    page = await auditor.page("/messages")
    assert rows(page, "empty")
    assert not rows(page, "protect-older")
