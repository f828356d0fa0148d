"""Hosts that imitate other hosts, and hosts that do not."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.messages import lookalike
from app.messages.brands import BRANDS
from app.messages.confusables import is_suspicious_mix, latin_skeleton, scripts_of
from app.messages.host_findings import TEMPLATES, HostFinding, finding
from app.messages.hosts import registrable_domain
from app.messages.lookalike import inspect_host, inspect_url
from app.messages.shorteners import SHORTENERS, shortener

OWN = frozenset({"contoso.com", "b\u00fchler-bau.de", "harbour.co.uk"})


def codes(url: str) -> list[tuple[str, str, str]]:
    return [(item.code, item.strength, item.about) for item in inspect_url(url, OWN)]


@pytest.mark.parametrize(
    ("url", "code", "about", "target"),
    [
        ("https://paypa1.com/", "lookalike", "brand", "paypal.com"),
        ("https://rnicrosoft.com/", "lookalike", "brand", "microsoft.com"),
        ("https://micosoft.com/", "lookalike", "brand", "microsoft.com"),
        ("https://www.fcaebook.com/", "lookalike", "brand", "facebook.com"),
        ("https://wellsfrago.com/", "lookalike", "brand", "wellsfargo.com"),
        ("https://contos0.com/", "lookalike", "own", "contoso.com"),
        ("https://contosso.com/", "lookalike", "own", "contoso.com"),
        ("https://conotso.org/", "lookalike", "own", "contoso.com"),
        ("https://buhler-bau.de/", "lookalike", "own", "b\u00fchler-bau.de"),
        ("https://p\u0430yp\u0430l.com/", "homograph", "brand", "paypal.com"),
        ("https://\u0430\u0440\u0440\u04cf\u0435.com/", "homograph", "brand", "apple.com"),
        ("https://c\u00f4ntoso.com/", "homograph", "own", "contoso.com"),
        ("https://paypal.com.evil.example/", "embedded", "brand", "paypal.com"),
        ("https://www-paypal-com.evil.example/", "embedded", "brand", "paypal.com"),
        ("https://deutsche-bank.de.evil.example/", "embedded", "brand", "deutsche-bank.de"),
        ("https://login.contoso.com.evil.example/", "embedded", "own", "contoso.com"),
        ("https://harbour.co.uk.evil.example/", "embedded", "own", "harbour.co.uk"),
        ("https://paypal-login.com/", "affixed", "brand", "paypal.com"),
        ("https://mypaypal-secure.com/", "affixed", "brand", "paypal.com"),
        ("https://netflixbilling.com/", "affixed", "brand", "netflix.com"),
        ("https://secure-contoso.com/", "affixed", "own", "contoso.com"),
        ("https://microsoftlogin.web.app/", "affixed", "brand", "microsoft.com"),
        ("https://contoso.net/", "other_suffix", "own", "contoso.com"),
        ("https://paypal.shop/", "other_suffix", "brand", "paypal.com"),
    ],
)
def test_an_imitation_is_named_with_what_it_imitates(url: str, code: str, about: str, target: str) -> None:
    first = inspect_url(url.replace("evil.example", "evil.com"), OWN)[0]
    assert (first.code, first.about, first.field("target")) == (code, about, target)


@pytest.mark.parametrize(
    "url",
    [
        "https://www.contoso.com/",
        "https://mail.b\u00fchler-bau.de/",
        "https://harbour.co.uk/",
        "https://contoso.sharepoint.com/",
        "https://contoso.zendesk.com/",
        "https://contoso.okta.com/login",
        "https://contoso.com.cdn.cloudflare.net/",
        "https://www-contoso-com.translate.goog/",
        "https://paypal.com.edgekey.net/",
        "https://www.paypal.com/signin",
        "https://paypalobjects.com/",
        "https://login.microsoftonline.com/",
        "https://amazonaws.com/",
        "https://www.amazon.co.uk/",
        "https://google-analytics.com/",
        "https://phase.com/",
        "https://stripes.com/",
        "https://appleton.com/",
        "https://googol.com/",
        "https://officer.example.org/",
        "https://chaser.com/",
        "https://targets.com/",
        "https://pineapple.com/",
        "https://amazonia.org/",
        "https://mastercards.com/",
        "https://applesauce.example/",
        "https://secure.example.org/login",
        "https://discordant.com/",
        "https://zoomer.com/",
        "https://upside.com/",
        "https://www.example.com/",
        "https://localhost/",
        "https://intranet/",
    ],
)
def test_good_hosts_are_no_findings(url: str) -> None:
    assert inspect_url(url, OWN) == ()


def test_every_domain_of_every_brand_is_no_imitation() -> None:
    for brand in BRANDS:
        for domain in brand.domains:
            for host in (domain, "www." + domain):
                assert [item for item in inspect_host(host, OWN) if item.code != "shortener"] == [], host


def test_brand_names_are_written_as_domains_write_them() -> None:
    allowed = set(string.ascii_lowercase + string.digits + "-")
    for brand in BRANDS:
        assert set(brand.name) <= allowed
        assert brand.domains
        assert all(registrable_domain(domain) == domain for domain in brand.domains)


def test_mixed_alphabets_are_told_from_writing_systems_that_mix() -> None:
    assert ("mixed_script", "strong", "") in codes("https://ex\u0430mple.com/")
    for good in (
        "https://\u65e5\u672c\u8a9e\u30c6\u30b9\u30c8abc.jp/",
        "https://b\u00fccher.de/",
        "https://\u043f\u0440\u0438\u043c\u0435\u0440.\u0440\u0444/",
        "https://\u043a\u043e\u0442.com/",
    ):
        assert [code for code, _, _ in codes(good)] == ["punycode"], good


def test_a_name_of_nothing_but_twins_of_latin_letters_is_a_homograph() -> None:
    assert codes("https://\u0441\u043e\u0441\u043e\u0430.com/")[0] == ("homograph_unnamed", "strong", "")
    assert [code for code, _, _ in codes("https://\u0441\u043e\u0441\u043e\u0430.ru/")] == ["punycode"]


def test_numeric_hosts_are_findings_and_disguised_ones_strong() -> None:
    assert codes("http://192.0.2.1/") == [("ip_host", "weak", "")]
    assert codes("http://3221225985/") == [("ip_host_disguised", "strong", "")]
    assert "3221225985" in inspect_url("http://3221225985/")[0].message


def test_user_information_that_looks_like_a_host_is_a_finding() -> None:
    assert codes("https://paypal.com@evil.com/") == [("user_information", "strong", "")]
    assert codes("https://anna@evil.com/") == []


def test_shorteners_are_recognised_by_exact_host() -> None:
    assert codes("https://bit.ly/3abc") == [("shortener", "weak", "")]
    assert shortener("www.tinyurl.com") == "tinyurl.com"
    assert shortener("myshop.page.link") == "page.link"
    assert shortener("notbit.ly") is None
    assert shortener("bit.ly.example.com") is None
    assert shortener("x.bit.ly") is None
    assert shortener("example.com") is None
    assert all(host == host.lower() and "." in host for host in SHORTENERS)


def test_every_finding_says_itself_in_one_sentence() -> None:
    urls = [
        "https://paypa1.com",
        "https://paypal-login.com",
        "https://paypal.com.evil.com",
        "http://0x7f.1",
        "https://ex\u0430mple.com",
        "https://bit.ly/x",
        "https://contoso.net",
        "https://a.com@evil.com",
        "https://\u0441\u043e\u0441\u043e\u0430.com/",
        "http://192.0.2.1/",
    ]
    for url in urls:
        for item in inspect_url(url, OWN):
            assert item.message.endswith(".")
            assert "{" not in item.message


def test_a_finding_needs_a_sentence_and_its_fields() -> None:
    with pytest.raises(KeyError):
        finding("no_such_code", "weak")
    with pytest.raises(KeyError):
        finding("shortener", "weak")
    assert HostFinding("shortener", "weak", (("service", "bit.ly"),)).field("missing") == ""
    assert set(TEMPLATES) >= {"shortener", "text_mismatch"}


def test_values_with_braces_are_only_values() -> None:
    assert "{target}" in finding("shortener", "weak", service="{target}").message


def test_skeletons_and_scripts() -> None:
    assert latin_skeleton("p\u0430yp\u0430l") == "paypal"
    assert latin_skeleton("\u24d0\u24d1c") == "abc"
    assert latin_skeleton("\u00e9t\u00e9") == "ete"
    assert is_suspicious_mix(scripts_of("\u0430b"))
    assert not is_suspicious_mix(scripts_of("ab-1"))


def test_own_domains_that_are_not_valid_are_passed_over() -> None:
    assert inspect_host("contosso.com", frozenset({"", "!!", "192.0.2.1", "contoso.com."}))[0].code == "lookalike"


@given(st.text(alphabet="abcdeilmnoprst0135-.", min_size=1, max_size=60), st.text(max_size=20))
def test_inspecting_never_raises(host: str, odd: str) -> None:
    inspect_url(f"https://{host}/", OWN)
    inspect_url(f"https://{odd}{host}/{odd}", OWN)
    inspect_url(odd, frozenset({odd}))


@given(st.text(alphabet="abcdr", min_size=1, max_size=9), st.text(alphabet="abcdr", min_size=1, max_size=9))
def test_edit_distance_agrees_with_its_definition(first: str, second: str) -> None:
    table: dict[tuple[int, int], int] = {}
    for i in range(len(first) + 1):
        for j in range(len(second) + 1):
            if not i or not j:
                table[i, j] = i + j
                continue
            options = [
                table[i - 1, j] + 1,
                table[i, j - 1] + 1,
                table[i - 1, j - 1] + (first[i - 1] != second[j - 1]),
            ]
            if i > 1 and j > 1 and first[i - 2 : i] == second[j - 2 : j][::-1]:
                options.append(table[i - 2, j - 2] + 1)
            table[i, j] = min(options)
    assert lookalike._distance(first, second) == table[len(first), len(second)]
