"""Codes in SVG drawings: embedded pictures, and codes drawn with shapes.

Only flat shapes are drawn (rectangles, paths, polygons, circles, lines, ``use``), in gray, which is all that
a code needs; filters, gradients, text and style sheets beyond simple ``fill`` rules are not. Entities are not
resolved and nothing is loaded from anywhere.

Reference: SVG 1.1 (https://www.w3.org/TR/SVG11/).
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Final
from urllib.parse import unquote_to_bytes

import cv2
import numpy as np
from lxml import etree  # type: ignore[import-untyped]  # lxml ships no types

from app.messages.pixel_budget import SPENT, PixelBudget
from app.messages.qr import svg_paths
from app.messages.qr.bitmaps import Bitmap
from app.messages.qr.colors import brightness, declarations
from app.messages.qr.finder import CROWDED, look
from app.messages.qr.images import pixels, scan
from app.messages.qr.types import QrCode, QrLimits, QrScan, reading_order, scaled

_LIMITS: Final = QrLimits()
_XLINK_HREF: Final = "{http://www.w3.org/1999/xlink}href"
_DATA_RE = re.compile(r"\s*data:image/[a-z0-9.+\-]+((?:;[^,;]*)*),", re.IGNORECASE)
_NUMBER_RE = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?")
_TRANSFORM_RE = re.compile(r"(matrix|translate|scale|rotate|skewX|skewY)\s*\(([^)]*)\)")
_RULE_RE = re.compile(r"([.#]?[\w\-]{1,60})\s{0,9}\{([^{}]*)\}")
_SKIPPED: Final = frozenset({"defs", "symbol", "clipPath", "mask", "pattern", "marker", "metadata", "title", "desc"})
_MAX_DEPTH: Final = 60
_POINTS_PER_ELEMENT: Final = 4
_LONGEST_SIDE: Final = 1_400
_SMALLER_SIDES: Final = (480, 240, 140)

_Matrix = tuple[float, float, float, float, float, float]
_IDENTITY: Final[_Matrix] = (1.0, 0.0, 0.0, 1.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class _Paint:
    """Inherited paint: brightness, or None for nothing."""

    fill: int | None = 0
    stroke: int | None = None
    width: float = 1.0


@dataclass(slots=True)
class _Drawing:
    """What has been collected."""

    limits: QrLimits
    view: tuple[float, float, float, float]
    shapes: list[tuple[list[svg_paths.Polygon], int]] = field(default_factory=list)
    pictures: list[bytes] = field(default_factory=list)
    points: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def points_left(self) -> int:
        return self.limits.max_elements * _POINTS_PER_ELEMENT - self.points

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


def find(data: bytes, limits: QrLimits = _LIMITS) -> tuple[QrCode, ...]:
    """Find the codes of an SVG drawing. Never raises; see :func:`scan_svg` for what was not covered."""
    return scan_svg(data, limits).codes


def scan_svg(data: bytes, limits: QrLimits = _LIMITS, budget: PixelBudget | None = None) -> QrScan:
    """Find the codes of an SVG drawing and say what was not covered.

    Args:
        data: The SVG file.
        limits: What may be looked at.
        budget: How much more may be looked at; None for no other bound than `limits`.

    Returns:
        Codes of embedded pictures (in the pictures' own pixels) and of the drawing itself (in the pixels it
        was drawn to, at most 1,400 on the longest side).
    """
    if len(data) > limits.max_bytes:
        return QrScan((), (f"the drawing is larger than {limits.max_bytes} bytes",))
    parser = etree.XMLParser(
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        recover=True,
        huge_tree=False,
        remove_comments=True,
    )
    try:
        root = etree.fromstring(data, parser)
    except (etree.XMLSyntaxError, ValueError):
        root = None
    if root is None:
        return QrScan((), ("the drawing is no readable XML",))
    drawing = _Drawing(limits, view_of(root))
    _collect(root, drawing)
    codes: list[QrCode] = []
    for picture in drawing.pictures[: limits.max_codes]:
        if budget is not None and not budget.take(pixels(picture, limits)):
            drawing.note(SPENT)
            break
        found = scan(picture, limits)
        codes += found.codes
        for note in found.notes:
            drawing.note(note)
    bitmap = _render(drawing)
    if bitmap is not None:
        if budget is None or budget.take(bitmap.size):
            codes += _read(bitmap, drawing)
        else:
            drawing.note(SPENT)
    return QrScan(reading_order(codes)[: limits.max_codes], tuple(drawing.notes))


def _read(bitmap: Bitmap, drawing: _Drawing) -> list[QrCode]:
    """Read a drawing, and smaller versions of it in which dots and gaps between modules run together."""
    most = drawing.limits.max_codes
    codes, crowded = look(bitmap, most)
    if crowded:
        drawing.note(CROWDED)
    for side in _SMALLER_SIDES:
        if codes:
            break
        scale = side / max(bitmap.shape)
        small = cv2.resize(bitmap, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
        codes = [replace(code, corners=scaled(code.corners, 1 / scale)) for code in look(small, most).codes]
    return codes


# -- collecting ----------------------------------------------------------------------------------------


def _collect(root: etree._Element, drawing: _Drawing) -> None:
    """Walk the tree without recursion and collect its shapes in the order they are painted."""
    rules = _style_rules(root)
    by_id: dict[str, etree._Element] = {}
    for element in root.iter(etree.Element):
        name = element.get("id")
        if name:
            by_id.setdefault(name, element)
    stack: list[tuple[etree._Element, _Matrix, _Paint, int]] = [(root, _IDENTITY, _Paint(), 0)]
    seen = 0
    while stack:
        element, matrix, inherited, depth = stack.pop()
        seen += 1
        if seen > drawing.limits.max_elements or drawing.points_left <= 0:
            drawing.note("the drawing has too many shapes; the rest was not looked at")
            return
        name = _local_name(element)
        styles = _styles(element, rules)
        if styles.get("display") == "none" or styles.get("visibility") == "hidden" or depth > _MAX_DEPTH:
            continue
        matrix = _times(matrix, _transform(element.get("transform", "")))
        paint = _painted(styles, inherited)
        if name == "use":
            target = by_id.get((element.get("href") or element.get(_XLINK_HREF) or "").removeprefix("#"))
            if target is not None and target is not element:
                moved = _times(matrix, (1.0, 0.0, 0.0, 1.0, _number(element, "x"), _number(element, "y")))
                if _local_name(target) == "symbol":
                    stack += [(child, moved, paint, depth + 1) for child in reversed(target)]
                else:
                    stack.append((target, moved, paint, depth + 1))
            continue
        if name == "image":
            picture = _data_image(element.get("href") or element.get(_XLINK_HREF) or "")
            if picture is not None:
                drawing.pictures.append(picture)
            continue
        if name in _SKIPPED:
            continue
        if name == "svg" and depth:
            matrix = _times(matrix, (1.0, 0.0, 0.0, 1.0, _number(element, "x"), _number(element, "y")))
        _add_shape(element, name, matrix, paint, drawing)
        stack += [(child, matrix, paint, depth + 1) for child in reversed(element) if isinstance(child.tag, str)]


def _local_name(element: etree._Element) -> str:
    tag = element.tag
    return tag.rpartition("}")[2] if isinstance(tag, str) else ""


def _style_rules(root: etree._Element) -> dict[str, dict[str, str]]:
    """Return the rules of simple selectors (``.name``, ``#name``, ``element``) in style elements."""
    rules: dict[str, dict[str, str]] = {}
    for element in root.iter("{*}style"):
        for selector, body in _RULE_RE.findall((element.text or "")[:50_000]):
            rules.setdefault(selector, {}).update(declarations(body))
    return rules


def _styles(element: etree._Element, rules: dict[str, dict[str, str]]) -> dict[str, str]:
    names = ("fill", "stroke", "stroke-width", "display", "visibility", "opacity", "fill-opacity")
    styles = {name: value for name in names if (value := element.get(name)) is not None}
    if rules:
        styles |= rules.get(_local_name(element), {})
        for name in (element.get("class") or "").split():
            styles |= rules.get("." + name, {})
        styles |= rules.get("#" + (element.get("id") or ""), {})
    style = element.get("style")
    return styles | declarations(style) if style else styles


def _painted(styles: dict[str, str], inherited: _Paint) -> _Paint:
    if not styles:
        return inherited
    fill, line, width = inherited.fill, inherited.stroke, inherited.width
    if "fill" in styles and styles["fill"] != "inherit":
        fill = brightness(styles["fill"])
    if "stroke" in styles and styles["stroke"] != "inherit":
        line = brightness(styles["stroke"])
    if "stroke-width" in styles:
        width = _first_number(styles["stroke-width"], 1.0)
    if (
        min(
            _first_number(styles.get("opacity", "1"), 1.0),
            _first_number(styles.get("fill-opacity", "1"), 1.0),
        )
        < 0.2
    ):
        fill = None
    return _Paint(fill, line, width)


def _first_number(text: str, default: float) -> float:
    match = _NUMBER_RE.search(text)
    value = float(match.group()) if match else default
    return value if math.isfinite(value) else default


def _number(element: etree._Element, name: str, whole: float = 0.0) -> float:
    text = element.get(name)
    if text is None:
        return 0.0
    if text.isdecimal() and len(text) < 9:
        return float(text)
    value = _first_number(text, 0.0)
    return value / 100 * whole if text.rstrip().endswith("%") else value


def _add_shape(element: etree._Element, name: str, matrix: _Matrix, paint: _Paint, drawing: _Drawing) -> None:
    outlines = list(_outlines(element, name, drawing))
    if not outlines:
        return
    drawing.points += sum(len(outline) for outline, _ in outlines) + 1
    if paint.fill is not None and name != "line":
        filled = [_mapped(outline, matrix) for outline, _ in outlines if len(outline) > 2]
        if filled:
            drawing.shapes.append((filled, paint.fill))
    if paint.stroke is not None and paint.width > 0:
        for outline, closed in outlines:
            segments = svg_paths.stroke(outline, paint.width, closed)
            drawing.points += len(segments) * 4
            drawing.shapes += [([_mapped(segment, matrix)], paint.stroke) for segment in segments]


def _outlines(element: etree._Element, name: str, drawing: _Drawing) -> Iterator[tuple[svg_paths.Polygon, bool]]:
    if name == "rect":
        view = drawing.view
        x, y = _number(element, "x", view[2]), _number(element, "y", view[3])
        width, height = _number(element, "width", view[2]), _number(element, "height", view[3])
        if width > 0 and height > 0:
            yield [(x, y), (x + width, y), (x + width, y + height), (x, y + height)], True
    elif name == "path":
        yield from svg_paths.path_polygons(element.get("d") or "", drawing.points_left)
    elif name in ("polygon", "polyline"):
        numbers = [float(item) for item in _NUMBER_RE.findall(element.get("points") or "")[: drawing.points_left * 2]]
        if all(map(math.isfinite, numbers)) and len(numbers) > 3:
            yield list(zip(numbers[::2], numbers[1::2], strict=False)), name == "polygon"
    elif name == "circle":
        radius = _number(element, "r")
        if radius > 0:
            yield svg_paths.ellipse(_number(element, "cx"), _number(element, "cy"), radius, radius), True
    elif name == "ellipse":
        across, down = _number(element, "rx"), _number(element, "ry")
        if across > 0 and down > 0:
            yield svg_paths.ellipse(_number(element, "cx"), _number(element, "cy"), across, down), True
    elif name == "line":
        yield (
            [
                (_number(element, "x1"), _number(element, "y1")),
                (_number(element, "x2"), _number(element, "y2")),
            ],
            False,
        )


def _data_image(href: str) -> bytes | None:
    match = _DATA_RE.match(href[:200])
    if match is None:
        return None
    body = href[match.end() :]
    if "base64" not in match.group(1).lower():
        return unquote_to_bytes(body)
    try:
        return base64.b64decode(re.sub(r"\s+", "", body) + "==")
    except (binascii.Error, ValueError):
        return None


# -- transforms and drawing ----------------------------------------------------------------------------


def _transform(text: str) -> _Matrix:
    matrix = _IDENTITY
    for name, body in _TRANSFORM_RE.findall(text[:1_000]):
        n = [float(item) for item in _NUMBER_RE.findall(body)]
        if not n or not all(map(math.isfinite, n)):
            continue
        if name == "matrix" and len(n) == 6:
            step: _Matrix = (n[0], n[1], n[2], n[3], n[4], n[5])
        elif name == "translate":
            step = (1.0, 0.0, 0.0, 1.0, n[0], n[1] if len(n) > 1 else 0.0)
        elif name == "scale":
            step = (n[0], 0.0, 0.0, n[1] if len(n) > 1 else n[0], 0.0, 0.0)
        elif name == "rotate":
            sine, cosine = math.sin(math.radians(n[0])), math.cos(math.radians(n[0]))
            x, y = (n[1], n[2]) if len(n) > 2 else (0.0, 0.0)
            step = (cosine, sine, -sine, cosine, x - cosine * x + sine * y, y - sine * x - cosine * y)
        elif name == "skewX":
            step = (1.0, 0.0, math.tan(math.radians(n[0])), 1.0, 0.0, 0.0)
        elif name == "skewY":
            step = (1.0, math.tan(math.radians(n[0])), 0.0, 1.0, 0.0, 0.0)
        else:
            continue
        matrix = _times(matrix, step)
    return matrix


def _times(m: _Matrix, n: _Matrix) -> _Matrix:
    return (
        m[0] * n[0] + m[2] * n[1],
        m[1] * n[0] + m[3] * n[1],
        m[0] * n[2] + m[2] * n[3],
        m[1] * n[2] + m[3] * n[3],
        m[0] * n[4] + m[2] * n[5] + m[4],
        m[1] * n[4] + m[3] * n[5] + m[5],
    )


def _mapped(polygon: svg_paths.Polygon, m: _Matrix) -> svg_paths.Polygon:
    if m == _IDENTITY:
        return polygon
    return [(m[0] * x + m[2] * y + m[4], m[1] * x + m[3] * y + m[5]) for x, y in polygon]


def view_of(root: etree._Element) -> tuple[float, float, float, float]:
    """Return the visible rectangle: ``viewBox``, else width and height; zeros where neither is given."""
    numbers = [float(item) for item in _NUMBER_RE.findall(root.get("viewBox") or "")]
    if len(numbers) == 4 and numbers[2] > 0 and numbers[3] > 0 and all(map(math.isfinite, numbers)):
        return numbers[0], numbers[1], numbers[2], numbers[3]
    width, height = _number(root, "width"), _number(root, "height")
    percent = "%" in (root.get("width") or "") + (root.get("height") or "")
    return (0.0, 0.0, 0.0, 0.0) if percent else (0.0, 0.0, width, height)


def _render(drawing: _Drawing) -> Bitmap | None:
    """Draw the collected shapes in gray on white."""
    if not drawing.shapes:
        return None
    left, top, width, height = drawing.view
    if width <= 0 or height <= 0:
        points = np.array([point for outlines, _ in drawing.shapes for outline in outlines for point in outline])
        left, top = (float(value) for value in points.min(axis=0))
        width, height = (float(value) for value in np.ptp(points, axis=0))
    if not (width > 0 and height > 0 and max(width, height) / min(width, height) < 20):
        return None
    scale = _LONGEST_SIDE / max(width, height)
    margin = _LONGEST_SIDE // 30
    bitmap = np.full((round(height * scale) + 2 * margin, round(width * scale) + 2 * margin), 255, np.uint8)
    flat = np.array([point for outlines, _ in drawing.shapes for outline in outlines for point in outline], np.float64)
    placed = (np.clip(flat, -1e9, 1e9) - (left, top)) * scale + margin
    fixed = np.round(np.clip(placed, -20_000, 20_000) * 16).astype(np.int32)
    at = 0
    for outlines, value in drawing.shapes:
        polygons = []
        for outline in outlines:
            polygons.append(fixed[at : at + len(outline)])
            at += len(outline)
        cv2.fillPoly(bitmap, polygons, value, shift=4)
    return bitmap
