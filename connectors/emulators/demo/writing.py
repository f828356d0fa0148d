"""What the demo's letters are made with: the scene, real MIME in many encodings, plain HTML."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from html import escape

from connectors.emulators.demo.organisations import Recipient

_POLICY = SMTP.clone(max_line_length=998)


@dataclass(frozen=True, slots=True)
class Scene:
    """To whom, when, and where the demo's websites are.

    Attributes:
        number: Different for every letter; makes ids and subjects differ.
        port: Of the emulators, for links to ``*.localhost``.
    """

    to: Recipient
    now: datetime
    number: int
    random: random.Random
    port: int

    def url(self, site: str, path: str = "/") -> str:
        """An address on one of the demo's websites."""
        return f"http://{site}.localhost:{self.port}{path}"

    def token(self, length: int = 32) -> str:
        """Something that looks like a single-use token."""
        return "".join(self.random.choices("ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnpqrstuvwxyz23456789", k=length))

    @property
    def first_name(self) -> str:
        """For the salutation."""
        return self.to.name.partition(" ")[0]


Letter = Callable[[Scene], bytes]


def start(scene: Scene, sender_name: str, sender: str, subject: str) -> EmailMessage:
    """A message with the headers that every delivered mail has."""
    message = EmailMessage(policy=_POLICY)
    host = sender.rpartition("@")[2]
    message["Received"] = (
        f"from mail.{host} (mail.{host} [192.0.2.{scene.number % 250 + 1}]) by mx.{scene.to.address.rpartition('@')[2]}"
        f" with ESMTPS id {scene.number:08x}; {format_datetime(scene.now)}"
    )
    message["From"] = Address(sender_name, addr_spec=sender)
    message["To"] = Address(scene.to.name, addr_spec=scene.to.address)
    message["Subject"] = subject
    message["Date"] = format_datetime(scene.now)
    message["Message-ID"] = f"<{scene.number}.{scene.random.getrandbits(48):x}@{host}>"
    return message


def both(
    message: EmailMessage, text: str, html: str, *, charset: str = "utf-8", cte: str = "quoted-printable"
) -> EmailMessage:
    """multipart/alternative with text and HTML."""
    message.set_content(text, charset=charset, cte=cte)
    message.add_alternative(html, subtype="html", charset=charset, cte=cte)
    return message


def only_html(message: EmailMessage, html: str, *, charset: str = "utf-8", cte: str = "base64") -> EmailMessage:
    """A single HTML part."""
    message.set_content(html, subtype="html", charset=charset, cte=cte)
    return message


def only_text(message: EmailMessage, text: str, *, charset: str = "utf-8", cte: str = "8bit") -> EmailMessage:
    """A single text part."""
    message.set_content(text, charset=charset, cte=cte)
    return message


def octets(message: EmailMessage) -> bytes:
    """RFC 5322 with CRLF."""
    return message.as_bytes(policy=_POLICY)


def link(address: str, text: str | None = None) -> str:
    """An HTML link; without a text it shows its address."""
    return f'<a href="{escape(address)}">{escape(text or address)}</a>'


def button(address: str, text: str) -> str:
    """A link that looks like a button."""
    style = "display:inline-block;background:#1f5fbf;color:#ffffff;padding:10px 18px;border-radius:6px"
    return f'<p><a href="{escape(address)}" style="{style};text-decoration:none">{escape(text)}</a></p>'


def page(*paragraphs: str, language: str = "en", colour: str = "#1f5fbf", heading: str = "") -> str:
    """An HTML mail in the usual table layout. Paragraphs are HTML already."""
    title = f'<h1 style="font-size:20px;color:{colour};margin:0 0 12px">{escape(heading)}</h1>' if heading else ""
    body = "\n".join(each if each.startswith("<") else f"<p>{each}</p>" for each in paragraphs)
    return (
        f'<!DOCTYPE html>\n<html lang="{language}">\n<head>\n<meta charset="utf-8">\n</head>\n'
        '<body style="margin:0;background:#f4f4f4">\n<table role="presentation" width="100%"><tr><td align="center">\n'
        '<table role="presentation" width="600" style="background:#ffffff;font-family:Arial,sans-serif;font-size:15px">'
        f'<tr><td style="padding:24px">\n{title}\n{body}\n</td></tr></table>\n</td></tr></table>\n</body>\n</html>\n'
    )
