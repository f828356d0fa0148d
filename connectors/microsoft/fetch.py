"""Reads one message: its body, and what its metadata says of it.

Sources: https://learn.microsoft.com/graph/api/message-get,
https://learn.microsoft.com/graph/api/singlevaluelegacyextendedproperty-get (``String 0x001A`` is
PidTagMessageClass, [MS-OXPROPS] 2.790), [MS-OXOSMIME] and [MS-OXORMMS] for the classes of signed, encrypted
and rights-managed mail.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from connectors.base.errors import Unavailable
from connectors.base.types import Attached, BodyContent, FetchedMessage, MessageRef, Trait
from connectors.microsoft import folders as names
from connectors.microsoft import marks
from connectors.microsoft.client import GraphClient
from connectors.microsoft.folders import FolderBook, Folders
from connectors.microsoft.marks import MarkKeys
from connectors.microsoft.templates import Built


def extended_properties(*names: str) -> str:
    """``$expand`` of these single-value extended properties."""
    wanted = " or ".join(f"id eq '{name}'" for name in names)
    return f"singleValueExtendedProperties($filter={wanted})"


MESSAGE_CLASS = "String 0x001A"
VERB_STREAM = "Binary {00062008-0000-0000-C000-000000000046} Id 0x8520"
"""PidLidVerbStream ([MS-OXOMSG] 2.2.1.74): the voting buttons of a message, where it has any."""
LIST_UNSUBSCRIBE = "String 0x1045"
"""PidTagListUnsubscribe ([MS-OXOMSG] 2.2.1.83): the List-Unsubscribe header, without asking for all headers."""
_EXPAND = extended_properties(MESSAGE_CLASS, VERB_STREAM, LIST_UNSUBSCRIBE, marks.COPY, marks.ORIGINAL, marks.WRITE)
_LEADING_ZEROS = re.compile(r"0x0*", re.IGNORECASE)
_SELECT = [
    "id",
    "changeKey",
    "isDraft",
    "isRead",
    "subject",
    "body",
    "from",
    "toRecipients",
    "ccRecipients",
    "receivedDateTime",
    "internetMessageId",
    "conversationId",
    "parentFolderId",
    "hasAttachments",
]
_ORDINARY_CLASS = "ipm.note"
_CLASS_TRAITS: tuple[tuple[str, Trait], ...] = (
    # Longest first: the first prefix that fits decides.
    ("ipm.note.smime.multipartsigned", Trait.SIGNED),
    ("ipm.note.smime", Trait.ENCRYPTED),
    ("ipm.note.secure.sign", Trait.SIGNED),
    ("ipm.note.secure", Trait.ENCRYPTED),
    ("ipm.note.rpmsg", Trait.RIGHTS_MANAGED),
    ("ipm.note.microsoft.approval", Trait.APPROVAL),
    ("ipm.schedule.meeting", Trait.MEETING),
    ("ipm.appointment", Trait.MEETING),
    ("report", Trait.REPORT),
)
_FOLDER_TRAITS = {
    names.DRAFTS: Trait.DRAFT,
    names.OUTBOX: Trait.DRAFT,
    names.SENT: Trait.SENT,
    names.JUNK: Trait.SPAM,
    names.DELETED: Trait.TRASH,
}
_ATTACHMENT_TYPES = {
    "application/pkcs7-mime": Trait.ENCRYPTED,
    "application/x-pkcs7-mime": Trait.ENCRYPTED,
    "application/pkcs7-signature": Trait.SIGNED,
    "application/x-pkcs7-signature": Trait.SIGNED,
    "application/pgp-encrypted": Trait.ENCRYPTED,
    "application/pgp-signature": Trait.SIGNED,
    "application/x-microsoft-rpmsg-message": Trait.RIGHTS_MANAGED,
    "multipart/signed": Trait.SIGNED,
    "multipart/encrypted": Trait.ENCRYPTED,
}
_ATTACHMENT_NAMES = {
    "smime.p7m": Trait.ENCRYPTED,
    "smime.p7s": Trait.SIGNED,
    "message.rpmsg": Trait.RIGHTS_MANAGED,
}


def class_traits(message_class: str) -> frozenset[Trait]:
    """What a message class says. Classes are compared without regard to case, by whole components.

    Returns:
        Empty for ordinary mail; ``UNKNOWN_CLASS`` for a class this table does not know, or none at all.
    """
    value = message_class.strip().lower()
    if value == _ORDINARY_CLASS:
        return frozenset()
    for prefix, trait in _CLASS_TRAITS:
        if value == prefix or value.startswith(prefix + "."):
            return frozenset({trait})
    return frozenset({Trait.UNKNOWN_CLASS})


def attachment_traits(attachments: Iterable[dict[str, Any]]) -> frozenset[Trait]:
    """What the names and types of attachments say."""
    found: set[Trait] = set()
    for attachment in attachments:
        kind = str(attachment.get("contentType") or "").split(";")[0].strip().lower()
        name = str(attachment.get("name") or "").strip().lower()
        for trait in (_ATTACHMENT_TYPES.get(kind), _ATTACHMENT_NAMES.get(name)):
            if trait is not None:
                found.add(trait)
    return frozenset(found)


def message_traits(message: dict[str, Any], known: Folders, attachments: Iterable[dict[str, Any]]) -> frozenset[Trait]:
    """All that can be told of a message.

    ``FROM_OWNER`` is never reported: in Exchange sent mail is told by its folder, and a received message
    whose From is its reader is as a rule a forgery, which needs protecting most.
    """
    found = set(attachment_traits(attachments)) | class_traits(extended(message, MESSAGE_CLASS))
    if extended(message, VERB_STREAM):
        found.add(Trait.APPROVAL)
    if "eventMessage" in str(message.get("@odata.type") or ""):
        found.add(Trait.MEETING)
    if message.get("isDraft") is True:
        found.add(Trait.DRAFT)
    place = _FOLDER_TRAITS.get(known.name_of(_text(message.get("parentFolderId"))))
    if place is not None:
        found.add(place)
    return frozenset(found)


def extended(message: dict[str, Any], wanted: str) -> str:
    """An extended property's value, or empty. Graph answers with its own spelling of the id, "String 0x1a"."""
    properties = message.get("singleValueExtendedProperties")
    for entry in properties if isinstance(properties, list) else []:
        if isinstance(entry, dict) and _same_property(_text(entry.get("id")), wanted):
            return _text(entry.get("value"))
    return ""


