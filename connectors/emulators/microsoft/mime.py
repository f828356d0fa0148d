"""MIME of a stored message: "Get MIME content of a message" (https://learn.microsoft.com/graph/outlook-get-mime-message).

Exchange keeps one body. After it was changed, MIME is put together from the properties: the HTML, a plain text
alternative made of it, and the attachments; the transport headers stay.
"""

from __future__ import annotations

import email
import email.policy
from email.encoders import encode_base64
from email.header import Header
from email.message import Message as Part
from email.mime.base import MIMEBase
from email.mime.message import MIMEMessage
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from email.utils import format_datetime, formataddr

from connectors.emulators.microsoft import bodies
from connectors.emulators.microsoft.model import Address, Attachment, Message

_REPLACED = frozenset({"content-type", "content-transfer-encoding", "mime-version", "subject"})


def message_to_mime(message: Message) -> bytes:
    """The RFC 5322 form: the delivered octets while nothing of the content was changed."""
    if message.raw is not None and not message.body_changed:
        return message.raw
    root = _content(message)
    headers = _transport_headers(message)
    for name, value in root.items():
        headers.append((name, str(value)))
    for name in set(root.keys()):
        del root[name]
    for name, value in headers:
        root[name] = value
    return root.as_bytes(policy=email.policy.SMTP.clone(max_line_length=None))


def _transport_headers(message: Message) -> list[tuple[str, str]]:
    if message.raw is not None:
        original = email.message_from_bytes(message.raw, policy=email.policy.compat32)
        # Raw items keep 8-bit headers as they came.
        kept = [(name, str(value)) for name, value in original.raw_items() if name.lower() not in _REPLACED]
        return [*kept, ("Subject", _encoded(message.subject)), ("MIME-Version", "1.0")]
    headers = list(message.headers)
    known = {name.lower() for name, _ in headers}
    own = [
        ("From", _addresses([message.from_] if message.from_ else [])),
        ("To", _addresses(message.to)),
        ("Cc", _addresses(message.cc)),
        ("Date", format_datetime(message.sent_at)),
        ("Message-ID", message.internet_message_id),
        ("Subject", _encoded(message.subject)),
        ("MIME-Version", "1.0"),
    ]
    return headers + [(name, value) for name, value in own if value and name.lower() not in known]


def _content(message: Message) -> Part:
    body: Part
    if message.body_type == "html":
        alternative = MIMEMultipart("alternative")
        alternative.attach(MIMEText(bodies.html_to_text(message.body), "plain", "utf-8"))
        alternative.attach(MIMEText(message.body, "html", "utf-8"))
        body = alternative
    else:
        body = MIMEText(message.body, "plain", "utf-8")
    inline = [each for each in message.attachments if each.is_inline]
    others = [each for each in message.attachments if not each.is_inline]
    for kind, parts in (("related", inline), ("mixed", others)):
        if parts:
            wrapper = MIMEMultipart(kind)
            wrapper.attach(body)
            for each in parts:
                wrapper.attach(_attachment(each))
            body = wrapper
    del body["MIME-Version"]
    return body


def _attachment(attachment: Attachment) -> Part:
    if attachment.kind == "item":
        return MIMEMessage(email.message_from_bytes(attachment.content, policy=email.policy.compat32))
    main, _, sub = attachment.content_type.partition(";")[0].partition("/")
    part = MIMEBase(main or "application", sub or "octet-stream")
    part.set_payload(attachment.content)
    encode_base64(part)
    disposition = "inline" if attachment.is_inline else "attachment"
    part.add_header("Content-Disposition", disposition, filename=attachment.name)
    if attachment.content_id:
        part["Content-ID"] = f"<{attachment.content_id}>"
    return part


def _addresses(addresses: list[Address]) -> str:
    return ", ".join(formataddr((each.name if each.name != each.address else "", each.address)) for each in addresses)


def _encoded(text: str) -> str:
    return text if text.isascii() else Header(text, "utf-8").encode()
