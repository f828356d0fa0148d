"""A real browser is asked where every link of a rewritten message leads, as *it* resolves it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, Route

from app.messages import transform_body
from tests.unit.messages.gateway_double import GATEWAY, GatewayDouble
from tests.unit.messages.test_html_links import VECTORS

_TARGETS = """() => {
  const out = [];
  const roots = [document];
  for (const root of roots) {
    for (const t of root.querySelectorAll('template')) roots.push(t.content);
    for (const e of root.querySelectorAll('*')) {
      if (e.matches('a[href], area[href]') && typeof e.href === 'string') out.push(e.href);
      if (e.href && e.href.baseVal !== undefined && e.localName === 'a') {
        try { out.push(new URL(e.href.baseVal, document.baseURI).href); } catch { out.push(e.href.baseVal); }
      }
      if (e.matches('a[ping], area[ping]'))
        for (const p of e.ping.split(/\\s+/)) if (p) out.push(new URL(p, document.baseURI).href);
      if (e.matches('form[action]')) out.push(HTMLFormElement.prototype.__lookupGetter__('action').call(e));
      if (e.matches('[formaction]')) out.push(e.formAction);
    }
  }
  return out;
}"""
_SHAPE = """() => [
  [...document.querySelectorAll('*')].map(e => e.localName),
  document.body ? document.body.innerText : '',
  [...document.images].map(i => i.getAttribute('src')),
]"""


@pytest.fixture(scope="module")
def page(browser: Browser) -> Iterator[Page]:
    """A page from which nothing leaves the machine."""
    made = browser.new_page()
    made.route("**/*", lambda route: route.abort())
    yield made
    made.close()


def _load(page: Page, html: str) -> None:
    # Parsed by the document's own parser, but inert: a refresh or a form in it goes nowhere.
    page.evaluate("html => { document.open(); document.write(html); document.close(); }", html)


@pytest.mark.parametrize("name", [name for name in VECTORS if not name.startswith("meta refresh")])
def test_the_browser_resolves_every_link_to_the_gateway(page: Page, name: str) -> None:
    html = VECTORS[name][0]
    done = transform_body(html, True, GatewayDouble().plan())
    page.goto("about:blank")
    _load(page, html)
    shape = page.evaluate(_SHAPE)
    page.goto("about:blank")
    _load(page, done.content)
    elsewhere = [
        target for target in page.evaluate(_TARGETS) if target.startswith("http") and not target.startswith(GATEWAY)
    ]
    assert elsewhere == []
    assert page.evaluate(_SHAPE) == shape


def test_the_browser_follows_a_rewritten_refresh_to_the_gateway(browser: Browser) -> None:
    page = browser.new_page()
    asked: list[str] = []

    def answer(route: Route) -> None:
        asked.append(route.request.url)
        route.fulfill(status=200, body="arrived")

    page.route("**/*", answer)
    done = transform_body(
        '<meta http-equiv=refresh content="0; url=http://evil.example/">', True, GatewayDouble().plan()
    )
    with page.expect_navigation(url=f"{GATEWAY}/**"):
        page.set_content(done.content)
    assert asked
    assert all(url.startswith(GATEWAY) for url in asked)
    page.close()


def test_a_bare_address_becomes_one_link_and_reads_the_same(page: Page) -> None:
    html = "<p>See http://evil.example/a?b=1&amp;c=2, or (www.two.example) &lt;http://three.example&gt;.</p>"
    done = transform_body(html, True, GatewayDouble().plan())
    page.goto("about:blank")
    _load(page, done.content)
    assert page.inner_text("p") == "See http://evil.example/a?b=1&c=2, or (www.two.example) <http://three.example>."
    assert page.eval_on_selector_all("a", "links => links.map(a => a.textContent)") == [
        "http://evil.example/a?b=1&c=2",
        "www.two.example",
        "http://three.example",
    ]
    assert all(target.startswith(GATEWAY) for target in page.evaluate(_TARGETS))
