"""Moving messages to quarantine or junk, and releasing them with all labels, folder and read state (L11).

The way back is asked of the provider and stored sealed before the move, so a crash between the move and its
record loses neither the message nor where it was: the next try finds the record, moves (which does nothing where
the message is there already) and keeps the way back it had. Jobs run under the mailbox's lock.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import structlog
from sqlalchemy import Select, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.audit.service import record
from app.kit.db import tenant_of
from app.kit.errors import Conflict, NotFound, Refused
from app.protection import journal
from app.protection.attempts import load_row
from app.protection.models import MailboxRow, MessageMove, MessageRow
from app.protection.queue import defer_move, defer_sync
from app.protection.reach import any_work
from app.protection.runtime import Runtime
from app.protection.states import MAX_ATTEMPTS, MessageState
from app.protection.work import STOPS_THE_MAILBOX
from app.tenants.actor import Actor, Permission
from connectors.base.errors import ConnectorError, MessageGone, Throttled, Transient
from connectors.base.protocol import MailboxConnector
from connectors.base.types import MessageRef, Place

log = structlog.get_logger()

PLACES = (Place.QUARANTINE, Place.JUNK)
LIVE = ("asked", "moving", "moved", "releasing")
UNDER_WAY = ("asked", "moving", "releasing")
MAX_WHY = 300

_UNDO = "message-move"
_BACKOFF_FIRST = 2.0
_BACKOFF_CAP = 300.0
_STANDING_SECONDS = 300.0
_SETTLE_SECONDS = 2.0
_EVENTS = {Place.QUARANTINE.value: "quarantined", Place.JUNK.value: "junked"}


@dataclass(frozen=True, slots=True)
class MoveLine:
    """A move as listed, with what it moved."""

    move: MessageMove
    subject: str
    sender: str
    recipient: str


def _undo_scope(tenant_id: uuid.UUID, move_id: int) -> bytes:
    return tenant_id.bytes + move_id.to_bytes(8, "big")


async def request_move(session: AsyncSession, actor: Actor, message_id: int, place: Place, why: str = "") -> int:
    """Ask for a message to be moved to quarantine or junk.

    Args:
        session: The unit of work.
        actor: Who asks.
        message_id: A message of the journal, whatever was done with it.
        place: Where to.
        why: Kept with it and shown to administrators.

    Returns:
        The move's number.

    Raises:
        Forbidden: The role may not act on messages.
        NotFound: There is no such message.
        Refused: Messages are not moved to that place.
        Conflict: Its owner deleted it, or it is moved already.
    """
    actor.require(Permission.RESTORE)
    if place not in PLACES:
        raise Refused("A message is moved to quarantine or junk; nothing was moved.", "move_place")
    row = await session.get(MessageRow, (actor.tenant_id, message_id), with_for_update=True)
    if row is None:
        raise NotFound(f"There is no message {message_id}.")
    if row.state == MessageState.GONE:
        raise Conflict("Its owner has deleted this message. Nothing was moved.")
    if await live_move(session, message_id) is not None:
        raise Conflict("This message has been moved already. Release it first. Nothing was moved.")
    move = MessageMove(
        tenant_id=actor.tenant_id,
        message_id=message_id,
        mailbox_id=row.mailbox_id,
        place=place.value,
        why=why.strip()[:MAX_WHY],
        requested_by=actor.label,
    )
    session.add(move)
    await session.flush()
    await defer_move(session, actor.tenant_id, row.mailbox_id, move.id)
    detail = {"move": move.id, "place": place.value, "why": move.why}
    await record(session, actor, "message.move_requested", f"message {message_id}", detail)
    return move.id


async def request_release(session: AsyncSession, actor: Actor, move_id: int) -> int:
    """Ask for a moved message to be put back where it was.

    Returns:
        The message's number.

    Raises:
        Forbidden: The role may not act on messages.
        NotFound: There is no such move.
        Conflict: The message is not there: still being moved, or released already.
    """
    actor.require(Permission.RESTORE)
    move = await session.get(MessageMove, (actor.tenant_id, move_id), with_for_update=True)
    if move is None:
        raise NotFound(f"There is no moved message {move_id}.")
    if move.state != "moved":
        raise Conflict("This message is not waiting for its release any more, or not yet. Nothing was changed.")
    await _release_later(session, move, actor.label)
    await record(session, actor, "message.release_requested", f"message {move.message_id}", {"move": move.id})
    return move.message_id


async def _release_later(session: AsyncSession, move: MessageMove, by: str) -> None:
    move.state, move.released_by, move.failures, move.error = "releasing", by, 0, ""
    await session.flush()
    await defer_move(session, move.tenant_id, move.mailbox_id, move.id)


async def release_all(session: AsyncSession, by: str) -> int:
    """Begin to put back every message in quarantine; those in junk stay where their owners see them.

    Returns:
        How many are still not back, whether just begun or under way.
    """
    quarantine = MessageMove.place == Place.QUARANTINE.value
    moved = select(MessageMove).where(quarantine, MessageMove.state == "moved").with_for_update()
    for move in list(await session.scalars(moved)):
        await _release_later(session, move, by)
    rest = select(func.count()).select_from(MessageMove).where(quarantine, MessageMove.state.in_(UNDER_WAY))
    return await session.scalar(rest) or 0


async def live_move(session: AsyncSession, message_id: int) -> MessageMove | None:
    """The move of a message that is under way or waits for its release."""
    found: MessageMove | None = await session.scalar(
        select(MessageMove).where(MessageMove.message_id == message_id, MessageMove.state.in_(LIVE))
    )
    return found


def _listed(actor: Actor) -> Select[MessageMove, str, str, str]:
    of_message = (MessageRow.tenant_id == MessageMove.tenant_id) & (MessageRow.id == MessageMove.message_id)
    of_mailbox = (MailboxRow.tenant_id == MessageMove.tenant_id) & (MailboxRow.id == MessageMove.mailbox_id)
    return (
        select(MessageMove, MessageRow.subject, MessageRow.sender, MailboxRow.address)
        .join(MessageRow, of_message)
        .join(MailboxRow, of_mailbox)
        .where(MessageMove.tenant_id == actor.tenant_id)
    )


async def list_moves(
    session: AsyncSession, actor: Actor, *, place: str = "", ended: bool = False, limit: int = 50, offset: int = 0
) -> Sequence[MoveLine]:
    """Moved messages, latest first.

    Args:
        session: The unit of work.
        actor: Who looks.
        place: ``quarantine``, ``junk``, or empty for both.
        ended: Those released, deleted by their owner or failed, instead of those that are there.
        limit: At most so many.
        offset: Leave out so many first.

    Raises:
        Forbidden: The role does not see the tenant.
    """
    actor.require(Permission.VIEW_TENANT)
    state = MessageMove.state.not_in(LIVE) if ended else MessageMove.state.in_(LIVE)
    query = _listed(actor).where(state).order_by(MessageMove.id.desc()).limit(limit).offset(offset)
    if place:
        query = query.where(MessageMove.place == place)
    return [MoveLine(*row) for row in await session.execute(query)]


async def run_move(runtime: Runtime, tenant_id: uuid.UUID, mailbox_id: int, move_id: int) -> None:
    """Bring a move, or a release, to its end. Runs under the mailbox's lock; safe to repeat at any point."""
    work = await any_work(runtime, tenant_id, mailbox_id)
    if work is None:
        return
    async with runtime.db.tenant(tenant_id) as session:
        move = await session.get(MessageMove, (tenant_id, move_id))
        if move is None or move.state not in UNDER_WAY:
            return
        row = await load_row(session, move.message_id)
        if row.state in (MessageState.WRITING, MessageState.RESTORING):
            # Half written: that comes to its end first.
            await defer_sync(session, tenant_id, mailbox_id)
            at = runtime.clock() + timedelta(seconds=_SETTLE_SECONDS)
            await defer_move(session, tenant_id, mailbox_id, move_id, at=at)
            return
    ref = MessageRef(work.mailbox, row.current_id)
    try:
        if move.state == "releasing":
            await _release(runtime, work.connector, move, ref)
        else:
            await _move(runtime, work.connector, move, ref)
    except MessageGone:
        await _end(runtime, move, "gone", "move_gone", "deleted")
    except STOPS_THE_MAILBOX as error:
        standing = not isinstance(error, Transient)
        delay = error.retry_after if isinstance(error, Throttled) else _delay(move.failures)
        await _again(runtime, move, _STANDING_SECONDS if standing else delay, str(error))
    except (ConnectorError, ValueError) as error:
        log.warning("move.failed", tenant=str(tenant_id), move=move_id, kind=type(error).__name__)
        if move.failures + 1 < MAX_ATTEMPTS:
            await _again(runtime, move, _delay(move.failures), str(error))
        else:
            await _end(runtime, move, "failed", "move_failed", str(error))


