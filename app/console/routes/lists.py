"""The tenant's lists, and what people asked for on click pages."""

from __future__ import annotations

import uuid
from typing import Annotated, Literal

from fastapi import APIRouter, Form, Request
from fastapi.responses import Response

from app.console.access import CheckedForm, Configurer, Deps, ObjectConfigurer, Viewer
from app.console.pages import go, render
from app.console.queries.reports import answer_report, list_open_reports, open_report
from app.console.routes.filters import RowId, Search
from app.console.text import clean_query
from app.console.words import LIST_ACTIONS
from app.kit.errors import Conflict, NotFound, Refused
from app.policy.service import PolicyService
from app.tenants.actor import Actor

router = APIRouter(include_in_schema=False)

ListAction = Annotated[Literal["allow", "block", "ignore", "lock"], Form()]
ListKind = Annotated[Literal["wildcard", "re2"], Form()]


@router.get("/lists")
async def lists(request: Request, deps: Deps, visitor: Viewer, search: Search = "") -> Response:
    """All entries in the order in which they decide."""
    wanted = clean_query(search).lower()
    entries = await PolicyService(deps.database).entries(visitor.actor)
    async with visitor.work() as session:
        requests = await list_open_reports(session, visitor.actor)
    shown = [entry for entry in entries if wanted in entry.pattern.lower() or wanted in entry.note.lower()]
    return render(
        request,
        deps,
        "lists.html",
        visitor=visitor,
        entries=shown[:500],
        total=len(entries),
        search=wanted,
        actions=LIST_ACTIONS,
        requests=requests,
    )


@router.post("/lists", dependencies=[CheckedForm])
async def add(
    deps: Deps,
    visitor: Configurer,
    action: ListAction,
    pattern: Annotated[str, Form(max_length=1000)],
    kind: ListKind = "wildcard",
    note: Annotated[str, Form(max_length=1000)] = "",
) -> Response:
    """Put an entry in front of the others."""
    await PolicyService(deps.database).add(visitor.actor, action=action, pattern=pattern, kind=kind, note=note)
    return go("/lists")


@router.post("/lists/{entry_id}/remove", dependencies=[CheckedForm])
async def remove(deps: Deps, visitor: ObjectConfigurer, entry_id: RowId) -> Response:
    """Remove an entry."""
    await PolicyService(deps.database).remove(visitor.actor, entry_id)
    return go("/lists")


@router.post("/lists/{entry_id}/move", dependencies=[CheckedForm])
async def move(
    deps: Deps, visitor: ObjectConfigurer, entry_id: RowId, direction: Annotated[Literal["up", "down"], Form()]
) -> Response:
    """Move an entry one place up or down."""
    policy = PolicyService(deps.database)
    order = [entry.id for entry in await policy.entries(visitor.actor)]
    if entry_id not in order:
        raise NotFound("There is no such entry.")
    at = order.index(entry_id)
    if direction == "up" and at > 0:
        await policy.move(visitor.actor, entry_id, before=order[at - 1])
    elif direction == "down" and at < len(order) - 1:
        await policy.move(visitor.actor, entry_id, before=order[at + 2] if at + 2 < len(order) else None)
    return go("/lists")


@router.post("/lists/requests/{report_id}", dependencies=[CheckedForm])
async def answer(
    deps: Deps,
    visitor: ObjectConfigurer,
    report_id: uuid.UUID,
    decision: Annotated[Literal["allow", "block", "dismiss"], Form()],
) -> Response:
    """Answer a person's request: allow or block the host from now on, or leave things as they are."""
    if decision != "dismiss":
        # The entry comes first: a request must not pass for granted where the list would not take the host.
        async with visitor.work() as session:
            host = (await open_report(session, visitor.actor, report_id)).host
        await _enter(PolicyService(deps.database), visitor.actor, decision, host)
    async with visitor.work() as session:
        await answer_report(session, visitor.actor, report_id, _OUTCOMES[decision], deps.clock())
    return go("/lists#requests")


_OUTCOMES = {"allow": "allowed", "block": "blocked", "dismiss": "dismissed"}


async def _enter(policy: PolicyService, actor: Actor, action: str, host: str) -> None:
    if not host:
        raise Refused("This request names no host that could be on a list. Nothing was changed.", "no_host")
    pattern = f"={host}"
    try:
        await policy.add(actor, action=action, pattern=pattern, note="Asked for on a click page")
    except Conflict:
        if not any(entry.action == action and entry.pattern == pattern for entry in await policy.entries(actor)):
            raise
        # It is there already, which is what was asked for.
