"""Codes drawn with table cells, or with block characters in HTML.

Both are drawn as a bitmap and read like any other. Nothing is drawn where there is nothing to draw: without
a large table or a run of block characters a text costs one scan.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
import turbohtml

from app.messages.qr.bitmaps import Bitmap
from app.messages.qr.blocks import (
    FULL,
    LEAST_DARK,
    LEAST_SIDE,
    MOST_SIDE,
    BlockCode,
    find_in_text,
    first_dark,
    parts_of,
    read_cells,
)
from app.messages.qr.colors import background, brightness, declarations
from app.messages.qr.types import QrLimits

_LIMITS: Final = QrLimits()
_MODULE: Final = 4
_MOST_ELEMENTS: Final = 12


def find_in_html(html: str, limits: QrLimits = _LIMITS) -> tuple[BlockCode, ...]:
    """Find codes drawn with table cells or block characters in HTML.

    Args:
        html: The source.
        limits: How much may be looked at.

    Returns:
        The codes with the place of their element in the source. Never raises.
    """
    has_tables = html.count("<td") + html.count("<TD") >= LEAST_SIDE * LEAST_SIDE // 4
    has_blocks = len(first_dark(html)) >= LEAST_DARK or html.count("&#96") + html.count("&#x25") >= LEAST_DARK
    has_blocks = has_blocks or html.lower().count("block;") >= LEAST_DARK
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
                found += [BlockCode(said, start, end, "table") for said in read_cells(modules, _MODULE, limits)]
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
    if len(rows) < LEAST_SIDE // 2 or used < LEAST_SIDE * 2:
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
            line += [value] * min(count, MOST_SIDE)
            if len(line) > MOST_SIDE:
                return None
        repeats = max(1, round(height / row_unit)) if height > 0 else 1
        lines += [line] * min(repeats, MOST_SIDE)
        if len(lines) > MOST_SIDE:
            return None
    width = max(map(len, lines))
    if width < LEAST_SIDE or len(lines) < LEAST_SIDE:
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
    return 0 if said and parts_of(said[0]) == FULL else inherited


def _number(element: turbohtml.Element, name: str) -> int:
    text = _as_text(element.attrs.get(name) or "")
    return min(max(int(text), 1), MOST_SIDE) if text.isdecimal() and len(text) < 5 else 1


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
        if len(first_dark(element.text)) < LEAST_DARK:
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
