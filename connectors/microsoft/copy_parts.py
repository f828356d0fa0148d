"""What a copy of a received message consists of, and how its state is carried over.

"Create message in a mailfolder" (https://learn.microsoft.com/graph/api/mailfolder-post-messages) makes drafts, unless
PidTagMessageFlags says otherwise at creation, which migration tools rely on and no page promises
([MS-OXCMSG] 2.2.1.6; https://learn.microsoft.com/answers/questions/1193254). What Graph does not let be set as a
property of a message (times, place in the conversation) is set as the extended property behind it:

=========================  =========================================================================
``Integer 0x0E07``         PidTagMessageFlags: 1, read and not unsent; the read state is set afterwards
``SystemTime 0x0E06``      PidTagMessageDeliveryTime: ``receivedDateTime``
``SystemTime 0x0039``      PidTagClientSubmitTime: ``sentDateTime``
``Binary 0x0071``          PidTagConversationIndex, with ``Boolean 0x3016`` (PidTagConversationIndexTracking):
                           the conversation ([MS-OXOMSG] 2.2.1.3)
``String 0x1039, 0x1042``  References and In-Reply-To
``String 0x1045``          List-Unsubscribe
``Integer 0x1080, 0x1081`` the icon and "You replied on ..." of Outlook, with ``SystemTime 0x1082``
=========================  =========================================================================

The last four kinds are carried where Exchange takes them; a creation that it refuses is tried once without.
What no copy can have: the id, the transport headers, receipts that the sender asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from connectors.base.errors import NotCopyable, TooLarge
from connectors.base.types import Attached, BodyContent, MessageRef
from connectors.microsoft import marks
from connectors.microsoft.client import GraphClient
from connectors.microsoft.errors import MAX_REQUEST_BYTES
from connectors.microsoft.fetch import LIST_UNSUBSCRIBE, extended, extended_properties

STATE = ("isRead", "flag", "categories", "importance", "inferenceClassification")
"""Properties that their owner sets and everybody with ``Mail.ReadWrite`` may change at any time."""
_KEPT = ("subject", "from", "sender", "toRecipients", "ccRecipients", "bccRecipients", "replyTo", "internetMessageId")
SELECT = [
    "id",
    "changeKey",
    "isDraft",
    "body",
    "createdDateTime",
    "receivedDateTime",
    "sentDateTime",
    "conversationId",
    "conversationIndex",
    "parentFolderId",
    *_KEPT,
    *STATE,
]
_CARRIED = (
    "String 0x1039",
    "String 0x1042",
    LIST_UNSUBSCRIBE,
    "Integer 0x1080",
    "Integer 0x1081",
    "SystemTime 0x1082",
)
EXPAND = extended_properties(*_CARRIED, marks.COPY, marks.ORIGINAL, marks.WRITE)
_REST_BYTES = 64 * 1024
"""What a request holds beside the body and the attachments, at most about."""


def document(
    source: Mapping[str, Any],
    body: BodyContent,
    attachments: Sequence[Mapping[str, Any]],
    marked: Sequence[Mapping[str, str]],
    *,
    carry: bool,
) -> dict[str, Any]:
    """The request body that creates a copy.

    Args:
        source: The message as :data:`SELECT` and :data:`EXPAND` give it.
        body: The copy's.
        attachments: As :func:`read_attachments` gives them.
        marked: The marker's extended properties; none for a copy without one.
        carry: Whether to set what Exchange may refuse.
    """
    made: dict[str, Any] = {name: source[name] for name in (*_KEPT, *STATE) if source.get(name) is not None}
    made["body"] = {"contentType": "html" if body.is_html else "text", "content": body.content}
    properties: list[Mapping[str, str]] = [{"id": "Integer 0x0E07", "value": "1"}]
    for name, identity in (("receivedDateTime", "SystemTime 0x0E06"), ("sentDateTime", "SystemTime 0x0039")):
        if isinstance(source.get(name), str):
            properties.append({"id": identity, "value": source[name]})
    if carry:
        if isinstance(source.get("conversationIndex"), str):
            properties.append({"id": "Binary 0x0071", "value": source["conversationIndex"]})
            properties.append({"id": "Boolean 0x3016", "value": "true"})
        properties.extend(
            {"id": identity, "value": value} for identity in _CARRIED if (value := extended(dict(source), identity))
        )
    made["singleValueExtendedProperties"] = [*properties, *marked]
    if attachments:
        made["attachments"] = list(attachments)
    return made


def check_copyable(body: BodyContent, attached: Sequence[Attached]) -> None:
    """Refuse a message that cannot be copied whole, before anything is read or written.

    Attachments can be added to a draft only, so that all of them must fit into the request that creates the copy.

    Raises:
        NotCopyable: Something attached is no file (a message, a link to a file).
        TooLarge: The request would be over Graph's limit.
    """
    if any(not each.is_file for each in attached):
        raise NotCopyable("Another message or a link is attached, which a copy would lose. Nothing was written.")
    size = len(body.content.encode("utf-8", "replace")) + sum(each.size * 4 // 3 + 400 for each in attached)
    if size + _REST_BYTES > MAX_REQUEST_BYTES:
        raise TooLarge("The message is too large to be created anew. Nothing was written.", MAX_REQUEST_BYTES)


async def read_attachments(client: GraphClient, ref: MessageRef, attached: Sequence[Attached]) -> list[dict[str, Any]]:
    """The attachments with their content, as a request that creates a message takes them.

    Raises:
        MessageGone: The message or an attachment is gone.
        NotCopyable: One has no content.
    """
    found = []
    for each in attached:
        info = client.requests.attachment(ref.mailbox.id, ref.id, each.id)
        reply = await client.call(
            info, mailbox=ref.mailbox.id, read=True, what="reading an attachment", about_message=True
        )
        if not isinstance(reply.data.get("contentBytes"), str):
            raise NotCopyable("An attachment has no content that could be copied. Nothing was written.")
        names = ("name", "contentType", "isInline", "contentId", "contentBytes")
        kept = {name: reply.data[name] for name in names if reply.data.get(name) is not None}
        found.append({"@odata.type": "#microsoft.graph.fileAttachment", **kept})
    return found


def state_to_set(source: Mapping[str, Any], target: Mapping[str, Any], *, merge: bool) -> dict[str, Any]:
    """Which state the target must be given so that nothing done to the source is lost.

    Args:
        source: The message that is about to go.
        target: The message that takes its place.
        merge: Whether the target may have been in its owner's hands for a while: then what was done to either
            counts, but for the read state, since a copy is created as read. Otherwise it becomes like the source.
    """
    wanted = {name: source[name] for name in STATE if source.get(name) is not None}
    if merge:
        for name in ("importance", "inferenceClassification"):
            wanted.pop(name, None)
        if _status(source) == "notFlagged":
            wanted.pop("flag", None)
        both = [*(target.get("categories") or []), *(source.get("categories") or [])]
        wanted["categories"] = list(dict.fromkeys(both))
    return {name: value for name, value in wanted.items() if not _same(name, value, target.get(name))}


def _same(name: str, one: Any, other: Any) -> bool:
    if name == "categories":
        return set(one or ()) == set(other or ())
    return bool(one == other)


def _status(message: Mapping[str, Any]) -> str:
    flag = message.get("flag")
    return str(flag.get("flagStatus") or "notFlagged") if isinstance(flag, dict) else "notFlagged"
