"""How every connector talks HTTP: one async client, a gate per mailbox, bounded retries of reads.

Rules, the same for both providers:

* At most four requests of one mailbox are under way (Graph: "four concurrent requests" per app and
  mailbox, https://learn.microsoft.com/graph/throttling-limits#outlook-service-limits; Gmail answers
  "Too many concurrent requests for user" beyond about as many).
* A ``Retry-After`` is honoured exactly, and for the mailbox that was throttled only: the other mailboxes
  go on (RFC 9110 section 10.2.3; https://learn.microsoft.com/graph/throttling).
* Reads are tried again a bounded number of times, with exponential back-off and full jitter. A request
  that writes is sent once: after a time-out nobody knows whether it took effect, and only the caller, who
  has the idempotency key, can find out.
* A wait that is longer than a worker should sit still is not slept here: it becomes
  :class:`~connectors.base.errors.Throttled` with the seconds that are left, for the job to be put off.
"""

from __future__ import annotations

import asyncio
import email.utils
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import httpx

from connectors.base.errors import Throttled, Unavailable
from connectors.base.wire import NoAnswer, Outgoing, Wire

ThrottleReader = Callable[[httpx.Response], float | None]
"""Seconds to wait where the response says "slow down" (``-1.0``: it did not say how long), else None."""

