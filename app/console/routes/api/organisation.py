"""Who is signed in, the overview, and the domains with their switches."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Literal

from fastapi import Query
from pydantic import BaseModel, Field

from app.console.access import CheckedCall, Deps, ObjectConfigurer, SignedInVisitor, Viewer
from app.console.queries.domains import list_domains
from app.console.queries.overview import read_overview
from app.console.routes.api.schema import FromRow, api_router
from app.kit.errors import NotFound
from app.protection import service

router = api_router()


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
