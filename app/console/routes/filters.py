"""Filters as they stand in the address of a page or of a call of the API: one set for both."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Annotated, Literal

from fastapi import Depends, Path, Query

from app.console.access import Deps
from app.console.queries.clicks import ClickFilter
from app.console.queries.incidents import IncidentFilter
from app.console.queries.messages import MessageFilter
from app.console.queries.paging import MAX_PAGE
from app.console.text import clean_query

Search = Annotated[str, Query(alias="q", max_length=400)]
Short = Annotated[str, Query(max_length=400)]
PageNumber = Annotated[int, Query(ge=1, le=MAX_PAGE)]
LastDays = Literal["", "1", "7", "30", "90"]
Days = Annotated[LastDays, Query()]
Who = Literal["", "people", "automated"]
RowId = Annotated[int, Path(ge=1, le=2**63 - 1)]
MailboxId = Annotated[int | None, Query(alias="mailbox", ge=1, le=2**63 - 1)]
OpenRow = Annotated[int | None, Query(alias="open", ge=1, le=2**63 - 1)]


def start_of(days: str, now: datetime) -> datetime | None:
    """The beginning of the chosen days; None where all are shown."""
    return now - timedelta(days=int(days)) if days else None


async def wanted_messages(
    deps: Deps,
    state: Short = "",
    mailbox: MailboxId = None,
    host: Short = "",
    days: Days = "",
    page: PageNumber = 1,
) -> MessageFilter:
    """Which messages. A mailbox is named by its number: addresses of people stay out of web addresses."""
    since = start_of(days, deps.clock())
    return MessageFilter(state=clean_query(state), mailbox_id=mailbox, host=clean_query(host), since=since, page=page)


WantedMessages = Annotated[MessageFilter, Depends(wanted_messages)]


async def wanted_message_lines(
    wanted: WantedMessages,
    search: Search = "",
    sort: Annotated[Literal["newest", "oldest", "links", "sender"], Query()] = "newest",
) -> MessageFilter:
    """The same on a page, where a person also searches and sorts."""
    return replace(wanted, search=clean_query(search), sort=sort)


WantedMessageLines = Annotated[MessageFilter, Depends(wanted_message_lines)]


async def wanted_clicks(
    deps: Deps,
    level: Short = "",
    action: Short = "",
    who: Annotated[Who, Query()] = "",
    days: Days = "",
    page: PageNumber = 1,
) -> ClickFilter:
    """Which clicks."""
    since = start_of(days, deps.clock())
    return ClickFilter(level=clean_query(level), action=clean_query(action), who=who, since=since, page=page)


WantedClicks = Annotated[ClickFilter, Depends(wanted_clicks)]


async def wanted_click_lines(
    wanted: WantedClicks,
    search: Search = "",
    sort: Annotated[Literal["newest", "oldest", "host", "person"], Query()] = "newest",
) -> ClickFilter:
    """The same on a page, where a person also searches and sorts."""
    return replace(wanted, search=clean_query(search), sort=sort)


WantedClickLines = Annotated[ClickFilter, Depends(wanted_click_lines)]


async def wanted_incidents(
    deps: Deps,
    state: Annotated[Literal["", "open", "closed", "false_positive"], Query()] = "",
    kind: Annotated[Literal["", "listed", "rule", "checked"], Query()] = "",
    host: Short = "",
    days: Days = "",
    page: PageNumber = 1,
) -> IncidentFilter:
    """Which incidents; ``days`` counts from their last change."""
    since = start_of(days, deps.clock())
    return IncidentFilter(state=state, kind=kind, host=clean_query(host), since=since, page=page)


WantedIncidents = Annotated[IncidentFilter, Depends(wanted_incidents)]
