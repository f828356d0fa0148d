"""The journal of a message: its row, its trace and its links, each written before the next step begins."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, delete, func, insert, or_, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.db import tenant_of
from app.links.models import LinkPayload
from app.links.token import visible_host
from app.messages.types import BodyResult, RewrittenLink, TransformResult
from app.protection.models import MessageEvent, MessageLink, MessageRow
from app.protection.runtime import Runtime
from app.protection.states import RECONSIDERED, UNFINISHED, MessageState
from connectors.base.types import FetchedMessage, ReplaceState

MAX_STORED_LINKS = 2_000
_UNDO = "message-undo"
_LONGEST_REST_SECONDS = 300.0


def undo_scope(tenant_id: uuid.UUID, message_id: int) -> bytes:
    """What an undo record is bound to."""
    return tenant_id.bytes + message_id.to_bytes(8, "big")


def seal_undo(runtime: Runtime, tenant_id: uuid.UUID, message_id: int, undo: bytes) -> bytes:
    """Seal an undo record for one message of one tenant."""
    return runtime.keyring.seal(_UNDO, undo_scope(tenant_id, message_id), undo)


def open_undo(runtime: Runtime, row: MessageRow) -> bytes | None:
    """The undo record of a message, or None where it needed none."""
    if row.undo_sealed is None:
        return None
    return runtime.keyring.open(_UNDO, undo_scope(row.tenant_id, row.id), row.undo_sealed)


@dataclass(frozen=True, slots=True)
class Pending:
    """A journaled message that is to be brought to a final state.

    Attributes:
        id: Its number.
        external_id: The provider's id under which it was first seen.
        fresh: Whether it was journaled just now, so that nothing is known of it yet.
    """

    id: int
    external_id: str
    fresh: bool


async def register(session: AsyncSession, runtime: Runtime, mailbox_id: int, external_ids: list[str]) -> list[Pending]:
    """Journal a page of messages before the first of them is touched; gives those that are to be worked on.

    One statement finds what is known under any of its names (the original's id, the copy's), one adds the
    rest. A message is counted as tried before it is parsed, so that even one that kills the process is
    given up one day.
    """
    wanted = list(dict.fromkeys(external_ids))
    if not wanted:
        return []
    names = (MessageRow.external_id, MessageRow.current_id, MessageRow.step_new_id)
    known = await session.execute(
        select(MessageRow.id, MessageRow.state, MessageRow.reason, *names).where(
            MessageRow.mailbox_id == mailbox_id, or_(*(name.in_(wanted) for name in names))
        )
    )
    seen: set[str] = set()
    pending: list[Pending] = []
    for row in known:
        seen.update((row.external_id, row.current_id, row.step_new_id))
        moved = row.state == MessageState.SKIPPED and row.reason in RECONSIDERED
        if moved:
            await put(session, row.id, state=MessageState.SEEN.value, reason="", attempts=0)
        if moved or row.state in (MessageState.SEEN, MessageState.WRITING):
            pending.append(Pending(row.id, row.external_id, fresh=False))
    new = [external_id for external_id in wanted if external_id not in seen]
    if new:
        tenant_id, now = tenant_of(session), runtime.clock()
        added = await session.execute(
            insert(MessageRow).returning(MessageRow.id, MessageRow.external_id),
            [
                {
                    "tenant_id": tenant_id,
                    "mailbox_id": mailbox_id,
                    "external_id": external_id,
                    "current_id": external_id,
                    "state": MessageState.SEEN.value,
                    "attempts": 1,
                    "seen_at": now,
                }
                for external_id in new
            ],
        )
        fresh = [Pending(row.id, row.external_id, fresh=True) for row in added]
        await session.execute(
            insert(MessageEvent),
            [
                {"tenant_id": tenant_id, "message_id": message.id, "kind": "seen", "actor": "", "detail": {}}
                for message in fresh
            ],
        )
        pending += fresh
    return sorted(pending, key=lambda message: message.id)


async def forget(session: AsyncSession, message_id: int) -> None:
    """Take a message out of the journal that turned out not to concern us (our own copy; from before)."""
    tenant_id = tenant_of(session)
    await session.execute(
        delete(MessageEvent).where(MessageEvent.tenant_id == tenant_id, MessageEvent.message_id == message_id)
    )
    await session.execute(delete(MessageRow).where(*_this(session, message_id)))


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A message that an earlier try left half way.

    Attributes:
        id: Its number.
        external_id: The provider's id under which it was first seen.
        state: How far it came.
        due: When it may be tried again; None: at once.
    """

    id: int
    external_id: str
    state: str
    due: datetime | None


async def half_written(session: AsyncSession, mailbox_id: int) -> list[Pending]:
    """Messages whose writing was begun: a copy may stand beside its original."""
    rows = await session.execute(
        select(MessageRow.id, MessageRow.external_id)
        .where(MessageRow.mailbox_id == mailbox_id, MessageRow.state == MessageState.WRITING.value)
        .order_by(MessageRow.id)
    )
    return [Pending(row.id, row.external_id, fresh=False) for row in rows]


async def unfinished(session: AsyncSession, mailbox_id: int) -> list[Unfinished]:
    """Messages that an earlier try left half way, oldest first.

    One that failed is tried again after a while that doubles with each try; one whose worker died, at once.
    """
    last_retry = func.max(MessageEvent.at).label("last_retry")
    failures = func.count(MessageEvent.id).label("failures")
    rows = await session.execute(
        select(MessageRow.id, MessageRow.external_id, MessageRow.state, failures, last_retry)
        .outerjoin(
            MessageEvent,
            (MessageEvent.tenant_id == MessageRow.tenant_id)
            & (MessageEvent.message_id == MessageRow.id)
            & (MessageEvent.kind == "retry"),
        )
        .where(MessageRow.mailbox_id == mailbox_id, MessageRow.state.in_([s.value for s in UNFINISHED]))
        .group_by(MessageRow.tenant_id, MessageRow.id)
        .order_by(MessageRow.id)
    )
    return [
        Unfinished(
            row.id,
            row.external_id,
            row.state,
            None if row.last_retry is None else row.last_retry + retry_delay(row.failures),
        )
        for row in rows
    ]


