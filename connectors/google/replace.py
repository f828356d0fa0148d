"""Replacing a Gmail message: insert a copy, verify it, remove the original.

Gmail messages are immutable, so the journal has three steps: WRITTEN (the copy exists), VERIFIED (it was
read back and is right), REMOVED (the original is gone). The dangers, and what is done about each:

* *An insert may have taken effect although no answer came.* It is never repeated blindly: the mailbox's
  history (2 units), or where that cannot tell the thread (40 units), is searched for our copy first. The
  copy is known by its marker; a restored message, which has none, by being equal to what would be written.
* *Insert may de-duplicate by Message-ID* and return a message that was there before, even the original's
  own id. Then nothing was written: nothing is removed.
* *A copy may end in another conversation*: Gmail threads by Message-ID, References and Subject
  (https://developers.google.com/workspace/gmail/api/guides/threads), and a message that was put into the
  mailbox without a Message-ID has nothing to go by (one that was delivered has Google's own). The original
  is kept then, and later tries leave no further copy.
* *The user acts meanwhile.* The original's labels are read again just before it goes and mirrored; trashed
  or deleted originals take the copy with them.
* *We crash between removing and recording it.* On resuming from VERIFIED, or when a copy of an earlier try
  is found, an original that is gone or in the trash counts as removed by us: the copy stays. At worst a mail
  comes back; none is lost.

See https://developers.google.com/workspace/gmail/api/reference/rest/v1/users.messages/insert and
https://developers.google.com/workspace/gmail/api/guides/sync.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from connectors.base.errors import (
    ConnectorError,
    MessageGone,
    Transient,
    WriteNotVerified,
)
from connectors.base.types import (
    Content,
    Mailbox,
    MessageRef,
    MimeContent,
    Recorder,
    Replacement,
    ReplaceResult,
    ReplaceState,
    ReplaceStep,
    Returned,
)
from connectors.google import errors, marker
from connectors.google import labels as names
from connectors.google.client import GoogleClient
from connectors.google.copies import CopyFinder, Target
from connectors.google.fetch import RawMessage, date_header, get_minimal, get_raw, off_loop, read_resource
from connectors.google.marker import MarkerKeys

_DATE_TOLERANCE: Final = timedelta(minutes=5)


class _CopyGone(Exception):
    """The copy is not (any more) one that can take the original's place: write another."""


@dataclass(frozen=True, slots=True)
class _Verified:
    """A copy that was read back and is right."""

    message: RawMessage
    content: Content | None

    @property
    def normalised(self) -> bool:
        return self.content is not None


def date_source(content: bytes, received_at: datetime | None, now: datetime) -> str:
    """``internalDateSource`` that puts the copy nearest to where the original stands in the list.

    ``dateHeader`` where the Date header is within minutes of the time the original came in; else whichever
    of the header and the present is nearer, so that neither a forged date moves fresh mail nor a late one
    moves old mail to the top.
    """
    header = date_header(content)
    if header is None or received_at is None:
        return "receivedTime"
    off = abs(header - received_at)
    return "dateHeader" if off <= _DATE_TOLERANCE or off < abs(now - received_at) else "receivedTime"


