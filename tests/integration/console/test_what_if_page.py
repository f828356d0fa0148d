"""'What would happen for this link and this person, and why': the page and the command agree with real clicks."""

from __future__ import annotations

import uuid
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote

import pytest
from selectolax.lexbor import LexborHTMLParser
from sqlalchemy import update

from app.policy.service import PolicyService
from app.protection.models import MailboxRow
from app.protection.what_if import what_if
from app.tenants.actor import cli_actor
from app.tenants.models import Domain, Tenant
from app.verdicts.lists import installed_lists
from tests.integration.console.estate import add_mailbox, make_estate, number, rows
from tests.integration.console.world import Browser, Console

pytestmark = pytest.mark.anyio


async def outcome(browser: Browser, url: str, user: object = "", at: str = "") -> tuple[str | None, str | None, str]:
    page = await browser.page(f"/what-if?url={quote(url, safe='')}&user={user}&at={at}")
    found = LexborHTMLParser(page).css_first('[data-testid="outcome"]')
    assert found is not None
    return found.attributes["data-outcome"], found.attributes["data-treatment"], page


async def since_yesterday(console: Console, tenant_id: uuid.UUID) -> None:
    async with console.database.tenant(tenant_id) as session:
        await session.execute(update(Domain).values(protect_since=console.clock() - timedelta(days=1)))


async def test_it_says_what_a_click_would_get_and_by_which_rule(console: Console) -> None:
    tenant_id, browser, box = await make_estate(console)
    await since_yesterday(console, tenant_id)
    policy = PolicyService(console.database)
    await policy.add(cli_actor(tenant_id), action="block", pattern="casino.example")
    await policy.add(cli_actor(tenant_id), action="allow", pattern="fine.casino.example")
    assert (await outcome(browser, "https://good.example/", box))[:2] == ("redirect", "protected")
    blocked = await outcome(browser, "https://www.casino.example/play", box)
    assert blocked[0] == "block"
    assert "of your list (Block casino.example)" in number(blocked[2], "click-rule")
    assert "matches www.casino.example and decides" in blocked[2]
    allowed = await outcome(browser, "https://fine.casino.example/", box)
    assert allowed[0] == "redirect"
    assert "of your list (Allow fine.casino.example)" in number(allowed[2], "click-rule")


@pytest.mark.parametrize(
    ("locale", "decides", "passed_over"),
    [
        (
            "de",
            "Ihrer Liste (Sperren casino.example) trifft auf casino.example zu",
            "endet der Link nicht",
        ),
        ("ja", "（ブロック casino.example）が casino.example に当てはまり", "最終的な行き先ではない"),
    ],
)
async def test_how_it_came_about_is_said_in_the_readers_language(
    console: Console, locale: str, decides: str, passed_over: str
) -> None:
    tenant_id, browser, box = await make_estate(console)
    await since_yesterday(console, tenant_id)
    policy = PolicyService(console.database)
    await policy.add(cli_actor(tenant_id), action="block", pattern="casino.example")
    await policy.add(cli_actor(tenant_id), action="allow", pattern="nam02.safelinks.protection.outlook.com")
    await browser.post("/settings/language", {"locale": locale})
    _, _, page = await outcome(browser, "https://casino.example/play", box)
    assert decides in page
    assert "matches" not in page
    wrapped = "https://nam02.safelinks.protection.outlook.com/?url=https%3A%2F%2Ffine.example%2F"
    _, _, page = await outcome(browser, wrapped, box)
    assert passed_over in page
    assert "Nothing exempts" not in page


async def test_every_signal_is_there_with_its_points_in_words(console: Console) -> None:
    _, browser, _ = await make_estate(console)
    _, _, page = await outcome(browser, "http://paypal.com@192.0.2.7/login.exe")
    shown = rows(page, "signal-row")
    assert len(shown) >= 3
    assert any("+60" in row for row in shown)
    assert "192.0.2.7" in number(page, "final")
    german = await browser.get("/what-if?url=http%3A%2F%2F192.0.2.7%2F", headers={"accept-language": "de"})
    assert "Was zu sehen war" in german.text


