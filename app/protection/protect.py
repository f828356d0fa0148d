"""Protecting one message: read, decide, transform, journal, replace, verify.

Whatever happens, the message is in the mailbox once: either as it was, or protected. Each step at the
provider is journaled before the next one starts, and a message that was left half way is taken up again from
the journal, never from the start (``gmail.md``, "Replacing a message"; ``graph.md``, "Changing a received body").
"""

from __future__ import annotations

import asyncio
import dataclasses
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.db import tenant_of
from app.kit.errors import NotFound
from app.links.mint import Minter, message_opener
from app.messages import restore, restore_body, transform, transform_body
from app.messages.types import BodyResult, OpenedLink, TransformPlan, TransformResult
from app.policy.engine import PolicySnapshot
from app.protection import journal
from app.protection.content import content_hash, rebuilt
from app.protection.models import MessageRow
from app.protection.plan import make_plan
from app.protection.providers import TenantGrant
from app.protection.runtime import Runtime
from app.protection.states import MAX_ATTEMPTS, MAX_TRANSIENT_ATTEMPTS, UNFINISHED, MessageState, skip_reason
from connectors.base.errors import (
    AccessRevoked,
    ConnectorError,
    MailboxUnavailable,
    MessageGone,
    MisconfiguredClient,
    PermissionMissing,
    Throttled,
    TooLarge,
    Transient,
    VersionConflict,
)
from connectors.base.protocol import MailboxConnector
from connectors.base.types import (
    BodyContent,
    Content,
    FetchedMessage,
    Mailbox,
    MessageRef,
    MimeContent,
    Replacement,
    ReplaceState,
    ReplaceStep,
    Trait,
)

log = structlog.get_logger()

OpenLink = Callable[[str], OpenedLink | None]

STOPS_THE_MAILBOX = (Transient, AccessRevoked, PermissionMissing, MailboxUnavailable, MisconfiguredClient)
"""Errors that say nothing about the message: it keeps its state, and the cursor stays before it."""

_VERSION_TRIES = 3
_THREAD_FROM_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class MailboxWork:
    """What is needed to work on one mailbox of one tenant.

    Attributes:
        grant: The tenant.
        mailbox: As connectors know it.
        mailbox_id: As the database knows it.
        connector: The tenant's connector.
        policy: The tenant's lists and domains, as they are now.
        since: Mail received before is left alone.
        dry_run: Only record what would be done.
    """

    grant: TenantGrant
    mailbox: Mailbox
    mailbox_id: int
    connector: MailboxConnector
    policy: PolicySnapshot
    since: datetime
    dry_run: bool

    @property
    def tenant_id(self) -> uuid.UUID:
        """The tenant."""
        return self.grant.tenant_id


async def protect_ref(runtime: Runtime, work: MailboxWork, ref: MessageRef) -> None:
    """Bring a message that the provider reported as new to a final state.

    Raises:
        ConnectorError: One of :data:`STOPS_THE_MAILBOX`; nothing is lost, the message keeps its place.
    """
    async with runtime.db.tenant(work.tenant_id) as session:
        row = await journal.find(session, work.mailbox_id, ref.id)
    if row is not None:
        if row.state in UNFINISHED and row.state != MessageState.RESTORING:
            await protect_row(runtime, work, row.id)
        return
    try:
        fetched = await work.connector.fetch(ref)
    except MessageGone:
        return
    if Trait.OWN_COPY in fetched.traits:
        # Our own copy, seen before its original's journal was closed: the original's row leads to it.
        return
    if fetched.received_at is not None and fetched.received_at < work.since:
        return
    async with runtime.db.tenant(work.tenant_id) as session:
        row = await journal.create(session, runtime, work.tenant_id, work.mailbox_id, fetched)
    await protect_row(runtime, work, row.id, fetched)


