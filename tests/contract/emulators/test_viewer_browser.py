"""A person in a browser: reads mail, clicks, signs in, consents."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from playwright.sync_api import BrowserContext, expect, sync_playwright

from connectors.emulators.demo.delivery import DemoMail
from connectors.emulators.demo.letters_attack import phishing
from connectors.emulators.demo.letters_people import inline_image
from connectors.emulators.demo.letters_service import newsletter
from connectors.emulators.demo.organisations import KASUGA, NORDWIND, seed
from connectors.emulators.testing import Emulators, running_emulators
from tests.chromium import ARGUMENTS

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None and "POSTERN_REQUIRE_CHROMIUM" not in os.environ, reason="Chromium is not installed"
)


@pytest.fixture(scope="module")
def emulators() -> Iterator[Emulators]:
    with running_emulators() as running:
        seed(running.world)
        yield running


@pytest.fixture(scope="module")
def mail(emulators: Emulators) -> DemoMail:
    return DemoMail(emulators.world, int(emulators.base_url.rpartition(":")[2]), seed=1)


@pytest.fixture(scope="module")
def context() -> Iterator[BrowserContext]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser.new_context()
        browser.close()


@pytest.mark.parametrize("to", [NORDWIND[0], KASUGA[0]], ids=["microsoft", "google"])
def test_new_mail_appears_by_itself_and_a_click_opens_a_new_tab(
    emulators: Emulators, mail: DemoMail, context: BrowserContext, to: object
) -> None:
    assert to in (NORDWIND[0], KASUGA[0])
    recipient = NORDWIND[0] if to == NORDWIND[0] else KASUGA[0]
    page = context.new_page()
    page.goto(f"{emulators.base_url}/viewer/{recipient.provider}/")
    page.locator(f'[data-testid=mailbox][data-address="{recipient.address}"]').click()
    expect(page.get_by_test_id("empty")).to_be_visible()
    given = mail.deliver(newsletter, recipient)
    page.locator(f'[data-message-id="{given}"] a').click()
    expect(page.get_by_test_id("subject")).to_contain_text("Cities that work at night")
    frame = page.frame_locator("[data-testid=body]")
    with context.expect_page() as opened:
        frame.get_by_role("link", name="All stories").click()
    expect(opened.value.get_by_test_id("demo-page")).to_have_attribute("data-site", "news.lumen-post")
    assert opened.value.evaluate("window.opener === null")
    opened.value.close()
    page.close()


def test_a_message_cannot_run_scripts_and_shows_its_own_images(
    emulators: Emulators, mail: DemoMail, context: BrowserContext
) -> None:
    recipient = NORDWIND[1]
    given = mail.deliver(inline_image, recipient)
    page = context.new_page()
    page.goto(f"{emulators.base_url}/viewer/microsoft/{recipient.address}/{given}")
    picture = page.frame_locator("[data-testid=body]").get_by_role("img")
    expect(picture).to_be_visible()
    handle = picture.element_handle()
    assert handle.evaluate("element => element.naturalWidth") > 0
    raw = b"Subject: s\r\nContent-Type: text/html\r\n\r\n<p id=p>quiet</p><img src=x onerror=\"p.textContent='ran'\">"
    hostile = emulators.world.deliver("google", KASUGA[1].address, raw)
    page.goto(f"{emulators.base_url}/viewer/google/{KASUGA[1].address}/{hostile}")
    expect(page.frame_locator("[data-testid=body]").locator("#p")).to_have_text("quiet")
    page.close()


def test_a_fake_sign_in_page_says_that_it_is_a_demonstration(
    emulators: Emulators, mail: DemoMail, context: BrowserContext
) -> None:
    recipient = NORDWIND[2]
    given = mail.deliver(phishing, recipient)
    page = context.new_page()
    page.goto(f"{emulators.base_url}/viewer/microsoft/{recipient.address}/{given}")
    with context.expect_page() as opened:
        page.frame_locator("[data-testid=body]").get_by_role("link").click()
    expect(opened.value.get_by_text("Demonstration of a phishing page")).to_be_visible()
    expect(opened.value.get_by_role("button")).to_be_disabled()
    opened.value.close()
    page.close()


def test_an_administrator_signs_in_and_accepts_by_clicking(emulators: Emulators, context: BrowserContext) -> None:
    callback = f"{emulators.base_url}/healthz"
    tenant = next(iter(emulators.world.microsoft.tenants.values()))
    page = context.new_page()
    query = {
        "client_id": emulators.client_id,
        "response_type": "code",
        "redirect_uri": callback,
        "scope": "openid profile",
        "state": "s",
        "nonce": "n",
        "code_challenge": "c" * 43,
        "code_challenge_method": "S256",
    }
    page.goto(f"{emulators.authority}/organizations/oauth2/v2.0/authorize?{urlencode(query)}")
    page.locator(f'[data-address="{NORDWIND[0].address}"]').click()
    page.wait_for_url(f"{callback}?**")
    assert "code" in parse_qs(urlsplit(page.url).query)
    query = {
        "client_id": emulators.client_id,
        "redirect_uri": callback,
        "state": "s",
        "scope": "https://graph.microsoft.com/.default",
    }
    page.goto(f"{emulators.authority}/{tenant.id}/v2.0/adminconsent?{urlencode(query)}")
    expect(page.get_by_test_id("roles")).to_contain_text("Mail-Advanced.ReadWrite.All")
    page.get_by_test_id("accept").click()
    page.wait_for_url(f"{callback}?**")
    assert parse_qs(urlsplit(page.url).query)["tenant"] == [tenant.id]
    assert emulators.client_id in tenant.grants
    page.close()
