"""Protecting one message: read, decide, transform, journal, replace, verify.

Whatever happens, the message is in the mailbox once: either as it was, or protected. Each step at the
provider is journaled before the next one starts, and a message that was left half way is taken up again from
the journal, never from the start (``gmail.md``, "Replacing a message"; ``graph.md``, "Changing a received body").
"""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar

import structlog
from sqlalchemy.exc import InterfaceError, OperationalError, StatementError

from app.kit.at_once import Statement
from app.links.mint import Minter
from app.messages.types import BodyResult, TransformResult
from app.protection import journal, swapping
from app.protection.attached import Looked
from app.protection.attempts import failed_attempt, finish, given_up_after_transient, load_row
from app.protection.content import content_hash, rebuilt
from app.protection.halfway import before_our_write, is_whole_copy
from app.protection.models import MessageRow
from app.protection.orphans import settle_own_copy
from app.protection.payloads import OpenLink, with_opener
from app.protection.plan import make_plan
from app.protection.runtime import Runtime
from app.protection.states import MAX_TRANSIENT_ATTEMPTS, REPORTED, MessageState, skip_reason
from app.protection.steps import StepRecorder, resume_state
from app.protection.transforming import no_mint, run_inspect, run_transform
from app.protection.work import STOPS_THE_MAILBOX, MailboxWork
from connectors.base.errors import (
    ConnectorError,
    MessageGone,
    NotCopyable,
    TooLarge,
    Transient,
    VersionConflict,
)
from connectors.base.types import (
    Content,
    FetchedMessage,
    MessageRef,
    Replacement,
    ReplaceState,
    ReplaceStep,
    Returned,
    Trait,
)

log = structlog.get_logger()

_T = TypeVar("_T")

_VERSION_TRIES = 3
_LEFT_ALONE = "The message must not be changed."


async def protect_one(runtime: Runtime, work: MailboxWork, message: journal.Pending) -> None:
    """Bring a journaled message to a final state, from wherever it was left.

    Raises:
        ConnectorError: One of :data:`STOPS_THE_MAILBOX`.
    """
    for conflict in range(_VERSION_TRIES):
        try:
            if message.fresh and not conflict:
                await _first_attempt(runtime, work, message)
            elif message.returned and not conflict:
                await take_back_returned(runtime, work, message.id)
            else:
                await _another_attempt(runtime, work, message.id)
            return
        except VersionConflict as error:
            if conflict == _VERSION_TRIES - 1:
                await failed_attempt(runtime, work, message.id, error)
        except MessageGone:
            await finish(runtime, work, message.id, MessageState.GONE, "deleted")
            return
        except TooLarge:
            await finish(runtime, work, message.id, MessageState.SKIPPED, "too_large")
            return
        except NotCopyable:
            await finish(runtime, work, message.id, MessageState.SKIPPED, "not_copyable")
            return
        except Transient as error:
            # The mailbox itself answered before (see sync), so it may be this message that the provider
            # cannot serve: counted, so that it cannot hold back the mailbox for ever.
            if await given_up_after_transient(runtime, work, message.id, error):
                return
            raise
        except (*STOPS_THE_MAILBOX, OperationalError, InterfaceError):
            raise
        except (
            ConnectorError,
            ValueError,
            ArithmeticError,
            LookupError,
            RuntimeError,
            TypeError,
            StatementError,  # something of this message that the database does not take
        ) as error:
            await failed_attempt(runtime, work, message.id, error)
            return


async def _first_attempt(runtime: Runtime, work: MailboxWork, message: journal.Pending) -> None:
    """A message that nothing is known of yet: no need to read its row."""
    fetched = await work.connector.fetch(MessageRef(work.mailbox, message.external_id))
    if Trait.OWN_COPY in fetched.traits:
        await settle_own_copy(runtime, work, message.id, fetched)
        return
    if fetched.received_at is not None and fetched.received_at < work.since:
        # From before protection was switched on, moved: it does not concern us.
        await runtime.db.at_once(work.tenant_id, *journal.forgetting(work.tenant_id, message.id))
        return
    await _protect_fetched(runtime, work, message.id, fetched, fetched, resume=None)


async def take_back_returned(runtime: Runtime, work: MailboxWork, message_id: int) -> None:
    """The original of a protected copy may be in sight again: it is removed again, or protected anew.

    Asked again, it finds the original away and does nothing: no second copy is ever made beside one that stands.
    """
    async with runtime.db.tenant(work.tenant_id) as session:
        row = await load_row(session, message_id)
    if row.state != MessageState.PROTECTED or row.current_id == row.external_id:
        return
    original, copy = MessageRef(work.mailbox, row.external_id), MessageRef(work.mailbox, row.current_id)
    found = await work.connector.remove_again(original, copy)
    if found is Returned.AWAY:
        return
    event = ("returned", {"alone": found is Returned.ALONE})
    if found is Returned.REMOVED:
        await runtime.db.at_once(work.tenant_id, journal.tracing(work.tenant_id, message_id, event))
        return
    anew = {
        "state": MessageState.SEEN.value,
        "current_id": row.external_id,
        "attempts": 0,
        "finished_at": None,
        **journal.NO_STEP,
    }
    await runtime.db.at_once(
        work.tenant_id,
        journal.putting(work.tenant_id, message_id, **anew),
        journal.tracing(work.tenant_id, message_id, event),
    )
    await _another_attempt(runtime, work, message_id)


