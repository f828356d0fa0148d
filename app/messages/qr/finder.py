"""Finding codes in one bitmap.

zxing-cpp reads first, because it is fast and reads most. Where it leaves something behind that has the
finder patterns of a code, harder readings follow: other thresholds, enlarged, per color, and OpenCV's two
detectors. A picture without finder patterns costs one reading and one scan. One made of finder patterns would
keep the decoders busy for minutes: it is made smaller until few enough are left, and that is said.

References:
    ISO/IEC 18004, section 12 (finder pattern: dark and light runs of 1:1:3:1:1 modules).
    https://github.com/zxing-cpp/zxing-cpp, https://docs.opencv.org/ (objdetect, QRCodeDetector).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple, cast

import cv2
import numpy as np
import zxingcpp

from app.messages.qr.bitmaps import Bitmap, gray, has_alpha, is_colored, on_ground, spread
from app.messages.qr.crowds import is_crowded
from app.messages.qr.patterns import has_contrast, pattern_places
from app.messages.qr.types import Decoder, Point, QrCode, Quad, scaled

_FORMATS: Final = zxingcpp.barcode_formats_from_str("QRCode,MicroQRCode,RMQRCode")
_OPENCV_SIDE: Final = 1_400
_FIRST_SIDE: Final = 4_200
_HARD_SIDE: Final = 1_600
_SMALL_SIDE: Final = 700
_MIN_SIDE: Final = 11
_MAX_ROUNDS: Final = 4
MOST_PLACES: Final = 60
"""Most places that look like finder patterns in a picture that is given to OpenCV."""
_MOST_FOR_ARUCO: Final = 24
_ONE_CODE_SIDE: Final = 400
_CROWDED_PIXELS: Final = 1_000_000
CROWDED: Final = "it has too many places that look like parts of a code and was only looked at made smaller"
"""What is said of a picture that was not fully looked at."""


class _Reading(NamedTuple):
    """A code before it is told apart from others."""

    text: str
    corners: Quad
    decoder: Decoder
    symbology: str
    inverted: bool


class _Crowded(Exception):
    """A plane has more finder patterns than a decoder may be given."""


class Look(NamedTuple):
    """The codes of a bitmap, each once, and whether it was looked at only made smaller (:data:`CROWDED`)."""

    codes: list[QrCode]
    crowded: bool


def find_in_bitmap(bitmap: Bitmap, max_codes: int, frame: int = 0, orientation: int = 1) -> list[QrCode]:
    """Find the codes of one bitmap; see :func:`look` for what was not fully looked at."""
    return look(bitmap, max_codes, frame, orientation).codes


def look(bitmap: Bitmap, max_codes: int, frame: int = 0, orientation: int = 1) -> Look:
    """Find the codes of one bitmap.

    Args:
        bitmap: Rows by columns, with 1, 3 (BGR) or 4 (BGR and alpha) channels of 8 bits.
        max_codes: Most codes to return.
        frame: Written into the result.
        orientation: The Exif orientation in which the bitmap is shown. Only decoders that mind it get the
            turned bitmap; coordinates are those of the bitmap given.

    Returns:
        The codes, each once, and whether all of the bitmap was looked at as it is.
    """
    found: list[_Reading] = []
    crowded = False
    if min(bitmap.shape[:2]) < _MIN_SIDE:
        return Look([], crowded)
    for plane in _planes(bitmap):
        for reading in found:
            _cover(plane.pixels, scaled(reading.corners, plane.scale))
        left: _Plane | None = plane
        while left is not None:
            try:
                _read_rounds(left, orientation, found, max_codes)
            except _Crowded:
                crowded = True
                left = _less_crowded(left)
            else:
                left = None
    return Look([_code(reading, frame) for reading in found[:max_codes]], crowded)


def _read_rounds(plane: _Plane, orientation: int, found: list[_Reading], max_codes: int) -> None:
    """Add the codes of a plane to those found, and paint over each, as long as there are more."""
    for _ in range(_MAX_ROUNDS):
        readings = _read_plane(plane, orientation, bool(found))
        new = [reading for reading in readings if _is_new(reading, found)]
        found += new
        if not new or len(found) >= max_codes:
            break
        for reading in new:
            _cover(plane.pixels, scaled(reading.corners, plane.scale))


def _less_crowded(plane: _Plane) -> _Plane | None:
    """Return a plane made so small that little structure is left: a million pixels, or a quarter of them."""
    factor = math.sqrt(min(_CROWDED_PIXELS, plane.pixels.size / 4) / plane.pixels.size)
    if min(plane.pixels.shape) * factor < _MIN_SIDE:
        return None
    smaller, scale = _reduced(plane.pixels, max(1, round(max(plane.pixels.shape) * factor)))
    return _Plane(smaller, plane.scale * scale, plane.first, True)


def _code(reading: _Reading, frame: int) -> QrCode:
    return QrCode(reading.text, reading.corners, reading.decoder, reading.symbology, frame, reading.inverted)


class _Plane(NamedTuple):
    """A gray version of a bitmap, which may be painted on."""

    pixels: Bitmap
    scale: float
    first: bool
    crowded: bool = False


def _planes(bitmap: Bitmap) -> Iterator[_Plane]:
    """Yield the gray versions of a bitmap that can differ in what is to be read."""
    bitmap, first = _reduced(bitmap, _FIRST_SIDE)
    flat = on_ground(bitmap, 255)
    yield _Plane(gray(flat).copy(), first, True)
    if has_alpha(bitmap):
        yield _Plane(gray(on_ground(bitmap, 0)).copy(), first, True)
    if is_colored(flat):
        small, scale = _reduced(flat, _HARD_SIDE)
        scale *= first
        yield from (_Plane(np.ascontiguousarray(small[:, :, channel]), scale, False) for channel in range(3))
        yield _Plane(spread(small), scale, False)


def _reduced(bitmap: Bitmap, side: int) -> tuple[Bitmap, float]:
    """Return a bitmap whose longest side is at most ``side``, and the factor it was made smaller by."""
    scale = min(1.0, side / max(bitmap.shape[:2]))
    if scale == 1.0:
        return bitmap, 1.0
    return cv2.resize(bitmap, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA).astype(
        np.uint8, copy=False
    ), scale


def _read_plane(plane: _Plane, orientation: int, some_found: bool) -> list[_Reading]:
    """Read one gray bitmap, as hard as it looks worthwhile; coordinates are those of the whole bitmap."""
    if not has_contrast(plane.pixels):
        return []
    if plane.first:
        readings = _zxing(plane.pixels)
        if readings:
            return [reading._replace(corners=scaled(reading.corners, 1 / plane.scale)) for reading in readings]
    small, scale = _reduced(plane.pixels, _HARD_SIDE)
    is_small = max(small.shape) <= _SMALL_SIDE
    # A small picture gets the cheap readings even where no pattern stands out, unless it gave a code already.
    if is_small and plane.first and not some_found:
        places = -1
    else:
        places = pattern_places(small, strict=some_found or not plane.first)
    if places == 0:
        return []
    attempts: list[Callable[[Bitmap], list[_Reading]]] = []
    if not plane.first or scale < 1.0:
        attempts.append(_zxing)
    attempts += [_zxing_global, _zxing_enlarged, _zxing_stretched, _zxing_smoothed]
    readings = _first_result(attempts, small)
    if not readings:
        places = pattern_places(small) if places < 0 else places
        readings = _first_result(_opencv_attempts(orientation, places, aruco=not plane.crowded), small)
    factor = 1 / (scale * plane.scale)
    return [reading._replace(corners=scaled(reading.corners, factor)) for reading in readings]


def _first_result(attempts: Iterable[Callable[[Bitmap], list[_Reading]]], plane: Bitmap) -> list[_Reading]:
    for attempt in attempts:
        readings = attempt(plane)
        if readings:
            return readings
    return []


def _opencv_attempts(orientation: int, places: int, *, aruco: bool) -> list[Callable[[Bitmap], list[_Reading]]]:
    """Return OpenCV's detectors, as far as the places that look like finder patterns are few enough for them.

    Looking for several codes, both try combinations of all such places: some hundreds keep them busy for
    minutes, and a picture can be made to have them. Then a small picture is searched for one code, and a large
    one is smoothed first, which noise does not survive. The detector of the ArUco module is kept from what is left of
    a crowd: it sees patterns where we do not, and was busy with one such picture for seven seconds.
    """
    attempts: list[Callable[[Bitmap], list[_Reading]]] = []
    if places > MOST_PLACES:
        attempts.append(lambda plane: _opencv_smoothed(plane, orientation))
    elif places:
        attempts.append(lambda plane: _opencv(plane, orientation, cv2.QRCodeDetector()))
    if aruco and 0 < places <= _MOST_FOR_ARUCO:
        attempts.append(lambda plane: _opencv(plane, orientation, cv2.QRCodeDetectorAruco()))
    return attempts


def _opencv_smoothed(plane: Bitmap, orientation: int) -> list[_Reading]:
    if max(plane.shape) <= _ONE_CODE_SIDE:
        readings = _opencv(plane, orientation, cv2.QRCodeDetector(), several=False)
        if readings:
            return readings
    smooth = cv2.GaussianBlur(plane, (0, 0), 1.5).astype(np.uint8, copy=False)
    return _opencv(smooth, orientation, cv2.QRCodeDetector()) if pattern_places(smooth) <= MOST_PLACES else []


# -- zxing-cpp -----------------------------------------------------------------------------------------


def _zxing(
    plane: Bitmap, binarizer: zxingcpp.Binarizer = zxingcpp.Binarizer.LocalAverage, *, checked: bool = False
) -> list[_Reading]:
    if not checked and is_crowded(plane):
        raise _Crowded
    codes = zxingcpp.read_barcodes(plane, formats=_FORMATS, text_mode=zxingcpp.TextMode.Plain, binarizer=binarizer)
    return [_from_zxing(code, 1.0, plane) for code in codes if code.text]


def _from_zxing(code: zxingcpp.Barcode, scale: float, plane: Bitmap) -> _Reading:
    place = code.position
    corners = cast(
        Quad,
        tuple(
            (corner.x / scale, corner.y / scale)
            for corner in (place.top_left, place.top_right, place.bottom_right, place.bottom_left)
        ),
    )
    return _Reading(code.text, corners, "zxing", str(code.format), _is_inverted(plane, corners, scale))


def _is_inverted(plane: Bitmap, corners: Quad, scale: float) -> bool:
    """Whether the finder pattern's outer ring at the first corner is the lighter part of the symbol."""
    (left, top), (right, _), (far_x, far_y), _ = corners
    size = max(abs(far_x - left), abs(far_y - top), abs(right - left))
    if size < _MIN_SIDE:
        return False
    # Between the corner and the middle, a 60th of the diagonal in: inside the ring whatever the version.
    x = round((left + (far_x - left) / 120) * scale)
    y = round((top + (far_y - top) / 120) * scale)
    height, width = plane.shape
    xs = sorted((round(min(p[0] for p in corners) * scale), round(max(p[0] for p in corners) * scale)))
    ys = sorted((round(min(p[1] for p in corners) * scale), round(max(p[1] for p in corners) * scale)))
    area = plane[max(ys[0], 0) : ys[1] + 1, max(xs[0], 0) : xs[1] + 1]
    if not area.size or not (0 <= x < width and 0 <= y < height):
        return False
    return bool(int(plane[y, x]) > (int(area.min()) + int(area.max())) / 2)


