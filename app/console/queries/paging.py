"""Pages of long tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

Row = TypeVar("Row")

PAGE_SIZE = 50
MAX_PAGE = 200


@dataclass(frozen=True, slots=True)
class Page(Generic[Row]):
    """One page of rows.

    Attributes:
        rows: At most :data:`PAGE_SIZE`.
        number: From 1.
        more: Whether another page follows.
    """

    rows: Sequence[Row]
    number: int
    more: bool


def cut(rows: Sequence[Row], number: int) -> Page[Row]:
    """A page from one row more than it shows."""
    return Page(rows[:PAGE_SIZE], number, len(rows) > PAGE_SIZE and number < MAX_PAGE)
