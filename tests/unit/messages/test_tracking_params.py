"""Tracking parameters: found, taken out, and nothing else touched."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.messages.tracking_params import (
    MAX_PATTERN_LENGTH,
    MAX_PATTERNS,
    PatternError,
    TrackingParam,
    check_pattern,
    detect,
    remove,
)


@pytest.mark.parametrize(
    ("url", "clean"),
    [
        ("https://example.com/?utm_source=x&a=1", "https://example.com/?a=1"),
        ("https://example.com/?a=1&utm_source=x", "https://example.com/?a=1"),
        (
            "https://example.com/?a=1&utm_source=x&b=2#utm_medium=y",
            "https://example.com/?a=1&b=2#utm_medium=y",
        ),
        ("https://example.com/?utm_source=x", "https://example.com/"),
        ("https://example.com/p?gclid=x&fbclid=y#top", "https://example.com/p#top"),
        ("https://example.com/?UTM_Source=x&z", "https://example.com/?z"),
        ("https://example.com/?utm%5Fsource=x&z=%zz+%20", "https://example.com/?z=%zz+%20"),
        ("https://example.com/?b=2&&mc_eid=1&=3&a=?&", "https://example.com/?b=2&&=3&a=?&"),
        ("//example.com?mkt_tok=1&q=\u00fc", "//example.com?q=\u00fc"),
    ],
)
def test_only_the_tracking_pairs_are_cut_out(url: str, clean: str) -> None:
    assert remove(url) == clean
    assert detect(clean.partition("#")[0]) == ()


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/",
        "https://example.com/?",
        "https://example.com/?a=1&b=utm_source",
        "https://example.com/utm_source=1",
        "https://example.com/#?utm_source=1",
        "https://example.com/?xutm_source=1",
        "https://example.com/?a=1;utm_source=2",
        "",
        "?",
        "https://bucket.example/?X-Amz-Signature=abc&utm_source=x",
        "https://store.example/?sv=1&sig=abc%3D&gclid=x",
    ],
)
def test_addresses_without_any_and_signed_ones_come_back_the_same(url: str) -> None:
    assert remove(url) is url


def test_what_is_found_says_name_value_and_source() -> None:
    assert detect("https://example.com/?a=1&utm_source=news%20letter&ref=mail", ["ref"]) == (
        TrackingParam("utm_source", "news letter", "known"),
        TrackingParam("ref", "mail", "own"),
    )


def test_a_tenants_pattern_matches_a_whole_name_or_a_whole_pair() -> None:
    url = "https://example.com/?ref=mail&refer=1&src=partner-7&src=home"
    assert remove(url, ["ref"]) == "https://example.com/?refer=1&src=partner-7&src=home"
    assert remove(url, ["src=partner-.*"]) == "https://example.com/?ref=mail&refer=1&src=home"
    assert remove(url, ["(?i)REF(ER)?", "src=.*"]) == "https://example.com/"


def test_a_tenants_pattern_is_obeyed_in_signed_addresses() -> None:
    assert remove("https://example.com/?sig=1&ref=x&gclid=2", ["ref"]) == "https://example.com/?sig=1&gclid=2"


@pytest.mark.parametrize("pattern", ["(", "(?=a)", "\\1", "a{5000}", "x" * (MAX_PATTERN_LENGTH + 1), "\ud800"])
def test_patterns_that_re2_does_not_take_are_refused_by_name(pattern: str) -> None:
    with pytest.raises(PatternError, match=r"pattern"):
        check_pattern(pattern)
    with pytest.raises(PatternError):
        remove("https://example.com/?a=1", [pattern])


def test_too_many_patterns_are_refused() -> None:
    with pytest.raises(PatternError, match=str(MAX_PATTERNS)):
        detect("https://example.com/", ["a"] * (MAX_PATTERNS + 1))


def test_a_pattern_that_ruins_backtracking_engines_is_harmless() -> None:
    url = "https://example.com/?" + "a" * 50_000 + "b=1"
    assert remove(url, ["(a+)+c", "(a|a)*c", "(.*)*c"]) is url


@given(st.text(max_size=150))
def test_no_text_raises(text: str) -> None:
    for url in (text, "https://example.com/?" + text, "https://example.com/?\ud800=" + text):
        remove(url, ["a.*", "ref"])
        detect(url, ["a.*"])


@given(
    st.lists(st.sampled_from(["a=1", "utm_x=2", "", "b", "gclid=%20", "c=%zz", "hsa_1"]), max_size=8),
    st.sampled_from(["", "#", "#utm_a=1&b"]),
)
def test_removing_is_idempotent_and_keeps_the_rest_in_order(pairs: list[str], fragment: str) -> None:
    url = "https://example.com/p?" + "&".join(pairs) + fragment
    clean = remove(url)
    assert remove(clean) == clean
    kept = [pair for pair in pairs if not pair.startswith(("utm_", "gclid", "hsa_"))]
    if len(kept) == len(pairs):
        assert clean == url
    else:
        assert clean == "https://example.com/p" + ("?" + "&".join(kept) if kept else "") + fragment
