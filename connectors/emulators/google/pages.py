"""The emulated Google's own HTML pages: one plain layout, no script, nothing from elsewhere."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import HTMLResponse

_TEMPLATES = Path(__file__).parent / "templates"
_ENVIRONMENT = Environment(loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined)
_STYLE = (_TEMPLATES / "google.css").read_text(encoding="utf-8")
_DIGEST = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode("ascii")
_POLICY = f"default-src 'none'; style-src 'sha256-{_DIGEST}'; base-uri 'none'; frame-ancestors 'none'"


def page(name: str, title: str, *, status: int = 200, product: str = "Google", **values: object) -> HTMLResponse:
    """One page.

    Args:
        name: ``choose``, ``message`` or ``delegation``.
        title: The heading.
        status: HTTP status.
        product: Shown in the bar at the top.
        values: For the template.
    """
    defaults: dict[str, object] = {"detail": "", "cancel": False, "error": "", "done": ""}
    text = _ENVIRONMENT.get_template(f"{name}.html").render(
        title=title, product=product, style=_STYLE, **{**defaults, **values}
    )
    headers = {
        "Content-Security-Policy": _POLICY,
        "Cache-Control": "no-store",
        "Referrer-Policy": "no-referrer",
    }
    return HTMLResponse(text, status, headers=headers)
