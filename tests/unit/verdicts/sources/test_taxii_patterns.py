"""STIX patterns: what is used, what is named and not used, what is no pattern."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.verdicts.sources.taxii_patterns import MAX_DEPTH, BadPattern, parse_pattern


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("[url:value = 'http://evil.example/a']", ["http://evil.example/a"]),
        ("[domain-name:value='evil.example']", ["evil.example"]),
        ("[ domain-name:value == 'evil.example' ]", ["evil.example"]),
        ("[url:value = 'http://a.example/' OR domain-name:value = 'b.example']", ["http://a.example/", "b.example"]),
        ("[url:value = 'a.example'] OR [domain-name:value = 'b.example']", ["a.example", "b.example"]),
        ("([url:value = 'a.example'] OR ([url:value = 'b.example']))", ["a.example", "b.example"]),
        ("[domain-name:value IN ('a.example', 'b.example','c.example')]", ["a.example", "b.example", "c.example"]),
        ("[(url:value = 'a.example' OR (url:value = 'b.example'))]", ["a.example", "b.example"]),
        (r"[url:value = 'http://a.example/it\'s\\here']", [r"http://a.example/it's\here"]),
        ("[url:value = 'a.example' OR url:value = 'a.example']", ["a.example"]),
        ("/* one */ [url:value = 'http://a.example//x'] // two", ["http://a.example//x"]),
        ("[url:value\n=\t'a.example']", ["a.example"]),
    ],
)
def test_one_match_that_is_enough_is_used(text: str, values: list[str]) -> None:
    found = parse_pattern(text)
    assert list(found.values) == values
    assert found.unused == ()


@pytest.mark.parametrize(
    ("text", "unused"),
    [
        ("[file:hashes.'SHA-256' = 'abc']", "file:hashes.'SHA-256'"),
        ("[ipv4-addr:value = '192.0.2.1']", "ipv4-addr:value"),
        ("[email-message:from_ref.value = 'a@b.example']", "email-message:from_ref.value"),
        ("[url:value = 'a.example' AND url:value = 'b.example']", "AND"),
        ("[url:value = 'a.example'] AND [url:value = 'b.example']", "AND"),
        ("[url:value = 'a.example'] FOLLOWEDBY [url:value = 'b.example']", "FOLLOWEDBY"),
        ("[url:value = 'a.example'] WITHIN 300 SECONDS", "WITHIN"),
        ("[url:value = 'a.example'] REPEATS 5 TIMES", "REPEATS"),
        ("[url:value = 'a.example'] START t'2026-01-01T00:00:00Z' STOP t'2026-02-01T00:00:00Z'", "START"),
        ("[url:value != 'a.example']", "url:value !="),
        ("[url:value NOT = 'a.example']", "url:value NOT ="),
        ("[domain-name:value NOT IN ('a.example')]", "domain-name:value NOT IN"),
        ("[url:value LIKE 'http://%.example/']", "url:value LIKE"),
        ("[url:value MATCHES '^http']", "url:value MATCHES"),
        ("[url:value = 5]", "url:value ="),
        ("[EXISTS url:value]", "EXISTS url:value"),
        ("[NOT EXISTS url:value]", "NOT EXISTS url:value"),
        ("[network-traffic:extensions.'http-request-ext'.request_value = '/x']", "network-traffic:extensions"),
        ("[domain-name:resolves_to_refs[*].value = 'a.example']", "domain-name:resolves_to_refs[*].value"),
        ("([url:value = 'a.example'] OR [url:value = 'b.example']) AND [url:value = 'c.example']", "AND"),
        ("[(url:value = 'a.example' OR url:value = 'b.example') AND file:size > 5]", "AND"),
    ],
)
def test_what_would_need_a_guess_is_named_and_not_used(text: str, unused: str) -> None:
    found = parse_pattern(text)
    assert found.values == ()
    assert any(name.startswith(unused) for name in found.unused)


def test_of_alternatives_those_that_are_understood_are_used() -> None:
    found = parse_pattern("[file:name = 'x.exe' OR url:value = 'a.example'] OR [ipv4-addr:value = '192.0.2.1']")
    assert found.values == ("a.example",)
    assert found.unused == ("file:name", "ipv4-addr:value")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[",
        "[]",
        "url:value = 'a.example'",
        "[url:value = 'a.example'",
        "[url:value = 'a.example",
        "[url:value 'a.example']",
        "[url = 'a.example']",
        "[url:value = a.example]",
        "[url:value = 'a.example']]",
        "[url:value = 'a.example'] [url:value = 'b.example']",
        "[url:value IN ()]",
        "[url:value IN ('a',)]",
        "[url:value = 'a.example'] WITHIN SECONDS",
        "[url:value = 'a.example'] START '2026' STOP '2027'",
        "[url:value = 'a' XOR url:value = 'b']",
        "[x:y[z] = 'a']",
        '[url:value = "a.example"]',
        "(" * (MAX_DEPTH + 2) + "[url:value = 'a']" + ")" * (MAX_DEPTH + 2),
        "[" + "(" * (MAX_DEPTH + 2) + "url:value = 'a'" + ")" * (MAX_DEPTH + 2) + "]",
        "[url:value = '" + "a" * 30_000 + "']",
    ],
)
def test_what_is_no_pattern_is_refused(text: str) -> None:
    with pytest.raises(BadPattern):
        parse_pattern(text)


QUOTED = st.text(min_size=1, max_size=30)
TESTS = st.tuples(st.sampled_from(["url:value", "domain-name:value"]), QUOTED)


def written(path: str, value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"{path} = '{escaped}'"


@given(st.lists(st.lists(TESTS, min_size=1, max_size=4), min_size=1, max_size=4), st.booleans())
def test_any_alternatives_give_back_their_values(groups: list[list[tuple[str, str]]], brackets: bool) -> None:
    parts = [" OR ".join(written(path, value) for path, value in group) for group in groups]
    text = " OR ".join(f"([{part}])" if brackets else f"[{part}]" for part in parts)
    found = parse_pattern(text)
    assert found.values == tuple(dict.fromkeys(value for group in groups for _, value in group))
    assert found.unused == ()


@given(st.lists(TESTS, min_size=2, max_size=4), st.data())
def test_one_condition_more_anywhere_leaves_nothing(tests: list[tuple[str, str]], data: st.DataObject) -> None:
    joined = [written(path, value) for path, value in tests]
    at = data.draw(st.integers(0, len(joined) - 2))
    joined[at : at + 2] = [f"{joined[at]} AND {joined[at + 1]}"]
    found = parse_pattern(f"[{' OR '.join(joined)}]")
    kept = [value for number, (_, value) in enumerate(tests) if number not in (at, at + 1)]
    assert found.values == tuple(dict.fromkeys(kept))
    assert found.unused == ("AND",)


@given(st.text(alphabet="[]()'\\=:., \nurlvaeORANDINdomain-name*<>!t5", max_size=120) | st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        found = parse_pattern(text)
    except BadPattern:
        return
    assert all(isinstance(value, str) for value in found.values)
