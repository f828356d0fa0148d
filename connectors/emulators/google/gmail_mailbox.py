"""Gmail methods around the messages: profile, labels, threads, history and watch."""

from __future__ import annotations

import re
from typing import Any

from connectors.emulators.google.api import Call, Method, Param
from connectors.emulators.google.errors import ApiError, forbidden, invalid
from connectors.emulators.google.gmail_common import (
    ADDON_METADATA,
    ADDON_READ,
    COMPOSE,
    DELETE,
    LABELS,
    LIST_PARAMS,
    MODIFY,
    READ,
    USER,
    format_of,
    found,
    mailbox,
    page,
    resource,
    unique,
    with_labels,
)
from connectors.emulators.google.labels import Label
from connectors.emulators.google.mailbox import HistoryRecord, Mailbox, Watch
from connectors.emulators.google.pubsub import GMAIL_PUBLISHER

_TOPIC = re.compile(r"projects/([^/]+)/topics/[^/]+")
_HISTORY_FIELDS = {
    "messageAdded": "messagesAdded",
    "messageDeleted": "messagesDeleted",
    "labelAdded": "labelsAdded",
    "labelRemoved": "labelsRemoved",
}


def get_profile(call: Call) -> dict[str, Any]:
    """``users.getProfile``.

    https://developers.google.com/workspace/gmail/api/reference/rest/v1/users/getProfile
    """
    box = mailbox(call)
    return {
        "emailAddress": box.address,
        "messagesTotal": len(box.messages),
        "threadsTotal": len(box.threads),
        "historyId": str(box.history_id),
    }


# Labels: https://developers.google.com/workspace/gmail/api/reference/rest/v1/users.labels


def list_labels(call: Call) -> dict[str, Any]:
    """``labels.list``: without counts."""
    return {"labels": [label.resource() for label in mailbox(call).labels.all()]}


def get_label(call: Call) -> dict[str, Any]:
    """``labels.get``: with counts."""
    box = mailbox(call)
    label = box.labels.get(call.path["id"])
    with_it = [m for m in box.messages.values() if label.id in m.labels]
    unread = [m for m in with_it if "UNREAD" in m.labels]
    return {
        **label.resource(),
        "messagesTotal": len(with_it),
        "messagesUnread": len(unread),
        "threadsTotal": len({m.thread_id for m in with_it}),
        "threadsUnread": len({m.thread_id for m in unread}),
    }


def create_label(call: Call) -> dict[str, Any]:
    """``labels.create``."""
    return mailbox(call).labels.create(call.body).resource()


def update_label(call: Call) -> dict[str, Any]:
    """``labels.update``: all fields."""
    return _changed(call, replace=True).resource()


def patch_label(call: Call) -> dict[str, Any]:
    """``labels.patch``: the fields given."""
    return _changed(call, replace=False).resource()


def _changed(call: Call, *, replace: bool) -> Label:
    return mailbox(call).labels.change(call.path["id"], call.body, replace=replace)


def delete_label(call: Call) -> None:
    """``labels.delete``: also takes it off all messages."""
    box = mailbox(call)
    label = box.labels.get(call.path["id"])
    if not label.system:
        box.forget_label(label.id)
    box.labels.delete(label.id)


# Threads: https://developers.google.com/workspace/gmail/api/reference/rest/v1/users.threads


def list_threads(call: Call) -> dict[str, Any]:
    """``threads.list``: threads with at least one message that matches."""
    box = mailbox(call)
    newest: dict[str, int] = {}
    for message in found(call, box):
        newest.setdefault(message.thread_id, message.internal_ms)
    keys = sorted(((moment, thread) for thread, moment in newest.items()), reverse=True)
    ids, more = page(call, keys)
    answer: dict[str, Any] = {"resultSizeEstimate": len(keys), **more}
    if ids:
        answer["threads"] = [_thread_line(box, thread_id) for thread_id in ids]
    return answer


def _thread_line(box: Mailbox, thread_id: str) -> dict[str, Any]:
    members = box.thread(thread_id)
    return {
        "id": thread_id,
        "snippet": members[-1].text[:200],
        "historyId": str(max(m.history_id for m in members)),
    }


