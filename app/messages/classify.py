"""Messages that must come out byte-identical, and by what they are recognised."""

from __future__ import annotations

import re

from app.messages.mime import Part, Structure, parse
from app.messages.mime_headers import parameter
from app.messages.types import SkipReason

_SMIME = frozenset({"application/pkcs7-mime", "application/x-pkcs7-mime"})
_RIGHTS = frozenset({"application/x-microsoft-rpmsg-message", "application/vnd.ms-rpmsg"})
_SIGNATURES = frozenset({"application/pkcs7-signature", "application/x-pkcs7-signature", "application/pgp-signature"})
_MEETING_METHODS = frozenset({"request", "reply", "cancel", "counter", "declinecounter", "add", "refresh"})
_PGP = re.compile(rb"(?m)^-----BEGIN PGP (?:SIGNED )?MESSAGE")
_PGP_TEXT = frozenset({"text/plain", "text/html"})
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
    if not raw.strip():
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
    for part in parts:
        if part.content_type in _PGP_TEXT and part.is_leaf:
            start, end = part.body_start, part.body_end
            if raw.find(b"-----BEGIN PGP ", start, end) >= 0 and _PGP.search(raw, start, end):
                return SkipReason.PGP_INLINE
    return None


def _by_type(part: Part, raw: bytes) -> SkipReason | None:
    kind = part.content_type
    if kind.startswith("text/") and kind != "text/calendar":
        return None
    if kind == "multipart/signed" or kind in _SIGNATURES:
        return SkipReason.SIGNED
    if kind == "multipart/encrypted":
        return SkipReason.ENCRYPTED
    if kind in _SMIME:
        how = parameter(part.headers.get(b"content-type", b""), b"smime-type").lower()
        return SkipReason.SIGNED if how == b"signed-data" else SkipReason.ENCRYPTED
    if kind == "multipart/report":
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