def _same_property(one: str, other: str) -> bool:
    return _LEADING_ZEROS.sub("0x", one).lower() == _LEADING_ZEROS.sub("0x", other).lower()


def message_request(client: GraphClient, mailbox: str, message: str) -> Built:
    """GET of a message with all that :func:`read_message` reads."""
    return client.requests.message(mailbox, message, _SELECT, _EXPAND)


async def fetch_message(
    client: GraphClient, book: FolderBook, ref: MessageRef, keys: MarkKeys | None = None
) -> FetchedMessage:
    """Read one message.

    Args:
        client: Graph.
        book: Folders.
        ref: Which.
        keys: Tell our own copies.

    Raises:
        MessageGone: It no longer exists.
        ConnectorError: See :mod:`connectors.microsoft.errors`.
    """
    mailbox = ref.mailbox.id
    reply = await client.call(
        message_request(client, mailbox, ref.id),
        mailbox=mailbox,
        read=True,
        what="reading a message",
        about_message=True,
    )
    known = await book.well_known(mailbox)
    attachments: list[dict[str, Any]] = []
    if reply.data.get("hasAttachments") is True or _shows_inline(reply.data):
        attachments = await list_attachments(client, ref)
    found = read_message(ref, reply.data, known, attachments, keys)
    if keys is not None and await book.name_of(mailbox, (*found.places, "")[0]) == names.RECOVERABLE:
        # Where messages are replaced by copies, whether one is in sight decides about another: this one is not.
        return dataclasses.replace(found, traits=found.traits | {Trait.TRASH})
    return found


