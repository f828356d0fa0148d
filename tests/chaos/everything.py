"""The chaos run itself; ``tests.chaos.run`` is its command.

Half of the messages go to each provider. Meanwhile requests are throttled, refused and cut off after they took
effect, notifications are lost, doubled and late, cursors expire, a worker is killed with -9 every two seconds (of
several, so that each lives a few times as long) and PostgreSQL is restarted twice, once without a shutdown. At the
end every message must be there once, with each link rewritten once, with its labels and read state.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import re
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg

from app.bootstrap import LoadedProviders
from app.kit.crypto import KeyRing
from app.kit.db import Database
from app.kit.postgres import DatabaseUrls
from app.links.mint import LinkOpener
from app.protection.runtime import Runtime
from app.protection.service import switch_domain
from app.tenants.actor import cli_actor
from connectors.base.types import Provider
from tests.chaos.processes import environment_of, start_role
from tests.chaos.providers import Providers, Report, link, provider_of
from tests.chaos.server import MASTER_KEY, free_port, restart_postgres
from tests.integration.protection.world import GATEWAY, register

_OURS = re.compile(re.escape(GATEWAY) + r"/l/[^\s\"'<>]+")


@dataclass(frozen=True)
class Plan:
    """How big and how rough.

    Attributes:
        messages: Of both providers together.
        mailboxes: On each provider.
        workers: Worker processes at any time.
        kill_every: Seconds between two kills; each worker lives ``workers`` times as long.
        kills: So many kills instead, spread over the messages: for runs whose time is not their own.
        restarts: Of PostgreSQL.
        seconds: When to give up.
        seed: Of whatever is drawn.
        log_level: Of Postern's processes.
        roughness: How many times as many notifications go wrong: a few dozen are too few for one in ten.
    """

    messages: int = 10_000
    mailboxes: int = 50
    workers: int = 8
    kill_every: float = 2.0
    kills: int | None = None
    restarts: int = 2
    seconds: float = 3_600.0
    seed: int = 7
    log_level: str = "info"
    roughness: float = 1.0


@dataclass
class Outcome:
    """What happened.

    Attributes:
        problems: One line each; empty is success.
        kills: Workers killed with -9.
        restarts: Of PostgreSQL.
        seconds: From the first delivery to the last message done.
        states: Messages in the journal by state.
        waits: Seconds from delivery to protected of every message, by provider.
        taken_up: Jobs of dead workers that others took up.
        report: What the providers say.
    """

    problems: list[str] = field(default_factory=list)
    kills: int = 0
    restarts: int = 0
    seconds: float = 0.0
    states: dict[str, int] = field(default_factory=dict)
    waits: dict[Provider, list[float]] = field(default_factory=dict)
    taken_up: int = 0
    report: Report = field(default_factory=Report)


class Workers:
    """A few workers, of which the oldest is killed now and then."""

    def __init__(self, plan: Plan, environment: dict[str, str], folder: Path) -> None:
        self._plan, self._environment, self._log = plan, environment, folder / "worker.log"
        self._running = [self._start() for _ in range(plan.workers)]
        self._next = time.monotonic() + plan.kill_every
        self.kills = 0

    def _start(self) -> Any:
        return start_role("worker", self._environment, self._log)

    def tick(self, done: int) -> None:
        """Kill the oldest where it is time, with so many messages done; replace what ended."""
        if self._is_due(done):
            self._next += self._plan.kill_every
            oldest = self._running.pop(0)
            oldest.kill()
            oldest.join(10)
            self.kills += 1
        self._running = [process for process in self._running if process.is_alive()]
        while len(self._running) < self._plan.workers:
            self._running.append(self._start())

    def _is_due(self, done: int) -> bool:
        if self._plan.kills is None:
            return time.monotonic() >= self._next
        return self.kills < min(self._plan.kills, done * (self._plan.kills + 1) // self._plan.messages)

    def end(self) -> None:
        """Stop all."""
        for process in self._running:
            process.terminate()
        for process in self._running:
            process.join(20)
            if process.is_alive():
                process.kill()


async def chaos(plan: Plan, server: Any, urls: DatabaseUrls, folder: Path, progress: bool = False) -> Outcome:
    """Run to the end and compare what is with what should be."""
    outcome, port = Outcome(), free_port()
    keys = KeyRing({1: MASTER_KEY})
    providers = Providers(folder, plan.mailboxes, f"http://127.0.0.1:{port}", plan.seed)
    environment = environment_of(
        providers.settings,
        database_url=urls.app,
        master_key=base64.b64encode(MASTER_KEY).decode(),
        data_dir=folder / "data",
        port=port,
        intake_url=f"http://127.0.0.1:{port}",
        health_port_worker=0,
        health_port_scheduler=0,
        worker_concurrency=4,
        poll_seconds=10,
        google_units_per_minute=1_000_000,
        log_level=plan.log_level,
    )
    others = [start_role(role, environment, folder / f"{role}.log") for role in ("intake", "scheduler")]
    await _connect(urls, providers, keys)
    providers.storm(plan.roughness)
    workers = Workers(plan, environment, folder)
    began = time.monotonic()
    try:
        delivered, done = 0, 0
        restart_at = [plan.messages * (n + 1) // (plan.restarts + 1) for n in range(plan.restarts)]
        step = max(2, plan.messages // 100)
        for second in itertools.count():
            if delivered < plan.messages:
                upto = min(delivered + step, plan.messages)
                await asyncio.to_thread(providers.deliver, range(delivered, upto))
                delivered = upto
            if second % 15 == 14:
                await asyncio.to_thread(providers.expire)
            await asyncio.to_thread(workers.tick, done)
            outcome.states = await asyncio.to_thread(_states, urls, outcome.states)
            done = sum(outcome.states.get(state, 0) for state in ("protected", "failed", "gone", "skipped"))
            if outcome.restarts < plan.restarts and done >= restart_at[outcome.restarts]:
                crash = outcome.restarts % 2 == 0
                await asyncio.to_thread(restart_postgres, server, crash=crash)
                outcome.restarts += 1
            tried = outcome.restarts == plan.restarts and workers.kills >= (plan.kills or 0)
            if tried and done >= plan.messages and sum(outcome.states.values()) == done:
                break
            if time.monotonic() - began > plan.seconds:
                outcome.problems.append(f"not done after {plan.seconds:.0f} s: {outcome.states}")
                break
            if progress and second % 20 == 0:
                print(f"  {time.monotonic() - began:5.0f} s  delivered {delivered}  {outcome.states}", flush=True)
            await asyncio.sleep(0.25)
    finally:
        outcome.seconds = time.monotonic() - began
        outcome.kills = workers.kills
        workers.end()
        for process in others:
            process.terminate()
            process.join(20)
        outcome.report = providers.look()
        providers.close()
    outcome.waits = _waits(urls, outcome.report)
    outcome.taken_up = _taken_up(folder / "worker.log")
    outcome.problems += _problems(plan, outcome, keys)
    return outcome


async def _connect(urls: DatabaseUrls, providers: Providers, keys: KeyRing) -> None:
    database = Database(urls.app)
    runtime = Runtime(providers.settings, database, keys, LoadedProviders(providers.settings, keys))
    for made in providers.made.values():
        tenant_id = await register(database, runtime, made, protected=False)
        async with database.tenant(tenant_id) as session:
            since = datetime.now(UTC) - timedelta(days=1)
            await switch_domain(session, cli_actor(tenant_id), made.domain, protected=True, dry_run=False, since=since)
    await runtime.providers.aclose()
    await database.close()


def _states(urls: DatabaseUrls, before: dict[str, int]) -> dict[str, int]:
    """Messages in the journal by state; as before while the database is away."""
    try:
        with psycopg.connect(urls.owner, connect_timeout=2) as connection:
            return dict(connection.execute("SELECT state, count(*) FROM messages GROUP BY state").fetchall())
    except psycopg.OperationalError:
        return before


def _waits(urls: DatabaseUrls, report: Report) -> dict[Provider, list[float]]:
    """Seconds from delivery to protected."""
    with psycopg.connect(urls.owner) as connection:
        rows = connection.execute("SELECT subject, finished_at FROM messages WHERE state = 'protected'").fetchall()
    waits: dict[Provider, list[float]] = {provider: [] for provider in Provider}
    for subject, at in rows:
        number = int(subject.removeprefix("Message "))
        waits[provider_of(number)].append(at.timestamp() - report.delivered[number])
    return waits


def _taken_up(log: Path) -> int:
    return sum(int(match[1]) for match in re.finditer(r'"jobs": (\d+), "event": "worker.took_up"', log.read_text()))


def _problems(plan: Plan, outcome: Outcome, keys: KeyRing) -> list[str]:
    report, opener = outcome.report, LinkOpener(keys, GATEWAY, "l")
    problems: list[str] = []
    times = Counter(found.number for found in report.found)
    lost = [number for number in range(plan.messages) if not times[number]]
    doubled = [number for number, count in times.items() if count > 1]
    if lost:
        problems.append(f"{len(lost)} messages lost: {lost[:10]}")
    if doubled:
        problems.append(f"{len(doubled)} messages doubled: {doubled[:10]}")
    if report.quarantined:
        problems.append(f"{report.quarantined} places of quarantine exist")
    others = {state: count for state, count in outcome.states.items() if state != "protected"}
    if others:
        problems.append(f"messages in other states: {others}")
    for found in report.found:
        links = _OURS.findall(found.text)
        targets = {opener.open(each).url for each in links}
        if "https://news.example/" in found.text:
            problems.append(f"message {found.number} of {found.address} has its original link")
        elif targets != {link(found.number)} or len(links) != _links_shown(found.address):
            problems.append(f"message {found.number} of {found.address} has links to {targets} {len(links)} times")
        if found.state != report.wanted.get(found.number):
            problems.append(f"message {found.number}: {found.state}, not {report.wanted.get(found.number)}")
    return problems[:40]


def _links_shown(address: str) -> int:
    """How many links a message shows: Graph has one body, Gmail both alternatives."""
    return 1 if address.endswith("@nordwind.example") else 2
