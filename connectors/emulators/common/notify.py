"""Sends notifications to webhooks on this machine, with retries, losses, doubles and late ones."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import httpx

from connectors.emulators.common.faults import FaultKind, Faults

_log = logging.getLogger(__name__)

RETRY_DELAYS = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0)
"""Seconds between tries. The real providers back off for hours; the shape is kept, not the length."""


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


class Notifier:
    """Delivers in the background, from any thread.

    Args:
        faults: Rules for lost, doubled and late notifications.
        timeout: Seconds a webhook has for its answer (Graph: 3).
        retry_delays: Seconds before each further try.
    """

    def __init__(self, faults: Faults, timeout: float = 3.0, retry_delays: tuple[float, ...] = RETRY_DELAYS) -> None:
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

    async def start(self) -> None:
        """Begin to deliver; called by the server in its event loop."""
        self._loop = asyncio.get_running_loop()
        # trust_env is off: a proxy of the machine's environment must never see these requests.
        self._client = httpx.AsyncClient(timeout=self._timeout, trust_env=False, follow_redirects=False)
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

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> httpx.Response:
        """One POST now, without retries; for handshakes.

        Raises:
            ValueError: The address is not on loopback.
            httpx.HTTPError: No answer.
        """
        if not is_loopback(url):
            raise ValueError(f"{url} does not lead to this machine; the emulator calls nothing else")
        if self._client is None:
            raise RuntimeError("the notifier has not been started")
        return await self._client.post(url, content=body, headers=dict(headers))

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
                if delivery.gave_up is not None:
                    delivery.gave_up()
                return
            if rule.kind is FaultKind.DUPLICATE:
                copies = 2
            if rule.kind is FaultKind.REORDER:
                await asyncio.sleep(self._faults.uniform(rule.delay))
        for _ in range(copies):
            await self._try(delivery)

    async def _try(self, delivery: Delivery) -> None:
        for delay in (0.0, *self._retry_delays):
            if delay:
                await asyncio.sleep(delay)
            try:
                answer = await self.post(
                    delivery.url, delivery.body, {"content-type": "application/json", **delivery.headers}
                )
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
