"""Time, passed in rather than looked up, so that tests can hold it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """The current aware UTC time."""
    return datetime.now(UTC)