def _shows_inline(message: dict[str, Any]) -> bool:
    """Whether the body shows an attachment: ``hasAttachments`` does not count inline ones.

    https://learn.microsoft.com/graph/api/resources/message (``hasAttachments``)
    """
    body = message.get("body")
    return isinstance(body, dict) and "cid:" in _text(body.get("content")).lower()


async def list_attachments(client: GraphClient, ref: MessageRef) -> list[dict[str, Any]]:
    """Name, type, size and ``isInline`` of each attachment, without its content."""
    info = client.requests.attachments(ref.mailbox.id, ref.id, ["id", "name", "contentType", "size", "isInline"])
    found: list[dict[str, Any]] = []
    while True:
        reply = await client.call(
            info, mailbox=ref.mailbox.id, read=True, what="listing attachments", about_message=True
        )
        found.extend(reply.values)
        link = reply.data.get("@odata.nextLink")
        if not isinstance(link, str):
            return found
        info = client.follow(link)


def read_message(
    ref: MessageRef,
    message: dict[str, Any],
    known: Folders,
    attachments: Iterable[dict[str, Any]] = (),
    keys: MarkKeys | None = None,
) -> FetchedMessage:
    """A Graph message resource as the application's type.

    Raises:
        Unavailable: The answer has no body or no version, so it is not what was asked for.
    """
    body = message.get("body")
    version = message_version(message)
    if not isinstance(body, dict) or not version:
        raise Unavailable("Graph's answer has no body or no version; the message was left as it is.")
    copy = keys.read(ref.mailbox.id, lambda name: extended(message, name)) if keys is not None else None
    traits = message_traits(message, known, attachments)
    return FetchedMessage(
        ref=ref,
        version=version,
        content=body_content(body),
        traits=traits if copy is None else traits | {Trait.OWN_COPY},
        internet_message_id=_text(message.get("internetMessageId")),
        subject=_text(message.get("subject")),
        sender=_address(message.get("from")),
        recipients=tuple(
            address
            for name in ("toRecipients", "ccRecipients")
            for entry in (message.get(name) or [])
            if (address := _address(entry))
        ),
        received_at=parse_time(message.get("receivedDateTime")),
        thread_id=_text(message.get("conversationId")),
        places=tuple(filter(None, [_text(message.get("parentFolderId"))])),
        is_read=message.get("isRead") is True,
        list_unsubscribe=extended(message, LIST_UNSUBSCRIBE),
        attached=tuple(read_attachment(attachment) for attachment in attachments if attachment.get("id")),
        copy=copy,
    )


def read_attachment(attachment: dict[str, Any]) -> Attached:
    """An attachment resource without its content."""
    size = attachment.get("size")
    return Attached(
        id=_text(attachment.get("id")),
        name=_text(attachment.get("name")),
        content_type=_text(attachment.get("contentType")).partition(";")[0].strip().lower(),
        size=size if isinstance(size, int) else 0,
        is_file=_text(attachment.get("@odata.type")).lower() in ("", "#microsoft.graph.fileattachment"),
    )


def body_content(body: dict[str, Any]) -> BodyContent:
    """An ``itemBody`` resource (https://learn.microsoft.com/graph/api/resources/itembody)."""
    return BodyContent(_text(body.get("content")), _text(body.get("contentType")).lower() == "html")


def message_version(message: dict[str, Any]) -> str:
    """The entity tag for ``If-Match``: as given, else from the changeKey it is made of."""
    tag = _text(message.get("@odata.etag"))
    key = _text(message.get("changeKey"))
    return tag or (f'W/"{key}"' if key else "")


def _address(recipient: Any) -> str:
    address = recipient.get("emailAddress") if isinstance(recipient, dict) else None
    return _text(address.get("address")).strip().lower() if isinstance(address, dict) else ""


def parse_time(value: Any) -> datetime | None:
    """An aware time of Graph (ISO 8601), or None where it is not one."""
    try:
        parsed = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
    return parsed if parsed.tzinfo is not None else None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
