"""Which jobs there are, and with which locks they are deferred.

``lock``: one job at a time per mailbox, so that a cursor has one reader and a message one writer.
``queueing_lock``: hints for one mailbox coalesce into one waiting job.
"""

from __future__ import annotations

import uuid
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.jobs import defer

SYNC = "mailbox.sync"
START = "mailbox.start"
STOP = "mailbox.stop"
RENEW = "mailbox.renew"
RESTORE = "restore.mailbox"
HOUSEKEEPING = "tenant.housekeeping"

RESTORE_PRIORITY = 20
NOTIFIED_PRIORITY = 10


def mailbox_lock(tenant_id: uuid.UUID, mailbox_id: int) -> str:
    """The lock under which everything about one mailbox runs."""
    return f"mailbox:{tenant_id}:{mailbox_id}"


async def defer_sync(
    session: AsyncSession,
    tenant_id: uuid.UUID,
    mailbox_id: int,
    *,
    at: datetime | None = None,
    notified: bool = False,
) -> bool:
    """Look at a mailbox; False where such a job was waiting already."""
    lock = mailbox_lock(tenant_id, mailbox_id)
    return await defer(
        session,
        SYNC,
        {"tenant_id": str(tenant_id), "mailbox_id": mailbox_id},
        lock=lock,
        queueing_lock=f"sync:{lock}",
        priority=NOTIFIED_PRIORITY if notified else 0,
        at=at,
    )


async def defer_switch(session: AsyncSession, tenant_id: uuid.UUID, mailbox_id: int, *, on: bool) -> bool:
    """Start (subscribe, then sync) or stop (unsubscribe) a mailbox."""
    task = START if on else STOP
    lock = mailbox_lock(tenant_id, mailbox_id)
    return await defer(
        session,
        task,
        {"tenant_id": str(tenant_id), "mailbox_id": mailbox_id},
        lock=lock,
        queueing_lock=f"{task}:{lock}",
        priority=NOTIFIED_PRIORITY,
    )


async def defer_renew(session: AsyncSession, tenant_id: uuid.UUID, mailbox_id: int, *, anew: bool) -> bool:
    """Renew a mailbox's subscription, or make it ``anew`` where the provider removed it."""
    lock = mailbox_lock(tenant_id, mailbox_id)
    return await defer(
        session,
        RENEW,
        {"tenant_id": str(tenant_id), "mailbox_id": mailbox_id, "anew": anew},
        lock=lock,
        queueing_lock=f"renew:{anew}:{lock}",
        priority=NOTIFIED_PRIORITY,
    )


async def defer_restore(
    session: AsyncSession, tenant_id: uuid.UUID, mailbox_id: int, run_id: int, *, at: datetime | None = None
) -> bool:
    """Restore one mailbox's part of a run."""
    lock = mailbox_lock(tenant_id, mailbox_id)
    return await defer(
        session,
        RESTORE,
        {"tenant_id": str(tenant_id), "mailbox_id": mailbox_id, "run_id": run_id},
        lock=lock,
        queueing_lock=f"restore:{run_id}:{lock}",
        priority=RESTORE_PRIORITY,
        at=at,
    )


async def defer_housekeeping(session: AsyncSession, tenant_id: uuid.UUID, what: str) -> bool:
    """Have one tenant's scheduled work done: ``poll``, ``renew``, ``probe`` or ``purge``."""
    return await defer(
        session,
        HOUSEKEEPING,
        {"tenant_id": str(tenant_id), "what": what},
        queueing_lock=f"{what}:{tenant_id}",
        priority=-10,
    )