def _delay(failures: int) -> float:
    return min(_BACKOFF_FIRST * float(2 ** min(failures, 10)), _BACKOFF_CAP)


async def _move(runtime: Runtime, connector: MailboxConnector, move: MessageMove, ref: MessageRef) -> None:
    if move.undo_sealed is None:
        way_back = (await connector.way_back(ref)).encode()
        sealed = runtime.keyring.seal(_UNDO, _undo_scope(move.tenant_id, move.id), way_back)
        async with runtime.db.tenant(move.tenant_id) as session:
            stored = await _load(session, move.id)
            stored.undo_sealed, stored.state = sealed, "moving"
    moved = await connector.move(ref, Place(move.place))
    async with runtime.db.tenant(move.tenant_id) as session:
        stored = await _load(session, move.id)
        row = await load_row(session, move.message_id)
        row.current_id = moved.ref.id
        stored.state, stored.moved_at, stored.error, stored.failures = "moved", runtime.clock(), "", 0
        journal.add_event(session, row, _EVENTS[move.place], move.requested_by, reason=move.why)


async def _release(runtime: Runtime, connector: MailboxConnector, move: MessageMove, ref: MessageRef) -> None:
    if move.undo_sealed is None:
        raise ValueError("the way back of this move is not known")
    way_back = runtime.keyring.open(_UNDO, _undo_scope(move.tenant_id, move.id), move.undo_sealed)
    back = await connector.move_back(ref, way_back.decode())
    async with runtime.db.tenant(move.tenant_id) as session:
        stored = await _load(session, move.id)
        row = await load_row(session, move.message_id)
        row.current_id = back.id
        stored.state, stored.released_at, stored.error = "released", runtime.clock(), ""
        stored.undo_sealed = None
        journal.add_event(session, row, "released", move.released_by, place=move.place)


