"""Quota units per minute, and calls under way at the same time.

Units and limits: https://developers.google.com/workspace/gmail/api/reference/quota (projects created from
May 2026). Refusals: https://developers.google.com/workspace/gmail/api/guides/handle-errors
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from connectors.emulators.google.behaviour import Behaviour
from connectors.emulators.google.errors import ApiError

_WINDOW = 60.0


class _Window:
    """Units used in the last minute."""

    def __init__(self) -> None:
        self.used = 0
        self._spent: deque[tuple[float, int]] = deque()

    def trim(self, now: float) -> None:
        while self._spent and self._spent[0][0] <= now - _WINDOW:
            self.used -= self._spent.popleft()[1]

    def spend(self, now: float, units: int) -> None:
        self._spent.append((now, units))
        self.used += units


class Quota:
    """Counts what each project uses, in all and for each user."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._windows: dict[tuple[str, str], _Window] = {}
        self._under_way: dict[str, int] = {}
        self.units_total = 0
        """All units spent since the start, for benchmarks."""

    def spend(self, project: str, user: str, units: int, behaviour: Behaviour) -> None:
        """Count a call.

        Raises:
            ApiError: Over a limit. A refused call uses no units.
        """
        now = self._clock()
        for_user = self._windows.setdefault((project, user), _Window())
        for_project = self._windows.setdefault((project, ""), _Window())
        for_user.trim(now)
        for_project.trim(now)
        if behaviour.quotas and for_user.used + units > behaviour.units_per_user_minute:
            raise _refusal(behaviour.quota_status, "userRateLimitExceeded", "User Rate Limit Exceeded")
        if behaviour.quotas and for_project.used + units > behaviour.units_per_project_minute:
            raise _refusal(behaviour.quota_status, "rateLimitExceeded", "Rate Limit Exceeded")
        for_user.spend(now, units)
        for_project.spend(now, units)
        self.units_total += units

    @contextmanager
    def call(self, user: str, behaviour: Behaviour) -> Iterator[None]:
        """A call that is under way.

        Raises:
            ApiError: 429, too many at once for this user.
        """
        now_running = self._under_way.get(user, 0)
        if behaviour.concurrent_requests is not None and now_running >= behaviour.concurrent_requests:
            raise _refusal(429, "rateLimitExceeded", "Too many concurrent requests for user")
        self._under_way[user] = now_running + 1
        try:
            yield
        finally:
            self._under_way[user] -= 1


def _refusal(code: int, reason: str, message: str) -> ApiError:
    return ApiError(code, message, reason, domain="usageLimits", status="RESOURCE_EXHAUSTED")
