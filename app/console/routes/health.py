"""The connector's health: what keeps up, what does not, what failed and why; and trying failed messages again."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import Response

from app.console.access import CheckedForm, Configurer, Deps, ObjectConfigurer, Viewer
from app.console.browser import safe_next
from app.console.pages import go, render
from app.console.queries.health import connector_health
from app.console.routes.filters import RowId
from app.protection.onboarding import known_checks
from app.protection.retry import retry_failed
from app.protection.swapping import EVIDENCE

router = APIRouter(include_in_schema=False)


@router.get("/connector-health")
async def health(request: Request, deps: Deps, visitor: Viewer) -> Response:
    """The state of the connector, in numbers."""
    async with visitor.work() as session:
        found = await connector_health(session, visitor.actor, deps.clock())
    pictures = next((check for check in known_checks(visitor.tenant) if check.key == EVIDENCE), None)
    return render(request, deps, "health.html", visitor=visitor, health=found, pictures=pictures)


@router.post("/connector-health/retry", dependencies=[CheckedForm])
async def retry_all(visitor: Configurer) -> Response:
    """Try all failed messages again."""
    async with visitor.work() as session:
        await retry_failed(session, visitor.actor)
    return go("/connector-health#failed")


@router.post("/messages/{failed_id}/retry", dependencies=[CheckedForm])
async def retry_one(
    visitor: ObjectConfigurer, failed_id: RowId, following: Annotated[str, Form(alias="next", max_length=500)] = ""
) -> Response:
    """Try one failed message again."""
    async with visitor.work() as session:
        await retry_failed(session, visitor.actor, failed_id)
    return go(safe_next(following) or f"/messages/{failed_id}")
