"""Twenty thousand idle mailboxes: is every subscription renewed in time and at a steady rate, and what does it cost?

    python -m tests.bench.idle [--mailboxes 20000] [--days 14] [--renewals 200]

Two weeks of housekeeping rounds run against a real database with a clock that is moved on; every subscription was
made within the same hour. What a round defers counts as renewed at the time for which it was deferred. What one
renewal costs is measured separately: real jobs' work, at an emulated Microsoft 365.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import resource
import statistics
import sys
import time
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import structlog

from app.bootstrap import LoadedProviders
from app.kit.crypto import KeyRing
from app.kit.db import Database
from app.kit.postgres import DatabaseUrls
from app.protection.runtime import Runtime
from app.protection.subscriptions import RENEW_SHARE, ROUND_SECONDS
from app.protection.tasks import POLLS_PER_INTERVAL, poll, renew, subscribe_mailbox
from app.settings import Settings
from app.tenants.models import Domain, Tenant
from connectors.base.types import Provider
from connectors.emulators.testing import running_emulators
from tests.chaos.run import MASTER_KEY, postgres
from tests.integration.protection.world import provider_settings, provision, register

LIFE = timedelta(days=7)
LATE_HOURS = LIFE / timedelta(hours=1) * (RENEW_SHARE - 0.15) - 1
"""Less than that of a life is left only where a renewal was put off: see ``subscriptions.renew_share``."""


class Clock:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.now


def _memory() -> float:
    """Most memory this process has had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


async def _fill(database: Database, urls: DatabaseUrls, mailboxes: int, clock: Clock) -> uuid.UUID:
    tenant_id = uuid.uuid4()
    async with database.tenant(tenant_id) as session:
        session.add(Tenant(tenant_id=tenant_id, name="Idle", provider="microsoft", external_id="idle", status="active"))
        session.add(Domain(tenant_id=tenant_id, name="idle.example", protected=True, protect_since=clock()))
    with psycopg.connect(urls.owner, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO mailboxes (tenant_id, external_id, address, domain, cursor, last_synced_at) "
            "SELECT %(t)s, 'm' || n, 'm' || n || '@idle.example', 'idle.example', '{}', "
            "%(now)s - random() * interval '10 minutes' FROM generate_series(1, %(n)s) n",
            {"t": tenant_id, "n": mailboxes, "now": clock()},
        )
        connection.execute(
            "INSERT INTO subscriptions (tenant_id, provider, id, mailbox_id, expires_at, secret_sealed) "
            "SELECT tenant_id, 'microsoft', 's' || id, id, %(e)s + random() * interval '1 hour', '' FROM mailboxes",
            {"e": clock() + LIFE},
        )
        connection.execute("ANALYZE")
    return tenant_id


