"""Numbers of rows as they come in addresses, forms and commands."""

from __future__ import annotations

_MOST_DIGITS = 18
"""A PostgreSQL ``bigint`` holds every number of so many digits."""


def row_number(text: str) -> int | None:
    """The number of a row; None where the text is none, such as digits of other scripts or far too many."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS else None