async def _another_attempt(runtime: Runtime, work: MailboxWork, message_id: int) -> None:
    """A message that an earlier try left somewhere."""
    async with runtime.db.tenant(work.tenant_id) as session:
        row = await load_row(session, message_id)
        if row.state not in (MessageState.SEEN, MessageState.WRITING):
            return
        row.attempts += 1
    if row.attempts > MAX_TRANSIENT_ATTEMPTS:
        await finish(runtime, work, message_id, MessageState.FAILED, "given up: no try came to an end")
        return
    fetched = await _fetch_or_copy(work, row, MessageRef(work.mailbox, row.external_id))
    if fetched.ref.id != row.external_id:
        again = await _attachments_again(runtime, work, row, fetched)
        await _close(runtime, work, message_id, fetched.ref.id, fetched.version, fetched.content, (), again)
        return
    if Trait.OWN_COPY in fetched.traits:
        await settle_own_copy(runtime, work, message_id, fetched)
        return

    async def before(opener: OpenLink) -> tuple[FetchedMessage, bool]:
        return before_our_write(runtime, row, fetched, opener)

    original, is_whole = await _with_opener(runtime, work, message_id, before)
    if is_whole:
        found = journal.step_event("protect", ReplaceState(ReplaceStep.VERIFIED, fetched.ref.id, fetched.version))
        again = await _attachments_again(runtime, work, row, fetched)
        await _close(runtime, work, message_id, fetched.ref.id, fetched.version, fetched.content, (found,), again)
        return
    copy = await _whole_copy(runtime, work, row)
    if copy is not None:
        whole = Replacement(original, copy.content, copy_if_refused=work.copy_if_refused)
        await _replace(runtime, work, message_id, whole, resume_state(row), row=row)
        return
    await _protect_fetched(runtime, work, message_id, fetched, original, resume=resume_state(row), row=row)


async def _attachments_again(
    runtime: Runtime, work: MailboxWork, row: MessageRow, fetched: FetchedMessage
) -> swapping.Todo | None:
    """What an earlier try left to do about the attachments of a message whose content it has written."""
    with_links = partial(_with_opener, runtime, work, row.id)
    return await swapping.take_up(runtime, work, row, fetched, _minter(runtime, work, row.id), with_links)


async def _whole_copy(runtime: Runtime, work: MailboxWork, row: MessageRow) -> FetchedMessage | None:
    """The copy that an earlier try inserted beside the original, where it is still what was inserted."""
    if not row.step_new_id or row.step_new_id == row.external_id or row.step_kind != "protect":
        return None
    try:
        copy = await work.connector.fetch(MessageRef(work.mailbox, row.step_new_id))
    except MessageGone:
        return None
    if Trait.TRASH in copy.traits:
        return None

    async def compared(opener: OpenLink) -> bool:
        return is_whole_copy(runtime, row, copy, opener)

    return copy if await _with_opener(runtime, work, row.id, compared) else None


async def _with_opener(
    runtime: Runtime, work: MailboxWork, message_id: int, run: Callable[[OpenLink], Awaitable[_T]]
) -> _T:
    return await with_opener(runtime, work.tenant_id, work.grant.no, work.mailbox_id, message_id, run)


async def _protect_fetched(
    runtime: Runtime,
    work: MailboxWork,
    message_id: int,
    fetched: FetchedMessage,
    original: FetchedMessage,
    resume: ReplaceState | None,
    row: MessageRow | None = None,
) -> None:
    """Go all the way with a message; ``row`` is its journal where an earlier try left it somewhere."""
    about = journal.described(fetched)
    kept = journal.open_kept(runtime, row) if row is not None else ()
    settled = await swapping.settle(runtime, work, message_id, fetched.ref, kept)
    reason = skip_reason(fetched.traits)
    if reason is not None and resume is None and not settled:
        await _skip(runtime, work, message_id, reason, fetched, about)
        return
    minter = _minter(runtime, work, message_id)
    now = await work.connector.fetch(fetched.ref) if settled else fetched

    async def transformed(opener: OpenLink) -> tuple[TransformResult | BodyResult, Looked]:
        plan = make_plan(runtime.settings, work.policy, work.options, minter, opener, original.list_unsubscribe)
        result = await run_transform(original.content, plan)
        free, why = result.skipped is None, "" if result.skipped is None else _LEFT_ALONE
        return result, await swapping.look_into(runtime, work, now, minter, opener, may_change=free, why=why)

    result, looked = await _with_opener(runtime, work, message_id, transformed)
    looked = swapping.named_as_before(dataclasses.replace(looked, settled=settled), kept)
    everything = looked.beside(result)
    final = _nothing_to_write(result, looked, work.dry_run and not settled)
    begun = row is not None and row.state == MessageState.WRITING
    if begun and work.may_copy:
        final = None  # a copy may stand beside the original: replacing goes on, though nothing in it may change
    about |= journal.link_values(everything)
    about["links"] += sum(each.links for each in settled)
    found = journal.storing_links(work.tenant_id, message_id, everything, minter.payloads)
    if final is not None:
        await finish(runtime, work, message_id, *final, about, found)
        return
    about["state"] = MessageState.WRITING.value
    about["original_hash"] = content_hash(original.content)
    about["undo_sealed"] = swapping.sealed(runtime, work, message_id, result.undo, (*settled, *looked.kept))
    await runtime.db.at_once(work.tenant_id, *found, journal.putting(work.tenant_id, message_id, **about))
    values = {name: about[name] for name in ("links", "warnings")}
    todo = swapping.Todo(looked, result.undo, values, result.changed) if looked.changes else None
    if todo is not None and not result.changed and not (begun and work.may_copy):
        await _close(runtime, work, message_id, fetched.ref.id, fetched.version, original.content, (), todo)
        return
    new_content = rebuilt(original.content, result.content)
    replacement = Replacement(
        original=original,
        content=new_content,
        copy_if_refused=work.copy_if_refused,
        expected_links=tuple(dict.fromkeys(link.gateway_url for link in result.links if link.gateway_url)),
        replaced_links=tuple(
            dict.fromkeys(link.link.url for link in result.links if link.gateway_url and link.link.source)
        ),
    )
    await _replace(runtime, work, message_id, replacement, resume, todo)


