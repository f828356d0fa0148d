"""Messages, their traces, and giving one its original links back."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import Response

from app.console.access import CheckedForm, Deps, ObjectRestorer, ObjectViewer, SeenLooks, Viewer
from app.console.browser import safe_next
from app.console.pages import go, render
from app.console.queries.messages import SORTS, list_messages, mailbox_address, trace_message
from app.console.routes.filters import Days, OpenRow, RowId, WantedMessageLines
from app.console.words import STATES
from app.kit.errors import NotFound
from app.protection import service

router = APIRouter(include_in_schema=False)


@router.get("/messages")
async def messages(
    request: Request,
    deps: Deps,
    visitor: Viewer,
    looks: SeenLooks,
    wanted: WantedMessageLines,
    days: Days = "",
    opened: OpenRow = None,
) -> Response:
    """The list; a chosen message opens beside it."""
    async with visitor.work() as session:
        listed = await list_messages(session, visitor.actor, wanted)
        box = wanted.mailbox_id
        recipient = "" if box is None else await mailbox_address(session, visitor.actor, box)
        trace = None
        if opened is not None:
            try:
                trace = await trace_message(session, visitor.actor, opened)
                await looks.note(session, visitor.actor, opened, trace.mailbox.address, deps.clock())
            except NotFound:
                # The list is still right; the message of an old address may be gone.
                trace = None
    return render(
        request,
        deps,
        "messages.html",
        visitor=visitor,
        listed=listed,
        wanted=wanted,
        recipient=recipient,
        days=days,
        states=STATES,
        sorts=SORTS,
        trace=trace,
    )


@router.get("/messages/{message_id}")
async def message(request: Request, deps: Deps, visitor: ObjectViewer, looks: SeenLooks, message_id: RowId) -> Response:
    """One message: what was done with it, its links, every click."""
    async with visitor.work() as session:
        trace = await trace_message(session, visitor.actor, message_id)
        await looks.note(session, visitor.actor, message_id, trace.mailbox.address, deps.clock())
    return render(request, deps, "message.html", visitor=visitor, trace=trace)


@router.post("/messages/{message_id}/restore", dependencies=[CheckedForm])
async def restore(
    visitor: ObjectRestorer, message_id: RowId, following: Annotated[str, Form(alias="next", max_length=500)] = ""
) -> Response:
    """Give the message its original links back."""
    async with visitor.work() as session:
        await trace_message(session, visitor.actor, message_id)
        await service.request_restore(session, visitor.actor, "message", str(message_id))
    return go(safe_next(following) or f"/messages/{message_id}")