def _settle(urls: DatabaseUrls, now: datetime) -> tuple[list[int], float, int]:
    """What was deferred counts as done, each at its time within the round.

    Returns:
        Renewals in each minute of the round, the least that was left of a life in hours, and how many came too late.
    """
    with psycopg.connect(urls.owner, autocommit=True) as connection:
        due = connection.execute(
            "WITH due AS (DELETE FROM procrastinate_jobs WHERE task_name = 'mailbox.subscribe' "
            "RETURNING (args->>'mailbox_id')::bigint AS mailbox_id, "
            "extract(epoch FROM scheduled_at - now())::float8 AS after) "
            "UPDATE subscriptions s SET expires_at = %(now)s + (greatest(due.after, 0) * interval '1 second') "
            "+ %(life)s "
            "FROM due, subscriptions old WHERE s.mailbox_id = due.mailbox_id AND old.mailbox_id = s.mailbox_id "
            "RETURNING due.after, extract(epoch FROM old.expires_at - %(now)s)::float8 - due.after",
            {"now": now, "life": LIFE},
        ).fetchall()
    minutes = [0] * (ROUND_SECONDS // 60)
    for after, _ in due:
        minutes[min(max(int(after // 60), 0), len(minutes) - 1)] += 1
    left = [seconds / 3600 for _, seconds in due]
    return minutes, min(left, default=float("inf")), sum(hours < LATE_HOURS for hours in left)


async def rounds(database: Database, urls: DatabaseUrls, runtime: Runtime, clock: Clock, days: int, n: int) -> None:
    """Renewals over the days, and one interval of polls."""
    tenant_id = await _fill(database, urls, n, clock)
    minutes: list[int] = []
    spent: list[float] = []
    used = time.process_time()
    late, least = 0, float("inf")
    with psycopg.connect(urls.owner, autocommit=True) as connection:
        before = _transactions(connection)
    for _ in range(days * 86_400 // ROUND_SECONDS):
        began = time.perf_counter()
        await renew(runtime, tenant_id)
        spent.append(time.perf_counter() - began)
        some, left, behind = _settle(urls, clock.now)
        minutes += some
        late, least = late + behind, min(least, left)
        clock.now += timedelta(seconds=ROUND_SECONDS)
    used = time.process_time() - used
    with psycopg.connect(urls.owner, autocommit=True) as connection:
        transactions = _transactions(connection) - before - len(spent)
    # All were made within an hour: from when the first of them were due again, they come as they always will.
    steady = minutes[int(LIFE / timedelta(minutes=1)) :]
    print(
        f"renewals of {n} subscriptions over {days} days: {sum(minutes)}, late {late}, least life "
        f"left {least:.0f} h of {LIFE / timedelta(hours=1):.0f}"
    )
    for name, some in (("all", minutes), ("after the first week", steady)):
        if some:
            print(
                f"  per minute, {name}: least {min(some)}, median {statistics.median(some):.0f}, most {max(some)}, "
                f"mean {statistics.mean(some):.2f}"
            )
    print(
        f"a round takes {statistics.median(spent) * 1000:.0f} ms, {max(spent) * 1000:.0f} ms at most; all of them took "
        f"{used:.1f} s of CPU and {transactions} transactions ({transactions / days / 86_400:.3f}/s)",
        flush=True,
    )
    step = runtime.settings.poll_seconds / POLLS_PER_INTERVAL
    taken: list[int] = []
    spent = []
    for _ in range(4 * POLLS_PER_INTERVAL):
        began = time.perf_counter()
        await poll(runtime, tenant_id)
        spent.append(time.perf_counter() - began)
        with psycopg.connect(urls.owner, autocommit=True) as connection:
            done = connection.execute(
                "WITH looks AS (DELETE FROM procrastinate_jobs WHERE task_name = 'mailbox.sync' RETURNING args) "
                "UPDATE mailboxes SET last_synced_at = %s FROM looks WHERE id = (args->>'mailbox_id')::bigint",
                (clock.now,),
            )
            taken.append(done.rowcount)
        clock.now += timedelta(seconds=step)
    print(
        f"polls every {step:.0f} s: {', '.join(map(str, taken[POLLS_PER_INTERVAL:]))} mailboxes each after the first "
        f"interval ({sum(taken[POLLS_PER_INTERVAL:]) / (3 * runtime.settings.poll_seconds):.0f}/s), "
        f"{statistics.median(spent) * 1000:.0f} ms each to defer"
    )
    print(f"memory of the process with all this: {_memory():.0f} MB")


async def cost(database: Database, urls: DatabaseUrls, keys: KeyRing, folder: Path, renewals: int) -> None:
    """What one renewal costs a worker and the database."""
    with running_emulators() as emulators:
        settings = provider_settings(emulators, folder)
        clock = Clock()
        made = provision(emulators, Provider.MICROSOFT, "", ("ada",))
        runtime = Runtime(settings, database, keys, LoadedProviders(settings, keys), clock)
        # No handshake: the subscription is put where its making would have.
        tenant_id = await register(database, runtime, made)
        hook = _Hook()
        async with hook:
            settings = settings.model_copy(update={"intake_url": hook.url})
            runtime = Runtime(settings, database, keys, runtime.providers, clock)
            with psycopg.connect(urls.owner, autocommit=True) as connection:
                ((mailbox,),) = connection.execute(
                    "SELECT id FROM mailboxes WHERE tenant_id = %s", (tenant_id,)
                ).fetchall()
                await subscribe_mailbox(runtime, tenant_id, mailbox)
                before = _transactions(connection)
                began, cpu = time.perf_counter(), time.process_time()
                for _ in range(renewals):
                    connection.execute("UPDATE subscriptions SET expires_at = now() + interval '1 day'")
                    await subscribe_mailbox(runtime, tenant_id, mailbox)
                wall, used = time.perf_counter() - began, time.process_time() - cpu
                transactions = _transactions(connection) - before - renewals
        await runtime.providers.aclose()
    print(
        f"one renewal: {wall / renewals * 1000:.1f} ms, {used / renewals * 1000:.1f} ms of CPU (the emulator's "
        f"included), about {transactions / renewals:.1f} transactions"
    )


class _Hook:
    """Answers the handshake of a new subscription."""

    async def __aenter__(self) -> None:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            from urllib.parse import parse_qs, urlsplit

            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            token = parse_qs(urlsplit(head.split(" ")[1]).query)["validationToken"][0]
            body = token.encode()
            writer.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n"
                b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
            )
            await writer.drain()
            writer.close()

        self._server = await asyncio.start_server(answer, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def __aexit__(self, *_: object) -> None:
        self._server.close()


def _transactions(connection: psycopg.Connection) -> int:
    connection.execute("SELECT pg_stat_force_next_flush()")
    connection.execute("SELECT pg_stat_clear_snapshot()")
    row = connection.execute("SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()").fetchone()
    return int(row[0]) if row else 0


async def measure(mailboxes: int, days: int, renewals: int) -> None:
    """Print everything."""
    keys, clock = KeyRing({1: MASTER_KEY}), Clock()
    with postgres() as (_, urls, folder):
        database = Database(urls.app)
        settings = Settings(_env_file=None, data_dir=folder, microsoft_client_id="bench", microsoft_client_secret="x")
        runtime = Runtime(settings, database, keys, LoadedProviders(settings, keys), clock)
        await rounds(database, urls, runtime, clock, days, mailboxes)
        await cost(database, urls, keys, folder, renewals)
        await database.close()


def main() -> int:
    """Run it."""
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--mailboxes", type=int, default=20_000)
    ask.add_argument("--days", type=int, default=14)
    ask.add_argument("--renewals", type=int, default=200)
    given = ask.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    asyncio.run(measure(given.mailboxes, given.days, given.renewals))
    return 0


if __name__ == "__main__":
    sys.exit(main())
