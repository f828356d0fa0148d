"""Codes without a picture: tables with colored cells, and block characters in text.

Both are drawn as a bitmap and read like any other. Nothing is drawn where there is nothing to draw: without
a large table or a run of block characters a text costs one scan.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal
from unicodedata import east_asian_width

import numpy as np
import turbohtml

from app.messages.qr.bitmaps import Bitmap
from app.messages.qr.colors import background, brightness, declarations
from app.messages.qr.finder import find_in_bitmap
from app.messages.qr.types import QrLimits

_LIMITS: Final = QrLimits()
_LEAST_SIDE: Final = 11  # modules of the smallest Micro QR code
_MOST_SIDE: Final = 400
_MODULE: Final = 4
_QUIET: Final = 4

# Which of the 2 by 4 parts of a character's cell are dark, row by row, as bits from the left and the top.
_FULL = 0b11111111
_BLOCKS: Final[dict[str, int]] = {
    "█": _FULL, "▀": 0b11110000, "▄": 0b00001111, "▌": 0b10101010, "▐": 0b01010101, "▘": 0b10100000,
    "▝": 0b01010000, "▖": 0b00001010, "▗": 0b00000101, "▚": 0b10100101, "▞": 0b01011010, "▛": 0b11111010,
    "▜": 0b11110101, "▙": 0b10101111, "▟": 0b01011111, "▆": 0b00111111, "▇": 0b00111111, "▓": _FULL,
    **dict.fromkeys("■⬛◼◾▪⚫●🖤🟦🟥🟫🟪", _FULL), **dict.fromkeys("⬜□◻◽⚪○🤍░▒", 0),
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
_DARK_RE = re.compile("[" + "".join(char for char, bits in _BLOCKS.items() if bits) + "\u2801-\u28ff]")
_IGNORED: Final = dict.fromkeys([0xFE0E, 0xFE0F, 0x200B, 0x200D, 0x2060, 0xFEFF, 0xAD])
_LEAST_DARK: Final = 40
_MOST_ELEMENTS: Final = 12


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


# -- text ----------------------------------------------------------------------------------------------


def find_in_text(text: str, limits: QrLimits = _LIMITS) -> tuple[BlockCode, ...]:
    """Find codes drawn with block characters in plain text.

    Args:
        text: The text, any line ends.
        limits: How much may be looked at.

    Returns:
        The codes in their order. Never raises.
    """
    if len(_first(text)) < _LEAST_DARK:
        return ()
    found: list[BlockCode] = []
    for start, end, lines in _groups(text, limits):
        for said in _read_lines(lines, limits):
            found.append(BlockCode(said, start, end, "characters"))
    return tuple(found[: limits.max_codes])


def _first(text: str) -> list[str]:
    """Return the first few dark characters of a text."""
    found = []
    for match in _DARK_RE.finditer(text):
        found.append(match.group())
        if len(found) >= _LEAST_DARK:
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
        if _DARK_RE.search(content) or (lines and not content.strip() and _is_short_gap(lines)):
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
    return len(lines) * 4 >= _LEAST_SIDE and sum(map(len, lines)) >= _LEAST_DARK


def _read_lines(lines: Sequence[str], limits: QrLimits) -> list[str]:
    cells = _cells(lines)
    if cells is None:
        return []
    # A character's cell is twice as high as wide in most fonts; square ones are drawn by doubling the width.
    for across in (1, 2):
        said = _read(np.repeat(cells, across, axis=1), 3, limits)
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
    width = max((sum(_columns(char) for char in line) for line in cleaned), default=0)
    if not 0 < width <= _MOST_SIDE * 2 or len(cleaned) > _MOST_SIDE:
        return None
    cells = np.full((len(cleaned) * 4, width * 2), 255, np.uint8)
    for row, line in enumerate(cleaned):
        column = 0
        for char in line:
            bits = _bits(char)
            wide = _columns(char)
            if bits:
                for part in range(8):
                    if bits >> (7 - part) & 1:
                        y, x = row * 4 + part // 2, (column + (part % 2) * wide / 2) * 2
                        cells[y, int(x) : int(x + wide)] = 0
            column += wide
    return cells


def _bits(char: str) -> int:
    if ord(char) in _BRAILLE:
        dots = ord(char) - 0x2800
        return sum(1 << (7 - (row * 2 + column)) for bit, row, column in _BRAILLE_BITS if dots >> bit & 1)
    return _BLOCKS.get(char, 0)


def _columns(char: str) -> int:
    return 2 if east_asian_width(char) in "WF" else 1


def _read(cells: Bitmap, scale: int, limits: QrLimits) -> list[str]:
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


# -- HTML ----------------------------------------------------------------------------------------------


def find_in_html(html: str, limits: QrLimits = _LIMITS) -> tuple[BlockCode, ...]:
    """Find codes drawn with table cells or block characters in HTML.

    Args:
        html: The source.
        limits: How much may be looked at.

    Returns:
        The codes with the place of their element in the source. Never raises.
    """
    has_tables = html.count("<td") + html.count("<TD") >= _LEAST_SIDE * _LEAST_SIDE // 4
    has_blocks = len(_first(html)) >= _LEAST_DARK or html.count("&#96") + html.count("&#x25") >= _LEAST_DARK
    has_blocks = has_blocks or html.lower().count("block;") >= _LEAST_DARK
    if not has_tables and not has_blocks:
        return ()
    document = turbohtml.parse(html, source_locations=True)
    found: list[BlockCode] = []
    if has_tables:
        budget = limits.max_elements
        for table in document.find_all("table"):
            modules, used = _table_modules(table, budget)
            budget -= used
            if modules is not None:
                start, end = _span(table, len(html))
                found += [BlockCode(said, start, end, "table") for said in _read(modules, _MODULE, limits)]
            if budget <= 0:
                break
    if has_blocks:
        said = {code.text for code in found}
        found += [code for code in _characters(document, len(html), limits) if code.text not in said]
    return tuple(sorted(found, key=lambda code: code.start)[: limits.max_codes])


def _span(element: turbohtml.Element, length: int) -> tuple[int, int]:
    """Return where an element stands in the source; elements that the parser made up have no place."""
    place = element.source_location
    if place is None or place.start_tag is None:
        return 0, length
    end = place.end_tag.end_offset if place.end_tag is not None else length
    return place.start_tag.start_offset, end


def _table_modules(table: turbohtml.Element, budget: int) -> tuple[Bitmap | None, int]:
    """Return a table's cells as modules, or None where it cannot be a code; and how many cells were seen."""
    ground = _ground(table, 255)
    rows: list[tuple[float, list[tuple[int, float, int]]]] = []
    used = 0
    for row in _own_rows(table):
        row_ground = _ground(row, ground)
        cells: list[tuple[int, float, int]] = []
        height = _length(row, "height")
        for cell in row.children:
            if not isinstance(cell, turbohtml.Element) or cell.tag not in ("td", "th"):
                continue
            used += 1
            height = height or _length(cell, "height")
            cells.append((_number(cell, "colspan"), _length(cell, "width"), _cell_value(cell, row_ground)))
        rows.append((height, cells))
        if used > budget:
            return None, used
    if len(rows) < _LEAST_SIDE // 2 or used < _LEAST_SIDE * 2:
        return None, used
    values = {value > 127 for _, cells in rows for _, _, value in cells}
    return (_grid(rows) if len(values) == 2 else None), used


