"""Quarantine and junk: what was moved, by whom, why; moving and releasing."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import Response

from app.console.access import CheckedForm, Deps, ObjectRestorer, Viewer
from app.console.browser import safe_next
from app.console.pages import go, render
from app.console.queries.paging import PAGE_SIZE, cut
from app.console.routes.filters import PageNumber, RowId
from app.console.text import clean_query
from app.protection.quarantine import MAX_WHY, list_moves, request_move, request_release
from connectors.base.types import Place

router = APIRouter(include_in_schema=False)

Following = Annotated[str, Form(alias="next", max_length=500)]


@router.get("/quarantine")
async def quarantine(
    request: Request,
    deps: Deps,
    visitor: Viewer,
    place: Annotated[Literal["", "quarantine", "junk"], Query()] = "",
    show: Annotated[Literal["", "ended"], Query()] = "",
    page: PageNumber = 1,
) -> Response:
    """Messages that were moved away and wait for their release, or those of before."""
    async with visitor.work() as session:
        rows = await list_moves(
            session,
            visitor.actor,
            place=place,
            ended=show == "ended",
            limit=PAGE_SIZE + 1,
            offset=(page - 1) * PAGE_SIZE,
        )
    return render(request, deps, "quarantine.html", visitor=visitor, listed=cut(rows, page), place=place, show=show)


@router.post("/messages/{message_id}/move", dependencies=[CheckedForm])
async def move(
    visitor: ObjectRestorer,
    message_id: RowId,
    place: Annotated[Literal["quarantine", "junk"], Form()],
    why: Annotated[str, Form(max_length=MAX_WHY)] = "",
    following: Following = "",
) -> Response:
    """Move a message to quarantine or junk."""
    async with visitor.work() as session:
        await request_move(session, visitor.actor, message_id, Place(place), clean_query(why, MAX_WHY))
    return go(safe_next(following) or f"/messages/{message_id}")


@router.post("/quarantine/{move_id}/release", dependencies=[CheckedForm])
async def release(visitor: ObjectRestorer, move_id: RowId, following: Following = "") -> Response:
    """Put a moved message back where it was."""
    async with visitor.work() as session:
        await request_release(session, visitor.actor, move_id)
    return go(safe_next(following) or "/quarantine")
