"""Other vendors' protected links, opened without the network."""

from __future__ import annotations

import base64
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.messages.wrappers import MAX_LENGTH, is_wrapper, unwrap

TARGET = "https://shop.example.org/a%20b/?q=1&r=x#top"
SAFE_LINKS = "https://eur03.safelinks.protection.outlook.com/?url={}&data=05%7C02%7C&sdata=abc%3D&reserved=0"


def encoded(url: str) -> str:
    return quote(url, safe="")


def base64_of(url: str) -> str:
    return base64.b64encode(url.encode()).decode()


@pytest.mark.parametrize(
    ("wrapped", "vendor"),
    [
        (SAFE_LINKS.format(encoded(TARGET)), "Microsoft Safe Links"),
        (
            "https://nam02.safelinks.protection.outlook.com/ap/w-59523e83/?url=" + encoded(TARGET),
            "Microsoft Safe Links",
        ),
        ("https://usg02.safelinks.protection.office365.us/?url=" + encoded(TARGET), "Microsoft Safe Links"),
        (
            "https://statics.teams.cdn.office.net/evergreen-assets/safelinks/1/atp-safelinks.html?url="
            + encoded(TARGET),
            "Microsoft Safe Links",
        ),
        (
            "https://urldefense.proofpoint.com/v1/url?u=" + encoded(TARGET) + "&k=a&r=b",
            "Proofpoint URL Defense",
        ),
        (
            "https://urldefense.com/v2/url?u=https-3A__shop.example.org_a-2520b_-3Fq-3D1-26r-3Dx-23top&d=DwM&c=x",
            "Proofpoint URL Defense",
        ),
        (
            "https://urldefense.com/v3/__https://shop.example.org/a*20b/?q=1&r=x*top__;JSM!!abc!def$",
            "Proofpoint URL Defense",
        ),
        (
            "https://linkprotect.cudasvc.com/url?a=" + encoded(TARGET) + "&c=E,1,x&typo=1",
            "Barracuda Link Protection",
        ),
        ("https://secure-web.cisco.com/1aBcD-token_x/" + encoded(TARGET), "Cisco Secure Email"),
        (
            "https://url.avanan.click/v2/r01/___" + TARGET + "___.YXAzOm9yZzphOm86",
            "Check Point Harmony Email",
        ),
        (
            "https://protect.checkpoint.com/v2/___" + TARGET + "___.YzJ1Om9yZzphOm86",
            "Check Point Harmony Email",
        ),
        (
            "https://protect.checkpoint.com/v2/r01/___" + TARGET.replace("://", ":/") + "___.YzJ1Om9yZzphOm86",
            "Check Point Harmony Email",
        ),
        (
            "https://protect.checkpoint.com/v2/r05/___" + encoded(TARGET) + "___.YzJ1Om9y",
            "Check Point Harmony Email",
        ),
        (
            "https://eu-central-1.protection.sophos.com/?d=example.org&u=" + base64_of(TARGET) + "&i=x&t=y&h=z",
            "Sophos Time-of-Click",
        ),
        (
            "https://us-west-2.protection.sophos.com?d=example.org&u="
            + base64_of(TARGET).rstrip("=").replace("+", "-").replace("/", "_"),
            "Sophos Time-of-Click",
        ),
        (
            "https://atpscan.global.hornetsecurity.com/?d=abc&f=def&i=&k=zA1z&u=" + encoded(TARGET),
            "Hornetsecurity ATP",
        ),
        (
            "https://ddec1-0-en-ctp.trendmicro.com:443/wis/clicktime/v1/query?url="
            + encoded(TARGET).lower()
            + "&umid=1&auth=2",
            "Trend Micro click-time protection",
        ),
        (
            "https://protect2.fireeye.com/v1/url?k=1-2&q=1&e=3&u=" + encoded(TARGET),
            "Trellix Email Security (FireEye)",
        ),
        ("https://protect2.fireeye.com/url?k=1&u=" + encoded(TARGET), "Trellix Email Security (FireEye)"),
        ("https://clicktime.symantec.com/38YrYPLxx?u=" + encoded(TARGET), "Symantec Click-time Protection"),
        ("https://www.google.com/url?q=" + encoded(TARGET) + "&sa=D&usg=x", "Google redirect"),
        ("https://www.google.co.uk/url?sa=t&url=" + encoded(TARGET), "Google redirect"),
    ],
)
def test_a_wrapper_gives_the_address_inside(wrapped: str, vendor: str) -> None:
    result = unwrap(wrapped)
    assert result.url == TARGET
    assert not result.opaque
    assert [(hit.vendor, hit.url) for hit in result.chain] == [(vendor, wrapped)]
    assert is_wrapper(wrapped)


