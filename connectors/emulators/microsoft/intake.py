"""Turns a delivered RFC 5322 message into what Exchange keeps of it.

Documents: "message resource type" (https://learn.microsoft.com/graph/api/resources/message) for the fields;
"MS-OXCMAIL: RFC 2822 and MIME to Email Object Conversion Algorithm" for message classes, the choice of the
body part, inline attachments and signed mail; "eventMessage resource type" for meeting messages;
"MS-OXOSMIME" for the form of S/MIME messages.
"""

from __future__ import annotations

import email
import email.policy
import random
import re
from datetime import UTC, datetime
from email.header import decode_header, make_header
from email.message import Message as MimePart
from email.utils import getaddresses, parsedate_to_datetime

from connectors.emulators.microsoft import ids
from connectors.emulators.microsoft.model import Address, Attachment, Message

_SIGNED = frozenset({"application/pkcs7-signature", "application/x-pkcs7-signature"})
_MIME_P7 = frozenset({"application/pkcs7-mime", "application/x-pkcs7-mime"})
_MEETINGS = {
    "REQUEST": ("IPM.Schedule.Meeting.Request", "#microsoft.graph.eventMessageRequest", "meetingRequest"),
    "CANCEL": ("IPM.Schedule.Meeting.Canceled", "#microsoft.graph.eventMessage", "meetingCancelled"),
    "REPLY": ("IPM.Schedule.Meeting.Resp.Pos", "#microsoft.graph.eventMessageResponse", "meetingAccepted"),
}


def read_mime(
    raw: bytes, *, user_id: str, folder_id: str, now: datetime, source: random.Random, message_class: str | None = None
) -> Message:
    """The stored form of a delivered message.

    Args:
        raw: RFC 5322 octets.
        message_class: Overrides the class, for classes that only Outlook itself makes (approvals, voting).
    """
    mime = email.message_from_bytes(raw, policy=email.policy.compat32)
    kind, odata_type, meeting_type = _classify(mime)
    body_type, body = "text", ""
    attachments: list[Attachment] = []
    if kind == "IPM.Note.SMIME":
        content_type = str(mime.get("Content-Type", "application/pkcs7-mime")).replace("\r\n", "")
        content = _payload(mime)
        attachments.append(
            Attachment(ids.new_attachment_id(source), "smime.p7m", content_type, content, False, None, now)
        )
    else:
        body_type, body = _body(mime)
        attachments = _attachments(mime, body, now, source)
        if kind == "IPM.Note.SMIME.MultipartSigned":
            # MS-OXOSMIME 2.1.3.1: a clear-signed message has exactly one attachment, the signed entity.
            attachments = [
                Attachment(ids.new_attachment_id(source), "smime.p7m", "multipart/signed", raw, False, None, now)
            ]
    message_id = _text(mime, "Message-ID") or f"<{source.randbytes(12).hex()}@emulator.invalid>"
    references = re.findall(r"<[^<>\s]+>", f"{mime.get('References', '')} {mime.get('In-Reply-To', '')}")
    authors = _addresses(mime, "From")
    senders = _addresses(mime, "Sender") or authors
    return Message(
        id=ids.new_message_id(source),
        user_id=user_id,
        folder_id=folder_id,
        change=0,
        created_change=0,
        created_at=now,
        modified_at=now,
        received_at=now,
        sent_at=_date(mime, now),
        subject=_text(mime, "Subject"),
        sender=senders[0] if senders else None,
        from_=authors[0] if authors else None,
        to=_addresses(mime, "To"),
        cc=_addresses(mime, "Cc"),
        bcc=[],
        reply_to=_addresses(mime, "Reply-To"),
        body_type=body_type,
        body=body,
        internet_message_id=message_id,
        conversation_id=ids.conversation_id(references[0] if references else message_id),
        headers=[(name, " ".join(str(value).split())) for name, value in mime.items()],
        message_class=message_class or kind,
        odata_type=odata_type,
        meeting_type=meeting_type,
        importance=_importance(mime),
        attachments=attachments,
        raw=raw,
    )


def _classify(mime: MimePart) -> tuple[str, str, str | None]:
    """Message class, OData type and meetingMessageType."""
    plain = "#microsoft.graph.message"
    content_type = mime.get_content_type()
    if content_type in _MIME_P7:
        return "IPM.Note.SMIME", plain, None
    if content_type == "multipart/signed" and str(mime.get_param("protocol", "")).lower() in _SIGNED:
        return "IPM.Note.SMIME.MultipartSigned", plain, None
    if content_type == "multipart/report":
        report = str(mime.get_param("report-type", "")).lower()
        if report == "delivery-status":
            failed = any(b"action: failed" in _payload(part).lower() or _says_failed(part) for part in mime.walk())
            return ("REPORT.IPM.Note.NDR" if failed else "REPORT.IPM.Note.DR"), plain, None
        if report == "disposition-notification":
            return "REPORT.IPM.Note.IPNRN", plain, None
    for part in mime.walk():
        if part.get_content_type() == "text/calendar" and part.get_content_disposition() != "attachment":
            method = str(part.get_param("method", "") or _calendar_method(part)).upper()
            if method in _MEETINGS:
                return _MEETINGS[method]
    return "IPM.Note", plain, None


