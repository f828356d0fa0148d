"""What an administrator and a user do: sign in, consent, switch on, read, click three links, look, take back."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.browser.running import Demo

pytestmark = pytest.mark.timeout(180)


@dataclass(frozen=True)
class Place:
    """Who takes part at one provider."""

    provider: str
    admin: str
    domain: str
    reader: str


MICROSOFT = Place("microsoft", "mara.lindt@nordwind.example", "nordwind.example", "jonas.reuter@nordwind.example")
GOOGLE = Place("google", "haruka.mori@kasuga.example", "kasuga.example", "haruka.mori@kasuga.example")


def three_links(to: str, port: int, subject: str) -> str:
    clean = f"http://news.lumen-post.localhost:{port}/"
    suspicious = f"http://win.voucher-rad.localhost:{port}/"
    malicious = f"http://login.paypa1-secure.localhost:{port}/"
    raw = (
        f"From: Letters <letters@other.example>\r\nTo: {to}\r\nSubject: {subject}\r\n"
        f"Message-ID: <journey.{subject.replace(' ', '.')}.{time.time_ns()}@other.example>\r\n"
        f"Date: {time.strftime('%a, %d %b %Y %H:%M:%S +0000', time.gmtime())}\r\n"
        "MIME-Version: 1.0\r\nContent-Type: text/html; charset=utf-8\r\n\r\n"
        f'<html><body><p><a href="{clean}">good</a> <a href="{suspicious}">odd</a> '
        f'<a href="{malicious}">bad</a></p></body></html>\r\n'
    )
    return base64.b64encode(raw.encode()).decode()


def until(what: Callable[[], bool], seconds: float, message: str) -> float:
    """Wait for a condition; returns how long it took."""
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        if what():
            return time.monotonic() - began
        time.sleep(0.1)
    pytest.fail(message)


def sign_in_and_connect(page: Page, demo: Demo, place: Place) -> None:
    page.goto(f"{demo.console}/")
    page.get_by_test_id(f"sign-in-{place.provider}").click()
    page.get_by_text(place.admin).first.click()
    page.wait_for_url(f"{demo.console}/onboarding**")
    if place.provider == "microsoft":
        page.get_by_test_id("grant-access").click()
        page.get_by_test_id("accept").click()
    else:
        delegate(page, demo, place)
        page.get_by_test_id("check-now").click()
    page.get_by_test_id(f"domain-{place.domain}").check()
    page.get_by_test_id("switch-on").click()
    page.wait_for_url(lambda url: "/onboarding" not in urlsplit(url).path)


def delegate(page: Page, demo: Demo, place: Place) -> None:
    """Enter client id and scopes in the Admin console, as the page says."""
    client_id = page.get_by_test_id("client-id").inner_text()
    scopes = page.get_by_test_id("scopes").inner_text()
    with page.context.expect_page() as opened:
        page.get_by_test_id("open-admin-console").click()
    admin = opened.value
    admin.get_by_text(place.admin).first.click()
    admin.get_by_role("textbox", name="Client ID").fill(client_id)
    admin.get_by_role("textbox", name="OAuth scopes").fill(scopes)
    admin.get_by_role("button", name="Authorize").click()
    expect(admin.get_by_role("status")).to_be_visible()
    admin.close()


def open_message(page: Page, demo: Demo, place: Place, subject: str) -> None:
    page.goto(f"{demo.emulators}/viewer/{place.provider}/{place.reader}/")
    page.get_by_test_id("message").filter(has_text=subject).first.locator("a").first.click()
    expect(page.get_by_test_id("subject")).to_have_text(subject)


def hrefs(page: Page) -> list[str]:
    frame = page.frame_locator("[data-testid=body]")
    return [link.get_attribute("href") or "" for link in frame.locator("a").all()]


def click(page: Page, context: BrowserContext, text: str) -> Page:
    with context.expect_page() as opened:
        page.frame_locator("[data-testid=body]").get_by_role("link", name=text).click()
    opened.value.wait_for_load_state()
    return opened.value


@pytest.mark.parametrize("place", [MICROSOFT, GOOGLE], ids=["microsoft", "google"])
def test_from_sign_in_to_restore(demo: Demo, context: BrowserContext, page: Page, place: Place) -> None:
    port = urlsplit(demo.emulators).port
    assert port is not None
    sign_in_and_connect(page, demo, place)

    subject = f"Three links {place.provider}"
    body = {"provider": place.provider, "to": place.reader, "mime_base64": three_links(place.reader, port, subject)}
    demo.control("POST", "/deliver", body)

    def rewritten() -> bool:
        open_message(page, demo, place, subject)
        found = hrefs(page)
        return len(found) == 3 and all(link.startswith(f"{demo.console}/l/") for link in found)

    until(rewritten, 30, "the delivered message was not rewritten")

    good = click(page, context, "good")
    assert urlsplit(good.url).hostname == "news.lumen-post.localhost"
    odd = click(page, context, "odd")
    expect(odd.get_by_test_id("destination")).to_contain_text("win.voucher-rad.localhost")
    bad = click(page, context, "bad")
    expect(bad.get_by_test_id("verdict")).to_be_visible()
    expect(bad.get_by_test_id("continue")).to_have_count(0)

    console = context.new_page()
    rows = console.get_by_test_id("click-row")

    def all_there() -> bool:
        console.goto(f"{demo.console}/clicks")
        return rows.count() == 3

    # Two seconds on a machine of its own; here other tests may be using all of it.
    until(all_there, 30, "the three clicks are not in the console")
    actions = sorted(row.get_attribute("data-action") or "" for row in rows.all())
    assert actions == ["block", "redirect", "warn"]

    odd.get_by_test_id("continue").click()
    odd.wait_for_url(lambda url: urlsplit(url).hostname == "win.voucher-rad.localhost")

    console.goto(f"{demo.console}/connector")
    mailbox = console.locator(f"[data-testid=mailbox-row][data-address='{place.reader}']")
    mailbox.get_by_test_id("restore-mailbox").click()
    console.get_by_test_id("confirm-restore").click()

    def given_back() -> bool:
        open_message(page, demo, place, subject)
        return f"http://login.paypa1-secure.localhost:{port}/" in hrefs(page)

    until(given_back, 30, "the original link did not come back")
    assert not any("/l/" in urlsplit(link).path for link in hrefs(page))
