"""kill -9 of the worker in the middle of a backfill and of an off-boarding: both go on, nothing is doubled or lost."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select, update

from app.kit.postgres import DatabaseUrls
from app.protection.backfill import backfill_progress, request_backfill
from app.protection.models import MessageRow, OffboardingReceipt
from app.protection.offboarding import request_offboarding
from app.tenants.models import Domain, Tenant
from connectors.base.types import Provider
from tests.chaos.test_worker_killed import worker
from tests.integration.protection.world import GATEWAY, Organisation, mail

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(240)]

MESSAGES = 12
PATIENCE_SECONDS = 90.0


async def wait_until(reached: Callable[[], Awaitable[bool]], log: Path) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not await reached():
        if time.monotonic() > deadline:
            pytest.fail(f"not reached\n{log.read_text()[-3000:]}")  # noqa: ASYNC240  # nothing else goes on any more
        await asyncio.sleep(0.05)


async def test_a_backfill_and_an_offboarding_survive_kills(
    organisation: Organisation, database_urls: DatabaseUrls, tmp_path: Path
) -> None:
    settings, log, address = organisation.runtime.settings, tmp_path / "worker.log", organisation.people[0]
    database, tenant_id = organisation.runtime.db, organisation.tenant_id
    for number in range(MESSAGES):
        organisation.deliver(address, mail(address, n=number))
    before = sorted(organisation.readable(address))
    now = datetime.now(UTC)
    async with database.tenant(tenant_id) as session:
        await session.execute(update(Domain).values(protect_since=now + timedelta(minutes=1)))
        target = str(await organisation.mailbox_id(address))
        run = await request_backfill(session, organisation.actor, "mailbox", target, days=3, now=now)

    async def in_state(state: str, count: int) -> bool:
        async with database.tenant(tenant_id) as session:
            found = await session.scalar(select(func.count()).select_from(MessageRow).where(MessageRow.state == state))
        return (found or 0) >= count

    async def filled() -> bool:
        async with database.tenant(tenant_id) as session:
            (found,) = await backfill_progress(session, organisation.actor, datetime.now(UTC), run)
        return found.run.state == "done"

    with worker(settings, database_urls, log) as process:
        await wait_until(lambda: in_state("protected", 3), log)
        process.send_signal(signal.SIGKILL)
        process.wait()
    with worker(settings, database_urls, log):
        await wait_until(filled, log)
    shown = organisation.readable(address)
    assert len(shown) == MESSAGES
    links = 1 if organisation.provider is Provider.MICROSOFT else 2
    assert all(content.count(f"{GATEWAY}/l/news.example/") == links for content in shown)
    async with database.tenant(tenant_id) as session:
        (found,) = await backfill_progress(session, organisation.actor, datetime.now(UTC), run)
        assert (found.total, found.looked, found.done, found.failed) == (MESSAGES, MESSAGES, MESSAGES, 0)
        tenant = await session.get_one(Tenant, tenant_id)
        receipt_id = await request_offboarding(session, organisation.actor, tenant.name, datetime.now(UTC))

    async def gone() -> bool:
        async with database.untenanted() as session:
            receipt = await session.get_one(OffboardingReceipt, receipt_id)
        return receipt.state == "done"

    with worker(settings, database_urls, log) as process:
        await wait_until(lambda: in_state("restored", 3), log)
        process.send_signal(signal.SIGKILL)
        process.wait()
    with worker(settings, database_urls, log):
        await wait_until(gone, log)
    assert sorted(organisation.readable(address)) == before
    async with database.untenanted() as session:
        receipt = await session.get_one(OffboardingReceipt, receipt_id)
    assert json.loads(receipt.document)["messages"]["restored"] == MESSAGES
    async with database.tenant(tenant_id) as session:
        assert (await session.scalars(select(Tenant))).all() == []