async def _end(runtime: Runtime, move: MessageMove, state: str, event: str, reason: str) -> None:
    async with runtime.db.tenant(move.tenant_id) as session:
        stored = await _load(session, move.id)
        row = await load_row(session, move.message_id)
        stored.state, stored.error = state, reason[:500]
        journal.add_event(session, row, event, move.released_by or move.requested_by, reason=reason[:500])


async def _again(runtime: Runtime, move: MessageMove, seconds: float, error: str) -> None:
    async with runtime.db.tenant(move.tenant_id) as session:
        stored = await _load(session, move.id)
        stored.failures, stored.error = stored.failures + 1, error[:500]
        at = runtime.clock() + timedelta(seconds=seconds)
        await defer_move(session, move.tenant_id, move.mailbox_id, move.id, at=at)


async def _load(session: AsyncSession, move_id: int) -> MessageMove:
    return await session.get_one(MessageMove, (tenant_of(session), move_id))


async def take_up_moves(runtime: Runtime, tenant_id: uuid.UUID) -> None:
    """Defer every move under way: a job that was lost is found again."""
    async with runtime.db.tenant(tenant_id) as session:
        moves = await session.scalars(select(MessageMove).where(MessageMove.state.in_(UNDER_WAY)))
        for move in list(moves):
            await defer_move(session, tenant_id, move.mailbox_id, move.id)
