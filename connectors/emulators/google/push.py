"""Push delivery of Pub/Sub messages by HTTP POST.

* Request and acknowledgement: https://cloud.google.com/pubsub/docs/push
* The signed token: https://cloud.google.com/pubsub/docs/authenticate-push-subscriptions
* Lost, doubled and reordered messages: https://cloud.google.com/pubsub/docs/subscription-overview
  ("at-least-once delivery"; order is not kept without ordering keys)
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx

from connectors.emulators.common.faults import FaultKind, Faults

ACKNOWLEDGED = frozenset({102, 200, 201, 202, 204})
"""Status codes that acknowledge a push; any other is tried again."""


@dataclass(frozen=True, slots=True)
class PushRequest:
    """One HTTP request to make. ``timeout`` is seconds (the subscription's acknowledgement deadline)."""

    endpoint: str
    body: dict[str, Any]
    token: str | None
    timeout: float


@dataclass(frozen=True, slots=True)
class Backoff:
    """First and longest wait between tries, seconds."""

    first: float
    longest: float


class Pusher:
    """Delivers in a thread of its own, so that it works under any server and from any thread.

    Args:
        faults: Rules for lost, doubled and late messages.
        prepare: The request for (subscription, message id), or None where the message is acknowledged,
            expired, or the subscription no longer pushes.
        settle: Called with (subscription, message id) on acknowledgement.
        backoff: The waits to use.
    """

    def __init__(
        self,
        faults: Faults,
        prepare: Callable[[str, str], PushRequest | None],
        settle: Callable[[str, str], None],
        backoff: Callable[[], Backoff],
    ) -> None:
        self._faults = faults
        self._prepare = prepare
        self._settle = settle
        self._backoff = backoff
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._client: httpx.AsyncClient | None = None
        self._under_way: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._closed = False

    def submit(self, subscription: str, message_id: str) -> None:
        """Deliver a message until it is acknowledged. A message under way is not started twice."""
        with self._lock:
            if self._closed:
                return
            if self._loop is None:
                self._start()
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._begin, subscription, message_id)

    def close(self) -> None:
        """Stop delivering; what is not acknowledged stays pending."""
        with self._lock:
            self._closed = True
            loop, thread = self._loop, self._thread
            self._loop = None
        if loop is None or thread is None:
            return
        asyncio.run_coroutine_threadsafe(self._stop(), loop).result(timeout=10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(timeout=10)

    def _start(self) -> None:
        loop = asyncio.new_event_loop()
        self._loop = loop

        def run() -> None:
            asyncio.set_event_loop(loop)
            loop.run_forever()
            loop.close()

        self._thread = threading.Thread(target=run, name="pubsub-push", daemon=True)
        self._thread.start()

    def _begin(self, subscription: str, message_id: str) -> None:
        key = (subscription, message_id)
        if key not in self._under_way:
            task = asyncio.get_running_loop().create_task(self._deliver(subscription, message_id))
            self._under_way[key] = task
            task.add_done_callback(lambda _: self._under_way.pop(key, None))

    async def _deliver(self, subscription: str, message_id: str) -> None:
        request = self._prepare(subscription, message_id)
        if request is None:
            return
        for rule in self._faults.draw("POST", request.endpoint, notification=True):
            if rule.kind is FaultKind.LOSE:
                self._settle(subscription, message_id)
                return
            if rule.kind is FaultKind.REORDER:
                await asyncio.sleep(self._faults.uniform(rule.delay))
            if rule.kind is FaultKind.DUPLICATE:
                await self._post(request)
        wait = self._backoff().first
        while (request := self._prepare(subscription, message_id)) is not None:
            if await self._post(request):
                self._settle(subscription, message_id)
                return
            await asyncio.sleep(wait)
            wait = min(wait * 2, self._backoff().longest)

    async def _post(self, request: PushRequest) -> bool:
        if self._client is None:
            # No proxy from the environment: the emulator talks to loopback only.
            self._client = httpx.AsyncClient(trust_env=False, limits=httpx.Limits(max_connections=20))
        headers = {"User-Agent": "CloudPubSub-Google"}
        if request.token is not None:
            headers["Authorization"] = f"Bearer {request.token}"
        try:
            answer = await self._client.post(
                request.endpoint, json=request.body, headers=headers, timeout=request.timeout
            )
        except httpx.HTTPError:
            return False
        return answer.status_code in ACKNOWLEDGED

    async def _stop(self) -> None:
        tasks = list(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._client is not None:
            await self._client.aclose()
            self._client = None
