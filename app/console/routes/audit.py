"""The audit log."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from app.console.access import AuditViewer, Deps
from app.console.pages import render
from app.console.queries.audit import AuditFilter, list_audit
from app.console.routes.filters import Days, PageNumber, Search, start_of
from app.console.text import clean_query

router = APIRouter(include_in_schema=False)


@router.get("/audit")
async def audit(
    request: Request, deps: Deps, visitor: AuditViewer, search: Search = "", days: Days = "", page: PageNumber = 1
) -> Response:
    """Who did what, newest first."""
    wanted = AuditFilter(clean_query(search), start_of(days, deps.clock()), page)
    async with visitor.work() as session:
        listed = await list_audit(session, visitor.actor, wanted)
    return render(request, deps, "audit.html", visitor=visitor, listed=listed, wanted=wanted, days=days)
