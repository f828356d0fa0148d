"""One tenant's flood beside another tenant's single mail."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import text

from app.kit.crypto import KeyRing
from app.kit.db import Database
from app.protection.queue import defer_sync
from app.protection.worker import run_worker
from connectors.base.types import Provider
from connectors.emulators.testing import Emulators
from tests.integration.protection.world import Organisation, connect, mail, provider_settings

pytestmark = pytest.mark.anyio

PEOPLE = [f"user{number}" for number in range(8)]
EACH = 25


async def test_a_single_mail_does_not_wait_for_another_tenants_flood(
    database: Database, emulators: Emulators, keyring: KeyRing, tmp_path: Path
) -> None:
    settings = provider_settings(emulators, tmp_path, worker_concurrency=4)
    flood = await connect(database, emulators, Provider.MICROSOFT, settings, keyring, *PEOPLE)
    quiet = await connect(database, emulators, Provider.GOOGLE, settings, keyring, "ada")
    for address in flood.people:
        for number in range(EACH):
            flood.deliver(address, mail(address, f"Message {number}", n=number))
    quiet.deliver(quiet.people[0], mail(quiet.people[0]))
    async with database.untenanted() as session:
        await session.execute(text("DELETE FROM procrastinate_jobs"))
    for organisation in (flood, quiet):  # the flood is first in the queue
        for address in organisation.people:
            mailbox = await organisation.mailbox_id(address)
            async with database.tenant(organisation.tenant_id) as session:
                await defer_sync(session, organisation.tenant_id, mailbox, notified=True)
    runtime = flood.runtime
    working = asyncio.create_task(run_worker(runtime, asyncio.Event()))
    try:
        await asyncio.wait_for(_until_protected(quiet), 100)
    finally:
        runtime.stopping.set()
        await working
    (single,) = await quiet.messages()
    assert single.finished_at is not None
    before = [row for row in await flood.messages() if row.finished_at and row.finished_at < single.finished_at]
    assert len(before) < len(PEOPLE) * EACH // 3
    await flood.runtime.providers.aclose()
    await quiet.runtime.providers.aclose()


async def _until_protected(organisation: Organisation) -> None:
    # The row changes in the database: there is no event for it here.
    while [row.state for row in await organisation.messages()] != ["protected"]:  # noqa: ASYNC110
        await asyncio.sleep(0.02)
