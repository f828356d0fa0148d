"""Attachments: their links and QR codes are reported, and what of them was not looked at is said.

None is changed but a picture or drawing whose QR code a policy wants made unreadable or replaced.
"""

from __future__ import annotations

from app.messages.candidates import Candidate
from app.messages.embedded import Pictures
from app.messages.pixel_budget import PixelBudget
from app.messages.rewrite import Writer
from app.messages.types import LinkAction, LinkKind, RewrittenLink
from app.messages.urls import TargetClass, resolve


def attachment(
    writer: Writer, pictures: Pictures, name: str, content_type: str, data: bytes, part: str
) -> bytes | None:
    """Report the links of an attachment that is not changed, and what of it was not looked at.

    Args:
        writer: Collects what is found.
        pictures: Reads codes in pictures, PDF pages and SVG drawings.
        name: File name.
        content_type: Type as declared.
        data: The file.
        part: MIME part path.

    Returns:
        What the file becomes where a QR code in it is changed; None where it stays.
    """
    from app.messages import attachments

    found = attachments.links(name, content_type, data)
    kind = LinkKind.CALENDAR if content_type == "text/calendar" else LinkKind.ATTACHMENT
    reported: set[str] = set()
    for link in found.links:
        target, url = resolve(link.url if not link.url.lower().startswith("www.") else "http://" + link.url)
        if target is TargetClass.OTHER or url in reported:
            continue
        reported.add(url)
        candidate = Candidate(0, 0, kind, target, url, "")
        judged = writer.judge.judge(candidate, url, link.url.encode("utf-8", "replace"), part, (), unsubscribe=False)
        writer.links.append(RewrittenLink(judged, LinkAction.LEAVE, None))
    for note in found.notes:
        writer.warn("not_covered", part, f"{found.kind}: {note}.")
    nothing: tuple[list[tuple[str, str]], tuple[str, ...]] = ([], ())
    codes, notes = pictures.looked(
        found.kind, part, lambda: _codes_of_document(found.kind, data, pictures.budget), nothing
    )
    for text, place in codes:
        pictures.report([text], part, f"stands in an attachment ({found.kind}, {place}), which is never changed")
    for note in notes:
        pictures.not_looked_at(found.kind, part, note)
    if found.kind == "picture":
        return pictures.picture(data, part)
    return pictures.drawing(data, part) if "SVG" in found.kind else None


def _codes_of_document(kind: str, data: bytes, budget: PixelBudget) -> tuple[list[tuple[str, str]], tuple[str, ...]]:
    """QR codes in a document by its kind, each with its place there, and what of it was not looked at."""
    if kind.startswith("PDF"):
        from app.messages.qr.pdf import find as find_pdf

        pages = find_pdf(data, budget=budget, links=False)
        return [(code.text, f"page {page + 1}") for page, code in pages.codes], pages.notes
    if kind in ("Office document", "OpenDocument file"):
        from app.messages.qr.documents import find as find_in_document

        document = find_in_document(data, budget=budget)
        return [(code.text, name[:200]) for name, code in document.codes], document.notes
    return [], ()
