"""The threat sources of the installation, as far as an organisation is concerned: what judges its links, how well."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from app.console.access import Deps, Viewer
from app.console.pages import render
from app.protection.turn_reviewed import review_totals
from app.verdicts.sources.service import states

router = APIRouter(include_in_schema=False)


@router.get("/threat-sources")
async def threat_sources(request: Request, deps: Deps, visitor: Viewer) -> Response:
    """Sources that are switched on. Addresses and errors are the operator's: they can name private servers."""
    async with visitor.work() as session:
        sources = [state for state in await states(session) if state.config.enabled]
        review = await review_totals(session)
    return render(request, deps, "sources.html", visitor=visitor, sources=sources, review=review)
