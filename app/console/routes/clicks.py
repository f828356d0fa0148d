"""The tenant's clicks."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from app.console.access import Deps, Viewer
from app.console.pages import render
from app.console.queries.clicks import list_clicks
from app.console.routes.filters import Days, WantedClickLines
from app.console.words import ACTIONS, LEVELS

router = APIRouter(include_in_schema=False)


@router.get("/clicks")
async def clicks(
    request: Request,
    deps: Deps,
    visitor: Viewer,
    wanted: WantedClickLines,
    days: Days = "",
) -> Response:
    """Who clicked what, when, and what was answered."""
    async with visitor.work() as session:
        listed = await list_clicks(session, visitor.actor, wanted)
    return render(
        request,
        deps,
        "clicks.html",
        visitor=visitor,
        listed=listed,
        wanted=wanted,
        days=days,
        levels=LEVELS,
        actions=ACTIONS,
    )
