"""An SVG drawing that stands in the place of one with a code.

A drawing is written anew as a whole: what a code in it is drawn with (shapes, pictures, definitions, style rules)
cannot be told from the rest for sure. It keeps its size, and says nothing but that something was taken out, or the code
for another address, which two decoders read back before it is given out.

References:
    SVG 2, 8.2 (the initial viewport) and 8.6 (viewBox).
"""

from __future__ import annotations

from typing import Final
from xml.sax.saxutils import quoteattr

import cv2
import numpy as np
import numpy.typing as npt
import zxingcpp
from lxml import etree  # type: ignore[import-untyped]  # lxml ships no types

from app.messages.qr.svg import scan_svg, view_of
from app.messages.qr.types import QrLimits

_LIMITS: Final = QrLimits()
_PARSER: Final = {"resolve_entities": False, "no_network": True, "load_dtd": False, "recover": True, "huge_tree": False}
_QUIET: Final = 4
_SIDE: Final = 100.0


def blank(data: bytes) -> bytes:
    """Return a drawing of the same size with a cross on a pale ground.

    Args:
        data: The SVG file that held a code.
    """
    width, height, size = _size(data)
    lines = (
        f'<path d="M0 0L{width:g} {height:g}M{width:g} 0L0 {height:g}" stroke="#c83c3c" stroke-width="{width / 40:g}"/>'
    )
    return _drawing(width, height, size, lines)


def replaced(data: bytes, text: str, limits: QrLimits = _LIMITS) -> bytes | None:
    """Return a drawing of the same size with a code for another text.

    Args:
        data: The SVG file that held a code.
        text: What the code is to say.
        limits: What may be looked at.

    Returns:
        The drawing; None where the text is too long for a code, or a decoder does not read it.
    """
    try:
        code = zxingcpp.create_barcode(text, zxingcpp.BarcodeFormat.QRCode, ec_level="M")
    except (ValueError, RuntimeError):
        return None
    dark = np.asarray(code.to_image(scale=1, add_quiet_zones=False), np.uint8) < 128
    width, height, size = _size(data)
    module = min(width, height) / (len(dark) + 2 * _QUIET)
    left, top = (width - module * len(dark)) / 2, (height - module * len(dark)) / 2
    rows = [f"M{x} {y}h1v1h-1z" for y, x in np.argwhere(dark)]
    place = f"translate({left:.6g} {top:.6g}) scale({module:.6g})"
    new = _drawing(width, height, size, f'<path transform="{place}" d="{"".join(rows)}"/>', ground="#fff")
    reads = [found.text for found in scan_svg(new, limits).codes] == [text]
    return new if reads and _opencv_reads(dark, text) else None


def _opencv_reads(dark: npt.NDArray[np.bool_], text: str) -> bool:
    drawn = np.pad(np.where(np.kron(dark, np.ones((6, 6), bool)), 0, 255).astype(np.uint8), 24, constant_values=255)
    try:
        raw, _, _ = cv2.QRCodeDetector().detectAndDecodeBytes(drawn)
    except cv2.error:
        return False
    return bytes(raw) == text.encode()


def _drawing(width: float, height: float, size: str, content: str, ground: str = "#ebebeb") -> bytes:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}"{size}>'
        f'<rect width="{width:g}" height="{height:g}" fill="{ground}"/>{content}</svg>\n'
    ).encode("ascii", "xmlcharrefreplace")


def _size(data: bytes) -> tuple[float, float, str]:
    """The proportions of a drawing, and the attributes that say how large it is shown."""
    try:
        root = etree.fromstring(data, etree.XMLParser(**_PARSER))
    except (etree.XMLSyntaxError, ValueError):
        root = None
    if root is None:
        return _SIDE, _SIDE, ""
    _, _, width, height = view_of(root)
    if not (width > 0 and height > 0 and max(width, height) / min(width, height) < 100):
        width = height = _SIDE
    kept = "".join(
        f" {name}={quoteattr(value[:40])}" for name in ("width", "height") if (value := root.get(name)) is not None
    )
    return width, height, kept
