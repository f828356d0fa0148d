"""What a command is about, as it is typed: an organisation, and how much of it."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from sqlalchemy import select, text

from app.kit.db import Database
from app.kit.errors import NotFound
from app.protection.models import MailboxRow


@dataclass(frozen=True, slots=True)
class Scope:
    """How much: ``message``, ``mailbox``, ``domain`` or ``tenant``, and which."""

    kind: str
    target: str


async def find_tenant(database: Database, tenant: str) -> tuple[uuid.UUID, str]:
    """The organisation of that name, provider tenant id or id of ours; and its name.

    Raises:
        NotFound: There is none, or more than one.
    """
    async with database.untenanted() as session:
        rows = (await session.execute(text("SELECT tenant_id, name, external_id FROM postern_tenants()"))).all()
    found = [row for row in rows if tenant in (str(row.tenant_id), row.name, row.external_id)]
    if len(found) != 1:
        known = ", ".join(sorted(row.name for row in rows)) or "none"
        raise NotFound(f"There is not exactly one organisation {tenant!r}. Known: {known}. Nothing was started.")
    return found[0].tenant_id, found[0].name


async def target_of(database: Database, tenant_id: uuid.UUID, scope: Scope) -> str:
    """A scope's target as runs store it: a mailbox by its number.

    Raises:
        NotFound: There is no such mailbox.
    """
    if scope.kind != "mailbox":
        return scope.target
    async with database.tenant(tenant_id) as session:
        found = await session.scalar(select(MailboxRow.id).where(MailboxRow.address == scope.target.lower()))
    if found is None:
        raise NotFound(f"There is no mailbox {scope.target}. Nothing was started.")
    return str(found)