def _own_rows(table: turbohtml.Element) -> Iterator[turbohtml.Element]:
    for child in table.children:
        if isinstance(child, turbohtml.Element):
            if child.tag == "tr":
                yield child
            elif child.tag in ("tbody", "thead", "tfoot"):
                for row in child.children:
                    if isinstance(row, turbohtml.Element) and row.tag == "tr":
                        yield row


def _grid(rows: Sequence[tuple[float, list[tuple[int, float, int]]]]) -> Bitmap | None:
    """Lay cells out: by column spans where all rows agree on them, else by widths."""
    counts = {sum(span for span, _, _ in cells) for _, cells in rows if cells}
    widths = [width for _, cells in rows for _, width, _ in cells if width > 0]
    by_width = len(counts) > 1 and bool(widths)
    unit = min(widths) if widths else 1.0
    heights = [height for height, _ in rows if height > 0]
    row_unit = min(heights) if heights else 1.0
    lines: list[list[int]] = []
    for height, cells in rows:
        line: list[int] = []
        for span, width, value in cells:
            count = max(1, round(width / unit)) if by_width and width > 0 else span
            line += [value] * min(count, _MOST_SIDE)
            if len(line) > _MOST_SIDE:
                return None
        repeats = max(1, round(height / row_unit)) if height > 0 else 1
        lines += [line] * min(repeats, _MOST_SIDE)
        if len(lines) > _MOST_SIDE:
            return None
    width = max(map(len, lines))
    if width < _LEAST_SIDE or len(lines) < _LEAST_SIDE:
        return None
    return np.array([line + [255] * (width - len(line)) for line in lines], np.uint8)