def get_thread(call: Call) -> dict[str, Any]:
    """``threads.get``: the messages, oldest first."""
    box = mailbox(call)
    form = format_of(call)
    if form == "raw":
        raise invalid("Invalid value at 'format'")
    members = box.thread(call.path["id"])
    headers = call.query.get("metadataHeaders", ())
    return {
        "id": call.path["id"],
        "historyId": str(max(m.history_id for m in members)),
        "messages": [resource(box, m, form, headers) for m in members],
    }


def modify_thread(call: Call) -> dict[str, Any]:
    """``threads.modify``: the labels of all its messages."""
    add, remove = unique(call.strings("addLabelIds")), unique(call.strings("removeLabelIds"))
    if not add and not remove:
        raise invalid("No label add or removes specified")
    mailbox(call).labels.check_applicable([*add, *remove])
    return _relabel_thread(call, add, remove)


def trash_thread(call: Call) -> dict[str, Any]:
    """``threads.trash``."""
    return _relabel_thread(call, ["TRASH"], [])


def untrash_thread(call: Call) -> dict[str, Any]:
    """``threads.untrash``; see ``Behaviour.untrash_restores`` for the inbox."""
    box = mailbox(call)
    members = box.thread(call.path["id"])
    box.untrash([m.id for m in members], restore=call.state.behaviour.untrash_restores)
    return {"id": call.path["id"], "messages": [with_labels(box, m) for m in members]}


def _relabel_thread(call: Call, add: list[str], remove: list[str]) -> dict[str, Any]:
    box = mailbox(call)
    members = box.thread(call.path["id"])
    box.modify([m.id for m in members], add, remove)
    return {"id": call.path["id"], "messages": [with_labels(box, m) for m in members]}


def delete_thread(call: Call) -> None:
    """``threads.delete``: for good."""
    box = mailbox(call)
    box.delete([m.id for m in box.thread(call.path["id"])])


# History: https://developers.google.com/workspace/gmail/api/reference/rest/v1/users.history/list


def list_history(call: Call) -> dict[str, Any]:
    """``history.list``: what happened after a start id, oldest first.

    A start id that is too old answers 404: a full sync is needed. The ``historyId`` of the answer is the
    mailbox's current one, on every page: storing it before the last page loses changes.
    """
    box = mailbox(call)
    start = str(call.query.get("startHistoryId") or "")
    if not start.isdecimal():
        raise invalid("Missing or invalid startHistoryId")
    kinds = set(call.query.get("historyTypes") or _HISTORY_FIELDS)
    label = call.query.get("labelId")
    now = call.state.clock.timestamp()
    records = [
        record
        for record in box.changes(int(start), now, call.state.behaviour.history_retention)
        if record.kind in kinds and (label is None or label in {*record.labels_now, *record.changed})
    ]
    token = str(call.query.get("pageToken") or "0")
    if not token.isdecimal():
        raise invalid("Invalid pageToken")
    records = [record for record in records if record.id > int(token)]
    size = call.page_size()
    answer: dict[str, Any] = {"historyId": str(box.history_id)}
    if records:
        answer["history"] = [_history(record) for record in records[:size]]
    if len(records) > size:
        answer["nextPageToken"] = str(records[size - 1].id)
    return answer


def _history(record: HistoryRecord) -> dict[str, Any]:
    bare = {"id": record.message_id, "threadId": record.thread_id}
    change: dict[str, Any] = {"message": {**bare, "labelIds": record.labels_now}}
    if record.changed:
        change["labelIds"] = record.changed
    return {"id": str(record.id), "messages": [bare], _HISTORY_FIELDS[record.kind]: [change]}


# Watch: https://developers.google.com/workspace/gmail/api/reference/rest/v1/users/watch


