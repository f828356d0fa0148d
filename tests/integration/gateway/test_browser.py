"""The pages in a real browser: the way on, the way back, without a script, at phone width."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from app.kit.crypto import KeyRing
from app.policy.engine import ListRule, PageWords, PolicySnapshot
from tests.chromium import ARGUMENTS
from tests.integration.gateway.serving import Served, serve


class _Site(http.server.BaseHTTPRequestHandler):
    """Two sites on one port: ``odd.test`` sends its visitors on to ``other.test``."""

    def do_GET(self) -> None:
        host = self.headers["Host"]
        if host.startswith("odd.test") and self.path.startswith("/go"):
            self.send_response(302)
            self.send_header("Location", f"http://{host.replace('odd.test', 'other.test')}/end")
            self.end_headers()
            return
        body = f"<title>arrived</title><p id=at>{host}{self.path}</p><p id=from>{self.headers.get('Referer')}</p>"
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, format: str, *arguments: object) -> None:
        """Print nothing."""


@contextmanager
def site() -> Iterator[int]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Site)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(
            executable_path=chromium, args=[*ARGUMENTS, "--host-resolver-rules=MAP *.test 127.0.0.1"]
        )
        yield opened
        opened.close()


@pytest.fixture
def served(tmp_path: Path, keyring: KeyRing) -> Iterator[Served]:
    snapshot = PolicySnapshot(
        1001,
        name="Contoso",
        rules=(ListRule(1, "lock", "wildcard", "held.test"),),
        words=PageWords(contact="IT service desk, extension 4711", accent="#1f6f5c"),
    )
    with serve(tmp_path, keyring, snapshots=(snapshot,)) as running:
        running.list_as("suspicious", "odd.test")
        running.list_as("malicious", "evil.test")
        yield running


@pytest.mark.parametrize("scripts", [True, False])
def test_a_person_goes_on_past_a_warning_even_through_redirects(
    browser: Browser, served: Served, scripts: bool
) -> None:
    with site() as port:
        page = browser.new_page(java_script_enabled=scripts)
        page.goto(served.link(f"http://odd.test:{port}/go?x=1"))
        assert page.get_by_test_id("verdict").inner_text() == "Warning"
        assert page.get_by_test_id("destination").inner_text().startswith("http://odd.test:")
        page.get_by_test_id("continue").click()
        page.wait_for_url(f"http://other.test:{port}/end")
        assert page.locator("#from").inner_text() == "None"
        page.close()
    # The warning, that it was drawn, and the button.
    assert served.gateway.deps.spool.stats.written == 3
    assert served.gateway.stats.pages_seen == 1


def test_a_clean_link_leads_on_without_telling_where_from(browser: Browser, served: Served) -> None:
    with site() as port:
        page = browser.new_page()
        page.goto(served.link(f"http://fine.test:{port}/A?b=C#top"))
        assert page.url == f"http://fine.test:{port}/A?b=C#top"
        assert page.locator("#from").inner_text() == "None"
        page.close()


@pytest.mark.parametrize("site_name", ["odd.test", "evil.test", "held.test"])
def test_the_organisations_colour_is_the_edge_of_every_page_it_shows(
    browser: Browser, served: Served, site_name: str
) -> None:
    page = browser.new_page()
    page.goto(served.link(f"https://{site_name}/"))
    edge = page.evaluate("getComputedStyle(document.querySelector('main')).borderTopColor")
    assert edge == "rgb(31, 111, 92)"
    page.close()


def test_the_way_back_leads_back(browser: Browser, served: Served) -> None:
    with site() as port:
        page = browser.new_page()
        page.goto(f"http://mail.test:{port}/inbox")
        page.goto(served.link(f"http://odd.test:{port}/"))
        page.get_by_test_id("back").click()
        page.wait_for_url(f"http://mail.test:{port}/inbox")
        page.close()


def test_a_person_asks_for_release_with_the_keyboard_alone(browser: Browser, served: Served) -> None:
    page = browser.new_page()
    page.goto(served.link("https://evil.test/"))
    assert page.get_by_test_id("continue").count() == 0
    page.locator("[data-testid=release] summary").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.type("I need it")
    page.keyboard.press("Enter")
    page.wait_for_selector("[data-page=thanks]")
    page.close()


@contextmanager
def shown(browser: Browser, width: int, scheme: str, locale: str) -> Iterator[Page]:
    context = browser.new_context(
        viewport={"width": width, "height": 800},
        color_scheme="dark" if scheme == "dark" else "light",
        locale=locale,
        reduced_motion="reduce",
    )
    yield context.new_page()
    context.close()


_CONTRAST = """
() => {
  const parse = c => { const m = c.match(/[\\d.]+/g).map(Number); return m.length < 4 ? [...m, 1] : m; };
  const lum = c => { const f = v => { v /= 255; return v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4; };
    return .2126 * f(c[0]) + .7152 * f(c[1]) + .0722 * f(c[2]); };
  const back = e => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor);
    if (c[3] > 0) return c; } return [255, 255, 255, 1]; };
  const low = [];
  for (const e of document.querySelectorAll("body *")) {
    if (!e.offsetParent || ![...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim())) continue;
    const [a, b] = [lum(parse(getComputedStyle(e).color)), lum(back(e))].sort((x, y) => y - x);
    const ratio = (a + .05) / (b + .05);
    if (ratio < 4.5) low.push([e.textContent.trim().slice(0, 40), ratio]);
  }
  return low;
}
"""
_SMALL_TARGETS = """
() => [...document.querySelectorAll("button, input:not([type=hidden]), summary, textarea")]
  .filter(e => e.offsetParent && e.getBoundingClientRect().height < 24).map(e => e.outerHTML)
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("width", "locale"), [(320, "de"), (390, "ja"), (1200, "en")])
def test_every_page_is_readable_at_any_width_and_in_both_schemes(
    browser: Browser, served: Served, width: int, locale: str, scheme: str
) -> None:
    urls = [
        served.link("http://odd.test/a-very-long-path/" + "x" * 300),
        served.link("https://evil.test/"),
        served.link("https://held.test/"),
        served.link("javascript:alert(1)"),
        served.url + "/l/x/y",
        served.url + "/explain",
    ]
    with shown(browser, width, scheme, locale) as page:
        asked: list[str] = []
        said: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("console", lambda message: said.append(message.text))
        for url in urls:
            page.goto(url)
            assert page.evaluate("document.documentElement.lang") == locale
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), url
            assert page.evaluate(_CONTRAST) == [], url
            assert page.evaluate(_SMALL_TARGETS) == [], url
            assert page.locator("h1").count() == 1
        # The picture that says that a page was drawn comes from the gateway, too.
        assert [url for url in asked if "/l/-/seen-" not in url] == urls
        assert all(url.startswith(served.url) for url in asked)
        # Chromium itself notes pages that came with a status of 400 or more; nothing else may be said.
        assert [text for text in said if "status of 40" not in text] == []