async def protect_row(
    runtime: Runtime, work: MailboxWork, message_id: int, fetched: FetchedMessage | None = None
) -> None:
    """Bring a journaled message to a final state, from wherever it was left.

    Raises:
        ConnectorError: One of :data:`STOPS_THE_MAILBOX`.
    """
    for conflict in range(_VERSION_TRIES):
        try:
            await _attempt(runtime, work, message_id, fetched)
            return
        except VersionConflict as error:
            fetched = None
            if conflict == _VERSION_TRIES - 1:
                await _failed_attempt(runtime, work, message_id, error)
        except MessageGone:
            await _finish(runtime, work, message_id, MessageState.GONE, "deleted")
            return
        except TooLarge:
            await _finish(runtime, work, message_id, MessageState.SKIPPED, "too_large")
            return
        except Transient as error:
            # The mailbox itself answered before (see sync), so it may be this message that the provider
            # cannot serve: counted, so that it cannot hold back the mailbox for ever.
            if await _given_up_after_transient(runtime, work, message_id, error):
                return
            raise
        except STOPS_THE_MAILBOX:
            raise
        except (ConnectorError, ValueError, ArithmeticError, LookupError, RuntimeError, TypeError) as error:
            await _failed_attempt(runtime, work, message_id, error)
            return


async def _attempt(
    runtime: Runtime, work: MailboxWork, message_id: int, fetched: FetchedMessage | None
) -> None:
    async with runtime.db.tenant(work.tenant_id) as session:
        row = await load_row(session, message_id)
        if row.state not in UNFINISHED:
            return
        row.attempts += 1
    ref = MessageRef(work.mailbox, row.external_id)
    if fetched is None:
        fetched = await _fetch_or_copy(work, row, ref)
    if fetched.ref.id != row.external_id:
        await _close(runtime, work, message_id, fetched.ref.id, fetched.version, fetched.content)
        return
    reason = skip_reason(fetched.traits)
    if reason is not None and not row.step:
        await _finish(runtime, work, message_id, MessageState.SKIPPED, reason)
        return

    minter = Minter(
        runtime.keyring,
        runtime.settings.gateway_url,
        runtime.settings.gateway_prefix,
        tenant_no=work.grant.no,
        mailbox_no=work.mailbox_id,
        message_no=message_id,
        store_long=True,
    )
    opener = message_opener(runtime.opener(), work.grant.no, work.mailbox_id, message_id)
    original = _before_our_write(row, fetched, opener)
    result = await run_transform(original.content, make_plan(runtime.settings, work.policy, minter, opener))

    async with runtime.db.tenant(work.tenant_id) as session:
        row = await load_row(session, message_id)
        await journal.store_links(session, row, result, minter.payloads)
        if result.skipped is not None:
            journal.finish(session, runtime, row, MessageState.SKIPPED, str(result.skipped))
            return
        if not result.changed:
            journal.finish(session, runtime, row, MessageState.SKIPPED, "no_links")
            return
        if work.dry_run:
            journal.finish(session, runtime, row, MessageState.DRY_RUN)
            return
        row.original_hash = content_hash(original.content)
        row.undo_sealed = journal.seal_undo(runtime, row, result.undo) if result.undo else None
        row.state = MessageState.WRITING.value

    new_content = rebuilt(original.content, result.content)
    replacement = Replacement(
        original=original,
        content=new_content,
        expected_links=tuple(dict.fromkeys(link.gateway_url for link in result.links if link.gateway_url)),
        replaced_links=tuple(
            dict.fromkeys(link.link.url for link in result.links if link.gateway_url and link.link.source)
        ),
    )

    async def record(step: ReplaceState) -> None:
        async with runtime.db.tenant(work.tenant_id) as session:
            journal.record_step(session, await load_row(session, message_id), "protect", step)

    done = await work.connector.replace(replacement, f"protect:{message_id}", record, resume_state(row))
    await _close(runtime, work, message_id, done.ref.id, done.version, done.content or new_content, done.normalised)


async def _fetch_or_copy(work: MailboxWork, row: MessageRow, ref: MessageRef) -> FetchedMessage:
    """The original; or, where a crash came after it was removed, the copy that stands in its place."""
    copied = bool(row.step_new_id) and row.step_new_id != row.external_id and row.step_kind == "protect"
    removed = copied and row.step in (ReplaceStep.VERIFIED.value, ReplaceStep.REMOVED.value)
    try:
        fetched = await work.connector.fetch(ref)
    except MessageGone:
        if not copied:
            raise
        return await work.connector.fetch(MessageRef(work.mailbox, row.step_new_id))
    if removed and Trait.TRASH in fetched.traits:
        return await work.connector.fetch(MessageRef(work.mailbox, row.step_new_id))
    return fetched


