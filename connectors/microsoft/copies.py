"""Replacing a message by a copy: create it, verify it, move the original to the deleted items.

For tenants whose administrator chose this, where Graph refuses to change the body of received mail (from 31 December
2026 on, without ``Mail-Advanced.ReadWrite.All``). The journal has the steps of :mod:`connectors.google.replace`:
WRITTEN (the copy exists), VERIFIED (it was read back and is right), REMOVED (the original is in the bin). The dangers,
and what is done about each:

* *A creation may have taken effect although no answer came.* It is never repeated blindly: the messages received
  in the same second are searched for our marker first (:mod:`connectors.microsoft.copy_search`).
* *Exchange may make a draft of it*: that a copy can be created as received mail is practice, not promise. Then the copy
  goes, the original stays, and writing stops for the tenant, as without the choice.
* *The user acts meanwhile.* The original is read again just before it goes; its folder, read state, flag, categories
  and importance are carried over. A deleted original takes its copy with it.
* *We crash between moving the original and recording it.* On resuming from VERIFIED, or when a copy of an earlier try
  is found, an original that is gone or in the bin counts as removed by us: the copy stays. At worst a mail comes back;
  none is lost.

Restoring brings the original back from the bin (with immutable ids it keeps its id,
https://learn.microsoft.com/graph/outlook-immutable-id) in its copy's place and state, and moves the copy there. Where
the original is gone, a copy without our marker takes its place.

Nothing is ever deleted for good: https://learn.microsoft.com/graph/api/message-move to ``deleteditems`` is all.
"""

from __future__ import annotations

from typing import Any

from connectors.base.errors import (
    ConnectorError,
    MessageGone,
    PermissionMissing,
    Transient,
    Unavailable,
    VersionConflict,
    WriteNotVerified,
)
from connectors.base.types import (
    BodyContent,
    MessageRef,
    Recorder,
    Replacement,
    ReplaceResult,
    ReplaceState,
    ReplaceStep,
    Returned,
)
from connectors.base.verify import verify_body
from connectors.microsoft import folders as names
from connectors.microsoft.client import GraphClient, Reply
from connectors.microsoft.copy_parts import (
    EXPAND,
    SELECT,
    check_copyable,
    document,
    read_attachments,
    state_to_set,
)
from connectors.microsoft.copy_search import CopySearch, Target, as_ref
from connectors.microsoft.errors import MAIL_ADVANCED
from connectors.microsoft.fetch import body_content, list_attachments, message_version, parse_time, read_attachment
from connectors.microsoft.folders import FolderBook
from connectors.microsoft.marks import MarkKeys

_CREATING = "creating a copy of a message"
_READING = "reading a message to replace it by a copy"


class AlreadyInPlace(Exception):
    """The message holds the new body itself: an earlier try changed it in place. Nothing is to be copied."""


class CopyGone(Exception):
    """The copy is not (any more) one that can take the original's place: write another."""


