"""Whether a bitmap has the finder patterns of a code: a quick look before the expensive decoders.

A finder pattern is dark and light in runs of 1:1:3:1:1 modules along every line through its middle
(ISO/IEC 18004, section 12). The runs of all rows and all columns are measured at once; places where both
directions agree on the size of a module count, and a code needs two of one size.
"""

from __future__ import annotations

import math
from itertools import combinations, product
from typing import Final, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from app.messages.qr.bitmaps import Bitmap

_DOUBLE_BELOW: Final = 200
_LEAST_CONTRAST: Final = 10
_LEAST_MODULE: Final = 1.2
_MAX_PLACES: Final = 400
_MOST_TRIPLES: Final = 60

_Sizes = npt.NDArray[np.float32]
_Indices = npt.NDArray[np.intp]


class _Place(NamedTuple):
    """The middle of what looks like a finder pattern."""

    module: float
    x: float
    y: float


def has_contrast(plane: Bitmap) -> bool:
    """Whether a gray bitmap is more than one plain surface."""
    step = max(1, max(plane.shape) // 500)
    sample = plane[::step, ::step]
    return int(sample.max()) - int(sample.min()) >= _LEAST_CONTRAST


def looks_like_codes(plane: Bitmap) -> bool:
    """Whether a gray bitmap has two places that look like finder patterns of one size.

    Tolerant on purpose: it only saves decoders the pictures that have nothing to decode.
    """
    return pattern_places(plane) > 0


def pattern_places(plane: Bitmap, *, strict: bool = False) -> int:
    """Count the places of a gray bitmap that look like finder patterns.

    Args:
        plane: The bitmap.
        strict: Whether three of them must lie as those of a code do, a right angle with legs of like length;
            otherwise two of one size are enough.

    Returns:
        0 where they do not lie so, else how many there are. A picture of many codes has three for each; noise
        made to look like finder patterns has hundreds.
    """
    if max(plane.shape) < _DOUBLE_BELOW:
        plane = cv2.resize(plane, None, fx=2, fy=2, interpolation=cv2.INTER_LINEAR).astype(np.uint8, copy=False)
    _, overall = cv2.threshold(plane, 0, 1, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    places = _places(overall.astype(np.uint8, copy=False))
    if _lie_like_a_code(places, strict):
        return len(places)
    block = max(15, max(plane.shape) // 6) | 1
    local = cv2.adaptiveThreshold(plane, 1, cv2.ADAPTIVE_THRESH_MEAN_C, cv2.THRESH_BINARY, block, 4)
    places = _places(local.astype(np.uint8, copy=False))
    return len(places) if _lie_like_a_code(places, strict) else 0


def _lie_like_a_code(places: list[_Place], strict: bool) -> bool:
    if not strict:
        return any(_of_one_size(one, other) for one, other in combinations(places, 2))
    if len(places) > _MOST_TRIPLES:
        return True
    return any(_is_corner(*corner) for three in combinations(places, 3) for corner in _rotations(three))


def _of_one_size(one: _Place, other: _Place) -> bool:
    """Whether two places agree on the size of a module and are as far apart as in the smallest code."""
    far = abs(one.x - other.x) + abs(one.y - other.y)
    return 0.55 < one.module / other.module < 1.8 and far > 10 * max(one.module, other.module)


def _rotations(three: tuple[_Place, ...]) -> tuple[tuple[_Place, _Place, _Place], ...]:
    a, b, c = three
    return (a, b, c), (b, c, a), (c, a, b)


def _is_corner(middle: _Place, one: _Place, other: _Place) -> bool:
    """Whether three places form a right angle at the first, as far as perspective leaves it one."""
    if not (_of_one_size(middle, one) and _of_one_size(middle, other)):
        return False
    ax, ay, bx, by = one.x - middle.x, one.y - middle.y, other.x - middle.x, other.y - middle.y
    first, second = math.hypot(ax, ay), math.hypot(bx, by)
    return abs(ax * bx + ay * by) < 0.6 * first * second and 0.5 < first / second < 2


def _places(binary: Bitmap) -> list[_Place]:
    """Return where rows and columns agree on a finder pattern and on its size."""
    rows, columns, sizes = _sequences(binary)
    if not len(rows):
        return []
    down_columns, down_rows, down_sizes = _sequences(np.ascontiguousarray(binary.T))
    if not len(down_rows):
        return []
    height, width = binary.shape
    down = np.zeros((height + 2, width + 2), np.float32)
    down[down_rows + 1, down_columns + 1] = down_sizes
    agreed = np.zeros(len(rows), np.bool_)
    for dy, dx in product((0, 1, 2), repeat=2):
        near = down[rows + dy, columns + dx]
        agreed |= (near > 0) & (near < sizes * 1.8) & (sizes < near * 1.8)
    if not agreed.any():
        return []
    marks = np.zeros((height, width), np.uint8)
    marks[rows[agreed], columns[agreed]] = 1
    marks = cv2.dilate(marks, np.ones((5, 5), np.uint8)).astype(np.uint8, copy=False)
    count, labels, _, middles = cv2.connectedComponentsWithStats(marks)
    across_support = np.bincount(labels[rows, columns], minlength=count)
    down_support = np.bincount(labels[down_rows, down_columns], minlength=count)
    largest = np.zeros(count, np.float32)
    np.maximum.at(largest, labels[rows[agreed], columns[agreed]].astype(np.intp), sizes[agreed])
    places = []
    for label in range(1, min(int(count), _MAX_PLACES)):
        module = float(largest[label])
        enough = max(1.0, 0.5 * module)
        if across_support[label] >= enough and down_support[label] >= enough:
            places.append(_Place(module, float(middles[label][0]), float(middles[label][1])))
    return places


def _sequences(binary: Bitmap) -> tuple[_Indices, _Indices, _Sizes]:
    """Return the middle of every 1:1:3:1:1 sequence of runs in the rows: row, column, size of a module."""
    height, width = binary.shape
    padded = np.empty((height, width + 1), np.uint8)
    padded[:, :width] = binary
    padded[:, width] = 2  # no run continues in the next row
    flat = padded.ravel()
    starts = np.concatenate(([0], np.flatnonzero(flat[1:] != flat[:-1]) + 1))
    if len(starts) < 6:
        return np.empty(0, np.intp), np.empty(0, np.intp), np.empty(0, np.float32)
    lengths = np.diff(starts).astype(np.float32)
    outer, gap, core, gap_after, outer_after = (lengths[i : len(lengths) - 4 + i] for i in range(5))
    # The core is the longest of the five: that leaves few candidates for the costlier tests.
    chosen = np.flatnonzero((core > gap) & (core > gap_after) & (core > outer * 0.8) & (core > outer_after * 0.8))
    outer, gap, core, gap_after, outer_after = (part[chosen] for part in (outer, gap, core, gap_after, outer_after))
    module = (outer + gap + core + gap_after + outer_after) / 7
    slack = module * 0.75 + 0.4
    good = (
        (module >= _LEAST_MODULE)
        & (abs(core - 3 * module) < 1.8 * slack)
        & (abs(gap - module) < slack)
        & (abs(gap_after - module) < slack)
        & (abs(outer - module) < slack)
        & (abs(outer_after - module) < slack)
    )
    chosen, core, module = chosen[good], core[good], module[good]
    rows, columns = np.divmod(starts[chosen + 2] + (core / 2).astype(np.intp), width + 1)
    inside = columns < width
    return rows[inside], columns[inside], module[inside]
