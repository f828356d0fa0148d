"""Landing page, sign-in with OpenID Connect, sign-out.

The authorization code flow with PKCE (RFC 7636), a nonce, and a state that is bound to this browser by a
sealed cookie, lives ten minutes and works once (RFC 9700 sections 4.4 to 4.7).
"""

from __future__ import annotations

import hmac
from typing import Annotated
from urllib.parse import urlencode, urlsplit

from fastapi import APIRouter, Query, Request
from fastapi.responses import RedirectResponse, Response

from app.audit.service import record
from app.console import metrics
from app.console.access import CheckedForm, Deps, MaybeVisitor, SignedInVisitor, Visitor
from app.console.browser import (
    FLOW_LIFETIME,
    Flow,
    FlowKind,
    drop_cookie,
    get_cookie,
    new_flow,
    open_flow,
    safe_next,
    seal_flow,
    set_cookie,
    set_session_cookie,
)
from app.console.deps import ConsoleDeps
from app.console.pages import go, render
from app.kit.errors import NotFound, Refused
from app.kit.i18n import LOCALES
from app.tenants.accounts import TenantStatus, admit, find_or_open_tenant, person_actor
from app.tenants.actor import Permission
from app.tenants.sessions import cookie_value, end_session, read_cookie, start_session
from app.tenants.states import spend_state
from connectors.base.types import Provider

router = APIRouter(include_in_schema=False)

Text = Annotated[str, Query(max_length=4000)]


def home_of(visitor: Visitor) -> str:
    """Where a person starts."""
    if visitor.tenant.status == TenantStatus.ONBOARDING:
        return "/onboarding"
    return "/overview" if visitor.actor.can(Permission.VIEW_TENANT) else "/my-clicks"


@router.get("/")
async def landing(
    request: Request, deps: Deps, visitor: MaybeVisitor, following: Annotated[str, Query(alias="next")] = ""
) -> Response:
    """Sign in here; who is signed in goes on to their pages."""
    if visitor is not None:
        return go(home_of(visitor))
    return render(request, deps, "landing.html", providers=deps.providers.configured(), following=safe_next(following))


@router.get("/language/{locale}")
async def choose_language(locale: str, deps: Deps, following: Annotated[str, Query(alias="next")] = "") -> Response:
    """The browser's language for the pages before signing in."""
    if locale not in LOCALES:
        raise NotFound("There is no such language.")
    response = go(safe_next(following) or "/")
    set_cookie(deps, response, "language", locale, FLOW_LIFETIME * 6 * 24 * 180)
    return response


def configured_provider(deps: ConsoleDeps, name: str) -> Provider:
    """The provider of an address.

    Raises:
        NotFound: No such provider, or this installation has no credentials for it.
    """
    found = next((provider for provider in deps.providers.configured() if provider.value == name), None)
    if found is None:
        raise NotFound("There is no such provider.")
    return found


def callback_url(deps: ConsoleDeps, path: str) -> str:
    """An address of the console as the provider knows it: from the settings, never from the Host header."""
    return deps.settings.console_url.rstrip("/") + path


@router.get("/sign-in/{provider}")
async def start_sign_in(
    request: Request, provider: str, deps: Deps, following: Annotated[str, Query(alias="next")] = ""
) -> Response:
    """To the provider's sign-in page."""
    chosen = configured_provider(deps, provider)
    following = safe_next(following)
    if request.headers.get("host", "") != urlsplit(deps.settings.console_url).netloc:
        # The cookie must be set for the host that the provider sends the person back to.
        query = "?" + urlencode({"next": following}) if following else ""
        target = callback_url(deps, f"/sign-in/{chosen.value}{query}")
        if request.query_params.get("moved") is None:
            return RedirectResponse(target + ("&" if query else "?") + "moved=1", 303)
    flow = new_flow("signin", chosen, deps.clock(), following=following)
    url = await deps.providers.identity(chosen).sign_in_url(
        callback_url(deps, f"/sign-in/callback/{chosen.value}"), flow.state, flow.nonce, flow.challenge
    )
    response = RedirectResponse(url, 303, headers={"Cache-Control": "no-store"})
    set_cookie(deps, response, "signin", seal_flow(deps.keys, flow), FLOW_LIFETIME)
    return response


async def take_flow(request: Request, deps: ConsoleDeps, kind: FlowKind, provider: Provider, state: str) -> Flow:
    """The flow that an answer belongs to; it is spent by this.

    Raises:
        Refused: ``state_missing``, ``state_provider``, ``state_mismatch`` or ``state_replayed``.
    """
    flow = open_flow(deps.keys, kind, get_cookie(deps, request, kind), deps.clock())
    if flow is None:
        raise Refused(
            "This step was not started in this browser, or it took too long. Nothing happened; start again.",
            "state_missing",
        )
    if flow.provider != provider.value:
        raise Refused("The answer comes from another provider than was asked. Start again.", "state_provider")
    if not hmac.compare_digest(flow.state.encode(), state.encode()):
        raise Refused("The answer does not belong to what was started here. Start again.", "state_mismatch")
    async with deps.database.untenanted() as session:
        fresh = await spend_state(session, flow.state, flow.expires_at, deps.clock())
    if not fresh:
        raise Refused("This answer was used already. Start again.", "state_replayed")
    return flow


@router.get("/sign-in/callback/{provider}")
async def finish_sign_in(
    request: Request, provider: str, deps: Deps, state: Text = "", code: Text = "", error: Text = ""
) -> Response:
    """Back from the provider: a new session, whatever this browser had before."""
    chosen = configured_provider(deps, provider)
    flow = await take_flow(request, deps, "signin", chosen, state)
    if error or not code:
        raise Refused("The provider did not sign you in. Nothing happened; you can start again.", "sign_in_denied")
    who = await deps.providers.identity(chosen).finish_sign_in(
        code, callback_url(deps, f"/sign-in/callback/{chosen.value}"), flow.verifier, flow.nonce
    )
    tenant_id = await find_or_open_tenant(deps.database, who)
    await _drop_session(request, deps)
    async with deps.database.tenant(tenant_id) as session:
        user = await admit(session, tenant_id, who, deps.clock())
        token = await start_session(session, user, deps.clock())
        await record(session, person_actor(user), "session.started", user.email, {"provider": chosen.value})
    metrics.SIGN_INS.labels(chosen.value).inc()
    response = go(flow.next or "/")
    set_session_cookie(deps, response, cookie_value(tenant_id, token))
    drop_cookie(deps, response, "signin")
    return response


@router.post("/sign-out", dependencies=[CheckedForm])
async def sign_out(request: Request, deps: Deps, visitor: SignedInVisitor) -> Response:
    """End the session here and in the database."""
    await _drop_session(request, deps)
    async with visitor.work() as session:
        await record(session, visitor.actor, "session.ended", visitor.user.email)
    response = go("/")
    drop_cookie(deps, response, "session")
    return response


async def _drop_session(request: Request, deps: ConsoleDeps) -> None:
    parts = read_cookie(get_cookie(deps, request, "session"))
    if parts is not None:
        async with deps.database.tenant(parts[0]) as session:
            await end_session(session, *parts)
