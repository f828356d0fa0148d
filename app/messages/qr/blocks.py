"""Codes drawn with block characters in text.

They are drawn as a bitmap and read like any other. Nothing is drawn where there is nothing to draw: without a run of
block characters a text costs one scan.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal
from unicodedata import east_asian_width

import numpy as np

from app.messages.qr.bitmaps import Bitmap
from app.messages.qr.finder import find_in_bitmap
from app.messages.qr.types import QrLimits

_LIMITS: Final = QrLimits()
LEAST_SIDE: Final = 11  # modules of the smallest Micro QR code
MOST_SIDE: Final = 400
_QUIET: Final = 4

# Which of the 2 by 4 parts of a character's cell are dark, row by row, as bits from the left and the top.
FULL = 0b11111111
_BLOCKS: Final[dict[str, int]] = {
    "█": FULL, "▀": 0b11110000, "▄": 0b00001111, "▌": 0b10101010, "▐": 0b01010101, "▘": 0b10100000,
    "▝": 0b01010000, "▖": 0b00001010, "▗": 0b00000101, "▚": 0b10100101, "▞": 0b01011010, "▛": 0b11111010,
    "▜": 0b11110101, "▙": 0b10101111, "▟": 0b01011111, "▆": 0b00111111, "▇": 0b00111111, "▓": FULL,
    **dict.fromkeys("■⬛◼◾▪⚫●🖤🟦🟥🟫🟪", FULL), **dict.fromkeys("⬜□◻◽⚪○🤍░▒", 0),
}  # fmt: skip
_BRAILLE: Final = range(0x2800, 0x2900)
_BRAILLE_BITS: Final = (
    (0, 0, 0),
    (1, 1, 0),
    (2, 2, 0),
    (3, 0, 1),
    (4, 1, 1),
    (5, 2, 1),
    (6, 3, 0),
    (7, 3, 1),
)
DARK = re.compile("[" + "".join(char for char, bits in _BLOCKS.items() if bits) + "\u2801-\u28ff]")
_IGNORED: Final = dict.fromkeys([0xFE0E, 0xFE0F, 0x200B, 0x200D, 0x2060, 0xFEFF, 0xAD])
LEAST_DARK: Final = 40


@dataclass(frozen=True, slots=True)
class BlockCode:
    """A code drawn with table cells or characters.

    Attributes:
        text: What it says.
        start: Where it begins in the source given, as an offset in characters: the table's or the element's
            start tag, or the first line.
        end: Where it ends.
        kind: What it is drawn with.
    """

    text: str
    start: int
    end: int
    kind: Literal["table", "characters"]


def find_in_text(text: str, limits: QrLimits = _LIMITS) -> tuple[BlockCode, ...]:
    """Find codes drawn with block characters in plain text.

    Args:
        text: The text, any line ends.
        limits: How much may be looked at.

    Returns:
        The codes in their order. Never raises.
    """
    if len(first_dark(text)) < LEAST_DARK:
        return ()
    found: list[BlockCode] = []
    for start, end, lines in _groups(text, limits):
        for said in _read_lines(lines, limits):
            found.append(BlockCode(said, start, end, "characters"))
    return tuple(found[: limits.max_codes])


def first_dark(text: str) -> list[str]:
    """Return the first few dark characters of a text."""
    found = []
    for match in DARK.finditer(text):
        found.append(match.group())
        if len(found) >= LEAST_DARK:
            break
    return found


def _groups(text: str, limits: QrLimits) -> Iterator[tuple[int, int, list[str]]]:
    """Yield neighbouring lines with block characters: start, end and the lines."""
    at = 0
    lines: list[str] = []
    begin = 0
    seen = 0
    for line in text.splitlines(keepends=True):
        content = line.rstrip("\r\n\v\f\x1c\x1d\x1e\x85\u2028\u2029")
        if DARK.search(content) or (lines and not content.strip() and _is_short_gap(lines)):
            if not lines:
                begin = at
            lines.append(content)
            seen += len(content)
        else:
            if _is_candidate(lines):
                yield begin, at, lines
            lines = []
        at += len(line)
        if seen > limits.max_elements:
            return
    if _is_candidate(lines):
        yield begin, at, lines


def _is_short_gap(lines: Sequence[str]) -> bool:
    return len(lines) < 3 or any(line.strip() for line in lines[-3:])


def _is_candidate(lines: Sequence[str]) -> bool:
    return len(lines) * 4 >= LEAST_SIDE and sum(map(len, lines)) >= LEAST_DARK


def _read_lines(lines: Sequence[str], limits: QrLimits) -> list[str]:
    cells = _cells(lines)
    if cells is None:
        return []
    # A character's cell is twice as high as wide in most fonts; square ones are drawn by doubling the width.
    for across in (1, 2):
        said = read_cells(np.repeat(cells, across, axis=1), 3, limits)
        if said:
            return said
    # Double-spaced lines.
    dense = [line for line in lines if line.strip()]
    if len(dense) < len(lines):
        return _read_lines(dense, limits)
    return []


def _cells(lines: Sequence[str]) -> Bitmap | None:
    """Return text as a bitmap of 2 by 4 parts per character (0 dark, 255 light)."""
    cleaned = [line.translate(_IGNORED).replace("\t", "        ") for line in lines]
    width = max((sum(columns_of(char) for char in line) for line in cleaned), default=0)
    if not 0 < width <= MOST_SIDE * 2 or len(cleaned) > MOST_SIDE:
        return None
    cells = np.full((len(cleaned) * 4, width * 2), 255, np.uint8)
    for row, line in enumerate(cleaned):
        column = 0
        for char in line:
            bits = parts_of(char)
            wide = columns_of(char)
            if bits:
                for part in range(8):
                    if bits >> (7 - part) & 1:
                        y, x = row * 4 + part // 2, (column + (part % 2) * wide / 2) * 2
                        cells[y, int(x) : int(x + wide)] = 0
            column += wide
    return cells


def parts_of(char: str) -> int:
    """Return which of the 2 by 4 parts of a character are dark, as bits from the left and the top."""
    if ord(char) in _BRAILLE:
        dots = ord(char) - 0x2800
        return sum(1 << (7 - (row * 2 + column)) for bit, row, column in _BRAILLE_BITS if dots >> bit & 1)
    return _BLOCKS.get(char, 0)


def columns_of(char: str) -> int:
    """Return how many columns a character takes."""
    return 2 if east_asian_width(char) in "WF" else 1


def read_cells(cells: Bitmap, scale: int, limits: QrLimits) -> list[str]:
    """Return what the codes of a bitmap of cells say, dark on light or light on dark."""
    if cells.shape[0] * cells.shape[1] * scale * scale > limits.max_page_pixels:
        return []
    drawn = np.kron(cells, np.ones((scale, scale), np.uint8))
    edge = 255 if cells[:1].mean() > 0 else 0
    # A message is light all around; a code drawn light on dark brings its own dark edge, or needs one.
    for ground in (255, 0) if edge == 255 else (0, 255):
        padded = np.pad(drawn, _QUIET * 4 * scale, constant_values=ground)
        codes = find_in_bitmap(padded, limits.max_codes)
        if codes:
            return list(dict.fromkeys(code.text for code in codes))
    return []
