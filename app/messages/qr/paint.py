"""Making codes unreadable, or putting other codes in their place.

A picture keeps its format, its dimensions and everything outside the codes, as far as its format can be
written without loss. What was painted is read back with both decoders before it is given out: a defaced
code must be unreadable for both, a replaced one readable by both, in the bytes that leave.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import cv2
import numpy as np
import numpy.typing as npt
import zxingcpp

from app.messages.qr.bitmaps import Bitmap, Decoded, gray, load, on_ground
from app.messages.qr.crowds import is_crowded
from app.messages.qr.encode import CannotEncode, encode
from app.messages.qr.finder import MOST_PLACES, find_in_bitmap
from app.messages.qr.patterns import pattern_places
from app.messages.qr.types import REFUSALS, QrCode, QrLimits, Quad

_LIMITS: Final = QrLimits()
_LEAST_MODULE: Final = 1.6
_OVERSAMPLE: Final = 4
_MIRRORED: Final = (2, 4, 5, 7)  # Exif orientations
_CROSS: Final = (60, 60, 200)


class CannotPaint(ValueError):
    """The picture cannot be changed; the message says why. It was left as it was."""


@dataclass(frozen=True, slots=True)
class Repainted:
    """A picture whose codes were changed.

    Attributes:
        data: The picture, of the same format and dimensions.
        outcomes: What became of each code, in the order given.
    """

    data: bytes
    outcomes: tuple[Literal["replaced", "defaced"], ...]


def deface(image_bytes: bytes, codes: Iterable[QrCode], limits: QrLimits = _LIMITS) -> bytes:
    """Make codes of a picture unreadable.

    Each code's place becomes a light surface with a cross, so that a reader sees that something was taken
    out on purpose.

    Args:
        image_bytes: The picture in which ``codes`` were found.
        codes: The codes to paint over. Those of frames that are not there are ignored.
        limits: What may be decoded.

    Returns:
        A picture of the same format and dimensions in which neither decoder reads any of these codes; the
        bytes given where there are no codes.

    Raises:
        CannotPaint: Where the picture cannot be decoded or written, or a code would still be readable.
    """
    return repaint(image_bytes, [(code, None) for code in codes], limits).data


def replace(image_bytes: bytes, codes: Sequence[QrCode], new_texts: Sequence[str], limits: QrLimits = _LIMITS) -> bytes:
    """Draw other codes in the place of those found.

    The new symbol takes the old one's place, turned and foreshortened as it was. Where the place is too
    small for what is to be said, or one of the decoders cannot read the result, that code is made unreadable
    instead (:func:`deface`).

    Args:
        image_bytes: The picture in which ``codes`` were found.
        codes: The codes to replace.
        new_texts: What each is to say, in the same order.
        limits: What may be decoded.

    Returns:
        A picture of the same format and dimensions; :func:`repaint` also says which codes were replaced.

    Raises:
        CannotPaint: As for :func:`deface`.
        ValueError: Where there are not as many texts as codes.
    """
    if len(codes) != len(new_texts):
        raise ValueError(f"{len(codes)} codes and {len(new_texts)} texts; there must be as many of each")
    return repaint(image_bytes, list(zip(codes, new_texts, strict=True)), limits).data


def repaint(image_bytes: bytes, wanted: Sequence[tuple[QrCode, str | None]], limits: QrLimits = _LIMITS) -> Repainted:
    """Replace some codes of a picture and make others unreadable, in one go.

    Args:
        image_bytes: The picture in which the codes were found.
        wanted: Each code with what it is to say instead; None to make it unreadable.
        limits: What may be decoded.

    Returns:
        The picture, and what became of each code.

    Raises:
        CannotPaint: As for :func:`deface`.
    """
    if not wanted:
        return Repainted(image_bytes, ())
    try:
        return _repaint(image_bytes, wanted, limits)
    except CannotPaint:
        raise
    except REFUSALS as error:
        raise CannotPaint("the picture's libraries refuse to draw on it") from error


def _repaint(image_bytes: bytes, wanted: Sequence[tuple[QrCode, str | None]], limits: QrLimits) -> Repainted:
    decoded = _load(image_bytes, limits)
    mirrored = decoded.header.orientation in _MIRRORED
    texts = [text for _, text in wanted]
    # Each round gives up on at least one code that could not be drawn readably, so it ends.
    while True:
        frames = _writable(decoded)
        tried = list(texts)
        for number, (code, _) in enumerate(wanted):
            for place in _places(code, decoded, limits):
                text = texts[number]
                drawn = None if text is None else _drawn_readably(frames[place.frame], place, text, mirrored)
                if drawn is None:
                    texts[number] = None
                    _paint_cross(frames[place.frame], place.corners)
                else:
                    frames[place.frame] = drawn
        if len(frames) > 1 and texts != tried:
            continue  # a code that one picture of an animation cannot show is taken out of all of them
        painted = _written(image_bytes, decoded, frames)
        spoilt = [
            number
            for number, (code, _) in enumerate(wanted)
            if (text := texts[number]) is not None and not _both_read(painted, code, text, limits)
        ]
        if not spoilt:
            break
        for number in spoilt:
            texts[number] = None
    defaced = [code for (code, _), text in zip(wanted, texts, strict=True) if text is None]
    still = _texts_at(painted, limits) if defaced else []
    for code in defaced:
        if any(code.text == text and _overlap(code.corners, place) for text, place in still):
            raise CannotPaint("a code would still be readable after being painted over")
    return Repainted(painted, tuple("defaced" if text is None else "replaced" for text in texts))


def _load(image_bytes: bytes, limits: QrLimits) -> Decoded:
    decoded = load(image_bytes, limits)
    if isinstance(decoded, str):
        raise CannotPaint(decoded)
    if not decoded.whole:
        raise CannotPaint("the animation has more pictures than may be read, so it cannot be written whole")
    return decoded


def _written(image_bytes: bytes, decoded: Decoded, frames: Sequence[Bitmap]) -> bytes:
    try:
        return encode(image_bytes, decoded, frames)
    except CannotEncode as error:
        raise CannotPaint(str(error)) from error


def _writable(decoded: Decoded) -> list[Bitmap]:
    """Return copies of the frames with three or four channels."""
    frames = []
    for frame in decoded.frames:
        if frame.ndim == 2 or frame.shape[2] == 1:
            frames.append(cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR).astype(np.uint8, copy=False))
        elif frame.shape[2] == 2:
            frames.append(np.ascontiguousarray(frame[:, :, [0, 0, 0, 1]]))
        else:
            frames.append(frame.copy())
    return frames


def _places(code: QrCode, decoded: Decoded, limits: QrLimits) -> list[QrCode]:
    """Return where a code stands: in its own frame, and where else an animation shows it."""
    if code.frame >= len(decoded.frames):
        return []
    places = [code]
    for number, frame in enumerate(decoded.frames):
        if number != code.frame:
            found = find_in_bitmap(frame, limits.max_codes, number, decoded.header.orientation)
            places += [other for other in found if other.text == code.text]
    return places


def _paint_cross(frame: Bitmap, corners: Quad) -> None:
    """Cover a symbol with a light surface and a cross."""
    quad = _grown(corners, 1.03)
    points = np.round(quad).astype(np.int32)
    side = float(np.linalg.norm(quad[0] - quad[2]))
    line = max(2, round(side / 40))
    opaque = frame.shape[2] == 4
    cv2.fillConvexPoly(frame, points, (235, 235, 235, 255) if opaque else (235, 235, 235))
    color = (*_CROSS, 255) if opaque else _CROSS
    inner = np.round(_grown(corners, 0.9)).astype(np.int32)
    for start, end in ((0, 2), (1, 3)):
        cv2.line(frame, _xy(inner[start]), _xy(inner[end]), color, line, cv2.LINE_AA)
    cv2.polylines(frame, [inner], True, color, line, cv2.LINE_AA)


def _xy(point: npt.NDArray[np.int32]) -> tuple[int, int]:
    return int(point[0]), int(point[1])


def _grown(corners: Quad, factor: float) -> npt.NDArray[np.float32]:
    points = np.asarray(corners, np.float32)
    middle = points.mean(axis=0)
    grown: npt.NDArray[np.float32] = ((points - middle) * np.float32(factor) + middle).astype(np.float32)
    return grown


def _drawn_readably(frame: Bitmap, code: QrCode, text: str, mirrored: bool) -> Bitmap | None:
    """Return the frame with a new symbol that both decoders read, or None.

    OpenCV's search over a whole picture misses some symbols that its search around one place reads, and the
    other way round; a symbol that both ways read is preferred, one that either reads will do.
    """
    second_best: Bitmap | None = None
    for level, margin in (("M", 0), ("L", 0), ("M", 1), ("L", 1), ("L", 2), ("Q", 0), ("Q", 1)):
        symbol = _symbol(text, level, margin)
        if symbol is None or _module_size(code.corners, len(symbol)) < _LEAST_MODULE:
            continue
        drawn = frame.copy()
        _draw(drawn, symbol, _as_shown(code.corners, mirrored))
        ways = _ways_read(drawn, code, text, mirrored)
        if ways == 2:
            return drawn
        if ways == 1 and second_best is None:
            second_best = drawn
    return second_best


def _symbol(text: str, level: str, margin: int) -> Bitmap | None:
    """Return a symbol as modules (0 dark, 255 light) with a light margin; None for too long a text."""
    try:
        code = zxingcpp.create_barcode(text, zxingcpp.BarcodeFormat.QRCode, ec_level=level)
    except (ValueError, RuntimeError):
        return None
    modules = np.asarray(code.to_image(scale=1, add_quiet_zones=False), np.uint8)
    return np.pad(modules, margin, constant_values=255)


def _module_size(corners: Quad, modules: int) -> float:
    """Return the length of a module in pixels, along the shortest side."""
    points = np.asarray(corners, np.float32)
    return min(float(np.linalg.norm(points[i] - points[i - 1])) for i in range(4)) / modules


def _draw(frame: Bitmap, symbol: Bitmap, corners: Quad) -> None:
    """Draw a symbol into a quadrangle, with smooth edges, on a light surface a little larger than it."""
    modules = len(symbol)
    quad = _snapped(np.asarray(corners, np.float32), modules)
    _light_surface(frame, corners, quad, modules)
    left, top = np.floor(quad.min(axis=0)).astype(int) - 1
    right, bottom = np.ceil(quad.max(axis=0)).astype(int) + 2
    left, top = max(int(left), 0), max(int(top), 0)
    right, bottom = min(int(right), frame.shape[1]), min(int(bottom), frame.shape[0])
    if right <= left or bottom <= top:
        return
    scale = 8
    large = np.kron(symbol, np.ones((scale, scale), np.uint8))
    source = np.array([[0, 0], [modules, 0], [modules, modules], [0, modules]], np.float32) * scale
    target = (quad - np.array([left, top], np.float32)) * _OVERSAMPLE
    size = ((right - left) * _OVERSAMPLE, (bottom - top) * _OVERSAMPLE)
    matrix = cv2.getPerspectiveTransform(source - 0.5, target.astype(np.float32) - 0.5)
    warped = cv2.warpPerspective(large, matrix, size, flags=cv2.INTER_LINEAR, borderValue=255)
    mask = cv2.warpPerspective(np.full_like(large, 255), matrix, size, flags=cv2.INTER_LINEAR, borderValue=0)
    shape = (right - left, bottom - top)
    value = cv2.resize(warped, shape, interpolation=cv2.INTER_AREA).astype(np.float32)[:, :, None]
    share = cv2.resize(mask, shape, interpolation=cv2.INTER_AREA).astype(np.float32)[:, :, None] / 255
    area = frame[top:bottom, left:right]
    mixed = area[:, :, :3] * (1 - share) + value * share
    area[:, :, :3] = np.clip(mixed, 0, 255).astype(np.uint8)
    if frame.shape[2] == 4:
        area[:, :, 3] = np.maximum(area[:, :, 3], (share[:, :, 0] * 255).astype(np.uint8))


def _light_surface(frame: Bitmap, corners: Quad, quad: npt.NDArray[np.float32], modules: int) -> None:
    """Paint out the old symbol and a thin quiet zone around the new one."""
    white = (255, 255, 255, 255) if frame.shape[2] == 4 else (255, 255, 255)
    cv2.fillConvexPoly(frame, np.round(_grown(corners, 1.01)).astype(np.int32), white)
    middle = quad.mean(axis=0)
    around = (quad - middle) * np.float32(1 + 4 / modules) + middle
    cv2.fillConvexPoly(frame, np.round(around).astype(np.int32), white)


def _snapped(points: npt.NDArray[np.float32], modules: int) -> npt.NDArray[np.float32]:
    """Fit an upright square place to whole pixels per module, which both decoders like best."""
    sides = [points[i] - points[i - 1] for i in range(4)]
    upright = all(min(abs(float(side[0])), abs(float(side[1]))) < 1.6 for side in sides)
    lengths = [float(np.linalg.norm(side)) for side in sides]
    if not upright or max(lengths) > min(lengths) * 1.04:
        return points
    module = int(min(lengths) // modules)
    if module < 2:
        return points
    middle = points.mean(axis=0)
    size = module * modules
    corner = np.round(middle - size / 2)
    signs = np.sign(points - middle)
    snapped: npt.NDArray[np.float32] = (corner + (signs + 1) / 2 * size).astype(np.float32)
    return snapped


# -- reading back --------------------------------------------------------------------------------------


def _both_read(image: bytes, code: QrCode, text: str, limits: QrLimits) -> bool:
    decoded = load(image, limits)
    return (
        not isinstance(decoded, str)
        and code.frame < len(decoded.frames)
        and _ways_read(decoded.frames[code.frame], code, text, decoded.header.orientation in _MIRRORED) > 0
    )


def _ways_read(bitmap: Bitmap, code: QrCode, text: str, mirrored: bool) -> int:
    """Return in how many ways OpenCV reads a text, in the whole picture and around its place.

    0 where zxing-cpp does not read it: it must be read by both.
    """
    plane = gray(on_ground(bitmap, 255))
    if is_crowded(plane):
        return 0  # zxing-cpp would be busy for minutes
    if not any(reading.text == text for reading in zxingcpp.read_barcodes(plane)):
        return 0
    left, top, right, bottom = code.box
    margin = max(right - left, bottom - top) * 0.25 + 8
    rows = slice(max(int(top - margin), 0), int(bottom + margin))
    area = plane[rows, max(int(left - margin), 0) : int(right + margin)]
    # OpenCV reads no mirrored symbols, so it gets the picture as it is shown.
    whole, near = (np.ascontiguousarray(view[:, ::-1] if mirrored else view) for view in (plane, area))
    wanted = text.encode()
    return (wanted in _opencv_readings(whole)) + (wanted in _opencv_reading(near))


def _opencv_readings(view: Bitmap) -> list[bytes]:
    if pattern_places(view) > MOST_PLACES:
        return []
    try:
        done, texts, _, _ = cv2.QRCodeDetector().detectAndDecodeBytesMulti(view)
    except cv2.error:
        return []
    return [bytes(raw) for raw in texts] if done else []


def _opencv_reading(view: Bitmap) -> list[bytes]:
    try:
        raw, _, _ = cv2.QRCodeDetector().detectAndDecodeBytes(view)
    except cv2.error:
        return []
    return [bytes(raw)]


def _as_shown(corners: Quad, mirrored: bool) -> Quad:
    """Return corners in the order in which a symbol must be drawn to be shown unmirrored."""
    (x0, y0), (x1, y1), _, (x3, y3) = corners
    clockwise = (x1 - x0) * (y3 - y0) - (y1 - y0) * (x3 - x0) > 0
    if clockwise is not mirrored:
        return corners
    return corners[0], corners[3], corners[2], corners[1]


def _texts_at(image: bytes, limits: QrLimits) -> list[tuple[str, Quad]]:
    """Return what can be read in a picture, with the ordinary search and, apart from it, with OpenCV."""
    decoded = load(image, limits)
    if isinstance(decoded, str):
        raise CannotPaint("the picture could not be written")
    found: list[tuple[str, Quad]] = []
    for frame in decoded.frames:
        found += [(code.text, code.corners) for code in find_in_bitmap(frame, limits.max_codes)]
        plane = gray(on_ground(frame, 255))
        if pattern_places(plane) > MOST_PLACES:
            continue
        try:
            done, texts, places, _ = cv2.QRCodeDetector().detectAndDecodeBytesMulti(plane)
        except cv2.error:
            continue
        if done and places is not None:
            for raw, place in zip(texts, places, strict=False):
                (a, b, c, d) = ((float(x), float(y)) for x, y in place.reshape(4, 2))
                found.append((bytes(raw).decode("utf-8", "replace"), (a, b, c, d)))
    return found


def _overlap(first: Quad, second: Quad) -> bool:
    xs, ys = [p[0] for p in first], [p[1] for p in first]
    other_xs, other_ys = [p[0] for p in second], [p[1] for p in second]
    return min(xs) < max(other_xs) and min(other_xs) < max(xs) and min(ys) < max(other_ys) and min(other_ys) < max(ys)
