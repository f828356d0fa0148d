"""Trying failed messages again because an administrator asked for it."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.audit.service import record
from app.kit.errors import Conflict, NotFound
from app.protection import journal
from app.protection.models import MessageRow
from app.protection.queue import defer_sync
from app.protection.states import MessageState
from app.tenants.actor import Actor, Permission

AT_ONCE = 1_000
"""Messages that one request puts back at most; asking again takes the next."""


async def retry_failed(session: AsyncSession, actor: Actor, message_id: int | None = None) -> int:
    """Put failed messages back, so that the next look at their mailboxes tries them again.

    Args:
        session: The unit of work.
        actor: Who asks.
        message_id: Only this one; by default all that failed.

    Returns:
        How many were put back.

    Raises:
        Forbidden: The role does not configure.
        NotFound: There is no such message.
        Conflict: The message has not failed.
    """
    actor.require(Permission.CONFIGURE)
    query = select(MessageRow).where(MessageRow.state == MessageState.FAILED.value).with_for_update()
    if message_id is not None:
        row = await session.get(MessageRow, (actor.tenant_id, message_id))
        if row is None:
            raise NotFound(f"There is no message {message_id}.")
        if row.state != MessageState.FAILED:
            raise Conflict("This message has not failed, or not any more. Nothing was changed.")
        query = query.where(MessageRow.id == message_id)
    rows = list(await session.scalars(query.order_by(MessageRow.id).limit(AT_ONCE)))
    for row in rows:
        journal.add_event(session, row, "retry", actor.label, error=row.reason)
        row.state, row.reason, row.attempts, row.finished_at = MessageState.SEEN.value, "", 0, None
    await session.flush()
    for mailbox_id in sorted({row.mailbox_id for row in rows}):
        await defer_sync(session, actor.tenant_id, mailbox_id, notified=True)
    if rows:
        target = f"message {message_id}" if message_id is not None else f"{len(rows)} messages"
        await record(session, actor, "message.retried", target)
    return len(rows)