class Replacer:
    """Runs replacements for one tenant.

    Args:
        client: Sends the calls.
        keys: Secrets of the marker's MAC.
        now: The present, aware.
    """

    def __init__(
        self,
        client: GoogleClient,
        keys: MarkerKeys,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._client = client
        self._now = now
        self._copies = CopyFinder(client, keys)

    async def run(
        self, change: Replacement, idempotency_key: str, record: Recorder, resume: ReplaceState | None
    ) -> ReplaceResult:
        """See :meth:`connectors.base.protocol.MailboxConnector.replace`."""
        if not isinstance(change.content, MimeContent):
            raise TypeError("Gmail takes whole messages: MimeContent, not a body.")
        target = Target(change.original, change.content.raw, idempotency_key, change.mark)
        state = resume
        try:
            return await self._steps(target, record, state)
        except _CopyGone:
            # The copy of an earlier try is gone, withdrawn or outdated, the original still there: once more.
            pass
        try:
            return await self._steps(target, record, None)
        except _CopyGone:
            raise WriteNotVerified("The copy disappears as soon as it is written; the original was kept.") from None

    async def _steps(self, target: Target, record: Recorder, state: ReplaceState | None) -> ReplaceResult:
        mailbox = target.mailbox
        if state is not None and state.step is ReplaceStep.REMOVED:
            return ReplaceResult(MessageRef(mailbox, state.new_id), state.version)
        uncertain = target.name in self._copies.unanswered
        fresh = False
        # From here on an original in the trash may be one that we put there before we were interrupted.
        maybe_ours = state is not None and state.step is ReplaceStep.VERIFIED
        if state is None:
            copy_id = await self._copies.find(target)
            maybe_ours = bool(copy_id)
            fresh = not copy_id
            state = ReplaceState(ReplaceStep.WRITTEN, copy_id or await self._write(target))
            await record(state)
        copy_id = state.new_id
        verified: _Verified | None = None
        if state.step is ReplaceStep.WRITTEN:
            verified = await self._verify(target, copy_id, fresh=fresh)
            state = ReplaceState(ReplaceStep.VERIFIED, copy_id, verified.message.history_id)
            await record(state)
        version = await self._remove(target, copy_id, verified, fresh, maybe_ours) or state.version
        if uncertain:
            await self._copies.drop_others(target, copy_id)
        await record(ReplaceState(ReplaceStep.REMOVED, copy_id, version))
        return ReplaceResult(
            MessageRef(mailbox, copy_id),
            version,
            normalised=verified.normalised if verified else False,
            content=verified.content if verified else None,
        )

    async def remove_again(self, original: MessageRef, copy: MessageRef) -> Returned:
        """Remove an original that the user moved out of the trash, where its live links are in reach again.

        The copy is left exactly as it is: what the user did to it since counts, and it may be in quarantine.
        ``labelsRemoved`` of the mailbox's history tells of such a move
        (https://developers.google.com/workspace/gmail/api/reference/rest/v1/users.history/list).
        """
        mailbox = original.mailbox
        try:
            now = await get_minimal(self._client, mailbox, original.id)
        except MessageGone:
            return Returned.AWAY
        if {names.TRASH, names.SPAM} & set(now.labels):
            return Returned.AWAY
        try:
            standing = await get_minimal(self._client, mailbox, copy.id)
        except MessageGone:
            return Returned.ALONE
        if names.TRASH in standing.labels:
            return Returned.ALONE
        await self._remove_original(mailbox, now)
        return Returned.REMOVED

    # ---- writing

    async def _write(self, target: Target) -> str:
        try:
            written = await self._insert(target, names.applicable(target.original.places))
        except errors.InvalidLabel:
            # A label was deleted after the message was fetched: take those it has now.
            current = await get_minimal(self._client, target.mailbox, target.original.ref.id)
            written = await self._insert(target, names.applicable(current.labels))
        if written.id == target.original.ref.id:
            raise WriteNotVerified(
                "Gmail did not write the copy: it took it for a duplicate of the original. Nothing was touched."
            )
        return written.id

    async def _insert(self, target: Target, label_ids: frozenset[str]) -> RawMessage:
        original = target.original
        body: dict[str, Any] = {"labelIds": sorted(names.in_one_place(label_ids))}
        if original.thread_id:
            body["threadId"] = original.thread_id
        if original.extra:
            body["classificationLabelValues"] = json.loads(original.extra)
        request = self._client.gmail.messages.insert(
            userId=target.mailbox.address,
            body=body,
            internalDateSource=date_source(target.content, original.received_at, self._now()),
        )
        doubted = target.name in self._copies.unanswered
        media = await off_loop(len(target.content), self._copies.as_written, target)
        self._copies.unanswered.add(target.name)  # holds if this task is cancelled while waiting, too
        try:
            answer = await self._client.upload(target.mailbox, request, media, "inserting a copy")
            written = read_resource(answer)
        except Transient:
            raise
        except ConnectorError:
            if not doubted:
                self._copies.unanswered.discard(target.name)
            raise
        if not doubted:
            self._copies.unanswered.discard(target.name)
        return written

    # ---- verifying

    async def _verify(self, target: Target, copy_id: str, *, fresh: bool) -> _Verified:
        try:
            message = await get_raw(self._client, target.mailbox, copy_id)
        except MessageGone:
            raise _CopyGone from None
        elsewhere = bool(target.original.thread_id) and message.thread_id != target.original.thread_id
        if not fresh and names.TRASH in message.labels and names.TRASH not in target.original.places:
            if elsewhere and self._copies.is_ours(target, message):
                # Another copy would end there too, and be one more in the trash at every try.
                raise WriteNotVerified(
                    "The copy of an earlier try is in another conversation, in the trash. "
                    "The original was kept; nothing more was written."
                )
            raise _CopyGone  # withdrawn by the earlier try: not what should take the original's place
        content = await off_loop(len(message.raw), self._copies.content_of, target, message.raw)
        if content is None and not fresh and self._copies.is_ours(target, message):
            # The policy changed between two tries: the copy is right for the first and wrong for this one.
            await self._modify(target.mailbox, message.id, add=(names.TRASH,), remove=(names.INBOX,))
            raise _CopyGone
        problem = ""
        if content is None:
            problem = "its content is not what was sent"
        elif elsewhere:
            problem = "it is in another conversation"
        elif fresh and not await self._has_labels(target, message):
            problem = "it lacks labels of the original"
        if content is None or problem:
            done = await self._withdraw(target, message)
            raise WriteNotVerified(f"The copy was read back and {problem}. The original was kept; {done}.")
        normalised = content != target.content
        return _Verified(message, MimeContent(content) if normalised else None)

    async def _has_labels(self, target: Target, message: RawMessage) -> bool:
        missing = names.in_one_place(names.applicable(target.original.places)) - set(message.labels)
        if not missing:
            return True
        try:
            try:
                after = await self._modify(target.mailbox, message.id, add=tuple(sorted(missing)))
            except errors.InvalidLabel:
                # A label was deleted meanwhile, which took it off the original as well.
                current = await get_minimal(self._client, target.mailbox, target.original.ref.id)
                missing &= set(current.labels)
                if not missing:
                    return True
                after = await self._modify(target.mailbox, message.id, add=tuple(sorted(missing)))
        except MessageGone:
            raise _CopyGone from None
        return missing <= set(after.labels)

    async def _withdraw(self, target: Target, message: RawMessage) -> str:
        """Take a wrong copy out of sight, if it is beyond doubt ours; says what was done."""
        if not target.mark or message.id == target.original.ref.id:
            return "the other message was left where it is"
        claimed, expected = marker.claimed_value(message.raw), self._copies.expected_value(target)
        if not hmac.compare_digest(claimed.encode(), expected.encode()):
            return "the other message is not our copy and was left where it is"
        try:
            await self._modify(target.mailbox, message.id, add=(names.TRASH,), remove=(names.INBOX,))
        except ConnectorError:
            return "the copy could not be moved to the trash"
        return "the copy was moved to the trash"

    # ---- removing

    async def _remove(
        self,
        target: Target,
        copy_id: str,
        verified: _Verified | None,
        fresh: bool,
        maybe_ours: bool,
    ) -> str:
        """Mirror what happened to the original meanwhile, then remove it. Returns the copy's version."""
        mailbox, original = target.mailbox, target.original
        if verified is None:
            copy = await self._copy_labels(mailbox, copy_id)
        else:
            copy = verified.message
        try:
            now = await get_minimal(self._client, mailbox, original.ref.id)
        except MessageGone:
            if maybe_ours:
                return copy.history_id
            await self._drop_copy(mailbox, copy_id)
            raise MessageGone("The user deleted the message; its copy was removed too.") from None
        if maybe_ours and names.TRASH in now.labels and self._client.config.removal == "trash":
            return copy.history_id
        base = original.places if fresh else None
        add, remove = names.mirror(base, now.labels, copy.labels)
        version = copy.history_id
        if add or remove:
            try:
                version = (await self._modify(mailbox, copy_id, add, remove)).history_id or version
            except MessageGone:
                raise _CopyGone from None
        await self._remove_original(mailbox, now)
        return version

    async def _copy_labels(self, mailbox: Mailbox, copy_id: str) -> RawMessage:
        try:
            return await get_minimal(self._client, mailbox, copy_id)
        except MessageGone:
            raise _CopyGone from None

    async def _remove_original(self, mailbox: Mailbox, now: RawMessage) -> None:
        try:
            if self._client.config.removal == "delete":
                request = self._client.gmail.messages.delete(userId=mailbox.address, id=now.id)
                await self._client.mail(mailbox, request, "deleting the original", read=False)
            elif names.TRASH not in now.labels:
                inbox = (names.INBOX,) if names.INBOX in now.labels else ()
                await self._modify(mailbox, now.id, (names.TRASH,), inbox, "moving the original to the trash")
        except MessageGone:
            return  # gone already: what was to be reached

    async def _drop_copy(self, mailbox: Mailbox, copy_id: str) -> None:
        try:
            if self._client.config.removal == "delete":
                request = self._client.gmail.messages.delete(userId=mailbox.address, id=copy_id)
                await self._client.mail(mailbox, request, "deleting the copy", read=False)
            else:
                await self._modify(mailbox, copy_id, add=(names.TRASH,), remove=(names.INBOX,))
        except MessageGone:
            return

    async def _modify(
        self,
        mailbox: Mailbox,
        message_id: str,
        add: tuple[str, ...] = (),
        remove: tuple[str, ...] = (),
        what: str = "setting labels",
    ) -> RawMessage:
        return await modify(self._client, mailbox, message_id, add, remove, what)


async def modify(
    client: GoogleClient,
    mailbox: Mailbox,
    message_id: str,
    add: tuple[str, ...],
    remove: tuple[str, ...],
    what: str,
) -> RawMessage:
    """Change a message's labels (5 quota units). Setting the same labels twice does no harm, so it is retried."""
    body = {"addLabelIds": sorted(names.in_one_place(add)), "removeLabelIds": list(remove)}
    request = client.gmail.messages.modify(userId=mailbox.address, id=message_id, body=body)
    return read_resource(await client.mail(mailbox, request, what))
