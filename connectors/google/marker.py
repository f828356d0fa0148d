"""The header by which we know our own copies, and how it cannot be forged.

::

    X-Postern: v1; o=<original id>; k=<idempotency key>; mac=<base64url HMAC-SHA256>

It is the first header of an inserted copy. The MAC covers the mailbox, both values and all that follows the
header, so that a header taken from one message makes no other message pass for ours: a mail that carries a
valid marker *is* what we wrote, byte for byte but for line endings.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from dataclasses import dataclass

from connectors.base import marker_keys as base

NAME = "X-Postern"

_FIELD = re.compile(rb"([!-9;-~]+)[ \t]*:[^\r\n]*(?:\r?\n[ \t][^\r\n]*)*\r?\n")
_VALUE = re.compile(r"v1;\s*o=([\w-]{1,64});\s*k=([\w.:-]{1,64});\s*mac=([\w-]{43})")
_PREPENDED = re.compile(rb"received|x-received|x-google-[!-9;-~]+|x-gm-[!-9;-~]+", re.IGNORECASE)
_PLAIN_KEY = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
_MOST_FIELDS = 20


@dataclass(frozen=True, slots=True)
class Marked:
    """A copy that this service made.

    Attributes:
        original_id: The message it replaces.
        key: The idempotency key it was written with, as it stands in the header.
        content: What was written, without the marker and whatever Gmail put before it.
    """

    original_id: str
    key: str
    content: bytes


class MarkerKeys(base.MarkerKeys):
    """The secrets of markers, and what is done with them here."""

    __slots__ = ()

    def read(self, mailbox_id: str, raw: bytes) -> Marked | None:
        """The marker of a message, where it has one that is ours; None for everything else."""
        for key in self.all:
            if marked := read(key, mailbox_id, raw):
                return marked
        return None


def header_key(idempotency_key: str) -> str:
    """The key as it stands in the header: itself where it is plain, else a hash of it."""
    if _PLAIN_KEY.fullmatch(idempotency_key):
        return idempotency_key
    return hashlib.sha256(idempotency_key.encode()).hexdigest()


def same_but_for_line_ends(one: bytes, other: bytes) -> bool:
    """Whether two messages are equal once every line end is LF and trailing empty lines are dropped."""
    return one == other or _normal(one) == _normal(other)


def value(key: bytes, mailbox_id: str, original_id: str, idempotency_key: str, content: bytes) -> str:
    """The header's value for a copy with this content."""
    plain = header_key(idempotency_key)
    mac = _mac(key, mailbox_id, original_id, plain, content)
    return f"v1; o={original_id}; k={plain}; mac={mac}"


def stamp(key: bytes, mailbox_id: str, original_id: str, idempotency_key: str, content: bytes) -> bytes:
    """The content with our marker before it."""
    line = f"{NAME}: {value(key, mailbox_id, original_id, idempotency_key, content)}\r\n"
    return line.encode("ascii") + content


def read(key: bytes, mailbox_id: str, raw: bytes) -> Marked | None:
    """The marker of a message, where it has one that is ours; None for everything else."""
    found = _find(raw)
    if found is None:
        return None
    text, content = found
    match = _VALUE.fullmatch(text)
    if match is None:
        return None
    original_id, plain, mac = match.groups()
    if not hmac.compare_digest(mac, _mac(key, mailbox_id, original_id, plain, content)):
        return None
    return Marked(original_id, plain, content)


def claimed_value(raw: bytes) -> str:
    """The marker's value as it stands there, proving nothing; empty where there is none at the top."""
    found = _find(raw)
    return found[0] if found else ""


def without_prepended(raw: bytes, sent: bytes) -> bytes | None:
    """``raw`` without the trace headers that Gmail put before ``sent``; None where it is not that."""
    if raw == sent:
        return raw
    rest = raw
    for _ in range(_MOST_FIELDS):
        field = _FIELD.match(rest)
        if field is None or not _PREPENDED.fullmatch(field.group(1)):
            return None
        rest = rest[field.end() :]
        if same_but_for_line_ends(rest, sent):
            return rest
    return None


def _find(raw: bytes) -> tuple[str, bytes] | None:
    """The value of a marker that only trace headers precede, and what follows it."""
    position = 0
    for _ in range(_MOST_FIELDS):
        field = _FIELD.match(raw, position)
        if field is None:
            return None
        if field.group(1).lower() == NAME.lower().encode():
            text = field.group(0).partition(b":")[2].decode("ascii", "replace")
            return " ".join(text.split()), raw[field.end() :]
        if not _PREPENDED.fullmatch(field.group(1)):
            return None
        position = field.end()
    return None


def _mac(key: bytes, mailbox_id: str, original_id: str, plain: str, content: bytes) -> str:
    digest = hashlib.sha256(_normal(content)).hexdigest()
    text = "\0".join(("postern-copy-v1", mailbox_id, original_id, plain, digest))
    mac = hmac.new(key, text.encode(), hashlib.sha256).digest()
    return base64.urlsafe_b64encode(mac).rstrip(b"=").decode("ascii")


def _normal(content: bytes) -> bytes:
    return content.replace(b"\r\n", b"\n").replace(b"\r", b"\n").rstrip(b"\n")
