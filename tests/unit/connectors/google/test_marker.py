"""The header by which own copies are known."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.google import marker

KEY = b"k" * 32
CONTENT = b"From: a@example.org\r\nSubject: hi\r\n\r\nhttps://gateway.example/x\r\n"


def stamped(content: bytes = CONTENT, *, mailbox: str = "user-1", key: bytes = KEY) -> bytes:
    return marker.stamp(key, mailbox, "18c0ffee", "job-7", content)


def test_a_stamped_copy_is_known_and_its_content_is_what_was_written() -> None:
    marked = marker.read(KEY, "user-1", stamped())
    assert marked == marker.Marked("18c0ffee", "job-7", CONTENT)


def test_a_message_without_marker_is_not_a_copy() -> None:
    assert marker.read(KEY, "user-1", CONTENT) is None


@given(st.data())
def test_a_copy_with_one_byte_changed_anywhere_is_not_known(data: st.DataObject) -> None:
    raw = bytearray(stamped())
    position = data.draw(st.integers(0, len(raw) - 1))
    value = data.draw(st.integers(0, 255).filter(lambda value: value != raw[position]))
    raw[position] = value
    marked = marker.read(KEY, "user-1", bytes(raw))
    # The name is not case-sensitive and blanks around the value do not count: then the content is unharmed.
    assert marked is None or marker.same_but_for_line_ends(marked.content, CONTENT)


def test_a_marker_taken_from_another_message_is_worth_nothing() -> None:
    line = stamped().partition(b"\r\n")[0] + b"\r\n"
    assert marker.read(KEY, "user-1", line + b"Subject: evil\r\n\r\nhttps://evil.example/\r\n") is None


def test_a_marker_of_another_mailbox_or_key_is_worth_nothing() -> None:
    assert marker.read(KEY, "user-2", stamped()) is None
    assert marker.read(b"x" * 32, "user-1", stamped()) is None


def test_copies_made_before_a_key_rotation_are_still_known() -> None:
    rotated = marker.MarkerKeys(b"n" * 32, (KEY,))
    assert rotated.read("user-1", stamped()) is not None
    assert marker.MarkerKeys(b"n" * 32).read("user-1", stamped()) is None
    assert "nnn" not in repr(rotated)


def test_a_short_key_is_refused() -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        marker.MarkerKeys(KEY, (b"short",))


def test_a_marker_below_ordinary_headers_is_worth_nothing() -> None:
    assert marker.read(KEY, "user-1", b"Subject: in front\r\n" + stamped()) is None


def test_trace_headers_that_gmail_puts_on_top_do_not_hide_the_marker() -> None:
    trace = b"Received: from 1 named unknown\r\n\tby gmailapi.google.com with HTTPREST; now\r\nX-Google-Id: 1\r\n"
    marked = marker.read(KEY, "user-1", trace + stamped())
    assert marked is not None
    assert marked.content == CONTENT


def test_other_line_ends_do_not_hide_the_marker() -> None:
    raw = stamped().replace(b"\r\n", b"\n")
    marked = marker.read(KEY, "user-1", raw)
    assert marked is not None
    assert marker.same_but_for_line_ends(marked.content, CONTENT)


@pytest.mark.parametrize("key", ["plain-1.2:3", "with space", "x\r\nInjected: yes", "ä", "long" * 40])
def test_any_idempotency_key_gives_one_header_line(key: str) -> None:
    raw = marker.stamp(KEY, "user-1", "1", key, CONTENT)
    line = raw[: -len(CONTENT)]
    assert line.count(b"\r\n") == 1
    assert len(line) < 998
    marked = marker.read(KEY, "user-1", raw)
    assert marked is not None
    assert marked.key == marker.header_key(key)


@given(st.binary(max_size=400))
def test_reading_never_fails_and_never_believes(raw: bytes) -> None:
    assert marker.read(KEY, "user-1", raw) is None
    assert marker.read(KEY, "user-1", b"X-Postern: " + raw) is None


def test_only_trace_headers_may_stand_before_what_was_sent() -> None:
    received = b"Received: by gmailapi.google.com\r\n"
    assert marker.without_prepended(received + CONTENT, CONTENT) == CONTENT
    assert marker.without_prepended(CONTENT, CONTENT) == CONTENT
    assert marker.without_prepended(b"Subject: other\r\n" + CONTENT, CONTENT) is None
    assert marker.without_prepended(received + CONTENT + b"more", CONTENT) is None
