"""Which jobs there are, and with which locks they are deferred.

``lock``: one job at a time per mailbox, so that a cursor has one reader and a message one writer.
``queueing_lock``: hints for one mailbox coalesce into one waiting job.
``queue``: one per tenant, so that the worker can choose fairly (``app.protection.fairness``), and one for what is
done by the clock.

A job that waits for its time keeps those of its lock with a lower priority waiting too: what is put off goes below
what comes fresh.
"""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.at_once import Statement
from app.kit.db import Database
from app.kit.jobs import defer

SYNC = "mailbox.sync"
START = "mailbox.start"
STOP = "mailbox.stop"
RENEW = "mailbox.renew"
SUBSCRIBE = "mailbox.subscribe"
RESTORE = "restore.mailbox"
HOUSEKEEPING = "tenant.housekeeping"
BACKFILL = "backfill.mailbox"
MOVE = "message.move"
DRAIN = "offboarding.mailbox"
OFFBOARD = "offboarding.tenant"
REFRESH = "mailboxes.refresh"
TURN = "tenant.turn"
ALERT = "incident.alert"
MAIL = "alert.mail"

RESTORE_PRIORITY = 20
NOTIFIED_PRIORITY = 10
PUT_OFF_PRIORITY = -1
BY_THE_CLOCK = "housekeeping"
"""The queue of scheduled work: it neither waits behind a tenant's flood nor holds up anybody's mail."""

_BATCH = 500
_TRIES = 3


def tenant_queue(tenant_id: uuid.UUID) -> str:
    """The queue of a tenant's jobs. Procrastinate notifies a channel named after it; names end at 63 bytes."""
    return f"tenant:{tenant_id.hex}"


def subscription_lock(tenant_id: uuid.UUID, mailbox_id: int) -> str:
    """The lock under which a mailbox's subscription is made, renewed and ended; it touches no mail."""
    return f"subscription:{tenant_id}:{mailbox_id}"


MOVE_PRIORITY = 15
BACKFILL_PRIORITY = -20
"""Below everything else of the mailbox, so that fresh mail goes first."""


def mailbox_lock(tenant_id: uuid.UUID, mailbox_id: int) -> str:
    """The lock under which everything about one mailbox runs."""
    return f"mailbox:{tenant_id}:{mailbox_id}"


async def _defer_mailbox(
    session: AsyncSession,
    task: str,
    tenant_id: uuid.UUID,
    mailbox_id: int,
    lock: str,
    name: str,
    *,
    priority: int,
    at: datetime | None = None,
    **more: int | bool,
) -> bool:
    """Defer a job about one mailbox in its tenant's queue; ``name`` says which waiting jobs are equal."""
    return await defer(
        session,
        task,
        {"tenant_id": str(tenant_id), "mailbox_id": mailbox_id, **more},
        queue=tenant_queue(tenant_id),
        lock=lock,
        queueing_lock=f"{name}:{lock}",
        priority=priority,
        at=at,
    )


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
    deferred = await defer(
        session,
        SYNC,
        {"tenant_id": str(tenant_id), "mailbox_id": mailbox_id},
        queue=tenant_queue(tenant_id),
        lock=lock,
        queueing_lock=f"sync:{lock}",
        priority=NOTIFIED_PRIORITY if notified else 0,
        at=at,
    )
    if notified and not deferred:
        await session.execute(_BRING_FORWARD, {"name": f"sync:{lock}", "priority": NOTIFIED_PRIORITY})
    return deferred


_BRING_FORWARD = text("""
WITH sooner AS (
    UPDATE procrastinate_jobs SET scheduled_at = NULL, priority = greatest(priority, :priority)
    WHERE queueing_lock = :name AND status = 'todo' AND (scheduled_at > now() OR priority < :priority)
    RETURNING id
)
SELECT pg_notify('procrastinate_any_queue_v1', json_build_object('type', 'job_inserted', 'job_id', id)::text)
FROM sooner
""")
# What waits for its time (a next try) is done at once when the provider says that there is something new.

# Names of waiting jobs are given as values, not put together in the statement: so they are looked up in the index of
# waiting jobs, or found in one pass over it. As an expression each was compared with every job that waits: 4.5 ms for
# ten names beside five hundred jobs in place of 0.3.
# Names in here are qualified: a bare "id" below NOT EXISTS would be the waiting job's own.
_WAITING = """waiting AS MATERIALIZED (
    SELECT job.queueing_lock FROM procrastinate_jobs job
    WHERE job.status = 'todo' AND job.queueing_lock = ANY(%(names)s::text[])
)"""

