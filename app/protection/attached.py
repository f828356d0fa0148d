"""Links in attachments that the provider keeps apart from the body (Graph): found and judged, left as they are.

Attachments of received mail cannot be changed in place at Microsoft (``PATCH`` knows no content of an attachment,
https://learn.microsoft.com/graph/api/resources/fileattachment), so a QR code in a picture stays readable there; but
nobody is left in the dark about it: the link is in the message's trace, counts when it turns bad, and the message says
what was not covered (N10).
"""

from __future__ import annotations

import dataclasses
from email.message import EmailMessage
from email.policy import SMTP

from app.messages.types import BodyResult, RewrittenLink, TransformPlan, TransformResult, TransformWarning
from app.protection.transforming import run_inspect
from connectors.base.errors import MessageGone
from connectors.base.protocol import MailboxConnector
from connectors.base.types import Attached, FetchedMessage, MimeContent

MOST_FILES = 20
MOST_BYTES_EACH = 3_000_000
MOST_BYTES = 10_000_000
_TYPES = frozenset({"application/pdf", "text/html", "application/xhtml+xml", "image/svg+xml"})
_ENDINGS = (
    ".pdf",
    ".html",
    ".htm",
    ".xhtml",
    ".svg",
    ".png",
    ".jpg",
    ".jpeg",
    ".gif",
    ".webp",
    ".bmp",
    ".tif",
    ".tiff",
)
_LEFT = "One link in an attachment was left as it is, because Microsoft 365 does not let attachments be changed."
_LEFT_MANY = "links in attachments were left as they are, because Microsoft 365 does not let attachments be changed."


def of_interest(attached: Attached) -> bool:
    """Whether a link may stand in it that a reader sees: pictures, PDF, HTML."""
    kind = attached.content_type
    return kind.startswith("image/") or kind in _TYPES or attached.name.lower().endswith(_ENDINGS)


def chosen(attached: tuple[Attached, ...]) -> tuple[list[Attached], int]:
    """Those to be read, in order, within the limits; and how many others had been of interest."""
    wanted: list[Attached] = []
    left = total = 0
    for each in attached:
        if not each.is_file:
            left += 1
        elif of_interest(each):
            if len(wanted) == MOST_FILES or each.size > MOST_BYTES_EACH or total + each.size > MOST_BYTES:
                left += 1
            else:
                wanted.append(each)
                total += each.size
    return wanted, left


async def with_attached(
    connector: MailboxConnector, fetched: FetchedMessage, result: TransformResult | BodyResult, plan: TransformPlan
) -> TransformResult | BodyResult:
    """The transformer's result with what stands in the attachments.

    Args:
        connector: Reads them.
        fetched: The message; where its content is whole, nothing is attached apart.
        result: Of its body.
        plan: Tells how links are judged; nothing is rewritten under it.

    Raises:
        ConnectorError: The provider could not be asked. An attachment that is gone meanwhile is none.
    """
    wanted, left = chosen(fetched.attached)
    warnings: list[TransformWarning] = []
    if left:
        text = "One attachment was" if left == 1 else f"{left} attachments were"
        warnings.append(
            TransformWarning(
                "attachment_not_read", "", f"{text} not looked into: attached messages, or too large, or too many."
            )
        )
    links: tuple[RewrittenLink, ...] = ()
    holder = EmailMessage(policy=SMTP)
    names: list[str] = []
    for each in wanted:
        try:
            content = await connector.read_attached(fetched.ref, each.id)
        except MessageGone:
            continue
        holder.add_attachment(content, *_media_type(each), filename=f"attachment-{len(names) + 1}{_ending(each)}")
        names.append(f"attachment {len(names) + 1}")
    if names:
        found = await run_inspect(MimeContent(holder.as_bytes()), plan, "attached")
        links = tuple(_renamed(link, names) for link in found.links)
        warnings += [warning for warning in found.warnings if warning.code != "links_left"]
    if links:
        text = _LEFT if len(links) == 1 else f"{len(links)} {_LEFT_MANY}"
        warnings.append(TransformWarning("attachment_links_left", "", text))
    if not links and not warnings:
        return result
    return dataclasses.replace(result, links=(*result.links, *links), warnings=(*result.warnings, *warnings))


def _media_type(attached: Attached) -> tuple[str, str]:
    main, _, sub = attached.content_type.partition("/")
    plain = all(
        part.isascii() and part.replace("-", "").replace("+", "").replace(".", "").isalnum() for part in (main, sub)
    )
    return (main, sub) if plain and main not in ("multipart", "message") else ("application", "octet-stream")


def _ending(attached: Attached) -> str:
    name = attached.name.lower()
    return next((ending for ending in _ENDINGS if name.endswith(ending)), "")


def _renamed(found: RewrittenLink, names: list[str]) -> RewrittenLink:
    """With the attachment's number for the part of the message that only stands for it here."""
    number = found.link.part.partition(".")[0]
    at = int(number) - 1 if number.isdigit() else -1
    part = names[at] if 0 <= at < len(names) else "attachment"
    return dataclasses.replace(found, link=dataclasses.replace(found.link, part=part))
