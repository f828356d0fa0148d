"""The emulators' clock: real time plus an offset, so that expiry can be tried without waiting."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta


class Clock:
    """Time as the emulated providers see it."""

    def __init__(self) -> None:
        self._offset = timedelta()

    @property
    def offset(self) -> timedelta:
        """How far ahead of real time the clock is."""
        return self._offset

    def now(self) -> datetime:
        """The current time, with time zone UTC."""
        return datetime.now(UTC) + self._offset

    def timestamp(self) -> float:
        """The current time in seconds since the epoch."""
        return time.time() + self._offset.total_seconds()

    def advance(self, seconds: float) -> None:
        """Move the clock forward.

        Raises:
            ValueError: The providers' time never goes back.
        """
        if seconds < 0:
            raise ValueError("the clock can only be moved forward")
        self._offset += timedelta(seconds=seconds)

    def set_offset(self, seconds: float) -> None:
        """Continue from a saved offset."""
        self._offset = timedelta(seconds=seconds)
