"""Writes of which nobody knows whether they took effect."""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

_REMEMBERED = 10_000


class WriteName(NamedTuple):
    """What a write is known by.

    Attributes:
        mailbox_id: Whose mailbox.
        original_id: The message that is replaced.
        key: Idempotency key.
    """

    mailbox_id: str
    original_id: str
    key: str


class Unanswered:
    """The newest writes of this process that got no answer: each may still take effect."""

    def __init__(self) -> None:
        self._names: OrderedDict[WriteName, None] = OrderedDict()

    def __contains__(self, name: WriteName) -> bool:
        return name in self._names

    def add(self, name: WriteName) -> None:
        """Remember one; the oldest is forgotten where there are too many."""
        self._names[name] = None
        while len(self._names) > _REMEMBERED:
            self._names.popitem(last=False)

    def discard(self, name: WriteName) -> None:
        """Forget one: its answer came."""
        self._names.pop(name, None)
