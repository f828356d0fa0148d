"""Making pages: Jinja templates with autoescape, the navigation a role sees, and the headers of every answer."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from fastapi import Request
from fastapi.responses import HTMLResponse, RedirectResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from app.console.access import Visitor, visitor_locale
from app.console.deps import ConsoleDeps
from app.console.speech import Speech
from app.console.text import split_url, time_tag, visible
from app.kit.i18n import LOCALES, N_
from app.tenants.accounts import TenantStatus
from app.tenants.actor import Permission

HERE = Path(__file__).resolve().parent
STATIC = HERE / "static"
LANGUAGE_NAMES = {"en": "English", "de": "Deutsch", "ja": "日本語"}


@dataclass(frozen=True, slots=True)
class NavItem:
    """One entry of the navigation."""

    key: str
    path: str
    label: str
    permission: Permission


NAVIGATION = (
    NavItem("overview", "/overview", N_("Overview"), Permission.VIEW_TENANT),
    NavItem("messages", "/messages", N_("Messages"), Permission.VIEW_TENANT),
    NavItem("clicks", "/clicks", N_("Clicks"), Permission.VIEW_TENANT),
    NavItem("incidents", "/incidents", N_("Incidents"), Permission.VIEW_TENANT),
    NavItem("lists", "/lists", N_("Lists"), Permission.VIEW_TENANT),
    NavItem("sources", "/threat-sources", N_("Threat sources"), Permission.VIEW_TENANT),
    NavItem("quarantine", "/quarantine", N_("Quarantine"), Permission.VIEW_TENANT),
    NavItem("connector", "/connector", N_("Connector"), Permission.VIEW_TENANT),
    NavItem("health", "/connector-health", N_("Health"), Permission.VIEW_TENANT),
    NavItem("backfill", "/backfill", N_("Older mail"), Permission.VIEW_TENANT),
    NavItem("people", "/people", N_("People"), Permission.VIEW_TENANT),
    NavItem("audit", "/audit", N_("Audit"), Permission.VIEW_AUDIT),
    NavItem("my-clicks", "/my-clicks", N_("My clicks"), Permission.VIEW_OWN_CLICKS),
    NavItem("settings", "/settings", N_("Settings"), Permission.VIEW_OWN_CLICKS),
)


def navigation(visitor: Visitor) -> list[NavItem]:
    """What this person may open. Until the tenant is connected there is nothing but connecting it."""
    if visitor.tenant.status == TenantStatus.ONBOARDING:
        return []
    return [item for item in NAVIGATION if visitor.actor.can(item.permission)]


@lru_cache(maxsize=1)
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["visible"] = visible
    environment.filters["time"] = time_tag
    environment.globals["split_url"] = split_url
    environment.globals["static"] = static_url
    environment.globals["languages"] = LANGUAGE_NAMES
    return environment


@lru_cache(maxsize=64)
def static_url(name: str) -> str:
    """Address of a static file, with its content's hash so that it can be cached for long."""
    digest = hashlib.sha256((STATIC / name).read_bytes()).hexdigest()[:12]
    return f"/static/{name}?v={digest}"


def render(
    request: Request,
    deps: ConsoleDeps,
    template: str,
    *,
    visitor: Visitor | None = None,
    status: int = 200,
    form_targets: tuple[str, ...] = (),
    **context: Any,
) -> HTMLResponse:
    """A page.

    Args:
        request: For the language and the address.
        deps: Of the console.
        template: File in ``templates``.
        visitor: Who looks; None on the pages before signing in.
        status: HTTP status.
        form_targets: Addresses whose origins a form of this page may lead to (a consent page).
        context: For the template.
    """
    locale = visitor.locale if visitor else visitor_locale(deps, request)
    speech = Speech(locale)

    def with_query(**changes: object) -> str:
        """This page's address with some filters changed; None or empty takes one away."""
        query: dict[str, str] = dict(request.query_params)
        for key, value in changes.items():
            query[key] = "" if value is None else str(value)
        kept = {key: value for key, value in query.items() if value}
        return request.url.path + (f"?{urlencode(kept)}" if kept else "")

    html = (
        _environment()
        .get_template(template)
        .render(
            {
                "_": speech.say,
                "ngettext": speech.plural,
                "name": speech.name,
                "evidence": speech.evidence,
                "rule_words": speech.rule,
                "step_words": speech.step,
                "audit_act": speech.act,
                "audit_facts": speech.facts,
                "with_query": with_query,
                "locale": locale,
                "locales": LOCALES,
                "visitor": visitor,
                "nav": navigation(visitor) if visitor else [],
                "path": request.url.path,
                "query": request.query_params,
                "csrf": csrf_field(visitor),
                "now": deps.clock(),
                **context,
            }
        )
    )
    return HTMLResponse(html, status, headers=page_headers(form_targets))


def csrf_field(visitor: Visitor | None) -> Markup:
    """The hidden field of every form."""
    if visitor is None:
        return Markup("")
    return Markup('<input type="hidden" name="csrf" value="{}">').format(visitor.csrf)


def page_headers(form_targets: tuple[str, ...] = ()) -> dict[str, str]:
    """Headers of a page: nothing inline, nothing from elsewhere, no framing, no keeping.

    ``form-action`` also binds the redirects that follow a form (CSP3 section 6.4), hence the targets.
    """
    targets = " ".join(["'self'", *sorted({_origin(target) for target in form_targets})])
    return {
        "Content-Security-Policy": (
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
            f"form-action {targets}; frame-ancestors 'none'; base-uri 'none'"
        ),
        "Cache-Control": "no-store",
    }


def common_headers(deps: ConsoleDeps) -> Mapping[str, str]:
    """Headers of every answer of the console."""
    headers = {
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "same-origin",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    }
    if deps.settings.console_url.startswith("https:"):
        headers["Strict-Transport-Security"] = "max-age=31536000"
    return headers


def go(path: str) -> RedirectResponse:
    """After a form: to a page, by GET."""
    return RedirectResponse(path, 303, headers={"Cache-Control": "no-store"})


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