class Copier:
    """Replaces messages of one tenant by copies.

    Args:
        client: Sends the calls.
        book: Folders.
        keys: Secrets of the marker.
    """

    def __init__(self, client: GraphClient, book: FolderBook, keys: MarkKeys) -> None:
        self._client = client
        self._book = book
        self._keys = keys
        self._search = CopySearch(client, book, keys)

    async def run(
        self,
        change: Replacement,
        idempotency_key: str,
        record: Recorder,
        resume: ReplaceState | None,
        *,
        anew: bool = True,
    ) -> ReplaceResult:
        """See :meth:`connectors.base.protocol.MailboxConnector.replace`.

        Args:
            change: See there.
            idempotency_key: See there.
            record: See there.
            resume: See there.
            anew: Whether another copy may be made where that of an earlier try is not to be used.

        Raises:
            AlreadyInPlace: See there.
            CopyGone: It is not to be used, and there may be no other.
            NotCopyable: A copy would lose something attached; nothing was written.
        """
        if not isinstance(change.content, BodyContent) or not isinstance(change.original.content, BodyContent):
            raise TypeError("Graph replaces bodies; MIME content cannot be written.")
        target = Target(change, change.content, idempotency_key)
        try:
            return await self._steps(target, record, resume)
        except CopyGone:
            # The copy of an earlier try is gone, withdrawn or outdated, the original still there: once more.
            if not anew:
                raise
        try:
            return await self._steps(target, record, None)
        except CopyGone:
            raise WriteNotVerified("The copy disappears as soon as it is written; the original was kept.") from None

    async def _steps(self, target: Target, record: Recorder, state: ReplaceState | None) -> ReplaceResult:
        if state is not None and state.step is ReplaceStep.REMOVED:
            return ReplaceResult(as_ref(target, state.new_id), state.version)
        uncertain = target.name in self._search.unanswered
        fresh = False
        # From here on an original in the bin may be one that we put there before we were interrupted.
        maybe_ours = state is not None and state.step is ReplaceStep.VERIFIED
        if state is None:
            found, superfluous = await self._search.find(target)
            for identity in superfluous:
                await self.discard(as_ref(target, identity))
            maybe_ours, fresh = found is not None, found is None
            written = await self._create(target) if found is None else found
            state = ReplaceState(ReplaceStep.WRITTEN, str(written["id"]), message_version(written))
            await record(state)
        copy_id = state.new_id
        content, normalised = None, False
        if state.step is ReplaceStep.WRITTEN:
            copy = await self._verify(target, copy_id, fresh=fresh)
            got = body_content(copy["body"])
            normalised = not target.compare(copy).identical
            content = got if normalised else None
            state = ReplaceState(ReplaceStep.VERIFIED, copy_id, message_version(copy))
            await record(state)
        else:
            copy = await self._copy(target, copy_id)
        version = await self._remove(target, copy, fresh=fresh, maybe_ours=maybe_ours)
        if uncertain:
            for identity in await self._search.others(target, copy_id):
                await self.discard(as_ref(target, identity))
            self._search.unanswered.discard(target.name)
        await record(ReplaceState(ReplaceStep.REMOVED, copy_id, version))
        return ReplaceResult(as_ref(target, copy_id), version, normalised=normalised, content=content)

    # ---- writing

    async def _create(self, target: Target) -> dict[str, Any]:
        ref, old = target.original.ref, target.original.content
        source = await self._read(ref)
        body = body_content(source.get("body") or {})
        if body != old:
            if target.change.expected_links and target.compare(source).ok:
                raise AlreadyInPlace
            raise VersionConflict(
                "The message's body is not the one that was transformed any more; nothing was written."
            )
        folder = str(source.get("parentFolderId") or "")
        place = "" if folder in target.original.places else await self._book.name_of(ref.mailbox.id, folder)
        if place == names.RECOVERABLE:
            raise MessageGone("The user deleted the message; nothing was written.")
        if place in (names.DELETED, names.JUNK):
            raise VersionConflict("The user moved the message away meanwhile; nothing was written.")
        attached = [read_attachment(each) for each in await list_attachments(self._client, ref)]
        check_copyable(target.content, attached)
        contents = await read_attachments(self._client, ref, attached)
        marked = self._keys.properties(ref.mailbox.id, ref.id) if target.change.mark else []
        doubted = target.name in self._search.unanswered
        self._search.unanswered.add(target.name)  # holds if this task is cancelled while waiting, too
        try:
            reply = await self._post(target, folder, document(source, target.content, contents, marked, carry=True))
            if reply.fault is not None and reply.status == 400:
                # It may be a property that can be left out.
                reply = await self._post(
                    target, folder, document(source, target.content, contents, marked, carry=False)
                )
            if reply.fault is not None:
                raise await self._client.refused(reply.fault, _CREATING)
        except Transient:
            raise
        except ConnectorError:
            if not doubted:
                self._search.unanswered.discard(target.name)
            raise
        if not doubted:
            self._search.unanswered.discard(target.name)
        made = reply.data
        if not isinstance(made.get("id"), str):
            raise Unavailable("Graph answered the creation of a copy without its id.")
        if made["id"] == ref.id:
            raise WriteNotVerified("Graph gave the original's id for the copy. Nothing was touched.")
        return made

    async def _post(self, target: Target, folder: str, made: dict[str, Any]) -> Reply:
        info = self._client.requests.create_message(target.mailbox.id, folder, made)
        return await self._client.exchange(info, mailbox=target.mailbox.id, read=False, what=_CREATING)

    # ---- verifying

    async def _verify(self, target: Target, copy_id: str, *, fresh: bool) -> dict[str, Any]:
        copy = await self._copy(target, copy_id)
        ours = fresh or self._search.is_ours(target, copy)
        if not fresh and await self._search.in_bin(target.mailbox, copy) and not await self._was_in_bin(target):
            raise CopyGone  # withdrawn by the earlier try, or by its owner: not what should take the original's place
        if copy.get("isDraft") is True:
            await self._withdraw(target, copy_id, ours=ours)
            raise PermissionMissing(
                MAIL_ADVANCED,
                "Exchange made a draft of the copy of a received message, so that messages cannot be replaced by "
                f"copies in this organisation. The original was kept. {MAIL_ADVANCED} changes messages in place.",
            )
        problems = []
        if not (outcome := target.compare(copy)).ok:
            if not fresh and ours:
                # The policy changed between two tries: the copy is right for the first and wrong for this one.
                await self.discard(as_ref(target, copy_id))
                raise CopyGone
            problems.append(str(outcome))
        received = target.original.received_at
        if received is not None and parse_time(copy.get("receivedDateTime")) != received:
            problems.append("another receivedDateTime")
        if target.original.internet_message_id and copy.get("internetMessageId") != target.original.internet_message_id:
            problems.append("another internetMessageId")
        if not await self._has_attachments(target, copy_id):
            problems.append("an attachment is missing")
        if problems:
            done = await self._withdraw(target, copy_id, ours=ours)
            raise WriteNotVerified(
                f"The copy was read back and is wrong ({', '.join(problems)}). The original was kept; {done}."
            )
        return copy

    async def _has_attachments(self, target: Target, copy_id: str) -> bool:
        try:
            wanted = await list_attachments(self._client, target.original.ref)
        except MessageGone:
            await self.discard(as_ref(target, copy_id))
            raise MessageGone("The user deleted the message; its copy was removed too.") from None
        got = await list_attachments(self._client, as_ref(target, copy_id))
        return sorted(_shape(each) for each in wanted) == sorted(_shape(each) for each in got)

    async def _withdraw(self, target: Target, copy_id: str, *, ours: bool) -> str:
        """Take a wrong copy out of sight, if it is beyond doubt ours; says what was done."""
        if not ours:
            return "the other message is not our copy and was left where it is"
        try:
            await self.discard(as_ref(target, copy_id))
        except ConnectorError:
            return "the copy could not be moved to the deleted items"
        return "the copy was moved to the deleted items"

    async def _was_in_bin(self, target: Target) -> bool:
        return await self._search.in_bin(target.mailbox, {"parentFolderId": (*target.original.places, "")[0]})

    # ---- removing

    async def _remove(self, target: Target, copy: dict[str, Any], *, fresh: bool, maybe_ours: bool) -> str:
        """Carry over what happened to the original meanwhile, then remove it. Returns the copy's version."""
        copy_ref = as_ref(target, str(copy["id"]))
        now = await self._read_or_none(target.original.ref)
        place = "" if now is None else await self._book.name_of(target.mailbox.id, str(now.get("parentFolderId") or ""))
        if now is None or place == names.RECOVERABLE:
            if maybe_ours:
                return message_version(copy)
            await self.discard(copy_ref)
            raise MessageGone("The user deleted the message; its copy was removed too.")
        in_bin = place == names.DELETED
        if maybe_ours and in_bin:
            return message_version(copy)
        version = await self._set_state(copy_ref, state_to_set(now, copy, merge=not fresh)) or message_version(copy)
        folder = str(now.get("parentFolderId") or "")
        if folder != copy.get("parentFolderId") and (fresh or in_bin or await self._in_inbox(target, copy)):
            moved = await self._move(copy_ref, folder)
            if moved is None:
                raise CopyGone
            version = message_version(moved) or version
        if not in_bin:
            await self.discard(target.original.ref)
        return version

    async def _in_inbox(self, target: Target, message: dict[str, Any]) -> bool:
        known = await self._book.well_known(target.mailbox.id)
        return known.name_of(str(message.get("parentFolderId") or "")) == names.INBOX

    async def remove_again(self, original: MessageRef, copy: MessageRef) -> Returned:
        """Remove an original that the user moved out of the bin, where its live links are in reach again.

        The copy is left exactly as it is: what the user did to it since counts, and it may be in quarantine.
        """
        if await self._place_of(original) in (None, names.DELETED, names.JUNK, names.RECOVERABLE):
            return Returned.AWAY
        if await self._place_of(copy) in (None, names.DELETED, names.RECOVERABLE):
            return Returned.ALONE
        await self.discard(original)
        return Returned.REMOVED

    async def discard(self, ref: MessageRef) -> None:
        """Move a message to the deleted items; one that is there or gone is fine.

        Raises:
            ConnectorError: It could not be moved.
        """
        if await self._place_of(ref) in (None, names.DELETED, names.RECOVERABLE):
            return
        known = await self._book.well_known(ref.mailbox.id)
        await self._move(ref, known.ids.get(names.DELETED, names.DELETED))

    async def withdraw_left(self, change: Replacement, idempotency_key: str) -> None:
        """Put copies into the bin that an interrupted try left beside a message which stands as it is."""
        if not isinstance(change.content, BodyContent):
            return
        target = Target(change, change.content, idempotency_key)
        for identity in await self._search.others(target, ""):
            await self.discard(as_ref(target, identity))

    # ---- restoring

    async def bring_back(
        self, change: Replacement, idempotency_key: str, record: Recorder, resume: ReplaceState | None
    ) -> ReplaceResult:
        """Put the original back in its copy's place; where it is gone, a copy without our marker.

        The steps are recorded under the original's id: WRITTEN (it stands where its copy does), VERIFIED (it was read
        back and is what was delivered), REMOVED (the copy is in the bin).

        Args:
            change: ``original`` is our copy, ``content`` what was delivered.
            idempotency_key: For the copy without marker.
            record: See the protocol.
            resume: See the protocol.
        """
        copy, content = change.original, change.content
        if copy.copy is None or not isinstance(content, BodyContent):
            raise TypeError("Only a copy of ours has an original to be brought back, and Graph replaces bodies.")
        back = MessageRef(copy.ref.mailbox, copy.copy.original_id)
        if resume is not None and resume.new_id != back.id:
            return await self.run(change, idempotency_key, record, resume)
        if resume is not None and resume.step is ReplaceStep.REMOVED:
            return ReplaceResult(back, resume.version)
        if resume is None:
            original = await self._read_or_none(back)
            if original is None or not verify_body(content, body_content(original.get("body") or {})).ok:
                return await self.run(change, idempotency_key, record, None)
            standing = await self._read(copy.ref)
            await self._set_state(back, state_to_set(standing, original, merge=False))
            folder = str(standing.get("parentFolderId") or "")
            lies = str(original.get("parentFolderId") or "")
            away = (names.DELETED, names.RECOVERABLE)
            if folder != lies and await self._book.name_of(back.mailbox.id, lies) in away:
                await self._move(back, folder)
            await record(ReplaceState(ReplaceStep.WRITTEN, back.id))
        read = await self._read(back)
        got, version = body_content(read.get("body") or {}), message_version(read)
        if not verify_body(content, got).ok:
            raise WriteNotVerified("The original is not what was delivered any more; it and its copy were left.")
        if resume is None or resume.step is not ReplaceStep.VERIFIED:
            await record(ReplaceState(ReplaceStep.VERIFIED, back.id, version))
        await self.discard(copy.ref)
        await record(ReplaceState(ReplaceStep.REMOVED, back.id, version))
        same = got == content
        return ReplaceResult(back, version, normalised=not same, content=None if same else got)

    # ---- calls

    async def _copy(self, target: Target, copy_id: str) -> dict[str, Any]:
        found = await self._read_or_none(as_ref(target, copy_id))
        if found is None:
            raise CopyGone
        return found

    async def _read_or_none(self, ref: MessageRef) -> dict[str, Any] | None:
        try:
            return await self._read(ref)
        except MessageGone:
            return None

    async def _read(self, ref: MessageRef) -> dict[str, Any]:
        info = self._client.requests.message(ref.mailbox.id, ref.id, SELECT, EXPAND)
        reply = await self._client.call(info, mailbox=ref.mailbox.id, read=True, what=_READING, about_message=True)
        return reply.data

    async def _place_of(self, ref: MessageRef) -> str | None:
        """The well-known name of the folder that a message is in, empty for any other; None where it is gone."""
        info = self._client.requests.message(ref.mailbox.id, ref.id, ["id", "parentFolderId"])
        try:
            reply = await self._client.call(info, mailbox=ref.mailbox.id, read=True, what=_READING, about_message=True)
        except MessageGone:
            return None
        return await self._book.name_of(ref.mailbox.id, str(reply.data.get("parentFolderId") or ""))

    async def _set_state(self, ref: MessageRef, state: dict[str, Any]) -> str:
        """Set what is free to change; the new version, or empty where there was nothing to set."""
        if not state:
            return ""
        info = self._client.requests.set_state(ref.mailbox.id, ref.id, state)
        # Setting the same values twice changes nothing, so it may be repeated.
        reply = await self._client.call(
            info, mailbox=ref.mailbox.id, read=True, what="setting a message's state", about_message=True
        )
        return message_version(reply.data)

    async def _move(self, ref: MessageRef, folder: str) -> dict[str, Any] | None:
        """Move a message, which keeps its immutable id; None where it is gone."""
        what = "moving a message"
        info = self._client.requests.move(ref.mailbox.id, ref.id, folder)
        reply = await self._client.exchange(info, mailbox=ref.mailbox.id, read=False, what=what)
        if reply.fault is None:
            return reply.data
        if reply.status == 404:
            return None
        raise await self._client.refused(reply.fault, what, about_message=True)


def _shape(attachment: dict[str, Any]) -> tuple[str, str, bool]:
    return (
        str(attachment.get("name") or ""),
        str(attachment.get("contentType") or "").lower(),
        attachment.get("isInline") is True,
    )
