"""Image bytes to bitmaps, within limits.

The only place where a picture out of mail is decoded. Sizes are checked from the header first; the stored
orientation is kept, so that coordinates are those of the stored pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from app.messages.qr.headers import ImageHeader, read_header
from app.messages.qr.repair import completed
from app.messages.qr.types import QrLimits

Bitmap: TypeAlias = npt.NDArray[np.uint8]

# One image is one job: threads would only compete with the other jobs of the worker. And a broken image
# in mail is no event for the log: it is said in the notes.
cv2.setNumThreads(1)
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

_DAMAGED: Final = "the image is cut off or damaged"


@dataclass(frozen=True, slots=True)
class Decoded:
    """An image as bitmaps.

    Attributes:
        header: Its header.
        frames: One array per frame, rows by columns by channels: 1 (gray), 3 (BGR) or 4 (BGR and alpha).
        durations: Milliseconds per frame; empty for a still image.
        notes: What could not be read.
        whole: Whether all frames are there.
    """

    header: ImageHeader
    frames: tuple[Bitmap, ...]
    durations: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()
    whole: bool = True


def load(data: bytes, limits: QrLimits) -> Decoded | str:
    """Decode an image if its header allows it.

    Args:
        data: The file's content.
        limits: What may be decoded.

    Returns:
        The bitmaps, or one short sentence that says why there are none. Never raises.
    """
    if len(data) > limits.max_bytes:
        return f"the image is larger than {limits.max_bytes} bytes"
    header = read_header(data)
    if header is None:
        return "not a PNG, JPEG, GIF, WebP or BMP image"
    if header.pixels > limits.max_pixels or max(header.width, header.height) > limits.max_side:
        return f"the image has too many pixels ({header.width} by {header.height})"
    if header.animated:
        return _animation(data, header, limits)
    bitmap = _still(data)
    if bitmap is not None:
        return Decoded(header, (bitmap,))
    repaired = completed(data, header)
    bitmap = None if repaired is None else _still(repaired)
    if bitmap is None:
        return _DAMAGED
    return Decoded(header, (bitmap,), notes=(_DAMAGED,))


def _still(data: bytes) -> Bitmap | None:
    try:
        bitmap = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        return None
    return None if bitmap is None else _eight_bit(bitmap)


def frames_read(header: ImageHeader, limits: QrLimits) -> int:
    """Return how many pictures of an animation are read at most."""
    return min(limits.max_frames, max(1, limits.max_pixels * 2 // max(header.pixels, 1)))


def _animation(data: bytes, header: ImageHeader, limits: QrLimits) -> Decoded | str:
    most = frames_read(header, limits)
    try:
        done, animation = cv2.imdecodeanimation(np.frombuffer(data, np.uint8), 0, most + 1)
    except cv2.error:
        done = False
    if not done or not animation.frames:
        bitmap = _still(data)
        if bitmap is None:
            return _DAMAGED
        note = "only the first picture of the animation could be read"
        return Decoded(header, (bitmap,), notes=(note,), whole=False)
    frames = tuple(_eight_bit(np.asarray(frame)) for frame in animation.frames[:most])
    durations = tuple(int(time) for time in animation.durations[:most])
    if len(animation.frames) > most:
        note = f"only the first {most} pictures of the animation were read"
        return Decoded(header, frames, durations, (note,), whole=False)
    return Decoded(header, frames, durations)


def _eight_bit(bitmap: npt.NDArray[np.generic]) -> Bitmap:
    """Return a bitmap with 8 bits per sample."""
    if bitmap.dtype == np.uint8:
        return bitmap.astype(np.uint8, copy=False)
    if bitmap.dtype == np.uint16:
        return (bitmap.astype(np.uint16) >> 8).astype(np.uint8)
    return np.clip(np.nan_to_num(bitmap.astype(np.float32)) * 255, 0, 255).astype(np.uint8)


def is_colored(bitmap: Bitmap) -> bool:
    """Whether a bitmap has color that its gray version loses."""
    if bitmap.ndim == 2 or bitmap.shape[2] < 3:
        return False
    step = max(1, max(bitmap.shape[:2]) // 256)
    return bool((spread(bitmap[::step, ::step]) > 40).mean() > 0.02)


def spread(bitmap: Bitmap) -> Bitmap:
    """Return, per pixel of a BGR bitmap, how far apart its colors are: 0 for gray."""
    blue, green, red = bitmap[:, :, 0], bitmap[:, :, 1], bitmap[:, :, 2]
    # Pair by pair: a reduction over an axis of three is twenty times slower in numpy.
    return np.maximum(np.maximum(blue, green), red) - np.minimum(np.minimum(blue, green), red)


def on_ground(bitmap: Bitmap, ground: int) -> Bitmap:
    """Return a bitmap without alpha, laid on a gray ground (255 white, 0 black)."""
    if bitmap.ndim == 2 or bitmap.shape[2] == 3:
        return bitmap
    if bitmap.shape[2] == 1:
        return np.ascontiguousarray(bitmap[:, :, 0])
    *colors, alpha = cv2.split(bitmap)
    through = cv2.multiply(255 - alpha, np.full_like(alpha, ground), scale=1 / 255)
    # Channel by channel in OpenCV: the same in numpy, in 16 bits, takes half a second for a poster.
    mixed = [cv2.add(cv2.multiply(color, alpha, scale=1 / 255), through) for color in colors]
    return np.ascontiguousarray(mixed[0] if len(mixed) == 1 else cv2.merge(mixed)).astype(np.uint8, copy=False)


def has_alpha(bitmap: Bitmap) -> bool:
    """Whether some pixels are not opaque."""
    return bitmap.ndim == 3 and bitmap.shape[2] in (2, 4) and bool((bitmap[:, :, -1] < 250).any())


def gray(bitmap: Bitmap) -> Bitmap:
    """Return the brightness of a bitmap without alpha."""
    if bitmap.ndim == 2:
        return np.ascontiguousarray(bitmap)
    return cv2.cvtColor(bitmap, cv2.COLOR_BGR2GRAY).astype(np.uint8, copy=False)
