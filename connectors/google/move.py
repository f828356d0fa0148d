"""Moving a message to junk, quarantine or the inbox, and back with all its labels."""

from __future__ import annotations

import json
from typing import Any, Final

from connectors.base.errors import ConnectorError, MailboxUnavailable
from connectors.base.types import Mailbox, MessageRef, MoveResult, Place
from connectors.google import labels as names
from connectors.google.client import GoogleClient
from connectors.google.errors import InvalidLabel
from connectors.google.fetch import get_minimal
from connectors.google.replace import modify

QUARANTINE_LABEL: Final = "Postern quarantine"


class Mover:
    """Moves messages of one tenant.

    Args:
        client: Sends the calls.
    """

    def __init__(self, client: GoogleClient) -> None:
        self._client = client
        self._quarantine: dict[str, str] = {}

    async def way_back(self, ref: MessageRef) -> str:
        """See :meth:`connectors.base.protocol.MailboxConnector.way_back`."""
        now = await get_minimal(self._client, ref.mailbox, ref.id)
        return _undo(set(now.labels))

    async def move(self, ref: MessageRef, place: Place) -> MoveResult:
        """See :meth:`connectors.base.protocol.MailboxConnector.move`."""
        before = await get_minimal(self._client, ref.mailbox, ref.id)
        now = set(before.labels)
        known = self._quarantine.get(ref.mailbox.id, "")
        away = {names.INBOX, names.SPAM, names.TRASH} | ({known} if known else set())
        if place is Place.INBOX:
            target = names.INBOX
        elif place is Place.JUNK:
            target = names.SPAM
        else:
            target = await self._quarantine_label(ref.mailbox)
        back = now
        if target in now and place is not Place.INBOX:
            # It is there already, so where it came from is not known any more: a release leads to the inbox.
            back = (now - {target}) | {names.INBOX}
        undo = _undo(back)
        try:
            await self._set(ref, {target} - now, (away - {target}) & now)
        except InvalidLabel:
            if target != self._quarantine.pop(ref.mailbox.id, None):
                raise
            # The user deleted our label since: make it anew, once.
            target = await self._quarantine_label(ref.mailbox)
            await self._set(ref, {target} - now, (away - {target}) & now)
        return MoveResult(ref, undo)

    async def move_back(self, ref: MessageRef, undo: str) -> MessageRef:
        """See :meth:`connectors.base.protocol.MailboxConnector.move_back`.

        Raises:
            ValueError: ``undo`` is not what ``move`` gave.
        """
        before = names.applicable(_read_undo(undo))
        now = names.applicable((await get_minimal(self._client, ref.mailbox, ref.id)).labels)
        add, remove = before - now, now - before
        try:
            await self._set(ref, add, remove)
        except InvalidLabel:
            # A label of the user's was deleted while the message was away; the others come back.
            existing = await self._label_ids(ref.mailbox)
            await self._set(ref, add & existing, remove & existing)
        return ref

    async def _set(self, ref: MessageRef, add: set[str] | frozenset[str], remove: set[str] | frozenset[str]) -> None:
        if add or remove:
            await modify(
                self._client,
                ref.mailbox,
                ref.id,
                tuple(sorted(add)),
                tuple(sorted(remove)),
                "moving a message",
            )

    async def _labels(self, mailbox: Mailbox) -> list[dict[str, Any]]:
        request = self._client.gmail.labels.list(userId=mailbox.address)
        answer = await self._client.mail(mailbox, request, "listing labels")
        return [item for item in answer.get("labels") or () if isinstance(item, dict)]

    async def _label_ids(self, mailbox: Mailbox) -> set[str]:
        return {str(item.get("id")) for item in await self._labels(mailbox)}

    async def _quarantine_label(self, mailbox: Mailbox) -> str:
        known = self._quarantine.get(mailbox.id)
        if known is None:
            known = await self._find_quarantine(mailbox) or await self._make_quarantine(mailbox)
            self._quarantine[mailbox.id] = known
        return known

    async def _find_quarantine(self, mailbox: Mailbox) -> str:
        for item in await self._labels(mailbox):
            if item.get("name") == QUARANTINE_LABEL:
                return str(item["id"])
        return ""

    async def _make_quarantine(self, mailbox: Mailbox) -> str:
        body = {
            "name": QUARANTINE_LABEL,
            "labelListVisibility": "labelHide",
            "messageListVisibility": "hide",
        }
        request = self._client.gmail.labels.create(userId=mailbox.address, body=body)
        try:
            answer = await self._client.mail(mailbox, request, "making the quarantine label", read=False)
        except ConnectorError:
            # Another worker was quicker (409), or the answer got lost: it is there then.
            found = await self._find_quarantine(mailbox)
            if not found:
                raise
            return found
        label = answer.get("id")
        if not label:
            raise MailboxUnavailable("Gmail made no quarantine label; the message was not moved.")
        return str(label)


def _undo(labels: set[str]) -> str:
    return json.dumps({"v": 1, "labels": sorted(labels)}, separators=(",", ":"))


def _read_undo(undo: str) -> list[str]:
    try:
        data = json.loads(undo)
        labels = data["labels"] if data["v"] == 1 else None
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError("This is not a move of a Gmail message; nothing was moved.") from error
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise ValueError("This is not a move of a Gmail message; nothing was moved.")
    return labels