_DEFER_SYNCS = f"""
WITH {_WAITING}
SELECT procrastinate_defer_jobs_v1(array_agg(
    ROW(%(queue)s::text, '{SYNC}', 0, due.lock, due.name,
        jsonb_build_object('tenant_id', %(tenant)s::text, 'mailbox_id', due.mailbox),
        NULL)::procrastinate_job_to_defer_v1
)) FROM unnest(%(ids)s::bigint[], %(locks)s::text[], %(names)s::text[]) AS due(mailbox, lock, name)
WHERE NOT EXISTS (SELECT 1 FROM waiting WHERE waiting.queueing_lock = due.name)
HAVING count(*) > 0
"""  # noqa: S608  # the only things filled in are constants of this module

_DEFER_NOTIFIED = f"""
WITH {_WAITING}, sooner AS (
    UPDATE procrastinate_jobs SET scheduled_at = NULL, priority = greatest(priority, {NOTIFIED_PRIORITY})
    WHERE queueing_lock = ANY(%(names)s::text[])
      AND status = 'todo' AND (scheduled_at > now() OR priority < {NOTIFIED_PRIORITY})
    RETURNING id
), made AS (
    SELECT procrastinate_defer_jobs_v1(array_agg(
        ROW(%(queue)s::text, '{SYNC}', {NOTIFIED_PRIORITY}, due.lock, due.name,
            jsonb_build_object('tenant_id', %(tenant)s::text, 'mailbox_id', due.mailbox),
            NULL)::procrastinate_job_to_defer_v1
    )) AS ids FROM unnest(%(ids)s::bigint[], %(locks)s::text[], %(names)s::text[]) AS due(mailbox, lock, name)
    WHERE NOT EXISTS (SELECT 1 FROM waiting WHERE waiting.queueing_lock = due.name)
    HAVING count(*) > 0
)
SELECT (SELECT count(*) FROM made),
       (SELECT count(pg_notify('procrastinate_any_queue_v1',
                               json_build_object('type', 'job_inserted', 'job_id', id)::text)) FROM sooner)
"""  # noqa: S608  # the only things filled in are constants of this module


def _looks(tenant_id: uuid.UUID, mailbox_ids: list[int]) -> dict[str, Any]:
    """Values of the statements above; their names are those of :func:`defer_sync`."""
    locks = [mailbox_lock(tenant_id, mailbox_id) for mailbox_id in mailbox_ids]
    return {
        "queue": tenant_queue(tenant_id),
        "tenant": str(tenant_id),
        "ids": mailbox_ids,
        "locks": locks,
        "names": [f"sync:{lock}" for lock in locks],
    }


def notified(tenant_id: uuid.UUID, mailbox_ids: list[int]) -> Statement:
    """Looks at mailboxes of which the provider says that something is new, those first that wait already.

    Where one of them is deferred at the same instant it fails with ``IntegrityError``, and can be run again.
    """
    return Statement(_DEFER_NOTIFIED, _looks(tenant_id, mailbox_ids))


_DEFER_SYNC_AT = f"""
SELECT procrastinate_defer_jobs_v1(ARRAY[ROW(
    %(queue)s::text, '{SYNC}', 0, %(lock)s::text, 'sync:' || %(lock)s::text,
    jsonb_build_object('tenant_id', %(tenant)s::text, 'mailbox_id', %(mailbox)s::bigint), %(at)s::timestamptz
)::procrastinate_job_to_defer_v1])
WHERE NOT EXISTS (
    SELECT 1 FROM procrastinate_jobs waiting
    WHERE waiting.queueing_lock = 'sync:' || %(lock)s::text AND waiting.status = 'todo'
)
"""  # noqa: S608  # the only thing filled in is a constant of this module


def looking_again(tenant_id: uuid.UUID, mailbox_id: int, at: datetime | None) -> Statement:
    """Looks at a mailbox at a time, unless such a job is waiting already.

    Where one is deferred at the same instant it fails with ``IntegrityError``, and can be run again.
    """
    values = {
        "queue": tenant_queue(tenant_id),
        "tenant": str(tenant_id),
        "lock": mailbox_lock(tenant_id, mailbox_id),
        "mailbox": mailbox_id,
        "at": at,
    }
    return Statement(_DEFER_SYNC_AT, values)