def test_proofpoint_v3_fills_in_single_characters_and_runs() -> None:
    replaced = base64.urlsafe_b64encode("#é[]%".encode()).decode().rstrip("=")
    wrapped = f"https://urldefense.com/v3/__https://example.org/a*b*c**Bd__;{replaced}!!k!s$"
    assert unwrap(wrapped).url == "https://example.org/a#béc[]%d"


def test_trend_micro_addresses_without_a_scheme_get_one() -> None:
    wrapped = "https://x-ctp.trendmicro.com/wis/clicktime/v1/query?url=www.example.org&umid=1"
    assert unwrap(wrapped).url == "http://www.example.org"


def test_wrappers_inside_each_other_are_all_opened() -> None:
    inner = "https://linkprotect.cudasvc.com/url?a=" + encoded(TARGET)
    middle = "https://eu-west-1.protection.sophos.com/?d=cudasvc.com&u=" + base64_of(inner)
    result = unwrap(SAFE_LINKS.format(encoded(middle)))
    assert result.url == TARGET
    assert [hit.vendor for hit in result.chain] == [
        "Microsoft Safe Links",
        "Sophos Time-of-Click",
        "Barracuda Link Protection",
    ]
    assert result.chain[1].shown_host == "cudasvc.com"


def test_nesting_is_followed_to_the_cap_and_no_further() -> None:
    url = TARGET
    for _ in range(8):
        url = "https://www.google.com/url?q=" + encoded(url)
    result = unwrap(url)
    assert len(result.chain) == 5
    assert result.opaque
    assert is_wrapper(result.url)
    assert unwrap(url, max_depth=8).url == TARGET
    assert unwrap(url, max_depth=0) == unwrap(url, max_depth=0).__class__(url, (), True)


@pytest.mark.parametrize(
    "wrapped",
    [
        "https://protect-eu.mimecast.com/s/AbCdEfGh?domain=shop.example.org",
        "https://url.uk.m.mimecastprotect.com/s/AbCdEfGh?domain=shop.example.org",
    ],
)
def test_mimecast_is_recognised_and_left_closed(wrapped: str) -> None:
    result = unwrap(wrapped)
    assert result.opaque
    assert result.url == wrapped
    assert result.chain[0].vendor == "Mimecast URL Protect"
    assert result.chain[0].shown_host == "shop.example.org"


@pytest.mark.parametrize(
    "wrapped",
    [
        "https://eur03.safelinks.protection.outlook.com/?data=1",
        "https://urldefense.com/v3/__https://example.org/*__;!!x!y$",
        "https://urldefense.com/v3/__https://example.org/__;IyM!!x!y$",
        "https://urldefense.com/v3/____;Iw!!foo!bar$",
        "https://urldefense.com/v3/nothing",
        "https://secure-web.cisco.com/1token",
        "https://eu.protection.sophos.com/?d=example.org&b=1&x=2&q=4bPLHT",
        "https://eu.protection.sophos.com/?d=example.org&u=%FF%FE",
        "https://atpscan.global.hornetsecurity.com/?d=a&f=b&k=c",
        "https://protect.checkpoint.com/v2/r01/other",
        "https://www.google.com/url?q=javascript%3Aalert(1)",
        "https://www.google.com/url?q=data%3Atext%2Fhtml%2Cx",
        "https://www.google.com/url?q=%2Fsearch",
        "https://www.google.com/url",
        "https://linkprotect.cudasvc.com/url?a=https%3A%2F%2F",
    ],
)
def test_a_wrapper_without_a_web_address_inside_stays_closed(wrapped: str) -> None:
    result = unwrap(wrapped)
    assert result.url == wrapped
    assert result.opaque
    assert len(result.chain) == 1


