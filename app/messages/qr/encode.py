"""Bitmaps back to bytes of the format they came from.

Metadata that decides how the pixels are shown (orientation, color profile, resolution) is carried over;
the rest of the metadata describes a picture that no longer exists and is left out.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Final

import cv2
import numpy as np

from app.messages.qr.bitmaps import Bitmap, Decoded

_EXTENSIONS: Final = {"png": ".png", "jpeg": ".jpg", "gif": ".gif", "webp": ".webp", "bmp": ".bmp"}
_JPEG_QUALITY: Final = 92
_GIF_OPTIONS: Final = [cv2.IMWRITE_GIF_DITHER, 3]  # 3: none; dithering would spoil flat surfaces
_KEPT_PNG_CHUNKS: Final = (b"iCCP", b"sRGB", b"gAMA", b"cHRM", b"pHYs", b"eXIf")


class CannotEncode(ValueError):
    """The bitmaps cannot be written in the format they came from."""


def encode(original: bytes, decoded: Decoded, frames: Sequence[Bitmap]) -> bytes:
    """Write frames in the format of the picture they come from.

    Args:
        original: The picture's bytes, for its metadata.
        decoded: How it was decoded.
        frames: The changed frames, of three or four channels.

    Returns:
        A picture of the same format and dimensions.

    Raises:
        CannotEncode: Where the format cannot be written.
    """
    kind = decoded.header.kind
    extension = _EXTENSIONS[kind]
    if len(frames) > 1 or decoded.durations:
        return _animation(extension, decoded, frames)
    frame = frames[0]
    if kind in ("jpeg", "bmp") and frame.shape[2] == 4:
        frame = np.ascontiguousarray(frame[:, :, :3])
    options: list[int] = []
    if kind == "jpeg":
        options = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
    elif kind == "png":
        options = [cv2.IMWRITE_PNG_COMPRESSION, 6]
    elif kind == "gif":
        options = _GIF_OPTIONS
    elif kind == "webp":
        lossless = b"VP8L" in original[:4_096]
        options = [cv2.IMWRITE_WEBP_QUALITY, 101 if lossless else _JPEG_QUALITY]  # above 100: without loss
    try:
        done, buffer = cv2.imencode(extension, frame, options)
    except cv2.error as error:
        raise CannotEncode(f"the picture cannot be written as {kind}") from error
    if not done:
        raise CannotEncode(f"the picture cannot be written as {kind}")
    written = np.asarray(buffer, np.uint8).tobytes()
    if kind == "jpeg":
        return _with_jpeg_metadata(original, written)
    if kind == "png":
        return _with_png_metadata(original, written)
    return written


def _animation(extension: str, decoded: Decoded, frames: Sequence[Bitmap]) -> bytes:
    animation = cv2.Animation()
    channels = max(frame.shape[2] for frame in frames)
    animation.frames = [
        frame if frame.shape[2] == channels else cv2.cvtColor(frame, cv2.COLOR_BGR2BGRA) for frame in frames
    ]
    animation.durations = list(decoded.durations) or [100] * len(frames)
    try:
        options = _GIF_OPTIONS if extension == ".gif" else []
        done, buffer = cv2.imencodeanimation(extension, animation, options)
    except cv2.error as error:
        raise CannotEncode("the animation cannot be written") from error
    if not done:
        raise CannotEncode("the animation cannot be written")
    return np.asarray(buffer, np.uint8).tobytes()


def _with_jpeg_metadata(original: bytes, written: bytes) -> bytes:
    """Put the Exif (APP1) and color profile (APP2) segments behind the start of the new file."""
    kept = b""
    at = 2
    while at + 4 <= len(original) and original[at] == 0xFF and original[at + 1] not in (0xDA, 0xD9):
        if original[at + 1] == 0xFF:
            at += 1
            continue
        size = int.from_bytes(original[at + 2 : at + 4], "big")
        body = original[at + 4 : at + 2 + size]
        if (original[at + 1] == 0xE1 and body.startswith(b"Exif\x00\x00")) or (
            original[at + 1] == 0xE2 and body.startswith(b"ICC_PROFILE\x00")
        ):
            kept += original[at : at + 2 + size]
        at += 2 + size
    return written[:2] + kept + written[2:]


def _with_png_metadata(original: bytes, written: bytes) -> bytes:
    """Put the chunks that decide how the pixels are shown behind the new header."""
    kept = b""
    at = 8
    present = {written[spot + 4 : spot + 8] for spot in _chunk_starts(written)}
    while at + 12 <= len(original):
        size = int.from_bytes(original[at : at + 4], "big")
        kind = original[at + 4 : at + 8]
        if kind == b"IDAT":
            break
        chunk = original[at : at + 12 + size]
        whole = len(chunk) == 12 + size and zlib.crc32(chunk[4:-4]).to_bytes(4, "big") == chunk[-4:]
        if kind in _KEPT_PNG_CHUNKS and whole and kind not in present:
            kept += chunk
        at += 12 + size
    return written[:33] + kept + written[33:]


def _chunk_starts(data: bytes) -> list[int]:
    starts = []
    at = 8
    while at + 12 <= len(data):
        starts.append(at)
        at += 12 + int.from_bytes(data[at : at + 4], "big")
    return starts
