"""Values of the QR package: what was found, where, and how much may be looked at."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import cv2

REFUSALS = (cv2.error, MemoryError, ArithmeticError, ValueError, RuntimeError)
"""What libraries that read pictures may raise for a picture they were not made for."""

Point: TypeAlias = tuple[float, float]
Quad: TypeAlias = tuple[Point, Point, Point, Point]

Decoder = Literal["zxing", "opencv"]
ImageKind = Literal["png", "jpeg", "gif", "webp", "bmp"]


@dataclass(frozen=True, slots=True)
class QrLimits:
    """How much may be read. Sizes are checked from the header before anything is decoded.

    Attributes:
        max_bytes: Largest image file, in bytes.
        max_pixels: Most pixels of one frame.
        max_side: Longest side of a frame, in pixels.
        max_frames: Most frames of an animation that are read, from its beginning.
        max_codes: Most codes reported for one image, page or document.
        max_pages: Most pages of a PDF that are rendered.
        max_page_pixels: Pixels that one PDF page or SVG drawing is rendered to at most.
        max_elements: Most drawing elements, table cells or lines of text looked at in SVG and HTML.
    """

    max_bytes: int = 20_000_000
    max_pixels: int = 40_000_000
    max_side: int = 16_000
    max_frames: int = 10
    max_codes: int = 30
    max_pages: int = 20
    max_page_pixels: int = 5_000_000
    max_elements: int = 40_000


@dataclass(frozen=True, slots=True)
class QrCode:
    """One code that was read.

    Attributes:
        text: What it says.
        corners: Outer corners of the symbol, without its quiet zone, in the pixels of the stored image (an
            EXIF orientation is not applied): top left, top right, bottom right, bottom left *of the symbol*,
            so a turned code has them turned. A mirrored symbol is given as a turned one.
        decoder: Which decoder read it.
        symbology: Which kind of code, as the decoder names it (``QR Code``, ``Micro QR Code``).
        frame: Which frame of an animation it stands in, from 0.
        inverted: Whether it is light on dark.
    """

    text: str
    corners: Quad
    decoder: Decoder
    symbology: str = "QR Code"
    frame: int = 0
    inverted: bool = False

    @property
    def box(self) -> tuple[float, float, float, float]:
        """The upright box around the symbol: left, top, right, bottom."""
        xs = [point[0] for point in self.corners]
        ys = [point[1] for point in self.corners]
        return min(xs), min(ys), max(xs), max(ys)


@dataclass(frozen=True, slots=True)
class QrScan:
    """The codes of one image or document, and what could not be looked at.

    Attributes:
        codes: The codes, in reading order of their place.
        notes: One short sentence for each thing that was not covered (``too many pixels``); empty where
            everything was looked at.
    """

    codes: tuple[QrCode, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def covered(self) -> bool:
        """Whether everything was looked at."""
        return not self.notes


def scaled(corners: Quad, factor: float) -> Quad:
    """Return corners in pixels of a bitmap that is larger by a factor."""
    (a, b), (c, d), (e, f), (g, h) = corners
    return (a * factor, b * factor), (c * factor, d * factor), (e * factor, f * factor), (g * factor, h * factor)


def reading_order(codes: Iterable[QrCode]) -> tuple[QrCode, ...]:
    """Sort codes by frame, then from top to bottom and left to right."""
    return tuple(sorted(codes, key=lambda code: (code.frame, code.box[1], code.box[0], code.text)))