def _ground(element: turbohtml.Element, inherited: int) -> int:
    attributes = element.attrs
    style = attributes.get("style")
    if style:
        value = background(declarations(_as_text(style)))
        if value is not None:
            return value
    color = attributes.get("bgcolor")
    value = brightness(_as_text(color)) if color else None
    return inherited if value is None else value


def _cell_value(cell: turbohtml.Element, inherited: int) -> int:
    value = _ground(cell, -1)
    if value >= 0:
        return value
    for child in cell.children:  # <td><div style="background:#000">, or a block character
        if isinstance(child, turbohtml.Element):
            value = _ground(child, -1)
            if value >= 0:
                return value
    said = cell.text.strip()[:4] if cell.text else ""
    return 0 if said and _bits(said[0]) == _FULL else inherited


def _number(element: turbohtml.Element, name: str) -> int:
    text = _as_text(element.attrs.get(name) or "")
    return min(max(int(text), 1), _MOST_SIDE) if text.isdecimal() and len(text) < 5 else 1


_LENGTH_RE = re.compile(r"\s*(\d{1,5}(?:\.\d{1,4})?)\s*(?:px|pt)?\s*\Z")


def _length(element: turbohtml.Element, name: str) -> float:
    style = element.attrs.get("style")
    value = declarations(_as_text(style)).get(name, "") if style else ""
    match = _LENGTH_RE.match(value) or _LENGTH_RE.match(_as_text(element.attrs.get(name) or ""))
    return float(match.group(1)) if match else 0.0


def _as_text(value: str | Sequence[str] | None) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else " ".join(value)


_LINE_ELEMENTS: Final = frozenset(
    {
        "p",
        "div",
        "tr",
        "li",
        "pre",
        "table",
        "section",
        "article",
        "blockquote",
        "h1",
        "h2",
        "h3",
        "h4",
        "center",
    }
)


def _characters(document: turbohtml.Document, length: int, limits: QrLimits) -> list[BlockCode]:
    """Find codes of block characters: in preformatted elements first, then in the whole text as lines."""
    found: list[BlockCode] = []
    said: set[str] = set()
    seen: set[str] = set()
    for element in [*document.find_all("pre"), *document.find_all("body")]:
        if len(_first(element.text)) < _LEAST_DARK:
            continue
        text = _rendered(element, limits).strip("\n")
        if text in seen:  # the same lines, inside another element
            continue
        seen.add(text)
        if len(seen) > _MOST_ELEMENTS:
            break
        for code in find_in_text(text, limits):
            if code.text not in said:
                said.add(code.text)
                start, end = _span(element, length)
                found.append(BlockCode(code.text, start, end, "characters"))
    return found


def _rendered(element: turbohtml.Element, limits: QrLimits) -> str:
    """Return an element's text with the line ends that a reader sees."""
    pieces: list[str] = []
    stack: list[object] = [element]
    size = 0
    while stack and size < limits.max_elements * 4:
        node = stack.pop()
        if isinstance(node, str):
            pieces.append(node)
        elif isinstance(node, turbohtml.Element):
            if node.tag == "br":
                pieces.append("\n")
                continue
            if node.tag in ("script", "style", "template"):
                continue
            ends = node.tag in _LINE_ELEMENTS
            if ends:
                stack.append("\n")
                if pieces and not pieces[-1].endswith("\n"):
                    pieces.append("\n")
            stack += reversed(list(node.children))
        elif isinstance(node, turbohtml.Text):
            text = node.data
            # Outside <pre> the line ends of the source are spaces; a line of blocks is ended by an element.
            if not _is_preformatted(node):
                text = text.replace("\r", "").strip("\n") if not text.strip() else _unwrapped(text)
            pieces.append(text)
            size += len(text)
    return "".join(pieces)


def _is_preformatted(node: turbohtml.Text) -> bool:
    parent = node.parent
    for _ in range(6):
        if not isinstance(parent, turbohtml.Element):
            return False
        style = _as_text(parent.attrs.get("style") or "")
        if parent.tag in ("pre", "textarea") or ("white-space" in style and "pre" in style):
            return True
        parent = parent.parent
    return False


def _unwrapped(text: str) -> str:
    """Return text as shown: source line ends gone, and the indentation after them."""
    return re.sub(r"[ \t]*[\r\n]+[ \t]*", "", text)
