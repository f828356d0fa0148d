"""A running installation for benchmarks: PostgreSQL, emulated providers, intake and worker, each in its process."""

from __future__ import annotations

import asyncio
import base64
import statistics
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import httpx
import psycopg

from app.bootstrap import LoadedProviders
from app.kit.crypto import KeyRing
from app.kit.db import Database
from app.kit.postgres import DatabaseUrls
from app.protection.runtime import Runtime
from app.settings import Settings
from connectors.base.types import Provider
from tests.bench.sampling import Counted, Sampler
from tests.chaos.processes import _CONTEXT, _run, environment_of, start_role
from tests.chaos.providers import Providers
from tests.chaos.run import MASTER_KEY, free_port
from tests.integration.protection.world import register


@dataclass
class Installation:
    """What benchmarks act on.

    Attributes:
        at: The emulators of each provider, each in a process of its own.
        urls: The database.
        tenants: Ours, by provider.
        worker: The worker process, which counts what it spends.
        parts: Seconds after delivery at which intake and the worker learned of each message measured.
        expected: Messages that were delivered and waited for so far.
    """

    at: dict[Provider, Providers]
    urls: DatabaseUrls
    tenants: dict[Provider, uuid.UUID]
    worker: Counted
    parts: list[tuple[float, float]] = field(default_factory=list)
    expected: int = 0

    def addresses(self, provider: Provider) -> list[str]:
        """The mailboxes at a provider."""
        return list(self.at[provider].made[provider].addresses)

    def query(self, statement: str, *arguments: Any) -> list[tuple[Any, ...]]:
        """Ask the database as its owner."""
        with psycopg.connect(self.urls.owner, autocommit=True) as connection:
            return connection.execute(statement, arguments).fetchall()

    async def until(self, statement: str, wanted: int, seconds: float, *arguments: Any) -> None:
        """Wait until a count reaches a number.

        Raises:
            TimeoutError: It does not.
        """
        deadline = time.monotonic() + seconds
        while (count := (await asyncio.to_thread(self.query, statement, *arguments))[0][0]) < wanted:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{count} of {wanted} after {seconds} s: {statement}")
            await asyncio.sleep(0.05)

    async def protected(self, more: int, seconds: float = 300.0) -> None:
        """Wait until so many more messages are verified in their mailboxes.

        Raises:
            TimeoutError: They are not.
        """
        self.expected += more
        await self.until("SELECT count(*) FROM messages WHERE state = 'protected'", self.expected, seconds)

    async def seconds_to_protect(self, provider: Provider, address: str, number: int) -> float:
        """Deliver one message and give the time until it was verified in its mailbox."""
        (delivered,) = await asyncio.to_thread(self.at[provider].burst, provider, [address], range(number, number + 1))
        protected = "SELECT count(*) FROM messages WHERE subject = %s AND state = 'protected'"
        await self.until(protected, 1, 60, f"Message {number}")
        self.expected += 1
        ((at, seen, notified),) = await asyncio.to_thread(
            self.query,
            "SELECT finished_at, seen_at, last_notified_at FROM messages JOIN mailboxes b ON b.id = mailbox_id "
            "WHERE subject = %s",
            f"Message {number}",
        )
        self.parts.append((notified.timestamp() - delivered, seen.timestamp() - delivered))
        return float(at.timestamp()) - delivered


def _counted(role: str, environment: dict[str, str], log: str, counts: str) -> None:
    Sampler(Path(counts)).start()
    _run(role, environment, log)


def start_counted(role: str, environment: dict[str, str], folder: Path) -> tuple[ForkServerProcess, Counted]:
    """Start a role in a process that counts what it spends."""
    counts = folder / f"{role}.json"
    arguments = (role, environment, str(folder / f"{role}.log"), str(counts))
    process = _CONTEXT.Process(target=_counted, args=arguments, name=role, daemon=True)
    process.start()
    return process, Counted(process.pid or 0, counts)


@asynccontextmanager
async def installation(
    urls: DatabaseUrls, folder: Path, mailboxes: int, providers: tuple[Provider, ...] = tuple(Provider), **more: Any
) -> AsyncIterator[Installation]:
    """Everything started, every mailbox subscribed; ``more`` are further settings."""
    keys, port = KeyRing({1: MASTER_KEY}), free_port()
    intake_url = f"http://127.0.0.1:{port}"
    folders = {provider: folder / provider.value for provider in providers}
    for each in folders.values():
        each.mkdir()
    at = {provider: Providers(folders[provider], mailboxes, intake_url, 1) for provider in providers}
    settings = at[providers[0]].settings
    for provider in providers[1:]:
        theirs = at[provider].settings
        update = {name: getattr(theirs, name) for name in Settings.model_fields if name.startswith(provider.value)}
        settings = settings.model_copy(update=update)
    environment = environment_of(
        settings,
        database_url=urls.app,
        master_key=base64.b64encode(MASTER_KEY).decode(),
        data_dir=folder / "data",
        port=port,
        intake_url=intake_url,
        health_port_worker=0,
        **({"google_units_per_minute": 1_000_000} | more),
    )
    worker, counted = start_counted("worker", environment, folder)
    processes = [start_role("intake", environment, folder / "intake.log"), worker]
    database = Database(urls.app)
    runtime = Runtime(settings, database, keys, LoadedProviders(settings, keys))
    try:
        await _answers(f"{intake_url}/healthz")
        tenants = {provider: await register(database, runtime, at[provider].made[provider]) for provider in providers}
        made = Installation(at, urls, tenants, counted)
        await made.until("SELECT count(*) FROM subscriptions", len(providers) * mailboxes, 120)
        await made.until("SELECT count(*) FROM mailboxes WHERE cursor IS NOT NULL", len(providers) * mailboxes, 120)
        # The watch itself is an event, and Gmail drops what happens within a second of one.
        await asyncio.sleep(1.5)
        yield made
    finally:
        for process in processes:
            process.terminate()
            process.join(20)
        for emulators in at.values():
            emulators.close()
        await runtime.providers.aclose()
        await database.close()


async def _answers(url: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    async with httpx.AsyncClient() as client:
        while True:
            try:
                await client.get(url)
                return
            except httpx.TransportError:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.1)


def spread(times: list[float]) -> str:
    """Median and 99th percentile, in milliseconds."""
    if len(times) < 2:
        return f"{times[0] * 1000:.0f} ms"
    cut = statistics.quantiles(times, n=100, method="inclusive")
    return f"p50 {cut[49] * 1000:.0f} ms, p99 {cut[98] * 1000:.0f} ms"
