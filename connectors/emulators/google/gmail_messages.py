"""Gmail ``users.messages``.

https://developers.google.com/workspace/gmail/api/reference/rest/v1/users.messages
"""

from __future__ import annotations

from email.utils import formatdate
from typing import Any

from connectors.emulators.google import mime
from connectors.emulators.google.api import Call, Method, Param
from connectors.emulators.google.behaviour import Deduplication
from connectors.emulators.google.errors import invalid, not_found
from connectors.emulators.google.gmail_common import (
    ADDON_METADATA,
    ADDON_READ,
    DELETE,
    FORMAT,
    INSERT,
    LIST_PARAMS,
    MODIFY,
    READ,
    READ_BODY,
    USER,
    format_of,
    found,
    mailbox,
    page,
    reference,
    resource,
    unique,
    with_labels,
)
from connectors.emulators.google.mailbox import Mailbox, StoredMessage

_MOST_LABELS = 100
_MOST_BATCH = 1_000
_DATE_SOURCES = ("receivedTime", "dateHeader")


def list_messages(call: Call) -> dict[str, Any]:
    """``messages.list``: ids, newest first. An empty list is left out, as proto3 JSON does."""
    box = mailbox(call)
    matches = found(call, box)
    ids, more = page(call, [(m.internal_ms, m.id) for m in matches])
    answer: dict[str, Any] = {"resultSizeEstimate": len(matches), **more}
    if ids:
        answer["messages"] = [reference(box.messages[i]) for i in ids]
    return answer


def get(call: Call) -> dict[str, Any]:
    """``messages.get``."""
    box = mailbox(call)
    message = box.get(call.path["id"])
    return resource(box, message, format_of(call), call.query.get("metadataHeaders", ()))


def get_attachment(call: Call) -> dict[str, Any]:
    """``messages.attachments.get``.

    https://developers.google.com/workspace/gmail/api/reference/rest/v1/users.messages.attachments/get
    """
    message = mailbox(call).get(call.path["messageId"])
    content = mime.attachment(message.raw, call.path["id"])
    if content is None:
        raise invalid("Invalid attachment token")
    return {"size": len(content), "data": mime.encode(content)}


def insert(call: Call) -> dict[str, Any]:
    """``messages.insert``: like IMAP APPEND, without scanning; exactly the labels asked for."""
    return _store(call, Deduplication.INSERT_AND_IMPORT)


def import_message(call: Call) -> dict[str, Any]:
    """``messages.import``: like delivery, but nothing is ever found to be spam here."""
    return _store(call, Deduplication.INSERT_AND_IMPORT, Deduplication.IMPORT_ONLY)


def _store(call: Call, *deduplicating: Deduplication) -> dict[str, Any]:
    """Insert or import.

    SENT and DRAFT cannot be applied (https://developers.google.com/workspace/gmail/api/guides/labels). A
    duplicate by Message-ID, where de-duplication is on, answers with the message that is there: it gains the
    labels asked for and comes out of the trash, and nothing new is stored
    (https://github.com/google/import-mailbox-to-gmail/issues/56,
    https://github.com/rgladwell/imap-upload/issues/22).
    """
    box = mailbox(call)
    raw = raw_of(call)
    labels = unique(call.strings("labelIds"))
    box.labels.check_applicable(labels)
    if call.state.behaviour.deduplication in deduplicating:
        there = box.with_message_id(mime.envelope(raw).message_id)
        if there is not None:
            box.modify([there.id], labels, () if "TRASH" in labels else ("TRASH",))
            return with_labels(box, there)
    now = call.state.clock.timestamp()
    date = mime.envelope(raw).date_ms if call.query["internalDateSource"] == "dateHeader" else None
    if call.state.behaviour.received_line:
        raw = received_line(call, now) + raw
    message = box.add(
        raw,
        labels,
        internal_ms=date if date is not None else int(now * 1000),
        thread_id=call.body.get("threadId") or None,
        classification=call.body.get("classificationLabelValues") or (),
    )
    answer = with_labels(box, message)
    if call.query.get("deleted"):
        # Permanently deleted and visible to Google Vault only.
        box.delete([message.id])
    return answer


