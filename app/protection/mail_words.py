"""What a mail to administrators says, in their language. Plain text; no person, no message, no address to click but
the console's own: of what turned bad only the host is named, with its dots in brackets."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from email.message import EmailMessage
from email.utils import format_datetime
from typing import Final

from app.kit.i18n import N_, translator

_TEXTS: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "incident": (
        N_("Postern: a delivered link turned out to be dangerous"),
        (
            N_("A link in mail that %(org)s has received turned out to be dangerous."),
            N_("Site: %(host)s"),
            N_("Messages with it found so far: %(messages)s"),
            N_("Found: %(at)s"),
            N_("Who received and who opened it, and what you can do about it:"),
        ),
    ),
    "revoked": (
        N_("Postern: protection has stopped"),
        (
            N_("Protection of %(org)s has stopped: the access that your organisation granted is gone."),
            N_("Since: %(at)s"),
            N_("New mail is delivered with its links as they are. Links that are protected go on working."),
            N_("What is missing, and how to go on:"),
        ),
    ),
    "blocked": (
        N_("Postern: protection has stopped"),
        (
            N_("Protection of %(org)s has stopped: a permission that it needs is missing."),
            N_("Since: %(at)s"),
            N_("New mail is delivered with its links as they are. Links that are protected go on working."),
            N_("What is missing, and how to go on:"),
        ),
    ),
    "test": (
        N_("Postern: a test mail"),
        (
            N_("This is the test mail that somebody asked for in the settings of %(org)s."),
            N_("Alerts of Postern come to this address."),
            N_("They can be changed here:"),
        ),
    ),
}
"""Kind, or status of a connector that stopped -> subject and lines."""

_PATHS: Final = {"test": "/settings#alerts", "revoked": "/connector", "blocked": "/connector"}


_DOT_RE: Final = re.compile(r"\.(?=[^\s.]{2}|\d)")
"""As in an address, not as in "S.p.A." or "Inc.": no top-level domain has one letter."""


@dataclass(frozen=True, slots=True)
class Said:
    """What a mail is about.

    Attributes:
        kind: A key of the texts: ``incident``, ``revoked``, ``blocked`` or ``test``.
        org: The organisation's name.
        at: When it happened.
        incident: Its number, for the address in the console.
        host: Of what turned bad; empty where a pattern names none.
        messages: Copies found.
    """

    kind: str
    org: str
    at: datetime
    incident: int = 0
    host: str = ""
    messages: int = 0


def defanged(host: str) -> str:
    """A host that no mail program makes a link of; a dash where there is none."""
    return _plain(host, 253).replace(".", "[.]") or "–"


def compose(said: Said, locale: str, *, recipient: str, sender: str, console_url: str, key: uuid.UUID) -> EmailMessage:
    """A mail.

    Args:
        said: What it is about.
        locale: The language.
        recipient: Its To.
        sender: Its From.
        console_url: Public address of the console.
        key: Names the mail: the same for every try, so that a doubled one is known for what it is.

    Returns:
        A message of plain text, marked as generated (RFC 3834, section 5).
    """
    subject, lines = _TEXTS[said.kind]
    speak = translator(locale, "console").gettext
    fields = {
        "org": _unlinked(_plain(said.org, 100)),
        "host": defanged(said.host),
        "messages": f"{said.messages:,}",
        "at": f"{said.at:%Y-%m-%d %H:%M} UTC",
    }
    path = f"/incidents/{said.incident}" if said.kind == "incident" else _PATHS[said.kind]
    message = EmailMessage()
    message["Subject"] = speak(subject)
    message["From"], message["To"] = sender, recipient
    message["Date"] = format_datetime(said.at)
    message["Message-ID"] = f"<{key.hex}@{sender.rpartition('@')[2]}>"
    message["Auto-Submitted"] = "auto-generated"
    message["Content-Language"] = locale
    message.set_content("\n".join([*(speak(line) % fields for line in lines), console_url.rstrip("/") + path]) + "\n")
    return message


def _unlinked(name: str) -> str:
    """A name that no mail program makes a link of: administrators choose it, and to whom its mails go."""
    return _DOT_RE.sub("[.]", name).replace("//", "/ /")


def _plain(text: str, limit: int) -> str:
    return "".join(character if character.isprintable() else " " for character in text)[:limit]
