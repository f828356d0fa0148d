"""Opening links of which only a digest fitted into the address: their payloads are fetched before they are needed.

The transformer and restore are pure, so they cannot ask the database. They run with what is known; where they
met a digest that is not, it is fetched and they run again. Such links are rare (over 1,800 characters).
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from typing import TypeVar

from sqlalchemy import select

from app.kit.db import Database
from app.links.mint import LinkOpener, message_opener
from app.links.models import LinkPayload
from app.messages.types import OpenedLink
from app.protection.runtime import Runtime

OpenLink = Callable[[str], OpenedLink | None]
_T = TypeVar("_T")


class StoredPayloads:
    """Payloads of one tenant: those known, and those that were asked for and are not."""

    def __init__(self, tenant_no: int) -> None:
        self._tenant_no = tenant_no
        self._known: dict[bytes, bytes | None] = {}
        self.missing: set[bytes] = set()

    def __call__(self, tenant_no: int, digest: bytes) -> bytes | None:
        """A sealed payload, or None: of another tenant, not there, or not fetched yet (then it is noted)."""
        if tenant_no != self._tenant_no:
            return None
        if digest not in self._known:
            self.missing.add(digest)
            return None
        return self._known[digest]

    async def fetch(self, db: Database, tenant_id: uuid.UUID) -> None:
        """Fetch what was missing; what is not there is known to be absent from then on."""
        async with db.tenant(tenant_id) as session:
            rows = await session.execute(
                select(LinkPayload.digest, LinkPayload.sealed).where(LinkPayload.digest.in_(self.missing))
            )
            found = {bytes(row.digest): bytes(row.sealed) for row in rows}
        for digest in self.missing:
            self._known[digest] = found.get(digest)
        self.missing.clear()


async def with_opener(
    runtime: Runtime,
    tenant_id: uuid.UUID,
    tenant_no: int,
    mailbox_no: int,
    message_no: int,
    run: Callable[[OpenLink], Awaitable[_T]],
) -> _T:
    """Run something with an opener of this message's links that knows every payload it asks for.

    Args:
        runtime: The process.
        tenant_id: The tenant.
        tenant_no: The tenant's number in tokens.
        mailbox_no: The mailbox.
        message_no: The message.
        run: What to run; it may run more than once, so it must have no other effect than its result.
    """
    settings = runtime.settings
    payloads = StoredPayloads(tenant_no)
    links = LinkOpener(runtime.keyring, settings.gateway_url, settings.gateway_prefix, payloads)
    opener = message_opener(links, tenant_no, mailbox_no, message_no)
    while True:
        result = await run(opener)
        if not payloads.missing:
            return result
        await payloads.fetch(runtime.db, tenant_id)
