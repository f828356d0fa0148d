"""Connecting an organisation, in four steps: sign in, grant access, check it, switch protection on."""

from __future__ import annotations

import hmac
from datetime import timedelta
from typing import Annotated, Literal

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import RedirectResponse, Response

from app.audit.service import record
from app.console.access import CheckedForm, Deps, MaybeVisitor, SignedInVisitor, Visitor
from app.console.browser import FLOW_LIFETIME, drop_cookie, new_flow, seal_flow, set_cookie
from app.console.pages import go, render
from app.console.queries.choice import mailbox_choice
from app.console.queries.domains import list_domains
from app.console.routes.sign_in import callback_url, configured_provider, take_flow
from app.kit.errors import Conflict, Forbidden, NotFound, PosternError, Refused
from app.protection import onboarding as connecting
from app.protection import service
from app.tenants.accounts import TenantStatus
from app.tenants.actor import Permission
from connectors.base.types import ConsentInstructions

router = APIRouter(include_in_schema=False)

PREVIEW_STATE = "preview"
SINCE_DAYS = (0, 1, 7, 30)
Since = Literal["0", "1", "7", "30"]


def current_step(visitor: Visitor) -> int:
    """Which of the four steps comes next: 2 grant, 3 check, 4 switch on."""
    if visitor.tenant.status != TenantStatus.ONBOARDING:
        return 4
    return 2 if visitor.tenant.consented_at is None else 3


@router.get("/onboarding")
async def onboarding(request: Request, deps: Deps, visitor: SignedInVisitor) -> Response:
    """The steps, the current one open."""
    onboarding_now = visitor.tenant.status == TenantStatus.ONBOARDING
    if not visitor.actor.can(Permission.CONFIGURE) and not onboarding_now:
        raise Forbidden("Your role does not include this page.")
    provider = configured_provider(deps, visitor.tenant.provider)
    consent: ConsentInstructions | None = deps.providers.identity(provider).consent(
        visitor.tenant.external_id, callback_url(deps, f"/onboarding/consent/callback/{provider.value}"), PREVIEW_STATE
    )
    try:
        connecting.may_connect(
            visitor.actor, visitor.tenant.status, probe_proves=consent is not None and not consent.returns
        )
    except (Forbidden, Refused):
        return render(request, deps, "onboarding_wait.html", visitor=visitor)
    except Conflict:
        # Connected: who may not renew the grant may still switch protection on.
        consent = None
    async with visitor.work() as session:
        domains = [] if onboarding_now else await list_domains(session, visitor.actor)
        choice = None if onboarding_now else await mailbox_choice(session, visitor.actor)
    return render(
        request,
        deps,
        "onboarding.html",
        visitor=visitor,
        form_targets=(consent.url,) if consent and consent.returns else (),
        step=current_step(visitor),
        provider=provider.value,
        consent=consent,
        checks=connecting.known_checks(visitor.tenant),
        domains=domains,
        choice=choice,
        since_days=SINCE_DAYS,
    )


@router.post("/onboarding/grant", dependencies=[CheckedForm])
async def grant(deps: Deps, visitor: SignedInVisitor) -> Response:
    """To the provider's consent page, for the tenant of the sign-in and no other."""
    provider = configured_provider(deps, visitor.tenant.provider)
    flow = new_flow("consent", provider, deps.clock(), session=visitor.token_hash)
    consent = deps.providers.identity(provider).consent(
        visitor.tenant.external_id, callback_url(deps, f"/onboarding/consent/callback/{provider.value}"), flow.state
    )
    if not consent.returns:
        raise NotFound("This provider has no consent page.")
    connecting.may_connect(visitor.actor, visitor.tenant.status, probe_proves=False)
    async with visitor.work() as session:
        await record(session, visitor.actor, "consent.requested", visitor.tenant.external_id)
    response = RedirectResponse(consent.url, 303, headers={"Cache-Control": "no-store"})
    set_cookie(deps, response, "consent", seal_flow(deps.keys, flow), FLOW_LIFETIME)
    return response


@router.get("/onboarding/consent/callback/{provider}")
async def consent_callback(
    request: Request,
    provider: str,
    deps: Deps,
    visitor: MaybeVisitor,
    state: Annotated[str, Query(max_length=4000)] = "",
) -> Response:
    """Back from the consent page. Nothing in the answer is believed that the session does not bear out."""
    chosen = configured_provider(deps, provider)
    if visitor is None:
        raise Refused(
            "You are not signed in, so this answer belongs to nobody. Nothing was changed.", "consent_without_session"
        )
    try:
        connecting.may_connect(visitor.actor, visitor.tenant.status, probe_proves=False)
        if visitor.tenant.provider != chosen.value:
            raise Refused("The answer comes from another provider than was asked. Start again.", "state_provider")
        flow = await take_flow(request, deps, "consent", chosen, state)
        if not hmac.compare_digest(flow.session, visitor.token_hash.hex()):
            raise Refused("This consent was started in another session. Start again.", "consent_session")
        answer = deps.providers.identity(chosen).read_consent(dict(request.query_params))
        connecting.judge_consent(answer, visitor.tenant.external_id)
    except PosternError as refusal:
        reason = refusal.code if isinstance(refusal, Refused) else type(refusal).__name__.lower()
        async with visitor.work() as session:
            await record(session, visitor.actor, "consent.refused", detail={"reason": reason})
        raise
    async with visitor.work() as session:
        await connecting.note_consent(session, visitor.actor, deps.clock())
    await connecting.connect(deps.database, deps.providers, visitor.actor, visitor.user.email, deps.clock())
    response = go("/onboarding")
    drop_cookie(deps, response, "consent")
    return response


@router.post("/onboarding/check", dependencies=[CheckedForm])
async def check(deps: Deps, visitor: SignedInVisitor) -> Response:
    """Probe the grant; where it is enough, the organisation is connected."""
    await connecting.connect(deps.database, deps.providers, visitor.actor, visitor.user.email, deps.clock())
    return go("/onboarding#step-3")


@router.post("/onboarding/protect", dependencies=[CheckedForm])
async def protect(
    deps: Deps,
    visitor: SignedInVisitor,
    domains: Annotated[list[str] | None, Form(max_length=500)] = None,
    since: Annotated[Since, Form()] = "0",
    dry_run: Annotated[bool, Form()] = False,
) -> Response:
    """Switch protection on for the chosen domains; the others stay as they are."""
    visitor.actor.require(Permission.CONFIGURE)
    if visitor.tenant.status == TenantStatus.ONBOARDING:
        raise Refused("Access has to be granted and checked first. Nothing was switched on.", "not_connected")
    if not domains:
        raise Refused("Choose at least one domain. Nothing was switched on.", "no_domain")
    begin = deps.clock() - timedelta(days=int(since))
    async with visitor.work() as session:
        known = {domain.name for domain in await list_domains(session, visitor.actor)}
        if not known.issuperset(domains):
            raise Refused("One of these domains is not yours. Nothing was switched on.", "unknown_domain")
        for name in domains:
            await service.switch_domain(session, visitor.actor, name, protected=True, dry_run=dry_run, since=begin)
    return go("/overview")
