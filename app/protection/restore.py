"""Giving back original links: of one message, and of all messages a request names.

A link's token carries the bytes it replaced, so nothing but the keys is needed; where the transformer said
that it is not enough (an undo record), the record is kept sealed in the message's journal.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import Exists, Select, exists, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.messages import restore, restore_body
from app.messages.types import RestoreBodyResult, RestoreResult
from app.messages.undo_attached import KeptFile
from app.protection import journal
from app.protection.attempts import load_row
from app.protection.batch import Turn
from app.protection.content import content_hash, rebuilt
from app.protection.models import MailboxRow, MessageEvent, MessageRow, RestoreRun
from app.protection.payloads import OpenLink, with_opener
from app.protection.queue import defer_restore
from app.protection.runtime import Runtime
from app.protection.states import MAX_TRANSIENT_ATTEMPTS, MessageState
from app.protection.steps import StepRecorder, resume_state
from app.protection.swapping import put_back
from app.protection.work import STOPS_THE_MAILBOX, MailboxWork
from connectors.base.errors import ConnectorError, MessageGone, Unavailable, VersionConflict
from connectors.base.types import MessageRef, MimeContent, Replacement, ReplaceStep

BATCH = 50
_ASIDE_SECONDS = 10.0
_AGAIN = "restore_retry"
_VERSION_TRIES = 3


@dataclass(frozen=True, slots=True)
class Restored:
    """What became of one message: ``restored``, ``failed`` or ``gone``, and why."""

    outcome: str
    reason: str = ""


async def restore_message(runtime: Runtime, work: MailboxWork, message_id: int, actor: str) -> Restored:
    """Give one message its original links back. Runs under the mailbox's lock.

    Raises:
        ConnectorError: Transient ones and those that concern the mailbox or the tenant.
    """
    for attempt in range(_VERSION_TRIES):
        try:
            return await _attempt(runtime, work, message_id, actor)
        except MessageGone:
            return await _end(runtime, work, message_id, MessageState.GONE, Restored("gone", "deleted"), actor)
        except VersionConflict as error:
            if attempt == _VERSION_TRIES - 1:
                return await _end(
                    runtime, work, message_id, MessageState.PROTECTED, Restored("failed", str(error)), actor
                )
    raise AssertionError("unreachable")


async def resume_restore(runtime: Runtime, work: MailboxWork, message_id: int) -> None:
    """Finish a restore that was left half way.

    Raises:
        ConnectorError: As :func:`restore_message`, but for what concerns this message alone: it stays protected.
    """
    try:
        await restore_message(runtime, work, message_id, "Postern")
    except STOPS_THE_MAILBOX:
        raise
    except ConnectorError as error:
        await _end(runtime, work, message_id, MessageState.PROTECTED, Restored("failed", str(error)), "Postern")


async def _attempt(runtime: Runtime, work: MailboxWork, message_id: int, actor: str) -> Restored:
    async with runtime.db.tenant(work.tenant_id) as session:
        row = await load_row(session, message_id)
        if row.state == MessageState.RESTORED:
            return Restored("restored")
        if row.state not in (MessageState.PROTECTED, MessageState.RESTORING):
            return Restored("failed", f"the message is {row.state}")
        row.state = MessageState.RESTORING.value
        undo, kept = journal.open_undo(runtime, row), journal.open_kept(runtime, row)
    source = row.current_id
    if row.step_kind == "restore" and row.step in (ReplaceStep.VERIFIED.value, ReplaceStep.REMOVED.value):
        gone = await _is_gone(work, source)
        if gone and row.step_new_id != source:
            return await _restored(runtime, work, message_id, row.step_new_id, "", actor, exact=None, kept=kept)
    fetched = await work.connector.fetch(MessageRef(work.mailbox, source))
    content = fetched.content

    async def taken_back(opener: OpenLink) -> RestoreResult | RestoreBodyResult:
        if isinstance(content, MimeContent):
            return restore(content.raw, opener, undo)
        return restore_body(content.content, content.is_html, opener, undo)

    result = await with_opener(runtime, work.tenant_id, work.grant.no, work.mailbox_id, message_id, taken_back)
    if not result.changed:
        if result.failed:
            reason = f"{len(result.failed)} links could not be taken back"
            return await _end(runtime, work, message_id, MessageState.PROTECTED, Restored("failed", reason), actor)
        exact = content_hash(content) == row.original_hash
        return await _restored(runtime, work, message_id, source, fetched.version, actor, exact=exact, kept=kept)
    before = rebuilt(content, result.content)
    steps = StepRecorder(runtime, work, message_id, source, "restore")
    done = await work.connector.replace(
        Replacement(fetched, before, mark=False, copy_if_refused=work.copy_if_refused),
        f"restore:{message_id}",
        steps,
        resume_state(row) if row.step_kind == "restore" else None,
    )
    if kept:
        await steps.write_down()
    exact = content_hash(before) == row.original_hash
    return await _restored(
        runtime,
        work,
        message_id,
        done.ref.id,
        done.version,
        actor,
        exact=exact,
        failed=len(result.failed),
        steps=steps.unwritten,
        kept=kept,
    )


async def _is_gone(work: MailboxWork, message_id: str) -> bool:
    try:
        await work.connector.fetch(MessageRef(work.mailbox, message_id))
    except MessageGone:
        return True
    return False


async def _restored(
    runtime: Runtime,
    work: MailboxWork,
    message_id: int,
    current_id: str,
    version: str,
    actor: str,
    *,
    exact: bool | None,
    failed: int = 0,
    steps: tuple[tuple[str, dict[str, Any]], ...] = (),
    kept: tuple[KeptFile, ...] = (),
) -> Restored:
    """Give the attachments back, now that the body is, and close the journal."""
    refused = await put_back(runtime, work, message_id, MessageRef(work.mailbox, current_id), kept)
    if refused:
        async with runtime.db.tenant(work.tenant_id) as session:
            (await load_row(session, message_id)).current_id = current_id
        return await _end(runtime, work, message_id, MessageState.PROTECTED, Restored("failed", refused), actor)
    async with runtime.db.tenant(work.tenant_id) as session:
        row = await load_row(session, message_id)
        row.current_id = current_id
        row.version = version
        row.state = MessageState.RESTORED.value
        row.reason = ""
        row.finished_at = runtime.clock()
        row.undo_sealed = None
        journal.clear_step(row)
        for kind, detail in steps:
            journal.add_event(session, row, kind, actor, **detail)
        journal.add_event(session, row, "restored", actor, exact=exact, links_left=failed)
    return Restored("restored")


async def _end(
    runtime: Runtime, work: MailboxWork, message_id: int, state: MessageState, outcome: Restored, actor: str
) -> Restored:
    async with runtime.db.tenant(work.tenant_id) as session:
        row = await load_row(session, message_id)
        row.state = state.value
        journal.clear_step(row)
        journal.add_event(session, row, f"restore_{outcome.outcome}", actor, reason=outcome.reason)
    return outcome


def to_restore(run: RestoreRun) -> Select[int]:
    """Ids of the messages of a run that it has not come to yet."""
    query = select(MessageRow.id).where(
        MessageRow.state.in_([MessageState.PROTECTED.value, MessageState.RESTORING.value]),
        MessageRow.id <= run.last_message_id,
        MessageRow.restore_run != run.id,
    )
    match run.scope:
        case "message":
            return query.where(MessageRow.id == int(run.target))
        case "mailbox":
            return query.where(MessageRow.mailbox_id == int(run.target))
        case "domain":
            mailboxes = select(MailboxRow.id).where(MailboxRow.domain == run.target)
            return query.where(MessageRow.mailbox_id.in_(mailboxes))
        case "tenant":
            return query
        case _:
            raise ValueError(f"a restore has no scope {run.scope!r}")


async def run_mailbox(runtime: Runtime, work: MailboxWork, run_id: int) -> None:
    """Restore one mailbox's part of a run, in batches; after a crash it goes on where it stopped.

    Raises:
        ConnectorError: As :func:`restore_message`; the job is put off and goes on later.
    """
    async with runtime.db.tenant(work.tenant_id) as session:
        run = await session.get(RestoreRun, (work.tenant_id, run_id))
        if run is None or run.state in ("cancelled", "done"):
            return
        run.state = "running"
        actor = run.requested_by
        mine = to_restore(run).where(MessageRow.mailbox_id == work.mailbox_id).order_by(MessageRow.id.desc())
        ready = mine.where(~_failed_shortly_before(runtime, run_id))
    turn = Turn(runtime)
    while True:
        async with runtime.db.tenant(work.tenant_id) as session:
            batch = list(await session.scalars(ready.limit(BATCH)))
            if not batch and await session.scalar(mine.limit(1)) is not None:
                at = runtime.clock() + timedelta(seconds=_ASIDE_SECONDS)
                await defer_restore(session, work.tenant_id, work.mailbox_id, run_id, at=at)
                return
            if not batch:
                await _close_if_done(runtime, session, work.tenant_id, run_id)
                return
        for message_id in batch:
            if turn.is_over():
                async with runtime.db.tenant(work.tenant_id) as session:
                    await defer_restore(session, work.tenant_id, work.mailbox_id, run_id)
                return
            outcome = await _one_of_run(runtime, work, message_id, run_id, actor)
            turn.count()
            if outcome is not None:
                await _count(runtime, work.tenant_id, run_id, message_id, outcome)


async def take_up_restores(runtime: Runtime, tenant_id: uuid.UUID) -> None:
    """Defer every mailbox's part of the runs under way: a job that was lost is found again."""
    async with runtime.db.tenant(tenant_id) as session:
        runs = await session.scalars(select(RestoreRun).where(RestoreRun.state.in_(["waiting", "running"])))
        for run in list(runs):
            left = to_restore(run).subquery()
            mailboxes = select(MessageRow.mailbox_id).where(MessageRow.id.in_(select(left.c.id))).distinct()
            for mailbox_id in list(await session.scalars(mailboxes)):
                await defer_restore(session, tenant_id, mailbox_id, run.id)


