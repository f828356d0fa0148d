"""What a tenant's pages are about, made without going through the providers; and reading the pages."""

from __future__ import annotations

import uuid
from typing import Any

from selectolax.lexbor import LexborHTMLParser

from app.gateway.models import Click
from app.protection.models import (
    MailboxRow,
    MessageRow,
)
from app.tenants.actor import Role
from app.tenants.models import Domain
from tests.integration.console.world import Browser, Console


async def add_mailbox(
    console: Console, tenant_id: uuid.UUID, address: str = "ada@nordwind.example", **more: Any
) -> int:
    async with console.database.tenant(tenant_id) as session:
        row = MailboxRow(
            tenant_id=tenant_id, external_id=address, address=address, domain=address.partition("@")[2], **more
        )
        session.add(row)
        await session.flush()
        return row.id


async def add_message(console: Console, tenant_id: uuid.UUID, mailbox_id: int, **more: Any) -> int:
    values: dict[str, Any] = {
        "state": "protected",
        "subject": "Invoice",
        "sender": "billing@supplier.example",
        "links": 1,
        "seen_at": console.clock(),
        **more,
    }
    async with console.database.tenant(tenant_id) as session:
        name = uuid.uuid4().hex
        row = MessageRow(tenant_id=tenant_id, mailbox_id=mailbox_id, external_id=name, current_id=name, **values)
        session.add(row)
        await session.flush()
        return row.id


async def add_click(console: Console, tenant_id: uuid.UUID, level: str, action: str, **more: Any) -> None:
    values: dict[str, Any] = {
        "at": console.clock(),
        "url": f"https://{level}.example/path",
        "host": f"{level}.example",
        **more,
    }
    async with console.database.tenant(tenant_id) as session:
        session.add(Click(tenant_id=tenant_id, id=uuid.uuid4(), level=level, action=action, **values))


async def make_estate(console: Console, role: Role = Role.OWNER) -> tuple[uuid.UUID, Browser, int]:
    """A tenant with a protected domain and one mailbox, and somebody signed in."""
    tenant_id = await console.make_tenant()
    async with console.database.tenant(tenant_id) as session:
        session.add(Domain(tenant_id=tenant_id, name="nordwind.example", protected=True))
    box = await add_mailbox(console, tenant_id)
    return tenant_id, await console.signed_in(tenant_id, role), box


def rows(page: str, name: str) -> list[str]:
    return [row.text(separator=" ") for row in LexborHTMLParser(page).css(f'[data-testid="{name}"]')]


def number(page: str, name: str) -> str:
    found = LexborHTMLParser(page).css_first(f'[data-testid="{name}"]')
    assert found is not None
    return found.text(strip=True)
