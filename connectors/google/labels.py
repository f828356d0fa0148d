"""What labels mean, and how those of an original are carried over to its copy. Pure."""

from __future__ import annotations

from collections.abc import Iterable

INBOX, UNREAD, TRASH, SPAM = "INBOX", "UNREAD", "TRASH", "SPAM"
DRAFT, SENT, CHAT = "DRAFT", "SENT", "CHAT"

_FIXED = frozenset({DRAFT, SENT, CHAT})
"""Set by Gmail alone: they can be neither applied nor removed
(https://developers.google.com/workspace/gmail/api/guides/labels)."""

_WEAKEST_WINS = frozenset({INBOX, UNREAD})
"""Taken away when a person acts (archives, reads): gone from one is gone from both."""


def applicable(labels: Iterable[str]) -> frozenset[str]:
    """Those that a message may be given."""
    return frozenset(labels) - _FIXED


def in_one_place(labels: Iterable[str]) -> frozenset[str]:
    """Without INBOX beside SPAM or TRASH, and without SPAM beside TRASH.

    Gmail refuses to add two of them in one call (https://github.com/gauteh/lieer/pull/27), although a message
    may come to carry two; the one that hides it counts.
    """
    found = frozenset(labels)
    if TRASH in found:
        return found - {INBOX, SPAM}
    return found - {INBOX} if SPAM in found else found


def mirror(
    base: Iterable[str] | None, original_now: Iterable[str], copy_now: Iterable[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What to add to and remove from a copy, so that nothing done to the original meanwhile is lost.

    Args:
        base: The labels the copy was made with. Then only what changed on the original since is carried
            over, and what happened to the copy stays. None where that is not known (after a crash): then
            the two are merged, an action on either counting.
        original_now: The original's labels.
        copy_now: The copy's labels.

    Returns:
        Labels to add, labels to remove; sorted.
    """
    original, copy = applicable(original_now), applicable(copy_now)
    if base is not None:
        before = applicable(base)
        add, remove = (original - before) - copy, (before - original) & copy
    else:
        keep = (original & copy & _WEAKEST_WINS) | ((original | copy) - _WEAKEST_WINS)
        add, remove = keep - copy, copy - keep
    return tuple(sorted(add)), tuple(sorted(remove))
