"""Leaving: what it touches, its progress, what stands in the way, and the receipt that remains."""

from __future__ import annotations

import json
from typing import Annotated

from fastapi import APIRouter, Depends, Form, Path, Request
from fastapi.responses import Response

from app.console.access import CheckedForm, Deps, MaybeVisitor, Visitor, needs
from app.console.deps import ConsoleDeps
from app.console.pages import go, render
from app.kit.errors import NotFound
from app.protection import offboarding as leaving
from app.protection.models import OffboardingReceipt
from app.protection.receipt import find_receipt, receipt_token
from app.tenants.actor import Permission

router = APIRouter(include_in_schema=False)

Owner = Annotated[Visitor, Depends(needs(Permission.MANAGE_PEOPLE))]
TypedName = Annotated[str, Form(max_length=300)]
Token = Annotated[str, Path(max_length=100)]


@router.get("/offboarding")
async def offboarding(request: Request, deps: Deps, visitor: Owner) -> Response:
    """What leaving would touch, in numbers; or how far it has come."""
    async with visitor.work() as session:
        row = await leaving.current_offboarding(session, visitor.actor)
        extent = await leaving.offboarding_extent(session, visitor.actor)
    receipt: OffboardingReceipt | None = None
    token = ""
    if row is not None:
        async with deps.database.untenanted() as session:
            receipt = await session.get(OffboardingReceipt, row.receipt_id)
        # Only who asked gets the link; other owners see the progress here.
        if row.requested_by_id == visitor.actor.user_id:
            token = receipt_token(deps.keys, row.receipt_id)
    return render(
        request, deps, "offboarding.html", visitor=visitor, row=row, receipt=receipt, extent=extent, token=token
    )


@router.post("/offboarding", dependencies=[CheckedForm])
async def begin(deps: Deps, visitor: Owner, confirm: TypedName = "") -> Response:
    """Begin to leave; the answer leads to the receipt, which works without signing in."""
    async with visitor.work() as session:
        receipt_id = await leaving.request_offboarding(session, visitor.actor, confirm, deps.clock())
    return go(f"/offboarding/receipts/{receipt_token(deps.keys, receipt_id)}")


@router.post("/offboarding/cancel", dependencies=[CheckedForm])
async def cancel(deps: Deps, visitor: Owner) -> Response:
    """Stay."""
    async with visitor.work() as session:
        await leaving.cancel_offboarding(session, visitor.actor, deps.clock())
    return go("/connector")


@router.post("/offboarding/retry", dependencies=[CheckedForm])
async def retry(visitor: Owner) -> Response:
    """Try once more to restore what could not be restored."""
    async with visitor.work() as session:
        await leaving.retry_offboarding(session, visitor.actor)
    return go("/offboarding")


@router.post("/offboarding/delete-anyway", dependencies=[CheckedForm])
async def delete_anyway(visitor: Owner, confirm: TypedName = "") -> Response:
    """Delete although some messages still carry rewritten links."""
    async with visitor.work() as session:
        await leaving.delete_anyway(session, visitor.actor, confirm)
    return go("/offboarding")


async def _receipt(deps: ConsoleDeps, token: str) -> OffboardingReceipt:
    async with deps.database.untenanted() as session:
        found = await find_receipt(session, deps.keys, token)
    if found is None:
        raise NotFound("There is no such page.")
    return found


@router.get("/offboarding/receipts/{token}")
async def receipt(request: Request, deps: Deps, visitor: MaybeVisitor, token: Token) -> Response:
    """The receipt, for whoever has its link; until it is done, the progress in numbers."""
    found = await _receipt(deps, token)
    document = json.loads(found.document) if found.document else None
    return render(
        request, deps, "offboarding_receipt.html", visitor=visitor, receipt=found, document=document, token=token
    )


@router.get("/offboarding/receipts/{token}/download")
async def download(deps: Deps, token: Token) -> Response:
    """The receipt as JSON, byte for byte what its SHA-256 was taken of."""
    found = await _receipt(deps, token)
    if not found.document:
        raise NotFound("There is no such page.")
    return Response(
        found.document.encode(),
        media_type="application/json",
        headers={
            "Content-Disposition": f'attachment; filename="postern-receipt-{found.id}.json"',
            "Cache-Control": "no-store",
        },
    )
