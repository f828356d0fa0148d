"""What would happen to a link for one person, and why."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from sqlalchemy import select

from app.console.access import Deps, Viewer
from app.console.pages import render
from app.console.text import clean_query
from app.kit.errors import NotFound
from app.messages.hosts import host_of
from app.protection.models import MailboxRow
from app.protection.what_if import WhatIf, what_if
from app.verdicts.lists import shared_lists

router = APIRouter(include_in_schema=False)


def _moment(text: str) -> datetime | None:
    """What a ``datetime-local`` field holds, taken as UTC; None where it is no time."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    found = found.replace(tzinfo=UTC) if found.tzinfo is None else found
    # Near the ends of what a time can be, no zone can be changed any more.
    return found.astimezone(UTC) if 1 < found.year < 9999 else None


@router.get("/what-if")
async def explained(
    request: Request,
    deps: Deps,
    visitor: Viewer,
    url: Annotated[str, Query(max_length=8_192)] = "",
    user: Annotated[str, Query(max_length=320)] = "",
    at: Annotated[str, Query(max_length=40)] = "",
) -> Response:
    """The form, and the answer below it. A person is named by the number of their mailbox."""
    found: WhatIf | None = None
    problem = ""
    wanted = clean_query(url, 8_192)
    async with visitor.work() as session:
        boxes = list(
            await session.scalars(
                select(MailboxRow)
                .where(MailboxRow.tenant_id == visitor.actor.tenant_id)
                .order_by(MailboxRow.address)
                .limit(500)
            )
        )
        number = int(user) if user.isascii() and user.isdigit() and len(user) <= 18 else None
        if wanted:
            lists = shared_lists(deps.settings.feed_file, deps.settings.data_dir)
            await asyncio.to_thread(lists.refresh)
            try:
                found = await what_if(
                    session,
                    visitor.actor,
                    wanted,
                    lists=lists,
                    now=deps.clock(),
                    mailbox_id=number,
                    received_at=_moment(at) if at else None,
                )
            except NotFound:
                problem = "no_person"
    return render(
        request,
        deps,
        "what_if.html",
        visitor=visitor,
        found=found,
        final_host=host_of(found.inspection.verdict.final_url) or "" if found else "",
        problem=problem,
        url=wanted,
        user=number,
        at=at if _moment(at) else "",
        boxes=boxes,
    )