async def run_with_looks(db: Database, tenant_id: uuid.UUID, *statements: Statement) -> None:
    """Run statements of which some look at mailboxes; again where an equal job was deferred at the same instant.

    Raises:
        DBAPIError: One of them failed; nothing was changed.
    """
    for last in range(1, _TRIES + 1):
        try:
            await db.at_once(tenant_id, *statements)
            return
        except IntegrityError:
            if last == _TRIES:
                raise


_DEFER_SUBSCRIBES = f"""
WITH {_WAITING}
SELECT procrastinate_defer_jobs_v1(array_agg(
    ROW(%(queue)s::text, '{SUBSCRIBE}', -5, due.lock, due.name,
        jsonb_build_object('tenant_id', %(tenant)s::text, 'mailbox_id', due.mailbox),
        now() + due.after * interval '1 second')::procrastinate_job_to_defer_v1
)) FROM unnest(%(ids)s::bigint[], %(seconds)s::float8[], %(locks)s::text[], %(names)s::text[])
    AS due(mailbox, after, lock, name)
WHERE NOT EXISTS (SELECT 1 FROM waiting WHERE waiting.queueing_lock = due.name)
HAVING count(*) > 0
"""  # noqa: S608  # the only things filled in are constants of this module


async def defer_syncs(db: Database, tenant_id: uuid.UUID, mailbox_ids: list[int]) -> None:
    """Look at many mailboxes; those with a job waiting are left out."""
    for start in range(0, len(mailbox_ids), _BATCH):
        chunk = mailbox_ids[start : start + _BATCH]
        try:
            await db.at_once(tenant_id, Statement(_DEFER_SYNCS, _looks(tenant_id, chunk)))
        except IntegrityError:
            # One of them was deferred at the same instant: one by one, each coalesces by itself.
            for mailbox_id in chunk:
                async with db.tenant(tenant_id) as session:
                    await defer_sync(session, tenant_id, mailbox_id)


async def defer_subscribes(db: Database, tenant_id: uuid.UUID, due: list[tuple[int, float]]) -> None:
    """See to many mailboxes' subscriptions, each so many seconds from now; those with a job waiting are left out."""
    for start in range(0, len(due), _BATCH):
        chunk = due[start : start + _BATCH]
        values = {
            "queue": BY_THE_CLOCK,
            "tenant": str(tenant_id),
            "ids": [mailbox_id for mailbox_id, _ in chunk],
            "seconds": [seconds for _, seconds in chunk],
            "locks": [subscription_lock(tenant_id, mailbox_id) for mailbox_id, _ in chunk],
            "names": [f"{SUBSCRIBE}:{tenant_id}:{mailbox_id}" for mailbox_id, _ in chunk],
        }
        await db.at_once(tenant_id, Statement(_DEFER_SUBSCRIBES, values))


async def defer_switch(session: AsyncSession, tenant_id: uuid.UUID, mailbox_id: int, *, on: bool) -> bool:
    """Start (subscribe, then sync) or stop (unsubscribe) a mailbox."""
    task = START if on else STOP
    lock = subscription_lock(tenant_id, mailbox_id)
    return await _defer_mailbox(session, task, tenant_id, mailbox_id, lock, task, priority=NOTIFIED_PRIORITY)


async def defer_renew(session: AsyncSession, tenant_id: uuid.UUID, mailbox_id: int, *, anew: bool) -> bool:
    """Renew a mailbox's subscription, or make it ``anew`` where the provider removed it."""
    lock = subscription_lock(tenant_id, mailbox_id)
    return await _defer_mailbox(
        session, RENEW, tenant_id, mailbox_id, lock, f"renew:{anew}", priority=NOTIFIED_PRIORITY, anew=anew
    )


async def defer_restore(
    session: AsyncSession, tenant_id: uuid.UUID, mailbox_id: int, run_id: int, *, at: datetime | None = None
) -> bool:
    """Restore one mailbox's part of a run."""
    lock = mailbox_lock(tenant_id, mailbox_id)
    return await _defer_mailbox(
        session,
        RESTORE,
        tenant_id,
        mailbox_id,
        lock,
        f"restore:{run_id}",
        priority=RESTORE_PRIORITY if at is None else PUT_OFF_PRIORITY,
        at=at,
        run_id=run_id,
    )


async def defer_housekeeping(session: AsyncSession, tenant_id: uuid.UUID, what: str) -> bool:
    """Have one tenant's scheduled work done: ``poll``, ``renew``, ``probe`` or ``purge``."""
    return await defer(
        session,
        HOUSEKEEPING,
        {"tenant_id": str(tenant_id), "what": what},
        queue=BY_THE_CLOCK,
        queueing_lock=f"{what}:{tenant_id}",
        priority=-10,
    )


