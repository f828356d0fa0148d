"""Finding the copy of a message that an earlier, interrupted try has made."""

from __future__ import annotations

import hmac
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from connectors.base.errors import MessageGone, VersionConflict
from connectors.base.types import FetchedMessage, Mailbox
from connectors.base.unanswered import Unanswered, WriteName
from connectors.google import labels as names
from connectors.google import marker
from connectors.google.client import GoogleClient
from connectors.google.fetch import RawMessage, get_raw, off_loop
from connectors.google.marker import MarkerKeys


@dataclass(frozen=True, slots=True)
class Target:
    """What is to be written in place of what.

    Attributes:
        original: The message to be replaced.
        content: The new source, without a marker.
        key: Idempotency key.
        mark: Whether the copy carries our marker.
    """

    original: FetchedMessage
    content: bytes
    key: str
    mark: bool

    @property
    def name(self) -> WriteName:
        """What its write is known by."""
        return WriteName(self.mailbox.id, self.original.ref.id, self.key)

    @property
    def mailbox(self) -> Mailbox:
        """Whose mailbox it is in."""
        return self.original.ref.mailbox


class CopyFinder:
    """Tells our copies of one message from everything else.

    Args:
        client: Sends the calls.
        keys: Secrets of the marker's MAC.
    """

    def __init__(self, client: GoogleClient, keys: MarkerKeys) -> None:
        self._client = client
        self._keys = keys
        self.unanswered = Unanswered()

    # ---- what was sent, and whether it is this

    def as_written(self, target: Target) -> bytes:
        """The bytes to insert."""
        if not target.mark:
            return target.content
        original = target.original.ref
        return marker.stamp(self._keys.current, original.mailbox.id, original.id, target.key, target.content)

    def expected_value(self, target: Target) -> str:
        """The marker's value that the copy was sent with."""
        original = target.original.ref
        return marker.value(self._keys.current, original.mailbox.id, original.id, target.key, target.content)

    def content_of(self, target: Target, raw: bytes) -> bytes | None:
        """What a message that was read back holds, where that is what was to be written; else None.

        Trace headers that Gmail put on top and another kind of line ends are accepted. For a marked copy
        neither shows in the result, which is what follows the marker.
        """
        if target.mark:
            marked = self._keys.read(target.mailbox.id, raw)
            if marked is None or marked.original_id != target.original.ref.id:
                return None
            return marked.content if marker.same_but_for_line_ends(marked.content, target.content) else None
        if marker.same_but_for_line_ends(raw, target.content):
            return raw
        return raw if marker.without_prepended(raw, target.content) is not None else None

    # ---- searching

    async def find(self, target: Target) -> str:
        """The id of a copy that an earlier try made; empty where there is none.

        A marked copy with other content (the policy changed between two tries) is moved to the trash.

        Raises:
            MessageGone: There is no copy, and the original no longer exists.
            VersionConflict: There is no copy, and the user moved the original to the trash or to spam.
        """
        # The history may lag behind an insert that got no answer, so the thread is searched then.
        seen = None if target.name in self.unanswered else await self._added_since(target)
        if seen is None:
            seen = await self._in_thread(target)
        found = ""
        for candidate in seen.candidates:
            try:
                message = await get_raw(self._client, target.mailbox, candidate)
            except MessageGone:
                continue
            if names.TRASH in message.labels and names.TRASH not in target.original.places:
                continue
            content = await off_loop(len(message.raw), self.content_of, target, message.raw)
            if content is not None and not found:
                found = candidate
            elif self.is_ours(target, message):
                await self._trash(target.mailbox, candidate)
        if not found and seen.original_gone:
            raise MessageGone("The user deleted the message; nothing was written.")
        if not found and seen.original_moved:
            raise VersionConflict("The user moved the message away meanwhile; nothing was written.")
        return found

    async def drop_others(self, target: Target, kept: str) -> None:
        """After an insert without an answer: should it have arrived late, trash the second copy."""
        try:
            candidates = (await self._in_thread(target)).candidates if target.mark else ()
        except MessageGone:
            candidates = ()  # the user has deleted the whole conversation meanwhile
        for candidate in candidates:
            if candidate == kept:
                continue
            try:
                message = await get_raw(self._client, target.mailbox, candidate)
            except MessageGone:
                continue
            if names.TRASH not in message.labels and self.is_ours(target, message):
                await self._trash(target.mailbox, candidate)
        self.unanswered.discard(target.name)

    def is_ours(self, target: Target, message: RawMessage) -> bool:
        """Whether this is a copy that we made of this original, whatever it holds."""
        if not target.mark or message.id == target.original.ref.id:
            return False
        marked = self._keys.read(target.mailbox.id, message.raw)
        return marked is not None and hmac.compare_digest(marked.original_id.encode(), target.original.ref.id.encode())

    async def _trash(self, mailbox: Mailbox, message_id: str) -> None:
        await discard(self._client, mailbox, message_id)

    async def _added_since(self, target: Target) -> _Seen | None:
        """What happened to the thread since the original was fetched; None where history cannot tell.

        The ``historyId`` of a message may be used as ``startHistoryId``
        (https://developers.google.com/workspace/gmail/api/reference/rest/v1/users.history/list).
        """
        original = target.original
        if not original.version:
            return None
        request = self._client.gmail.history.list(
            userId=target.mailbox.address, startHistoryId=original.version, maxResults=500
        )
        try:
            answer = await self._client.mail(target.mailbox, request, "looking for an earlier copy")
        except MessageGone:
            return None
        if answer.get("nextPageToken"):
            return None
        added: dict[str, None] = {}
        gained: set[str] = set()
        gone = False
        for item in answer.get("history") or ():
            for message, _ in _entries(item, "messagesAdded"):
                if message.get("threadId") == original.thread_id and message.get("id") != original.ref.id:
                    added[str(message.get("id"))] = None
            for message, _ in _entries(item, "messagesDeleted"):
                gone = gone or message.get("id") == original.ref.id
                added.pop(str(message.get("id")), None)
            for message, labels in _entries(item, "labelsAdded"):
                gained |= labels if message.get("id") == original.ref.id else set()
            for message, labels in _entries(item, "labelsRemoved"):
                gained -= labels if message.get("id") == original.ref.id else set()
        return _Seen(tuple(added), gone, _moved(original, gained))

    async def _in_thread(self, target: Target) -> _Seen:
        """Messages of the thread that may be copies, by their headers.

        Raises:
            MessageGone: The whole thread is gone.
        """
        original = target.original
        request = self._client.gmail.threads.get(
            userId=target.mailbox.address,
            id=original.thread_id or original.ref.id,
            format="metadata",
            metadataHeaders=[marker.NAME, "Message-ID"],
        )
        answer = await self._client.mail(target.mailbox, request, "searching the conversation for a copy")
        candidates: list[str] = []
        labels: set[str] | None = None
        for message in answer.get("messages") or ():
            if message.get("id") == original.ref.id:
                labels = {str(label) for label in message.get("labelIds") or ()}
            elif self._may_be_copy(target, _headers(message)):
                candidates.append(str(message.get("id")))
        return _Seen(tuple(candidates), labels is None, labels is not None and _moved(original, labels))

    @staticmethod
    def _may_be_copy(target: Target, headers: dict[str, str]) -> bool:
        if target.mark:
            return f"o={target.original.ref.id};" in headers.get(marker.NAME.lower(), "")
        return headers.get("message-id", "") == target.original.internet_message_id