def _zxing_global(plane: Bitmap) -> list[_Reading]:
    # Always after another reading of the same plane, which was found not to be crowded.
    return _zxing(plane, zxingcpp.Binarizer.GlobalHistogram, checked=True)


def _zxing_enlarged(plane: Bitmap) -> list[_Reading]:
    if max(plane.shape) > _SMALL_SIDE:
        return []
    large = cv2.resize(plane, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC).astype(np.uint8, copy=False)
    if is_crowded(large):
        raise _Crowded
    codes = zxingcpp.read_barcodes(large, formats=_FORMATS, text_mode=zxingcpp.TextMode.Plain)
    return [_from_zxing(code, 2.0, large) for code in codes if code.text]


def _zxing_stretched(plane: Bitmap) -> list[_Reading]:
    return _zxing(_stretched(plane))


def _zxing_smoothed(plane: Bitmap) -> list[_Reading]:
    smooth = cv2.GaussianBlur(plane, (0, 0), 1.2).astype(np.uint8, copy=False)
    return _zxing(smooth) or _zxing(smooth, zxingcpp.Binarizer.GlobalHistogram, checked=True)


def _stretched(plane: Bitmap) -> Bitmap:
    """Return a bitmap with its contrast evened out locally."""
    return cv2.createCLAHE(clipLimit=4.0, tileGridSize=(4, 4)).apply(plane).astype(np.uint8, copy=False)


