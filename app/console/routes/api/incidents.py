"""Incidents: links that turned out to be bad."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, Field

from app.console.access import Viewer
from app.console.queries.incidents import IncidentLine, list_incidents
from app.console.routes.api.schema import Listed, api_router, listed
from app.console.routes.filters import WantedIncidents

router = api_router()


class IncidentOut(BaseModel):
    """An incident as listed. What it is about is hostile text: do not follow it."""

    id: int
    kind: str = Field(description="`listed` (a threat list), `rule` (your own list) or `checked` (found at a click).")
    subject: str
    host: str
    state: str = Field(description="`open`, `closed` or `false_positive`.")
    cause: str = Field(description="`click`, `list`, `service` or `person`.")
    opened_at: datetime
    updated_at: datetime
    ended_at: datetime | None
    searched: bool = Field(description="Whether all earlier mail was searched for it.")
    messages: int = Field(description="Copies that you may see.")
    people: int = Field(description="Mailboxes with one of them.")
    clicks: int = Field(description="Clicks by people; automated ones are not counted.")

    @classmethod
    def of(cls, line: IncidentLine) -> IncidentOut:
        """From a line of the list."""
        row = line.incident
        return cls(
            id=row.id,
            kind=row.kind,
            subject=row.subject,
            host=row.host,
            state=row.state,
            cause=row.cause,
            opened_at=row.opened_at,
            updated_at=row.updated_at,
            ended_at=row.ended_at,
            searched=row.searched,
            messages=line.reach.messages,
            people=line.reach.people,
            clicks=line.clicks,
        )


@router.get("/incidents")
async def incidents(visitor: Viewer, wanted: WantedIncidents) -> Listed[IncidentOut]:
    """Incidents, those that changed last first."""
    async with visitor.work() as session:
        return listed(await list_incidents(session, visitor.actor, wanted), IncidentOut.of)
