"""Reading RFC 5322 messages the way the Gmail API shows them.

Resource shapes: https://developers.google.com/workspace/gmail/api/reference/rest/v1/users.messages
"""

from __future__ import annotations

import base64
import html as html_entities
import re
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from email import message_from_bytes
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from email.message import Message
from email.parser import BytesHeaderParser
from email.utils import getaddresses, parsedate_to_datetime
from typing import Any

_BARE_LF = re.compile(rb"(?<!\r)\n")
_MESSAGE_ID = re.compile(r"<[^<>\s]+>")
_MESSAGE_ID_NAME = re.compile(rb"^message-id(?=[ \t]*:)", re.IGNORECASE | re.MULTILINE)
_REPLY_PREFIX = re.compile(r"\A\s*(?:(?:re|fwd?|aw|wg|sv|antw)\s*(?:\[\d+\])?:\s*)+", re.IGNORECASE)
_TAG = re.compile(r"<(style|script|head)\b.*?</\1\s*>|<!--.*?-->|<[^>]*>", re.IGNORECASE | re.DOTALL)


def encode(data: bytes) -> str:
    """base64url with padding, as in ``raw`` and ``MessagePartBody.data``."""
    return base64.urlsafe_b64encode(data).decode("ascii")


def decode(text: str) -> bytes:
    """base64url or base64, with or without padding.

    Raises:
        ValueError: It is neither.
    """
    plain = text.strip().replace("-", "+").replace("_", "/").rstrip("=")
    return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)


def smtp_line_ends(raw: bytes) -> bytes:
    """Bare line feeds as CRLF: mail that comes over SMTP has no others (RFC 5321, section 2.3.8)."""
    return _BARE_LF.sub(b"\r\n", raw)


def with_message_id(raw: bytes, unique: str) -> bytes:
    """Incoming mail as Gmail stores it: one that has no Message-ID, or none that is valid, gets Google's own.

    Google does not document it; it shows in received mail as
    ``<...SMTPIN_ADDED_MISSING@mx.google.com>``, above the sender's fields. An invalid one is kept as
    ``X-Google-Original-Message-ID`` (https://www.spamresource.com/2025/06/gmail-says-yes-to-angle-brackets-in.html).
    Some such mail Gmail refuses altogether; that is not emulated.

    Args:
        raw: The message as it came over SMTP.
        unique: What tells the new Message-ID from others.
    """
    if envelope(raw).message_id:
        return raw
    end = re.search(rb"\r?\n\r?\n", raw)
    cut = end.start() if end else len(raw)
    head, renamed = _MESSAGE_ID_NAME.subn(b"X-Google-Original-Message-ID", raw[:cut])
    why = "BROKEN" if renamed else "MISSING"
    return f"Message-ID: <{unique}SMTPIN_ADDED_{why}@mx.google.com>\r\n".encode("ascii") + head + raw[cut:]


@dataclass(frozen=True, slots=True)
class Envelope:
    """The header fields the mailbox itself needs.

    Attributes:
        message_id: With angle brackets, or empty.
        references: Message-IDs from References and In-Reply-To, with angle brackets.
        subject: Decoded.
        sender: The From field, decoded.
        recipients: Addresses of To, Cc and Bcc in lower case.
        date_ms: The Date header in milliseconds since the epoch, or None where it is missing or invalid.
    """

    message_id: str
    references: tuple[str, ...]
    subject: str
    sender: str
    recipients: tuple[str, ...]
    date_ms: int | None

    @property
    def subject_key(self) -> str:
        """The subject without reply and forward prefixes, for threading."""
        return " ".join(_REPLY_PREFIX.sub("", self.subject).split()).casefold()


def header_text(value: Any) -> str:
    """A header's value unfolded and with encoded words (RFC 2047) decoded; undecodable ones stay."""
    text = re.sub(r"\r?\n[ \t]*", " ", str(value))
    try:
        return str(make_header(decode_header(text)))
    except (HeaderParseError, LookupError, UnicodeError, ValueError):
        return text


def envelope(raw: bytes) -> Envelope:
    """Read the header fields of a message; never fails, whatever the message looks like."""
    message = BytesHeaderParser().parsebytes(raw)
    ids = _MESSAGE_ID.findall(str(message.get("Message-ID", "")))
    references: list[str] = []
    for name in ("References", "In-Reply-To"):
        references += _MESSAGE_ID.findall(str(message.get(name, "")))
    people = [str(v) for name in ("To", "Cc", "Bcc") for v in message.get_all(name, [])]
    return Envelope(
        message_id=ids[0] if ids else "",
        references=tuple(dict.fromkeys(references)),
        subject=header_text(message.get("Subject", "")),
        sender=header_text(message.get("From", "")),
        recipients=tuple(address.lower() for _, address in getaddresses(people) if address),
        date_ms=_date_ms(str(message.get("Date", ""))),
    )


def _date_ms(value: str) -> int | None:
    try:
        return int(parsedate_to_datetime(value).timestamp() * 1000)
    except (TypeError, ValueError, OverflowError):
        return None


def _decoded(part: Message) -> bytes:
    payload = part.get_payload(decode=True)
    return payload if isinstance(payload, bytes) else b""


