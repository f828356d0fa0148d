"""A mailbox as the webmail viewer shows it."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import getaddresses

from connectors.emulators.common.viewer import (
    ViewAttachment,
    ViewMailbox,
    ViewMessage,
    ViewMessageDetail,
)
from connectors.emulators.google import mime
from connectors.emulators.google.mailbox import Mailbox, StoredMessage

_PLACES = (("TRASH", "Trash"), ("SPAM", "Spam"), ("DRAFT", "Drafts"), ("INBOX", "Inbox"), ("SENT", "Sent"))


def mailbox(box: Mailbox, name: str) -> ViewMailbox:
    """The line in the list of mailboxes; trash and spam do not count as unread."""
    hidden = {"TRASH", "SPAM"}
    unread = sum("UNREAD" in m.labels and not m.labels & hidden for m in box.messages.values())
    return ViewMailbox(box.address, name, unread)


def line(box: Mailbox, message: StoredMessage) -> ViewMessage:
    """The line in the list of messages."""
    found = getaddresses([message.envelope.sender])
    name, address = found[0] if found else ("", "")
    return ViewMessage(
        id=message.id,
        subject=message.envelope.subject,
        sender=name or address,
        received_at=datetime.fromtimestamp(message.internal_ms / 1000, UTC),
        is_read="UNREAD" not in message.labels,
        place=_place(box, message),
        preview=message.text[:200],
    )


def detail(box: Mailbox, message: StoredMessage) -> ViewMessageDetail:
    """One message with its bodies and parts."""
    bodies = mime.bodies(message.raw)
    return ViewMessageDetail(
        message=line(box, message),
        recipients=message.envelope.recipients,
        html=bodies.html,
        text=bodies.text,
        attachments=tuple(
            ViewAttachment(leaf.name, leaf.content_type, leaf.content, leaf.inline, leaf.content_id)
            for leaf in bodies.leaves
        ),
        raw=message.raw,
    )


def _place(box: Mailbox, message: StoredMessage) -> str:
    for label, name in _PLACES:
        if label in message.labels:
            return name
    own = [label for label in box.labels.order(message.labels) if label.startswith("Label_")]
    return box.labels.name(own[0]) if own else "Archive"
