"""Codes in the pictures inside Office and OpenDocument files.

A code in a Word file is a picture in the package's media folder. The pictures are taken out within limits and read
like any other; the page they stand on is not drawn.

Reference: ECMA-376 part 2 (Open Packaging Conventions), OpenDocument 1.3 part 2.
"""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from typing import Final

from app.messages.attachment_office import unpacked
from app.messages.pixel_budget import SPENT, PixelBudget
from app.messages.qr.images import pixels, scan
from app.messages.qr.svg import scan_svg
from app.messages.qr.types import QrCode, QrLimits

_LIMITS: Final = QrLimits()
_ENDINGS: Final = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".gif", ".webp", ".bmp", ".svg")
_OTHER_PICTURES: Final = (".emf", ".wmf", ".tif", ".tiff", ".emz", ".wmz", ".heic", ".avif", ".jxl", ".wdp")
_MAX_MEMBERS: Final = 4_000
_MAX_PICTURES: Final = 60
_MAX_UNPACKED: Final = 60_000_000


@dataclass(frozen=True, slots=True)
class DocumentScan:
    """The codes of a document's pictures.

    Attributes:
        codes: Name of the picture inside the document, and the code in that picture's pixels.
        notes: One short sentence for each thing that was not covered.
    """

    codes: tuple[tuple[str, QrCode], ...] = ()
    notes: tuple[str, ...] = ()


def find(data: bytes, limits: QrLimits = _LIMITS, budget: PixelBudget | None = None) -> DocumentScan:
    """Find the codes in the pictures of a ZIP-based document.

    Args:
        data: An Office Open XML or OpenDocument file.
        limits: What may be decoded.
        budget: How many more pixels may be looked at; None for no other bound than `limits`.

    Returns:
        The codes with the pictures they stand in; nothing for a file that is no such document. Never raises.
    """
    if not data.startswith(b"PK\x03\x04"):
        return DocumentScan()
    if len(data) > limits.max_bytes:
        return DocumentScan(notes=(f"the document is larger than {limits.max_bytes} bytes",))
    try:
        package = zipfile.ZipFile(io.BytesIO(data))
        members = package.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError):
        return DocumentScan(notes=("the document is damaged",))
    names = {member.filename for member in members}
    if "[Content_Types].xml" not in names and "META-INF/manifest.xml" not in names:
        return DocumentScan()
    notes: dict[str, None] = {}
    if len(members) > _MAX_MEMBERS:
        notes[f"only the first {_MAX_MEMBERS} parts of {len(members)} were looked at"] = None
    found: list[tuple[str, QrCode]] = []
    left = _MAX_UNPACKED
    pictures = 0
    for member in members[:_MAX_MEMBERS]:
        name = member.filename
        lower = name.lower()
        if lower.endswith(_OTHER_PICTURES):
            notes["pictures of formats that are not read (such as EMF) were not looked at"] = None
        if not lower.endswith(_ENDINGS):
            continue
        pictures += 1
        if pictures > _MAX_PICTURES:
            notes[f"only the first {_MAX_PICTURES} pictures were looked at"] = None
            break
        picture = unpacked(package, member, min(left, limits.max_bytes))
        if picture is None:
            notes["pictures that are damaged or unpack to too much were not looked at"] = None
            continue
        left -= len(picture)
        if lower.endswith(".svg"):
            result = scan_svg(picture, limits, budget)
        elif budget is None or budget.take(pixels(picture, limits)):
            result = scan(picture, limits)
        else:
            notes[SPENT] = None
            break
        found += [(name, code) for code in result.codes]
        notes |= {f"{name}: {note}": None for note in result.notes}
    return DocumentScan(tuple(found[: limits.max_codes]), tuple(notes))
