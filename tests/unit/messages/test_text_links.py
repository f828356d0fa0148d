"""Addresses in plain text: which are links, where they end, and what is left alone."""

from __future__ import annotations

import quopri
import re

import pytest

from app.messages import restore, transform
from app.messages.linkify import find_addresses
from tests.unit.messages.gateway_double import GATEWAY, GatewayDouble, message

LINKS = [
    ("see http://a.example now", ["http://a.example"]),
    ("HTTPS://A.EXAMPLE/B", ["HTTPS://A.EXAMPLE/B"]),
    ("www.a.example/x", ["www.a.example/x"]),
    ("http://user:pass@a.example:8080/x", ["http://user:pass@a.example:8080/x"]),
    ("http://localhost:8000/x", ["http://localhost:8000/x"]),
    ("http://3232235777", ["http://3232235777"]),
    ("http://[::1]:80/x", ["http://[::1]:80/x"]),
    ("(http://a.example/x)", ["http://a.example/x"]),
    ("http://a.example/x_(wiki)", ["http://a.example/x_(wiki)"]),
    ("(see http://a.example/x_(wiki))", ["http://a.example/x_(wiki)"]),
    ("<http://a.example/x>", ["http://a.example/x"]),
    ('"http://a.example/x"', ["http://a.example/x"]),
    ("'http://a.example/x'", ["http://a.example/x"]),
    ("http://a.example/it's", ["http://a.example/it's"]),
    ("http://a.example/x.", ["http://a.example/x"]),
    ("http://a.example/x...", ["http://a.example/x"]),
    ("http://a.example/x?!", ["http://a.example/x"]),
    ("http://a.example/x,", ["http://a.example/x"]),
    ("http://a.example/x;y", ["http://a.example/x;y"]),
    ("http://a.example/x-", ["http://a.example/x-"]),
    ("http://a.example/?a=1&b=%20#c", ["http://a.example/?a=1&b=%20#c"]),
    ("http://a.example/\u4e2d\u6587\u3002\u6b21", ["http://a.example/\u4e2d\u6587"]),
    ("\u898b\u3066http://a.example/\u3001\u305d\u308c", ["http://a.example/"]),
    ("\u300chttp://a.example/x\u300d", ["http://a.example/x"]),
    ("http://b\u00fccher.example/\u00e9", ["http://b\u00fccher.example/\u00e9"]),
    ("*http://a.example*", ["http://a.example"]),
    ("_http://a.example/_", ["http://a.example/_"]),
    ("text:http://a.example/", ["http://a.example/"]),
    ("a@http://a.example", ["http://a.example"]),
    ("[x](http://a.example/)[y](http://b.example/)", ["http://a.example/", "http://b.example/"]),
    ("http://a.example,http://b.example", ["http://a.example", "http://b.example"]),
    ("http://r.example/?u=http://b.example/", ["http://r.example/?u=http://b.example/"]),
    ("two\nhttp://a.example\nhttp://b.example\n", ["http://a.example", "http://b.example"]),
    ("http://a.example\u200b/x", ["http://a.example"]),
]
NO_LINKS = [
    "http://",
    "http://.",
    "http://..",
    "http://?",
    "http://#",
    "http:// a.example",
    "xhttp://a.example",
    "hppt://a.example",
    "ftp://a.example",
    "mailto:a@b.example",
    "a@www.example.com",
    "foo/www.example.com",
    "file.py and node.js",
    "example.com/path",
    "urn:oasis:names:tc:SAML:2.0:assertion",
    "path:to:file.pm",
    "www.",
    "1.2.3.4",
]


@pytest.mark.parametrize(("text", "expected"), LINKS)
def test_an_address_is_found_and_ends_where_people_say(text: str, expected: list[str]) -> None:
    assert [text[found.start : found.end] for found in find_addresses(text)] == expected


@pytest.mark.parametrize("text", NO_LINKS)
def test_what_only_looks_like_a_link_stays(text: str) -> None:
    assert list(find_addresses(text)) == []
    assert not transform(message(text, "text/plain; charset=utf-8"), GatewayDouble().plan()).changed


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("go to example.com now", ["example.com"]),
        ("example.co.uk/x.", ["example.co.uk/x"]),
        ("EXAMPLE.COM:8080/x", ["EXAMPLE.COM:8080/x"]),
        (">>example.com", ["example.com"]),
        ("192.168.1.1/x", ["192.168.1.1/x"]),
        ("file.py", []),
        ("node.js", []),
        ("example.invalid-tld-x", []),
        ("a@example.com", []),
        ("foo.123", []),
        ("1.2.3.4.5", []),
        ("google.com:500000", []),
    ],
)
def test_domains_without_a_scheme_are_links_where_the_policy_says_so(text: str, expected: list[str]) -> None:
    assert [text[found.start : found.end] for found in find_addresses(text, bare_domains=True)] == expected
    assert list(find_addresses(text)) == []


