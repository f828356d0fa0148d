"""An organisation's logo: what is uploaded is decoded, made small and written anew, so nothing but pixels is kept.

PNG and JPEG alone: an SVG is a document that can hold scripts and addresses. The header is read first, so that a file
of a few kilobytes cannot ask for gigabytes of pixels.
"""

from __future__ import annotations

from typing import Final

from app.kit.errors import Refused
from app.messages.qr.headers import read_header

MAX_UPLOAD: Final = 48 * 1024
MAX_PIXELS: Final = 4_000_000
WIDTH, HEIGHT = 384, 96
MAX_LOGO_BYTES: Final = 32_768
_SMALLEST: Final = 24


def made_logo(data: bytes) -> bytes:
    """The logo as it is shown: a PNG of at most 384 by 96 pixels.

    Args:
        data: An uploaded file; its content decides, not its name.

    Raises:
        Refused: It is too large, no PNG or JPEG, or cannot be decoded.
    """
    if len(data) > MAX_UPLOAD:
        raise Refused("The picture has more than 48 KB. Nothing was changed.", "logo_size")
    header = read_header(data)
    if header is None or header.kind not in ("png", "jpeg") or header.animated:
        raise Refused("The picture is no PNG or JPEG. Nothing was changed.", "logo_kind")
    if header.pixels > MAX_PIXELS:
        raise Refused("The picture has too many pixels. Nothing was changed.", "logo_pixels")
    # Imported where it is wanted: it is a large library, and a logo is a rare thing.
    import cv2
    import numpy as np

    try:
        found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        found = None
    if found is None or found.dtype != np.uint8:
        raise Refused("The picture cannot be read. Nothing was changed.", "logo_unreadable")
    height, width = found.shape[:2]
    share = min(WIDTH / width, HEIGHT / height, 1.0)
    while True:
        size = (max(1, round(width * share)), max(1, round(height * share)))
        small = cv2.resize(found, size, interpolation=cv2.INTER_AREA) if size != (width, height) else found
        done, written = cv2.imencode(".png", small, [cv2.IMWRITE_PNG_COMPRESSION, 9])
        if done and len(written) <= MAX_LOGO_BYTES:
            return written.tobytes()
        # A photograph has more to say than a mark: it is made smaller until it fits.
        share *= 0.8
        if min(size) < _SMALLEST:
            raise Refused("The picture cannot be made small enough. Nothing was changed.", "logo_size")
