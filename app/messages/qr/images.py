"""Codes in PNG, JPEG, GIF, WebP and BMP images, alone and side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Final, Literal

import numpy as np

from app.messages.pixel_budget import SPENT, PixelBudget
from app.messages.qr.bitmaps import Bitmap, frames_read, gray, load, on_ground
from app.messages.qr.crowds import is_crowded
from app.messages.qr.finder import CROWDED, Look, look
from app.messages.qr.headers import read_header
from app.messages.qr.memo import Memo
from app.messages.qr.patterns import looks_like_codes
from app.messages.qr.types import QrCode, QrLimits, QrScan, reading_order

DEFAULT_LIMITS: Final = QrLimits()
_MAX_JOINED: Final = 12
_SCANS: Final = Memo[QrScan]()
_LOOKS: Final = Memo[Look](256)


@dataclass(frozen=True, slots=True)
class JoinedCode:
    """A code that only appears when neighbouring images are put together.

    Attributes:
        text: What it says.
        images: Which images carry it, by their position in the sequence given.
        direction: How they are put together.
    """

    text: str
    images: tuple[int, ...]
    direction: Literal["across", "down"]


def find(image_bytes: bytes, limits: QrLimits = DEFAULT_LIMITS) -> tuple[QrCode, ...]:
    """Find the codes of an image.

    Args:
        image_bytes: A PNG, JPEG, GIF, WebP or BMP file; its content decides, not its name.
        limits: What may be decoded.

    Returns:
        The codes in reading order. Never raises; see :func:`scan` for what was not covered.
    """
    return scan(image_bytes, limits).codes


def scan(image_bytes: bytes, limits: QrLimits = DEFAULT_LIMITS) -> QrScan:
    """Find the codes of an image and say what was not covered.

    Args:
        image_bytes: A PNG, JPEG, GIF, WebP or BMP file.
        limits: What may be decoded.

    Returns:
        The codes of all frames read (the same text at the same place only once), and notes.
    """
    return _SCANS.get(image_bytes, limits, lambda: _scan(image_bytes, limits))


def _scan(image_bytes: bytes, limits: QrLimits) -> QrScan:
    decoded = load(image_bytes, limits)
    if isinstance(decoded, str):
        return QrScan((), (decoded,))
    codes: list[QrCode] = []
    notes = list(decoded.notes)
    for number, bitmap in enumerate(decoded.frames):
        if number and np.array_equal(bitmap, decoded.frames[number - 1]):
            continue
        found, crowded = look(bitmap, limits.max_codes, number, decoded.header.orientation)
        if crowded and CROWDED not in notes:
            notes.append(CROWDED)
        codes += [code for code in found if not any(_same(code, other) for other in codes)]
    return QrScan(reading_order(codes)[: limits.max_codes], tuple(notes))


def pixels(image_bytes: bytes, limits: QrLimits = DEFAULT_LIMITS) -> int:
    """Return how many pixels :func:`scan` would look at, as the header says.

    Args:
        image_bytes: A PNG, JPEG, GIF, WebP or BMP file.
        limits: What may be decoded.

    Returns:
        Pixels of all frames that are read at most; 0 for what would not be decoded at all.
    """
    header = read_header(image_bytes)
    if header is None or not 0 < header.pixels <= limits.max_pixels or len(image_bytes) > limits.max_bytes:
        return 0
    return header.pixels * (frames_read(header, limits) if header.animated else 1)


def _same(code: QrCode, other: QrCode) -> bool:
    """Whether a code is one of an earlier frame, still standing."""
    return code.text == other.text and all(abs(one - two) < 6 for one, two in zip(code.box, other.box, strict=True))


def join(images: Sequence[bytes], limits: QrLimits = DEFAULT_LIMITS) -> tuple[JoinedCode, ...]:
    """Find codes that were cut into images which a message shows beside or below each other.

    Args:
        images: The images in the order in which the message shows them. Only the first twelve that can be
            decoded are looked at.
        limits: What may be decoded.

    Returns:
        Codes of two or more neighbouring images together which none of them shows alone. Never raises; see
        :func:`join_scan` for what was not covered.
    """
    return join_scan(images, limits)[0]


def join_scan(
    images: Sequence[bytes], limits: QrLimits = DEFAULT_LIMITS, budget: PixelBudget | None = None
) -> tuple[tuple[JoinedCode, ...], tuple[str, ...]]:
    """Find codes that were cut into images, and say what was not covered.

    Args:
        images: As for :func:`join`.
        limits: What may be decoded.
        budget: How much more may be looked at; None for no other bound than `limits`.

    Returns:
        The codes, and one short sentence for each thing that was not covered.
    """
    planes: list[tuple[int, Bitmap]] = []
    alone: set[str] = set()
    pixels = 0
    for number, data in enumerate(images):
        decoded = load(data, limits)
        if isinstance(decoded, str):
            continue
        pixels += decoded.header.pixels
        if pixels > limits.max_pixels or len(planes) == _MAX_JOINED:
            break
        plane = gray(on_ground(decoded.frames[0], 255))
        planes.append((number, plane))
        alone |= {code.text for code in scan(data, limits).codes}
    found: list[JoinedCode] = []
    notes: dict[str, None] = {}
    for group in _neighbours(planes):
        numbers = tuple(number for number, _ in group)
        for direction in ("across", "down"):
            whole = _together([plane for _, plane in group], direction == "across")
            if whole is None:
                continue
            if budget is not None and not budget.take(whole.size):
                notes[SPENT] = None
                continue
            codes, crowded = _LOOKS.get(whole.tobytes(), (whole.shape, limits), partial(_look_together, whole, limits))
            if crowded:
                notes[CROWDED] = None
            for code in codes:
                if code.text not in alone:
                    alone.add(code.text)
                    found.append(JoinedCode(code.text, numbers, "across" if direction == "across" else "down"))
    return tuple(found), tuple(notes)


def _look_together(whole: Bitmap, limits: QrLimits) -> Look:
    """Look for codes in pictures put together, where finder patterns show that there may be one."""
    return look(whole, limits.max_codes) if looks_like_codes(whole) else Look([], is_crowded(whole))


def _neighbours(planes: list[tuple[int, Bitmap]]) -> list[list[tuple[int, Bitmap]]]:
    groups = [list(pair) for pair in pairwise(planes)]
    groups += [planes[start : start + size] for size in (3, 4) for start in range(len(planes) - size + 1)]
    return groups


def _together(planes: Sequence[Bitmap], across: bool) -> Bitmap | None:
    """Put bitmaps into a row or a column; None where their sides differ too much to be shown so."""
    sides = [plane.shape[0 if across else 1] for plane in planes]
    if max(sides) > min(sides) * 1.15:
        return None
    side = max(sides)
    fitted = []
    for plane in planes:
        height, width = plane.shape
        below = side - height if across else 0
        beside = 0 if across else side - width
        fitted.append(np.pad(plane, ((0, below), (0, beside)), constant_values=255))
    return np.ascontiguousarray(np.hstack(fitted) if across else np.vstack(fitted)).astype(np.uint8, copy=False)
