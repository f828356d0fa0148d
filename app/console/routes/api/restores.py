"""Restores: giving messages their original links back."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field

from app.console.access import CheckedCall, ObjectRestorer, Viewer
from app.console.queries.connector import list_runs, restore_extent
from app.console.queries.messages import trace_message
from app.console.routes.api.schema import FromRow, api_router
from app.console.text import clean_query
from app.kit.errors import NotFound
from app.kit.ids import row_number
from app.protection import service

router = api_router()


class RestoreOut(FromRow):
    """A restore and its progress."""

    id: int
    scope: str
    target: str
    requested_by: str
    requested_at: datetime
    state: str
    total: int
    restored: int
    failed: int
    gone: int


class RestoreIn(BaseModel):
    """What to give original links back to."""

    scope: Literal["message", "mailbox", "domain", "tenant"]
    target: str = Field("", max_length=300, description="Message or mailbox number, or domain name.")


class Started(BaseModel):
    """Number of what was started."""

    id: int


@router.get("/restores")
async def restores(visitor: Viewer) -> list[RestoreOut]:
    """The latest restores."""
    async with visitor.work() as session:
        return [RestoreOut.model_validate(run) for run in await list_runs(session, visitor.actor, 50)]


@router.post("/restores", status_code=202, dependencies=[CheckedCall])
async def start_restore(visitor: ObjectRestorer, wanted: RestoreIn) -> Started:
    """Start giving original links back; it goes on in the background."""
    target = clean_query(wanted.target, 300)
    async with visitor.work() as session:
        if wanted.scope == "message":
            number = row_number(target)
            if number is None:
                raise NotFound("There is no such message.")
            await trace_message(session, visitor.actor, number)
        else:
            await restore_extent(session, visitor.actor, wanted.scope, target)
        return Started(id=await service.request_restore(session, visitor.actor, wanted.scope, target))
