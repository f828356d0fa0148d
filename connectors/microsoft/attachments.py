"""Puts file attachments of a received message in the place of others.

Sources: https://learn.microsoft.com/graph/api/message-post-attachments, .../attachment-delete, .../attachment-get,
.../message-list-attachments; https://learn.microsoft.com/graph/api/resources/fileattachment.

An attachment cannot be changed, so one with the same name, type, ``contentId`` and ``isInline`` is added and the old
one removed, in this order: whatever happens in between, nothing is lost, and where adding is refused nothing was
touched.

* That *received* mail takes an attachment is not documented. The first attempt of a tenant is the probe: what was added
  is read back, and only where all of it is as it was given is the old one removed. A refusal holds for an hour for the
  permissions that our token had; until then nothing is tried again. Where others of the tenant were changed within the
  hour, it is that message alone that does not take it.
* Attachments are told apart by what they are (name, type, content id, inline flag and SHA-256), not by an id that was
  remembered: asking again after a crash or a time-out finds what took effect. A write is never repeated blindly.
* A write that ends without an answer is asked for again by the caller. Where that happens five times in a row while
  reading works, it is this operation that the store does not do: it counts as refused, so that one picture cannot hold
  back a mailbox.
* A file of 3 MB or more would need an upload session; such a one is refused by name, not split.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

from connectors.base.errors import ConnectorError, MessageGone, Unavailable, VersionConflict, WriteNotVerified
from connectors.base.types import (
    AccessCheck,
    AttachedFile,
    AttachmentRecorder,
    AttachmentStep,
    AttachmentSwap,
    CheckStatus,
    MessageRef,
    SwapOutcome,
    Swapped,
)
from connectors.microsoft.client import GraphClient, Reply
from connectors.microsoft.errors import GraphFault
from connectors.microsoft.fetch import list_attachments, read_attachment
from connectors.microsoft.templates import Built

if TYPE_CHECKING:
    from kiota_abstractions.request_information import RequestInformation

MAX_FILE_BYTES = 3_000_000
"""Largest file that one request takes ("under 3 MB", https://learn.microsoft.com/graph/outlook-large-attachments)."""
CHECK = "attachments"
"""Key of the access check."""
_HOLDS_SECONDS = 3_600.0
_FAILURES = 5
"""Writes in a row that end without an answer before they count as refused."""
_ADDING = "adding an attachment"
_REMOVING = "removing an attachment"
_Kind = tuple[str, str, str | None, bool, bytes, bytes, bool]


class AttachmentRefused(ConnectorError):
    """This one cannot be swapped; both before and after, the old one stands there once."""


async def read_file(client: GraphClient, ref: MessageRef, attached: str) -> AttachedFile:
    """A file attachment with its content.

    Raises:
        MessageGone: The message or the attachment no longer exists, or it has no content.
    """
    info = client.requests.attachment(ref.mailbox.id, ref.id, attached)
    reply = await client.call(info, mailbox=ref.mailbox.id, read=True, what="reading an attachment", about_message=True)
    try:
        content = base64.b64decode(reply.data["contentBytes"], validate=True)
    except (KeyError, TypeError, ValueError) as error:
        raise MessageGone("Graph's answer holds no content of the attachment.") from error
    content_id = reply.data.get("contentId")
    return AttachedFile(
        name=str(reply.data.get("name") or ""),
        content_type=str(reply.data.get("contentType") or ""),
        content_id=content_id if isinstance(content_id, str) and content_id else None,
        is_inline=reply.data.get("isInline") is True,
        content=content,
    )


class AttachmentDesk:
    """Swaps attachments for one tenant, and remembers whether its mail takes that.

    Args:
        client: Graph.
    """

    def __init__(self, client: GraphClient) -> None:
        self._client = client
        self._worked_until = 0.0
        self._refused_until = 0.0
        self._refused_with: frozenset[str] = frozenset()
        self._reason = ""
        self._failures = 0

    async def write(self, ref: MessageRef, info: RequestInformation | Built, what: str) -> Reply:
        """Send a request that adds or removes.

        Raises:
            Unavailable: It is not known whether it took effect.
            AttachmentRefused: The same, again and again.
        """
        try:
            reply = await self._client.exchange(info, mailbox=ref.mailbox.id, read=False, what=what)
        except Unavailable as error:
            self._failures += 1
            if self._failures < _FAILURES:
                raise
            raise AttachmentRefused(f"Graph gave {self._failures} times no answer while {what}.") from error
        self._failures = 0
        return reply

    async def fixed(self) -> str:
        """Why attachments stay as they are for now; empty where they can be swapped, or nobody has tried yet.

        Raises:
            ConnectorError: There is no token.
        """
        if not self._reason or self._client.now() >= self._refused_until:
            return ""
        return self._reason if await self._client.roles() == self._refused_with else ""

    async def check(self) -> AccessCheck:
        """What this process has found out, as an access check. It never fails: nothing else depends on it."""
        try:
            fixed = await self.fixed()
        except ConnectorError:
            fixed = ""  # there is no token: the check of the consent says so
        if fixed:
            return AccessCheck(
                CHECK,
                CheckStatus.UNKNOWN,
                f"Refused within the hour: {fixed}",
                "Nothing else depends on it: codes are reported. It is tried again, once an hour at most.",
            )
        if self._client.now() < self._worked_until:
            return AccessCheck(CHECK, CheckStatus.PASSED, "An attachment of received mail was changed within the hour.")
        return AccessCheck(
            CHECK,
            CheckStatus.SKIPPED,
            "Whether received mail takes a changed attachment is not documented. The first code in a picture that is "
            "to be changed shows it; where it is refused the picture is left as it is and the code is reported.",
        )

    async def swap(self, ref: MessageRef, swaps: Sequence[AttachmentSwap], record: AttachmentRecorder) -> Swapped:
        """Swap, verify, and record each step; see :class:`connectors.base.protocol.MailboxConnector`.

        Args:
            ref: The message.
            swaps: What to put there.
            record: Awaited after each step.

        Raises:
            MessageGone: The message no longer exists.
            VersionConflict: Somebody else changed it at this moment; ask again.
            WriteNotVerified: An attachment is there twice, or not at all; the text says which.
        """
        outcomes = [SwapOutcome.ABSENT] * len(swaps)
        reason = ""
        gone: list[str] = []
        for numbers in _alike(swaps):
            one = _One(self._client, self.write, ref, swaps, numbers, record)
            try:
                done = await one.run()
            except AttachmentRefused as error:
                reason = str(error)
                await self._note_refusal(one, reason)
                outcomes = [SwapOutcome.REFUSED if at in numbers else each for at, each in enumerate(outcomes)]
                continue
            gone += one.removed
            if done:
                outcomes = [SwapOutcome.DONE if at in numbers else each for at, each in enumerate(outcomes)]
            if one.added:
                self._worked_until = self._client.now() + _HOLDS_SECONDS
                self._reason = ""
        if gone:
            await self._check(ref, gone)
        return Swapped(tuple(outcomes), reason)

    async def _note_refusal(self, one: _One, reason: str) -> None:
        if one.is_about_the_file or self._client.now() < self._worked_until:
            return
        self._reason = reason
        self._refused_until = self._client.now() + _HOLDS_SECONDS
        self._refused_with = await self._client.roles()

    async def _check(self, ref: MessageRef, gone: Sequence[str]) -> None:
        """What was removed must not be listed any more."""
        left = {str(entry.get("id")) for entry in await list_attachments(self._client, ref)}
        if not left.isdisjoint(gone):
            raise WriteNotVerified(
                "Graph removed an attachment and still lists it: it may be shown twice, as it was and as it is now."
            )


def _alike(swaps: Sequence[AttachmentSwap]) -> list[list[int]]:
    """The places of the swaps, those together that nothing tells apart: the same file attached twice."""
    found: dict[_Kind, list[int]] = {}
    for at, swap in enumerate(swaps):
        found.setdefault(_kind(swap), []).append(at)
    return list(found.values())


def _kind(swap: AttachmentSwap) -> _Kind:
    return (*_identity(swap.file), swap.old_sha256, _wanted(swap), swap.finish_sha256 is None)


def _wanted(swap: AttachmentSwap) -> bytes:
    """SHA-256 of what is to be there."""
    return swap.finish_sha256 if swap.finish_sha256 is not None else _digest(swap.file)


def _identity(file: AttachedFile) -> tuple[str, str, str | None, bool]:
    return file.name, file.content_type.lower(), file.content_id, file.is_inline


def _digest(file: AttachedFile) -> bytes:
    return hashlib.sha256(file.content).digest()


class _One:
    """One kind of swap in one message; as a rule there is one attachment of it."""

    def __init__(
        self,
        client: GraphClient,
        write: Callable[[MessageRef, RequestInformation | Built, str], Awaitable[Reply]],
        ref: MessageRef,
        swaps: Sequence[AttachmentSwap],
        numbers: Sequence[int],
        record: AttachmentRecorder,
    ) -> None:
        self._client = client
        self._write = write
        self._ref = ref
        self._numbers = numbers
        self._record = record
        self._swap = swaps[numbers[0]]
        self._old_ids = {swaps[number].old_id for number in numbers} - {""}
        self.added: list[str] = []
        self.removed: list[str] = []
        self.is_about_the_file = False
        """Whether a refusal says something of this file only."""

    async def run(self) -> bool:
        """Do what is left to do; whether the new one stands there now.

        Raises:
            AttachmentRefused: It is left as it was.
        """
        old, new = await self._found()
        wanted = len(self._numbers)
        missing = max(0, min(wanted - len(new), len(old))) if self._swap.finish_sha256 is None else 0
        try:
            for number in self._numbers[:missing]:
                new.append(await self._add(number))
            if not new:
                return False
            await self._verify_added()
            for spare in new[wanted:]:
                await self._remove(spare)
            for number, each in zip(self._numbers, old, strict=False):
                await self._remove(each)
                self.removed.append(each)
                await self._record(number, AttachmentStep.REMOVED)
        except AttachmentRefused:
            await self._withdraw()
            raise
        return True

    async def _found(self) -> tuple[list[str], list[str]]:
        """Ids of what is there: the old ones and the new ones."""
        old: list[str] = []
        new: list[str] = []
        digest = _wanted(self._swap)
        for entry in await list_attachments(self._client, self._ref):
            if not self._may_be(entry):
                continue
            number = str(entry["id"])
            if number in self._old_ids:
                old.append(number)
                continue
            try:
                file = await read_file(self._client, self._ref, number)
            except MessageGone:
                continue
            if _identity(file) == _identity(self._swap.file):
                found = _digest(file)
                if found == digest:
                    new.append(number)
                elif found == self._swap.old_sha256:
                    old.append(number)
        return old, new

    def _may_be(self, entry: dict[str, Any]) -> bool:
        """By what a list tells: an unchanged name, and a file."""
        return (
            bool(entry.get("id"))
            and read_attachment(entry).is_file
            and entry.get("name") == self._swap.file.name
            and (entry.get("isInline") is True) == self._swap.file.is_inline
        )

    async def _add(self, number: int) -> str:
        file = self._swap.file
        if len(file.content) >= MAX_FILE_BYTES:
            self.is_about_the_file = True
            raise AttachmentRefused(
                f"An attachment would have {len(file.content)} bytes, over the 3 MB that Graph takes."
            )
        info = self._client.requests.add_attachment(self._ref.mailbox.id, self._ref.id, file)
        reply = await self._write(self._ref, info, _ADDING)
        if reply.fault is not None:
            raise await self._refusal(reply.fault, _ADDING)
        made = reply.data.get("id")
        if not isinstance(made, str) or not made:
            raise WriteNotVerified("Graph added an attachment and did not say which: it may be shown twice.")
        self.added.append(made)
        try:
            await self._record(number, AttachmentStep.ADDED)
        except Exception as error:
            try:
                await self._leave_one(made)
            except ConnectorError as other:
                error.add_note(f"Whether the attachment just added stands there twice could not be told: {other}")
            raise
        return made

    async def _leave_one(self, made: str) -> None:
        """Somebody else does the same by now: where theirs stands before ours, ours goes."""
        _, new = await self._found()
        if made in new[len(self._numbers) :]:
            await self._remove(made)

    async def _verify_added(self) -> None:
        wanted = (_identity(self._swap.file), _digest(self._swap.file))
        for number, each in zip(self._numbers, self.added, strict=False):
            file = await read_file(self._client, self._ref, each)
            got = (_identity(file), _digest(file))
            if got != wanted:
                names = ("name", "type", "content id", "inline flag")
                differ = [name for name, a, b in zip(names, got[0], wanted[0], strict=True) if a != b]
                if got[1] != wanted[1]:
                    differ.append("content")
                raise AttachmentRefused(f"Graph gave an added attachment another {', '.join(differ)} than it was told.")
            await self._record(number, AttachmentStep.VERIFIED)

    async def _remove(self, attachment: str) -> None:
        info = self._client.requests.remove_attachment(self._ref.mailbox.id, self._ref.id, attachment)
        reply = await self._write(self._ref, info, _REMOVING)
        if reply.fault is not None and reply.fault.status != 404:
            raise await self._refusal(reply.fault, _REMOVING)

    async def _withdraw(self) -> None:
        """Take away what was added, by an earlier try too: the old one cannot be removed, or the new one is wrong.

        Raises:
            WriteNotVerified: Not all of it could be, or must not since its old one is gone.
        """
        old, new = await self._found()
        earlier = [each for each in new if each not in self.added]
        spare = earlier[: max(0, len(old) + len(earlier) - len(self._numbers))]
        if self.removed or len(earlier) > len(spare):
            raise WriteNotVerified("Of several equal attachments some were replaced, and others could not be.")
        try:
            for each in (*self.added, *spare):
                await self._remove(each)
                await self._record(self._numbers[0], AttachmentStep.WITHDRAWN)
        except AttachmentRefused as error:
            raise WriteNotVerified(
                f"An attachment that was added could not be taken away again, and is shown twice: {error}"
            ) from error

    async def _refusal(self, fault: GraphFault, what: str) -> ConnectorError:
        """What a refused request means: that the mailbox is out of reach, or that attachments are."""
        said = f"Graph answered {fault.status} {fault.code}".rstrip() + f" while {what}"
        if fault.status == 404:
            return await self._client.refused(fault, what, about_message=True)
        if fault.status in (409, 412) or fault.has("ErrorIrresolvableConflict", "ErrorChangeKeyMismatch"):
            return VersionConflict(f"{said}: the message changed at this moment; it is done again.")
        if fault.status in (401, 408, 423) or fault.status >= 500:
            return await self._client.refused(fault, what, about_message=True)
        if fault.status == 403:
            info = self._client.requests.message(self._ref.mailbox.id, self._ref.id, ["id"])
            reading = await self._client.exchange(info, mailbox=self._ref.mailbox.id, read=True, what=what)
            if reading.fault is not None:
                return await self._client.refused(reading.fault, what, about_message=True)
        self.is_about_the_file = fault.status == 413 or fault.has(
            "ErrorAttachmentSizeLimitExceeded", "ErrorMessageSizeExceeded", "ErrorQuotaExceeded"
        )
        return AttachmentRefused(f"{said}: attachments of this received message stay as they are.")
