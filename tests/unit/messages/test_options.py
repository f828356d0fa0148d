"""Delivery options: what a tenant can ask for, and what is refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from app.messages import transform
from app.messages.options import DeliveryOptions, OptionError
from app.messages.types import FoundLink

MAIL = (
    b"From: a@b.example\r\nMIME-Version: 1.0\r\nContent-Type: text/html\r\n\r\n"
    b'<a href="https://news.example/?id=1&utm_source=x">News</a> <a href="https://evil-site.com/">https://paypal.com/</a>'
)


def transformed(**options: Any) -> bytes:
    plan = DeliveryOptions.parse(options).plan("https://gw.example", mint, lambda url: None)
    return transform(MAIL, plan).content


def mint(link: FoundLink) -> str:
    return "https://gw.example/l/" + link.url.split("/")[2] + "/" + link.url.encode().hex()


def test_by_default_every_link_leads_through_the_gateway() -> None:
    assert transformed().count(b"https://gw.example/l/") == 2


def test_suspicious_links_can_be_treated_apart_from_the_others() -> None:
    out = transformed(suspicious="redact", redact_text="[gone]")
    assert b"https://gw.example/l/news.example/" in out
    assert b"evil-site.com" not in out
    assert b'href="#"' in out


def test_other_links_can_be_made_unclickable() -> None:
    assert b"hxxps://news[.]example" in transformed(other="style").replace(b"&#46;", b".")


def test_tracking_parameters_are_removed_on_request() -> None:
    kept, removed = transformed(), transformed(strip_tracking=True)
    assert b"utm_source".hex().encode() in kept
    assert b"utm_source".hex().encode() not in removed


def test_options_survive_being_stored() -> None:
    options = DeliveryOptions.parse({"qr": "deface", "tracking_patterns": ["^x_"], "tag": "Geschützt"})
    assert DeliveryOptions.parse(options.as_json()) == options
    assert DeliveryOptions().as_json() == {}


@pytest.mark.parametrize(
    "bad",
    [
        {"nonsense": 1},
        {"suspicious": "explode"},
        {"qr": None},
        {"strip_tracking": "yes"},
        {"tag": "x" * 201},
        {"tag": "a\nb"},
        {"tracking_patterns": ["("]},
        {"tracking_patterns": [3]},
        {"tracking_patterns": "utm"},
        {"tracking_patterns": ["a"] * 51},
    ],
)
def test_what_cannot_be_done_is_refused_by_name(bad: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match=next(iter(bad))):
        DeliveryOptions.parse(bad)