@pytest.mark.parametrize(("text", "expected"), LINKS)
@pytest.mark.parametrize(
    ("charset", "encoding"),
    [
        ("utf-8", "8bit"),
        ("utf-8", "quoted-printable"),
        ("utf-16", "base64"),
        ("iso-2022-jp", "7bit"),
        ("gb18030", "8bit"),
    ],
)
def test_text_parts_are_rewritten_in_any_charset(text: str, expected: list[str], charset: str, encoding: str) -> None:
    import base64

    try:
        data = text.encode(charset)
    except UnicodeEncodeError:
        pytest.skip("the text cannot be written in this charset")
    if encoding == "quoted-printable":
        data = quopri.encodestring(data)
    elif encoding == "base64":
        data = base64.encodebytes(data)
    raw = message(data, f"text/plain; charset={charset}", encoding)
    gateway = GatewayDouble()
    done = transform(raw, gateway.plan())
    targets = [link.link.url.removeprefix("http://") for link in done.links]
    assert targets == [url.removeprefix("http://") for url in expected]
    assert restore(done.content, gateway.open, done.undo).content == raw


def test_an_address_across_soft_breaks_is_one_link() -> None:
    raw = message("see http://evil.ex=\r\nample/long?a=3D1=\r\n&b=3D2 now", "text/plain", "quoted-printable")
    gateway = GatewayDouble()
    done = transform(raw, gateway.plan())
    assert [link.link.url for link in done.links] == ["http://evil.example/long?a=1&b=2"]
    assert done.links[0].link.source == b"http://evil.ex=\r\nample/long?a=3D1=\r\n&b=3D2"
    assert restore(done.content, gateway.open).content == raw


def test_lines_of_quoted_printable_stay_within_76_characters() -> None:
    body = "x" * 69 + " =\r\nhttp://evil.example/" + "a" * 52 + "=\r\n tail http://b.example/ end " + "y" * 20
    raw = message(body, "text/plain", "quoted-printable")
    gateway = GatewayDouble()
    done = transform(raw, gateway.plan())
    lines = done.content.partition(b"\r\n\r\n")[2].split(b"\r\n")
    assert max(map(len, lines)) <= 76
    decoded = quopri.decodestring(done.content.partition(b"\r\n\r\n")[2])
    assert len(re.findall(re.escape(GATEWAY).encode(), decoded)) == 2
    assert restore(done.content, gateway.open).content == raw


def test_flowed_text_keeps_its_soft_line_breaks() -> None:
    body = "Some text that flows and \r\nhttp://evil.example/a \r\ngoes on.\r\n"
    body += "> quoted http://b.example/ \r\n-- \r\nme\r\n"
    raw = message(body, "text/plain; charset=utf-8; format=flowed; delsp=no", "7bit")
    gateway = GatewayDouble()
    done = transform(raw, gateway.plan())
    assert re.sub(rb"https://gw[^ ]*", b"URL", done.content.partition(b"\r\n\r\n")[2]) == (
        b"Some text that flows and \r\nURL \r\ngoes on.\r\n> quoted URL \r\n-- \r\nme\r\n"
    )
    assert restore(done.content, gateway.open).content == raw


def test_undecodable_text_keeps_every_byte() -> None:
    body = b"\xff\xfe\x80 http://evil.example/\xe9\xff x \xc3"
    raw = message(body, "text/plain; charset=utf-8")
    gateway = GatewayDouble()
    done = transform(raw, gateway.plan())
    assert len(done.links) == 1
    assert restore(done.content, gateway.open).content == raw


def test_code_and_identifiers_in_text_do_not_change() -> None:
    body = 'import file.py; x = "urn:oasis:names:tc:SAML:2.0:assertion"; entityID=sso.example.com; a.b.c(d)\r\n'
    assert not transform(message(body, "text/plain"), GatewayDouble().plan()).changed
