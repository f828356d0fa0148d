"""Text that shows another address than the link's target."""

from __future__ import annotations

import random
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.messages import transform
from app.messages.text_target import text_mismatch
from connectors.emulators.demo import letters_attack
from connectors.emulators.demo.organisations import NORDWIND
from connectors.emulators.demo.writing import Scene
from tests.unit.messages.gateway_double import GatewayDouble

EVIL = "https://evil-site.com/login"


@pytest.mark.parametrize(
    ("text", "shown", "strength"),
    [
        ("paypal.com", "paypal.com", "strong"),
        ("www.paypal.com", "www.paypal.com", "strong"),
        ("https://www.paypal.com/signin?x=1", "www.paypal.com", "strong"),
        ("hxxps://www.paypal.com/", "www.paypal.com", "strong"),
        ("Visit paypal.com now", "paypal.com", "weak"),
        ("Visit https://paypal.com now", "paypal.com", "strong"),
        ("(paypal.com)", "paypal.com", "strong"),
        ("paypal.com/signin.", "paypal.com", "strong"),
        ("pay\u200bpal.com", "paypal.com", "strong"),
        ("paypal\u3002com", "paypal.com", "strong"),
        ("p\u0430ypal.com", "p\u0430ypal.com", "strong"),
        ("http://192.0.2.1/x", "192.0.2.1", "strong"),
        ("\n  paypal.com \t", "paypal.com", "strong"),
        ("bank.readme.md/path", "bank.readme.md", "strong"),
        ("TrafficMagnet.com", "trafficmagnet.com", "strong"),
        ("HTTPS://PAYPAL.COM", "paypal.com", "strong"),
        ("https://bank.example/", "bank.example", "strong"),
        ("https://intranet.corp", "intranet.corp", "strong"),
        ("See https://files.office.local:8443/a now", "files.office.local", "strong"),
        ("https://bank.local...", "bank.local", "strong"),
        ("http://2130706433/", "127.0.0.1", "strong"),
        ("http://localhost/login", "localhost", "strong"),
    ],
)
def test_another_address_in_the_text_is_a_mismatch(text: str, shown: str, strength: str) -> None:
    found = text_mismatch(text, EVIL)
    assert found is not None
    assert (found.shown, found.strength, found.host) == (shown, strength, "evil-site.com")
    assert found.as_finding().message == f"The text shows {shown}, but the link leads to evil-site.com."


@pytest.mark.parametrize(
    "text",
    [
        "Click here",
        "",
        "...",
        "thanks.Please",
        "file.py",
        "readme.md",
        "archive.zip",
        "main.rs",
        "run.sh",
        "ASP.NET",
        "Node.js",
        "e.g. this, i.e. that",
        "U.S.A.",
        "v1.2.3",
        "1.2.3.4",
        "3.50",
        "anna@paypal.com",
        "end of line.Next",
        "Inc.",
        "St.Louis",
        "10.000,00 EUR",
        "name.nosuchsuffix",
        "co.uk",
        "a.b",
        "http://",
        "https://.../",
        "$4.99.",
        "report.final.pdf",
        "photo.jpg",
        "index.html",
        "q3.results.xlsx",
        "intranet.corp",
        "http://404",
        "http:index.html",
        "https://intranet/",
        "https://a..corp/",
        "1 // 2",
    ],
)
def test_ordinary_words_are_never_a_mismatch(text: str) -> None:
    assert text_mismatch(text, EVIL) is None


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("paypal.com", "https://www.paypal.com/x"),
        ("https://paypal.com", "https://click.paypal.com/x"),
        ("www.example.co.uk", "http://news.example.co.uk/"),
        ("amazon.de", "https://www.amazon.com/"),
        ("microsoft.com", "https://aka.ms/x"),
        ("see example.com or example.org", "https://example.org/"),
        ("b\u00fccher.de", "https://xn--bcher-kva.de/"),
        ("paypal.com", "mailto:help@paypal.com"),
        ("paypal.com", "not an address"),
        ("http://192.0.2.1/", "http://3221225985/"),
        ("http://3221225985/", "http://192.0.2.1/"),
        ("http://localhost:8000/", "http://127.0.0.1:8000/"),
        ("https://bank.example/", "https://www.bank.example/x"),
        ("https://wiki.office.corp/a", "https://login.office.corp/b"),
        ("https://www.bank.ex...", "https://www.bank.example/x"),
        ("https://www.bank.ex\u2026", "https://www.bank.example.com/x"),
    ],
)
def test_text_that_agrees_with_its_target_is_none(text: str, url: str) -> None:
    assert text_mismatch(text, url) is None


def test_customers_of_one_host_are_told_apart() -> None:
    assert text_mismatch("https://good.github.io", "https://bad.github.io") is not None


def test_a_brands_hosting_for_everybody_does_not_vouch_for_a_link() -> None:
    assert text_mismatch("microsoft.com", "https://evil.sharepoint.com/") is not None
    assert text_mismatch("https://twitter.com/x", "https://t.co/x") is not None


def test_a_host_that_only_begins_like_the_text_is_a_mismatch() -> None:
    assert text_mismatch("paypal.com", "https://paypal.com.evil-site.com/") is not None


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("https://bank.example/", "https://evil.example/"),
        ("https://wiki.corp/", "https://mail.corp/"),
        ("https://bank.local...", "https://bank.local.evil-site.com/"),
        ("https://bank.example/", "https://bank.example.evil-site.com/"),
    ],
)
def test_hosts_of_an_unlisted_suffix_are_told_apart(text: str, url: str) -> None:
    found = text_mismatch(text, url)
    assert found is not None
    assert found.strength == "strong"


def test_the_demos_letter_with_a_lying_text_gets_the_finding() -> None:
    scene = Scene(NORDWIND[1], datetime(2026, 1, 2, tzinfo=UTC), 9, random.Random(2), 8090)
    done = transform(letters_attack.lying_text(scene), GatewayDouble().plan())
    findings = [found for link in done.links for found in link.link.findings if found.code == "text_mismatch"]
    assert [found.evidence["strength"] for found in findings] == ["strong"]


@given(st.text(max_size=200), st.text(max_size=60))
def test_no_text_raises(text: str, url: str) -> None:
    text_mismatch(text, url)
    text_mismatch(text + ".com", "https://" + url)
    text_mismatch("http://" + text, "https://example.com")