def _says_failed(part: MimePart) -> bool:
    if part.get_content_type() != "message/delivery-status":
        return False
    blocks = part.get_payload()
    return isinstance(blocks, list) and any(
        isinstance(block, MimePart) and str(block.get("Action", "")).strip().lower() == "failed" for block in blocks
    )


def _calendar_method(part: MimePart) -> str:
    found = re.search(rb"^METHOD:(\w+)", _payload(part), re.MULTILINE | re.IGNORECASE)
    return found[1].decode("ascii") if found else ""


def _payload(part: MimePart) -> bytes:
    if part.is_multipart():
        return b""
    payload = part.get_payload(decode=True)
    return payload if isinstance(payload, bytes) else b""


def _decode(part: MimePart) -> str:
    data = _payload(part)
    charset = part.get_content_charset("utf-8")
    for candidate in (charset, "utf-8"):
        try:
            return data.decode(candidate)
        except (LookupError, UnicodeDecodeError, ValueError):
            continue
    return data.decode("latin-1")


def is_body(part: MimePart) -> bool:
    """Whether a part can be the body: text that is not named or marked as an attachment."""
    return (
        part.get_content_type() in ("text/html", "text/plain")
        and part.get_content_disposition() != "attachment"
        and part.get_filename() is None
    )


def _body(mime: MimePart) -> tuple[str, str]:
    """The richest body part (MS-OXCMAIL 2.2.3.5: HTML before plain text)."""
    plain: str | None = None
    for part in _own_parts(mime):
        if not is_body(part):
            continue
        if part.get_content_type() == "text/html":
            return "html", _decode(part)
        if plain is None:
            plain = _decode(part)
    return "text", plain or ""


def _own_parts(mime: MimePart) -> list[MimePart]:
    """Leaves of the message itself, without those of attached messages."""
    if mime.get_content_type() == "message/rfc822":
        return [mime]
    payload = mime.get_payload()
    if not isinstance(payload, list):
        return [mime]
    return [leaf for part in payload if isinstance(part, MimePart) for leaf in _own_parts(part)]


def _attachments(mime: MimePart, body: str, now: datetime, source: random.Random) -> list[Attachment]:
    found: list[Attachment] = []
    seen_html = seen_text = False
    for part in _own_parts(mime):
        kind = part.get_content_type()
        if is_body(part):
            if kind == "text/html" and not seen_html:
                seen_html = True
                continue
            if kind == "text/plain" and not seen_text:
                seen_text = True
                continue
        if kind == "text/calendar" and part.get_filename() is None:
            continue
        content_id = str(part.get("Content-ID", "")).strip().strip("<>") or None
        if kind == "message/rfc822":
            inner = part.get_payload()
            inner_message = inner[0] if isinstance(inner, list) and inner else None
            content = inner_message.as_bytes() if isinstance(inner_message, MimePart) else b""
            name = _text(inner_message, "Subject") if isinstance(inner_message, MimePart) else ""
            attachment = Attachment(
                ids.new_attachment_id(source), name or "message", kind, content, False, None, now, "item"
            )
        else:
            # MS-OXCMAIL 2.2.3.4.1.2: what the body shows is inline, whatever its disposition says.
            shown = content_id is not None and f"cid:{content_id}" in body
            inline = shown or part.get_content_disposition() == "inline"
            attachment = Attachment(
                id=ids.new_attachment_id(source),
                name=_filename(part) or content_id or "attachment",
                content_type=kind,
                content=_payload(part),
                is_inline=inline,
                content_id=content_id,
                modified_at=now,
            )
        found.append(attachment)
    return found


def _filename(part: MimePart) -> str:
    name = part.get_filename()
    return _decode_words(name) if name else ""


def _decode_words(value: str) -> str:
    try:
        return str(make_header(decode_header(value)))
    except (LookupError, UnicodeError, ValueError):
        return value


def _text(mime: MimePart, name: str) -> str:
    value = mime.get(name)
    return " ".join(_decode_words(str(value)).split()) if value is not None else ""


def _addresses(mime: MimePart, name: str) -> list[Address]:
    values = [str(value) for value in mime.get_all(name, [])]
    return [Address(_decode_words(display) or address, address) for display, address in getaddresses(values) if address]


def _date(mime: MimePart, now: datetime) -> datetime:
    try:
        moment = parsedate_to_datetime(str(mime["Date"]))
    except (TypeError, ValueError, IndexError):
        return now
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def _importance(mime: MimePart) -> str:
    value = _text(mime, "Importance").lower()
    return value if value in ("low", "high") else "normal"
