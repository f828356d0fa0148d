"""Settings: one's own language, the organisation's words, protection per domain."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Annotated, Literal

from fastapi import APIRouter, File, Form, Request, UploadFile
from fastapi.responses import Response

from app.console.access import CheckedForm, Configurer, Deps, ObjectConfigurer, OwnClicksViewer, SignedInVisitor
from app.console.logo import MAX_UPLOAD, made_logo
from app.console.pages import go, render
from app.console.queries.domains import list_domains
from app.kit.errors import NotFound, Refused
from app.kit.i18n import LOCALES
from app.messages.options import DeliveryOptions, OptionError
from app.policy.service import notify_policy
from app.protection import service
from app.protection.copying import choose_copies, copies_chosen, may_choose
from app.protection.mail_alerts import MailPolicy, latest_mails, mail_server
from app.protection.plan import change_options, load_options
from app.tenants.accounts import LEVEL_CHOICES, ClickPages, change_click_pages, change_logo, logo_of, set_own_locale
from app.tenants.actor import Permission
from app.tenants.levels import LEVEL_FROM, MAX_LEVEL_FROM
from app.tenants.people import sign_out_everywhere

router = APIRouter(include_in_schema=False)


@router.get("/settings")
async def settings(request: Request, deps: Deps, visitor: OwnClicksViewer) -> Response:
    """What this person may set."""
    domains, delivery, mails = [], DeliveryOptions(), []
    if visitor.actor.can(Permission.VIEW_TENANT):
        async with visitor.work() as session:
            domains = await list_domains(session, visitor.actor)
            delivery = await load_options(session)
            if visitor.actor.can(Permission.CONFIGURE):
                mails = list(await latest_mails(session, visitor.actor))
    pages = ClickPages.of(visitor.tenant)
    return render(
        request,
        deps,
        "settings.html",
        visitor=visitor,
        domains=domains,
        pages=pages,
        delivery=delivery,
        has_logo=bool(logo_of(visitor.tenant)),
        may_copy=may_choose(visitor.tenant.provider),
        copies=copies_chosen(visitor.tenant.settings),
        level_choices=LEVEL_CHOICES,
        max_level_from=MAX_LEVEL_FROM,
        mail_policy=MailPolicy.of(visitor.tenant),
        mail_configured=mail_server(deps.settings) is not None,
        mails=mails,
    )


@router.post("/settings/language", dependencies=[CheckedForm])
async def language(visitor: SignedInVisitor, locale: Annotated[str, Form(max_length=10)]) -> Response:
    """The person's own language; empty follows the browser."""
    if locale and locale not in LOCALES:
        raise Refused("There is no such language. Nothing was changed.", "bad_language")
    async with visitor.work() as session:
        await set_own_locale(session, visitor.actor, locale)
    return go("/settings")


@router.post("/settings/sign-out-everywhere", dependencies=[CheckedForm])
async def sign_out_own(visitor: SignedInVisitor) -> Response:
    """End all of one's own sessions, this one too."""
    assert visitor.actor.user_id is not None  # a signed-in visitor is a person
    async with visitor.work() as session:
        await sign_out_everywhere(session, visitor.actor, visitor.actor.user_id)
    return go("/")


@router.post("/settings/organisation", dependencies=[CheckedForm])
async def organisation(
    visitor: Configurer,
    name: Annotated[str, Form(max_length=500)],
    contact: Annotated[str, Form(max_length=1000)] = "",
    note: Annotated[str, Form(max_length=1000)] = "",
    failure: Annotated[str, Form(max_length=20)] = "open",
    keep_address: Annotated[bool, Form()] = False,
    link_days: Annotated[int, Form()] = 0,
    accent: Annotated[str, Form(max_length=20)] = "",
    block_url: Annotated[str, Form(max_length=1000)] = "",
    unknown: Annotated[str, Form(max_length=20)] = "redirect",
    suspicious: Annotated[str, Form(max_length=20)] = "warn",
    malicious: Annotated[str, Form(max_length=20)] = "block",
    suspicious_from: Annotated[int, Form()] = LEVEL_FROM[0],
    malicious_from: Annotated[int, Form()] = LEVEL_FROM[1],
) -> Response:
    """The organisation's name, and what its click pages say and do."""
    wanted = ClickPages(
        name,
        contact,
        note,
        failure,
        keep_address,
        link_days,
        accent,
        block_url,
        unknown,
        suspicious,
        malicious,
        suspicious_from,
        malicious_from,
    )
    async with visitor.work() as session:
        if await change_click_pages(session, visitor.actor, wanted):
            await notify_policy(session, visitor.actor.tenant_id)
    return go("/settings#organisation")


