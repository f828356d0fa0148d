"""Creating messages: "Create message" (https://learn.microsoft.com/graph/api/user-post-messages) and "Create message in
a mailfolder" (https://learn.microsoft.com/graph/api/mailfolder-post-messages).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from starlette.responses import Response

from connectors.emulators.microsoft import ids, render
from connectors.emulators.microsoft.graph import WRITE_MAIL, Call, Graph
from connectors.emulators.microsoft.graph_attachments import read_attachment
from connectors.emulators.microsoft.graph_errors import bad_request
from connectors.emulators.microsoft.graph_messages import (
    folder_of,
    read_body,
    read_extended,
    read_recipient,
    read_recipients,
)
from connectors.emulators.microsoft.model import Folder, Message
from connectors.emulators.microsoft.render import as_mapping


def add_routes(graph: Graph) -> None:
    """Routes below a user and below a folder."""
    graph.route("POST", "/users/{user}/messages", create_message)
    graph.route("POST", "/users/{user}/mailFolders/{folder}/messages", create_message)


async def create_message(call: Call) -> Response:
    """Create a message: a draft, unless PidTagMessageFlags says that it was sent or received.

    "Create message" makes drafts. That ``Integer 0x0E07`` (PidTagMessageFlags, MS-OXCMSG 2.2.1.6) can be set at
    creation, with ``SystemTime 0x0E06`` (delivery time) and ``SystemTime 0x0039`` (submit time), is known from
    practice and is how migration tools bring received mail in.
    """
    call.require(WRITE_MAIL)
    body = await call.json()
    with call.state.lock:
        person, folder = call.mailbox(), folder_of(call)
        folder = folder or call.state.folder(person.id, "drafts")
        message = new_message(call, person.id, folder, body)
        call.state.add_message(message)
        value = render.render_message(message, call.prefer)
    context = call.context(f"users('{person.id}')/messages/$entity")
    return call.answer({"@odata.context": context, **value}, 201)


def new_message(call: Call, user_id: str, folder: Folder, body: Mapping[str, object]) -> Message:
    """A message from its JSON, not in the mailbox yet.

    Raises:
        GraphError: A header that is not a custom one, a wrong attachment, body or time.
    """
    now = call.state.clock.now()
    extended = {
        _short_id(name): value for name, value in read_extended(body.get("singleValueExtendedProperties")).items()
    }
    flags = extended.pop("integer 0xe07", None)
    received = _time(extended.pop("systemtime 0xe06", None), now)
    sent = _time(extended.pop("systemtime 0x39", None), received)
    if call.state.switches.creation_takes_times_only and any(not name.startswith("String {") for name in extended):
        raise bad_request("The extended property attribute combination is invalid.", "ErrorInvalidPropertySet")
    index = extended.pop("binary 0x71", None)
    tracked = extended.pop("boolean 0x3016", "").lower() == "true"
    content_type, content = read_body(body["body"]) if "body" in body else ("text", "")
    message_id = str(body.get("internetMessageId") or f"<{call.state.random.randbytes(12).hex()}@emulator.invalid>")
    message = Message(
        id=ids.new_message_id(call.state.random),
        user_id=user_id,
        folder_id=folder.id,
        change=0,
        created_change=0,
        created_at=now,
        modified_at=now,
        received_at=received,
        sent_at=sent,
        subject=str(body.get("subject") or ""),
        sender=read_recipient(body.get("sender") or body.get("from")),
        from_=read_recipient(body.get("from")),
        to=read_recipients(body.get("toRecipients")),
        cc=read_recipients(body.get("ccRecipients")),
        bcc=read_recipients(body.get("bccRecipients")),
        reply_to=read_recipients(body.get("replyTo")),
        body_type=content_type,
        body="",
        internet_message_id=message_id,
        conversation_id=_conversation(call, user_id, index if tracked else None) or ids.conversation_id(message_id),
        headers=_custom_headers(body.get("internetMessageHeaders")),
        importance=str(body.get("importance") or "normal").lower(),
        categories=[str(each) for each in _list(body.get("categories"))],
        flag=str(as_mapping(body.get("flag")).get("flagStatus", "notFlagged")),
        inference=str(body.get("inferenceClassification") or "focused"),
        is_read=body.get("isRead") is True,
        # Bit 3 of PidTagMessageFlags is mfUnsent; bit 0 is mfRead.
        is_draft=call.state.switches.creation_makes_drafts or flags is None or bool(int(flags) & 0x8),
        attachments=[read_attachment(call.state, as_mapping(each)) for each in _list(body.get("attachments"))],
        extended=extended,
    )
    if flags is not None:
        message.is_read = message.is_read or bool(int(flags) & 0x1)
    call.state.set_body(message, content_type, content)
    return message


def _conversation(call: Call, user_id: str, index: str | None) -> str | None:
    """The conversation of the mailbox that a tracked PidTagConversationIndex names ([MS-OXOMSG] 2.2.1.2, 2.2.1.4)."""
    if index is None:
        return None
    held = call.state.messages_of(user_id)
    return next((each.conversation_id for each in held if render.conversation_index(each) == index), None)


def _custom_headers(value: object) -> list[tuple[str, str]]:
    """Only custom headers can be set ("message resource type", internetMessageHeaders)."""
    headers = [(str(as_mapping(each).get("name")), str(as_mapping(each).get("value"))) for each in _list(value)]
    for name, _ in headers:
        if not name.lower().startswith("x-"):
            raise bad_request(
                f"The internet message header name '{name}' should start with 'x-' or 'X-'.",
                "InvalidInternetMessageHeader",
            )
    return headers


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _short_id(name: str) -> str:
    """``Integer 0x0E07`` as ``integer 0xe07``: leading zeros and case do not tell properties apart."""
    kind, _, number = name.lower().partition(" ")
    return f"{kind} {hex(int(number, 16))}" if number.startswith("0x") else name


def _time(value: str | None, default: datetime) -> datetime:
    if value is None:
        return default
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise bad_request(f"Invalid SystemTime '{value}'.", "ErrorInvalidExtendedProperty") from None
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    return min(moment, default + timedelta(days=1))