async def defer_backfill(
    session: AsyncSession, tenant_id: uuid.UUID, mailbox_id: int, run_id: int, *, at: datetime | None = None
) -> bool:
    """Go on with one mailbox's part of a backfill."""
    lock = mailbox_lock(tenant_id, mailbox_id)
    return await _defer_mailbox(
        session,
        BACKFILL,
        tenant_id,
        mailbox_id,
        lock,
        f"backfill:{run_id}",
        priority=BACKFILL_PRIORITY,
        at=at,
        run_id=run_id,
    )


async def defer_move(
    session: AsyncSession, tenant_id: uuid.UUID, mailbox_id: int, move_id: int, *, at: datetime | None = None
) -> bool:
    """Move a message to where it was asked to be moved, or back."""
    lock = mailbox_lock(tenant_id, mailbox_id)
    return await _defer_mailbox(
        session,
        MOVE,
        tenant_id,
        mailbox_id,
        lock,
        f"move:{move_id}",
        priority=MOVE_PRIORITY if at is None else PUT_OFF_PRIORITY,
        at=at,
        move_id=move_id,
    )


async def defer_drain(
    session: AsyncSession, tenant_id: uuid.UUID, mailbox_id: int, *, at: datetime | None = None
) -> bool:
    """Finish what is half written in a mailbox and end its subscription, because its tenant leaves."""
    lock = mailbox_lock(tenant_id, mailbox_id)
    return await _defer_mailbox(
        session,
        DRAIN,
        tenant_id,
        mailbox_id,
        lock,
        "drain",
        priority=RESTORE_PRIORITY if at is None else PUT_OFF_PRIORITY,
        at=at,
    )


async def defer_offboard(session: AsyncSession, tenant_id: uuid.UUID, *, at: datetime | None = None) -> bool:
    """Take the next step of a tenant's off-boarding."""
    lock = f"offboard:{tenant_id}"
    return await defer(
        session,
        OFFBOARD,
        {"tenant_id": str(tenant_id)},
        queue=tenant_queue(tenant_id),
        lock=lock,
        queueing_lock=lock,
        at=at,
    )


async def defer_turn(session: AsyncSession, tenant_id: uuid.UUID, *, at: datetime | None = None) -> bool:
    """Look for what has turned bad in a tenant's mail, and go on with what is to be done about it."""
    lock = f"turn:{tenant_id}"
    return await defer(
        session,
        TURN,
        {"tenant_id": str(tenant_id)},
        queue=BY_THE_CLOCK,
        lock=lock,
        # A step put off must not stand in the way of one that is wanted now.
        queueing_lock=lock if at is None else f"{lock}:later",
        priority=0 if at is None else PUT_OFF_PRIORITY,
        at=at,
    )


async def defer_alert(
    session: AsyncSession, tenant_id: uuid.UUID, incident_id: int, *, at: datetime | None = None
) -> bool:
    """Tell a tenant's webhook of an incident."""
    name = f"alert:{tenant_id}:{incident_id}"
    return await defer(
        session,
        ALERT,
        {"tenant_id": str(tenant_id), "incident_id": incident_id},
        queue=BY_THE_CLOCK,
        lock=name,
        queueing_lock=name,
        at=at,
    )


async def defer_mail(session: AsyncSession, tenant_id: uuid.UUID, *, at: datetime | None = None) -> bool:
    """Send a tenant's mails to administrators that are due."""
    lock = f"mail:{tenant_id}"
    return await defer(
        session,
        MAIL,
        {"tenant_id": str(tenant_id)},
        queue=BY_THE_CLOCK,
        lock=lock,
        # A try put off must not stand in the way of a mail that is wanted now.
        queueing_lock=lock if at is None else f"{lock}:later",
        at=at,
    )


async def defer_refresh(session: AsyncSession, tenant_id: uuid.UUID, *, at: datetime | None = None) -> bool:
    """Read a tenant's directory. Somebody may be waiting for it, so it goes before other work by the clock."""
    lock = f"refresh:{tenant_id}"
    return await defer(
        session,
        REFRESH,
        {"tenant_id": str(tenant_id)},
        queue=BY_THE_CLOCK,
        lock=lock,
        queueing_lock=lock,
        priority=0 if at is None else PUT_OFF_PRIORITY,
        at=at,
    )
