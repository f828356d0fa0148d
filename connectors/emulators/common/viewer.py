"""A plain webmail in which a person reads the emulated mailboxes and clicks.

One viewer serves every provider through :class:`MailboxView`. The message body is a document of its own
in a sandboxed frame: no script runs in it, its images come from the message or from loopback, and its
links open in a new tab outside the sandbox, as they do in webmail.

Addresses (relative to where the app is mounted):

* ``/`` the mailboxes
* ``/{address}/`` the messages of one, newest first, refreshed by itself; ``?place=`` shows one folder
* ``/{address}/{message id}`` one message, which marks it read
* ``/{address}/{message id}/body`` the document in the frame
* ``/{address}/{message id}/source`` the RFC 5322 text
* ``/{address}/{message id}/attachments/{n}`` a download
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol, runtime_checkable
from urllib.parse import quote, unquote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

_HERE = Path(__file__).parent

PAGE_CSP = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "frame-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The viewer's own pages: nothing inline, nothing from elsewhere."""

BODY_CSP = (
    "default-src 'none'; style-src 'unsafe-inline'; font-src data:; "
    "img-src data: 'self' http://127.0.0.1:* http://localhost:* http://*.localhost:*; "
    "form-action 'none'; frame-ancestors 'self'; "
    "sandbox allow-popups allow-popups-to-escape-sandbox"
)
"""The mail's document: no script at all, and images from the message or from loopback only."""


APART = ("Trash", "Spam", "Deleted Items", "Junk Email")
"""Places that "All" leaves out, as mail clients do; each has its own list."""


@dataclass(frozen=True, slots=True)
class ViewMailbox:
    """A mailbox in the list. ``unread`` counts messages."""

    address: str
    name: str
    unread: int


@dataclass(frozen=True, slots=True)
class ViewMessage:
    """A line of the message list.

    Attributes:
        id: The provider's id; letters, digits, ``-``, ``_`` and ``=`` only.
        sender: Name, or address where there is no name.
        received_at: With time zone.
        place: Folder or label a person knows: ``Inbox``, ``Junk``, ``Quarantine`` ...
        preview: The first words of the text.
    """

    id: str
    subject: str
    sender: str
    received_at: datetime
    is_read: bool
    place: str
    preview: str


@dataclass(frozen=True, slots=True)
class ViewAttachment:
    """An attachment or inline part. ``content_id`` is without angle brackets, or None."""

    name: str
    content_type: str
    content: bytes
    inline: bool = False
    content_id: str | None = None


@dataclass(frozen=True, slots=True)
class ViewMessageDetail:
    """One message as the mailbox holds it now.

    Attributes:
        html: The HTML body, or None.
        text: The text body, shown where there is no HTML, or None.
        raw: The whole RFC 5322 message where the provider has it, else None.
    """

    message: ViewMessage
    recipients: tuple[str, ...]
    html: str | None
    text: str | None
    attachments: tuple[ViewAttachment, ...] = ()
    raw: bytes | None = None


@runtime_checkable
class MailboxView(Protocol):
    """What the viewer needs of an emulated provider. Addresses are compared without regard to case."""

    @property
    def provider(self) -> str:
        """``microsoft`` or ``google``: part of the viewer's address."""

    @property
    def title(self) -> str:
        """What a person calls it, e.g. ``Nordwind Logistik (Microsoft 365)``."""

    def mailboxes(self) -> list[ViewMailbox]:
        """All mailboxes, in the order to show."""

    def messages(self, address: str) -> list[ViewMessage]:
        """Messages of all visible folders, newest first.

        Raises:
            KeyError: There is no such mailbox.
        """

    def message(self, address: str, message_id: str) -> ViewMessageDetail:
        """One message.

        Raises:
            KeyError: There is no such mailbox or message (any more).
        """

    def mark_read(self, address: str, message_id: str) -> None:
        """The person opened it.

        Raises:
            KeyError: There is no such mailbox or message (any more).
        """


def create_viewer(view: MailboxView) -> Starlette:
    """The viewer for one provider as an ASGI app, to be mounted anywhere."""
    pages = _Pages(view)
    return Starlette(
        routes=[
            Route("/", pages.mailboxes),
            Mount("/static", StaticFiles(directory=_HERE / "static")),
            Route("/{address}/", pages.messages),
            Route("/{address}/{message_id}", pages.message),
            Route("/{address}/{message_id}/body", pages.body),
            Route("/{address}/{message_id}/source", pages.source),
            Route("/{address}/{message_id}/attachments/{number:int}", pages.attachment),
        ]
    )


_templates = Environment(loader=FileSystemLoader(_HERE / "templates"), autoescape=True, undefined=StrictUndefined)


