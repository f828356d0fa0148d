"""Mail folders and delta.

Documents: "List mailFolders" (https://learn.microsoft.com/graph/api/user-list-mailfolders), "mailFolder resource type",
"List childFolders", "Create MailFolder", "message: delta" (.../api/message-delta), "Get incremental changes to
messages in a folder" (https://learn.microsoft.com/graph/delta-query-messages), "Use delta query"
(https://learn.microsoft.com/graph/delta-query-overview): state tokens, ``@removed``, 410 and full
resynchronisation.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from starlette.responses import Response

from connectors.emulators.microsoft import ids, odata, render
from connectors.emulators.microsoft.graph import READ_MAIL, WRITE_MAIL, Call, Graph
from connectors.emulators.microsoft.graph_errors import GraphError, bad_request, item_not_found
from connectors.emulators.microsoft.graph_messages import folder_of
from connectors.emulators.microsoft.model import Folder, Message, Tombstone

PAGE = 10
"""Messages in a page of delta where ``odata.maxpagesize`` says nothing."""


def add_routes(graph: Graph) -> None:
    """Folder and delta routes. They come before the message routes: ``delta`` is no message id."""
    graph.route("GET", "/users/{user}/mailFolders", list_folders)
    graph.route("POST", "/users/{user}/mailFolders", create_folder)
    graph.route("GET", "/users/{user}/mailFolders/{folder}", get_folder)
    graph.route("GET", "/users/{user}/mailFolders/{folder}/childFolders", list_folders)
    graph.route("POST", "/users/{user}/mailFolders/{folder}/childFolders", create_folder)
    graph.route("GET", "/users/{user}/mailFolders/{folder}/messages/delta", delta)
    graph.route("GET", "/users/{user}/messages/delta", delta_of_mailbox)


async def list_folders(call: Call) -> Response:
    """Direct children of the root or of a folder, 10 to a page; hidden ones with ``includeHiddenFolders``."""
    call.require(READ_MAIL)
    with call.state.lock:
        person = call.mailbox()
        parent = folder_of(call) or call.state.folder(person.id, "msgfolderroot")
        hidden = (call.query("includeHiddenFolders") or "").lower() == "true"
        folders = [
            folder
            for folder in call.state.folders_of(person.id)
            if folder.parent_id == parent.id and (hidden or not folder.hidden)
        ]
        filter_text = call.query("filter")
        if filter_text:
            chosen = odata.parse_filter(filter_text, {"displayName": None, "id": None})
            folders = [folder for folder in folders if chosen.matches(_getter(folder))]
        top = odata.parse_count(call.query("top"), 10, 1000, "$top") or 10
        skip = odata.parse_count(call.query("skip"), 0, 1_000_000, "$skip")
        next_link = None
        if skip + top < len(folders):
            options = {f"${name}": value for name in ("select", "filter") if (value := call.query(name)) is not None}
            if hidden:
                options["includeHiddenFolders"] = "true"
            next_link = call.link(**options, **{"$top": str(top), "$skip": str(skip + top)})
        select = call.query("select")
        values = [
            render.select_from(render.render_folder(call.state, folder), select)
            for folder in folders[skip : skip + top]
        ]
    return call.answer(render.collection(call.context(f"users('{person.id}')/mailFolders"), values, next_link))


def _getter(folder: Folder) -> odata.Getter:
    values = {"displayName": folder.name, "id": folder.id}
    return lambda name: values[name]


async def get_folder(call: Call) -> Response:
    """A folder by id or well-known name."""
    call.require(READ_MAIL)
    with call.state.lock:
        folder = folder_of(call)
        if folder is None:
            raise item_not_found()
        value = render.select_from(render.render_folder(call.state, folder), call.query("select"))
    return call.answer({"@odata.context": call.context(f"users('{folder.user_id}')/mailFolders/$entity"), **value})


async def create_folder(call: Call) -> Response:
    """A new folder; 409 where the name is taken."""
    call.require(WRITE_MAIL)
    body = await call.json()
    with call.state.lock:
        person = call.mailbox()
        parent = folder_of(call) or call.state.folder(person.id, "msgfolderroot")
        name = str(body.get("displayName") or "")
        if not name:
            raise bad_request("The property displayName is missing.", "ErrorInvalidRequest")
        try:
            folder = call.state.add_folder(person.id, name, parent.id)
        except ValueError as error:
            raise GraphError(409, "ErrorFolderExists", str(error)) from error
        folder.hidden = body.get("isHidden") is True
        value = render.render_folder(call.state, folder)
    return call.answer({"@odata.context": call.context(f"users('{person.id}')/mailFolders/$entity"), **value}, 201)


@dataclass(frozen=True, slots=True)
class _Token:
    """What a state token holds: the options of the first request and the place in the folder's changes.

    Attributes:
        since: Changes up to this number are known to the client.
        upto: Changes up to this number belong to the present round.
        first: Whether this round is the initial synchronisation, which reports no removals.
    """

    folder: str
    epoch: int
    since: int
    upto: int | None
    first: bool
    select: str | None
    expand: str | None
    after: str | None
    change_type: str | None
    page: int

    def encode(self) -> str:
        return base64.urlsafe_b64encode(json.dumps(asdict(self), separators=(",", ":")).encode()).decode().rstrip("=")


def _decode(text: str) -> _Token:
    try:
        values = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        return _Token(**values)
    except (binascii.Error, ValueError, TypeError):
        raise bad_request("Badly formed token.", "ErrorInvalidUrlQuery") from None


async def delta_of_mailbox(_: Call) -> Response:
    """Delta is per folder only."""
    raise bad_request(
        "Unsupported request. Change tracking is not supported against 'microsoft.graph.message'.",
        "ErrorInvalidRequest",
    )


async def delta(call: Call) -> Response:
    """Changes of one folder in rounds: ``@odata.nextLink`` within a round, ``@odata.deltaLink`` at its end."""
    call.require(READ_MAIL)
    with call.state.lock:
        folder = folder_of(call)
        if folder is None:
            raise item_not_found()
        mailbox = call.state.mailboxes[folder.user_id]
        token = _token_of(call, folder, mailbox.delta_epoch)
        upto = token.upto if token.upto is not None else mailbox.changes
        items = _changes(call, folder, token, upto)
        page, rest = items[: token.page], items[token.page :]
        values = [_render(call, item, token) for item in page]
        if rest:
            # Where to go on is the number of the last change on this page.
            resumed = _Token(**{**asdict(token), "since": page[-1].change, "upto": upto})
            link = {"@odata.nextLink": call.link(**{"$skiptoken": resumed.encode()})}
        else:
            done = _Token(**{**asdict(token), "since": upto, "upto": None, "first": False})
            link = {"@odata.deltaLink": call.link(**{"$deltatoken": done.encode()})}
    context = call.context("Collection(message)")
    return call.answer({"@odata.context": context, **link, "value": values})


def _token_of(call: Call, folder: Folder, epoch: int) -> _Token:
    given = call.query("deltatoken") or call.query("skiptoken")
    if given is not None:
        token = _decode(given)
        if token.folder != folder.id:
            raise bad_request("The token is for another folder.", "ErrorInvalidUrlQuery")
        if token.epoch != epoch:
            raise GraphError(
                410,
                "SyncStateNotFound",
                "The sync state generation is not found; the delta token is too old. A full resync is needed.",
                {"Location": call.link(**{"$deltatoken": ""})},
            )
        return token if call.prefer.page_size is None else _Token(**{**asdict(token), "page": call.prefer.page_size})
    change_type = call.query("changeType")
    if change_type not in (None, "created", "updated", "deleted"):
        raise bad_request(f"Invalid changeType '{change_type}'.", "ErrorInvalidUrlQuery")
    filter_text = call.query("filter")
    if filter_text is not None:
        parsed = odata.parse_filter(filter_text, {"receivedDateTime": None})
        if parsed.properties != ("receivedDateTime",) or not any(each in filter_text for each in (" ge ", " gt ")):
            raise bad_request("Only receivedDateTime ge or gt can be filtered by.", "ErrorInvalidUrlQueryFilter")
    order = call.query("orderby")
    if order is not None and order.split() != ["receivedDateTime", "desc"]:
        raise bad_request("Only receivedDateTime desc can be sorted by.", "ErrorInvalidUrlQuery")
    top = odata.parse_count(call.query("top"), PAGE, 1000, "$top") or PAGE
    return _Token(
        folder=folder.id,
        epoch=epoch,
        since=0,
        upto=None,
        first=True,
        select=call.query("select"),
        expand=call.query("expand"),
        after=filter_text,
        change_type=change_type,
        page=call.prefer.page_size or top,
    )


def _changes(call: Call, folder: Folder, token: _Token, upto: int) -> Sequence[Message | Tombstone]:
    """Messages and removals between two points, in the order of their changes, each message once."""
    state = call.state
    messages = state.changed_between(folder.user_id, folder.id, token.since, upto)
    if token.after is not None:
        wanted = odata.parse_filter(token.after, {"receivedDateTime": None})
        messages = [message for message in messages if wanted.matches(render.getter(message))]
    if token.change_type == "created":
        messages = [message for message in messages if token.first or message.created_change > token.since]
    elif token.change_type == "updated":
        messages = [message for message in messages if token.first or message.created_change <= token.since]
    elif token.change_type == "deleted":
        messages = [] if not token.first else messages
    removed: list[Tombstone] = []
    if not token.first and token.change_type in (None, "deleted"):
        for tombstone in state.tombstones.get(folder.id, []):
            message = state.messages.get(tombstone.message_id)
            is_back = message is not None and message.folder_id == folder.id
            if token.since < tombstone.change <= upto and not is_back:
                removed.append(tombstone)
    items: list[Message | Tombstone] = [*messages, *removed]
    items.sort(key=lambda item: item.change)
    return items


def _render(call: Call, item: Message | Tombstone, token: _Token) -> render.Json:
    if isinstance(item, Tombstone):
        given = item.message_id
        if not call.prefer.immutable_ids:
            given = ids.ordinary_id(item.message_id, item.folder_id)
        return {
            "@odata.type": "#microsoft.graph.message",
            "id": given,
            "@removed": {"reason": "deleted"},
        }
    value = render.render_message(item, call.prefer, token.select, token.expand)
    return {"@odata.type": item.odata_type, **value}