# -- OpenCV --------------------------------------------------------------------------------------------


def _opencv(
    plane: Bitmap,
    orientation: int,
    detector: cv2.QRCodeDetector | cv2.QRCodeDetectorAruco,
    *,
    several: bool = True,
) -> list[_Reading]:
    scale = min(1.0, _OPENCV_SIDE / max(plane.shape))
    small = plane if scale == 1.0 else cv2.resize(plane, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    mirrored = orientation in (2, 4, 5, 7)
    if mirrored:
        small = cv2.flip(small, 1)
    try:
        if several:
            done, texts, points, _ = detector.detectAndDecodeBytesMulti(small)
        else:
            raw, points, _ = detector.detectAndDecodeBytes(small)
            done, texts = bool(raw), (raw,)
    except cv2.error:
        return []
    if not done or points is None:
        return []
    readings = []
    for raw, place in zip(texts, points, strict=False):
        if not raw:
            continue
        corners = _outer(place.reshape(4, 2) + 0.5)
        if mirrored:
            corners = [(small.shape[1] - x, y) for x, y in corners]
        quad = cast(Quad, tuple((float(x / scale), float(y / scale)) for x, y in corners))
        readings.append(_Reading(_text(bytes(raw)), quad, "opencv", "QR Code", False))
    return readings


def _outer(points: Bitmap) -> list[Point]:
    """Move corners that are centers of the outermost pixels to those pixels' outer edges."""
    middle = points.mean(axis=0)
    return [(float(x + np.sign(x - middle[0]) * 0.5), float(y + np.sign(y - middle[1]) * 0.5)) for x, y in points]


def _text(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


# -- places --------------------------------------------------------------------------------------------


def _cover(plane: Bitmap, corners: Quad) -> None:
    """Paint over a symbol, so that it is not read again."""
    points = np.asarray(corners, np.float32)
    middle = points.mean(axis=0)
    grown = (points - middle) * 1.04 + middle
    value = int(np.median(plane[:: max(1, plane.shape[0] // 64), :: max(1, plane.shape[1] // 64)]))
    cv2.fillConvexPoly(plane, np.round(grown).astype(np.int32), value)


def _is_new(reading: _Reading, found: list[_Reading]) -> bool:
    """Whether a reading is not the same text at nearly the same place as one before."""
    x, y = _middle(reading.corners)
    for other in found:
        other_x, other_y = _middle(other.corners)
        reach = max(abs(other.corners[0][0] - other_x), abs(other.corners[0][1] - other_y), 4.0)
        if abs(x - other_x) < reach and abs(y - other_y) < reach:
            return False
    return True


def _middle(corners: Quad) -> Point:
    return sum(point[0] for point in corners) / 4, sum(point[1] for point in corners) / 4
