"""Attachments: "List attachments" (https://learn.microsoft.com/graph/api/message-list-attachments), "Get attachment"
(.../attachment-get), "Add attachment" (.../message-post-attachments), "Delete attachment" (.../attachment-delete).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping

from starlette.responses import Response

from connectors.emulators.microsoft import ids, render
from connectors.emulators.microsoft.graph import READ_MAIL, WRITE_MAIL, Call, Graph
from connectors.emulators.microsoft.graph_errors import GraphError, access_denied, bad_request, item_not_found
from connectors.emulators.microsoft.graph_messages import message_of
from connectors.emulators.microsoft.model import Attachment
from connectors.emulators.microsoft.state import MicrosoftState

MAX_BYTES = 3 * 1024 * 1024
"""Larger attachments need an upload session."""


def add_routes(graph: Graph) -> None:
    """All attachment routes, below a user and below a folder."""
    for under in ("/users/{user}", "/users/{user}/mailFolders/{folder}"):
        at = f"{under}/messages/{{message}}/attachments"
        graph.route("GET", at, list_attachments)
        graph.route("POST", at, add_attachment)
        graph.route("GET", f"{at}/{{attachment}}", get_attachment)
        graph.route("GET", f"{at}/{{attachment}}/$value", get_content)
        graph.route("DELETE", f"{at}/{{attachment}}", delete_attachment)


def _attachment_of(call: Call) -> Attachment:
    for attachment in message_of(call).attachments:
        if attachment.id == call.part("attachment"):
            return attachment
    raise item_not_found()


async def list_attachments(call: Call) -> Response:
    """All attachments with their content."""
    call.require(READ_MAIL)
    with call.state.lock:
        message = message_of(call)
        select = call.query("select")
        values = [
            render.select_from(render.render_attachment(each, with_content=True), select)
            for each in message.attachments
        ]
    return call.answer(render.collection(call.context("attachments"), values))


async def get_attachment(call: Call) -> Response:
    """One attachment with its content; an attached message's with ``$expand=microsoft.graph.itemattachment/item``."""
    call.require(READ_MAIL)
    with call.state.lock:
        value = render.render_attachment(_attachment_of(call), with_content=True)
    return call.answer({"@odata.context": call.context("attachments/$entity"), **value})


async def get_content(call: Call) -> Response:
    """The raw content."""
    call.require(READ_MAIL)
    with call.state.lock:
        attachment = _attachment_of(call)
        return Response(attachment.content, media_type=attachment.content_type.partition(";")[0])


async def add_attachment(call: Call) -> Response:
    """Add a file of less than 3 MB. Whether received mail takes one is switchable: it is not documented."""
    call.require(WRITE_MAIL)
    body = await call.json()
    with call.state.lock:
        message = message_of(call)
        if not message.is_draft and not call.state.switches.attachments_to_received:
            raise access_denied()
        attachment = read_attachment(call.state, body)
        if not call.state.switches.attachments_keep_identity:
            attachment.is_inline, attachment.content_id = False, None
        call.state.add_attachment(message, attachment)
        value = render.render_attachment(attachment, with_content=True)
    return call.answer({"@odata.context": call.context("attachments/$entity"), **value}, 201)


async def delete_attachment(call: Call) -> Response:
    """Delete an attachment. Whether received mail lets one go is switchable, as for adding."""
    call.require(WRITE_MAIL)
    with call.state.lock:
        message = message_of(call)
        if not message.is_draft and not call.state.switches.attachments_from_received:
            raise access_denied()
        call.state.remove_attachment(message, _attachment_of(call))
    return Response(status_code=204)


def read_attachment(state: MicrosoftState, value: Mapping[str, object]) -> Attachment:
    """A fileAttachment from a request.

    Raises:
        GraphError: Another type, content that is not base64, or too large.
    """
    if str(value.get("@odata.type", "")).lower() != "#microsoft.graph.fileattachment":
        raise bad_request("Only a fileAttachment can be added here; @odata.type must say so.", "ErrorInvalidRequest")
    try:
        content = base64.b64decode(str(value.get("contentBytes") or ""), validate=True)
    except binascii.Error:
        raise bad_request("contentBytes is not base64.", "ErrorInvalidRequest") from None
    if len(content) >= MAX_BYTES:
        raise GraphError(413, "ErrorAttachmentSizeLimitExceeded", "The attachment is over 3 MB: use an upload session.")
    content_id = value.get("contentId")
    return Attachment(
        id=ids.new_attachment_id(state.random),
        name=str(value.get("name") or "attachment"),
        content_type=str(value.get("contentType") or "application/octet-stream"),
        content=content,
        is_inline=value.get("isInline") is True,
        content_id=str(content_id) if content_id else None,
        modified_at=state.clock.now(),
    )
