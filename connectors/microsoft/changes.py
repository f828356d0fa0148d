"""What is new in a mailbox since a cursor: a quick look at the newest mail, and delta over every folder.

Sources: https://learn.microsoft.com/graph/delta-query-messages (delta is a per-folder operation;
``changeType`` and other options are given once and then travel in the links),
https://learn.microsoft.com/graph/api/message-delta (``$filter`` on ``receivedDateTime`` only),
https://learn.microsoft.com/graph/api/user-list-messages (all folders).

A mailbox has some ten to two hundred folders, and delta asks each of them. That finds everything, and is too
much to do for each new message and each poll of an idle mailbox. So a call asks, in this order:

1. *the quick look*: once for the newest messages of all folders. Where it shows new ones, that is the answer.
2. *the count*: else, how many items each folder holds. Delta is asked of the folders whose number changed: there
   is something that the quick look cannot see, such as a message moved here with an old date.
3. *the round*: every half hour, and where the quick look overflowed, delta is asked of every folder.

The cursor's delta links are the durable log; the other two are short cuts.

The cursor is JSON::

    {"v": 1,
     "since": "2026-11-21T10:00:00Z",      where a folder that appears later is started from
     "folders": {"<folder id>": "/users/.../delta?$deltatoken=..."},
     "todo": ["<folder id>", ...],         folders of the round that is under way
     "counts": {"<folder id>": 17},        items in each folder when it was last put on "todo"
     "swept": 1763719200,                  when the last round over all folders began, seconds
     "known": {"inbox": "<folder id>"},    the well-known folders
     "newest": "2026-11-21T10:07:31Z",     the quick look's watermark
     "seen": ["<hash>", ...]}              messages of the watermark's last minutes
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from connectors.base.errors import CursorExpired
from connectors.base.types import Change, ChangePage, Mailbox, MessageRef
from connectors.microsoft.client import GraphClient, Reply, gather_all
from connectors.microsoft.fetch import parse_time
from connectors.microsoft.folders import FolderBook

if TYPE_CHECKING:
    from kiota_abstractions.request_information import RequestInformation

PAGE = 50
SWEEP_SECONDS = 1_800.0
"""How old the last round over all folders may be before every folder is asked again."""
OVERLAP = timedelta(minutes=5)
"""How far back of the newest message the quick look asks: clocks of servers differ."""
_FOLDERS_AT_ONCE = 4
_MAX_SEEN = 400
_ASKING = "reading the changes of a mail folder"
_QUICK = ["id", "receivedDateTime", "parentFolderId", "isDraft"]


@dataclass(frozen=True, slots=True)
class Cursor:
    """See the module's docstring."""

    since: str
    folders: dict[str, str] = field(default_factory=dict)
    todo: tuple[str, ...] = ()
    counts: dict[str, int] = field(default_factory=dict)
    swept: float = 0.0
    known: dict[str, str] = field(default_factory=dict)
    newest: str = ""
    seen: tuple[str, ...] = ()

    def dump(self) -> str:
        """As opaque text."""
        return json.dumps(
            {
                "v": 1,
                "since": self.since,
                "folders": self.folders,
                "todo": list(self.todo),
                "counts": self.counts,
                "swept": int(self.swept),
                "known": self.known,
                "newest": self.newest,
                "seen": list(self.seen),
            },
            separators=(",", ":"),
        )

    @classmethod
    def load(cls, text: str) -> Cursor:
        """Read a stored cursor.

        Raises:
            CursorExpired: It is not one of this version, so a bounded resync is due.
        """
        try:
            data = json.loads(text)
            if data["v"] != 1:
                raise ValueError(data["v"])
            return cls(
                since=str(data["since"]),
                folders={str(key): str(value) for key, value in data["folders"].items()},
                todo=tuple(str(entry) for entry in data["todo"]),
                counts={str(key): int(value) for key, value in data["counts"].items()},
                swept=float(data["swept"]),
                known={str(key): str(value) for key, value in data["known"].items()},
                newest=str(data["newest"]),
                seen=tuple(str(entry) for entry in data["seen"]),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CursorExpired("The stored cursor cannot be read; the mailbox is read again.") from error


class ChangeReader:
    """Reads changes of the tenant's mailboxes.

    Args:
        client: Graph.
        book: Folders.
        wall_clock: Seconds since the epoch.
    """

    def __init__(self, client: GraphClient, book: FolderBook, wall_clock: Callable[[], float] = time.time) -> None:
        self._client = client
        self._book = book
        self._wall_clock = wall_clock

    async def changes(self, mailbox: Mailbox, cursor: str | None, since: datetime) -> ChangePage:
        """One page of changes; see :meth:`connectors.base.protocol.MailboxConnector.changes`.

        Raises:
            CursorExpired: Graph no longer knows the changes since the cursor.
            ValueError: ``since`` has no time zone.
        """
        if cursor is None:
            if since.tzinfo is None:
                raise ValueError("since must be an aware time")
            start = _stamp(since)
            state = await self._new_round(mailbox, Cursor(since=start, newest=start), everything=True)
            return await self._delta_step(mailbox, state)
        state = Cursor.load(cursor)
        self._book.recall(mailbox.id, state.known)
        if state.todo:
            return await self._delta_step(mailbox, state)
        found, state, complete = await self._quick_look(mailbox, state)
        stale = self._wall_clock() - state.swept > SWEEP_SECONDS
        if found and complete and not stale:
            return ChangePage(tuple(found), state.dump(), more=False)
        state = await self._new_round(mailbox, state, everything=stale or not complete)
        if found:  # hand over what is known at once; the folders are asked at the next call
            return ChangePage(tuple(found), state.dump(), more=bool(state.todo))
        return await self._delta_step(mailbox, state)

    async def _quick_look(self, mailbox: Mailbox, state: Cursor) -> tuple[list[Change], Cursor, bool]:
        """New messages of all folders since the watermark, without those that were seen.

        Returns:
            They, the advanced state, and whether nothing newer than the watermark was left out.
        """
        newest = parse_time(state.newest) or parse_time(state.since) or datetime.fromtimestamp(0, UTC)
        floor = parse_time(state.since) or newest
        start = max(floor, newest - OVERLAP)
        reply = await self._client.call(
            self._client.requests.newest_messages(mailbox.id, _stamp(start), _QUICK, PAGE),
            mailbox=mailbox.id,
            read=True,
            what="looking for new messages",
        )
        known = await self._book.well_known(mailbox.id)
        skipped = known.never_watched()
        seen = set(state.seen)
        found: list[Change] = []
        oldest = newest
        for message in reply.values:
            identity, received = message.get("id"), parse_time(message.get("receivedDateTime"))
            if not isinstance(identity, str) or received is None:
                continue  # nothing to go by; delta decides
            oldest = received
            ours = message.get("isDraft") is True or message.get("parentFolderId") in skipped
            if not ours and _digest(identity) not in seen:
                found.append(Change(MessageRef(mailbox, identity)))
        found.reverse()  # oldest first
        complete = oldest <= newest or "@odata.nextLink" not in reply.data
        return found, _advance(state, reply.values), complete

    async def _new_round(self, mailbox: Mailbox, state: Cursor, *, everything: bool) -> Cursor:
        """Ask which folders there are, and which of them must be asked for changes.

        Folders that went away are forgotten, new ones join. The count is taken before delta is asked, so that
        what arrives in between is seen by this delta or changes the next count.
        """
        current = await self._book.watched(mailbox.id)
        folders = {folder: link for folder, link in state.folders.items() if folder in current}
        todo = tuple(
            folder
            for folder, count in current.items()
            if everything or folder not in folders or count < 0 or state.counts.get(folder) != count
        )
        swept = self._wall_clock() if everything else state.swept
        known = (await self._book.well_known(mailbox.id)).ids
        return replace(state, folders=folders, todo=todo, counts=current, swept=swept, known=known)

    async def _delta_step(self, mailbox: Mailbox, state: Cursor) -> ChangePage:
        """Ask the next folders of the round until something was found, or the round is over."""
        found: list[Change] = []
        folders = dict(state.folders)
        todo = list(state.todo)
        while todo and not found:
            batch, rest = todo[:_FOLDERS_AT_ONCE], todo[_FOLDERS_AT_ONCE:]
            replies = await gather_all(
                *(self._delta_page(mailbox.id, folder, folders.get(folder, ""), state.since) for folder in batch)
            )
            unfinished: list[str] = []
            for reply in replies:
                if reply is not None:
                    state = _advance(state, reply.values)
            for folder, reply in zip(batch, replies, strict=True):
                if reply is None:
                    folders.pop(folder, None)
                    continue
                found.extend(_read_changes(mailbox, reply, parse_time(state.since)))
                following = reply.data.get("@odata.nextLink")
                link = following or reply.data.get("@odata.deltaLink")
                if not isinstance(link, str):
                    raise CursorExpired("Graph's answer has neither a next nor a delta link.")
                folders[folder] = self._client.relative(link)
                if following:
                    unfinished.append(folder)
            todo = unfinished + rest
        state = replace(state, folders=folders, todo=tuple(todo))
        return ChangePage(tuple(found), state.dump(), bool(todo))

    async def _delta_page(self, mailbox: str, folder: str, link: str, since: str) -> Reply | None:
        """One page of a folder's delta; None where the folder is gone.

        Some mailboxes refuse the documented ``$filter`` (``ErrorInvalidUrlQuery``,
        https://github.com/microsoftgraph/microsoft-graph-docs/issues/18636): their folders are read whole.
        """
        build = self._client.requests
        reply = await self._ask(
            mailbox, self._client.follow(link) if link else build.first_delta(mailbox, folder, since)
        )
        if reply.fault is not None and not link and reply.fault.has("ErrorInvalidUrlQuery"):
            reply = await self._ask(mailbox, build.first_delta(mailbox, folder, None))
        if reply.fault is None:
            return reply
        if reply.status == 404 and reply.fault.has("ErrorItemNotFound", "ErrorFolderNotFound"):
            return None
        raise await self._client.refused(reply.fault, _ASKING)

    async def _ask(self, mailbox: str, info: RequestInformation) -> Reply:
        return await self._client.exchange(
            info, mailbox=mailbox, read=True, what=_ASKING, prefer=f"odata.maxpagesize={PAGE}"
        )


def _read_changes(mailbox: Mailbox, reply: Reply, since: datetime | None) -> list[Change]:
    """The entries of a page, without those of before ``since`` where the folder had to be read whole."""
    found = []
    for message in reply.values:
        identity, received = message.get("id"), parse_time(message.get("receivedDateTime"))
        if isinstance(identity, str) and not (since and received and received < since):
            found.append(Change(MessageRef(mailbox, identity), removed="@removed" in message))
    return found


def _advance(state: Cursor, messages: list[dict[str, Any]]) -> Cursor:
    """Remember messages as seen, and move the watermark to the newest of them."""
    newest = parse_time(state.newest)
    seen = dict.fromkeys(state.seen)
    for message in messages:
        received = parse_time(message.get("receivedDateTime"))
        if received is not None and (newest is None or received > newest):
            newest = received
        if isinstance(message.get("id"), str) and "@removed" not in message:
            seen.setdefault(_digest(message["id"]))
    stamp = _stamp(newest) if newest is not None else state.newest
    return replace(state, newest=stamp, seen=tuple(seen)[-_MAX_SEEN:])


def _digest(identity: str) -> str:
    return hashlib.blake2b(identity.encode(), digest_size=6).hexdigest()


def _stamp(value: datetime) -> str:
    """A UTC time as Graph's filters take it, to the second, rounded down."""
    return value.astimezone(UTC).replace(microsecond=0, tzinfo=None).isoformat() + "Z"
