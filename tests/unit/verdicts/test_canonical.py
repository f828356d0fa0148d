"""Examples of https://developers.google.com/safe-browsing/v4/urls-hashing, and our own."""

from __future__ import annotations

import ada_url
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.verdicts.canonical import (
    NotCanonical,
    canonical_url,
    expression_digest,
    expressions,
    host_suffixes,
    lookup_expressions,
)


@pytest.mark.parametrize(
    ("url", "canonical"),
    [
        ("http://host/%25%32%35", "http://host/%25"),
        ("http://host/%25%32%35%25%32%35", "http://host/%25%25"),
        ("http://host/%2525252525252525", "http://host/%25"),
        ("http://host/asdf%25%32%35asd", "http://host/asdf%25asd"),
        ("http://host/%%%25%32%35asd%%", "http://host/%25%25%25asd%25%25"),
        ("http://www.google.com/", "http://www.google.com/"),
        (
            "http://%31%36%38%2e%31%38%38%2e%39%39%2e%32%36/%2E%73%65%63%75%72%65/%77%77%77%2E%65%62%61%79%2E%63%6F%6D/",
            "http://168.188.99.26/.secure/www.ebay.com/",
        ),
        (
            "http://host%23.com/%257Ea%2521b%2540c%2523d%2524e%25f%255E00%252611%252A22%252833%252944_55%252B",
            "http://host%23.com/~a!b@c%23d$e%25f^00&11*22(33)44_55+",
        ),
        ("http://3279880203/blah", "http://195.127.0.11/blah"),
        ("http://www.google.com/blah/..", "http://www.google.com/"),
        ("www.google.com/", "http://www.google.com/"),
        ("www.google.com", "http://www.google.com/"),
        ("http://www.evil.com/blah#frag", "http://www.evil.com/blah"),
        ("http://www.GOOgle.com/", "http://www.google.com/"),
        ("http://www.google.com.../", "http://www.google.com/"),
        ("http://www.google.com/foo\tbar\rbaz\n2", "http://www.google.com/foobarbaz2"),
        ("http://www.google.com/q?r?", "http://www.google.com/q?r?"),
        ("http://www.google.com/q?r?s", "http://www.google.com/q?r?s"),
        ("http://evil.com/foo#bar#baz", "http://evil.com/foo"),
        ("http://evil.com/foo;", "http://evil.com/foo;"),
        ("http://evil.com/foo?bar;", "http://evil.com/foo?bar;"),
        ("http://notrailingslash.com", "http://notrailingslash.com/"),
        ("http://www.gotaport.com:1234/", "http://www.gotaport.com/"),
        ("  http://www.google.com/  ", "http://www.google.com/"),
        ("http:// leadingspace.com/", "http://%20leadingspace.com/"),
        ("%20leadingspace.com/", "http://%20leadingspace.com/"),
        ("https://www.securesite.com/", "https://www.securesite.com/"),
        ("http://host.com/ab%23cd", "http://host.com/ab%23cd"),
        ("http://host.com//twoslashes?more//slashes", "http://host.com/twoslashes?more//slashes"),
        ("http://user:pass@host.com/", "http://host.com/"),
        ("http://0x7f.1/", "http://127.0.0.1/"),
        ("http://017700000001/", "http://127.0.0.1/"),
        ("http://host.com/a/./b/../../c/", "http://host.com/c/"),
        ("http://[2001:db8::1]:80/x", "http://[2001:db8::1]/x"),
        ("http%3A%2F%2Fwackyurl.example:80/", "http://wackyurl.example/"),
    ],
)
def test_canonical_form(url: str, canonical: str) -> None:
    assert canonical_url(url) == canonical


@pytest.mark.parametrize("url", ["", ":", "/blah", "#ref", "?query", "http://#ref", "http:///x", "mailto:a@b.example"])
def test_without_a_host_there_is_no_canonical_form(url: str) -> None:
    with pytest.raises(NotCanonical):
        canonical_url(url)