def raw_of(call: Call) -> bytes:
    """The message in an upload or in ``raw``.

    Raises:
        ApiError: 400 where there is none or it cannot be read.
    """
    if call.media is not None:
        if not call.media:
            raise invalid("Media body is empty")
        return call.media
    text = call.body.get("raw")
    if not isinstance(text, str) or not text:
        raise invalid("'raw' RFC822 payload message string or uploading message via /upload/* URL required")
    try:
        return mime.decode(text)
    except ValueError:
        raise invalid("Invalid value at 'message.raw' (TYPE_BYTES), Base64 decoding failed") from None


def received_line(call: Call, now: float) -> bytes:
    """The trace header that Gmail may put before a message that comes through the API."""
    by = f"by gmailapi.google.com with HTTPREST; {formatdate(now)}"
    return f"Received: from {call.grant.client} named unknown\r\n\t{by}\r\n".encode("ascii")


def modify(call: Call) -> dict[str, Any]:
    """``messages.modify``: at most 100 labels a call."""
    box = mailbox(call)
    message = box.get(call.path["id"])
    add, remove = _label_changes(call, box)
    box.modify([message.id], add, remove)
    _classify(call, [message])
    return with_labels(box, message)


def batch_modify(call: Call) -> None:
    """``messages.batchModify``: at most 1,000 ids; says nothing about ids that are gone."""
    box = mailbox(call)
    ids = _batch_ids(call)
    add, remove = _label_changes(call, box)
    _classify(call, box.modify(ids, add, remove))


def _label_changes(call: Call, box: Mailbox) -> tuple[list[str], list[str]]:
    add, remove = unique(call.strings("addLabelIds")), unique(call.strings("removeLabelIds"))
    classifying = call.body.get("addClassificationLabels") or call.body.get("removeClassificationLabelIds")
    if not add and not remove and not classifying:
        raise invalid("No label add or removes specified")
    if len(add) > _MOST_LABELS or len(remove) > _MOST_LABELS:
        raise invalid("Too many labels")
    if set(add) & set(remove):
        raise invalid("Cannot both add and remove the same label")
    box.labels.check_applicable([*add, *remove])
    return add, remove


def _classify(call: Call, messages: list[StoredMessage]) -> None:
    add = call.body.get("addClassificationLabels") or []
    remove = set(call.strings("removeClassificationLabelIds"))
    replaced = remove | {value.get("labelId") for value in add}
    for message in messages:
        kept = [value for value in message.classification if value.get("labelId") not in replaced]
        message.classification = [*kept, *add]


def trash(call: Call) -> dict[str, Any]:
    """``messages.trash``."""
    box = mailbox(call)
    message = box.get(call.path["id"])
    box.modify([message.id], ("TRASH",), ())
    return with_labels(box, message)


def untrash(call: Call) -> dict[str, Any]:
    """``messages.untrash``; see ``Behaviour.untrash_restores`` for the inbox."""
    box = mailbox(call)
    message = box.get(call.path["id"])
    box.untrash([message.id], restore=call.state.behaviour.untrash_restores)
    return with_labels(box, message)


def delete(call: Call) -> None:
    """``messages.delete``: for good; needs the scope ``https://mail.google.com/``."""
    box = mailbox(call)
    box.delete([box.get(call.path["id"]).id])


def batch_delete(call: Call) -> None:
    """``messages.batchDelete``: "Provides no guarantees that messages were not already deleted or even
    existed at all"."""
    mailbox(call).delete(_batch_ids(call))


