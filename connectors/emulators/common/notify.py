"""Sends notifications to webhooks on this machine, with retries, losses, doubles and late ones."""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from urllib.parse import urlsplit

import httpx

from connectors.emulators.common.faults import FaultKind, Faults

_log = logging.getLogger(__name__)

CONCURRENT = 20
"""How many notifications are under way at once."""
RETRY_DELAYS = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0)
"""Seconds between tries. The real providers back off for hours; the shape is kept, not the length."""


@cache
def _trusted() -> ssl.SSLContext:
    """The system's certificates, read once: reading them takes longer than starting the server."""
    return ssl.create_default_context()


def is_loopback(url: str) -> bool:
    """Whether an http(s) address leads to this machine. Nothing else is ever called."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    return parts.scheme in ("http", "https") and (
        host in ("127.0.0.1", "::1", "localhost") or host.endswith(".localhost")
    )


@dataclass(frozen=True, slots=True)
class Delivery:
    """One POST to a webhook.

    Attributes:
        url: Address on loopback.
        body: The JSON to send.
        headers: Besides the content type.
        gave_up: Called once when all tries failed or the notification was lost on purpose.
    """

    url: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    gave_up: Callable[[], None] | None = None


class SlowEndpoints:
    """Which webhooks answer too slowly, as Graph judges it.

    "Receive change notifications through webhooks", *Throttling*
    (https://learn.microsoft.com/graph/change-notifications-delivery-webhooks#throttling): an answer after more than
    2,900 ms is slow; from 100 notifications on, 10 % slow ones delay all further ones by ten minutes, 15 % have them
    dropped; the count starts anew every ten minutes.

    Args:
        now: Seconds, of the emulated clock.
    """

    WINDOW = 600.0
    AFTER = 100
    DELAY_FROM = 0.10
    DROP_FROM = 0.15

    def __init__(self, now: Callable[[], float], slow_after: float = 2.9) -> None:
        self._now = now
        self.slow_after = slow_after
        self._windows: dict[str, tuple[float, int, int]] = {}

    def record(self, url: str, seconds: float) -> None:
        """An answer took so long."""
        start, total, slow = self._window(url)
        self._windows[_endpoint(url)] = (start, total + 1, slow + (seconds > self.slow_after))

    def share(self, url: str) -> float:
        """Share of slow answers, 0 while there are too few to judge."""
        _, total, slow = self._window(url)
        return slow / total if total >= self.AFTER else 0.0

    def _window(self, url: str) -> tuple[float, int, int]:
        start, total, slow = self._windows.get(_endpoint(url), (self._now(), 0, 0))
        return (self._now(), 0, 0) if self._now() - start >= self.WINDOW else (start, total, slow)


def _endpoint(url: str) -> str:
    return url.partition("?")[0]


class Notifier:
    """Delivers in the background, from any thread.

    Args:
        faults: Rules for lost, doubled and late notifications.
        timeout: Seconds a webhook has for its answer (Graph: 3).
        retry_delays: Seconds before each further try.
        now: Seconds, of the emulated clock.
    """

    def __init__(
        self,
        faults: Faults,
        timeout: float = 3.0,
        retry_delays: tuple[float, ...] = RETRY_DELAYS,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._faults = faults
        self._timeout = timeout
        self._retry_delays = retry_delays
        self._loop: asyncio.AbstractEventLoop | None = None
        self._client: httpx.AsyncClient | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._early: list[Delivery] = []
        self.outcomes: Counter[str] = Counter()
        self.enabled = True
        """False is "drop" mode: nothing is sent and nothing is kept for later."""
        self.slow = SlowEndpoints(now)
        self.throttles_slow = False
        """Whether slow endpoints are delayed and dropped. Off, because a busy test machine is slow, too."""
        self.slow_delay = 600.0
        self._gate = asyncio.Semaphore(CONCURRENT)

    async def start(self) -> None:
        """Begin to deliver; called by the server in its event loop."""
        self._loop = asyncio.get_running_loop()
        # trust_env is off: a proxy of the machine's environment must never see these requests.
        self._client = httpx.AsyncClient(
            timeout=self._timeout, trust_env=False, follow_redirects=False, verify=_trusted()
        )
        early, self._early = self._early, []
        for delivery in early:
            self._spawn(delivery)

    async def stop(self) -> None:
        """Stop; what is under way is abandoned, as it is when a provider's node goes down."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._client is not None:
            await self._client.aclose()
        self._loop = None
        self._client = None

    def send(self, delivery: Delivery) -> None:
        """Queue a delivery; may be called from any thread, also before ``start``."""
        if not self.enabled:
            self.outcomes["dropped"] += 1
            return
        if self._loop is None:
            self._early.append(delivery)
        else:
            self._loop.call_soon_threadsafe(self._spawn, delivery)

    async def post(
        self, url: str, body: bytes, headers: Mapping[str, str], seconds: float | None = None
    ) -> httpx.Response:
        """One POST now, without retries; for handshakes.

        Args:
            seconds: How long to wait; by default as long as for notifications.

        Raises:
            ValueError: The address is not on loopback.
            httpx.HTTPError: No answer.
        """
        if not is_loopback(url):
            raise ValueError(f"{url} does not lead to this machine; the emulator calls nothing else")
        if self._client is None:
            raise RuntimeError("the notifier has not been started")
        limit = self._timeout if seconds is None else seconds
        return await self._client.post(url, content=body, headers=dict(headers), timeout=limit)

    def later(self, seconds: float, work: Callable[[], None]) -> None:
        """Run something in the server's event loop after a while, from any thread; at once where none runs."""
        loop = self._loop
        if loop is None:
            work()
        else:
            loop.call_soon_threadsafe(loop.call_later, seconds, work)

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _spawn(self, delivery: Delivery) -> None:
        if self._loop is not None:
            self._keep(self._loop.create_task(self._deliver(delivery)))

    async def _deliver(self, delivery: Delivery) -> None:
        copies = 1
        for rule in self._faults.draw("POST", delivery.url, notification=True):
            if rule.kind is FaultKind.LOSE:
                self.outcomes["lost"] += 1
                if delivery.gave_up is not None and rule.told:
                    delivery.gave_up()
                return
            if rule.kind is FaultKind.DUPLICATE:
                copies = 2
            if rule.kind is FaultKind.REORDER:
                await asyncio.sleep(self._faults.uniform(rule.delay))
        if self.throttles_slow and not await self._admit(delivery):
            return
        for _ in range(copies):
            await self._try(delivery)

    async def _admit(self, delivery: Delivery) -> bool:
        """Delay or drop what is for a slow endpoint."""
        share = self.slow.share(delivery.url)
        if share >= SlowEndpoints.DROP_FROM:
            self.outcomes["dropped_slow"] += 1
            if delivery.gave_up is not None:
                delivery.gave_up()
            return False
        if share >= SlowEndpoints.DELAY_FROM:
            self.outcomes["delayed_slow"] += 1
            await asyncio.sleep(self.slow_delay)
        return True

    async def _try(self, delivery: Delivery) -> None:
        for delay in (0.0, *self._retry_delays):
            if delay:
                await asyncio.sleep(delay)
            headers = {"content-type": "application/json", **delivery.headers}
            try:
                async with self._gate:
                    start = time.monotonic()
                    try:
                        answer = await self.post(delivery.url, delivery.body, headers)
                    finally:
                        self.slow.record(delivery.url, time.monotonic() - start)
            except (httpx.HTTPError, ValueError) as error:
                self.outcomes["failed_try"] += 1
                _log.info("notification not delivered, will be tried again: %s", error)
                continue
            if answer.is_success:
                self.outcomes["delivered"] += 1
                return
            self.outcomes["failed_try"] += 1
        self.outcomes["given_up"] += 1
        if delivery.gave_up is not None:
            delivery.gave_up()