async def test_the_person_and_the_time_decide_whether_the_link_is_rewritten_at_all(console: Console) -> None:
    tenant_id, browser, box = await make_estate(console)
    url = "https://good.example/"
    assert (await outcome(browser, url, box))[:2] == ("direct", "domain"), "protection has no beginning yet"
    await since_yesterday(console, tenant_id)
    assert (await outcome(browser, url, box))[:2] == ("redirect", "protected")
    before = (console.clock() - timedelta(days=3)).strftime("%Y-%m-%dT%H:%M")
    assert (await outcome(browser, url, box, before))[:2] == ("direct", "before")
    other = await add_mailbox(console, tenant_id, "eva@elsewhere.example")
    assert (await outcome(browser, url, other))[:2] == ("direct", "domain")
    async with console.database.tenant(tenant_id) as session:
        await session.execute(update(MailboxRow).where(MailboxRow.id == box).values(opted_out=True))
    assert (await outcome(browser, url, box))[:2] == ("direct", "mailbox")
    assert (await outcome(browser, url))[:2] == ("redirect", "anybody")
    assert (await outcome(browser, "https://mail.nordwind.example/"))[0] == "direct", "an own domain is left alone"


async def test_an_old_message_of_a_tenant_whose_links_end_is_expired(console: Console) -> None:
    tenant_id, browser, box = await make_estate(console)
    async with console.database.tenant(tenant_id) as session:
        await session.execute(update(Domain).values(protect_since=console.clock() - timedelta(days=100)))
        await session.execute(update(Tenant).values(settings={"gateway": {"link_days": 30}}))
    old = (console.clock() - timedelta(days=40)).strftime("%Y-%m-%dT%H:%M")
    assert (await outcome(browser, "https://good.example/", box, old))[0] == "expired"
    assert (await outcome(browser, "https://good.example/", box))[0] == "redirect"


async def test_another_tenants_person_is_nobody(console: Console) -> None:
    _, browser, _ = await make_estate(console)
    other_tenant = await console.make_tenant("Other")
    theirs = await add_mailbox(console, other_tenant, "eve@other.example")
    page = await browser.page(f"/what-if?url=https%3A%2F%2Fgood.example%2F&user={theirs}")
    assert "eve@other.example" not in page
    assert 'data-testid="outcome"' not in page


@pytest.mark.parametrize(
    "url", ["<script>alert(1)</script>", "javascript:alert(1)", "not an address", "https://[", "%"]
)
async def test_whatever_is_asked_is_answered_and_stays_text(console: Console, url: str) -> None:
    _, browser, _ = await make_estate(console)
    _, _, page = await outcome(browser, url, at="no-time")
    assert "<script>alert" not in page


async def test_the_answer_has_a_stable_form(console: Console, tmp_path: Path) -> None:
    tenant_id, _, box = await make_estate(console)
    await since_yesterday(console, tenant_id)
    lists = tmp_path / "lists.tsv"
    lists.write_text("malicious\tevil.example\n")
    async with console.database.tenant(tenant_id) as session:
        found = await what_if(
            session,
            cli_actor(tenant_id),
            "https://evil.example/x",
            lists=installed_lists(lists, tmp_path),
            now=console.clock(),
            mailbox_id=box,
        )
    data = found.as_json()
    assert (data["outcome"], data["level"], data["treatment"]) == ("block", "malicious", "protected")
    assert data["decision"]["rule"] == "verdict:malicious"
    assert data["delivery"]["action"] == "rewrite"
    assert "ada@nordwind.example: block (protected)" in found.as_text()


@pytest.mark.parametrize(
    "at",
    ["0001-01-01T00:00+14:00", "9999-12-31T23:59-14:00", "0001-01-01T00:00", "-1", "1e9", "2026-01-01T00:00+23:59:59"],
)
async def test_a_time_at_the_ends_of_the_calendar_is_no_fault(console: Console, at: str) -> None:
    _, browser, box = await make_estate(console)
    assert (await outcome(browser, "https://good.example/", box, quote(at, safe="")))[0] is not None
