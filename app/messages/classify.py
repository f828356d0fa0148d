"""Messages that must come out byte-identical, and by what they are recognised."""

from __future__ import annotations

import re

from app.messages.mime import Part, Structure, parse
from app.messages.mime_headers import parameter
from app.messages.types import SkipReason

_SMIME = frozenset({"application/pkcs7-mime", "application/x-pkcs7-mime"})
_RIGHTS = frozenset({"application/x-microsoft-rpmsg-message", "application/vnd.ms-rpmsg"})
# What the second part of a multipart/report is (RFC 6522): RFC 3464, 8098, 5965, 3886, 6533 and 6591.
_REPORTS = frozenset(
    {
        "message/delivery-status",
        "message/disposition-notification",
        "message/feedback-report",
        "message/tracking-status",
        "message/global-delivery-status",
        "message/global-disposition-notification",
    }
)
_MEETING_METHODS = frozenset({"request", "reply", "cancel", "counter", "declinecounter", "add", "refresh"})
_PGP = re.compile(rb"(?m)^-----BEGIN PGP (?:SIGNED )?MESSAGE")
_MEETING_CLASS = re.compile(rb"(?i)urn:content-classes:(?:calendarmessage|appointment)")
_METHOD = re.compile(rb"(?im)^METHOD:[ \t]*([A-Z]+)")


def classify(raw: bytes) -> SkipReason | None:
    """Tell why a message must not be changed.

    Args:
        raw: The message as received.

    Returns:
        The reason, or None when it may be rewritten.
    """
    return classify_parts(raw, parse(raw))


def classify_parts(raw: bytes, structure: Structure) -> SkipReason | None:
    """The same for a message whose structure is known."""
    if not raw or raw.isspace():
        return SkipReason.EMPTY
    parts = structure.walk()
    for part in parts:
        reason = _by_type(part, raw)
        if reason is not None:
            return reason
    root = structure.root
    if b"x-gm-locker" in root.headers:
        return SkipReason.CONFIDENTIAL_MODE
    content_class = root.headers.get(b"content-class", b"").lower()
    if b"rpmsg" in content_class:
        return SkipReason.RIGHTS_MANAGED
    if _MEETING_CLASS.search(content_class):
        return SkipReason.MEETING
    if not any(part.content_type == "text/html" for part in parts) and b"-----BEGIN PGP " in raw:
        for part in parts:
            if part.content_type == "text/plain" and part.is_leaf and is_armoured(raw[part.body_start : part.body_end]):
                return SkipReason.PGP_INLINE
    return None


def is_armoured(text: bytes) -> bool:
    """Whether a text is clear-signed or encrypted with inline PGP (RFC 9580 sections 6 and 7).

    Only plain text is: what is signed in HTML is what is read, which rewriting does not change. An armour that a
    sender puts beside an HTML part therefore does not keep that part from being rewritten. HTML that a server made
    of a plain text is told by `from_text.is_armoured_text`.
    """
    return b"-----BEGIN PGP " in text and _PGP.search(text) is not None


def _by_type(part: Part, raw: bytes) -> SkipReason | None:
    """Why one part keeps the whole message from being changed.

    ``multipart/report`` alone does not: advertising is sent under that type, without the machine-readable part that
    makes a report of it.
    """
    kind = part.content_type
    if kind.startswith("text/") and kind != "text/calendar":
        return None
    if kind == "multipart/signed":
        # A signature part elsewhere signs nothing that is read here: it may be that of an attached file.
        return SkipReason.SIGNED
    if kind == "multipart/encrypted":
        return SkipReason.ENCRYPTED
    if kind in _SMIME:
        how = parameter(part.headers.get(b"content-type", b""), b"smime-type").lower()
        return SkipReason.SIGNED if how == b"signed-data" else SkipReason.ENCRYPTED
    if kind in _REPORTS and part.parent is not None and part.parent.content_type == "multipart/report":
        return SkipReason.REPORT
    if kind in _RIGHTS or (kind == "application/octet-stream" and part.filename.lower().endswith(".rpmsg")):
        return SkipReason.RIGHTS_MANAGED
    if kind == "text/calendar" and _is_meeting(part, raw):
        return SkipReason.MEETING
    return None


def _is_meeting(part: Part, raw: bytes) -> bool:
    method = parameter(part.headers.get(b"content-type", b""), b"method").decode("latin-1").lower()
    if not method:
        found = _METHOD.search(raw, part.body_start, part.body_end)
        method = found[1].decode("ascii").lower() if found else ""
    return method in _MEETING_METHODS
