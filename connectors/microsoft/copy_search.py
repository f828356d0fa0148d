"""Finding the copy of a message that an earlier, interrupted try has made."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from connectors.base.errors import MessageGone
from connectors.base.types import BodyContent, CopyMark, FetchedMessage, Mailbox, MessageRef, Replacement
from connectors.base.unanswered import Unanswered, WriteName
from connectors.base.verify import Verification, verify_body
from connectors.microsoft import folders as names
from connectors.microsoft import marks
from connectors.microsoft.client import GraphClient
from connectors.microsoft.copy_parts import EXPAND, SELECT
from connectors.microsoft.fetch import body_content, extended, extended_properties, parse_time
from connectors.microsoft.folders import FolderBook
from connectors.microsoft.marks import MarkKeys

_LOOK = ["id", "parentFolderId", "createdDateTime", "internetMessageId"]
_MARKED = extended_properties(marks.COPY, marks.ORIGINAL, marks.WRITE)
_LOOKING = "looking for an earlier copy"


@dataclass(frozen=True, slots=True)
class Target:
    """What is to be written in place of what.

    Attributes:
        change: The replacement.
        content: The new body.
        key: Idempotency key.
    """

    change: Replacement
    content: BodyContent
    key: str

    @property
    def original(self) -> FetchedMessage:
        """The message to be replaced."""
        return self.change.original

    @property
    def name(self) -> WriteName:
        """What its write is known by."""
        return WriteName(self.mailbox.id, self.original.ref.id, self.key)

    @property
    def mailbox(self) -> Mailbox:
        """Whose mailbox it is in."""
        return self.change.original.ref.mailbox

    def compare(self, message: dict[str, Any]) -> Verification:
        """How the message's body compares with the one to be written."""
        got = body_content(message.get("body") or {})
        return verify_body(self.content, got, self.change.expected_links, self.change.replaced_links)


class CopySearch:
    """Tells our copies of one message from everything else.

    Args:
        client: Sends the calls.
        book: Folders.
        keys: Secrets of the marker.
    """

    def __init__(self, client: GraphClient, book: FolderBook, keys: MarkKeys) -> None:
        self._client = client
        self._book = book
        self._keys = keys
        self.unanswered = Unanswered()

    # ---- searching

    async def in_bin(self, mailbox: Mailbox, message: dict[str, Any]) -> bool:
        """Whether a message is among the deleted items."""
        known = await self._book.well_known(mailbox.id)
        return known.name_of(str(message.get("parentFolderId") or "")) == names.DELETED

    def is_ours(self, target: Target, message: dict[str, Any]) -> bool:
        """Whether this is a copy that we made of this original, whatever it holds."""
        if not target.change.mark or message.get("id") == target.original.ref.id:
            return False
        marked = self._mark_of(target.mailbox, message)
        if marked is None:
            return False
        return hmac.compare_digest(marked.original_id.encode(), target.original.ref.id.encode())

    def _mark_of(self, mailbox: Mailbox, message: dict[str, Any]) -> CopyMark | None:
        return self._keys.read(mailbox.id, lambda name: extended(message, name))

    async def find(self, target: Target) -> tuple[dict[str, Any] | None, list[str]]:
        """The copy that an earlier try made, and the ids of others of ours that should not be there.

        A copy without our marker (a restored message has none) is known by having the Message-ID and what was to be
        written, and by being younger than the message it replaces.
        """
        found: dict[str, Any] | None = None
        superfluous: list[str] = []
        was_in_bin = await self.in_bin(target.mailbox, {"parentFolderId": (*target.original.places, "")[0]})
        for message in await self._candidates(target):
            if not was_in_bin and await self.in_bin(target.mailbox, message):
                continue
            whole = await self._read(target, str(message["id"])) if found is None else None
            if whole is not None and whole.get("isDraft") is not True and target.compare(whole).ok:
                found = whole
            elif target.change.mark:
                superfluous.append(str(message["id"]))
        return found, superfluous

    async def others(self, target: Target, kept: str) -> list[str]:
        """Ids of our copies of this original beside the one that is kept, outside of the bin."""
        if not target.change.mark:
            return []
        return [
            str(message["id"])
            for message in await self._candidates(target)
            if message["id"] != kept and not await self.in_bin(target.mailbox, message)
        ]

    async def _candidates(self, target: Target) -> list[dict[str, Any]]:
        original = target.original
        seen = await self._alike(target)
        if target.change.mark:
            return [message for message in seen if self.is_ours(target, message)]
        replaced = next((message for message in seen if message.get("id") == original.ref.id), None)
        since = parse_time(replaced.get("createdDateTime")) if replaced is not None else None
        if since is None or not original.internet_message_id:
            return []
        return [
            message
            for message in seen
            if message.get("id") != original.ref.id
            and message.get("internetMessageId") == original.internet_message_id
            and self._mark_of(target.mailbox, message) is None
            and (made := parse_time(message.get("createdDateTime"))) is not None
            and made >= since
        ]

    async def _alike(self, target: Target) -> list[dict[str, Any]]:
        """Messages of all folders received in the same second, which is what a copy has in common with its original.

        A filter on an extended property would name the copies alone, but nothing says that Exchange has an index for
        one: it may read the whole mailbox. There is one for the time of receipt.
        """
        received = target.original.received_at
        if received is None:
            return []
        first = received.astimezone(UTC).replace(microsecond=0)
        span = f"receivedDateTime ge {_stamp(first)} and receivedDateTime lt {_stamp(first + timedelta(seconds=1))}"
        mailbox = target.mailbox.id
        found: list[dict[str, Any]] = []
        info = self._client.requests.messages_where(mailbox, span, _LOOK, _MARKED)
        while True:
            reply = await self._client.call(info, mailbox=mailbox, read=True, what=_LOOKING)
            found.extend(message for message in reply.values if isinstance(message.get("id"), str))
            link = reply.data.get("@odata.nextLink")
            if not isinstance(link, str):
                return found
            info = self._client.follow(link)

    async def _read(self, target: Target, identity: str) -> dict[str, Any] | None:
        info = self._client.requests.message(target.mailbox.id, identity, SELECT, EXPAND)
        try:
            reply = await self._client.call(
                info, mailbox=target.mailbox.id, read=True, what=_LOOKING, about_message=True
            )
        except MessageGone:
            return None
        return reply.data


def _stamp(moment: datetime) -> str:
    return moment.replace(tzinfo=None).isoformat() + "Z"


def as_ref(target: Target, identity: str) -> MessageRef:
    """A message of the target's mailbox."""
    return MessageRef(target.mailbox, identity)
