"""The console in a real browser: signing in under the page's own security policy, keeping itself up to date,
fitting a phone, and being usable by keyboard."""

from __future__ import annotations

import pytest
from playwright.async_api import expect
from sqlalchemy import select

from app.protection.offboarding import offboard_step
from app.protection.runtime import Runtime
from app.tenants.models import Tenant
from tests.integration.console.chromium import (
    POOR_CONTRAST,
    SMALL_TARGETS,
    add_click,
    carry_session,
    fill,
    open_page,
)
from tests.integration.console.world import Console

pytestmark = pytest.mark.anyio

PAGES = (
    "/overview",
    "/messages",
    "/messages?open={message}",
    "/messages/{message}",
    "/clicks",
    "/incidents",
    "/incidents/{incident}",
    "/what-if?url=http%3A%2F%2F192.0.2.7%2Flogin%2Fpaypal.com.exe",
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
    tenant_id, browser, box, message, _ = await fill(console)
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
    _, browser, _, message, _ = await fill(console)
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
    _, browser, _, message, _ = await fill(console)
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
    _, browser, _, _, _ = await fill(console)
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
    _, browser, _, _, _ = await fill(console)
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
    _, browser, _, message, incident = await fill(console)
    complaints: list[str] = []
    options = {"viewport": {"width": width, "height": 800}, "color_scheme": scheme, "locale": locale}
    async with open_page(chromium, complaints, **options) as page:
        await page.goto(console.url)
        assert await page.evaluate(POOR_CONTRAST) == []
        await carry_session(page, browser)
        for path in PAGES:
            await page.goto(console.url + path.format(message=message, incident=incident))
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
    tenant_id, browser, _, _, _ = await fill(console)
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
    _, browser, _, _, _ = await fill(console)
    complaints: list[str] = []
    async with open_page(chromium, complaints, viewport={"width": 1280, "height": 800}, locale=locale) as page:
        await carry_session(page, browser)
        await page.goto(console.url + "/connector")
        for button in ("restore-mailbox", "opt-out"):
            await expect(page.get_by_test_id(button).first).to_be_visible()
        table = page.get_by_test_id("mailboxes").locator("xpath=..")
        assert await table.evaluate("element => element.scrollWidth <= element.clientWidth")
    assert complaints == []
