"""How hostile text, times and addresses are shown."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.console.text import clean_query, exact, split_url, time_tag, visible


def test_ordinary_text_is_shown_as_it_is() -> None:
    assert visible("Wöchentlicher Newsletter 会議のご案内") == "Wöchentlicher Newsletter 会議のご案内"


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ("\u202egnp.exe", "⟨U+202E⟩gnp.exe"),
        ("a\u2066b\u2069", "a⟨U+2066⟩b⟨U+2069⟩"),
        ("pay\u200bpal", "pay⟨U+200B⟩pal"),
        ("a\x00b\x1b[31m", "a⟨U+0000⟩b⟨U+001B⟩[31m"),
        ("two\nlines", "two⟨U+000A⟩lines"),
        ("\ud800", "⟨U+D800⟩"),
        ("\ufeffx", "⟨U+FEFF⟩x"),
    ],
)
def test_invisible_and_turning_characters_are_shown_by_number(hostile: str, shown: str) -> None:
    assert visible(hostile) == shown


def test_joiners_of_scripts_that_need_them_stay() -> None:
    assert visible("می\u200cخواهم") == "می\u200cخواهم"


def test_long_text_is_cut_with_an_ellipsis() -> None:
    assert visible("x" * 50, 10) == "x" * 10 + "…"
    assert visible("x" * 10, 10) == "x" * 10


@given(st.text(), st.integers(1, 300))
def test_what_is_shown_never_turns_direction_and_never_breaks_the_line(text: str, limit: int) -> None:
    shown = visible(text, limit)
    assert not set(shown) & set("\n\r\x00\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u2028")
    assert len(shown) <= limit + 1


@given(st.text(max_size=500))
def test_a_search_never_holds_what_the_database_cannot(text: str) -> None:
    cleaned = clean_query(text)
    assert len(cleaned) <= 200
    assert cleaned.isprintable()
    cleaned.encode()


def test_a_moment_is_given_in_utc_to_the_millisecond() -> None:
    moment = datetime(2026, 11, 21, 21, 5, 7, 123456, tzinfo=timezone(timedelta(hours=1)))
    assert exact(moment) == "2026-11-21T20:05:07.123Z"
    tag = str(time_tag(moment, "ago"))
    assert 'datetime="2026-11-21T20:05:07.123Z"' in tag
    assert 'data-show="ago"' in tag
    assert "2026-11-21 20:05:07 UTC" in tag


def test_no_moment_is_a_dash() -> None:
    assert "–" in str(time_tag(None))


@pytest.mark.parametrize(
    ("url", "host", "pieces"),
    [
        ("https://a.example/x", "a.example", ("https://", "a.example", "/x")),
        ("https://A.Example/x", "a.example", ("https://", "A.Example", "/x")),
        ("http://user@b.example:81/", "b.example", ("http://user@", "b.example", ":81/")),
        # The host in user info or path is not the host.
        ("http://b.example@evil.example/b", "evil.example", ("http://b.example@", "evil.example", "/b")),
        ("https://evil.example/?u=a.example", "a.example", ("https://evil.example/?u=a.example", "", "")),
        ("http://0x7f.1/", "127.0.0.1", ("http://0x7f.1/", "", "")),
        ("nonsense", "a.example", ("nonsense", "", "")),
        ("https://a.example", "", ("https://a.example", "", "")),
    ],
)
def test_the_host_is_picked_out_of_an_address(url: str, host: str, pieces: tuple[str, str, str]) -> None:
    assert split_url(url, host) == pieces


@given(st.text(max_size=100), st.text(max_size=20))
def test_picking_out_the_host_loses_nothing(url: str, host: str) -> None:
    assert "".join(split_url(url, host)) == url


def test_times_of_other_zones_are_the_same_moment() -> None:
    utc = datetime(2026, 1, 1, tzinfo=UTC)
    assert exact(utc) == exact(utc.astimezone(timezone(timedelta(hours=9))))
