"""Links in attachments that the provider keeps apart from the body (Graph): found, judged, and where possible changed.

An attachment of received mail cannot be written to at Microsoft (``PATCH`` knows no content of one,
https://learn.microsoft.com/graph/api/resources/fileattachment), but another one can be put in its place. So a picture
with a QR code is repainted where the organisation's policy says so and its mail takes that
(:mod:`app.protection.swapping`); everything else stays as it is. Nobody is left in the dark about it: the link is in
the message's trace, counts when it turns bad, and the message says what was not covered (N10).
"""

from __future__ import annotations

import dataclasses
import email
import email.policy
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from email.message import EmailMessage

from app.messages.types import BodyResult, LinkAction, RewrittenLink, TransformPlan, TransformResult, TransformWarning
from app.messages.undo_attached import KeptFile
from app.protection.transforming import run_inspect, run_transform
from connectors.base.errors import MessageGone
from connectors.base.protocol import MailboxConnector
from connectors.base.types import Attached, AttachedFile, AttachmentSwap, FetchedMessage, MimeContent

MOST_FILES = 20
MOST_BYTES_EACH = 3_000_000
"""A larger one could not be put back in one request, either ("under 3 MB")."""
MOST_BYTES = 10_000_000
_NO_LINKS = (
    *("audio/", "video/", "font/"),
    *("application/pkcs7", "application/x-pkcs7", "application/pgp-", "application/x-microsoft-rpmsg-message"),
    "multipart/",  # the source of a signed message, whose text is the body
)
_SHOWN = ("image/", "application/pdf", "text/html", "application/xhtml+xml")
_MOST_NAMES = 5
_LONGEST_NAME = 80
_BY_POLICY = "The organisation's policy has codes reported, and changes no attachment."
_BY_KIND = (
    "Only codes in pictures and SVG files are changed, and HTML and SVG files where the policy says so; what a list of "
    "the organisation leaves stays, too."
)


@dataclass(frozen=True, slots=True)
class Looked:
    """What stands in a message's attachments, and what is to be done about it.

    Attributes:
        links: Found in them; their part is ``attachment N``, counted as the message lists them.
        warnings: What was not covered.
        swaps: Which files get another one in their place.
        kept: What those were, in the same order.
        settled: What an earlier try has swapped already.
    """

    links: tuple[RewrittenLink, ...] = ()
    warnings: tuple[TransformWarning, ...] = ()
    swaps: tuple[AttachmentSwap, ...] = ()
    kept: tuple[KeptFile, ...] = ()
    settled: tuple[KeptFile, ...] = ()

    @property
    def changes(self) -> bool:
        """Whether an attachment is to be changed, or was."""
        return bool(self.kept or self.settled)

    def beside(self, result: TransformResult | BodyResult) -> TransformResult | BodyResult:
        """A body's result with what stands in the attachments."""
        if not self.links and not self.warnings:
            return result
        return dataclasses.replace(
            result, links=(*result.links, *self.links), warnings=(*result.warnings, *self.warnings)
        )


NOTHING = Looked()


def of_interest(attached: Attached) -> bool:
    """Whether a link may stand in it that can be read: anything but sound, film, fonts, signatures and ciphers."""
    return not attached.content_type.startswith(_NO_LINKS)


def chosen(attached: Sequence[Attached]) -> tuple[list[tuple[int, Attached]], list[Attached]]:
    """Those to be read, with their places from 1 on, within the limits; and the others that had been of interest.

    Pictures, PDF and HTML come first: they are what a reader sees without further ado.
    """
    wanted: list[tuple[int, Attached]] = []
    left: list[Attached] = []
    total = 0
    numbered = [(at, each) for at, each in enumerate(attached, 1) if not each.is_file or of_interest(each)]
    for at, each in sorted(numbered, key=lambda one: not one[1].content_type.startswith(_SHOWN)):
        fits = each.is_file and each.size <= MOST_BYTES_EACH and total + each.size <= MOST_BYTES
        if not fits or len(wanted) == MOST_FILES:
            left.append(each)
        else:
            wanted.append((at, each))
            total += each.size
    return sorted(wanted, key=lambda one: one[0]), left