def retry_delay(failures: int) -> timedelta:
    """How long a message rests after so many failed tries: 2 s, 4 s, ... up to five minutes."""
    return timedelta(seconds=min(2.0 ** min(max(failures, 1), 10), _LONGEST_REST_SECONDS))


def add_event(session: AsyncSession, row: MessageRow, kind: str, actor: str = "", **detail: Any) -> None:
    """One line of the message's trace."""
    session.add(MessageEvent(tenant_id=row.tenant_id, message_id=row.id, kind=kind, actor=actor, detail=detail))


def described(fetched: FetchedMessage) -> dict[str, Any]:
    """What the journal keeps of a message's metadata, as column values."""
    return {
        "subject": storable(fetched.subject)[:1000],
        "sender": storable(fetched.sender)[:320],
        "internet_message_id": storable(fetched.internet_message_id)[:1000],
        "received_at": fetched.received_at,
        "version": fetched.version,
    }


NO_STEP: dict[str, Any] = {"step": "", "step_new_id": "", "step_version": "", "step_kind": ""}
"""Column values of a finished or abandoned replacement."""


async def put(session: AsyncSession, message_id: int, **values: Any) -> None:
    """Set columns of a message."""
    await session.execute(update(MessageRow).where(*_this(session, message_id)).values(**values))


async def add_events(session: AsyncSession, message_id: int, *events: tuple[str, dict[str, Any]]) -> None:
    """Lines of the message's trace, in order."""
    tenant_id = tenant_of(session)
    await session.execute(
        insert(MessageEvent),
        [
            {"tenant_id": tenant_id, "message_id": message_id, "kind": kind, "actor": "", "detail": detail}
            for kind, detail in events
        ],
    )


def _this(session: AsyncSession, message_id: int) -> tuple[ColumnElement[bool], ...]:
    return (MessageRow.tenant_id == tenant_of(session), MessageRow.id == message_id)


async def finish(
    session: AsyncSession,
    runtime: Runtime,
    message_id: int,
    state: MessageState,
    reason: str,
    values: dict[str, Any],
    events: tuple[tuple[str, dict[str, Any]], ...] = (),
) -> None:
    """Put a message into a final state, with further column values and lines of its trace before the last."""
    final = {"state": state.value, "reason": reason, "finished_at": runtime.clock()}
    await put(session, message_id, **NO_STEP, **values, **final)
    detail = {"reason": reason} if reason else {}
    await add_events(session, message_id, *events, (state.value, detail))


def step_values(kind: str, step: ReplaceState) -> dict[str, Any]:
    """Column values of a step that has taken effect at the provider."""
    return {
        "step": step.step.value,
        "step_new_id": step.new_id,
        "step_version": step.version,
        "step_kind": kind,
    }


def step_event(kind: str, step: ReplaceState) -> tuple[str, dict[str, Any]]:
    """The step's line in the trace."""
    return step.step.value, {"journey": kind, "id": step.new_id}


def clear_step(row: MessageRow) -> None:
    """Forget the steps of a finished or abandoned replacement."""
    row.step = row.step_new_id = row.step_version = row.step_kind = ""


async def store_links(
    session: AsyncSession, message_id: int, result: TransformResult | BodyResult, payloads: dict[bytes, bytes]
) -> dict[str, Any]:
    """Store what was found in a message: its links, and payloads of long ones.

    Returns:
        Column values for the message itself: how many were rewritten, what was not covered.
    """
    tenant_id = tenant_of(session)
    rows = [
        _link_row(tenant_id, message_id, ordinal, link) for ordinal, link in enumerate(result.links[:MAX_STORED_LINKS])
    ]
    if rows:
        # A later try finds the same links again: the first account of them stays.
        await session.execute(upsert(MessageLink).on_conflict_do_nothing(), rows)
    if payloads:
        await session.execute(
            upsert(LinkPayload).on_conflict_do_nothing(),
            [{"tenant_id": tenant_id, "digest": digest, "sealed": sealed} for digest, sealed in payloads.items()],
        )
    return {
        "links": sum(1 for link in result.links if link.gateway_url is not None),
        "warnings": [
            {"code": warning.code, "part": storable(warning.part), "message": storable(warning.message)}
            for warning in result.warnings
        ],
    }


def storable(text: str) -> str:
    """Text as PostgreSQL takes it, in JSON too: without NUL, and "?" for half a surrogate pair (UTF-7 spells those).

    A message whose record the database refuses could not be protected.
    """
    return text.replace("\x00", "").encode("utf-8", "replace").decode()


def _link_row(tenant_id: uuid.UUID, message_id: int, ordinal: int, rewritten: RewrittenLink) -> dict[str, Any]:
    link = rewritten.link
    url = storable(link.inner_url or link.url)
    return {
        "tenant_id": tenant_id,
        "message_id": message_id,
        "ordinal": ordinal,
        "url": url,
        "host": visible_host(url),
        "kind": str(link.kind),
        "part": storable(link.part),
        "text": storable(link.text),
        "action": str(rewritten.action),
        "findings": [
            {
                "code": finding.code,
                "where": storable(finding.where),
                "message": storable(finding.message),
                "evidence": {key: storable(str(value)) for key, value in finding.evidence.items()},
            }
            for finding in link.findings
        ],
    }
