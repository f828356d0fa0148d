"""Backfill: protecting mail that came before protection was switched on."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import Response
from sqlalchemy import select

from app.console.access import CheckedForm, Configurer, Deps, ObjectConfigurer, Viewer
from app.console.pages import go, render
from app.console.routes.filters import RowId
from app.console.text import clean_query
from app.kit.errors import NotFound
from app.protection import backfill as filling
from app.protection.models import MailboxRow
from app.tenants.models import Domain

router = APIRouter(include_in_schema=False)

Scope = Literal["mailbox", "domain", "tenant"]


@router.get("/backfill")
async def runs(request: Request, deps: Deps, visitor: Viewer) -> Response:
    """Runs with their progress, and the form that begins one."""
    async with visitor.work() as session:
        found = await filling.backfill_progress(session, visitor.actor, deps.clock())
        domains = list(await session.scalars(select(Domain.name).where(Domain.protected).order_by(Domain.name)))
    return render(request, deps, "backfill.html", visitor=visitor, runs=found, domains=domains)


@router.post("/backfill/choose", dependencies=[CheckedForm])
async def choose(
    visitor: Configurer,
    scope: Annotated[Scope, Form()],
    days: Annotated[int, Form(ge=1, le=filling.MAX_DAYS)],
    target: Annotated[str, Form(max_length=300)] = "",
    address: Annotated[str, Form(max_length=300)] = "",
) -> Response:
    """From what was filled in to the page with the numbers, whose address names a mailbox by its number only."""
    chosen = ""
    if scope == "domain":
        chosen = clean_query(target, 300)
    elif scope == "mailbox":
        async with visitor.work() as session:
            found = await session.scalar(
                select(MailboxRow.id).where(MailboxRow.address == clean_query(address, 300).lower())
            )
        if found is None:
            raise NotFound("There is no such mailbox.")
        chosen = str(found)
    return go("/backfill/start?" + urlencode({"scope": scope, "target": chosen, "days": days}))


@router.get("/backfill/start")
async def ask(
    request: Request,
    deps: Deps,
    visitor: ObjectConfigurer,
    scope: Annotated[Scope, Query()] = "tenant",
    target: Annotated[str, Query(max_length=300)] = "",
    days: Annotated[int, Query(ge=1, le=filling.MAX_DAYS)] = 30,
) -> Response:
    """What a backfill would look through, in numbers, before it is started."""
    target = clean_query(target, 300)
    async with visitor.work() as session:
        extent = await filling.backfill_extent(session, visitor.actor, scope, target, days, deps.clock())
    return render(
        request, deps, "backfill_start.html", visitor=visitor, scope=scope, target=target, days=days, extent=extent
    )


@router.post("/backfill", dependencies=[CheckedForm])
async def start(
    deps: Deps,
    visitor: ObjectConfigurer,
    scope: Annotated[Scope, Form()],
    days: Annotated[int, Form(ge=1, le=filling.MAX_DAYS)],
    target: Annotated[str, Form(max_length=300)] = "",
    dry_run: Annotated[bool, Form()] = False,
) -> Response:
    """Start going through older mail."""
    async with visitor.work() as session:
        await filling.request_backfill(
            session, visitor.actor, scope, clean_query(target, 300), days=days, now=deps.clock(), dry_run=dry_run
        )
    return go("/backfill")


@router.post("/backfill/{backfill_id}/cancel", dependencies=[CheckedForm])
async def cancel(deps: Deps, visitor: ObjectConfigurer, backfill_id: RowId) -> Response:
    """Stop a run; what was protected stays protected."""
    async with visitor.work() as session:
        await filling.cancel_backfill(session, visitor.actor, backfill_id, deps.clock())
    return go("/backfill")
