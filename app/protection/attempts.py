"""Ending a try at a message: done, to be tried again, or given up."""

from __future__ import annotations

from typing import Any

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.at_once import Statement
from app.kit.db import tenant_of
from app.kit.errors import NotFound
from app.protection import journal
from app.protection.models import MessageRow
from app.protection.runtime import Runtime
from app.protection.states import MAX_ATTEMPTS, MAX_TRANSIENT_ATTEMPTS, MessageState
from app.protection.work import MailboxWork
from connectors.base.errors import Throttled, Transient

log = structlog.get_logger()


async def load_row(session: AsyncSession, message_id: int) -> MessageRow:
    """A message of the unit of work's tenant.

    Raises:
        NotFound: There is none.
    """
    row = await session.get(MessageRow, (tenant_of(session), message_id))
    if row is None:
        raise NotFound(f"message {message_id} is not in the journal")
    return row


async def finish(
    runtime: Runtime,
    work: MailboxWork,
    message_id: int,
    state: MessageState,
    reason: str,
    values: dict[str, Any] | None = None,
    before: tuple[Statement, ...] = (),
) -> None:
    """Journal how a message ended, with what belongs to it, in one transaction."""
    await runtime.db.at_once(
        work.tenant_id,
        *before,
        journal.finishing(work.tenant_id, message_id, runtime.clock(), state, reason, values or {}),
    )


async def given_up_after_transient(runtime: Runtime, work: MailboxWork, message_id: int, error: Transient) -> bool:
    """Count a try that the provider did not answer, unless it asked to wait; whether that was the last."""
    detail = f"{type(error).__name__}: {error}"[:500]
    if isinstance(error, Throttled):
        async with runtime.db.tenant(work.tenant_id) as session:
            row = await load_row(session, message_id)
            row.attempts -= 1
        return False
    return await _failed(runtime, work, message_id, detail, MAX_TRANSIENT_ATTEMPTS)


async def failed_attempt(runtime: Runtime, work: MailboxWork, message_id: int, error: Exception) -> None:
    """Count a failure; after several, leave the message as it is and say so."""
    log.warning("message.attempt_failed", tenant=str(work.tenant_id), message=message_id, kind=type(error).__name__)
    detail = f"{type(error).__name__}: {error}"[:500]
    if not await _failed(runtime, work, message_id, detail, MAX_ATTEMPTS):
        raise MessageNotDone(message_id, detail) from error


async def _failed(runtime: Runtime, work: MailboxWork, message_id: int, detail: str, most: int) -> bool:
    """Note a failed try in the trace, or give up after so many; whether that is so."""
    async with runtime.db.tenant(work.tenant_id) as session:
        attempts = (await load_row(session, message_id)).attempts
    if attempts >= most:
        await finish(runtime, work, message_id, MessageState.FAILED, detail)
        return True
    event = ("retry", {"error": detail, "attempt": attempts})
    await runtime.db.at_once(work.tenant_id, journal.tracing(work.tenant_id, message_id, event))
    return False


class MessageNotDone(Transient):
    """This message needs another try; the mailbox waits for it, but not for ever.

    Args:
        message_id: Which.
        detail: Why.
    """

    def __init__(self, message_id: int, detail: str) -> None:
        super().__init__(f"Message {message_id} is not done yet: {detail}")
        self.message_id = message_id