def watch(call: Call) -> dict[str, Any]:
    """``users.watch``: notifications to a Pub/Sub topic for 7 days.

    A successful watch sends one at once (https://developers.google.com/workspace/gmail/api/guides/push). A
    second watch to another topic is refused: "Only one user push notification client allowed per developer";
    one to the same topic renews.
    """
    box = mailbox(call)
    topic_name = str(call.body.get("topicName") or "")
    parsed = _TOPIC.fullmatch(topic_name)
    if parsed is None or parsed[1] != call.grant.project:
        raise invalid(f"Invalid topicName does not match projects/{call.grant.project}/topics/*: {topic_name}")
    topic = call.state.pubsub.topics.get(topic_name)
    said = f"Error sending test message to Cloud PubSub {topic_name} : "
    if topic is None:
        resource_name = topic_name.rpartition("/")[2]
        raise ApiError(404, f"{said}Resource not found (resource={resource_name}).", "notFound")
    if not topic.may_publish(GMAIL_PUBLISHER):
        raise forbidden(f"{said}User not authorized to perform this action.")
    now = call.state.clock.timestamp()
    active = box.watches.get(call.grant.project)
    if active is not None and active.expires > now and active.topic != topic_name:
        raise invalid("Only one user push notification client allowed per developer (call /stop then try again)")
    labels = call.strings("labelIds")
    if not all(label in box.labels for label in labels):
        raise invalid("Invalid label")
    filtering = call.body.get("labelFilterBehavior") or call.body.get("labelFilterAction") or "include"
    if str(filtering).lower() not in ("include", "exclude"):
        raise invalid("Invalid value at 'labelFilterBehavior'")
    expires = now + call.state.behaviour.watch_lifetime
    exclude = str(filtering).lower() == "exclude"
    made = Watch(topic_name, labels, exclude, expires)
    box.watches[call.grant.project] = made
    box.last_notified = now
    call.state.notify(box, made)
    return {"historyId": str(box.history_id), "expiration": str(int(expires * 1000))}


def stop(call: Call) -> None:
    """``users.stop``: no more notifications to the caller's project; fine where there were none.

    https://developers.google.com/workspace/gmail/api/reference/rest/v1/users/stop
    """
    mailbox(call).watches.pop(call.grant.project, None)


_LABEL = USER + "/labels/{id}"
_LABEL_BODY = frozenset({"name", "messageListVisibility", "labelListVisibility", "color"})
_THREAD = USER + "/threads/{id}"
_CHANGE = frozenset({"addLabelIds", "removeLabelIds"})

METHODS = (
    Method("gmail.users.getProfile", "GET", USER + "/profile", READ | COMPOSE, get_profile, units=1),
    Method(
        "gmail.users.watch",
        "POST",
        USER + "/watch",
        READ,
        watch,
        units=100,
        request=frozenset({"topicName", "labelIds", "labelFilterBehavior", "labelFilterAction"}),
    ),
    Method("gmail.users.stop", "POST", USER + "/stop", READ, stop, units=50),
    Method("gmail.users.labels.list", "GET", USER + "/labels", LABELS | READ, list_labels, units=1),
    Method(
        "gmail.users.labels.create",
        "POST",
        USER + "/labels",
        LABELS,
        create_label,
        units=5,
        request=_LABEL_BODY,
    ),
    Method("gmail.users.labels.get", "GET", _LABEL, LABELS | READ, get_label, units=1),
    Method("gmail.users.labels.update", "PUT", _LABEL, LABELS, update_label, units=5, request=_LABEL_BODY),
    Method("gmail.users.labels.patch", "PATCH", _LABEL, LABELS, patch_label, units=5, request=_LABEL_BODY),
    Method("gmail.users.labels.delete", "DELETE", _LABEL, LABELS, delete_label, units=5),
    Method("gmail.users.threads.list", "GET", USER + "/threads", READ, list_threads, LIST_PARAMS, 10),
    Method(
        "gmail.users.threads.get",
        "GET",
        _THREAD,
        READ | ADDON_READ | ADDON_METADATA,
        get_thread,
        {
            "format": Param(choices=("full", "metadata", "minimal"), default="full"),
            "metadataHeaders": Param(repeated=True),
        },
        40,
    ),
    Method(
        "gmail.users.threads.modify",
        "POST",
        _THREAD + "/modify",
        MODIFY,
        modify_thread,
        units=10,
        request=_CHANGE,
    ),
    Method("gmail.users.threads.trash", "POST", _THREAD + "/trash", MODIFY, trash_thread, units=20),
    Method("gmail.users.threads.untrash", "POST", _THREAD + "/untrash", MODIFY, untrash_thread, units=20),
    Method("gmail.users.threads.delete", "DELETE", _THREAD, DELETE, delete_thread, units=20),
    Method(
        "gmail.users.history.list",
        "GET",
        USER + "/history",
        READ,
        list_history,
        {
            "historyTypes": Param(repeated=True, choices=tuple(_HISTORY_FIELDS)),
            "labelId": Param(),
            "maxResults": Param("integer", default="100"),
            "pageToken": Param(),
            "startHistoryId": Param(),
        },
        2,
    ),
)
