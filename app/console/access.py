"""Who is looking, and whether they may: dependencies of every route.

A page or call that names an object answers "not found" to everybody who may not see it, so that what exists
cannot be told from what does not.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Form, Header, Request
from sqlalchemy.ext.asyncio import AsyncSession

from app.console.browser import csrf_matches, csrf_token, get_cookie
from app.console.deps import ConsoleDeps, console_deps
from app.console.queries.incidents import count_open
from app.console.views import Looks
from app.kit.errors import Forbidden, NotFound, PosternError, Refused
from app.kit.i18n import LOCALES, negotiate
from app.tenants.accounts import TenantStatus, person_actor
from app.tenants.actor import Actor, Permission
from app.tenants.models import Tenant, User
from app.tenants.people import narrow_sight
from app.tenants.sessions import read_cookie, resume_session

Deps = Annotated[ConsoleDeps, Depends(console_deps)]


class SignedOut(PosternError):
    """Nobody is signed in, or the session is over."""


class NotConnected(PosternError):
    """The tenant is still being connected: until then there is nothing to see or to configure."""


@dataclass(frozen=True, slots=True)
class Visitor:
    """The signed-in person of a request.

    Attributes:
        actor: What they may do.
        user: Their account as it is now.
        tenant: Their organisation as it is now.
        token_hash: Of their session.
        csrf: What their forms carry.
        locale: Their language.
        open_incidents: For the navigation; 0 where the role does not see them.
    """

    actor: Actor
    user: User
    tenant: Tenant
    token_hash: bytes
    csrf: str
    locale: str
    deps: ConsoleDeps
    open_incidents: int = 0

    @asynccontextmanager
    async def work(self) -> AsyncIterator[AsyncSession]:
        """A transaction of this tenant, committed at the end of the block: before the answer is sent.

        It sees no more than the person may: a domain administrator's domains alone.
        """
        async with self.deps.database.tenant(self.actor.tenant_id) as session:
            await narrow_sight(session, self.actor, self.user.subject)
            yield session

    def can(self, permission: str) -> bool:
        """Whether the role grants a permission, by its name: for templates."""
        return self.actor.can(Permission(permission))


def visitor_locale(deps: ConsoleDeps, request: Request, user: User | None = None) -> str:
    """The language to answer in: the person's own, the browser's choice here, else what it accepts."""
    if user is not None and user.locale in LOCALES:
        return user.locale
    chosen = get_cookie(deps, request, "language")
    return chosen if chosen in LOCALES else negotiate(request.headers.get("accept-language"))


async def find_visitor(request: Request, deps: Deps) -> Visitor | None:
    """Who is signed in, or None."""
    parts = read_cookie(get_cookie(deps, request, "session"))
    if parts is None:
        return None
    tenant_id, token = parts
    async with deps.database.tenant(tenant_id) as session:
        found = await resume_session(session, tenant_id, token, deps.clock())
        if found is None:
            return None
        actor = person_actor(found.user)
        await narrow_sight(session, actor, found.user.subject)
        incidents = await count_open(session, actor) if actor.can(Permission.VIEW_TENANT) else 0
    visitor = Visitor(
        actor=actor,
        user=found.user,
        tenant=found.tenant,
        token_hash=found.token_hash,
        csrf=csrf_token(deps.keys, found.token_hash),
        locale=visitor_locale(deps, request, found.user),
        deps=deps,
        open_incidents=incidents,
    )
    # Error pages are made after the route gave up; they show the same frame.
    request.state.visitor = visitor
    return visitor


MaybeVisitor = Annotated[Visitor | None, Depends(find_visitor)]


async def signed_in(visitor: MaybeVisitor) -> Visitor:
    """Who is signed in.

    Raises:
        SignedOut: Nobody.
    """
    if visitor is None:
        raise SignedOut("Sign in first.")
    return visitor


SignedInVisitor = Annotated[Visitor, Depends(signed_in)]


def needs(permission: Permission, *, names_object: bool = False) -> Callable[[Visitor], Coroutine[Any, Any, Visitor]]:
    """A dependency: a signed-in person whose role grants the permission.

    Args:
        permission: What the route needs.
        names_object: The address names something, so a refusal must look like its absence.
    """

    async def check(visitor: SignedInVisitor) -> Visitor:
        if visitor.tenant.status == TenantStatus.ONBOARDING:
            # Whoever is first to start connecting has no proof yet of administering the organisation, so
            # nothing may be prepared here that would hold once somebody else has connected it.
            raise NotConnected("Your organisation is not connected yet.")
        if visitor.actor.can(permission):
            return visitor
        if names_object:
            raise NotFound("There is no such page.")
        raise Forbidden("Your role does not include this page.")

    return check


def _same_site(request: Request) -> None:
    if request.headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
        raise Refused("This form was sent from another site; nothing was changed.", "cross_site")


async def checked_form(
    request: Request, visitor: SignedInVisitor, csrf: Annotated[str, Form(max_length=200)] = ""
) -> None:
    """Refuse a form that does not come from a page of this session.

    Raises:
        Refused: The token is missing or not this session's.
    """
    _same_site(request)
    if not csrf_matches(visitor.deps.keys, visitor.token_hash, csrf):
        raise Refused("This form is no longer valid; nothing was changed. Open the page again and repeat it.", "csrf")


async def checked_call(
    request: Request, visitor: SignedInVisitor, x_csrf_token: Annotated[str, Header(max_length=200)] = ""
) -> None:
    """The same for a call of the JSON API: the token is a header.

    Raises:
        Refused: The token is missing or not this session's.
    """
    _same_site(request)
    if not csrf_matches(visitor.deps.keys, visitor.token_hash, x_csrf_token):
        raise Refused(
            "The header X-CSRF-Token is missing or not this session's; nothing was changed. "
            "GET /api/v1/session gives it.",
            "csrf",
        )


def looks_of(request: Request) -> Looks:
    """Who looked at what lately."""
    looks = request.app.state.looks
    assert isinstance(looks, Looks)
    return looks


SeenLooks = Annotated[Looks, Depends(looks_of)]
Viewer = Annotated[Visitor, Depends(needs(Permission.VIEW_TENANT))]
ObjectViewer = Annotated[Visitor, Depends(needs(Permission.VIEW_TENANT, names_object=True))]
Configurer = Annotated[Visitor, Depends(needs(Permission.CONFIGURE))]
ObjectConfigurer = Annotated[Visitor, Depends(needs(Permission.CONFIGURE, names_object=True))]
ObjectRestorer = Annotated[Visitor, Depends(needs(Permission.RESTORE, names_object=True))]
PeopleManager = Annotated[Visitor, Depends(needs(Permission.MANAGE_PEOPLE, names_object=True))]
AuditViewer = Annotated[Visitor, Depends(needs(Permission.VIEW_AUDIT))]
OwnClicksViewer = Annotated[Visitor, Depends(needs(Permission.VIEW_OWN_CLICKS))]
CheckedForm = Depends(checked_form)
CheckedCall = Depends(checked_call)
