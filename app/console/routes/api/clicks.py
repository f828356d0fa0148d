"""Clicks."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, Field

from app.console.access import CheckedCall, Deps, Viewer
from app.console.queries.clicks import ClickFilter, ClickLine, list_clicks
from app.console.queries.paging import MAX_PAGE
from app.console.routes.api.schema import Listed, api_router, listed
from app.console.routes.filters import LastDays, WantedClicks, Who, start_of
from app.console.text import clean_query

router = api_router()


class ClickOut(BaseModel):
    """A click. The URL is hostile text: do not follow it."""

    id: str
    at: datetime
    person: str | None
    message_id: int | None
    url: str
    host: str
    level: str
    action: str
    rule: str
    automated: bool

    @classmethod
    def of(cls, line: ClickLine) -> ClickOut:
        """From a line of the list."""
        click = line.click
        return cls(
            id=str(click.id),
            at=click.at,
            person=line.person,
            message_id=click.message_id,
            url=click.url,
            host=click.host,
            level=click.level,
            action=click.action,
            rule=click.rule,
            automated=click.automated,
        )


class ClickSearch(BaseModel):
    """What to look for; empty is everything."""

    search: str = Field("", max_length=400, description="Part of the URL, its host or the person's address.")
    level: str = Field("", max_length=400)
    action: str = Field("", max_length=400, description="An answer, or `stopped`: warned, blocked and locked.")
    who: Who = ""
    days: LastDays = ""
    page: int = Field(1, ge=1, le=MAX_PAGE)


@router.get("/clicks")
async def clicks(visitor: Viewer, wanted: WantedClicks) -> Listed[ClickOut]:
    """Clicks, newest first. Addresses of people are looked for by POST alone."""
    async with visitor.work() as session:
        return listed(await list_clicks(session, visitor.actor, wanted), ClickOut.of)


@router.post("/clicks/search", dependencies=[CheckedCall])
async def search_clicks(deps: Deps, visitor: Viewer, body: ClickSearch) -> Listed[ClickOut]:
    """The same by what must not stand in a web address: a person's address, or one that was clicked."""
    wanted = ClickFilter(
        search=clean_query(body.search),
        level=clean_query(body.level),
        action=clean_query(body.action),
        who=body.who,
        since=start_of(body.days, deps.clock()),
        page=body.page,
    )
    async with visitor.work() as session:
        return listed(await list_clicks(session, visitor.actor, wanted), ClickOut.of)
