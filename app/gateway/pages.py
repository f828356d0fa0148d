"""The gateway's pages: one template, one card, first-party only, readable without a script."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from app.gateway import views
from app.gateway.destination import location
from app.gateway.views import View
from app.kit.i18n import Translator, translator
from app.policy.engine import PolicySnapshot
from app.verdicts.sentences import readable

DOMAIN: Final = "gateway"
_FOLDER = Path(__file__).resolve().parent / "templates"
_ACCENT_RE = re.compile(r"#[0-9A-Fa-f]{6}\Z")


@dataclass(frozen=True, slots=True)
class Page:
    """A page to send.

    Attributes:
        body: HTML in UTF-8.
        headers: With the policy that fits this very page.
    """

    body: bytes
    headers: tuple[tuple[bytes, bytes], ...]


@lru_cache(maxsize=1)
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )


@lru_cache(maxsize=256)
def _style(accent: str) -> tuple[Markup, str]:
    css = (_FOLDER / "page.css").read_text()
    if _ACCENT_RE.match(accent):
        # As specific as ".warn main" and after it: the edge is the organisation's on every page. What a page says
        # stands in words and in its icon, whose colours stay.
        css += f":root main{{border-top-color:{accent}}}"
    return Markup(css), _source_hash(css)  # noqa: S704 - our own file and a checked colour


@lru_cache(maxsize=1)
def _script() -> tuple[Markup, str]:
    script = (_FOLDER / "page.js").read_text()
    return Markup(script), _source_hash(script)  # noqa: S704 - our own file


@lru_cache(maxsize=64)
def plain_page(kind: str, locale: str) -> Page:
    """A page that says the same to everybody, made once per language: floods get these.

    Args:
        kind: ``broken``, ``limited``, ``nothing`` or ``unavailable``.
        locale: The reader's language.
    """
    words = translator(locale, DOMAIN)
    made = {
        "broken": views.broken,
        "limited": views.limited,
        "nothing": views.nothing,
        "unavailable": views.unavailable,
    }
    return render(made[kind](words), words)


def _source_hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@dataclass(frozen=True, slots=True)
class Frame:
    """Pictures of a page.

    Attributes:
        logo: Path of the tenant's logo; empty: none.
        drawn: Path of the picture that says that the page was drawn; empty: none.
    """

    logo: str = ""
    drawn: str = ""


NO_FRAME: Final = Frame()


def render(view: View, words: Translator, snapshot: PolicySnapshot | None = None, frame: Frame | None = None) -> Page:
    """Make a page.

    Args:
        view: What it says.
        words: The reader's language.
        snapshot: The tenant whose name and words are shown; None: nobody's.
        frame: Its pictures; None: none.
    """
    frame = frame or NO_FRAME
    accent = snapshot.words.accent if snapshot is not None else ""
    css, css_hash = _style(accent)
    script, script_hash = _script()
    html = (
        _environment()
        .get_template("page.html")
        .render(
            _=words.gettext,
            lang=words.locale,
            css=css,
            script=script,
            logo=frame.logo,
            drawn=frame.drawn,
            org=readable(snapshot.name, 80) if snapshot is not None else "",
            contact=readable(snapshot.words.contact, 200) if snapshot is not None else "",
            note=readable(snapshot.words.note, 400) if snapshot is not None else "",
            **{name: getattr(view, name) for name in View.__dataclass_fields__ if name != "leaves"},
        )
    )
    body = html.encode("utf-8", "replace")
    # Chromium applies form-action to the redirects after a form, too; the button that goes on to the
    # destination needs it wide (https://github.com/w3c/webappsec-csp/issues/8).
    actions = "'self' http: https:" if view.leaves else "'self'"
    images = "img-src 'self'; " if frame.logo or frame.drawn else ""
    policy = (
        f"default-src 'none'; {images}style-src {css_hash}; script-src {script_hash}; form-action {actions}; "
        "base-uri 'none'; frame-ancestors 'none'"
    )
    headers = (
        (b"content-type", b"text/html; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
        (b"content-language", words.locale.encode()),
        (b"content-security-policy", policy.encode()),
        *PAGE_HEADERS,
    )
    return Page(body, headers)


PAGE_HEADERS: Final = (
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    # Not no-referrer: the forms' Origin header would be "null" then.
    (b"referrer-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), microphone=(), geolocation=(), payment=(), usb=()"),
    (b"x-robots-tag", b"noindex, nofollow"),
    (b"vary", b"Accept-Language"),
)


def own_page(snapshot: PolicySnapshot) -> bytes | None:
    """The tenant's own block page (L22), where it has set a usable one."""
    return location(snapshot.words.block_url) if snapshot.words.block_url else None