def _failed_shortly_before(runtime: Runtime, run_id: int) -> Exists:
    """Whether a message could not be read or written just now: the others come first."""
    return exists().where(
        MessageEvent.tenant_id == MessageRow.tenant_id,
        MessageEvent.message_id == MessageRow.id,
        MessageEvent.kind == _AGAIN,
        MessageEvent.detail["run"].as_integer() == run_id,
        MessageEvent.at > runtime.clock() - timedelta(seconds=_ASIDE_SECONDS),
    )


async def _one_of_run(runtime: Runtime, work: MailboxWork, message_id: int, run_id: int, actor: str) -> Restored | None:
    """Restore one message of a run; None where it is to be tried again after the others."""
    try:
        return await restore_message(runtime, work, message_id, actor)
    except Unavailable as error:
        # It may be this message that the provider cannot serve: it must not hold up the others for ever.
        async with runtime.db.tenant(work.tenant_id) as session:
            row = await load_row(session, message_id)
            journal.add_event(session, row, _AGAIN, actor, error=str(error)[:500], run=run_id)
            tries = await session.scalar(
                select(func.count()).where(
                    MessageEvent.message_id == message_id,
                    MessageEvent.kind == _AGAIN,
                    MessageEvent.detail["run"].as_integer() == run_id,
                )
            )
        if (tries or 0) < MAX_TRANSIENT_ATTEMPTS:
            return None
        failed = Restored("failed", str(error))
        return await _end(runtime, work, message_id, MessageState.PROTECTED, failed, actor)
    except STOPS_THE_MAILBOX:
        raise
    except ConnectorError as error:
        failed = Restored("failed", str(error))
        return await _end(runtime, work, message_id, MessageState.PROTECTED, failed, actor)


async def _count(runtime: Runtime, tenant_id: uuid.UUID, run_id: int, message_id: int, outcome: Restored) -> None:
    column = {"restored": RestoreRun.restored, "failed": RestoreRun.failed, "gone": RestoreRun.gone}[outcome.outcome]
    async with runtime.db.tenant(tenant_id) as session:
        row = await load_row(session, message_id)
        if row.restore_run == run_id:
            return
        row.restore_run = run_id
        await session.execute(update(RestoreRun).where(RestoreRun.id == run_id).values({column: column + 1}))


async def _close_if_done(runtime: Runtime, session: AsyncSession, tenant_id: uuid.UUID, run_id: int) -> None:
    run = await session.get(RestoreRun, (tenant_id, run_id), with_for_update=True)
    if run is None or run.state != "running":
        return
    if await session.scalar(to_restore(run).limit(1)) is None:
        run.state = "done"
        run.finished_at = runtime.clock()
