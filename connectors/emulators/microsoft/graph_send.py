"""Sending: "user: sendMail" (https://learn.microsoft.com/graph/api/user-sendmail), "message: send"
(https://learn.microsoft.com/graph/api/message-send).

What is sent to an emulated mailbox, of either provider, is delivered there; other addresses are outside the
emulated world and get nothing.
"""

from __future__ import annotations

import base64
import binascii

from starlette.responses import Response

from connectors.emulators.microsoft import intake
from connectors.emulators.microsoft.graph import Call, Graph
from connectors.emulators.microsoft.graph_create import new_message
from connectors.emulators.microsoft.graph_errors import bad_request
from connectors.emulators.microsoft.graph_messages import message_of
from connectors.emulators.microsoft.mime import message_to_mime
from connectors.emulators.microsoft.model import Address, Folder, Message, Person
from connectors.emulators.microsoft.render import as_mapping

SEND_MAIL = ("Mail.Send",)


def add_routes(graph: Graph) -> None:
    """Both ways of sending."""
    graph.route("POST", "/users/{user}/sendMail", send_mail)
    graph.route("POST", "/users/{user}/messages/{message}/send", send_draft)


async def send_mail(call: Call) -> Response:
    """Send a message given as JSON or as base64 of MIME; a copy goes to Sent Items unless it is not wanted."""
    call.require(SEND_MAIL)
    is_mime = call.request.headers.get("content-type", "").lower().startswith("text/plain")
    body = {} if is_mime else await call.json()
    raw = await call.request.body()
    with call.state.lock:
        person = call.mailbox()
        folder = call.state.folder(person.id, "sentitems")
        if is_mime:
            message = _from_mime(call, person, folder, raw)
        else:
            # Example 5 of the page gives the message without the wrapper.
            given = as_mapping(body.get("message")) or body
            message = new_message(call, person.id, folder, given)
        _send(call, person, message)
        if str(body.get("saveToSentItems", "true")).lower() != "false":
            call.state.add_message(message)
    return Response(status_code=202)


async def send_draft(call: Call) -> Response:
    """Send a draft; it moves to Sent Items and keeps its immutable id."""
    call.require(SEND_MAIL)
    with call.state.lock:
        person, message = call.mailbox(), message_of(call)
        if not message.is_draft:
            raise bad_request("Only drafts can be sent.", "ErrorInvalidRequest")
        _send(call, person, message)
        call.state.move(message, call.state.folder(person.id, "sentitems"))
    return Response(status_code=202)


def _from_mime(call: Call, person: Person, folder: Folder, body: bytes) -> Message:
    try:
        raw = base64.b64decode(b"".join(body.split()), validate=True)
    except binascii.Error:
        raise bad_request("Invalid base64 string for MIME content.", "ErrorMimeContentInvalidBase64String") from None
    return intake.read_mime(
        raw, user_id=person.id, folder_id=folder.id, now=call.state.clock.now(), source=call.state.random
    )


def _send(call: Call, person: Person, message: Message) -> None:
    recipients = [*message.to, *message.cc, *message.bcc]
    if not recipients:
        raise bad_request("At least one recipient is not valid.", "ErrorInvalidRecipients")
    owner = Address(person.name, person.address)
    message.from_ = message.from_ or owner
    message.sender = message.sender or owner
    message.is_draft, message.is_read = False, True
    message.sent_at = message.received_at = call.state.clock.now()
    raw = message_to_mime(message)
    for address in dict.fromkeys(each.address.lower() for each in recipients):
        call.state.send(address, raw)
