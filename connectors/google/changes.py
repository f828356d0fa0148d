"""What happened in a mailbox since a cursor: ``history.list``, or a bounded listing to begin with.

The cursor is JSON: ``{"h": history id}`` between rounds; with ``"p"`` while a round has further pages (all
pages of a round are asked for with the same start id); with ``"s"`` (seconds since the epoch) while the
first listing goes on. The history id moves only after a round's last page, and never backwards. See
https://developers.google.com/workspace/gmail/api/guides/sync.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from connectors.base.errors import CursorExpired, MessageGone, Unavailable
from connectors.base.types import Change, ChangePage, Mailbox, MessageRef
from connectors.google import errors
from connectors.google import labels as names
from connectors.google.client import GoogleClient

_PAGE = 500
_BACK_INTO_VIEW = frozenset({names.SPAM, names.TRASH})


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in a mailbox's history.

    Attributes:
        history_id: Where the round began.
        page: Token of the round's next page, or empty.
        since: Listing instead of history: seconds since the epoch; None for history.
    """

    history_id: int
    page: str = ""
    since: int | None = None

    def dump(self) -> str:
        """As stored."""
        data: dict[str, int | str] = {"h": self.history_id}
        if self.page:
            data["p"] = self.page
        if self.since is not None:
            data["s"] = self.since
        return json.dumps(data, separators=(",", ":"))

    @classmethod
    def load(cls, text: str) -> Cursor:
        """As stored, or a bare history id as ``watch`` gives it.

        Raises:
            CursorExpired: It is none of ours.
        """
        try:
            data = json.loads(text)
            if isinstance(data, int) and not isinstance(data, bool):
                data = {"h": data}
            place = cls(int(data["h"]), str(data.get("p", "")), int(data["s"]) if "s" in data else None)
            if place.history_id < 0:
                raise ValueError("a history id is not negative")
            return place
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CursorExpired("The stored cursor is not readable; the mailbox is listed anew.") from error


async def read_changes(client: GoogleClient, mailbox: Mailbox, cursor: str | None, since: datetime) -> ChangePage:
    """One page; see :meth:`connectors.base.protocol.MailboxConnector.changes`."""
    if cursor is None:
        # Taken before listing: what arrives meanwhile is in the history after it.
        profile = await client.mail(
            mailbox, client.gmail.users.getProfile(userId=mailbox.address), "reading the mailbox's state"
        )
        place = Cursor(_history_id(profile), since=int(since.timestamp()))
    else:
        place = Cursor.load(cursor)
    try:
        if place.since is not None:
            return await _list(client, mailbox, place, place.since)
        return await _history(client, mailbox, place)
    except errors.InvalidPageToken as error:
        raise CursorExpired("Google no longer takes the stored page token; the mailbox is listed anew.") from error


async def _list(client: GoogleClient, mailbox: Mailbox, place: Cursor, since: int) -> ChangePage:
    request = client.gmail.messages.list(
        userId=mailbox.address,
        q=f"after:{since}",
        maxResults=_PAGE,
        pageToken=place.page or None,
        includeSpamTrash=False,
    )
    answer = await client.mail(mailbox, request, "listing messages")
    changes = tuple(
        Change(MessageRef(mailbox, str(item["id"]))) for item in answer.get("messages") or () if "id" in item
    )
    token = str(answer.get("nextPageToken") or "")
    following = Cursor(place.history_id, token, since if token else None)
    return ChangePage(changes, following.dump(), more=bool(token))


async def _history(client: GoogleClient, mailbox: Mailbox, place: Cursor) -> ChangePage:
    request = client.gmail.history.list(
        userId=mailbox.address,
        startHistoryId=str(place.history_id),
        historyTypes=["messageAdded", "messageDeleted", "labelRemoved"],
        maxResults=_PAGE,
        pageToken=place.page or None,
    )
    try:
        answer = await client.mail(mailbox, request, "reading the mailbox's history")
    except MessageGone as error:
        raise CursorExpired("Gmail no longer has the history since the stored cursor.") from error
    token = str(answer.get("nextPageToken") or "")
    reached = place.history_id if token else max(place.history_id, _history_id(answer))
    changes = tuple(
        Change(MessageRef(mailbox, message_id), removed)
        for message_id, removed in read_history(answer.get("history") or ()).items()
    )
    return ChangePage(changes, Cursor(reached, token).dump(), more=bool(token))


def read_history(items: Iterable[Mapping[str, Any]]) -> dict[str, bool]:
    """Message ids in order of their last change -> whether that was its deletion.

    A message that comes back out of the trash or of spam counts as appeared. Drafts, chats and what the
    user only sent do not: nothing is ever done to them, and reading each costs 20 quota units (every
    automatic save of a draft makes a new message).
    """
    found: dict[str, bool] = {}

    def note(message_id: object, removed: bool) -> None:
        if isinstance(message_id, str) and message_id:
            found.pop(message_id, None)
            found[message_id] = removed

    for item in items:
        for entry in item.get("messagesAdded") or ():
            message = entry.get("message") or {}
            if not _outgoing(message.get("labelIds") or ()):
                note(message.get("id"), False)
        for entry in item.get("labelsRemoved") or ():
            if _BACK_INTO_VIEW & set(entry.get("labelIds") or ()):
                note((entry.get("message") or {}).get("id"), False)
        for entry in item.get("messagesDeleted") or ():
            note((entry.get("message") or {}).get("id"), True)
    return found


def _outgoing(labels: Iterable[str]) -> bool:
    found = set(labels)
    return bool(found & {names.DRAFT, names.CHAT}) or (names.SENT in found and names.INBOX not in found)


def _history_id(answer: Mapping[str, Any]) -> int:
    try:
        return int(answer["historyId"])
    except (KeyError, TypeError, ValueError) as error:
        raise Unavailable("Google's answer names no history id; the cursor was not moved.") from error
