"""A Gmail message resource -> :class:`~connectors.base.types.FetchedMessage`."""

from __future__ import annotations

import asyncio
import base64
import binascii
import email.header
import email.parser
import email.policy
import email.utils
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import Message
from typing import Any, TypeVar

from connectors.base.errors import Unavailable
from connectors.base.types import CopyMark, FetchedMessage, Mailbox, MessageRef, MimeContent, Trait
from connectors.google import labels as names
from connectors.google.client import GoogleClient
from connectors.google.marker import MarkerKeys

_BY_LABEL = {
    names.DRAFT: Trait.DRAFT,
    names.SENT: Trait.SENT,
    names.CHAT: Trait.CHAT,
    names.SPAM: Trait.SPAM,
    names.TRASH: Trait.TRASH,
}
_CALENDAR_PART = re.compile(rb"^content-type:(?:[ \t]|\r?\n[ \t])*text/calendar\b", re.IGNORECASE | re.MULTILINE)
_RPMSG_PART = re.compile(
    rb"^content-type:(?:[ \t]|\r?\n[ \t])*application/x-microsoft-rpmsg-message\b",
    re.IGNORECASE | re.MULTILINE,
)
_THREAD_FROM_BYTES = 512 * 1024
_HEADER_END = re.compile(rb"\r?\n\r?\n|\r\r")
_SIGNED_TYPES = frozenset({"multipart/signed"})
_ENCRYPTED_TYPES = frozenset({"multipart/encrypted", "application/pkcs7-mime", "application/x-pkcs7-mime"})

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class RawMessage:
    """A message resource with its source.

    Attributes:
        id: Message id.
        thread_id: Thread id.
        labels: Label ids.
        history_id: Id of the last change to it.
        received_at: Gmail's internal date.
        raw: RFC 5322 source; empty where it was not asked for.
        classification: ``classificationLabelValues``, as they came.
    """

    id: str
    thread_id: str
    labels: tuple[str, ...]
    history_id: str
    received_at: datetime | None
    raw: bytes
    classification: tuple[Mapping[str, Any], ...] = ()


def read_resource(data: Mapping[str, Any]) -> RawMessage:
    """Read a ``Message`` resource (discovery schema ``Message``).

    Raises:
        Unavailable: It is not one.
    """
    try:
        encoded = str(data.get("raw", ""))
        raw = base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True)
        millis = data.get("internalDate")
        return RawMessage(
            id=str(data["id"]),
            thread_id=str(data.get("threadId", "")),
            labels=tuple(str(label) for label in data.get("labelIds") or ()),
            history_id=str(data.get("historyId", "")),
            received_at=datetime.fromtimestamp(int(millis) / 1000, UTC) if millis is not None else None,
            raw=raw,
            classification=tuple(data.get("classificationLabelValues") or ()),
        )
    except (KeyError, TypeError, ValueError, OverflowError, binascii.Error) as error:
        raise Unavailable("Google's answer is not a message resource; the message was left alone.") from error


async def off_loop(size: int, function: Callable[..., _T], *arguments: Any) -> _T:
    """Call a function that works through a whole message; in a thread where that would hold up others.

    Args:
        size: The message's length in bytes.
        function: Pure.
        arguments: Its arguments.
    """
    if size < _THREAD_FROM_BYTES:
        return function(*arguments)
    return await asyncio.to_thread(function, *arguments)


async def get_raw(client: GoogleClient, mailbox: Mailbox, message_id: str) -> RawMessage:
    """Read a message with its source (20 quota units)."""
    request = client.gmail.messages.get(userId=mailbox.address, id=message_id, format="raw")
    data = await client.mail(mailbox, request, "reading a message")
    return await off_loop(len(str(data.get("raw", ""))), read_resource, data)


async def get_minimal(client: GoogleClient, mailbox: Mailbox, message_id: str) -> RawMessage:
    """Read a message's labels only (20 quota units as well)."""
    request = client.gmail.messages.get(userId=mailbox.address, id=message_id, format="minimal")
    return read_resource(await client.mail(mailbox, request, "reading a message's labels"))


