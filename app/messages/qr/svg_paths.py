"""Outlines of SVG shapes as polygons.

Reference: SVG 1.1, chapter 8 "Paths" and appendix F.6 (elliptical arcs).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final, TypeAlias

Polygon: TypeAlias = list[tuple[float, float]]

_TOKEN_RE = re.compile(r"([MmLlHhVvZzCcSsQqTtAa])|([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?)")
_ARGUMENTS: Final = {"M": 2, "L": 2, "H": 1, "V": 1, "Z": 0, "C": 6, "S": 4, "Q": 4, "T": 2, "A": 7}
_CURVE_STEPS: Final = 6
_ARC_STEPS: Final = 8
_FLAGS_RE = re.compile(r"\s*,?\s*([01])")


def path_polygons(data: str, max_points: int) -> list[tuple[Polygon, bool]]:
    """Flatten path data.

    Args:
        data: The ``d`` attribute.
        max_points: Where to stop.

    Returns:
        The subpaths with whether each is closed. Wrong data ends the path where it is wrong, as in browsers.
    """
    made: list[tuple[Polygon, bool]] = []
    current: Polygon = []
    x = y = start_x = start_y = 0.0
    control: tuple[float, float] | None = None
    previous = ""
    points = 0
    for command, numbers in _commands(data):
        relative = command.islower()
        kind = command.upper()
        base_x, base_y = (x, y) if relative else (0.0, 0.0)
        added: Polygon = []
        if kind == "M":
            if current:
                made.append((current, False))
            x, y = base_x + numbers[0], base_y + numbers[1]
            start_x, start_y = x, y
            current = [(x, y)]
        elif kind == "Z":
            if current:
                made.append((current, True))
            x, y = start_x, start_y
            current = []
        elif kind == "L":
            added = [(base_x + numbers[0], base_y + numbers[1])]
        elif kind == "H":
            added = [(base_x + numbers[0], y)]
        elif kind == "V":
            added = [(x, base_y + numbers[0])]
        elif kind == "A":
            added = _arc((x, y), numbers, (base_x + numbers[5], base_y + numbers[6]))
        else:
            pairs = [(base_x + numbers[i], base_y + numbers[i + 1]) for i in range(0, len(numbers), 2)]
            if kind in "ST":
                same = previous in ("CS" if kind == "S" else "QT") and control is not None
                reflected = (2 * x - control[0], 2 * y - control[1]) if same and control else (x, y)
                pairs.insert(0, reflected)
            added = _curve([(x, y), *pairs])
            control = pairs[-2]
        if added:
            if not current:
                current = [(x, y)]
            current += added
            x, y = added[-1]
        previous = kind
        points += len(added) + 1
        if points > max_points:
            break
    if current:
        made.append((current, False))
    return made


def _commands(data: str) -> Iterator[tuple[str, list[float]]]:
    """Yield commands with their numbers; a repeated argument list repeats the command."""
    command = ""
    numbers: list[float] = []
    at = 0
    while True:
        flagged = command.upper() == "A" and len(numbers) in (3, 4) and _FLAGS_RE.match(data, at)
        match = flagged or _TOKEN_RE.search(data, at)
        if not match:
            return
        at = match.end()
        if not flagged and match.group(1):
            command, numbers = match.group(1), []
            if command in "Zz":
                yield command, []
            continue
        if not command or command in "Zz":
            return
        value = float(match.group(1) if flagged else match.group(2))
        if not math.isfinite(value):
            return
        numbers.append(value)
        if len(numbers) == _ARGUMENTS[command.upper()]:
            yield command, numbers
            numbers = []
            command = {"M": "L", "m": "l"}.get(command, command)


def _curve(points: Sequence[tuple[float, float]]) -> Polygon:
    """Return points along a Bézier curve of any degree, without its beginning."""
    made = []
    for step in range(1, _CURVE_STEPS + 1):
        share = step / _CURVE_STEPS
        level = list(points)
        while len(level) > 1:
            level = [(a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share) for a, b in pairwise(level)]
        made.append(level[0])
    return made


def _arc(begin: tuple[float, float], numbers: Sequence[float], end: tuple[float, float]) -> Polygon:
    """Return points along an elliptical arc, without its beginning (SVG 1.1, F.6.5)."""
    rx, ry = abs(numbers[0]), abs(numbers[1])
    turn, large, sweep = math.radians(numbers[2] % 360), bool(numbers[3]), bool(numbers[4])
    if rx == 0 or ry == 0 or begin == end:
        return [end]
    cosine, sine = math.cos(turn), math.sin(turn)
    dx, dy = (begin[0] - end[0]) / 2, (begin[1] - end[1]) / 2
    px, py = cosine * dx + sine * dy, -sine * dx + cosine * dy
    excess = (px / rx) ** 2 + (py / ry) ** 2
    if excess > 1:
        rx, ry = rx * math.sqrt(excess), ry * math.sqrt(excess)
    below = (rx * py) ** 2 + (ry * px) ** 2
    factor = math.sqrt(max(0.0, ((rx * ry) ** 2 - below) / below)) if below else 0.0
    factor = -factor if large == sweep else factor
    cx, cy = factor * rx * py / ry, -factor * ry * px / rx
    middle_x = cosine * cx - sine * cy + (begin[0] + end[0]) / 2
    middle_y = sine * cx + cosine * cy + (begin[1] + end[1]) / 2
    first = math.atan2((py - cy) / ry, (px - cx) / rx)
    span = math.atan2((-py - cy) / ry, (-px - cx) / rx) - first
    if sweep and span < 0:
        span += 2 * math.pi
    elif not sweep and span > 0:
        span -= 2 * math.pi
    made = []
    for step in range(1, _ARC_STEPS + 1):
        angle = first + span * step / _ARC_STEPS
        ex, ey = rx * math.cos(angle), ry * math.sin(angle)
        made.append((middle_x + cosine * ex - sine * ey, middle_y + sine * ex + cosine * ey))
    made[-1] = end
    return made


def ellipse(cx: float, cy: float, rx: float, ry: float) -> Polygon:
    """Return an ellipse as a polygon of sixteen corners."""
    return [(cx + rx * math.cos(math.pi * step / 8), cy + ry * math.sin(math.pi * step / 8)) for step in range(16)]


def stroke(line: Sequence[tuple[float, float]], width: float, closed: bool) -> list[Polygon]:
    """Return the segments of a line as rectangles of a width, with butt ends."""
    ends = [*line[1:], line[0]] if closed else list(line[1:])
    made = []
    for (x0, y0), (x1, y1) in zip(line, ends, strict=False):
        length = math.hypot(x1 - x0, y1 - y0)
        if length > 0:
            nx, ny = -(y1 - y0) / length * width / 2, (x1 - x0) / length * width / 2
            made.append([(x0 + nx, y0 + ny), (x1 + nx, y1 + ny), (x1 - nx, y1 - ny), (x0 - nx, y0 - ny)])
    return made
