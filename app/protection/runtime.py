"""What the jobs work with: made once per process, passed in."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass, field

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.clock import Clock, utc_now
from app.kit.crypto import KeyRing
from app.kit.db import Database
from app.links.mint import LinkOpener
from app.protection.models import MailboxRow
from app.protection.pace import Pace
from app.protection.providers import Providers, TenantGrant
from app.settings import Settings
from connectors.base.types import Mailbox, Provider


@dataclass(frozen=True, slots=True)
class Runtime:
    """Settings and open resources of a worker.

    Attributes:
        settings: The process's settings.
        db: The database as the application's role.
        keyring: Master keys.
        providers: Provider parts by name.
        clock: Aware UTC time.
        stopping: Set when the process is asked to stop; loops end at the next safe point.
        pace: How many messages are under way.
    """

    settings: Settings
    db: Database
    keyring: KeyRing
    providers: Providers
    clock: Clock = utc_now
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    pace: Pace = field(default_factory=Pace)

    def opener(self) -> LinkOpener:
        """Opens links of this installation."""
        return LinkOpener(self.keyring, self.settings.gateway_url, self.settings.gateway_prefix)

    def callback_url(self, provider: Provider) -> str:
        """Where this provider delivers notifications."""
        return f"{self.settings.intake_url.rstrip('/')}/hooks/{provider.value}"


def to_mailbox(row: MailboxRow) -> Mailbox:
    """The row as connectors know a mailbox."""
    return Mailbox(row.external_id, row.address, row.name, tuple(row.aliases), row.enabled)


async def all_grants(session: AsyncSession) -> list[tuple[TenantGrant, str]]:
    """Every tenant's grant with its status, through the routing function (no tenant context needed)."""
    rows = await session.execute(
        text(
            "SELECT tenant_id, no, provider, external_id, admin_address, status, organisation_id FROM postern_tenants()"
        )
    )
    return [
        (
            TenantGrant(
                row.tenant_id,
                row.no,
                Provider(row.provider),
                row.external_id,
                row.admin_address,
                row.organisation_id,
            ),
            row.status,
        )
        for row in rows
    ]


async def grant_of(session: AsyncSession, tenant_id: uuid.UUID) -> tuple[TenantGrant, str]:
    """One tenant's grant and status.

    Raises:
        LookupError: No such tenant.
    """
    for grant, status in await all_grants(session):
        if grant.tenant_id == tenant_id:
            return grant, status
    raise LookupError(f"no tenant {tenant_id}")


async def mailbox_row(session: AsyncSession, mailbox_id: int) -> MailboxRow | None:
    """A mailbox of the transaction's tenant."""
    return await session.scalar(select(MailboxRow).where(MailboxRow.id == mailbox_id))
