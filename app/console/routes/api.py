"""The JSON API: what the console shows, with the same permissions. Described by ``/api/v1/openapi.json``."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from app.console.access import (
    CheckedCall,
    Deps,
    ObjectConfigurer,
    ObjectRestorer,
    ObjectViewer,
    SeenLooks,
    SignedInVisitor,
    Viewer,
    Visitor,
)
from app.console.queries.clicks import ClickFilter, list_clicks
from app.console.queries.connector import list_runs, restore_extent
from app.console.queries.domains import list_domains
from app.console.queries.messages import MessageFilter, list_messages, trace_message
from app.console.queries.overview import read_overview
from app.console.queries.paging import MAX_PAGE
from app.console.routes.filters import Days, MailboxId, PageNumber, RowId, Search, Short, start_of
from app.console.words import clean_query
from app.kit.errors import NotFound
from app.kit.ids import row_number
from app.protection import service


class Problem(BaseModel):
    """A refusal (RFC 9457)."""

    type: str
    status: int
    title: str
    detail: str
    code: str = Field(description="Stable name of the reason.")


_PROBLEMS: dict[int | str, dict[str, Any]] = {
    400: {"model": Problem, "description": "Not accepted; nothing was changed"},
    401: {"model": Problem, "description": "Signed out"},
    403: {"model": Problem, "description": "The role does not allow it"},
    404: {"model": Problem, "description": "Absent, or not yours"},
    409: {"model": Problem, "description": "The state moved on; nothing was changed"},
    422: {"model": Problem, "description": "Not accepted; nothing was changed"},
}
router = APIRouter(prefix="/api/v1", tags=["console"], responses=_PROBLEMS)


class FromRow(BaseModel):
    """Read from an object's attributes."""

    model_config = ConfigDict(from_attributes=True)


class SessionOut(BaseModel):
    """Who is signed in."""

    email: str
    name: str
    role: str
    organisation: str
    provider: str
    status: str
    csrf_token: str = Field(description="Send as X-CSRF-Token with every call that changes something.")


class OverviewOut(BaseModel):
    """The overview. Clicks are those of people; automated ones are counted apart."""

    status: str
    days: int
    protected_domains: int
    domains: int
    mailboxes: int
    messages: dict[str, int] = Field(description="Message state -> number.")
    links: int
    waiting: int
    oldest_waiting: datetime | None
    behind: bool
    actions: dict[str, int] = Field(description="Answer -> clicks of people.")
    automated: int
    failed_checks: list[str]


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


class MessagesOut(BaseModel):
    """A page of messages."""

    items: list[MessageOut]
    page: int
    more: bool


class MessageSearch(BaseModel):
    """What to look for; empty is everything."""

    search: str = Field("", max_length=400, description="Part of subject, sender or recipient.")
    state: str = Field("", max_length=400)
    recipient: str = Field("", max_length=400, description="Address of the mailbox.")
    host: str = Field("", max_length=400, description="Messages with a link to that host.")
    days: Literal["", "1", "7", "30", "90"] = ""
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


class ClicksOut(BaseModel):
    """A page of clicks."""

    items: list[ClickOut]
    page: int
    more: bool


class DomainOut(FromRow):
    """A domain and its switch."""

    name: str
    protected: bool
    dry_run: bool
    protect_since: datetime | None
    mailboxes: int


class DomainIn(BaseModel):
    """How to switch a domain."""

    protected: bool
    dry_run: bool = False
    days: Literal[0, 1, 7, 30] = Field(0, description="Also mail of the last days.")


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


@router.get("/session")
async def session_of(visitor: SignedInVisitor) -> SessionOut:
    """Who is signed in, and the token for calls that change something."""
    return SessionOut(
        email=visitor.user.email,
        name=visitor.user.name,
        role=visitor.user.role,
        organisation=visitor.tenant.name,
        provider=visitor.tenant.provider,
        status=visitor.tenant.status,
        csrf_token=visitor.csrf,
    )