def test_expressions_of_an_address_with_query() -> None:
    assert expressions("http://a.b.example/1/2.html?param=1") == (
        "a.b.example/1/2.html?param=1",
        "a.b.example/1/2.html",
        "a.b.example/1/",
        "a.b.example/",
        "b.example/1/2.html?param=1",
        "b.example/1/2.html",
        "b.example/1/",
        "b.example/",
    )


def test_at_most_four_folders_are_looked_up_beside_the_whole_path() -> None:
    assert expressions("http://b.example/1/2/3/4/5/")[:5] == (
        "b.example/1/2/3/4/5/",
        "b.example/1/2/3/",
        "b.example/1/2/",
        "b.example/1/",
        "b.example/",
    )


def test_deep_hosts_are_looked_up_from_their_end() -> None:
    assert host_suffixes("a.b.c.d.e.f.g.h.i") == [
        "a.b.c.d.e.f.g.h.i",
        "c.d.e.f.g.h.i",
        "d.e.f.g.h.i",
        "e.f.g.h.i",
        "f.g.h.i",
        "g.h.i",
        "h.i",
    ]


@pytest.mark.parametrize("host", ["1.2.3.4", "[2001:db8::1]", "localhost"])
def test_addresses_and_single_labels_have_no_suffixes(host: str) -> None:
    assert host_suffixes(host) == [host]


@pytest.mark.parametrize(
    ("url", "first"),
    [
        ("http://a%2Fb@evil.example/x", "evil.example/x"),
        ("http://good.example%2F@evil.example/", "evil.example/"),
        ("http://EVIL.example:8080/x#y", "evil.example/x"),
        ("http:\\\\evil.example\\x", "evil.example/x"),
        ("http://ⓔvil.example/", "evil.example/"),
        ("http://2130706433/", "127.0.0.1/"),
    ],
)
def test_look_ups_read_an_address_as_a_browser_does(url: str, first: str) -> None:
    assert lookup_expressions(url)[0] == first


@pytest.mark.parametrize("url", ["javascript:alert(1)", "http://[", "", "ftp://x.example/", "no scheme"])
def test_what_no_browser_opens_is_not_looked_up(url: str) -> None:
    with pytest.raises(NotCanonical):
        lookup_expressions(url)


def test_the_digest_is_the_published_one() -> None:
    # SHA-256("abc"), as in FIPS 180-2 and the document's unit tests.
    assert expression_digest("abc").hex().startswith("ba7816bf")


@given(st.text(max_size=200))
def test_the_canonical_form_is_plain(text: str) -> None:
    try:
        made = canonical_url(text)
    except NotCanonical:
        return
    assert made.isascii()
    assert made.isprintable()
    assert " " not in made


@given(
    st.sampled_from(["x.example", "..X..Example..", "user@x.example:80", "0x7f.1", "[2001:db8::1]", "%58.example"]),
    st.sampled_from("/?#"),
    st.text(max_size=100),
)
def test_the_canonical_form_of_a_canonical_form_is_itself(host: str, mark: str, rest: str) -> None:
    once = canonical_url(f"http://{host}{mark}{rest}")
    assert canonical_url(once) == once


@given(st.text(max_size=200))
def test_look_ups_never_fail_otherwise(text: str) -> None:
    try:
        found = lookup_expressions("http://x.example/" + text)
    except NotCanonical:
        return
    assert found[-1] == "x.example/"


@given(
    st.text("aA0.-%:/?#@2eEfF\\ é", max_size=40),
    st.sampled_from(
        ["x.example", "A.b.C.d.e.f.g.h.i.example", "1.2.3.4", "0x7f.1", "[2001:db8::1]", "x.example.", "é.example"]
    ),
)
def test_the_short_way_gives_what_the_long_way_gives(rest: str, host: str) -> None:
    url = f"https://{host}/{rest}"
    parsed = ada_url.URL(url)
    long_way = expressions(f"http://{parsed.hostname}{parsed.pathname}{parsed.search}")
    assert lookup_expressions(url) == long_way
