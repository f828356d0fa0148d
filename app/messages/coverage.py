"""What each kind of part is to the transformer: rewritten, reported, or left without a look and said so (N10)."""

from __future__ import annotations

from enum import Enum

from app.messages.mime import Part

_MARKUP = frozenset({"image/svg+xml", "application/xhtml+xml", "application/xhtml"})
_MARKUP_NAMES = (".html", ".htm", ".xhtml", ".shtml", ".xht", ".svg")
_GENERIC = frozenset({"application/octet-stream", "application/html", "application/x-html", "application/download"})
_SHOWN = {
    "application/ms-tnef": "a winmail.dat container",
    "application/vnd.ms-tnef": "a winmail.dat container",
    "text/enriched": "enriched text",
    "text/richtext": "rich text",
    "text/rtf": "rich text",
    "application/rtf": "rich text",
}
_NO_LINKS = (
    *("audio/", "video/", "font/"),
    *("application/pkcs7-signature", "application/x-pkcs7-signature", "application/pgp-signature"),
    "application/pgp-keys",
)


class Role(Enum):
    """What is done with a leaf part."""

    HTML = "html"
    TEXT = "text"
    AMP = "amp"
    MARKUP = "markup"
    """An attachment that a browser shows: HTML, XHTML or SVG. Rewritten only where the policy says so."""
    PICTURE = "picture"
    SHOWN = "shown"
    """A part that some clients show with the message and that cannot be rewritten."""
    FILE = "file"
    NOTHING = "nothing"


def role_of(part: Part) -> Role:
    """Tell what a leaf part is to the transformer."""
    kind = part.content_type
    if kind == "text/html":
        return Role.HTML
    if kind == "text/plain":
        return Role.FILE if part.disposition == "attachment" else Role.TEXT
    if kind == "text/x-amp-html":
        return Role.AMP
    if kind in _MARKUP or (kind in _GENERIC and part.filename.lower().endswith(_MARKUP_NAMES)):
        return Role.MARKUP
    if kind.startswith("image/"):
        return Role.PICTURE
    if kind in _SHOWN or part.filename.lower() == "winmail.dat":
        return Role.SHOWN
    if kind.startswith(_NO_LINKS) or kind.startswith(("multipart/", "message/")):
        return Role.NOTHING
    return Role.FILE


def shown_as(part: Part) -> str:
    """What a part with the role SHOWN is, in words."""
    return _SHOWN.get(part.content_type, "a winmail.dat container")
