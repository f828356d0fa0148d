"""For how long links work: by the age of their message, decided without asking the database at a click."""

from __future__ import annotations

import uuid
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import update

from app.kit.clock import utc_now
from app.kit.db import Database
from app.policy.service import load_snapshot
from app.policy.snapshots import SnapshotStore
from app.protection.models import MessageRow
from app.tenants.models import Tenant

pytestmark = pytest.mark.anyio


@pytest.fixture
async def tenant(database: Database) -> uuid.UUID:
    tenant_id = uuid.uuid4()
    async with database.tenant(tenant_id) as session:
        session.add(Tenant(tenant_id=tenant_id, name="Nordwind", provider="google", external_id="x", status="active"))
    return tenant_id


async def messages(database: Database, tenant_id: uuid.UUID, *days: float) -> list[int]:
    """Messages that were seen so many days ago, and their numbers."""
    numbers = []
    async with database.tenant(tenant_id) as session:
        for at, ago in enumerate(days):
            row = MessageRow(
                tenant_id=tenant_id,
                mailbox_id=1,
                external_id=str(at),
                current_id=str(at),
                state="protected",
                seen_at=utc_now() - timedelta(days=ago),
            )
            session.add(row)
            await session.flush()
            numbers.append(row.id)
    return numbers


async def below(database: Database, tenant_id: uuid.UUID, days: object) -> int:
    async with database.tenant(tenant_id) as session:
        await session.execute(update(Tenant).values(settings={"gateway": {"link_days": days}}))
    async with database.tenant(tenant_id) as session:
        return (await load_snapshot(session, tenant_id)).expired_below


async def test_links_of_older_messages_have_expired(database: Database, tenant: uuid.UUID) -> None:
    oldest, old, young, newest = await messages(database, tenant, 100, 40, 20, 1)
    assert oldest < old < young < newest
    assert await below(database, tenant, 30) == young
    assert await below(database, tenant, 50) == old
    assert await below(database, tenant, 1_000) == oldest


async def test_a_tenant_without_young_mail_has_its_old_links_expired_all_the_same(
    database: Database, tenant: uuid.UUID
) -> None:
    _, last = await messages(database, tenant, 100, 40)
    assert await below(database, tenant, 30) == last + 1


@pytest.mark.parametrize("days", [0, -1, None, "30", True, 1.5, [30]])
async def test_nothing_expires_where_no_days_are_set(database: Database, tenant: uuid.UUID, days: object) -> None:
    await messages(database, tenant, 100)
    assert await below(database, tenant, days) == 0


async def test_the_copy_on_disk_holds_it(database: Database, tenant: uuid.UUID, tmp_path: Path) -> None:
    (old,) = await messages(database, tenant, 100)
    assert await below(database, tenant, 30) == old + 1
    store = SnapshotStore(tmp_path)
    await store.refresh_all(database)
    another = SnapshotStore(tmp_path)
    assert another.load_from_disk() == 1
    (number,) = another._by_no
    assert another.get(number).expired_below == old + 1
