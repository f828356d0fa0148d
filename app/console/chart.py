"""The bar chart of the overview, laid out on the server: SVG needs neither script nor inline style."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from app.console.queries.overview import LEVELS, Bar

WIDTH = 720
HEIGHT = 150
_GAP = 0.28


@dataclass(frozen=True, slots=True)
class Segment:
    """One rectangle: the clicks of one level in one bar, in SVG user units."""

    level: str
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Chart:
    """Rectangles and the height of the scale."""

    segments: Sequence[Segment]
    top: int
    width: int = WIDTH
    height: int = HEIGHT


def bar_chart(bars: Sequence[Bar]) -> Chart:
    """Stack the levels, the worst at the bottom where bars are compared best."""
    top = _round_up(max((bar.total for bar in bars), default=0))
    slot = WIDTH / max(len(bars), 1)
    segments: list[Segment] = []
    for number, bar in enumerate(bars):
        floor = float(HEIGHT)
        for level, count in reversed(list(zip(LEVELS, bar.counts, strict=True))):
            if count:
                height = round(HEIGHT * count / top, 2)
                floor -= height
                segments.append(
                    Segment(
                        level,
                        round(number * slot + slot * _GAP / 2, 2),
                        round(floor, 2),
                        round(slot * (1 - _GAP), 2),
                        height,
                    )
                )
    return Chart(segments, top)


def _round_up(value: int) -> int:
    """The next of 4, 8, 10, 20, 40, 80, 100 ...: a scale that reads well."""
    if value <= 4:
        return 4
    magnitude = 1
    while True:
        for step in (4, 8, 10):
            if value <= step * magnitude:
                return step * magnitude
        magnitude *= 10
        if value <= 2 * magnitude:
            return 2 * magnitude
