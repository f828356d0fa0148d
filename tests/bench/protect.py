"""Protecting mail: CPU per message split by layer, time per message, against emulated providers on loopback.

    python -m tests.bench.protect [--messages 300] [--latency-ms 0]

The emulators run in a process of their own, so that the CPU seconds counted are Postern's. The baseline of the
same run is the transformer alone over the same messages.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import json
import multiprocessing
import multiprocessing.connection
import pstats
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from app.bootstrap import LoadedProviders
from app.kit.crypto import KeyRing
from app.kit.db import Database
from app.kit.postgres import start_embedded
from app.links.mint import Minter
from app.messages import transform
from app.messages.types import TransformPlan
from app.migrations.run import migrate
from app.protection import journal
from app.protection.protect import MailboxWork, protect_one
from app.protection.runtime import Runtime
from app.protection.sync import open_work, sync_mailbox
from app.settings import Settings
from connectors.base.types import Provider
from tests.integration.protection.world import GATEWAY, Provisioned, mail, register

LAYERS = (
    ("SDK", ("msgraph", "kiota", "googleapiclient", "google/auth", "azure", "msal")),
    ("HTTP", ("httpx", "httpcore", "h11", "anyio", "ssl.py", "/connectors/base/http")),
    ("database", ("sqlalchemy", "psycopg")),
    ("transform", ("/app/messages/", "/app/links/", "turbohtml", "cryptography")),
    ("connector", ("/connectors/",)),
    ("protect", ("/app/",)),
    ("asyncio", ("asyncio", "selectors", "uvloop")),
)


def serve(pipe: multiprocessing.connection.Connection, provider: str, folder: str, latency_ms: int) -> None:
    """The emulated provider's process."""
    from connectors.emulators.testing import running_emulators
    from tests.integration.protection.world import provider_settings, provision

    with running_emulators() as emulators:
        settings = provider_settings(emulators, Path(folder))
        client_id = json.loads((settings.google_service_account_file or Path()).read_text())["client_id"]
        made = provision(emulators, Provider(provider), client_id, ("ada",))
        pipe.send((settings, made))
        while True:
            order = pipe.recv()
            if order is None:
                return
            address, raws = order
            for raw in raws:
                emulators.world.deliver(provider, address, raw)
            if latency_ms:
                _add_latency(emulators.base_url, latency_ms)
            pipe.send("delivered")


def _add_latency(base_url: str, milliseconds: int) -> None:
    import httpx

    rule = {"kind": "latency", "seconds": milliseconds / 1000, "rate": 1.0}
    httpx.post(f"{base_url}/control/faults", json=rule).raise_for_status()


async def measure(provider: Provider, messages: int, latency_ms: int, urls: Any, keys: KeyRing) -> None:
    """One provider: deliver, protect, print."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    with tempfile.TemporaryDirectory() as folder:
        process = context.Process(target=serve, args=(theirs, provider.value, folder, latency_ms), daemon=True)
        process.start()
        settings: Settings
        made: Provisioned
        settings, made = ours.recv()
        database = Database(urls.app)
        runtime = Runtime(settings, database, keys, LoadedProviders(settings, keys))
        tenant_id = await register(database, runtime, made)
        address = made.addresses[0]
        opened = await open_work(runtime, tenant_id, 1)
        while isinstance(opened, str):
            raise RuntimeError(opened)
        work, row = opened
        ours.send((address, [mail(address, f"Warm-up {n}", n=n) for n in range(10)]))
        ours.recv()
        await sync_mailbox(runtime, tenant_id, row.id)

        raws = [mail(address, f"Message {n}", n=n) for n in range(messages)]
        ours.send((address, raws))
        ours.recv()
        times, cpu = await _protect_all(runtime, work, tenant_id, row.id)
        _report(provider, times, cpu, _transform_alone(raws, keys), latency_ms)

        ours.send((address, [mail(address, f"Profiled {n}", n=n) for n in range(messages // 3)]))
        ours.recv()
        profile = cProfile.Profile()
        profile.enable()
        await _protect_all(runtime, work, tenant_id, row.id)
        profile.disable()
        _split(profile)
        await runtime.providers.aclose()
        await database.close()
        ours.send(None)
        process.join(10)


async def _protect_all(
    runtime: Runtime, work: MailboxWork, tenant_id: Any, mailbox_id: int
) -> tuple[list[float], float]:
    from app.protection.runtime import mailbox_row
    from app.protection.sync import _advance

    times: list[float] = []
    began = time.process_time()
    while True:
        async with runtime.db.tenant(tenant_id) as session:
            row = await mailbox_row(session, mailbox_id)
        page = await work.connector.changes(work.mailbox, row.cursor if row else None, work.since)
        async with runtime.db.tenant(tenant_id) as session:
            pending = await journal.register(session, runtime, mailbox_id, [c.ref.id for c in page.changes])

        async def timed(message: journal.Pending) -> None:
            start = time.perf_counter()
            await protect_one(runtime, work, message)
            times.append(time.perf_counter() - start)

        for message in pending:
            await timed(message)
        await _advance(runtime, work, page)
        if not page.more:
            return times, time.process_time() - began


def _transform_alone(raws: list[bytes], keys: KeyRing) -> float:
    plan = TransformPlan(gateway=GATEWAY, mint=Minter(keys, GATEWAY, "l", tenant_no=1))
    began = time.process_time()
    for raw in raws:
        transform(raw, plan)
    return (time.process_time() - began) / len(raws)


def _report(provider: Provider, times: list[float], cpu: float, alone: float, latency_ms: int) -> None:
    done = times
    per_message = cpu / len(done) * 1000
    spread = statistics.quantiles(done, n=100)
    print(
        f"{provider.value:10} {len(done)} messages, {latency_ms} ms per call: "
        f"p50 {spread[49] * 1000:.1f} ms, p99 {spread[98] * 1000:.1f} ms, "
        f"CPU {per_message:.1f} ms/message ({1000 / per_message:.0f} messages/s per core), "
        f"transform alone {alone * 1000:.2f} ms (ratio {per_message / (alone * 1000):.0f})"
    )


def _split(profile: cProfile.Profile) -> None:
    totals: dict[str, float] = {}
    for (file, _, _), entry in pstats.Stats(profile).stats.items():  # type: ignore[attr-defined]
        own = entry[2]
        layer = next((name for name, marks in LAYERS if any(mark in file for mark in marks)), "other")
        totals[layer] = totals.get(layer, 0.0) + own
    whole = sum(totals.values())
    shares = sorted(totals.items(), key=lambda item: -item[1])
    print("           under the profiler: " + ", ".join(f"{name} {part / whole:.0%}" for name, part in shares))


def main() -> int:
    """Run both providers."""
    ask = argparse.ArgumentParser(description=__doc__)
    ask.add_argument("--messages", type=int, default=300)
    ask.add_argument("--latency-ms", type=int, default=0)
    ask.add_argument("--provider", choices=[p.value for p in Provider])
    given = ask.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="postern-bench-"))
    folder.chmod(0o755)
    server, urls = start_embedded(folder)
    try:
        for provider in Provider if not given.provider else [Provider(given.provider)]:
            migrate_fresh(urls.owner)
            asyncio.run(measure(provider, given.messages, given.latency_ms, urls, KeyRing({1: bytes(range(32))})))
    finally:
        server.cleanup()
    return 0


def migrate_fresh(owner_url: str) -> None:
    """An empty schema."""
    import psycopg

    with psycopg.connect(owner_url, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
    migrate(owner_url)


if __name__ == "__main__":
    sys.exit(main())
