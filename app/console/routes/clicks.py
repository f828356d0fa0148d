"""The tenant's clicks."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from app.console.access import Deps, Viewer
from app.console.pages import render
from app.console.queries.clicks import ClickFilter, list_clicks
from app.console.routes.filters import Days, PageNumber, Search, Short, start_of
from app.console.words import ACTIONS, LEVELS, clean_query

router = APIRouter(include_in_schema=False)


@router.get("/clicks")
async def clicks(
    request: Request,
    deps: Deps,
    visitor: Viewer,
    search: Search = "",
    level: Short = "",
    action: Short = "",
    who: Annotated[Literal["", "people", "automated"], Query()] = "",
    days: Days = "",
    sort: Annotated[Literal["newest", "oldest", "host", "person"], Query()] = "newest",
    page: PageNumber = 1,
) -> Response:
    """Who clicked what, when, and what was answered."""
    wanted = ClickFilter(
        search=clean_query(search),
        level=clean_query(level),
        action=clean_query(action),
        who=who,
        since=start_of(days, deps.clock()),
        sort=sort,
        page=page,
    )
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