def _batch_ids(call: Call) -> list[str]:
    ids = unique(call.strings("ids"))
    if not ids:
        raise invalid("No message ids specified")
    if len(ids) > _MOST_BATCH:
        raise invalid(f"Too many message ids specified, the maximum is {_MOST_BATCH}")
    return ids


def send(call: Call) -> dict[str, Any]:
    """``messages.send``: a copy under SENT, and delivery to the recipients that have a mailbox here.

    https://developers.google.com/workspace/gmail/api/guides/sending
    """
    return with_labels(mailbox(call), send_out(call, raw_of(call), call.body.get("threadId") or None))


def send_out(call: Call, raw: bytes, thread_id: str | None) -> StoredMessage:
    """Deliver to everybody here and keep the copy.

    Raises:
        ApiError: 400 without recipients.
    """
    box = mailbox(call)
    recipients = unique(mime.envelope(raw).recipients)
    if not recipients:
        raise invalid("Recipient address required")
    if thread_id is not None and thread_id not in box.threads:
        raise not_found()
    now_ms = int(call.state.clock.timestamp() * 1000)
    sent = box.add(raw, ("SENT",), internal_ms=now_ms, thread_id=thread_id)
    for address in recipients:
        call.state.deliver_if_known(address, mime.without_bcc(raw))
    return sent


_ONE = USER + "/messages/{id}"
_STORE_BODY = frozenset({"raw", "labelIds", "threadId", "classificationLabelValues"})
_MODIFY_BODY = frozenset({"addLabelIds", "removeLabelIds", "addClassificationLabels", "removeClassificationLabelIds"})
_STORE = {"deleted": Param("boolean", default="false")}

METHODS = (
    Method("gmail.users.messages.list", "GET", USER + "/messages", READ, list_messages, LIST_PARAMS, 5),
    Method(
        "gmail.users.messages.insert",
        "POST",
        USER + "/messages",
        INSERT,
        insert,
        {**_STORE, "internalDateSource": Param(choices=_DATE_SOURCES, default="receivedTime")},
        25,
        upload=True,
        request=_STORE_BODY,
    ),
    Method(
        "gmail.users.messages.import",
        "POST",
        USER + "/messages/import",
        INSERT,
        import_message,
        {
            **_STORE,
            "internalDateSource": Param(choices=_DATE_SOURCES, default="dateHeader"),
            "neverMarkSpam": Param("boolean", default="false"),
            "processForCalendar": Param("boolean", default="false"),
        },
        25,
        upload=True,
        request=_STORE_BODY,
    ),
    Method(
        "gmail.users.messages.batchModify",
        "POST",
        USER + "/messages/batchModify",
        MODIFY,
        batch_modify,
        units=50,
        request=_MODIFY_BODY | {"ids"},
    ),
    Method(
        "gmail.users.messages.batchDelete",
        "POST",
        USER + "/messages/batchDelete",
        DELETE,
        batch_delete,
        units=50,
        request=frozenset({"ids"}),
    ),
    Method(
        "gmail.users.messages.get",
        "GET",
        _ONE,
        READ | ADDON_READ | ADDON_METADATA,
        get,
        {"format": FORMAT, "metadataHeaders": Param(repeated=True)},
        20,
    ),
    Method("gmail.users.messages.delete", "DELETE", _ONE, DELETE, delete, units=10),
    Method(
        "gmail.users.messages.modify",
        "POST",
        _ONE + "/modify",
        MODIFY,
        modify,
        units=5,
        request=_MODIFY_BODY,
    ),
    Method("gmail.users.messages.trash", "POST", _ONE + "/trash", MODIFY, trash, units=20),
    Method("gmail.users.messages.untrash", "POST", _ONE + "/untrash", MODIFY, untrash, units=20),
    Method(
        "gmail.users.messages.attachments.get",
        "GET",
        USER + "/messages/{messageId}/attachments/{id}",
        READ_BODY | ADDON_READ,
        get_attachment,
        units=20,
    ),
)
