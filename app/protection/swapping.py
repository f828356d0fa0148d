"""Puts changed attachments in the place of those that came, and back, step by step with a journal.

The body is written first; then each file is added, verified and its predecessor removed
(:meth:`connectors.base.protocol.MailboxConnector.swap_attachments`). Before the first of these steps the files as they
came lie sealed in the message's undo record, with the digest of what takes their place. So whoever takes a message up
after a crash finds by looking how far it came: a file that was added is kept and what it replaces goes; one that was
not is looked at as if for the first time. An attachment that cannot be changed stays and is named in the message's
warnings; it keeps no link from being protected.
"""

from __future__ import annotations

import dataclasses
import hashlib
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from psycopg.types.json import Jsonb

from app.kit.at_once import Statement, statement
from app.links.mint import Minter
from app.messages.options import DeliveryOptions
from app.messages.types import FoundLink, TransformWarning
from app.messages.undo_attached import KeptFile, pack
from app.protection import journal
from app.protection.attached import NOTHING, Looked, look, not_changed
from app.protection.models import MessageRow
from app.protection.payloads import OpenLink
from app.protection.plan import make_plan
from app.protection.runtime import Runtime
from app.protection.states import MessageState
from app.protection.steps import record_step
from app.protection.transforming import no_mint
from app.protection.work import MailboxWork
from connectors.base.errors import ConnectorError, WriteNotVerified
from connectors.base.types import (
    AccessCheck,
    AttachedFile,
    AttachmentStep,
    AttachmentSwap,
    CheckStatus,
    FetchedMessage,
    MessageRef,
    SwapOutcome,
    Swapped,
)

log = structlog.get_logger()

EVIDENCE = "attachments"
"""Name in ``tenants.settings`` of what is known about changing attachments."""
_WORKS, _REFUSED = "works", "refused"


@dataclass(frozen=True, slots=True)
class SwapResult:
    """What became of a message's attachments.

    Attributes:
        changed: Whether one stands there now that we made, or may.
        values: Column values of the message.
        before: Statements that go with them.
    """

    changed: bool
    values: dict[str, Any]
    before: tuple[Statement, ...] = ()


@dataclass(frozen=True, slots=True)
class Todo:
    """What is to be done about a message's attachments once its body is done.

    Attributes:
        looked: What was found in them.
        undo: The body's part of the undo record.
        values: ``links`` and ``warnings`` of the message as journaled.
        is_body_written: Whether the message is protected whatever becomes of them.
    """

    looked: Looked
    undo: bytes | None
    values: dict[str, Any]
    is_body_written: bool


def wants_changes(options: DeliveryOptions) -> bool:
    """Whether the organisation's policy has attachments changed."""
    return options.qr != "report" or options.rewrite_attachments


async def look_into(
    runtime: Runtime,
    work: MailboxWork,
    fetched: FetchedMessage,
    mint: Callable[[FoundLink], str],
    opener: OpenLink,
    *,
    may_change: bool,
    why: str = "",
) -> Looked:
    """Look into a message's attachments, under the organisation's policy and as far as its mail is known to take it.

    Args:
        runtime: The process.
        work: The mailbox.
        fetched: The message.
        mint: Makes links for it.
        opener: Opens links of it.
        may_change: Whether the message may be changed at all.
        why: Why not.

    Raises:
        ConnectorError: The provider could not be asked.
    """
    if not fetched.attached:
        return NOTHING
    paint, fixed = may_change and wants_changes(work.options), why
    if paint:
        fixed = await work.connector.attachments_fixed()
        paint = not fixed and work.connector.capabilities.swaps_attachments
    minting = mint if paint else no_mint
    plan = make_plan(runtime.settings, work.policy, work.options, minting, opener, fetched.list_unsubscribe)
    if paint:
        markup = work.options.rewrite_attachments
        plan = dataclasses.replace(plan, html_attachments=markup, rewrite_attachments=markup, remove_amp=False)
    return await look(work.connector, fetched, plan, paint=paint, fixed=fixed)


def sealed(
    runtime: Runtime, work: MailboxWork, message_id: int, undo: bytes | None, files: Sequence[KeptFile]
) -> bytes | None:
    """The undo record of a message, or None where it needs none.

    Args:
        runtime: The process.
        work: The mailbox.
        message_id: The message.
        undo: The body's part.
        files: The attachments as they came.
    """
    record = pack(undo, files)
    return journal.seal_undo(runtime, work.tenant_id, message_id, record) if record else None


