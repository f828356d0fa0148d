"""kill -9 of the worker in the middle of its work: every message once, every link to the gateway."""

from __future__ import annotations

import asyncio
import base64
import collections
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from app.kit.crypto import KeyRing
from app.kit.db import Database
from app.kit.postgres import DatabaseUrls
from app.protection.service import switch_domain
from app.settings import Settings
from connectors.base.types import Provider
from connectors.emulators.testing import Emulators, running_emulators
from tests.integration.protection.world import (
    GATEWAY,
    Organisation,
    choose_copies_for,
    connect,
    mail,
    provider_settings,
)

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(900)]

MESSAGES = 120
KILLS = 2
MASTER_KEY = base64.b64encode(bytes(range(32))).decode()


@pytest.fixture
def emulators() -> Iterator[Emulators]:
    with running_emulators() as running:
        yield running


@contextmanager
def worker(settings: Settings, urls: DatabaseUrls, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The worker role as a process of its own."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("POSTERN_")}
    for name in Settings.model_fields:
        value = getattr(settings, name)
        if name.startswith(("microsoft", "google", "gateway")) and value is not None:
            plain = value.get_secret_value() if hasattr(value, "get_secret_value") else value
            env[f"POSTERN_{name.upper()}"] = str(plain)
    env |= {
        "POSTERN_DATABASE_URL": urls.app,
        "POSTERN_MASTER_KEY": MASTER_KEY,
        "POSTERN_DATA_DIR": str(settings.data_dir),
        "POSTERN_HEALTH_PORT_WORKER": "0",
        "POSTERN_WORKER_CONCURRENCY": "4",
    }
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "app.cli", "run", "worker"], env=env, stdout=output, stderr=output
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(20)


async def finished(organisation: Organisation) -> int:
    return sum(1 for row in await organisation.messages() if row.state == "protected")


async def wait_for(organisation: Organisation, count: int, seconds: float, log: Path) -> None:
    deadline = time.monotonic() + seconds
    while await finished(organisation) < count:
        if time.monotonic() > deadline:
            states = collections.Counter(row.state for row in await organisation.messages())
            output = await asyncio.to_thread(log.read_text)
            pytest.fail(f"{states} after {seconds} s, {count} wanted\n{output[-3000:]}")
        await asyncio.sleep(0.1)


@pytest.fixture(
    params=[(Provider.MICROSOFT, False), (Provider.MICROSOFT, True), (Provider.GOOGLE, False)],
    ids=["microsoft", "microsoft_copies", "google"],
)
async def organisation(
    request: pytest.FixtureRequest, database: Database, emulators: Emulators, keyring: KeyRing, tmp_path: Path
) -> AsyncIterator[Organisation]:
    provider, copies = request.param
    settings = provider_settings(emulators, tmp_path)
    made = await connect(
        database, emulators, provider, settings, keyring, "ada", "ben", "cleo", "dan", "eva", protected=False
    )
    if copies:
        await choose_copies_for(made)
    yield made
    await made.runtime.providers.aclose()


async def test_no_message_is_lost_or_doubled_when_the_worker_is_killed(
    organisation: Organisation, database_urls: DatabaseUrls, tmp_path: Path
) -> None:
    from datetime import UTC, datetime, timedelta

    log = tmp_path / "worker.log"
    wanted: dict[str, collections.Counter[str]] = {}
    for number in range(MESSAGES):
        address = organisation.people[number % len(organisation.people)]
        subject = f"Message {number}"
        organisation.deliver(address, mail(address, subject, n=number))
        wanted.setdefault(address, collections.Counter())[str(number)] += 1
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        since = datetime.now(UTC) - timedelta(days=1)
        await switch_domain(
            session, organisation.actor, organisation.domain, protected=True, dry_run=False, since=since
        )

    for kill in range(KILLS):
        with worker(organisation.runtime.settings, database_urls, log) as process:
            await wait_for(organisation, (kill + 1) * MESSAGES // (KILLS + 2), 300, log)
            process.send_signal(signal.SIGKILL)
            process.wait(5)
    assert await finished(organisation) < MESSAGES
    with worker(organisation.runtime.settings, database_urls, log):
        await wait_for(organisation, MESSAGES, 300, log)

    for address, numbers in wanted.items():
        texts = organisation.readable(address)
        found = collections.Counter(match[1] for text in texts for match in [re.search(r"\((\d+)\)", text)] if match)
        assert found == numbers
        for text in texts:
            assert "https://news.example/" not in text
            assert f"{GATEWAY}/l/news.example/" in text
