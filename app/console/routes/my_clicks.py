"""A person's own clicks (L25): what I clicked, what was stopped, what is recorded about me."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from app.console.access import Deps, OwnClicksViewer
from app.console.pages import render
from app.console.queries.clicks import list_own_clicks, own_mailboxes
from app.console.routes.filters import PageNumber

router = APIRouter(include_in_schema=False)


@router.get("/my-clicks")
async def my_clicks(request: Request, deps: Deps, visitor: OwnClicksViewer, page: PageNumber = 1) -> Response:
    """The person's own clicks and nothing of anybody else."""
    async with visitor.work() as session:
        mailboxes = await own_mailboxes(session, visitor.actor)
        listed = await list_own_clicks(session, visitor.actor, page)
    return render(request, deps, "my_clicks.html", visitor=visitor, listed=listed, mailboxes=mailboxes)
