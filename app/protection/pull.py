"""Fetching notifications in the intake role, where the provider cannot reach an endpoint of ours.

A batch is acknowledged only after its hints are stored, so one that is lost on the way comes again. Whatever
fails, fetching begins anew after a pause; meanwhile mailboxes are looked at by the clock.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from app.protection.intake import HintStore
from app.protection.providers import Providers
from connectors.base.types import Provider

log = structlog.get_logger()

_FIRST_PAUSE: Final = 1.0
_LONGEST_PAUSE: Final = 60.0


class Fetching:
    """Fetches one provider's notifications until it is told to stop.

    Args:
        providers: Makes the fetcher, anew after each failure.
        provider: Whose notifications.
        store: Takes the hints.
        stopping: Set when the process is asked to stop.
        pause: Waits that many seconds.
    """

    def __init__(
        self,
        providers: Providers,
        provider: Provider,
        store: HintStore,
        stopping: asyncio.Event,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._providers = providers
        self._provider = provider
        self._store = store
        self._stopping = stopping
        self._pause = pause
        self._wait = _FIRST_PAUSE

    async def run(self) -> None:
        """Returns once ``stopping`` is set; a request that is held open then is given up."""
        working = asyncio.create_task(self._work())
        stopped = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait({working, stopped}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (working, stopped):
                task.cancel()
            await asyncio.gather(working, stopped, return_exceptions=True)

    async def _work(self) -> None:
        while True:
            try:
                await self._fetch()
            except Exception as error:  # noqa: BLE001 - whatever fails, it is named, and begun anew
                log.warning(
                    "pull.failed",
                    provider=self._provider.value,
                    error=type(error).__name__,
                    why=str(error)[:200],
                    again_in_seconds=self._wait,
                )
            await self._pause(self._wait)
            self._wait = min(self._wait * 2, _LONGEST_PAUSE)

    async def _fetch(self) -> None:
        puller = self._providers.puller(self._provider)
        if puller is None:
            return
        counted = 0
        batches = puller.batches()
        try:
            async for hints in batches:
                await self._store.take(self._provider, hints)
                self._wait = _FIRST_PAUSE
                if puller.skipped > counted:
                    counted, new = puller.skipped, puller.skipped - counted
                    await self._store.count_malformed(self._provider, new)
        finally:
            await batches.aclose()
            await puller.aclose()


async def fetched_providers(providers: Providers) -> list[Provider]:
    """Providers whose notifications are fetched.

    Raises:
        ConfigurationError: One is to be fetched, but nothing says where from.
    """
    found = []
    for provider in providers.configured():
        puller = providers.puller(provider)
        if puller is not None:
            await puller.aclose()
            found.append(provider)
    return found