async def take_up(
    runtime: Runtime,
    work: MailboxWork,
    row: MessageRow,
    fetched: FetchedMessage,
    minter: Minter,
    with_links: Callable[[Callable[[OpenLink], Awaitable[Looked]]], Awaitable[Looked]],
) -> Todo | None:
    """What is left to do about the attachments of a message whose body an earlier try has written.

    Args:
        runtime: The process.
        work: The mailbox.
        row: The message's journal.
        fetched: The message as it is now.
        minter: Makes links for it.
        with_links: Runs something with an opener of its links.

    Raises:
        ConnectorError: The provider could not be asked, or what was begun could not be finished.
    """
    kept = journal.open_kept(runtime, row)
    if not kept:
        return None
    settled = await settle(runtime, work, row.id, fetched.ref, kept)
    now = await work.connector.fetch(fetched.ref) if settled else fetched

    async def looking(opener: OpenLink) -> Looked:
        return await look_into(runtime, work, now, minter, opener, may_change=True)

    looked = named_as_before(dataclasses.replace(await with_links(looking), settled=settled), kept)
    undo, made = journal.open_undo(runtime, row), (*settled, *looked.kept)
    known = {each.part: each.links for each in made}
    dropped = [each.part for each in kept if each.part not in known]
    # With the undo record: it tells which attachments' links are in the number.
    values: dict[str, Any] = {
        "links": max(0, row.links + sum(known.values()) - sum(each.links for each in kept)),
        "warnings": _warnings_anew(row, looked),
    }
    await runtime.db.at_once(
        work.tenant_id,
        *journal.storing_payloads(work.tenant_id, minter.payloads),
        journal.putting(work.tenant_id, row.id, undo_sealed=sealed(runtime, work, row.id, undo, made), **values),
        statement(_LEFT, work.tenant_id, row.id, dropped),
    )
    return Todo(looked, undo, values, is_body_written=True)


def _warnings_anew(row: MessageRow, looked: Looked) -> list[dict[str, str]]:
    """What was not covered of a message whose attachments were looked at again."""
    said = [journal.warning_value(warning) for warning in looked.warnings]
    before = [each for each in row.warnings if not each["code"].startswith("attachment_") and each not in said]
    return [*before, *said]


def named_as_before(looked: Looked, kept: Sequence[KeptFile]) -> Looked:
    """With the names that the journal has for the files: what is added comes last, and the others move up."""
    before = {_identity(each): each.part for each in kept}
    named = (dataclasses.replace(each, part=before.get(_identity(each), each.part)) for each in looked.kept)
    return dataclasses.replace(looked, kept=tuple(named))


def _identity(kept: KeptFile) -> tuple[str, str, str | None, bool, bytes]:
    return kept.name, kept.content_type, kept.content_id, kept.is_inline, kept.content


class SwapRecorder:
    """Journals each step of a swap before the next begins; see ``connectors.base.types.AttachmentRecorder``.

    Args:
        runtime: The process.
        work: The mailbox.
        message_id: The message.
        journey: ``protect`` or ``restore``.
    """

    def __init__(self, runtime: Runtime, work: MailboxWork, message_id: int, journey: str) -> None:
        self._runtime = runtime
        self._work = work
        self._message_id = message_id
        self._journey = journey

    async def __call__(self, number: int, step: AttachmentStep) -> None:
        """Record a step that has taken effect.

        Raises:
            JobTakenOver: Another worker has the job by now; the step is not recorded.
        """
        state = MessageState.WRITING if self._journey == "protect" else MessageState.RESTORING
        values = {"state": state.value}
        event = (f"attachment_{step.value}", {"journey": self._journey, "number": number + 1})
        await record_step(self._runtime.db, self._work.tenant_id, self._message_id, values, event)


async def settle(
    runtime: Runtime, work: MailboxWork, message_id: int, ref: MessageRef, kept: Sequence[KeptFile]
) -> tuple[KeptFile, ...]:
    """Finish what an earlier try began; those that now stand there changed, or may.

    Raises:
        ConnectorError: It could not be told, and may be later.
    """
    if not kept:
        return ()
    swaps = [AttachmentSwap(_file(each, b""), _sha256(each.content), finish_sha256=each.became) for each in kept]
    try:
        done = await work.connector.swap_attachments(ref, swaps, SwapRecorder(runtime, work, message_id, "protect"))
    except WriteNotVerified:
        log.warning("message.attachment_doubtful", tenant=str(work.tenant_id), message=message_id)
        return tuple(kept)  # they stay in the undo record; what stands there twice is tried once more and then said
    return tuple(each for each, outcome in zip(kept, done.outcomes, strict=True) if outcome is SwapOutcome.DONE)


