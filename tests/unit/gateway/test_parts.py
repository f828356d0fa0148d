"""Events, limits, forms and destinations, each by itself."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.gateway.destination import destination, location
from app.gateway.events import (
    Subject,
    click_event,
    client_part,
    event_id,
    judged_part,
    plain,
    report_event,
    stored_url,
)
from app.gateway.forms import FormSigner, parse_form
from app.gateway.limits import Counter, address_key
from app.kit.crypto import KeyRing

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def test_event_ids_are_uuids_of_version_7_in_order_of_time() -> None:
    ids = [event_id() for _ in range(200)]
    assert len(set(ids)) == 200
    parsed = [uuid.UUID(text) for text in ids]
    assert all(number.version == 7 and number.variant == uuid.RFC_4122 for number in parsed)
    assert [number.int >> 80 for number in parsed] == sorted(number.int >> 80 for number in parsed)


@given(st.text(max_size=50), st.text(max_size=50), st.text(max_size=50))
def test_any_text_makes_an_event_that_can_be_read_and_stored(url: str, agent: str, reason: str) -> None:
    judged = judged_part(url=url, host=url, level="x", action="redirect", rule=reason, evidence=[{"code": "c"}])
    click = click_event(Subject(1, 2, 3), NOW, judged, client_part(agent, {"accept": agent}), reason)
    said = report_event(Subject(1, 2, 3), NOW, kind="release", url=url, host=url, reason=reason)
    for payload in (click, said):
        event = json.loads(payload.decode("utf-8"))
        assert event["tenant"] == 1
        texts = [value for value in event.values() if isinstance(value, str)]
        assert all(text.isprintable() for text in texts), texts


def test_long_texts_are_cut() -> None:
    assert len(stored_url("https://x.example/" + "y" * 100_000)) == 8_192
    assert len(plain("x" * 1_000, 10)) == 10


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://x.example/A?b=c#D", b"https://x.example/A?b=c#D"),
        ("hTTp://X.example:81/", b"hTTp://X.example:81/"),
        ("https://x.example/<script>", b"https://x.example/%3Cscript%3E"),
        ("https://x.example/\r\nX: y", b"https://x.example/X:%20y"),
        ("https://[2001:db8::1]/", b"https://[2001:db8::1]/"),
        ("http:x.example", b"http://x.example/"),
    ],
)
def test_location_is_what_a_browser_would_open(url: str, expected: bytes) -> None:
    assert location(url) == expected


@pytest.mark.parametrize(
    "url", ["javascript:alert(1)", "JAVASCRIPT://x/%0aalert(1)", "data:,x", "http://", "http://a b/", "//x.example", ""]
)
def test_there_is_no_location_for_anything_else(url: str) -> None:
    assert location(url) is None


@given(st.text(max_size=120))
def test_a_location_never_holds_more_than_one_plain_address(text: str) -> None:
    for url in (text, "https://x.example/" + text, "http://" + text):
        made = location(url)
        if made is not None:
            assert made.lower().startswith((b"http://", b"https://"))
            assert all(0x20 < byte < 0x7F for byte in made)


def test_a_destination_shows_the_registered_name_apart() -> None:
    shown = destination("https://login.paypal.com.evil.co.uk:8443/a%20b?x=%3Cb%3E")
    assert (shown.scheme, shown.lead, shown.name) == ("https://", "login.paypal.com.", "evil.co.uk")
    assert shown.rest == ":8443/a b?x=<b>"


def test_a_destination_names_foreign_letters() -> None:
    honest = destination("https://www.bücher.example/")
    assert (honest.name, honest.ascii_host, honest.looks_like) == ("bücher.example", "www.xn--bcher-kva.example", "")
    deceptive = destination("https://xn--pypal-4ve.com/")
    assert (deceptive.name, deceptive.ascii_host) == ("xn--pypal-4ve.com", "")
    assert deceptive.looks_like == "p\u0430ypal.com"


def test_a_destination_that_cannot_be_read_is_shown_as_text() -> None:
    assert destination("http://[\u202e" + "x" * 300).name.startswith("http://[ x")
    assert destination("javascript:alert(1)").name == "javascript:alert(1)"


@pytest.fixture
def signer(keyring: KeyRing) -> FormSigner:
    return FormSigner(keyring, "https://gw.example")


def test_a_button_works_for_its_link_and_act_and_for_a_quarter_hour(signer: FormSigner) -> None:
    key = signer.sign("x.example/TOKEN", "continue", NOW)
    assert signer.check(key, "x.example/TOKEN", "continue", NOW + timedelta(minutes=14))
    assert not signer.check(key, "x.example/TOKEN", "continue", NOW + timedelta(minutes=16))
    assert not signer.check(key, "x.example/OTHER", "continue", NOW)
    assert not signer.check(key, "x.example/TOKEN", "release", NOW)


@pytest.mark.parametrize("forged", ["", ".", "zz.x", "ffffffff.", "ffffffff.AAAA", "-1.x", "é.é", "1" * 5_000])
def test_a_forged_button_is_refused(signer: FormSigner, forged: str) -> None:
    assert not signer.check(forged, "x.example/TOKEN", "continue", NOW)


def test_a_button_of_another_installation_is_refused(signer: FormSigner) -> None:
    other = FormSigner(KeyRing({1: bytes(range(1, 33))}), "https://gw.example")
    assert not signer.check(other.sign("l", "continue", NOW), "l", "continue", NOW)


@pytest.mark.parametrize(
    ("headers", "here"),
    [
        ({}, True),
        ({b"origin": b"https://gw.example"}, True),
        ({b"origin": b"https://GW.example"}, True),
        ({b"origin": b"https://evil.example"}, False),
        ({b"origin": b"null"}, False),
        ({b"sec-fetch-site": b"same-origin"}, True),
        ({b"sec-fetch-site": b"cross-site"}, False),
        ({b"sec-fetch-site": b"same-site"}, False),
        ({b"sec-fetch-site": b"cross-site", b"origin": b"https://gw.example"}, False),
    ],
)
def test_forms_come_from_here(signer: FormSigner, headers: dict[bytes, bytes], here: bool) -> None:
    assert signer.from_here(headers) is here


def test_a_form_is_read_with_its_first_values() -> None:
    assert parse_form(b"act=continue&act=release&key=&x=%ff") == {"act": "continue", "key": "", "x": "\ufffd"}
    with pytest.raises(ValueError, match="fields"):
        parse_form(b"&".join(b"a%d=1" % number for number in range(100)))


def test_a_counter_counts_per_key_and_forgets() -> None:
    now = 0.0
    counter = Counter(10, lambda: now)
    assert [counter.add("a", 2) for _ in range(3)] == [True, True, False]
    assert counter.add("b", 2)
    now = 10.0
    assert not counter.add("a", 2)
    now = 40.0
    assert counter.add("a", 2)


def test_a_counter_has_bounded_memory() -> None:
    counter = Counter(10, lambda: 0.0)
    for number in range(200_001):
        counter.add(str(number), 1)
    assert counter.overflows == 1


def test_ipv6_addresses_of_one_customer_are_counted_together() -> None:
    assert address_key("2001:db8:1:2::1") == address_key("2001:db8:1:2:ffff::9%eth0")
    assert address_key("2001:db8:1:2::1") != address_key("2001:db8:1:3::1")
    assert address_key("::ffff:192.0.2.1") == address_key("192.0.2.1") == "192.0.2.1"
    assert address_key("odd:") == "odd:"
