"""Audit lines hold plain text, whatever the act was about."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from app.audit.service import MAX_TEXT, plain_text


def test_control_characters_do_not_reach_the_log() -> None:
    assert plain_text("a\x00b\nc\x1b[31m\u202e") == "a b c [31m "


@given(st.text(max_size=2000))
def test_a_line_is_printable_and_bounded(text: str) -> None:
    kept = plain_text(text)
    assert len(kept) <= MAX_TEXT
    assert kept.isprintable()