@router.get("/overview")
async def overview(deps: Deps, visitor: Viewer, days: Annotated[Literal[1, 7, 30], Query()] = 1) -> OverviewOut:
    """The overview."""
    async with visitor.work() as session:
        found = await read_overview(session, visitor.actor, visitor.tenant, deps.clock(), days)
    return OverviewOut(
        status=visitor.tenant.status,
        days=days,
        protected_domains=found.protected_domains,
        domains=len(found.domains),
        mailboxes=found.mailboxes,
        messages=found.messages,
        links=found.links,
        waiting=found.waiting,
        oldest_waiting=found.oldest_waiting,
        behind=found.late(deps.clock()),
        actions=found.actions,
        automated=found.automated,
        failed_checks=found.failed_checks,
    )


@router.get("/messages")
async def messages(
    deps: Deps,
    visitor: Viewer,
    search: Search = "",
    state: Short = "",
    mailbox: MailboxId = None,
    host: Short = "",
    days: Days = "",
    page: PageNumber = 1,
) -> MessagesOut:
    """Messages, newest first. A mailbox is named by its number: addresses of people stay out of web addresses."""
    wanted = MessageFilter(
        search=clean_query(search),
        state=clean_query(state),
        mailbox_id=mailbox,
        host=clean_query(host),
        since=start_of(days, deps.clock()),
        page=page,
    )
    return await _listed(visitor, wanted)


@router.post("/messages/search", dependencies=[CheckedCall])
async def search_messages(deps: Deps, visitor: Viewer, body: MessageSearch) -> MessagesOut:
    """The same by what must not stand in a web address: a recipient's address, or words of a subject."""
    wanted = MessageFilter(
        search=clean_query(body.search),
        state=clean_query(body.state),
        mailbox=clean_query(body.recipient),
        host=clean_query(body.host),
        since=start_of(body.days, deps.clock()),
        page=body.page,
    )
    return await _listed(visitor, wanted)


async def _listed(visitor: Visitor, wanted: MessageFilter) -> MessagesOut:
    async with visitor.work() as session:
        listed = await list_messages(session, visitor.actor, wanted)
    items = [MessageOut.model_validate(line) for line in listed.rows]
    return MessagesOut(items=items, page=listed.number, more=listed.more)


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
        events=[
            EventOut(
                at=event.at,
                kind=event.kind,
                actor=event.actor,
                detail=event.detail
                if event.click is None
                else {
                    "url": event.click.url,
                    "level": event.click.level,
                    "action": event.click.action,
                    "automated": event.click.automated,
                },
            )
            for event in trace.events
        ],
    )


@router.get("/clicks")
async def clicks(
    deps: Deps,
    visitor: Viewer,
    search: Search = "",
    level: Short = "",
    action: Short = "",
    who: Annotated[Literal["", "people", "automated"], Query()] = "",
    days: Days = "",
    page: PageNumber = 1,
) -> ClicksOut:
    """Clicks, newest first."""
    wanted = ClickFilter(
        search=clean_query(search),
        level=clean_query(level),
        action=clean_query(action),
        who=who,
        since=start_of(days, deps.clock()),
        page=page,
    )
    async with visitor.work() as session:
        listed = await list_clicks(session, visitor.actor, wanted)
    items = [
        ClickOut(
            id=str(line.click.id),
            at=line.click.at,
            person=line.person,
            message_id=line.click.message_id,
            url=line.click.url,
            host=line.click.host,
            level=line.click.level,
            action=line.click.action,
            rule=line.click.rule,
            automated=line.click.automated,
        )
        for line in listed.rows
    ]
    return ClicksOut(items=items, page=listed.number, more=listed.more)


@router.get("/domains")
async def domains(visitor: Viewer) -> list[DomainOut]:
    """The domains and their switches."""
    async with visitor.work() as session:
        return [DomainOut.model_validate(line) for line in await list_domains(session, visitor.actor)]


@router.put("/domains/{name}", dependencies=[CheckedCall])
async def switch_domain(deps: Deps, visitor: ObjectConfigurer, name: str, wanted: DomainIn) -> DomainOut:
    """Switch a domain's protection on or off."""
    since = deps.clock() - timedelta(days=wanted.days)
    async with visitor.work() as session:
        if name not in {line.name for line in await list_domains(session, visitor.actor)}:
            raise NotFound("There is no such domain.")
        await service.switch_domain(
            session, visitor.actor, name, protected=wanted.protected, dry_run=wanted.dry_run, since=since
        )
        await session.flush()
        lines = await list_domains(session, visitor.actor)
    return next(DomainOut.model_validate(line) for line in lines if line.name == name)


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