def _minter(runtime: Runtime, work: MailboxWork, message_id: int) -> Minter:
    return Minter(
        runtime.keyring,
        runtime.settings.gateway_url,
        runtime.settings.gateway_prefix,
        tenant_no=work.grant.no,
        mailbox_no=work.mailbox_id,
        message_no=message_id,
        store_long=True,
    )


async def _skip(
    runtime: Runtime, work: MailboxWork, message_id: int, reason: str, fetched: FetchedMessage, about: dict[str, Any]
) -> None:
    """Leave a message as it is, and report what stands in it where that is of use to those who are attacked by it."""
    if reason not in REPORTED:
        await finish(runtime, work, message_id, MessageState.SKIPPED, reason, about)
        return

    async def inspected(opener: OpenLink) -> TransformResult | BodyResult:
        plan = make_plan(runtime.settings, work.policy, work.options, no_mint, opener, fetched.list_unsubscribe)
        result = await run_inspect(fetched.content, plan, reason)
        looked = await swapping.look_into(runtime, work, fetched, no_mint, opener, may_change=False, why=_LEFT_ALONE)
        return looked.beside(result)

    result = await _with_opener(runtime, work, message_id, inspected)
    found = journal.storing_links(work.tenant_id, message_id, result, {})
    await finish(runtime, work, message_id, MessageState.SKIPPED, reason, about | journal.link_values(result), found)


async def _replace(
    runtime: Runtime,
    work: MailboxWork,
    message_id: int,
    replacement: Replacement,
    resume: ReplaceState | None,
    todo: swapping.Todo | None = None,
    row: MessageRow | None = None,
) -> None:
    steps = StepRecorder(runtime, work, message_id, replacement.original.ref.id, "protect")
    done = await work.connector.replace(replacement, f"protect:{message_id}", steps, resume)
    content = done.content or replacement.content
    if row is not None and journal.open_kept(runtime, row):
        todo = await _attachments_again(runtime, work, row, await work.connector.fetch(done.ref))
    if todo is not None and todo.looked.swaps:
        await steps.write_down()
    steps_left = steps.unwritten
    await _close(runtime, work, message_id, done.ref.id, done.version, content, steps_left, todo, done.normalised)


def _nothing_to_write(
    result: TransformResult | BodyResult, looked: Looked, dry_run: bool
) -> tuple[MessageState, str] | None:
    if result.skipped is not None:
        return MessageState.SKIPPED, str(result.skipped)
    if not result.changed and not looked.changes:
        return MessageState.SKIPPED, "no_links"
    if dry_run:
        return MessageState.DRY_RUN, ""
    return None


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


async def _close(
    runtime: Runtime,
    work: MailboxWork,
    message_id: int,
    current_id: str,
    version: str,
    content: Content,
    events: tuple[tuple[str, dict[str, Any]], ...],
    todo: swapping.Todo | None = None,
    normalised: bool = False,
) -> None:
    values: dict[str, Any] = {"current_id": current_id, "version": version, "body_hash": content_hash(content)}
    state, reason = MessageState.PROTECTED, "normalised" if normalised else ""
    before: tuple[Statement, ...] = ()
    if todo is not None:
        swapped = await swapping.swap(runtime, work, message_id, MessageRef(work.mailbox, current_id), todo)
        values, before = values | swapped.values, swapped.before
        if not todo.is_body_written and not swapped.changed:
            state, reason = MessageState.SKIPPED, "no_links"
    await runtime.db.at_once(
        work.tenant_id,
        *before,
        journal.finishing(work.tenant_id, message_id, runtime.clock(), state, reason, values, events),
    )