def to_fetched(message: RawMessage, mailbox: Mailbox, keys: MarkerKeys) -> FetchedMessage:
    """The neutral form. An own copy is given without our marker, so that it reads as what was written."""
    marked = keys.read(mailbox.id, message.raw)
    content = marked.content if marked else message.raw
    headers = parse_headers(content)
    sender = _addresses(headers, "from")[:1]
    traits = {trait for label, trait in _BY_LABEL.items() if label in message.labels}
    traits |= header_traits(headers) | _part_traits(content)
    if marked:
        traits.add(Trait.OWN_COPY)
    if sender and sender[0] in {mailbox.address.lower(), *mailbox.aliases} and _vouched_for(headers, message.labels):
        traits.add(Trait.FROM_OWNER)
    return FetchedMessage(
        ref=MessageRef(mailbox, message.id),
        version=message.history_id,
        content=MimeContent(content),
        traits=frozenset(traits),
        internet_message_id=_text(headers, "message-id"),
        subject=_decoded(headers, "subject"),
        sender=sender[0] if sender else "",
        recipients=tuple(dict.fromkeys(_addresses(headers, "to") + _addresses(headers, "cc"))),
        received_at=message.received_at,
        thread_id=message.thread_id,
        places=message.labels,
        is_read=names.UNREAD not in message.labels,
        extra=json.dumps(message.classification) if message.classification else "",
        copy=CopyMark(marked.original_id) if marked else None,
    )


def _vouched_for(headers: Message, labels: tuple[str, ...]) -> bool:
    """Whether Gmail stands for the From address.

    Anybody can write the recipient's own address into From, and mail from the owner is left untouched: the
    address alone would be a way past the protection. Gmail labels what the owner sent, and puts the outcome
    of its own DMARC check on top of mail that came in (RFC 8601; RFC 7489).
    """
    if names.SENT in labels or names.DRAFT in labels:
        return True
    server, _, results = _text(headers, "authentication-results").partition(";")
    return server.strip().lower() == "mx.google.com" and re.search(r"(?:^|;)\s*dmarc=pass\b", results) is not None


def parse_headers(raw: bytes) -> Message:
    """The header section alone; the standard parser accepts anything."""
    end = _HEADER_END.search(raw)
    section = raw[: end.end()] if end else raw[:262_144]
    return email.parser.BytesHeaderParser(policy=email.policy.compat32).parsebytes(section)


def header_traits(headers: Message) -> set[Trait]:
    """What the outermost headers say.

    Only the outermost type counts as signed or encrypted (RFC 8551, RFC 3156): a signed part somewhere
    inside does not make the whole message untouchable, or every attacker would add one.
    """
    traits: set[Trait] = set()
    kind = headers.get_content_type()
    smime = str(headers.get_param("smime-type", "") or "").lower()
    if kind in _SIGNED_TYPES or smime in ("signed-data", "certs-only"):
        traits.add(Trait.SIGNED)
    elif kind in _ENCRYPTED_TYPES:
        traits.add(Trait.ENCRYPTED)
    if "x-gm-locker" in headers:
        traits.add(Trait.CONFIDENTIAL_MODE)
    # RFC 6522 demands the parameter; advertising is sent as a report that reports nothing, without it.
    if (kind == "multipart/report" and headers.get_param("report-type")) or kind == "message/delivery-status":
        traits.add(Trait.REPORT)
    if kind == "text/calendar":
        traits.add(Trait.MEETING)
    if _text(headers, "content-class").lower() == "rpmsg.message":
        traits.add(Trait.RIGHTS_MANAGED)
    return traits


def _part_traits(raw: bytes) -> set[Trait]:
    traits: set[Trait] = set()
    lowered = raw.lower()  # a plain search of lower-cased megabytes is ten times faster than the expressions
    if b"text/calendar" in lowered and _CALENDAR_PART.search(raw):
        traits.add(Trait.MEETING)
    if b"rpmsg" in lowered and _RPMSG_PART.search(raw):
        traits.add(Trait.RIGHTS_MANAGED)
    return traits


def date_header(raw: bytes) -> datetime | None:
    """The Date header as an aware time; None where it is missing or not readable."""
    text = _text(parse_headers(raw), "date")
    try:
        parsed = email.utils.parsedate_to_datetime(text) if text else None
    except (ValueError, OverflowError):
        return None
    if parsed is None:
        return None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


def _text(headers: Message, name: str) -> str:
    found = headers.get(name)
    return " ".join(str(found).split()) if found is not None else ""


def _decoded(headers: Message, name: str) -> str:
    text = _text(headers, name)
    try:
        return str(email.header.make_header(email.header.decode_header(text)))
    except (LookupError, ValueError):
        return text  # an unknown charset or broken encoded word: shown as it stands


def _addresses(headers: Message, name: str) -> list[str]:
    found = [str(item) for item in headers.get_all(name) or ()]
    return [address.lower() for _, address in email.utils.getaddresses(found) if "@" in address]
