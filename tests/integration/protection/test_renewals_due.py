"""Which subscriptions the database finds due is what is due when the job looks."""

from __future__ import annotations

import uuid
from datetime import timedelta

import pytest
from sqlalchemy import select

from app.kit.clock import utc_now
from app.kit.db import Database
from app.protection import subscriptions
from app.protection.models import MailboxRow, SubscriptionRow

pytestmark = pytest.mark.anyio


async def test_the_database_and_the_job_agree_on_what_is_due(database: Database) -> None:
    tenant_id, now, life = uuid.uuid4(), utc_now(), timedelta(days=7)
    async with database.tenant(tenant_id) as session:
        boxes = [
            MailboxRow(tenant_id=tenant_id, external_id=f"m{n}", address=f"m{n}@due.example", domain="due.example")
            for n in range(300)
        ]
        session.add_all(boxes)
        await session.flush()
        session.add_all(
            SubscriptionRow(
                tenant_id=tenant_id,
                provider="microsoft",
                id=f"s{n}",
                mailbox_id=box.id,
                expires_at=now + life * (n / len(boxes)),
                secret_sealed=b"",
            )
            for n, box in enumerate(boxes)
            if n % 10
        )
    its_own = (SubscriptionRow.tenant_id == MailboxRow.tenant_id) & (SubscriptionRow.mailbox_id == MailboxRow.id)
    both = select(MailboxRow.id, SubscriptionRow.expires_at).outerjoin(SubscriptionRow, its_own)
    async with database.tenant(tenant_id) as session:
        found = {row[0] for row in await session.execute(both.where(subscriptions.due(now, life)))}
        expected = {
            row[0]
            for row in await session.execute(both)
            if row[1] is None or row[1] - now <= life * subscriptions.renew_share(row[0])
        }

    assert found == expected
    assert 100 < len(found) < 250