async def look(
    connector: MailboxConnector, fetched: FetchedMessage, plan: TransformPlan, *, paint: bool, fixed: str = ""
) -> Looked:
    """Look into the attachments.

    Args:
        connector: Reads them.
        fetched: The message; where its content is whole, nothing is attached apart.
        plan: Tells how links are judged and, with ``paint``, what becomes of them.
        paint: Whether files may be changed. Else everything is only reported.
        fixed: Why not, where it is not the policy that says so.

    Raises:
        ConnectorError: The provider could not be asked. An attachment that is gone meanwhile is none.
    """
    wanted, left = chosen(fetched.attached)
    warnings = [_not_read(left)] if left else []
    files: list[tuple[int, Attached, AttachedFile]] = []
    for at, each in wanted:
        try:
            files.append((at, each, await connector.read_attached(fetched.ref, each.id)))
        except MessageGone:
            continue
    if not files:
        return Looked(warnings=tuple(warnings))
    holder = MimeContent(_holder(files))
    if paint:
        result = await run_transform(holder, plan)
    else:
        result = await run_inspect(holder, plan, "attached")
    links = tuple(_placed(link, files) for link in result.links)
    warnings += [
        dataclasses.replace(warning, part=_part(warning.part, files))
        for warning in result.warnings
        if warning.code != "links_left"
    ]
    swaps, kept = [], []
    twins = {(each.name, each.size) for each in left}
    contents = _contents(result.content, len(files)) if result.changed and isinstance(result.content, bytes) else ()
    for (at, each, file), content in zip(files, contents, strict=False):
        if content == file.content:
            continue
        part = f"attachment {at}"
        if len(content) >= MOST_BYTES_EACH or (each.name, each.size) in twins:
            links = as_left(links, {part})
            why = "changed it would be too large" if len(content) >= MOST_BYTES_EACH else "it is attached several times"
            warnings.append(_not_changed(part, f"{_shown(each.name)}: {why}."))
            continue
        gateway_links = sum(1 for link in links if link.link.part == part and link.gateway_url is not None)
        swaps.append(AttachmentSwap(dataclasses.replace(file, content=content), _sha256(file.content), each.id))
        kept.append(kept_of(file, _sha256(content), gateway_links, part))
    readable = sorted({link.link.part for link in links if link.action is LinkAction.LEAVE}, key=_number)
    if readable:
        names = {f"attachment {at}": each.name for at, each, _ in files}
        why = _BY_KIND if paint else fixed or _BY_POLICY
        count = sum(1 for link in links if link.action is LinkAction.LEAVE)
        warnings.append(_links_left(count, [names.get(part, "") for part in readable], why))
    return Looked(links, tuple(warnings), tuple(swaps), tuple(kept))


def kept_of(file: AttachedFile, became: bytes, links: int, part: str) -> KeptFile:
    """A file for the undo record."""
    return KeptFile(
        name=file.name,
        content_type=file.content_type,
        content_id=file.content_id,
        is_inline=file.is_inline,
        content=file.content,
        became=became,
        links=links,
        part=part,
    )


def as_left(links: tuple[RewrittenLink, ...], parts: set[str]) -> tuple[RewrittenLink, ...]:
    """The links with those of some attachments left as they are."""
    return tuple(
        RewrittenLink(link.link, LinkAction.LEAVE, None) if link.link.part in parts else link for link in links
    )


def _sha256(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


def _holder(files: Sequence[tuple[int, Attached, AttachedFile]]) -> bytes:
    """A message of our own with nothing but the attachments, for the transformer."""
    holder = EmailMessage(policy=email.policy.SMTP)
    for number, (_, each, file) in enumerate(files, 1):
        holder.add_attachment(file.content, *_media_type(each), filename=f"attachment-{number}{_ending(each)}")
    return holder.as_bytes()


def _contents(message: bytes, files: int) -> list[bytes]:
    """The files of such a message, in their order."""
    leaves = [part for part in email.message_from_bytes(message).walk() if not part.is_multipart()]
    contents = [part.get_payload(decode=True) for part in leaves]
    if len(contents) != files or not all(isinstance(content, bytes) for content in contents):
        raise ValueError("the message that holds the attachments came back with other parts")
    return [content for content in contents if isinstance(content, bytes)]


def _media_type(attached: Attached) -> tuple[str, str]:
    main, _, sub = attached.content_type.partition("/")
    plain = all(
        part.isascii() and part.replace("-", "").replace("+", "").replace(".", "").isalnum() for part in (main, sub)
    )
    return (main, sub) if plain and main not in ("multipart", "message") else ("application", "octet-stream")


def _ending(attached: Attached) -> str:
    _, dot, ending = attached.name.lower().rpartition(".")
    return f".{ending}" if dot and ending.isascii() and ending.isalnum() and len(ending) <= 10 else ""


def _placed(found: RewrittenLink, files: Sequence[tuple[int, Attached, AttachedFile]]) -> RewrittenLink:
    """With the attachment's number for the part of the message that only stands for it here."""
    return dataclasses.replace(found, link=dataclasses.replace(found.link, part=_part(found.link.part, files)))


def _part(path: str, files: Sequence[tuple[int, Attached, AttachedFile]]) -> str:
    number = path.partition(".")[0]
    at = int(number) - 1 if number.isdigit() else -1
    return f"attachment {files[at][0]}" if 0 <= at < len(files) else "attachment"


def _number(part: str) -> int:
    number = part.rpartition(" ")[2]
    return int(number) if number.isdigit() else 0


def _shown(name: str) -> str:
    """A file's name in a sentence."""
    plain = "".join(character if character.isprintable() else "?" for character in name)
    return (plain[: _LONGEST_NAME - 1] + "…" if len(plain) > _LONGEST_NAME else plain) or "without a name"


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(_shown(name) for name in names[:_MOST_NAMES])
    return f"{shown} and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else shown


def _not_read(left: Sequence[Attached]) -> TransformWarning:
    text = "One attachment was" if len(left) == 1 else f"{len(left)} attachments were"
    names = _listed([each.name for each in left])
    return TransformWarning(
        "attachment_not_read", "", f"{text} not looked into (attached messages, or too large, or too many): {names}."
    )


def _links_left(count: int, names: Sequence[str], why: str) -> TransformWarning:
    text = "One link in an attachment was" if count == 1 else f"{count} links in attachments were"
    return TransformWarning("attachment_links_left", "", f"{text} left as it stands: {_listed(names)}. {why}")


def _not_changed(part: str, why: str) -> TransformWarning:
    return TransformWarning("attachment_not_changed", part, f"An attachment was left as it is. {why}")


def not_changed(kept: KeptFile, why: str) -> TransformWarning:
    """Says that a file could not be changed, and why."""
    return _not_changed(kept.part, f"{_shown(kept.name)}: {why}")
