"""People and their roles."""

from __future__ import annotations

import uuid
from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import Response

from app.console.access import CheckedForm, Deps, PeopleManager, Viewer
from app.console.pages import go, render
from app.console.queries.domains import list_domains
from app.console.routes.filters import Search
from app.console.text import clean_query
from app.tenants.people import ASSIGNABLE, list_people, set_role, sign_out_everywhere

router = APIRouter(include_in_schema=False)


@router.get("/people")
async def people(request: Request, deps: Deps, visitor: Viewer, search: Search = "") -> Response:
    """Who has signed in, with which role."""
    async with visitor.work() as session:
        listed = await list_people(session, visitor.actor, clean_query(search))
        domains = [domain.name for domain in await list_domains(session, visitor.actor)]
    return render(
        request,
        deps,
        "people.html",
        visitor=visitor,
        people=listed,
        roles=ASSIGNABLE,
        domains=domains,
        search=clean_query(search),
    )


@router.post("/people/{user_id}/role", dependencies=[CheckedForm])
async def change_role(
    visitor: PeopleManager,
    user_id: uuid.UUID,
    role: Annotated[str, Form(max_length=50)],
    domains: Annotated[list[str] | None, Form(max_length=500)] = None,
) -> Response:
    """Give a person a role; a domain administrator's comes with domains."""
    async with visitor.work() as session:
        await set_role(session, visitor.actor, user_id, role, domains or ())
    return go("/people")


@router.post("/people/{user_id}/sign-out", dependencies=[CheckedForm])
async def end_sessions(visitor: PeopleManager, user_id: uuid.UUID) -> Response:
    """End all sessions of a person."""
    async with visitor.work() as session:
        await sign_out_everywhere(session, visitor.actor, user_id)
    return go("/people")
