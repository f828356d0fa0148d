"""Codes and links in PDF documents.

Pages are rendered to at most a given number of pixels and read like pictures; links come from annotations and
from addresses in the text. PDFium may only be used by one thread at a time, so calls wait for each other.

References:
    ISO 32000-1, 12.5.6.5 (link annotations) and 12.6.4.7 (URI actions).
    https://pdfium.googlesource.com/pdfium/+/main/public/fpdf_doc.h and fpdf_text.h.
"""

from __future__ import annotations

import ctypes
import math
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

import cv2
import numpy as np
import pypdfium2
import pypdfium2.raw as pdfium

from app.messages.pixel_budget import SPENT, PixelBudget
from app.messages.qr.finder import CROWDED, look
from app.messages.qr.types import QrCode, QrLimits, reading_order

_LIMITS: Final = QrLimits()
_LOCK: Final = threading.Lock()
_DOTS_PER_INCH: Final = 200
_MAX_LINKS: Final = 5_000
_MAX_URL_BYTES: Final = 65_536


@dataclass(frozen=True, slots=True)
class PdfLink:
    """A link of a page.

    Attributes:
        url: Where it leads.
        page: The page, from 0.
        source: ``annotation`` for a clickable area, ``text`` for an address that viewers make clickable.
    """

    url: str
    page: int
    source: Literal["annotation", "text"]


@dataclass(frozen=True, slots=True)
class PdfScan:
    """The codes and links of a document.

    Attributes:
        codes: Page (from 0) and code; corners are in the rendered page's pixels.
        links: The links.
        pages: How many pages the document has.
        notes: One short sentence for each thing that was not covered.
        encrypted: Whether a password is needed.
    """

    codes: tuple[tuple[int, QrCode], ...] = ()
    links: tuple[PdfLink, ...] = ()
    pages: int = 0
    notes: tuple[str, ...] = ()
    encrypted: bool = False


def find(
    data: bytes,
    limits: QrLimits = _LIMITS,
    budget: PixelBudget | None = None,
    *,
    codes: bool = True,
    links: bool = True,
) -> PdfScan:
    """Find the codes and links of a PDF document.

    Args:
        data: The PDF file.
        limits: What may be looked at.
        budget: How many more pixels may be rendered; None for no other bound than `limits`.
        codes: Whether pages are rendered to look for codes.
        links: Whether links are collected.

    Returns:
        What was found, and what was not covered. Never raises.
    """
    if len(data) > limits.max_bytes:
        return PdfScan(notes=(f"the document is larger than {limits.max_bytes} bytes",))
    with _LOCK:
        try:
            document = pypdfium2.PdfDocument(data)
        except pypdfium2.PdfiumError as error:
            if "password" in str(error).lower():
                return PdfScan(notes=("the document is encrypted",), encrypted=True)
            return PdfScan(notes=("the document is damaged or no PDF",))
        try:
            return _scan(document, limits, budget, codes, links)
        finally:
            document.close()


def _scan(
    document: pypdfium2.PdfDocument, limits: QrLimits, budget: PixelBudget | None, codes: bool, links: bool
) -> PdfScan:
    pages = len(document)
    notes: list[str] = []
    found: list[tuple[int, QrCode]] = []
    hyperlinks: list[PdfLink] = []
    damaged = 0
    for number in range(min(pages, limits.max_pages)):
        try:
            page = document[number]
        except pypdfium2.PdfiumError:
            damaged += 1
            continue
        try:
            if links and len(hyperlinks) < _MAX_LINKS:
                hyperlinks += _annotations(document, page, number)
                hyperlinks += _text_links(page, number)
            if codes:
                on_page, note = _codes(page, limits, budget)
                found += [(number, code) for code in on_page]
                if note and note not in notes:
                    notes.append(note)
        except (pypdfium2.PdfiumError, cv2.error, MemoryError):
            damaged += 1
        finally:
            page.close()
    if pages > limits.max_pages:
        notes.append(f"only the first {limits.max_pages} of {pages} pages were looked at")
    if damaged:
        notes.append(f"{damaged} damaged pages could not be looked at")
    if len(hyperlinks) >= _MAX_LINKS:
        notes.append(f"only the first {_MAX_LINKS} links were collected")
    return PdfScan(tuple(found[: limits.max_codes]), tuple(dict.fromkeys(hyperlinks[:_MAX_LINKS])), pages, tuple(notes))


def _codes(page: pypdfium2.PdfPage, limits: QrLimits, budget: PixelBudget | None) -> tuple[tuple[QrCode, ...], str]:
    """Return the codes of a page, and what was not covered, if anything."""
    width, height = page.get_size()
    if not (width > 0 and height > 0 and math.isfinite(width) and math.isfinite(height)):
        return (), ""
    scale = min(_DOTS_PER_INCH / 72, math.sqrt(limits.max_page_pixels / (width * height)), 20_000 / max(width, height))
    if budget is not None and not budget.take(math.ceil(width * scale) * math.ceil(height * scale)):
        return (), SPENT
    bitmap = page.render(scale=scale, grayscale=True)
    try:
        pixels = np.array(bitmap.to_numpy(), np.uint8)
    finally:
        bitmap.close()
    plane = pixels[:, :, 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels
    codes, crowded = look(np.ascontiguousarray(plane), limits.max_codes)
    return reading_order(codes), f"a page: {CROWDED}" if crowded else ""


def _annotations(document: pypdfium2.PdfDocument, page: pypdfium2.PdfPage, number: int) -> Iterator[PdfLink]:
    """Yield the targets of link annotations with a URI action."""
    position = ctypes.c_int(0)
    link = pdfium.FPDF_LINK()
    for _ in range(_MAX_LINKS):
        if not pdfium.FPDFLink_Enumerate(page.raw, ctypes.byref(position), ctypes.byref(link)):
            return
        action = pdfium.FPDFLink_GetAction(link)
        if not action or pdfium.FPDFAction_GetType(action) != pdfium.PDFACTION_URI:
            continue
        size = pdfium.FPDFAction_GetURIPath(document.raw, action, None, 0)
        if not 1 < size <= _MAX_URL_BYTES:
            continue
        buffer = ctypes.create_string_buffer(size)
        pdfium.FPDFAction_GetURIPath(document.raw, action, buffer, size)
        # 7-bit ASCII by the standard, UTF-8 or Latin-1 in practice.
        raw = buffer.raw[: size - 1]
        try:
            url = raw.decode("utf-8")
        except UnicodeDecodeError:
            url = raw.decode("latin-1")
        yield PdfLink(url.strip("\x00 \r\n\t"), number, "annotation")


def _text_links(page: pypdfium2.PdfPage, number: int) -> Iterator[PdfLink]:
    """Yield the addresses that PDFium recognises in a page's text, as viewers do."""
    text = page.get_textpage()
    try:
        links = pdfium.FPDFLink_LoadWebLinks(text.raw)
        if not links:
            return
        try:
            for index in range(min(pdfium.FPDFLink_CountWebLinks(links), _MAX_LINKS)):
                size = pdfium.FPDFLink_GetURL(links, index, None, 0)
                if not 1 < size <= _MAX_URL_BYTES:
                    continue
                buffer = (ctypes.c_ushort * size)()
                pdfium.FPDFLink_GetURL(links, index, buffer, size)
                url = bytes(buffer).decode("utf-16-le", "replace").strip("\x00 \r\n\t")
                yield PdfLink(url, number, "text")
        finally:
            pdfium.FPDFLink_CloseWebLinks(links)
    finally:
        text.close()
