"""``postern inspect-url --tenant``: what would happen to a link in an organisation, and why."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import select

from app.bootstrap import database_urls
from app.commands.scope import find_tenant
from app.kit.clock import utc_now
from app.kit.db import Database
from app.kit.errors import NotFound
from app.protection.models import MailboxRow
from app.protection.what_if import WhatIf, what_if
from app.settings import Settings
from app.tenants.actor import cli_actor
from app.verdicts.judge import InlineSource


async def ask_what_if(
    settings: Settings, lists: InlineSource, url: str, tenant: str, user: str | None, received: datetime | None
) -> WhatIf:
    """Ask.

    Args:
        settings: Where the database is.
        lists: The lists to go by.
        url: The address.
        tenant: Name, provider tenant id or our id.
        user: A mailbox's address; None: anybody's.
        received: When the message came; without a zone UTC. None: now.

    Raises:
        NotFound: There is no such organisation or mailbox.
    """
    async with database_urls(settings) as urls:
        database = Database(urls.app, 1)
        try:
            tenant_id, _ = await find_tenant(database, tenant)
            async with database.tenant(tenant_id) as session:
                mailbox_id = None
                if user is not None:
                    mailbox_id = await session.scalar(select(MailboxRow.id).where(MailboxRow.address == user.lower()))
                    if mailbox_id is None:
                        raise NotFound(f"There is no mailbox {user} in this organisation. Nothing was looked at.")
                if received is not None and received.tzinfo is None:
                    received = received.replace(tzinfo=UTC)
                return await what_if(
                    session,
                    cli_actor(tenant_id),
                    url,
                    lists=lists,
                    now=utc_now(),
                    mailbox_id=mailbox_id,
                    received_at=received,
                )
        finally:
            await database.close()