def _before_our_write(row: MessageRow, fetched: FetchedMessage, opener: OpenLink) -> FetchedMessage:
    """The message as it was before a write of ours that took effect without being journaled as finished.

    Where the provider edits in place, a crash after the write leaves our own links in the message; taking
    them back gives the original, whose transformation is the same again (links are deterministic).
    """
    if row.state != MessageState.WRITING or row.original_hash is None:
        return fetched
    if content_hash(fetched.content) == row.original_hash:
        return fetched
    content = fetched.content
    if isinstance(content, MimeContent):
        before: Content = MimeContent(restore(content.raw, opener).content)
    else:
        before = BodyContent(restore_body(content.content, content.is_html, opener).content, content.is_html)
    return dataclasses.replace(fetched, content=before)


async def run_transform(content: Content, plan: TransformPlan) -> TransformResult | BodyResult:
    """Transform, in a thread where the message is large enough to hold up the others."""
    size = len(content.raw) if isinstance(content, MimeContent) else len(content.content)
    if size < _THREAD_FROM_BYTES:
        return _transform(content, plan)
    return await asyncio.to_thread(_transform, content, plan)


def _transform(content: Content, plan: TransformPlan) -> TransformResult | BodyResult:
    if isinstance(content, MimeContent):
        return transform(content.raw, plan)
    return transform_body(content.content, content.is_html, plan)


def resume_state(row: MessageRow) -> ReplaceState | None:
    """The last journaled step of a running replacement."""
    if not row.step:
        return None
    return ReplaceState(ReplaceStep(row.step), row.step_new_id, row.step_version)


async def load_row(session: AsyncSession, message_id: int) -> MessageRow:
    """A message of the unit of work's tenant.

    Raises:
        NotFound: There is none.
    """
    row = await session.get(MessageRow, (tenant_of(session), message_id))
    if row is None:
        raise NotFound(f"message {message_id} is not in the journal")
    return row


async def _close(
    runtime: Runtime,
    work: MailboxWork,
    message_id: int,
    current_id: str,
    version: str,
    content: Content,
    normalised: bool = False,
) -> None:
    async with runtime.db.tenant(work.tenant_id) as session:
        row = await load_row(session, message_id)
        row.current_id = current_id
        row.version = version
        row.body_hash = content_hash(content)
        journal.clear_step(row)
        journal.finish(session, runtime, row, MessageState.PROTECTED, "normalised" if normalised else "")


async def _finish(runtime: Runtime, work: MailboxWork, message_id: int, state: MessageState, reason: str) -> None:
    async with runtime.db.tenant(work.tenant_id) as session:
        row = await load_row(session, message_id)
        journal.clear_step(row)
        journal.finish(session, runtime, row, state, reason)


async def _given_up_after_transient(
    runtime: Runtime, work: MailboxWork, message_id: int, error: Transient
) -> bool:
    async with runtime.db.tenant(work.tenant_id) as session:
        row = await load_row(session, message_id)
        detail = f"{type(error).__name__}: {error}"[:500]
        if isinstance(error, Throttled):
            row.attempts -= 1
            return False
        if row.attempts >= MAX_TRANSIENT_ATTEMPTS:
            journal.finish(session, runtime, row, MessageState.FAILED, detail)
            return True
        journal.add_event(session, row, "retry", error=detail, attempt=row.attempts)
        return False


async def _failed_attempt(runtime: Runtime, work: MailboxWork, message_id: int, error: Exception) -> None:
    """Count a failure; after several, leave the message as it is and say so."""
    log.warning(
        "message.attempt_failed", tenant=str(work.tenant_id), message=message_id, kind=type(error).__name__
    )
    async with runtime.db.tenant(work.tenant_id) as session:
        row = await load_row(session, message_id)
        detail = f"{type(error).__name__}: {error}"[:500]
        if row.attempts < MAX_ATTEMPTS:
            journal.add_event(session, row, "retry", error=detail, attempt=row.attempts)
            raise_again = True
        else:
            journal.finish(session, runtime, row, MessageState.FAILED, detail)
            raise_again = False
    if raise_again:
        raise MessageNotDone(message_id, detail) from error


class MessageNotDone(Transient):
    """This message needs another try; the mailbox waits for it, but not for ever.

    Args:
        message_id: Which.
        detail: Why.
    """

    def __init__(self, message_id: int, detail: str) -> None:
        super().__init__(f"Message {message_id} is not done yet: {detail}")
        self.message_id = message_id
