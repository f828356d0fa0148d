"""Copies of ours that stand beside another one: what is left of a write whose answer came too late.

A creation that got no answer is searched for before it is repeated, but it may take effect after that. Its copy carries
our marker, and is seen like new mail. It goes to the bin where the journal names another message as the one that stands
for the original, and only once that one was looked at and is in sight: never the only one that a person has.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import structlog
from sqlalchemy import select

from app.audit.models import AuditEntry
from app.audit.service import record
from app.protection import journal
from app.protection.models import MessageEvent, MessageRow
from app.protection.runtime import Runtime
from app.protection.states import MessageState
from app.protection.steps import record_step
from app.protection.work import MailboxWork
from app.tenants.actor import system_actor
from connectors.base.errors import MessageGone
from connectors.base.types import FetchedMessage, MessageRef, Trait

log = structlog.get_logger()

LATE = timedelta(days=1)
"""How long after a message was finished a copy of it may still be one that arrived late. What appears after that its
owner has made: by copying, or out of an archive."""

_REMOVED = "duplicate_removed"
_AUDITED = "message.duplicate_removed"
_ADOPTED = "copy_adopted"


async def settle_own_copy(runtime: Runtime, work: MailboxWork, message_id: int, found: FetchedMessage) -> None:
    """A message with our marker was seen that no journal row names: to the bin with it, or nothing.

    Args:
        runtime: The process.
        work: The mailbox.
        message_id: Under which it was journaled as new; that row goes.
        found: The copy.

    Raises:
        ConnectorError: The one that stands could not be looked at, or this one not be moved; it is tried again.
        JobTakenOver: Another worker has the job by now.
    """
    row = await _row_of(runtime, work, message_id, found)
    if row is not None:
        await _settle(runtime, work, row, found)
    await runtime.db.at_once(work.tenant_id, *journal.forgetting(work.tenant_id, message_id))


async def _row_of(runtime: Runtime, work: MailboxWork, message_id: int, found: FetchedMessage) -> MessageRow | None:
    """The journal of the message that this is a copy of, where the copy may be a late one."""
    if found.copy is None or Trait.TRASH in found.traits:
        return None
    async with runtime.db.tenant(work.tenant_id) as session:
        row = await session.scalar(
            select(MessageRow).where(
                MessageRow.mailbox_id == work.mailbox_id,
                MessageRow.external_id == found.copy.original_id,
                MessageRow.id != message_id,
            )
        )
    if row is None or (row.finished_at is not None and runtime.clock() - row.finished_at > LATE):
        return None
    return row


async def _settle(runtime: Runtime, work: MailboxWork, row: MessageRow, found: FetchedMessage) -> None:
    standing = row.step_new_id if row.step_new_id and row.step_kind == "protect" else row.current_id
    begun = row.state in (MessageState.SEEN, MessageState.WRITING)
    if standing == found.ref.id or (begun and standing == row.external_id):
        return  # the one that the journal names by now, or that the next try of the message finds by its marker
    other = await _in_sight(work, standing)
    if other is None:
        if row.state == MessageState.PROTECTED:
            # The one that stood for the message is gone: this is what its owner sees now, and what a restore is for.
            await runtime.db.at_once(
                work.tenant_id,
                journal.putting(work.tenant_id, row.id, current_id=found.ref.id, version=found.version),
                journal.tracing(work.tenant_id, row.id, (_ADOPTED, {"id": found.ref.id})),
            )
        return
    if found.copy is not None and other.copy is not None and found.copy.write and found.copy.write == other.copy.write:
        return  # not of another write of ours: its owner has duplicated the one that stands
    await _note(runtime, work, row, {"id": found.ref.id, "stands": standing})
    await work.connector.discard(found.ref)
    log.info("message.duplicate_removed", tenant=str(work.tenant_id), message=row.id)


async def _in_sight(work: MailboxWork, message_id: str) -> FetchedMessage | None:
    try:
        found = await work.connector.fetch(MessageRef(work.mailbox, message_id))
    except MessageGone:
        return None
    return None if Trait.TRASH in found.traits else found


async def _note(runtime: Runtime, work: MailboxWork, row: MessageRow, detail: dict[str, Any]) -> None:
    """Journal and audit it before it is done, each once, even where a kill came between; and only while the job is this
    worker's."""
    async with runtime.db.tenant(work.tenant_id) as session:
        known = await session.scalar(
            select(MessageEvent.id).where(
                MessageEvent.message_id == row.id,
                MessageEvent.kind == _REMOVED,
                MessageEvent.detail["id"].as_string() == detail["id"],
            )
        )
    if known is None:
        unchanged = {"external_id": row.external_id}
        await record_step(runtime.db, work.tenant_id, row.id, unchanged, (_REMOVED, detail))
    async with runtime.db.tenant(work.tenant_id) as session:
        told = await session.scalar(
            select(AuditEntry.id).where(
                AuditEntry.action == _AUDITED, AuditEntry.detail["id"].as_string() == detail["id"]
            )
        )
        if told is None:
            postern = system_actor(work.tenant_id, "Postern")
            await record(session, postern, _AUDITED, f"message {row.id}", detail)
