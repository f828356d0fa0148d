"""What each kind of part is to the transformer: rewritten, reported, or left without a look and said so (N10)."""

from __future__ import annotations

from enum import Enum

from app.messages.mime import Part

_MARKUP = frozenset({"image/svg+xml", "application/xhtml+xml", "text/xml", "application/xml", "application/xhtml"})
_MARKUP_NAMES = (".html", ".htm", ".xhtml", ".shtml", ".xht", ".mht", ".svg", ".svgz", ".hta")
_GENERIC = frozenset({"application/octet-stream", "application/html", "application/x-html", "application/download"})
_UNCOVERED = {
    "application/ms-tnef": "a winmail.dat container",
    "application/vnd.ms-tnef": "a winmail.dat container",
    "text/enriched": "enriched text",
    "text/richtext": "rich text",
    "text/rtf": "rich text",
    "application/rtf": "rich text",
    "application/vnd.ms-outlook": "an Outlook message file",
}
_UNCOVERED_NAMES = {
    "winmail.dat": "a winmail.dat container",
    ".rtf": "rich text",
    ".msg": "an Outlook message file",
    ".eml": "an attached message",
    ".url": "an internet shortcut",
    ".webloc": "an internet shortcut",
    ".lnk": "a shortcut",
    ".zip": "an archive",
    ".rar": "an archive",
    ".7z": "an archive",
    ".iso": "a disk image",
    ".one": "a OneNote file",
}


class Role(Enum):
    """What is done with a leaf part."""

    HTML = "html"
    TEXT = "text"
    AMP = "amp"
    CALENDAR = "calendar"
    MARKUP = "markup"
    """An attachment that a browser shows: HTML, XHTML or SVG. Rewritten only where the policy says so."""
    UNCOVERED = "uncovered"
    ATTACHED_TEXT = "attached_text"
    OTHER = "other"


def role_of(part: Part) -> Role:
    """Tell what a leaf part is to the transformer."""
    kind = part.content_type
    if kind == "text/html":
        return Role.HTML
    if kind == "text/plain":
        return Role.ATTACHED_TEXT if part.disposition == "attachment" else Role.TEXT
    if kind == "text/x-amp-html":
        return Role.AMP
    if kind == "text/calendar":
        return Role.CALENDAR
    if kind in _MARKUP:
        return Role.MARKUP
    if kind in _UNCOVERED:
        return Role.UNCOVERED
    if kind in _GENERIC or kind.startswith("application/"):
        name = part.filename.lower()
        if kind in _GENERIC and name.endswith(_MARKUP_NAMES):
            return Role.MARKUP
        if name.endswith(tuple(_UNCOVERED_NAMES)):
            return Role.UNCOVERED
    return Role.OTHER


def uncovered(part: Part) -> str:
    """What an uncovered part is, in words."""
    named = _UNCOVERED.get(part.content_type)
    if named is None:
        name = part.filename.lower()
        named = next((words for ending, words in _UNCOVERED_NAMES.items() if name.endswith(ending)), "a file")
    return named