async def swap(
    runtime: Runtime,
    work: MailboxWork,
    message_id: int,
    ref: MessageRef,
    todo: Todo,
) -> SwapResult:
    """Put the changed attachments in the place of those that came.

    Args:
        runtime: The process.
        work: The mailbox.
        message_id: The message, whose undo record holds all that was and is to be swapped.
        ref: Where it is.
        todo: What to do.

    Raises:
        ConnectorError: Not about this message, or it may pass: it has to be taken up again.
    """
    looked, values = todo.looked, todo.values
    if not looked.swaps:
        return SwapResult(bool(looked.settled), values)
    recorder = SwapRecorder(runtime, work, message_id, "protect")
    try:
        done = await work.connector.swap_attachments(ref, looked.swaps, recorder)
    except WriteNotVerified as error:
        log.warning("message.attachment_doubtful", tenant=str(work.tenant_id), message=message_id)
        doubtful = TransformWarning("attachment_doubtful", "", str(error))
        return SwapResult(True, _with_warnings(values, [doubtful]))
    await _note(runtime, work, done)
    unchanged = [each for each, outcome in _outcomes(looked, done) if outcome is not SwapOutcome.DONE]
    kept = [each for each, outcome in _outcomes(looked, done) if outcome is SwapOutcome.DONE]
    if not unchanged:
        return SwapResult(True, values)
    refused = [not_changed(e, done.reason) for e, outcome in _outcomes(looked, done) if outcome is SwapOutcome.REFUSED]
    values = _with_warnings(values, refused) | {
        "links": max(0, values["links"] - sum(each.links for each in unchanged)),
        "undo_sealed": sealed(runtime, work, message_id, todo.undo, (*looked.settled, *kept)),
    }
    left = statement(_LEFT, work.tenant_id, message_id, [each.part for each in unchanged])
    return SwapResult(bool(kept or looked.settled), values, (left,))


_LEFT = "UPDATE message_links SET action = 'leave' WHERE tenant_id = %s AND message_id = %s AND part = ANY(%s)"


def _outcomes(looked: Looked, done: Swapped) -> list[tuple[KeptFile, SwapOutcome]]:
    return list(zip(looked.kept, done.outcomes, strict=True))


def _with_warnings(values: dict[str, Any], more: Sequence[TransformWarning]) -> dict[str, Any]:
    said = [*values["warnings"], *(journal.warning_value(warning) for warning in more)]
    return {"links": values["links"], "warnings": said}


async def put_back(
    runtime: Runtime, work: MailboxWork, message_id: int, ref: MessageRef, kept: Sequence[KeptFile]
) -> str:
    """Give a message the attachments back that came with it.

    Returns:
        Why one could not be given back; empty where none is left changed. One that the reader removed stays away.

    Raises:
        ConnectorError: Not all is done; asking again goes on.
    """
    if not kept:
        return ""
    swaps = [AttachmentSwap(_file(each, each.content), each.became) for each in kept]
    done = await work.connector.swap_attachments(ref, swaps, SwapRecorder(runtime, work, message_id, "restore"))
    return done.reason


def _file(kept: KeptFile, content: bytes) -> AttachedFile:
    return AttachedFile(kept.name, kept.content_type, kept.content_id, kept.is_inline, content)


def _sha256(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


# --- what is known about a tenant ------------------------------------------------------------------------------------


async def _note(runtime: Runtime, work: MailboxWork, done: Swapped) -> None:
    """Keep what was found out about this tenant, where it is news."""
    try:
        fixed = await work.connector.attachments_fixed()
    except ConnectorError:
        return  # no token for the moment: nothing is known about it, and what comes next says so
    if fixed:
        found = {"status": _REFUSED, "detail": fixed, "at": runtime.clock().isoformat()}
    elif SwapOutcome.DONE in done.outcomes:
        found = {"status": _WORKS, "detail": "", "at": runtime.clock().isoformat()}
    else:
        return
    await runtime.db.at_once(work.tenant_id, _noting(work.tenant_id, found))


_NOTE = """
UPDATE tenants SET settings = jsonb_set(settings, '{attachments}', %s)
WHERE tenant_id = %s AND settings #>> '{attachments,status}' IS DISTINCT FROM %s
"""


def _noting(tenant_id: uuid.UUID, found: dict[str, str]) -> Statement:
    return statement(_NOTE, Jsonb(found), tenant_id, found["status"])


def with_evidence(checks: Sequence[AccessCheck], settings: dict[str, Any]) -> list[AccessCheck]:
    """The access checks with what is known of changing attachments: another process than this may have found it out.

    Args:
        checks: Those of the connector; where none is about attachments, none is added.
        settings: The tenant's.
    """
    return [_known(each, settings) if each.key == EVIDENCE else each for each in checks]


def _known(check: AccessCheck, settings: dict[str, Any]) -> AccessCheck:
    found = settings.get(EVIDENCE) or {}
    on = str(found.get("at", ""))[:10]
    if found.get("status") == _WORKS:
        return AccessCheck(EVIDENCE, CheckStatus.PASSED, f"An attachment of received mail was changed on {on}.")
    if not wants_changes(DeliveryOptions.parse(settings.get("delivery") or {})):
        return AccessCheck(
            EVIDENCE,
            CheckStatus.SKIPPED,
            "Codes in attachments are reported, not changed: so the settings say. Whether they can be is not known.",
        )
    if found.get("status") == _REFUSED:
        return AccessCheck(
            EVIDENCE,
            CheckStatus.UNKNOWN,
            f"Refused on {on}: {found.get('detail', '')}",
            "Nothing else depends on it: codes are reported. It is tried again, once an hour at most.",
        )
    if check.status is CheckStatus.SKIPPED:
        return AccessCheck(EVIDENCE, CheckStatus.UNKNOWN, check.summary, "Nothing needs to be done.")
    return check