@pytest.mark.parametrize(
    "url",
    [
        "https://safelinks.protection.outlook.com.evil.example/?url=https%3A%2F%2Fgood.example",
        "https://evilsafelinks.protection.outlook.com.example/?url=https%3A%2F%2Fgood.example",
        "https://evil-urldefense.com/v2/url?u=https-3A__good.example",
        "https://notlinkprotect.cudasvc.com/url?a=https%3A%2F%2Fgood.example",
        "https://x.url.avanan.click/v2/r01/___https://good.example___.x",
        "https://nottrendmicro.com/wis/clicktime/v1/query?url=https%3A%2F%2Fgood.example",
        "https://www.trendmicro.com/en/business?url=https%3A%2F%2Fgood.example",
        "https://google.evil.example/url?q=https%3A%2F%2Fgood.example",
        "https://www.google.com/search?q=https%3A%2F%2Fgood.example",
        "https://www.google.com/urls?q=https%3A%2F%2Fgood.example",
        "https://evil.example/https://urldefense.com/v2/url?u=https-3A__good.example",
        "https://urldefense.com@evil.example/v2/url?u=https-3A__good.example",
        "https://www.mimecast.com/products/",
        "https://example.org/",
        "mailto:a@safelinks.protection.outlook.com",
        "not an address",
        "",
    ],
)
def test_what_only_looks_like_a_wrapper_is_left_alone(url: str) -> None:
    result = unwrap(url)
    assert (result.url, result.chain, result.opaque) == (url, (), False)


def test_odd_spellings_of_the_wrappers_host_do_not_hide_it() -> None:
    query = "?url=" + encoded(TARGET)
    for url in (
        "HTTPS://EUR03.SafeLinks.Protection.Outlook.COM/" + query,
        "https:\\\\eur03.safelinks.protection.outlook.com\\" + query,
        "https://user@eur03.safelinks.protection.outlook.com:443/" + query,
        "https://eur03.safelinks.protection.outlook.com./" + query,
        " https://eur03.safelinks.protection.outlook.com/" + query,
        "eur03.safelinks.protection.outlook.com/" + query,
    ):
        assert unwrap(url).url == TARGET, url


def test_the_first_of_doubled_parameters_and_undecoded_ampersands_are_read() -> None:
    wrapped = "https://linkprotect.cudasvc.com/url?x=1&amp;a=https%3A%2F%2Ffirst.example&a=https%3A%2F%2Fsecond.example"
    assert unwrap(wrapped).url == "https://first.example"


def test_bytes_that_are_not_utf_8_keep_their_escapes() -> None:
    assert unwrap("https://www.google.com/url?q=https%3A%2F%2Fexample.org%2F%E9").url == "https://example.org/%E9"


def test_very_long_addresses_are_not_opened() -> None:
    url = SAFE_LINKS.format(encoded(TARGET)) + "x" * MAX_LENGTH
    assert unwrap(url).chain == ()


@given(st.text(max_size=120), st.integers(0, 6))
def test_no_text_raises(text: str, depth: int) -> None:
    for url in (
        text,
        "https://urldefense.com/v3/" + text,
        "https://urldefense.com/v3/__" + text + "__;" + text + "!",
        "https://urldefense.com/v2/url?u=" + text,
        "https://secure-web.cisco.com/" + text,
        "https://protect.checkpoint.com/v2/___" + text,
        "https://a.protection.sophos.com/?u=" + text,
        SAFE_LINKS.format(text),
    ):
        result = unwrap(url, depth)
        assert len(result.chain) <= max(depth, 0) or result.opaque


@given(
    st.from_regex(r"https://[a-z]{1,8}\.example/[a-z0-9._~%()*=&?#-]{0,30}", fullmatch=True).filter(
        lambda url: "__" not in url
    )
)
def test_every_address_comes_out_of_safe_links_as_it_went_in(url: str) -> None:
    assert unwrap(SAFE_LINKS.format(encoded(url))).url == url
