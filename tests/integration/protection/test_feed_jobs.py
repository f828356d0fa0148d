"""From a publisher's list to an incident about mail that was delivered before, by the worker's own jobs."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import select

from app.kit.crypto import KeyRing
from app.kit.db import Database
from app.protection.feed_tasks import fire_due
from app.protection.incident_models import Incident
from app.protection.worker import run_worker
from app.verdicts.lists import installed_lists
from app.verdicts.sources.service import add_source, new_config, states
from connectors.base.types import Provider
from connectors.emulators.testing import Emulators
from tests.integration.protection.world import Organisation, connect, mail, provider_settings
from tests.integration.verdicts.publishers import publisher

pytestmark = pytest.mark.anyio


async def test_a_link_that_is_listed_after_delivery_becomes_an_incident(
    database: Database, emulators: Emulators, keyring: KeyRing, tmp_path: Path
) -> None:
    settings = provider_settings(emulators, tmp_path, source_networks="127.0.0.0/8")
    there = await connect(database, emulators, Provider.MICROSOFT, settings, keyring, "ada")
    there.deliver(there.people[0], mail(there.people[0], link="https://later.example/kit/login"))
    await there.sync()
    with publisher() as server:
        address = server.publish("/list", "https://later.example/kit/\n")
        async with database.untenanted() as session:
            await add_source(session, new_config("list", "Late", address=address, enabled=True))
        await fire_due(there.runtime)
        working = asyncio.create_task(run_worker(there.runtime, asyncio.Event()))
        try:
            incident = await asyncio.wait_for(_incident(there), 60)
        finally:
            there.runtime.stopping.set()
            await working
    assert "later.example" in incident.subject
    lists = installed_lists(None, settings.data_dir)
    lists.refresh()
    assert [signal.source for signal in lists.signals("https://later.example/kit/x")] == ["Late"]
    async with database.untenanted() as session:
        (state,) = await states(session)
        assert (state.health.entries, state.health.error, state.reasons) == (1, "", ())
        await fire_due(there.runtime)  # its time has not come again
    await there.runtime.providers.aclose()


async def _incident(organisation: Organisation) -> Incident:
    while True:
        async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
            found: Incident | None = await session.scalar(select(Incident))
        if found is not None:
            return found
        await asyncio.sleep(0.05)
