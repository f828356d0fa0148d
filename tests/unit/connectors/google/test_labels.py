"""Carrying an original's labels over to its copy."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from connectors.google.labels import applicable, in_one_place, mirror

LABELS = st.frozensets(st.sampled_from(["INBOX", "UNREAD", "STARRED", "IMPORTANT", "TRASH", "SPAM", "Label_1"]))


def after(copy: frozenset[str], change: tuple[tuple[str, ...], tuple[str, ...]]) -> frozenset[str]:
    add, remove = change
    assert not set(add) & set(remove)
    return (copy | set(add)) - set(remove)


def test_labels_that_only_gmail_sets_are_not_applied() -> None:
    assert applicable(["INBOX", "SENT", "DRAFT", "CHAT", "Label_1"]) == {"INBOX", "Label_1"}


def test_reading_starring_and_archiving_the_original_reach_the_copy() -> None:
    assert mirror({"INBOX", "UNREAD"}, {"STARRED"}, {"INBOX", "UNREAD"}) == (("STARRED",), ("INBOX", "UNREAD"))


def test_what_was_done_to_the_copy_alone_stays() -> None:
    assert mirror({"INBOX", "UNREAD"}, {"INBOX", "UNREAD"}, {"INBOX", "STARRED"}) == ((), ())


def test_a_trashed_original_takes_its_copy_along() -> None:
    assert mirror({"INBOX"}, {"TRASH"}, {"INBOX"}) == (("TRASH",), ("INBOX",))


def test_after_a_crash_a_message_read_in_either_place_is_read() -> None:
    assert mirror(None, {"INBOX", "UNREAD"}, {"INBOX"}) == ((), ())
    assert mirror(None, {"INBOX"}, {"INBOX", "UNREAD"}) == ((), ("UNREAD",))


def test_after_a_crash_stars_and_own_labels_of_both_are_kept() -> None:
    assert mirror(None, {"INBOX", "STARRED"}, {"INBOX", "Label_1"}) == (("STARRED",), ())


@given(LABELS)
def test_a_message_is_put_in_one_place_only(labels: frozenset[str]) -> None:
    placed = in_one_place(labels)
    assert len(placed & {"INBOX", "SPAM", "TRASH"}) == min(1, len(labels & {"INBOX", "SPAM", "TRASH"}))
    assert placed - {"INBOX", "SPAM", "TRASH"} == labels - {"INBOX", "SPAM", "TRASH"}
    assert ("TRASH" in placed) == ("TRASH" in labels)


@given(LABELS, LABELS)
def test_an_untouched_copy_ends_up_with_the_original_s_labels(base: frozenset[str], now: frozenset[str]) -> None:
    assert after(base, mirror(base, now, base)) == now


@given(LABELS, LABELS, LABELS)
def test_mirroring_twice_is_mirroring_once(base: frozenset[str], now: frozenset[str], copy: frozenset[str]) -> None:
    for known in (base, None):
        once = after(copy, mirror(known, now, copy))
        assert after(once, mirror(known, now, once)) == once
