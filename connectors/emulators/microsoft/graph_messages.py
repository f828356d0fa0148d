"""Messages: list, get, MIME, update, move, delete, create.

Documents, all under https://learn.microsoft.com/graph/: "List messages" (api/user-list-messages), "Get message"
(api/message-get), "Get MIME content of a message" (outlook-get-mime-message), "Update message"
(api/message-update), "message: move" (api/message-move), "message: permanentDelete"
(api/message-permanentdelete), "Delete message" (api/message-delete).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from starlette.responses import Response

from connectors.emulators.microsoft import ids, odata, render
from connectors.emulators.microsoft.graph import ADVANCED, READ_MAIL, WRITE_MAIL, Call, Graph
from connectors.emulators.microsoft.graph_errors import GraphError, access_denied, bad_request, item_not_found
from connectors.emulators.microsoft.mime import message_to_mime
from connectors.emulators.microsoft.model import Address, Folder, Message
from connectors.emulators.microsoft.render import as_mapping

DRAFT_ONLY = frozenset(
    {
        "body",
        "subject",
        "internetMessageId",
        "replyTo",
        "toRecipients",
        "ccRecipients",
        "bccRecipients",
        "from",
        "sender",
        "singleValueExtendedProperties",
        "multiValueExtendedProperties",
    }
)
"""Updatable only while isDraft, unless the app holds Mail-Advanced.ReadWrite.All (31 December 2026)."""

_FREE = frozenset({"categories", "flag", "importance", "inferenceClassification", "isRead"})
_IGNORED = frozenset({"isDeliveryReceiptRequested", "isReadReceiptRequested"})


def add_routes(graph: Graph) -> None:
    """All message routes, below a user and below a folder."""
    for under in ("/users/{user}", "/users/{user}/mailFolders/{folder}"):
        graph.route("GET", f"{under}/messages", list_messages)
        graph.route("GET", f"{under}/messages/$count", count_messages)
        graph.route("GET", f"{under}/messages/{{message}}", get_message)
        graph.route("GET", f"{under}/messages/{{message}}/$value", get_mime)
        graph.route("PATCH", f"{under}/messages/{{message}}", update_message)
        graph.route("DELETE", f"{under}/messages/{{message}}", delete_message)
        graph.route("POST", f"{under}/messages/{{message}}/move", move_message)
        graph.route("POST", f"{under}/messages/{{message}}/permanentDelete", purge_message)


def folder_of(call: Call) -> Folder | None:
    """The folder that the path names, or None.

    Raises:
        GraphError: There is no such folder in the mailbox.
    """
    if "folder" not in call.request.path_params:
        return None
    try:
        return call.state.folder(call.mailbox().id, call.part("folder"))
    except KeyError:
        raise item_not_found() from None


def message_of(call: Call) -> Message:
    """The message that the path names.

    Raises:
        GraphError: It is not in this mailbox or folder (any more).
    """
    person = call.mailbox()
    folder = folder_of(call)
    given = call.part("message")
    if ids.split_id(given) is None:
        raise bad_request("Id is malformed.", "ErrorInvalidIdMalformed")
    try:
        message = call.state.message(person.id, given)
    except KeyError:
        raise item_not_found() from None
    if folder is not None and message.folder_id != folder.id:
        raise item_not_found()
    return message


async def list_messages(call: Call) -> Response:
    """Newest first, 10 to a page; ``$filter`` and ``$orderby`` together only as documented."""
    call.require(READ_MAIL)
    with call.state.lock:
        person, folder = call.mailbox(), folder_of(call)
        messages = call.state.messages_of(person.id, folder.id if folder else None)
        filter_text, order_text = call.query("filter"), call.query("orderby")
        order = odata.parse_order(order_text, render.SORTABLE) if order_text else []
        if filter_text:
            chosen = odata.parse_filter(filter_text, render.SORTABLE)
            _check_sorting(chosen.properties, order)
            messages = [message for message in messages if chosen.matches(render.getter(message))]
        for name, descending in reversed(order):
            messages.sort(key=_sort_key(name), reverse=descending)
        top = odata.parse_count(call.query("top"), call.prefer.page_size or 10, 1000, "$top") or 10
        skip = odata.parse_count(call.query("skip"), 0, 10_000_000, "$skip")
        page = messages[skip : skip + top]
        next_link = None
        if skip + top < len(messages):
            options = {
                f"${name}": value
                for name in ("select", "filter", "orderby", "expand", "count")
                if (value := call.query(name)) is not None
            }
            next_link = call.link(**options, **{"$top": str(top), "$skip": str(skip + top)})
        select, expand = call.query("select"), call.query("expand")
        values = [render.render_message(message, call.prefer, select, expand) for message in page]
        count = len(messages) if (call.query("count") or "").lower() == "true" else None
    context = call.context(f"users('{person.id}')/messages")
    return call.answer(render.collection(context, values, next_link, count))


def _sort_key(name: str) -> Callable[[Message], str]:
    value = render.SORTABLE[name]
    return lambda message: str(value(message))


def _check_sorting(filtered: tuple[str, ...], order: list[tuple[str, bool]]) -> None:
    """Properties in ``$orderby`` must come first and in the same order in ``$filter`` ("List messages")."""
    wanted = [name for name, _ in order]
    seen = list(dict.fromkeys(filtered))
    if wanted and seen[: len(wanted)] != wanted:
        raise bad_request("The restriction or sort order is too complex for this operation.", "InefficientFilter")


async def count_messages(call: Call) -> Response:
    """``$count`` as plain text."""
    call.require(READ_MAIL)
    person, folder = call.mailbox(), folder_of(call)
    count = len(call.state.messages_of(person.id, folder.id if folder else None))
    return Response(str(count), media_type="text/plain")


async def get_message(call: Call) -> Response:
    """One message in the format asked for."""
    call.require(READ_MAIL)
    with call.state.lock:
        message = message_of(call)
        value = render.render_message(message, call.prefer, call.query("select"), call.query("expand"))
    value = {"@odata.context": call.context(f"users('{message.user_id}')/messages/$entity"), **value}
    return call.answer(value, headers={"ETag": render.etag(message)})


async def get_mime(call: Call) -> Response:
    """The MIME content: as delivered, or put together anew where the body was changed."""
    call.require(READ_MAIL)
    with call.state.lock:
        return Response(message_to_mime(message_of(call)), media_type="text/plain")


async def update_message(call: Call) -> Response:
    """PATCH, under the strict or the lenient rule for received mail."""
    call.require(WRITE_MAIL)
    body = await call.json()
    changes = {name: value for name, value in body.items() if not name.startswith("@")}
    with call.state.lock:
        message = message_of(call)
        check_version(call, message)
        _check_allowed(call, message, changes)
        _apply(call, message, changes)
        call.state.changed(message)
        value = render.render_message(message, call.prefer)
    value = {"@odata.context": call.context(f"users('{message.user_id}')/messages/$entity"), **value}
    return call.answer(value, headers={"ETag": render.etag(message)})


def check_version(call: Call, message: Message) -> None:
    """``If-Match`` (RFC 9110, 13.1.1), or a conflict that another client causes at this moment.

    Raises:
        GraphError: 412 ErrorIrresolvableConflict.
    """
    wanted = call.request.headers.get("if-match")
    if wanted is not None and wanted != "*" and wanted != render.etag(message):
        raise GraphError(
            412,
            "ErrorIrresolvableConflict",
            "The send or update operation could not be performed because the change key passed in the request does "
            "not match the current change key for the item.",
        )


def _check_allowed(call: Call, message: Message, changes: Mapping[str, object]) -> None:
    unknown = set(changes) - DRAFT_ONLY - _FREE - _IGNORED
    if unknown:
        raise bad_request(
            f"The property '{sorted(unknown)[0]}' cannot be updated or does not exist.", "ErrorInvalidPropertySet"
        )
    guarded = DRAFT_ONLY.intersection(changes)
    if not guarded or message.is_draft or call.may(ADVANCED):
        return
    if call.state.switches.strict_updates:
        if call.state.switches.refuse_code == "ErrorInvalidPropertySet":
            raise bad_request(
                f"Property set not allowed for received messages: {', '.join(sorted(guarded))}.",
                "ErrorInvalidPropertySet",
            )
        raise access_denied()
    if "internetMessageId" in guarded:
        raise bad_request("internetMessageId cannot be set on a received message.", "ErrorInvalidPropertySet")


def _apply(call: Call, message: Message, changes: Mapping[str, object]) -> None:
    for name, value in changes.items():
        match name:
            case "body":
                content_type, content = read_body(value)
                call.state.set_body(message, content_type, content)
            case "subject":
                message.subject = str(value or "")
                message.body_changed = True
            case "isRead":
                message.is_read = value is True
            case "importance":
                message.importance = str(value).lower()
            case "categories":
                message.categories = [str(each) for each in value] if isinstance(value, list) else []
            case "flag":
                message.flag = str(as_mapping(value).get("flagStatus", "notFlagged"))
            case "inferenceClassification":
                message.inference = str(value)
            case "internetMessageId":
                message.internet_message_id = str(value)
            case "toRecipients":
                message.to = read_recipients(value)
            case "ccRecipients":
                message.cc = read_recipients(value)
            case "bccRecipients":
                message.bcc = read_recipients(value)
            case "replyTo":
                message.reply_to = read_recipients(value)
            case "from":
                message.from_ = read_recipient(value)
            case "sender":
                message.sender = read_recipient(value)
            case "singleValueExtendedProperties":
                message.extended.update(read_extended(value))


def read_body(value: object) -> tuple[str, str]:
    """An itemBody.

    Raises:
        GraphError: The content type is neither text nor html.
    """
    given = as_mapping(value)
    content_type = str(given.get("contentType", "text")).lower()
    if content_type not in ("text", "html"):
        raise bad_request(f"Invalid contentType '{content_type}'.", "RequestBodyRead")
    return content_type, str(given.get("content") or "")


def read_recipient(value: object) -> Address | None:
    """A recipient, or None."""
    address = as_mapping(as_mapping(value).get("emailAddress"))
    if not address.get("address"):
        return None
    return Address(str(address.get("name") or address["address"]), str(address["address"]))


def read_recipients(value: object) -> list[Address]:
    """A collection of recipients."""
    values = value if isinstance(value, list) else []
    return [address for each in values if (address := read_recipient(each)) is not None]


def read_extended(value: object) -> dict[str, str]:
    """Single-value extended properties by id."""
    values = value if isinstance(value, list) else []
    return {str(as_mapping(each).get("id")): str(as_mapping(each).get("value")) for each in values}


async def delete_message(call: Call) -> Response:
    """DELETE: a soft delete into the Recoverable Items' Deletions folder."""
    call.require(WRITE_MAIL)
    with call.state.lock:
        message = message_of(call)
        check_version(call, message)
        call.state.move(message, call.state.folder(message.user_id, "recoverableitemsdeletions"))
    return Response(status_code=204)


async def purge_message(call: Call) -> Response:
    """permanentDelete: into the Purges folder, which clients cannot see."""
    call.require(WRITE_MAIL)
    with call.state.lock:
        call.state.remove(message_of(call))
    return Response(status_code=204)


async def move_message(call: Call) -> Response:
    """Move into another folder; the answer is the message with the id it has there."""
    call.require(WRITE_MAIL)
    body = await call.json()
    with call.state.lock:
        message = message_of(call)
        try:
            target = call.state.folder(message.user_id, str(body.get("destinationId") or body.get("DestinationId")))
        except KeyError:
            raise item_not_found() from None
        call.state.move(message, target)
        value = render.render_message(message, call.prefer)
    context = call.context(f"users('{message.user_id}')/messages/$entity")
    return call.answer({"@odata.context": context, **value}, 201)