class _Pages:
    def __init__(self, view: MailboxView) -> None:
        self._view = view

    def _page(self, request: Request, template: str, status: int = 200, **values: object) -> Response:
        text = _templates.get_template(template).render(
            base=request.scope.get("root_path", ""), title=self._view.title, path=_segment, **values
        )
        return HTMLResponse(text, status, headers=_headers(PAGE_CSP))

    def _gone(self, request: Request, what: str) -> Response:
        return self._page(request, "viewer_gone.html", 404, what=what)

    async def mailboxes(self, request: Request) -> Response:
        return self._page(request, "viewer_mailboxes.html", mailboxes=self._view.mailboxes())

    async def messages(self, request: Request) -> Response:
        address = request.path_params["address"]
        try:
            messages = self._view.messages(address)
        except KeyError:
            return self._gone(request, f"There is no mailbox {address}.")
        place = request.query_params.get("place")
        places = sorted({message.place for message in messages})
        everywhere = [message for message in messages if message.place not in APART]
        shown = everywhere if place is None else [message for message in messages if message.place == place]
        template = "viewer_list.html" if "fragment" in request.query_params else "viewer_messages.html"
        return self._page(
            request,
            template,
            address=address,
            messages=shown,
            places=places,
            place=place,
            total=len(everywhere),
        )

    async def message(self, request: Request) -> Response:
        address, message_id = request.path_params["address"], request.path_params["message_id"]
        try:
            self._view.mark_read(address, message_id)
            detail = self._view.message(address, message_id)
        except KeyError:
            return self._gone(request, "This message is not in the mailbox any more.")
        return self._page(request, "viewer_message.html", address=address, detail=detail)

    async def body(self, request: Request) -> Response:
        try:
            detail = self._view.message(request.path_params["address"], request.path_params["message_id"])
        except KeyError:
            return PlainTextResponse("This message is not in the mailbox any more.", 404)
        return HTMLResponse(body_document(detail), headers=_headers(BODY_CSP))

    async def source(self, request: Request) -> Response:
        try:
            detail = self._view.message(request.path_params["address"], request.path_params["message_id"])
        except KeyError:
            return PlainTextResponse("This message is not in the mailbox any more.", 404)
        if detail.raw is None:
            return PlainTextResponse("The provider does not give the source of this message.", 404)
        # latin-1 keeps every octet of an 8-bit message visible, whatever charsets its parts use.
        return PlainTextResponse(detail.raw.decode("latin-1"), headers=_headers("default-src 'none'; sandbox"))

    async def attachment(self, request: Request) -> Response:
        try:
            detail = self._view.message(request.path_params["address"], request.path_params["message_id"])
            attachment = detail.attachments[request.path_params["number"]]
        except (KeyError, IndexError):
            return PlainTextResponse("This attachment is not in the mailbox any more.", 404)
        headers = _headers("default-src 'none'; sandbox")
        headers["Content-Disposition"] = f"attachment; filename*=UTF-8''{quote(attachment.name, safe='')}"
        return Response(attachment.content, headers=headers, media_type="application/octet-stream")


def _headers(csp: str) -> dict[str, str]:
    return {
        "Content-Security-Policy": csp,
        "Cache-Control": "no-store",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }


def _segment(value: str) -> str:
    return quote(value, safe="")


_LEADING_DOCTYPE = re.compile(r"\A\s*<!doctype[^>]*>", re.IGNORECASE)
_CID = re.compile(r"""(?P<before>(?:=\s*["']?|url\(\s*["']?))cid:(?P<id>[^"'\s>)]+)""", re.IGNORECASE)


def body_document(detail: ViewMessageDetail) -> str:
    """The document shown in the frame.

    ``<base target="_blank">`` comes first, so that links open in a new tab (HTML Standard, "the base
    element": the first one with a target counts); it changes no address. ``cid:`` images (RFC 2392)
    become ``data:`` addresses from the message's own parts.
    """
    base = '<meta charset="utf-8"><base target="_blank">'
    if detail.html is None:
        text = linkify(detail.text or "")
        return f'<!doctype html>{base}<pre style="white-space:pre-wrap;font:14px/1.5 sans-serif">{text}</pre>'
    parts = {
        attachment.content_id: attachment for attachment in detail.attachments if attachment.content_id is not None
    }

    def data_address(match: re.Match[str]) -> str:
        part = parts.get(unquote(match["id"]))
        if part is None:
            return match[0]
        encoded = base64.b64encode(part.content).decode("ascii")
        return f"{match['before']}data:{part.content_type};base64,{encoded}"

    html = _CID.sub(data_address, detail.html)
    doctype = _LEADING_DOCTYPE.match(html)
    cut = doctype.end() if doctype else 0
    return f"{html[:cut]}{base}{html[cut:]}"


_ADDRESS = re.compile(r"https?://[^\s<>\"]+", re.IGNORECASE)
_TRAILING = ".,;:!?'\")]}>。、」』）"


def linkify(text: str) -> Markup:
    """Plain text as HTML with its http(s) addresses made links, without trailing punctuation."""
    out: list[str] = []
    end = 0
    for match in _ADDRESS.finditer(text):
        address = match[0].rstrip(_TRAILING)
        # A closing bracket belongs to the address when the opening one does.
        if match[0][len(address) : len(address) + 1] == ")" and address.count("(") > address.count(")"):
            address += ")"
        out.append(str(escape(text[end : match.start()])))
        out.append(f'<a href="{escape(address)}" rel="noreferrer">{escape(address)}</a>')
        end = match.start() + len(address)
    out.append(str(escape(text[end:])))
    return Markup("".join(out))  # noqa: S704  # every piece was escaped above
