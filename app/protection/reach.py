"""Reaching mailboxes: one whether or not it is protected (for stopping, restoring, moving), and those to try first."""

from __future__ import annotations

import uuid

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.policy.service import load_snapshot
from app.protection.copying import load_copies_chosen
from app.protection.models import MailboxRow
from app.protection.plan import load_options
from app.protection.runtime import Runtime, grant_of, mailbox_row, to_mailbox
from app.protection.work import MailboxWork
from connectors.base.types import Mailbox


async def any_work(runtime: Runtime, tenant_id: uuid.UUID, mailbox_id: int) -> MailboxWork | None:
    """A mailbox's work even where protection is off; None where the mailbox or its tenant is gone."""
    async with runtime.db.tenant(tenant_id) as session:
        row = await mailbox_row(session, mailbox_id)
        if row is None:
            return None
        grant, _ = await grant_of(session, tenant_id)
        policy = await load_snapshot(session, tenant_id)
        options = await load_options(session)
        copies = await load_copies_chosen(session)
    return MailboxWork(
        grant=grant,
        mailbox=to_mailbox(row),
        mailbox_id=mailbox_id,
        connector=runtime.providers.connector(grant),
        policy=policy,
        since=runtime.clock(),
        dry_run=False,
        options=options,
        copy_if_refused=copies,
    )


TRIED_FIRST = 200
"""Mailboxes that an access check is given to try."""


async def protected_mailboxes(session: AsyncSession, limit: int = TRIED_FIRST) -> list[Mailbox]:
    """Mailboxes that are taken in, those that were looked at last first: where anything can be read, it is there."""
    rows = await session.scalars(
        select(MailboxRow)
        .where(MailboxRow.enabled, ~MailboxRow.opted_out)
        .order_by(MailboxRow.last_synced_at.desc().nulls_last(), MailboxRow.id)
        .limit(limit)
    )
    return [to_mailbox(row) for row in rows]
