"""The connector: access checks, mailboxes, pausing, restoring."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import Response

from app.console.access import CheckedForm, Configurer, Deps, ObjectConfigurer, ObjectRestorer, Viewer
from app.console.pages import go, render
from app.console.queries.choice import mailbox_choice
from app.console.queries.connector import MailboxFilter, list_mailboxes, list_runs, restore_extent
from app.console.routes.filters import PageNumber, RowId, Search
from app.console.text import clean_query
from app.protection import onboarding as connecting
from app.protection import service

router = APIRouter(include_in_schema=False)

Scope = Literal["mailbox", "domain", "tenant"]


@router.get("/connector")
async def connector(
    request: Request,
    deps: Deps,
    visitor: Viewer,
    search: Search = "",
    show: Annotated[Literal["", "trouble"], Query()] = "",
    page: PageNumber = 1,
) -> Response:
    """What works, what does not, and what to do about it."""
    wanted = MailboxFilter(clean_query(search), show == "trouble", page)
    async with visitor.work() as session:
        listed = await list_mailboxes(session, visitor.actor, wanted)
        runs = await list_runs(session, visitor.actor)
        choice = await mailbox_choice(session, visitor.actor)
    return render(
        request,
        deps,
        "connector.html",
        visitor=visitor,
        checks=connecting.known_checks(visitor.tenant),
        listed=listed,
        choice=choice,
        wanted=wanted,
        show=show,
        runs=runs,
    )


@router.post("/connector/check", dependencies=[CheckedForm])
async def check(deps: Deps, visitor: Configurer) -> Response:
    """Probe the grant again."""
    await connecting.check_again(deps.database, deps.providers, visitor.actor, deps.clock())
    return go("/connector#checks")


@router.post("/connector/pause", dependencies=[CheckedForm])
async def pause(visitor: Configurer) -> Response:
    """Stop protecting new mail; what is protected stays so."""
    async with visitor.work() as session:
        await service.pause(session, visitor.actor)
    return go("/connector")


@router.post("/connector/resume", dependencies=[CheckedForm])
async def resume(visitor: Configurer) -> Response:
    """Go on where it was paused."""
    async with visitor.work() as session:
        await service.resume(session, visitor.actor)
    return go("/connector")


@router.post("/connector/mailboxes/{mailbox_id}/opt-out", dependencies=[CheckedForm])
async def opt_out(
    visitor: ObjectConfigurer, mailbox_id: RowId, out: Annotated[Literal["yes", "no"], Form()]
) -> Response:
    """Leave a mailbox out of protection, or take it in again."""
    async with visitor.work() as session:
        await service.set_opted_out(session, visitor.actor, mailbox_id, out=out == "yes")
    return go(f"/connector#b{mailbox_id}")


@router.post("/connector/restores/{run_id}/cancel", dependencies=[CheckedForm])
async def cancel_restore(visitor: ObjectRestorer, run_id: RowId) -> Response:
    """Stop a restore; what was restored stays restored."""
    async with visitor.work() as session:
        await service.cancel_restore(session, visitor.actor, run_id)
    return go("/connector#restores")


@router.get("/connector/restore")
async def ask_restore(
    request: Request,
    deps: Deps,
    visitor: ObjectRestorer,
    scope: Annotated[Scope, Query()],
    target: Annotated[str, Query(max_length=300)] = "",
) -> Response:
    """What a restore would touch, in numbers, before it is started."""
    async with visitor.work() as session:
        extent = await restore_extent(session, visitor.actor, scope, clean_query(target, 300))
    return render(request, deps, "restore.html", visitor=visitor, scope=scope, target=target, extent=extent)


@router.post("/connector/restore", dependencies=[CheckedForm])
async def start_restore(
    visitor: ObjectRestorer,
    scope: Annotated[Scope, Form()],
    target: Annotated[str, Form(max_length=300)] = "",
) -> Response:
    """Start giving original links back."""
    target = clean_query(target, 300)
    async with visitor.work() as session:
        await restore_extent(session, visitor.actor, scope, target)
        await service.request_restore(session, visitor.actor, scope, target)
    return go("/connector#restores")
