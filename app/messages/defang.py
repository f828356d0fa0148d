"""Making a link unclickable instead of rewriting it: redact with the tenant's words, or style (feature L12)."""

from __future__ import annotations

import re

from app.messages.candidates import Candidate
from app.messages.charsets import View
from app.messages.types import LinkAction, LinkKind, StyleOptions, TransformPlan

_HTTP = re.compile(r"(?i)http(?=s?:)")
_HOST = re.compile(r"(?i)((?:h..ps?:)?[/\\]{2}(?:[^/\\?#@]*@)?|^)([^/\\?#]*)")


def escape(text: str) -> str:
    """Escape a tenant's text for HTML text and quoted attributes."""
    return (
        text.replace("&", "&amp;")
        .replace('"', "&quot;")
        .replace("'", "&#39;")
        .replace("<", "&lt;")
        .replace(">", "&gt;")
    )


def styled(url: str, options: StyleOptions) -> str:
    """Write an address so that no client makes a link of it.

    Args:
        url: The address as it stood.
        options: ``hxxp`` and ``brackets``; with neither, the address is left as it is.

    Returns:
        Such as ``hxxps://evil[.]example/path``.
    """
    if options.brackets:
        url = _HOST.sub(lambda hit: hit[1] + hit[2].replace(".", "[.]"), url, count=1)
    if options.hxxp:
        url = _HTTP.sub(lambda hit: "hXXp" if hit[0].isupper() else "hxxp", url, count=1)
    return url


def changes(
    candidate: Candidate, view: View, plan: TransformPlan, action: LinkAction, *, markup: bool
) -> list[tuple[int, int, str]]:
    """What a link becomes in the redact and style modes.

    Args:
        candidate: The link.
        view: The part it stands in.
        plan: Tells the tenant's words and the style.
        action: ``REDACT`` or ``STYLE``.
        markup: Whether the part is HTML.

    Returns:
        Ranges of the view and what they become.
    """
    visible = candidate.kind in (LinkKind.TEXT, LinkKind.HTML_TEXT)
    if visible:
        if action is LinkAction.REDACT:
            words = escape(plan.redact_text) if markup else plan.redact_text
            return [(candidate.start, candidate.end, words)]
        options = plan.style
        if not options.hxxp and not options.brackets:
            options = StyleOptions()  # text has no href to remove: without a change it would stay a link
        return [(candidate.start, candidate.end, styled(view.text[candidate.start : candidate.end], options))]
    if action is LinkAction.REDACT or plan.style.remove_href:
        return [(candidate.start, candidate.end, "#")]
    if not plan.style.hxxp:
        # Brackets alone leave a target that browsers refuse but other readers may not.
        return [(candidate.start, candidate.end, "#")]
    return [(candidate.start, candidate.end, escape(styled(candidate.url, plan.style)))]
