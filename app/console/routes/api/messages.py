"""Messages and their traces."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field

from app.console.access import CheckedCall, Deps, ObjectViewer, SeenLooks, Viewer
from app.console.queries.messages import MessageFilter, TraceEvent, list_messages, trace_message
from app.console.queries.paging import MAX_PAGE
from app.console.routes.api.schema import FromRow, Listed, api_router, listed
from app.console.routes.filters import LastDays, RowId, WantedMessages, start_of
from app.console.text import clean_query

router = api_router()


class MessageOut(FromRow):
    """A message as listed."""

    id: int
    subject: str
    sender: str
    recipient: str
    mailbox_id: int = Field(description="Number of the recipient's mailbox: what addresses of this API name it by.")
    state: str
    reason: str
    links: int
    clicks: int
    received_at: datetime | None
    seen_at: datetime
    finished_at: datetime | None


class MessageSearch(BaseModel):
    """What to look for; empty is everything."""

    search: str = Field("", max_length=400, description="Part of subject, sender or recipient.")
    state: str = Field("", max_length=400)
    recipient: str = Field("", max_length=400, description="Address of the mailbox.")
    host: str = Field("", max_length=400, description="Messages with a link to that host.")
    days: LastDays = ""
    page: int = Field(1, ge=1, le=MAX_PAGE)


class LinkOut(FromRow):
    """A link of a message. The URL is hostile text: do not follow it."""

    ordinal: int
    url: str
    host: str
    kind: str
    text: str
    action: str
    findings: list[Any]


class EventOut(BaseModel):
    """A point of a message's timeline."""

    at: datetime
    kind: str
    actor: str
    detail: dict[str, Any]

    @classmethod
    def of(cls, event: TraceEvent) -> EventOut:
        """From the trace."""
        click, detail = event.click, event.detail
        if click is not None:
            detail = {"url": click.url, "level": click.level, "action": click.action, "automated": click.automated}
        return cls(at=event.at, kind=event.kind, actor=event.actor, detail=detail)


class TraceOut(BaseModel):
    """Everything about one message."""

    id: int
    subject: str
    sender: str
    recipient: str
    state: str
    reason: str
    links: list[LinkOut]
    events: list[EventOut]


@router.get("/messages")
async def messages(visitor: Viewer, wanted: WantedMessages) -> Listed[MessageOut]:
    """Messages, newest first. Addresses of people and words of a subject are looked for by POST alone."""
    async with visitor.work() as session:
        return listed(await list_messages(session, visitor.actor, wanted), MessageOut.model_validate)


@router.post("/messages/search", dependencies=[CheckedCall])
async def search_messages(deps: Deps, visitor: Viewer, body: MessageSearch) -> Listed[MessageOut]:
    """The same by what must not stand in a web address: a recipient's address, or words of a subject."""
    wanted = MessageFilter(
        search=clean_query(body.search),
        state=clean_query(body.state),
        mailbox=clean_query(body.recipient),
        host=clean_query(body.host),
        since=start_of(body.days, deps.clock()),
        page=body.page,
    )
    async with visitor.work() as session:
        return listed(await list_messages(session, visitor.actor, wanted), MessageOut.model_validate)


@router.get("/messages/{message_id}")
async def message(deps: Deps, visitor: ObjectViewer, looks: SeenLooks, message_id: RowId) -> TraceOut:
    """One message with its links and timeline."""
    async with visitor.work() as session:
        trace = await trace_message(session, visitor.actor, message_id)
        await looks.note(session, visitor.actor, message_id, trace.mailbox.address, deps.clock())
    return TraceOut(
        id=trace.message.id,
        subject=trace.message.subject,
        sender=trace.message.sender,
        recipient=trace.mailbox.address,
        state=trace.message.state,
        reason=trace.message.reason,
        links=[LinkOut.model_validate(link) for link in trace.links],
        events=[EventOut.of(event) for event in trace.events],
    )