_RETRIED_STATUSES = frozenset({408, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class HttpPolicy:
    """Limits of the shared client.

    Attributes:
        concurrent_per_mailbox: Requests under way for one mailbox.
        read_attempts: How often a read is sent at most.
        backoff_first: Upper bound of the first random wait, in seconds; doubles each time.
        backoff_cap: Upper bound of any random wait, in seconds.
        longest_wait: A wait above this many seconds is raised as ``Throttled`` instead of slept.
        default_retry_after: Seconds to stay away where the provider throttles without saying how long.
        connect_timeout: Seconds to connect.
        read_timeout: Seconds between two pieces of an answer.
        max_response_bytes: Largest decoded answer that is read into memory.
        max_connections: Connections open at once, all mailboxes together.
    """

    concurrent_per_mailbox: int = 4
    read_attempts: int = 4
    backoff_first: float = 0.5
    backoff_cap: float = 8.0
    longest_wait: float = 10.0
    default_retry_after: float = 10.0
    connect_timeout: float = 10.0
    read_timeout: float = 30.0
    max_response_bytes: int = 120_000_000
    max_connections: int = 200


@dataclass(slots=True)
class HttpCounters:
    """What happened since start, for the connector health page."""

    sent: int = 0
    throttled: int = 0
    retried: int = 0
    failed: int = 0


@dataclass(slots=True)
class _Gate:
    slots: asyncio.Semaphore
    users: int = 0
    not_before: float = field(default=0.0)


def retry_after_seconds(value: str | None, wall_clock: Callable[[], float] = time.time) -> float | None:
    """Seconds that a ``Retry-After`` header asks for: a number or an HTTP date (RFC 9110, 10.2.3).

    Returns:
        Seconds, never negative; None where the header is absent or not readable.
    """
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.replace(".", "", 1).isdigit():
        return float(text)
    try:
        when = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, when.timestamp() - wall_clock())


def standard_throttle(response: httpx.Response) -> float | None:
    """Reads 429, and 503 with a ``Retry-After``: the two throttling answers of RFC 6585 and RFC 9110."""
    if response.status_code == 429:
        seconds = retry_after_seconds(response.headers.get("retry-after"))
        return -1.0 if seconds is None else seconds
    if response.status_code == 503:
        return retry_after_seconds(response.headers.get("retry-after"))
    return None


class SharedHttp:
    """One async HTTP client for all mailboxes of a provider, with the policy of this module.

    Args:
        policy: Limits.
        clock: Monotonic seconds.
        sleep: Awaits that many seconds.
        jitter: A random number in [0, 1).
    """

    def __init__(
        self,
        policy: HttpPolicy | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.policy = policy or HttpPolicy()
        self.counters = HttpCounters()
        self._wire = Wire(self.policy.connect_timeout, self.policy.read_timeout, self.policy.max_connections)
        self._clock = clock
        self._sleep = sleep
        self._jitter = jitter
        self._gates: dict[str, _Gate] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._wire.aclose()

    def throttled_for(self, mailbox: str) -> float:
        """Seconds that requests of this mailbox must still wait; 0 where it is not throttled."""
        gate = self._gates.get(mailbox)
        return max(0.0, gate.not_before - self._clock()) if gate else 0.0

    async def send(
        self,
        request: httpx.Request | Outgoing,
        *,
        mailbox: str,
        read: bool,
        what: str,
        throttle: ThrottleReader = standard_throttle,
    ) -> httpx.Response:
        """Send one request through the mailbox's gate.

        Args:
            request: What to send. Its body must be bytes, not a stream.
            mailbox: Key of the gate. Include the tenant; for calls about no mailbox, use the tenant alone.
            read: Whether it is safe to send twice. A write is sent once.
            what: What it is for, in words for an administrator, e.g. ``"reading a message"``.
            throttle: Recognises the provider's "slow down".

        Returns:
            The response with its content read, whatever its status, except those below.

        Raises:
            Throttled: Told to slow down for longer than ``longest_wait``, or again and again, or it was a
                write (which then did not take effect).
            Unavailable: No answer or a server error, and, if a read, after all attempts. A write may or
                may not have taken effect.
            TooLarge: The answer is over ``max_response_bytes``.
        """
        outgoing = request if isinstance(request, Outgoing) else Outgoing.of(request)
        gate = self._gates.get(mailbox)
        if gate is None:
            gate = self._gates[mailbox] = _Gate(asyncio.Semaphore(self.policy.concurrent_per_mailbox))
        gate.users += 1
        try:
            return await self._attempts(gate, outgoing, read, what, throttle)
        finally:
            gate.users -= 1
            if gate.users == 0 and gate.not_before <= self._clock():
                self._gates.pop(mailbox, None)

    async def _attempts(
        self,
        gate: _Gate,
        request: Outgoing,
        read: bool,
        what: str,
        throttle: ThrottleReader,
    ) -> httpx.Response:
        attempts = self.policy.read_attempts if read else 1
        for attempt in range(1, attempts + 1):
            if attempt > 1:
                self.counters.retried += 1
            async with gate.slots:
                await self._wait_turn(gate, what)
                self.counters.sent += 1
                problem: NoAnswer | None = None
                response: httpx.Response | None = None
                try:
                    response = await self._wire.exchange(request, self.policy.max_response_bytes, what)
                except NoAnswer as error:
                    problem = error
            last = attempt == attempts
            if response is None:
                self.counters.failed += 1
                if last:
                    raise Unavailable(
                        f"No answer while {what}: {problem and problem.kind} after {attempt} attempt(s)."
                    ) from problem
                await self._back_off(attempt)
                continue
            wait = throttle(response)
            if wait is not None:
                self.counters.throttled += 1
                seconds = self.policy.default_retry_after if wait < 0 else wait
                gate.not_before = max(gate.not_before, self._clock() + seconds)
                if last or seconds > self.policy.longest_wait:
                    raise Throttled(
                        f"The provider asked to slow down while {what} (status {response.status_code}).",
                        seconds,
                    )
                continue
            if response.status_code in _RETRIED_STATUSES:
                self.counters.failed += 1
                if last:
                    raise Unavailable(
                        f"The provider answered {response.status_code} while {what}, {attempt} attempt(s)."
                    )
                await self._back_off(attempt)
                continue
            return response
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def _wait_turn(self, gate: _Gate, what: str) -> None:
        while (left := gate.not_before - self._clock()) > 0:
            if left > self.policy.longest_wait:
                raise Throttled(f"This mailbox is throttled; not sent: {what}.", left)
            await self._sleep(left)

    async def _back_off(self, attempt: int) -> None:
        bound = min(self.policy.backoff_cap, self.policy.backoff_first * 2.0 ** (attempt - 1))
        await self._sleep(bound * self._jitter())