@router.get("/settings/logo")
async def logo(visitor: OwnClicksViewer) -> Response:
    """The organisation's logo, as the gateway's pages show it."""
    found = logo_of(visitor.tenant)
    if not found:
        raise NotFound("There is no logo.")
    return Response(found, media_type="image/png", headers={"Cache-Control": "no-store"})


@router.post("/settings/logo", dependencies=[CheckedForm])
async def set_logo(visitor: Configurer, file: Annotated[UploadFile, File()]) -> Response:
    """A logo for the gateway's pages; the picture is written anew."""
    data = await file.read(MAX_UPLOAD + 1)
    made = await asyncio.to_thread(made_logo, data)
    async with visitor.work() as session:
        await change_logo(session, visitor.actor, made)
        await notify_policy(session, visitor.actor.tenant_id)
    return go("/settings#organisation")


@router.post("/settings/logo/remove", dependencies=[CheckedForm])
async def remove_logo(visitor: Configurer) -> Response:
    """No logo."""
    async with visitor.work() as session:
        await change_logo(session, visitor.actor, b"")
        await notify_policy(session, visitor.actor.tenant_id)
    return go("/settings#organisation")


@router.post("/settings/delivery", dependencies=[CheckedForm])
async def delivery(
    visitor: Configurer,
    suspicious: Annotated[str, Form(max_length=20)] = "rewrite",
    other: Annotated[str, Form(max_length=20)] = "rewrite",
    redact_text: Annotated[str, Form(max_length=500)] = "",
    hxxp: Annotated[bool, Form()] = False,
    brackets: Annotated[bool, Form()] = False,
    remove_href: Annotated[bool, Form()] = False,
    qr: Annotated[str, Form(max_length=20)] = "report",
    strip_tracking: Annotated[bool, Form()] = False,
    tracking_patterns: Annotated[str, Form(max_length=10_000)] = "",
    tag: Annotated[str, Form(max_length=500)] = "",
    rewrite_attachments: Annotated[bool, Form()] = False,
) -> Response:
    """How links are treated in mail that is protected from now on."""
    given = {
        "suspicious": suspicious,
        "other": other,
        "redact_text": redact_text.strip() or DeliveryOptions().redact_text,
        "hxxp": hxxp,
        "brackets": brackets,
        "remove_href": remove_href,
        "qr": qr,
        "strip_tracking": strip_tracking,
        "tracking_patterns": [line.strip() for line in tracking_patterns.splitlines() if line.strip()],
        "tag": tag.strip(),
        "rewrite_attachments": rewrite_attachments,
    }
    try:
        wanted = DeliveryOptions.parse(given)
    except OptionError as error:
        raise Refused(f"This cannot be used: {error}. Nothing was changed.", "bad_delivery") from None
    async with visitor.work() as session:
        await change_options(session, visitor.actor, wanted)
    return go("/settings#delivery")


@router.post("/settings/copies", dependencies=[CheckedForm])
async def copies(visitor: Configurer, copies: Annotated[bool, Form()] = False) -> Response:
    """Whether a copy may replace a message that the provider does not let be changed."""
    async with visitor.work() as session:
        await choose_copies(session, visitor.actor, copies)
    return go("/settings#copies")


@router.post("/settings/domains/{name}", dependencies=[CheckedForm])
async def domain(
    deps: Deps,
    visitor: ObjectConfigurer,
    name: str,
    protected: Annotated[bool, Form()] = False,
    dry_run: Annotated[bool, Form()] = False,
    since: Annotated[Literal["0", "1", "7", "30"], Form()] = "0",
) -> Response:
    """Switch one domain's protection."""
    async with visitor.work() as session:
        if name not in {line.name for line in await list_domains(session, visitor.actor)}:
            raise NotFound("There is no such domain.")
        await service.switch_domain(
            session,
            visitor.actor,
            name,
            protected=protected,
            dry_run=dry_run,
            since=deps.clock() - timedelta(days=int(since)),
        )
    return go("/settings#protection")
