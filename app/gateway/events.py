"""What is written to the spool: clicks and what people say on a page.

An event is made once, with its own id, and is complete: reading it needs nothing of the process that wrote it.
Everything that came over the network is cleaned here, before it is written: no control characters, no lone
surrogates, bounded lengths; so whatever shows a click later (a table, a CSV file, a terminal) gets plain text.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

VERSION: Final = 1
MAX_URL: Final = 8_192
MAX_AGENT: Final = 400
MAX_HEADER: Final = 200
MAX_REASON: Final = 300

_dumps = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def event_id() -> str:
    """A UUID of version 7 (RFC 9562, section 5.7) in hexadecimal: ordered by time, so that indexes stay dense."""
    number = (time.time_ns() // 1_000_000 & (1 << 48) - 1) << 80 | int.from_bytes(os.urandom(10), "big")
    number = number & ~(0xF << 76) | 0x7 << 76
    return f"{number & ~(0x3 << 62) | 0x2 << 62:032x}"


def plain(text: str, limit: int) -> str:
    """Text on one line without control characters and lone surrogates, cut to a length."""
    if not (text.isascii() and text.isprintable()):
        text = "".join(character if character.isprintable() else " " for character in text)
    return text[:limit]


def stored_url(url: str) -> str:
    """A URL as it is kept: control characters and lone surrogates escaped, cut at 8,192 characters."""
    if url.isascii() and url.isprintable():
        return url[:MAX_URL]
    kept = "".join(
        character
        if character.isprintable()
        else "".join(f"%{byte:02X}" for byte in character.encode("utf-8", "surrogatepass"))
        for character in url
    )
    return kept[:MAX_URL]


@dataclass(frozen=True, slots=True)
class Subject:
    """Whose link it is, from the token."""

    tenant_no: int
    mailbox_no: int
    message_no: int


def judged_part(*, url: str, host: str, level: str, action: str, rule: str, evidence: list[Mapping[str, Any]]) -> bytes:
    """The part of a click's event that is the same for every click with this verdict: JSON members."""
    members = {
        "url": stored_url(url),
        "host": plain(host, 253),
        "level": level,
        "action": action,
        "rule": plain(rule, 200),
        "evidence": evidence,
    }
    return _dumps(members)[1:-1].encode("utf-8", "replace")


def client_part(agent: str, signals: Mapping[str, str]) -> bytes:
    """The part of a click's event that says what asked: JSON members."""
    members = {
        "agent": plain(agent, MAX_AGENT),
        "signals": {name: plain(value, MAX_HEADER) for name, value in signals.items()},
    }
    return _dumps(members)[1:-1].encode("utf-8", "replace")


def click_event(
    subject: Subject,
    at: datetime,
    judged: bytes,
    client: bytes,
    address: str | None,
    *,
    number: str = "",
    page: bool = False,
    datacentre: bool = False,
) -> bytes:
    """A click, ready for the spool.

    Args:
        subject: Whose link.
        at: Aware UTC.
        judged: See :func:`judged_part`.
        client: See :func:`client_part`.
        address: Client address, where it is kept.
        number: Its id; empty: a new one.
        page: It was answered with a page that holds a picture, see :func:`seen_event`.
        datacentre: It came from a network where programs run.
    """
    head = (
        f'{{"v":{VERSION},"kind":"click","id":"{number or event_id()}","at":{at.timestamp():.6f},'
        f'"tenant":{subject.tenant_no},"mailbox":{subject.mailbox_no},"message":{subject.message_no},'
    )
    if page:
        head += '"page":true,'
    if datacentre:
        head += '"datacentre":true,'
    if address is not None:
        head += f'"address":{_dumps(plain(address, 60))},'
    return head.encode() + judged + b"," + client + b"}"


def seen_event(tenant_no: int, click_id: str, at: datetime) -> bytes:
    """That the page of a click was drawn by a browser, ready for the spool."""
    return (
        f'{{"v":{VERSION},"kind":"seen","id":"{event_id()}","at":{at.timestamp():.6f},'
        f'"tenant":{tenant_no},"click":"{click_id}"}}'
    ).encode()


def report_event(subject: Subject, at: datetime, *, kind: str, url: str, host: str, reason: str) -> bytes:
    """What a person said on a page, ready for the spool.

    Args:
        subject: Whose link.
        at: Aware UTC.
        kind: ``release``, ``mistake`` or ``harmful``.
        url: Where the link leads.
        host: Its host.
        reason: In the person's words.
    """
    return _dumps(
        {
            "v": VERSION,
            "kind": "report",
            "id": event_id(),
            "at": round(at.timestamp(), 6),
            "tenant": subject.tenant_no,
            "mailbox": subject.mailbox_no,
            "message": subject.message_no,
            "report": kind,
            "url": stored_url(url),
            "host": plain(host, 253),
            "reason": plain(reason, MAX_REASON),
        }
    ).encode("utf-8", "replace")
