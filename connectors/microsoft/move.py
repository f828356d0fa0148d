"""Moves a message to junk, quarantine or inbox, and back.

Sources: https://learn.microsoft.com/graph/api/message-move (with immutable ids a message keeps its id while
it stays in its mailbox, https://learn.microsoft.com/graph/outlook-immutable-id),
https://learn.microsoft.com/graph/api/message-update (``isRead`` stays free to change).

Flag, categories and importance travel with the message; its folder and read state are put back by
:func:`move_back`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from connectors.base.errors import MessageGone, Unavailable
from connectors.base.types import MessageRef, MoveResult, Place
from connectors.microsoft import folders as names
from connectors.microsoft.client import GraphClient, Reply
from connectors.microsoft.folders import FolderBook

_MOVING = "moving a message"


@dataclass(frozen=True, slots=True)
class Undo:
    """What a move changed: the folder it came from and its read state."""

    folder: str
    is_read: bool

    def dump(self) -> str:
        """As opaque text."""
        return json.dumps({"v": 1, "folder": self.folder, "read": self.is_read}, separators=(",", ":"))

    @classmethod
    def load(cls, text: str) -> Undo:
        """Read what :meth:`dump` wrote.

        Raises:
            ValueError: It is something else.
        """
        try:
            data = json.loads(text)
            if data["v"] != 1 or not isinstance(data["folder"], str) or not isinstance(data["read"], bool):
                raise ValueError("not an undo record of this version")
            return cls(data["folder"], data["read"])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError("The record of the move cannot be read; the message was left where it is.") from error


async def way_back(client: GraphClient, ref: MessageRef) -> str:
    """The message's folder and read state as they are now, for :func:`move_back`.

    Raises:
        MessageGone: The message no longer exists.
    """
    current = await _look(client, ref)
    return Undo(_text(current.get("parentFolderId")), current.get("isRead") is True).dump()


async def move(client: GraphClient, book: FolderBook, ref: MessageRef, place: Place) -> MoveResult:
    """Move a message; where it is there already, nothing happens, so that asking again is safe.

    Raises:
        MessageGone: It no longer exists.
        ConnectorError: See :mod:`connectors.microsoft.errors`.
    """
    current = await _look(client, ref)
    source, is_read = _text(current.get("parentFolderId")), current.get("isRead") is True
    known = await book.well_known(ref.mailbox.id)
    target = await _target(book, ref, place, known)
    if source == target:
        # An earlier try took effect before its answer was stored. Mail goes to quarantine from somewhere a
        # reader can see, so the inbox is the way back; any other message stays where it was found.
        source = known.ids.get(names.INBOX, names.INBOX) if place is Place.QUARANTINE else source
        return MoveResult(ref, Undo(source, is_read).dump())
    reply = await _post_move(client, ref, target)
    if reply.status == 404 and place is Place.QUARANTINE:
        # Either the message is gone, or somebody deleted the quarantine folder.
        book.forget_quarantine(ref.mailbox.id)
        again = await _target(book, ref, place, known)
        if again != target:
            reply = await _post_move(client, ref, again)
    return MoveResult(await _moved(client, ref, reply), Undo(source, is_read).dump())


async def move_back(client: GraphClient, book: FolderBook, ref: MessageRef, undo: str) -> MessageRef:
    """Undo a move: the folder it came from (the inbox, where that is gone) and its read state.

    Raises:
        ValueError: ``undo`` is not what :func:`move` gave.
        MessageGone: The message no longer exists.
    """
    wanted = Undo.load(undo)
    current = await _look(client, ref)
    if _text(current.get("parentFolderId")) != wanted.folder:
        reply = await _post_move(client, ref, wanted.folder)
        if reply.status == 404:
            inbox = (await book.well_known(ref.mailbox.id)).ids.get(names.INBOX, names.INBOX)
            reply = await _post_move(client, ref, inbox)
        ref = await _moved(client, ref, reply)
    if (current.get("isRead") is True) != wanted.is_read:
        await _set_read(client, ref, wanted.is_read)
    return ref


async def _target(book: FolderBook, ref: MessageRef, place: Place, known: names.Folders) -> str:
    if place is Place.QUARANTINE:
        return await book.quarantine(ref.mailbox.id)
    name = names.JUNK if place is Place.JUNK else names.INBOX
    return known.ids.get(name, name)


async def _look(client: GraphClient, ref: MessageRef) -> dict[str, Any]:
    info = client.requests.message(ref.mailbox.id, ref.id, ["id", "parentFolderId", "isRead"])
    reply = await client.call(
        info, mailbox=ref.mailbox.id, read=True, what="looking where a message is", about_message=True
    )
    return reply.data


async def _post_move(client: GraphClient, ref: MessageRef, target: str) -> Reply:
    info = client.requests.move(ref.mailbox.id, ref.id, target)
    return await client.exchange(info, mailbox=ref.mailbox.id, read=False, what=_MOVING)


async def _set_read(client: GraphClient, ref: MessageRef, is_read: bool) -> None:
    info = client.requests.set_read(ref.mailbox.id, ref.id, is_read)
    # Setting the same value twice changes nothing, so it may be repeated.
    await client.call(info, mailbox=ref.mailbox.id, read=True, what="setting the read state", about_message=True)


async def _moved(client: GraphClient, ref: MessageRef, reply: Reply) -> MessageRef:
    if reply.fault is not None:
        if reply.status == 404:
            raise MessageGone(f"Graph answered 404 while {_MOVING}: the message no longer exists.")
        raise await client.refused(reply.fault, _MOVING, about_message=True)
    identity = _text(reply.data.get("id"))
    if not identity:
        raise Unavailable("Graph answered a move without the message's id.")
    return MessageRef(ref.mailbox, identity)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
