"""Whether a bitmap is made of finder patterns to keep decoders busy.

zxing-cpp compares each finder pattern with all it found before: 200,000 of them, which a picture of some kilobytes
can hold, take it minutes. What it takes for one is measured here at once for a whole bitmap, as it does it: every
third row, then the column through the middle, then both diagonals.

References:
    ISO/IEC 18004, section 12 (finder pattern).
    https://github.com/zxing-cpp/zxing-cpp, core/src/ConcentricFinder.h (what is checked, in which order).
"""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from app.messages.qr.bitmaps import Bitmap

_LEAST_LIMIT: Final = 3_000
_MOST_LIMIT: Final = 24_000
_PIXELS_EACH: Final = 500
_PATTERN_PIXELS: Final = 64
_LOCAL_SIDE: Final = 41
_RANGE_SIDE: Final = 17
_LEAST_RANGE: Final = 10
_ROW_STEP: Final = 3
_FARTHEST: Final = 24
_SAMPLE: Final = 20_000

_Numbers = npt.NDArray[np.intp]


def is_crowded(plane: Bitmap) -> bool:
    """Whether a gray bitmap has more finder patterns than a decoder may be given.

    The decoder's thresholds are local. Two are tried: the mean, and the middle between the darkest and the
    lightest, which surroundings of another brightness do not move.

    Args:
        plane: The bitmap, rows by columns.

    Returns:
        Whether there are more than 3,000 and one for every 500 pixels (noise has one for 600), or than 24,000.
        A picture of thirty codes has ninety.
    """
    if plane.size <= _LEAST_LIMIT * _PATTERN_PIXELS:
        return False
    most = min(_LEAST_LIMIT + plane.size // _PIXELS_EACH, _MOST_LIMIT)
    window = np.ones((_RANGE_SIDE, _RANGE_SIDE), np.uint8)
    dark, light = cv2.erode(plane, window), cv2.dilate(plane, window)
    plain = cv2.subtract(light, dark) < _LEAST_RANGE  # the noise of a plain surface is no pattern
    for threshold in (cv2.boxFilter(plane, -1, (_LOCAL_SIDE, _LOCAL_SIDE)), cv2.addWeighted(dark, 0.5, light, 0.5, 0)):
        if count(((plane > threshold) | plain).view(np.uint8), most) > most:
            return True
    return False


def count(binary: Bitmap, enough: int) -> float:
    """Estimate how many finder patterns a bitmap of zeros and ones has, dark ones and light ones.

    Args:
        binary: The bitmap.
        enough: Up to how many a quick estimate, which is never too low, will do.

    Returns:
        How many there are, about.
    """
    rows, columns, cores = _across(np.ascontiguousarray(binary[::_ROW_STEP]))
    rows = rows * _ROW_STEP
    small = cores * 4 <= _FARTHEST
    # A large pattern covers so many pixels that noise does not look like one: it counts as it is.
    whole = _weight(cores[~small])
    rows, columns, cores = rows[small], columns[small], cores[small]
    if not len(rows) or whole + _weight(cores) <= enough:
        return whole + _weight(cores)
    sample = np.random.default_rng(len(rows)).permutation(len(rows))[:_SAMPLE]
    share = len(rows) / len(sample)
    rows, columns, cores = rows[sample], columns[sample], cores[sample]
    for direction in ((1, 0), (1, 1), (1, -1)):
        good, shift = _along(binary, rows, columns, direction)
        if direction == (1, 0):
            rows = rows + shift
        rows, columns, cores = rows[good], columns[good], cores[good]
    return whole + share * _weight(cores[_stand_alone(binary, rows, columns, cores)])


def _weight(cores: _Numbers) -> float:
    """Return how many patterns the sequences stand for: a core is crossed by a third of its rows."""
    return float(np.minimum(_ROW_STEP / np.maximum(cores, 1), 1).sum())


def _is_pattern(runs: tuple[_Numbers, ...]) -> npt.NDArray[np.bool_]:
    """Whether runs are 1:1:3:1:1 for dark and light measured apart, as print and blur change them."""
    outer, gap, core, gap_after, outer_after = runs
    bar, space = (outer + core + outer_after) / 5, (gap + gap_after) / 2
    slack, light_slack = bar * 0.75 + 0.5, space * 0.5 + 0.5
    return np.asarray(
        (np.maximum(bar, space) <= 4 * np.minimum(bar, space))
        & (abs(outer - bar) <= slack)
        & (abs(outer_after - bar) <= slack)
        & (abs(core - 3 * bar) <= slack)
        & (abs(gap - space) <= light_slack)
        & (abs(gap_after - space) <= light_slack),
        np.bool_,
    )


def _across(binary: Bitmap) -> tuple[_Numbers, _Numbers, _Numbers]:
    """Return the middle of every sequence of runs in the rows that may be a pattern: row, column, its core."""
    height, width = binary.shape
    padded = np.full((height, width + 1), 2, np.uint8)  # no run continues in the next row
    padded[:, :width] = binary
    flat = padded.ravel()
    starts = np.concatenate(([0], np.flatnonzero(flat[1:] != flat[:-1]) + 1)).astype(np.intp)
    lengths = np.diff(starts)
    if len(lengths) < 5:
        return np.empty(0, np.intp), np.empty(0, np.intp), np.empty(0, np.intp)
    outer, gap, core, gap_after, outer_after = (lengths[i : len(lengths) - 4 + i] for i in range(5))
    chosen = np.flatnonzero(
        (core >= gap) & (core >= gap_after) & (2 * core >= 3 * outer) & (2 * core >= 3 * outer_after) & (core > 1)
    )
    runs = tuple(part[chosen] for part in (outer, gap, core, gap_after, outer_after))
    good = _is_pattern(runs)
    cores = runs[2][good]
    rows, columns = np.divmod(starts[chosen[good] + 2] + cores // 2, width + 1)
    inside = columns < width
    return rows[inside], columns[inside], cores[inside]


def _along(
    binary: Bitmap, rows: _Numbers, columns: _Numbers, direction: tuple[int, int]
) -> tuple[npt.NDArray[np.bool_], _Numbers]:
    """Say which places have a pattern's runs in a direction both ways, and how far off its middle they are."""
    first, second = (_walk(binary, rows, columns, way * direction[0], way * direction[1]) for way in (1, -1))
    # The place itself is counted once.
    runs = (second[2], second[1], second[0] + first[0] + 1, first[1], first[2])
    return _is_pattern(runs) & (first[2] > 0) & (second[2] > 0), (first[0] - second[0]) // 2


def _walk(binary: Bitmap, rows: _Numbers, columns: _Numbers, down: int, right: int) -> tuple[_Numbers, ...]:
    """Return the lengths of the first three runs on the way from each place."""
    height, width = binary.shape
    shade = binary[rows, columns]
    run = np.zeros(len(rows), np.intp)
    lengths = np.zeros((4, len(rows)), np.intp)
    every = np.arange(len(rows))
    for step in range(1, _FARTHEST + 1):
        y, x = rows + step * down, columns + step * right
        inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
        here = binary[np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)]
        run = np.where(inside, np.minimum(run + (here != shade), 3), 3)
        shade = here
        lengths[run, every] += 1
    return tuple(lengths[:3])


def _stand_alone(binary: Bitmap, rows: _Numbers, columns: _Numbers, cores: _Numbers) -> npt.NDArray[np.bool_]:
    """Say which cores end within their ring on all sides; in noise most run on into something else."""
    reach = _FARTHEST // 4 + 2
    around = np.arange(-reach, reach + 1)
    y = np.clip(rows[:, None, None] + around[None, :, None], 0, binary.shape[0] - 1)
    x = np.clip(columns[:, None, None] + around[None, None, :], 0, binary.shape[1] - 1)
    same = binary[y, x] == binary[rows, columns][:, None, None]
    core = np.zeros(same.shape, np.bool_)
    core[:, reach, reach] = True
    for _ in range(2 * reach):
        grown = core.copy()
        grown[:, 1:] |= core[:, :-1]
        grown[:, :-1] |= core[:, 1:]
        grown[:, :, 1:] |= core[:, :, :-1]
        grown[:, :, :-1] |= core[:, :, 1:]
        core = grown & same
    far = np.maximum(abs(around)[:, None], abs(around)[None, :])
    beyond = core & (far[None] > np.minimum(cores + 1, reach - 1)[:, None, None])
    return np.asarray(~np.any(beyond, axis=(1, 2)), np.bool_)