async def discard(client: GoogleClient, mailbox: Mailbox, message_id: str) -> None:
    """Move a copy of ours to the trash; one that is there or gone is fine."""
    body = {"addLabelIds": [names.TRASH], "removeLabelIds": [names.INBOX]}
    request = client.gmail.messages.modify(userId=mailbox.address, id=message_id, body=body)
    try:
        await client.mail(mailbox, request, "moving a superseded copy to the trash")
    except MessageGone:
        return


@dataclass(frozen=True, slots=True)
class _Seen:
    """What a look at the conversation showed.

    Attributes:
        candidates: Messages that may be a copy.
        original_gone: The original does not exist any more.
        original_moved: The original is in the trash or in spam, and was not when it was fetched.
    """

    candidates: tuple[str, ...]
    original_gone: bool
    original_moved: bool


def _entries(item: Mapping[str, Any], key: str) -> Iterator[tuple[Mapping[str, Any], set[str]]]:
    """Messages and label ids of one kind of change in a history record."""
    for entry in item.get(key) or ():
        yield entry.get("message") or {}, {str(label) for label in entry.get("labelIds") or ()}


def _headers(message: Mapping[str, Any]) -> dict[str, str]:
    found: dict[str, str] = {}
    for header in (message.get("payload") or {}).get("headers") or ():
        found.setdefault(str(header.get("name", "")).lower(), " ".join(str(header.get("value", "")).split()))
    return found


def _moved(original: FetchedMessage, seen: set[str]) -> bool:
    return any(label in seen and label not in original.places for label in (names.TRASH, names.SPAM))
