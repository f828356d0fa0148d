"""The journal of a message: its row, its trace and its links, each written before the next step begins."""

from __future__ import annotations

import uuid
from typing import Any

from sqlalchemy import or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.links.models import LinkPayload
from app.links.token import visible_host
from app.messages.types import BodyResult, RewrittenLink, TransformResult
from app.protection.models import MessageEvent, MessageLink, MessageRow
from app.protection.runtime import Runtime
from app.protection.states import UNFINISHED, MessageState
from connectors.base.types import FetchedMessage, ReplaceState

MAX_STORED_LINKS = 2_000
_UNDO = "message-undo"


def undo_scope(tenant_id: uuid.UUID, message_id: int) -> bytes:
    """What an undo record is bound to."""
    return tenant_id.bytes + message_id.to_bytes(8, "big")


def seal_undo(runtime: Runtime, row: MessageRow, undo: bytes) -> bytes:
    """Seal an undo record for one message of one tenant."""
    return runtime.keyring.seal(_UNDO, undo_scope(row.tenant_id, row.id), undo)


def open_undo(runtime: Runtime, row: MessageRow) -> bytes | None:
    """The undo record of a message, or None where it needed none."""
    if row.undo_sealed is None:
        return None
    return runtime.keyring.open(_UNDO, undo_scope(row.tenant_id, row.id), row.undo_sealed)


async def find(session: AsyncSession, mailbox_id: int, external_id: str) -> MessageRow | None:
    """The journal row that knows this provider id, under whichever of its names."""
    rows = await session.scalars(
        select(MessageRow)
        .where(
            MessageRow.mailbox_id == mailbox_id,
            or_(
                MessageRow.external_id == external_id,
                MessageRow.current_id == external_id,
                MessageRow.step_new_id == external_id,
            ),
        )
        .order_by(MessageRow.id)
        .limit(1)
    )
    return rows.first()


async def unfinished(session: AsyncSession, mailbox_id: int) -> list[tuple[int, str]]:
    """Messages that an earlier try left half way, oldest first: id and state."""
    rows = await session.execute(
        select(MessageRow.id, MessageRow.state)
        .where(MessageRow.mailbox_id == mailbox_id, MessageRow.state.in_([s.value for s in UNFINISHED]))
        .order_by(MessageRow.id)
    )
    return [(row.id, row.state) for row in rows]


def add_event(session: AsyncSession, row: MessageRow, kind: str, actor: str = "", **detail: Any) -> None:
    """One line of the message's trace."""
    session.add(
        MessageEvent(tenant_id=row.tenant_id, message_id=row.id, kind=kind, actor=actor, detail=detail)
    )


async def create(
    session: AsyncSession, runtime: Runtime, tenant_id: uuid.UUID, mailbox_id: int, fetched: FetchedMessage
) -> MessageRow:
    """A new row for a message that was just read."""
    row = MessageRow(
        tenant_id=tenant_id,
        mailbox_id=mailbox_id,
        external_id=fetched.ref.id,
        current_id=fetched.ref.id,
        state=MessageState.SEEN.value,
        subject=fetched.subject.replace("\x00", "")[:1000],
        sender=fetched.sender.replace("\x00", "")[:320],
        internet_message_id=fetched.internet_message_id.replace("\x00", "")[:1000],
        received_at=fetched.received_at,
        version=fetched.version,
        seen_at=runtime.clock(),
    )
    session.add(row)
    await session.flush()
    add_event(session, row, "seen")
    return row


def finish(session: AsyncSession, runtime: Runtime, row: MessageRow, state: MessageState, reason: str = "") -> None:
    """Put a message into a final state."""
    row.state = state.value
    row.reason = reason
    row.finished_at = runtime.clock()
    detail = {"reason": reason} if reason else {}
    add_event(session, row, state.value, **detail)


def record_step(session: AsyncSession, row: MessageRow, kind: str, step: ReplaceState) -> None:
    """Journal a step that has taken effect at the provider."""
    row.step = step.step.value
    row.step_new_id = step.new_id
    row.step_version = step.version
    row.step_kind = kind
    add_event(session, row, step.step.value, journey=kind, id=step.new_id)


def clear_step(row: MessageRow) -> None:
    """Forget the steps of a finished or abandoned replacement."""
    row.step = row.step_new_id = row.step_version = row.step_kind = ""


async def store_links(
    session: AsyncSession,
    row: MessageRow,
    result: TransformResult | BodyResult,
    payloads: dict[bytes, bytes],
) -> None:
    """Store what was found in a message: its links, what was not covered, and payloads of long links."""
    existing = await session.scalar(select(MessageLink.ordinal).where(MessageLink.message_id == row.id).limit(1))
    if existing is None:
        for ordinal, link in enumerate(result.links[:MAX_STORED_LINKS]):
            session.add(_link_row(row, ordinal, link))
    row.links = sum(1 for link in result.links if link.gateway_url is not None)
    row.warnings = [
        {"code": warning.code, "part": warning.part, "message": warning.message} for warning in result.warnings
    ]
    for digest, sealed in payloads.items():
        key = (row.tenant_id, digest)
        if await session.get(LinkPayload, key) is None:
            session.add(LinkPayload(tenant_id=row.tenant_id, digest=digest, sealed=sealed))


def _link_row(row: MessageRow, ordinal: int, rewritten: RewrittenLink) -> MessageLink:
    link = rewritten.link
    url = (link.inner_url or link.url).replace("\x00", "")
    return MessageLink(
        tenant_id=row.tenant_id,
        message_id=row.id,
        ordinal=ordinal,
        url=url.encode("utf-8", "replace").decode(),
        host=visible_host(url),
        kind=str(link.kind),
        part=link.part,
        text=link.text.replace("\x00", "").encode("utf-8", "replace").decode(),
        action=str(rewritten.action),
        findings=[
            {
                "code": finding.code,
                "where": finding.where,
                "message": finding.message.replace("\x00", ""),
                "evidence": {key: str(value).replace("\x00", "") for key, value in finding.evidence.items()},
            }
            for finding in link.findings
        ],
    )
