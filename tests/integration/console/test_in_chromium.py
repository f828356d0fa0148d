"""The console in a real browser: signing in under the page's own security policy, keeping itself up to date,
fitting a phone, and being usable by keyboard."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from playwright.async_api import ConsoleMessage, Page, async_playwright, expect
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.gateway.models import Click
from app.protection.models import (
    BackfillPart,
    BackfillRun,
    IntakeCount,
    MailboxRow,
    MessageEvent,
    MessageLink,
    MessageMove,
    MessageRow,
)
from app.protection.offboarding import offboard_step
from app.protection.runtime import Runtime
from app.tenants.actor import Role
from app.tenants.models import Domain, Tenant
from tests.integration.console.world import Browser, Console

pytestmark = pytest.mark.anyio

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PAGES = (
    "/overview",
    "/messages",
    "/messages?open={message}",
    "/messages/{message}",
    "/clicks",
    "/lists",
    "/threat-sources",
    "/connector",
    "/connector/choice",
    "/people",
    "/audit",
    "/settings",
    "/my-clicks",
    "/onboarding",
    "/connector/restore?scope=tenant",
    "/connector-health",
    "/quarantine",
    "/quarantine?show=ended",
    "/backfill",
    "/backfill/start?scope=tenant&days=30",
    "/offboarding",
)

# Interactive elements smaller than 24 by 24 CSS pixels, but for links within a sentence (WCAG 2.2, 2.5.8).
SMALL_TARGETS = """() => [...document.querySelectorAll('a[href], button, input:not([type=hidden]), select, summary')]
  .filter(e => e.checkVisibility() && !(e.tagName === 'A' && getComputedStyle(e).display === 'inline'))
  .filter(e => !e.closest('label') && !e.classList.contains('skip'))
  .map(e => [e.outerHTML.slice(0, 90), e.getBoundingClientRect()])
  .filter(([, box]) => box.width < 24 || box.height < 24)
  .map(([html, box]) => `${html} ${box.width}x${box.height}`)"""

# Text whose contrast against what is behind it is under 4.5:1, or 3:1 where it is large (WCAG 2.2, 1.4.3).
POOR_CONTRAST = """() => {
  const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  const rgba = (color) => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const color = rgba(getComputedStyle(e).backgroundColor);
      if (color[3] === 255) return color;
    }
    return [255, 255, 255, 255];
  };
  const poor = [];
  for (const element of document.querySelectorAll('body *')) {
    const own = [...element.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
    if (!own || !element.checkVisibility() || element.closest(':disabled, .hidden, svg')) continue;
    const style = getComputedStyle(element);
    const [a, b] = [light(rgba(style.color)), light(behind(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    if (ratio < (large ? 3 : 4.5)) poor.push(`${element.outerHTML.slice(0, 90)} ${ratio.toFixed(2)}`);
  }
  return poor;
}"""


def _is_ours(line: ConsoleMessage) -> bool:
    """An error of a page of the console; the emulated providers' pages have no favicon."""
    return line.type == "error" and not line.location.get("url", "").endswith("/favicon.ico")


@asynccontextmanager
async def open_page(chromium: str, complaints: list[str], **options: Any) -> AsyncIterator[Page]:
    """A page whose complaints (script errors, what the security policy refused) are collected."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        try:
            context = await browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **options})
            page = await context.new_page()
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.on("console", lambda line: complaints.append(line.text) if _is_ours(line) else None)
            yield page
        finally:
            await browser.close()


async def carry_session(page: Page, browser: Browser) -> None:
    """Give the page the session that a test made."""
    name = "postern-session"
    await page.context.add_cookies([{"name": name, "value": browser.http.cookies[name], "url": browser.console.url}])


async def fill(console: Console) -> tuple[uuid.UUID, Browser, int, int]:
    """A tenant with something on every page."""
    tenant_id = await console.make_tenant()
    async with console.database.tenant(tenant_id) as session:
        session.add(Domain(tenant_id=tenant_id, name="a-rather-long-domain-name.nordwind.example", protected=True))
        session.add(Domain(tenant_id=tenant_id, name="nordwind.example", protected=True))
        box = MailboxRow(
            tenant_id=tenant_id,
            external_id="a",
            address="a.very.long.local.part@nordwind.example",
            domain="nordwind.example",
            error="Something is wrong with it.",
        )
        session.add(box)
        await session.flush()
        message = MessageRow(
            tenant_id=tenant_id,
            mailbox_id=box.id,
            external_id="m",
            current_id="m",
            state="protected",
            subject="Averyveryveryveryveryveryveryveryveryveryveryveryveryverylongwordinasubject",
            sender="billing@supplier.example",
            links=1,
            seen_at=console.clock(),
            warnings=[{"message": "An attachment was not looked into."}],
        )
        session.add(message)
        await session.flush()
        await add_runs(session, console, tenant_id, box.id, message.id)
        for kind in ("seen", "written", "verified", "protected"):
            session.add(MessageEvent(tenant_id=tenant_id, message_id=message.id, kind=kind, detail={}))
        session.add(
            MessageLink(
                tenant_id=tenant_id,
                message_id=message.id,
                ordinal=0,
                url="https://login.evil.example/" + "x" * 200,
                host="login.evil.example",
                kind="anchor",
                text="paypal.com",
                findings=[{"message": "The text shows another site."}],
            )
        )
    for level, action in (
        ("clean", "redirect"),
        ("unknown", "redirect"),
        ("suspicious", "warn"),
        ("malicious", "block"),
    ):
        await add_click(console, tenant_id, level, action, box.id, message.id)
    browser = await console.signed_in(tenant_id, Role.OWNER)
    await browser.page("/lists")
    for action in ("allow", "block", "ignore", "lock"):
        await browser.post("/lists", {"action": action, "pattern": f"{action}.example", "note": "A note"})
    return tenant_id, browser, box.id, message.id


async def add_runs(
    session: AsyncSession, console: Console, tenant_id: uuid.UUID, mailbox_id: int, message_id: int
) -> None:
    """A failed message, one in quarantine and one released, a backfill under way and one that ended."""
    now, who = console.clock(), "a.very.long.local.part@nordwind.example"
    failed = MessageRow(
        tenant_id=tenant_id,
        mailbox_id=mailbox_id,
        external_id="f",
        current_id="f",
        state="failed",
        reason="WriteNotVerified: what was read back is not what was written, so the original was kept",
        subject="Could not be protected",
    )
    session.add(failed)
    await session.flush()
    for number, (state, place) in enumerate((("moved", "quarantine"), ("released", "junk"))):
        session.add(
            MessageMove(
                tenant_id=tenant_id,
                message_id=(message_id, failed.id)[number],
                mailbox_id=mailbox_id,
                place=place,
                why="The link in it turned malicious after delivery",
                state=state,
                requested_by=who,
                released_by=who if number else "",
                moved_at=now,
            )
        )
    for number, state in enumerate(("done", "running")):
        run = BackfillRun(
            tenant_id=tenant_id,
            scope=("domain", "tenant")[number],
            target="a-rather-long-domain-name.nordwind.example",
            since=now - timedelta(days=30),
            until=now,
            requested_by=who,
            started_at=now - timedelta(minutes=4),
            finished_at=None if number else now,
            state=state,
        )
        session.add(run)
        await session.flush()
        session.add(
            BackfillPart(
                tenant_id=tenant_id,
                run_id=run.id,
                mailbox_id=mailbox_id,
                state=state,
                total=1_200,
                looked=(1_200, 300)[number],
                done=250,
                skipped=40,
                failed=number,
                error="The mailbox is suspended at the provider." if number else "",
            )
        )
    session.add(IntakeCount(provider="microsoft", reason="taken", hour=now, count=1))


async def add_click(
    console: Console, tenant_id: uuid.UUID, level: str, action: str, mailbox: int, message: int | None = None
) -> None:
    async with console.database.tenant(tenant_id) as session:
        session.add(
            Click(
                tenant_id=tenant_id,
                id=uuid.uuid4(),
                at=console.clock(),
                mailbox_id=mailbox,
                message_id=message,
                url=f"https://{level}.example/path",
                host=f"{level}.example",
                level=level,
                action=action,
            )
        )


async def test_an_administrator_signs_in_consents_and_switches_protection_on(console: Console, chromium: str) -> None:
    _, (ada,) = console.microsoft("ada")
    complaints: list[str] = []
    async with open_page(chromium, complaints) as page:
        await page.goto(console.url)
        await page.get_by_test_id("sign-in-microsoft").click()
        await page.locator(f'button[value="{ada.id}"], [name="person"][value="{ada.id}"]').first.click()
        await expect(page.get_by_test_id("onboarding-steps")).to_have_attribute("data-step", "2")
        await page.get_by_test_id("grant-access").click()
        await page.locator('[name="accept"]').click()
        await expect(page.get_by_test_id("onboarding-steps")).to_have_attribute("data-step", "4")
        await expect(page.get_by_test_id("reading")).to_be_visible()
        await console.read_directories()
        await page.get_by_test_id(f"domain-{console.domain}").check()
        await page.get_by_test_id("switch-on").click()
        await expect(page.get_by_test_id("status")).to_have_attribute("data-status", "on")
        await page.get_by_test_id("sign-out").click()
        await expect(page.get_by_test_id("sign-in-microsoft")).to_be_visible()
    assert complaints == []


async def test_new_clicks_appear_by_themselves_and_the_focus_stays_where_it_was(
    console: Console, chromium: str
) -> None:
    tenant_id, browser, box, message = await fill(console)
    complaints: list[str] = []
    async with open_page(chromium, complaints) as page:
        await carry_session(page, browser)
        await page.goto(f"{console.url}/clicks")
        link = page.locator(".row-link").last
        await link.focus()
        focused = await link.get_attribute("id")
        await add_click(console, tenant_id, "malicious", "block", box, message)
        await expect(page.get_by_test_id("click-row")).to_have_count(5)
        assert await page.evaluate("document.activeElement.id") == focused

        await page.get_by_test_id("search").focus()
        await page.keyboard.type("malic")
        await add_click(console, tenant_id, "suspicious", "warn", box, message)
        await expect(page.get_by_test_id("click-row")).to_have_count(6)
        await expect(page.get_by_test_id("search")).to_have_value("malic")
        await expect(page.get_by_test_id("search")).to_be_focused()

        await page.goto(f"{console.url}/overview")
        await expect(page.get_by_test_id("count-blocked")).to_have_text("2")
        await page.get_by_text("As a table").click()
        await add_click(console, tenant_id, "malicious", "block", box, message)
        await expect(page.get_by_test_id("count-blocked")).to_have_text("3")
        await expect(page.locator("details table")).to_be_visible()
    assert complaints == []


async def test_times_are_local_with_the_exact_one_on_hover(console: Console, chromium: str) -> None:
    _, browser, _, message = await fill(console)
    async with open_page(chromium, [], locale="de-DE", timezone_id="Asia/Tokyo") as page:
        await carry_session(page, browser)
        await page.goto(f"{console.url}/messages/{message}")
        shown = page.locator(".event time").first
        moment = await shown.get_attribute("datetime")
        assert moment is not None
        local = await page.evaluate(
            "m => new Intl.DateTimeFormat('de', {timeStyle: 'medium'}).format(new Date(m))", moment
        )
        await expect(shown).to_have_text(local)
        title = await shown.get_attribute("title")
        assert title is not None
        assert "GMT+9" in title


async def test_rows_are_walked_by_keyboard_and_escape_closes_the_panel(console: Console, chromium: str) -> None:
    _, browser, _, message = await fill(console)
    async with open_page(chromium, []) as page:
        await carry_session(page, browser)
        await page.goto(f"{console.url}/messages")
        await page.locator(".row-link").first.focus()
        await page.keyboard.press("Enter")
        await expect(page.get_by_test_id("panel")).to_be_visible()
        await expect(page.get_by_test_id("trace")).to_have_attribute("data-message", str(message))
        await page.keyboard.press("Escape")
        await expect(page.get_by_test_id("panel")).to_have_count(0)
        await page.goto(f"{console.url}/clicks")
        rows = page.locator(".row-link")
        await rows.first.focus()
        await page.keyboard.press("ArrowDown")
        await expect(rows.nth(1)).to_be_focused()


async def test_the_first_tab_stop_skips_the_navigation(console: Console, chromium: str) -> None:
    _, browser, _, _ = await fill(console)
    async with open_page(chromium, []) as page:
        await carry_session(page, browser)
        await page.goto(f"{console.url}/overview")
        await page.keyboard.press("Tab")
        skip = page.locator(".skip")
        await expect(skip).to_be_focused()
        await expect(skip).to_be_in_viewport()
        await page.keyboard.press("Enter")
        await expect(page.locator("#main")).to_be_focused()


async def test_the_menu_opens_on_a_phone_and_links_work_without_script(console: Console, chromium: str) -> None:
    _, browser, _, _ = await fill(console)
    phone = {"viewport": {"width": 360, "height": 740}}
    async with open_page(chromium, [], **phone) as page:
        await carry_session(page, browser)
        await page.goto(f"{console.url}/overview")
        await expect(page.get_by_test_id("nav-clicks")).to_be_hidden()
        await page.locator(".menu-button").click()
        await page.get_by_test_id("nav-clicks").click()
        await expect(page.get_by_test_id("click-row").first).to_be_visible()
    async with open_page(chromium, [], java_script_enabled=False, **phone) as page:
        await carry_session(page, browser)
        await page.goto(f"{console.url}/overview")
        await page.get_by_test_id("nav-clicks").click()
        await expect(page.get_by_test_id("click-row").first).to_be_visible()


@pytest.mark.parametrize(
    ("width", "scheme", "locale"),
    [(360, "light", "de-DE"), (360, "dark", "ja-JP"), (1280, "dark", "en-GB"), (1280, "light", "de-DE")],
)
async def test_every_page_fits_is_readable_and_can_be_hit(
    console: Console, chromium: str, width: int, scheme: str, locale: str
) -> None:
    _, browser, _, message = await fill(console)
    complaints: list[str] = []
    options = {"viewport": {"width": width, "height": 800}, "color_scheme": scheme, "locale": locale}
    async with open_page(chromium, complaints, **options) as page:
        await page.goto(console.url)
        assert await page.evaluate(POOR_CONTRAST) == []
        await carry_session(page, browser)
        for path in PAGES:
            await page.goto(console.url + path.format(message=message))
            overhang = await page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
            assert overhang <= 0, path
            assert await page.evaluate(SMALL_TARGETS) == [], path
            assert await page.evaluate(POOR_CONTRAST) == [], path
            assert await page.locator("h1").count() == 1, path
    assert complaints == []


@pytest.mark.parametrize(("width", "scheme", "locale"), [(360, "dark", "de-DE"), (1280, "light", "ja-JP")])
async def test_a_receipt_is_readable_without_signing_in_and_comes_by_itself(
    console: Console, chromium: str, width: int, scheme: str, locale: str
) -> None:
    tenant_id, browser, _, _ = await fill(console)
    begun = await browser.post("/offboarding", {"confirm": "Nordwind"})
    complaints: list[str] = []
    options = {"viewport": {"width": width, "height": 800}, "color_scheme": scheme, "locale": locale}
    async with open_page(chromium, complaints, **options) as page:
        await page.goto(console.url + begun.headers["location"])
        receipt = page.get_by_test_id("receipt")
        await expect(receipt).to_have_attribute("data-state", "stopping")
        async with console.database.tenant(tenant_id) as session:
            name = await session.scalar(select(Tenant.name))
        await browser.post("/offboarding/delete-anyway", {"confirm": str(name)})
        await offboard_step(Runtime(console.settings, console.database, console.keys, console.providers), tenant_id)
        await expect(receipt).to_have_attribute("data-state", "done", timeout=60_000)
        assert await page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
        assert await page.evaluate(SMALL_TARGETS) == []
        assert await page.evaluate(POOR_CONTRAST) == []
        async with page.expect_download() as download:
            await page.get_by_test_id("receipt-download").click()
        assert (await download.value).suggested_filename.startswith("postern-receipt-")
    assert complaints == []


@pytest.mark.parametrize("locale", ["en-GB", "de-DE", "ja-JP"])
async def test_a_mailbox_is_restored_or_left_out_without_scrolling_sideways(
    console: Console, chromium: str, locale: str
) -> None:
    _, browser, _, _ = await fill(console)
    complaints: list[str] = []
    async with open_page(chromium, complaints, viewport={"width": 1280, "height": 800}, locale=locale) as page:
        await carry_session(page, browser)
        await page.goto(console.url + "/connector")
        for button in ("restore-mailbox", "opt-out"):
            await expect(page.get_by_test_id(button).first).to_be_visible()
        table = page.get_by_test_id("mailboxes").locator("xpath=..")
        assert await table.evaluate("element => element.scrollWidth <= element.clientWidth")
    assert complaints == []
