"""Gmail ``users.drafts`` and ``messages.send``.

https://developers.google.com/workspace/gmail/api/reference/rest/v1/users.drafts: a draft's id stays when its
message is replaced, its message's id does not; sending deletes the draft.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from connectors.emulators.google.api import Call, Method, scopes
from connectors.emulators.google.errors import not_found
from connectors.emulators.google.gmail_common import (
    ADDON_COMPOSE,
    COMPOSE,
    FORMAT,
    LIST_PARAMS,
    MODIFY,
    READ_BODY,
    USER,
    format_of,
    found,
    mailbox,
    page,
    reference,
    resource,
    with_labels,
)
from connectors.emulators.google.gmail_messages import raw_of, send, send_out
from connectors.emulators.google.mailbox import Mailbox, StoredMessage

_WRITE = COMPOSE | ADDON_COMPOSE


def _inner(call: Call) -> Call:
    """The call as if its body were the draft's message."""
    message = call.body.get("message")
    return replace(call, body=message if isinstance(message, dict) else {})


def _draft(call: Call, box: Mailbox) -> tuple[str, StoredMessage]:
    draft_id = call.path["id"]
    if draft_id not in box.drafts:
        raise not_found()
    return draft_id, box.messages[box.drafts[draft_id]]


def _save(call: Call, box: Mailbox) -> StoredMessage:
    inner = _inner(call)
    now_ms = int(call.state.clock.timestamp() * 1000)
    thread_id = inner.body.get("threadId") or None
    return box.add(raw_of(inner), ("DRAFT",), internal_ms=now_ms, thread_id=thread_id)


def create(call: Call) -> dict[str, Any]:
    """``drafts.create``."""
    box = mailbox(call)
    message = _save(call, box)
    draft_id = box.new_draft_id()
    box.drafts[draft_id] = message.id
    return {"id": draft_id, "message": with_labels(box, message)}


def list_drafts(call: Call) -> dict[str, Any]:
    """``drafts.list``."""
    box = mailbox(call)
    by_message = {message: draft for draft, message in box.drafts.items()}
    matches = [m for m in found(call, box) if m.id in by_message]
    ids, more = page(call, [(m.internal_ms, m.id) for m in matches])
    answer: dict[str, Any] = {"resultSizeEstimate": len(matches), **more}
    if ids:
        answer["drafts"] = [{"id": by_message[i], "message": reference(box.messages[i])} for i in ids]
    return answer


def get(call: Call) -> dict[str, Any]:
    """``drafts.get``."""
    box = mailbox(call)
    draft_id, message = _draft(call, box)
    return {"id": draft_id, "message": resource(box, message, format_of(call))}


def update(call: Call) -> dict[str, Any]:
    """``drafts.update``: replaces the message."""
    box = mailbox(call)
    draft_id, old = _draft(call, box)
    message = _save(call, box)
    box.delete([old.id])
    box.drafts[draft_id] = message.id
    return {"id": draft_id, "message": with_labels(box, message)}


def delete(call: Call) -> None:
    """``drafts.delete``: for good, not to the trash."""
    box = mailbox(call)
    _, message = _draft(call, box)
    box.delete([message.id])


def send_draft(call: Call) -> dict[str, Any]:
    """``drafts.send``: an existing draft by id, or the message in the call."""
    box = mailbox(call)
    draft_id = str(call.body.get("id") or "")
    if not draft_id:
        inner = _inner(call)
        return with_labels(box, send_out(call, raw_of(inner), inner.body.get("threadId") or None))
    _, draft = _draft(replace(call, path={**call.path, "id": draft_id}), box)
    fresh = _inner(call).body.get("raw") or call.media
    thread_id = draft.thread_id if len(box.threads[draft.thread_id]) > 1 else None
    sent = send_out(call, raw_of(_inner(call)) if fresh else draft.raw, thread_id)
    box.delete([draft.id])
    return with_labels(box, sent)


_DRAFTS = USER + "/drafts"
_ONE = _DRAFTS + "/{id}"
_BODY = frozenset({"id", "message"})
_LIST = {name: param for name, param in LIST_PARAMS.items() if name != "labelIds"}
_READ = READ_BODY | COMPOSE

METHODS = (
    Method(
        "gmail.users.messages.send",
        "POST",
        USER + "/messages/send",
        MODIFY | _WRITE | scopes("gmail.send"),
        send,
        units=100,
        upload=True,
        request=frozenset({"raw", "threadId"}),
    ),
    Method("gmail.users.drafts.create", "POST", _DRAFTS, _WRITE, create, units=10, upload=True, request=_BODY),
    Method("gmail.users.drafts.list", "GET", _DRAFTS, _READ, list_drafts, _LIST, 5),
    Method(
        "gmail.users.drafts.send",
        "POST",
        _DRAFTS + "/send",
        _WRITE,
        send_draft,
        units=100,
        upload=True,
        request=_BODY,
    ),
    Method("gmail.users.drafts.get", "GET", _ONE, _READ, get, {"format": FORMAT}, 20),
    Method("gmail.users.drafts.update", "PUT", _ONE, _WRITE, update, units=15, upload=True, request=_BODY),
    Method("gmail.users.drafts.delete", "DELETE", _ONE, _WRITE, delete, units=10),
)
