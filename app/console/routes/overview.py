"""The overview."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from app.console.access import Deps, Viewer
from app.console.chart import bar_chart
from app.console.pages import render
from app.console.queries.overview import PERIODS, read_overview

router = APIRouter(include_in_schema=False)


@router.get("/overview")
async def overview(
    request: Request, deps: Deps, visitor: Viewer, days: Annotated[Literal["1", "7", "30"], Query()] = "1"
) -> Response:
    """Is protection on and keeping up, what was stopped, who clicked, what needs somebody now."""
    async with visitor.work() as session:
        found = await read_overview(session, visitor.actor, visitor.tenant, deps.clock(), int(days))
    return render(
        request,
        deps,
        "overview.html",
        visitor=visitor,
        overview=found,
        days=int(days),
        periods=PERIODS,
        chart=bar_chart(found.bars),
    )
