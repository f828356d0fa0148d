"""Incidents: links that turned out to be bad, who received and who clicked them, and what is done about it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Form, Request
from fastapi.responses import Response

from app.console.access import (
    CheckedForm,
    Configurer,
    Deps,
    ObjectConfigurer,
    ObjectRestorer,
    ObjectViewer,
    Viewer,
    Visitor,
    needs,
)
from app.console.pages import go, render
from app.console.queries.incidents import STATES, list_incidents, read_incident
from app.console.routes.filters import RowId, WantedIncidents
from app.console.text import clean_query
from app.protection import incidents as acts
from app.protection.incidents import TurnPolicy
from app.protection.turn_alert import webhook_keys
from app.tenants.actor import Permission

router = APIRouter(include_in_schema=False)

Investigator = Annotated[Visitor, Depends(needs(Permission.INVESTIGATE))]
ObjectInvestigator = Annotated[Visitor, Depends(needs(Permission.INVESTIGATE, names_object=True))]


@router.get("/incidents")
async def incidents(
    request: Request,
    deps: Deps,
    visitor: Viewer,
    wanted: WantedIncidents,
) -> Response:
    """All of them, and what happens when a link turns out to be bad."""
    async with visitor.work() as session:
        listed = await list_incidents(session, visitor.actor, wanted)
    keys = webhook_keys(deps.keys, visitor.actor.tenant_id) if visitor.can("configure") else []
    return render(
        request,
        deps,
        "incidents.html",
        visitor=visitor,
        listed=listed,
        state=wanted.state,
        states=STATES,
        policy=TurnPolicy.of(visitor.tenant),
        webhook_key=keys[0] if keys else "",
    )


@router.post("/incidents/mark", dependencies=[CheckedForm])
async def mark(
    deps: Deps,
    visitor: Investigator,
    target: Annotated[str, Form(max_length=500)],
    note: Annotated[str, Form(max_length=300)] = "",
    quarantine: Annotated[bool, Form()] = False,
) -> Response:
    """Say that a host or address is bad."""
    number = await acts.mark_malicious(
        deps.database, visitor.actor, clean_query(target, 500), quarantine=quarantine, note=clean_query(note, 300)
    )
    return go(f"/incidents/{number}")


@router.post("/incidents/policy", dependencies=[CheckedForm])
async def policy(
    visitor: Configurer,
    quarantine: Annotated[bool, Form()] = False,
    webhook: Annotated[str, Form(max_length=500)] = "",
) -> Response:
    """What happens by itself, and who is told."""
    async with visitor.work() as session:
        await acts.change_turn_policy(session, visitor.actor, TurnPolicy(quarantine, webhook))
    return go("/incidents#policy")


@router.get("/incidents/{incident_id}")
async def incident(request: Request, deps: Deps, visitor: ObjectViewer, incident_id: RowId) -> Response:
    """One incident."""
    async with visitor.work() as session:
        view = await read_incident(session, visitor.actor, incident_id)
    return render(request, deps, "incident.html", visitor=visitor, view=view)


@router.post("/incidents/{incident_id}/quarantine", dependencies=[CheckedForm])
async def quarantine_all(visitor: ObjectRestorer, incident_id: RowId) -> Response:
    """Move every copy to quarantine."""
    async with visitor.work() as session:
        await acts.request_quarantine(session, visitor.actor, incident_id)
    return go(f"/incidents/{incident_id}")


@router.post("/incidents/{incident_id}/release", dependencies=[CheckedForm])
async def release_all(visitor: ObjectRestorer, incident_id: RowId) -> Response:
    """Put every copy back where it was."""
    async with visitor.work() as session:
        await acts.request_release_all(session, visitor.actor, incident_id)
    return go(f"/incidents/{incident_id}")


@router.post("/incidents/{incident_id}/close", dependencies=[CheckedForm])
async def close(deps: Deps, visitor: ObjectInvestigator, incident_id: RowId) -> Response:
    """End it; new copies open it again."""
    async with visitor.work() as session:
        await acts.close_incident(session, visitor.actor, incident_id, deps.clock())
    return go(f"/incidents/{incident_id}")


@router.post("/incidents/{ended_id}/reopen", dependencies=[CheckedForm])
async def reopen(deps: Deps, visitor: ObjectInvestigator, ended_id: RowId) -> Response:
    """Take it up again."""
    async with visitor.work() as session:
        await acts.reopen_incident(session, visitor.actor, ended_id, deps.clock())
    return go(f"/incidents/{ended_id}")


@router.post("/incidents/{incident_id}/false-positive", dependencies=[CheckedForm])
async def false_positive(deps: Deps, visitor: ObjectConfigurer, incident_id: RowId) -> Response:
    """Nothing bad after all: allow it, and put its copies back."""
    await acts.mark_false_positive(deps.database, visitor.actor, incident_id, deps.clock())
    return go(f"/incidents/{incident_id}")
