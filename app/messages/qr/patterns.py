"""Whether a bitmap has the finder patterns of a code: a quick look before the expensive decoders.

A finder pattern is dark and light in runs of 1:1:3:1:1 modules along every line through its middle
(ISO/IEC 18004, section 12). The runs of all rows and all columns are measured at once; places where both
directions agree on the size of a module count, and a code needs two of one size.
"""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from app.messages.qr.bitmaps import Bitmap

_DOUBLE_BELOW: Final = 200
_LEAST_CONTRAST: Final = 10
_LEAST_MODULE: Final = 1.2
_MAX_PLACES: Final = 400

_Sizes = npt.NDArray[np.float32]


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


def pattern_places(plane: Bitmap) -> int:
    """Count the places of a gray bitmap that look like finder patterns.

    Returns:
        0 where no two of them have one size, else how many there are. A picture of many codes has three for
        each; noise made to look like finder patterns has hundreds.
    """
    if max(plane.shape) < _DOUBLE_BELOW:
        plane = cv2.resize(plane, None, fx=2, fy=2, interpolation=cv2.INTER_LINEAR).astype(np.uint8, copy=False)
    _, overall = cv2.threshold(plane, 0, 1, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    places = _paired_places(overall.astype(np.uint8, copy=False))
    if places:
        return places
    block = max(15, max(plane.shape) // 6) | 1
    local = cv2.adaptiveThreshold(plane, 1, cv2.ADAPTIVE_THRESH_MEAN_C, cv2.THRESH_BINARY, block, 4)
    return _paired_places(local.astype(np.uint8, copy=False))


def _paired_places(binary: Bitmap) -> int:
    """Count the places, if two of them, far enough apart, agree on the size of a module."""
    across = _module_sizes(binary)
    if not across.any():
        return 0
    down = np.ascontiguousarray(_module_sizes(np.ascontiguousarray(binary.T)).T)
    kernel = np.ones((3, 3), np.uint8)
    near_across, near_down = cv2.dilate(across, kernel), cv2.dilate(down, kernel)
    both = (near_across > 0) & (near_down > 0) & (near_across < near_down * 1.8) & (near_down < near_across * 1.8)
    if not both.any():
        return 0
    merged = cv2.dilate(both.astype(np.uint8), kernel)
    count, labels, _, middles = cv2.connectedComponentsWithStats(merged)
    count = min(int(count), _MAX_PLACES)
    places = []
    support_across = np.bincount(labels[across > 0], minlength=count)
    support_down = np.bincount(labels[down > 0], minlength=count)
    sizes = np.zeros(int(labels.max()) + 1, np.float32)
    np.maximum.at(sizes, labels[both].astype(np.intp), near_across[both])
    for label in range(1, count):
        module = float(sizes[label])
        enough = max(1.0, 0.5 * module)
        if support_across[label] >= enough and support_down[label] >= enough:
            places.append((module, float(middles[label][0]), float(middles[label][1])))
    paired = any(
        0.55 < one / other < 1.8 and abs(x - other_x) + abs(y - other_y) > 10 * max(one, other)
        for number, (one, x, y) in enumerate(places)
        for other, other_x, other_y in places[:number]
    )
    return len(places) if paired else 0


def _module_sizes(binary: Bitmap) -> _Sizes:
    """Write, at the middle of every 1:1:3:1:1 sequence of runs in the rows, the size of a module there."""
    height, width = binary.shape
    sizes = np.zeros((height, width), np.float32)
    padded = np.empty((height, width + 1), np.uint8)
    padded[:, :width] = binary
    padded[:, width] = 2  # no run continues in the next row
    flat = padded.ravel()
    starts = np.concatenate(([0], np.flatnonzero(flat[1:] != flat[:-1]) + 1))
    if len(starts) < 6:
        return sizes
    lengths = np.diff(starts).astype(np.float32)
    outer, gap, core, gap_after, outer_after = (lengths[i : len(lengths) - 4 + i] for i in range(5))
    module = (outer + gap + core + gap_after + outer_after) / 7
    slack = module * 0.75 + 0.4
    good = (
        (module >= _LEAST_MODULE)
        & (core > gap)
        & (core > gap_after)
        & (abs(core - 3 * module) < 1.8 * slack)
        & (abs(gap - module) < slack)
        & (abs(gap_after - module) < slack)
        & (abs(outer - module) < slack)
        & (abs(outer_after - module) < slack)
    )
    chosen = np.flatnonzero(good)
    rows, columns = np.divmod(starts[chosen + 2] + np.diff(starts)[chosen + 2] // 2, width + 1)
    inside = columns < width
    sizes[rows[inside], columns[inside]] = module[chosen[inside]]
    return sizes