def _text(part: Message) -> str:
    try:
        return _decoded(part).decode(part.get_content_charset("utf-8"), "replace")
    except LookupError:
        return _decoded(part).decode("latin-1")


def _children(part: Message) -> Sequence[Message]:
    payload = part.get_payload()
    if not part.is_multipart() or not isinstance(payload, list):
        return ()
    return [child for child in payload if isinstance(child, Message)]


def _walk(part: Message, part_id: str = "") -> Iterator[tuple[str, Message]]:
    yield part_id, part
    for index, child in enumerate(_children(part)):
        yield from _walk(child, f"{part_id}.{index}" if part_id else str(index))


def _filename(part: Message) -> str:
    name = part.get_filename()
    return header_text(name) if name else ""


def payload(raw: bytes, *, parts: bool, only: Sequence[str] = ()) -> dict[str, Any]:
    """``Message.payload``.

    Args:
        raw: The message.
        parts: With bodies and parts (format=full) or with the top headers only (format=metadata).
        only: Names of the headers wanted, without regard to case; empty is all.
    """
    message = message_from_bytes(raw)
    if parts:
        return _part(message, "")
    wanted = {name.lower() for name in only}
    headers = [h for h in _headers(message) if not wanted or h["name"].lower() in wanted]
    return {"mimeType": message.get_content_type(), "headers": headers}


def _headers(part: Message) -> list[dict[str, str]]:
    return [{"name": name, "value": header_text(value)} for name, value in part.items()]


def _part(part: Message, part_id: str) -> dict[str, Any]:
    children = _children(part)
    filename = _filename(part)
    shown: dict[str, Any] = {
        "partId": part_id,
        "mimeType": part.get_content_type(),
        "filename": filename,
        "headers": _headers(part),
    }
    if children:
        shown["body"] = {"size": 0}
        shown["parts"] = [
            _part(child, f"{part_id}.{index}" if part_id else str(index)) for index, child in enumerate(children)
        ]
        return shown
    data = _decoded(part)
    body: dict[str, Any] = {"size": len(data)}
    if filename:
        body["attachmentId"] = attachment_id(part_id)
    elif data:
        body["data"] = encode(data)
    shown["body"] = body
    return shown


def attachment_id(part_id: str) -> str:
    """A fresh id for a part: Gmail gives another one at every read, and all of them work for a while."""
    return "ANGjdJ" + encode(secrets.token_bytes(18) + part_id.encode("ascii")).rstrip("=")


def attachment(raw: bytes, wanted: str) -> bytes | None:
    """The content of the part an attachment id stands for; None where the id means nothing here."""
    if not wanted.startswith("ANGjdJ"):
        return None
    try:
        part_id = decode(wanted[6:])[18:].decode("ascii")
    except ValueError:
        return None
    for found, part in _walk(message_from_bytes(raw)):
        if found == part_id and not _children(part):
            return _decoded(part)
    return None


def has_attachment(raw: bytes) -> bool:
    """Whether any part has a file name."""
    return any(_filename(part) for _, part in _walk(message_from_bytes(raw)))


@dataclass(frozen=True, slots=True)
class Leaf:
    """A part that is shown as an attachment or inline picture."""

    name: str
    content_type: str
    content: bytes
    inline: bool
    content_id: str | None


@dataclass(frozen=True, slots=True)
class Bodies:
    """What a person reads: the first HTML and plain text bodies, and everything else."""

    html: str | None
    text: str | None
    leaves: tuple[Leaf, ...]


def bodies(raw: bytes) -> Bodies:
    """Split a message into what a mail program shows."""
    html: str | None = None
    text: str | None = None
    leaves: list[Leaf] = []
    for _, part in _walk(message_from_bytes(raw)):
        if _children(part) or part.get_content_maintype() == "multipart":
            continue
        kind, name = part.get_content_type(), _filename(part)
        attached = part.get_content_disposition() == "attachment"
        if kind == "text/html" and html is None and not attached:
            html = _text(part)
        elif kind == "text/plain" and text is None and not attached:
            text = _text(part)
        else:
            content_id = str(part.get("Content-ID", "")).strip().strip("<>") or None
            leaves.append(Leaf(name or kind, kind, _decoded(part), not attached, content_id))
    return Bodies(html, text, tuple(leaves))


def plain_text(raw: bytes) -> str:
    """All readable text in one line, for the snippet and for searching."""
    found = bodies(raw)
    text = found.text
    if text is None and found.html is not None:
        text = html_entities.unescape(_TAG.sub(" ", found.html))
    # UTF-7 spells halves of surrogate pairs, which JSON in UTF-8 cannot carry.
    return " ".join((text or "").split()).encode("utf-8", "replace").decode()


def without_bcc(raw: bytes) -> bytes:
    """The message as others get it: its Bcc fields are gone (RFC 5322, section 3.6.3)."""
    end = re.search(rb"\r?\n\r?\n", raw)
    cut = end.start() + 1 if end else len(raw)
    head = re.sub(rb"(?im)^bcc:[^\n]*(?:\n[ \t][^\n]*)*\n?", b"", raw[:cut])
    return head + raw[cut:]
