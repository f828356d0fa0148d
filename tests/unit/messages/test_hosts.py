"""Hosts as browsers read them."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.messages.hosts import (
    host_of,
    ip_host,
    public_suffix,
    registrable_domain,
    unicode_host,
    user_information,
    written_host,
)


@pytest.mark.parametrize(
    ("url", "address", "spelling"),
    [
        ("http://127.0.0.1/", "127.0.0.1", "dotted"),
        ("http://2130706433/", "127.0.0.1", "decimal"),
        ("http://0177.0.0.1/", "127.0.0.1", "octal"),
        ("http://017700000001/", "127.0.0.1", "octal"),
        ("http://0x7f000001/", "127.0.0.1", "hex"),
        ("http://0x7f.1/", "127.0.0.1", "hex"),
        ("http://127.1/", "127.0.0.1", "short"),
        ("http://127.0.1/", "127.0.0.1", "short"),
        ("http://%31%32%37.0.0.1/", "127.0.0.1", "encoded"),
        ("http://\uff11\uff12\uff17.0.0.1/", "127.0.0.1", "encoded"),
        ("http://user:pass@192.0.2.7:8080/x", "192.0.2.7", "dotted"),
        ("http:\\\\192.0.2.7\\x", "192.0.2.7", "dotted"),
        ("  \tht\ntp://192.0.2.7", "192.0.2.7", "dotted"),
        ("https://[2001:db8::1]:444/", "2001:db8::1", "ipv6"),
        ("https://[::ffff:192.0.2.7]/", "::ffff:192.0.2.7", "ipv6-mapped"),
        ("https://[::ffff:c000:207]/", "::ffff:192.0.2.7", "ipv6-mapped"),
    ],
)
def test_an_address_is_recognised_in_every_spelling(url: str, address: str, spelling: str) -> None:
    found = ip_host(url)
    assert found is not None
    assert ipaddress.ip_address(found.address) == ipaddress.ip_address(address)
    assert found.spelling == spelling
    assert found.disguised is (spelling not in ("dotted", "ipv6"))


def test_a_mapped_address_gives_its_ipv4_address_too() -> None:
    found = ip_host("https://[::ffff:c000:207]/")
    assert found is not None
    assert found.mapped == "192.0.2.7"


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/",
        "https://1.2.3.4.example/",
        "https://one1/",
        "mailto:a@192.0.2.1",
        "http://256.1.1.1/",
        "http://[::1%25eth0]/",
        "not an address",
        "",
    ],
)
def test_names_and_invalid_addresses_are_no_ip_hosts(url: str) -> None:
    assert ip_host(url) is None


def test_the_host_is_the_one_a_browser_contacts() -> None:
    assert host_of("HTTPS://user@EXAMPLE.com.:443/a") == "example.com"
    assert host_of("http:/\\b\u00fccher.example") == "xn--bcher-kva.example"
    assert host_of("https://good.example\\@evil.example/") == "good.example"
    assert host_of("https://good.example@evil.example/") == "evil.example"
    assert host_of("mailto:someone@example.com") is None
    assert host_of("https://exa mple.com/") is None


def test_host_and_user_information_are_given_as_written() -> None:
    assert written_host("https://a@b@0X7F.1:80/path@x") == "0X7F.1"
    assert user_information("https://paypal.com@evil.example/") == "paypal.com"
    assert user_information("https://evil.example/@paypal.com") == ""


def test_registrable_domains_follow_the_public_suffix_list() -> None:
    assert registrable_domain("www.example.co.uk") == "example.co.uk"
    assert registrable_domain("a.b.someone.github.io") == "someone.github.io"
    assert registrable_domain("co.uk") is None
    assert registrable_domain("192.0.2.1") is None
    assert registrable_domain("[2001:db8::1]") is None
    assert public_suffix("www.example.co.uk") == "co.uk"
    assert public_suffix("www.example.nosuchsuffix") is None


def test_a_labels_are_shown_as_letters_and_broken_ones_are_left() -> None:
    assert unicode_host("www.xn--bcher-kva.example") == "www.b\u00fccher.example"
    assert unicode_host("xn--\x7f.example") == "xn--\x7f.example"
    assert unicode_host("xn--99999999999.example") == "xn--99999999999.example"
    assert unicode_host("plain.example") == "plain.example"


@given(st.text(max_size=80))
def test_no_text_makes_the_host_functions_raise(text: str) -> None:
    for url in (text, "http://" + text, "http://" + text + "/@"):
        host = host_of(url)
        ip_host(url)
        written_host(url)
        user_information(url)
        if host is not None:
            registrable_domain(host)
            unicode_host(host)
