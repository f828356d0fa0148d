"""Image headers: which format, how many pixels, which orientation; before anything is decoded.

Only what decides whether decoding is safe and how the result lies is read here.

References:
    PNG (https://www.w3.org/TR/png-3/), JPEG (ITU-T T.81 annex B), Exif 2.32 (tag 0x0112), GIF89a,
    WebP container (RFC 9649), BMP (https://learn.microsoft.com/windows/win32/gdi/bitmap-storage).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from app.messages.qr.types import ImageKind

_SIZED_MARKERS = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
_MAX_SEGMENTS = 4_096
_ORIENTATION_TAG = 0x0112


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """What an image's header says.

    Attributes:
        kind: The format, from the content, whatever the name says.
        width: Pixels across, as stored.
        height: Pixels down, as stored.
        animated: Whether there is more than one frame.
        orientation: Exif orientation, 1 to 8; 1 where none is given.
    """

    kind: ImageKind
    width: int
    height: int
    animated: bool = False
    orientation: int = 1

    @property
    def pixels(self) -> int:
        """Pixels of one frame."""
        return self.width * self.height


def read_header(data: bytes) -> ImageHeader | None:
    """Read the header of a PNG, JPEG, GIF, WebP or BMP image.

    Args:
        data: The file's content, which may be cut off.

    Returns:
        The header, or None where the content is none of these formats or says no size. Never raises.
    """
    try:
        if data[:8] == b"\x89PNG\r\n\x1a\n":
            return _png(data)
        if data[:2] == b"\xff\xd8":
            return _jpeg(data)
        if data[:6] in (b"GIF87a", b"GIF89a"):
            return _gif(data)
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return _webp(data)
        if data[:2] == b"BM":
            return _bmp(data)
    except IndexError:
        return None
    return None


def _usable(header: ImageHeader) -> ImageHeader | None:
    return header if header.width > 0 and header.height > 0 else None


def _big(data: bytes, at: int, size: int) -> int:
    return _whole(data, at, size, "big")


def _little(data: bytes, at: int, size: int) -> int:
    return _whole(data, at, size, "little")


def _whole(data: bytes, at: int, size: int, order: str) -> int:
    piece = data[at : at + size]
    if len(piece) != size:
        raise IndexError
    return int.from_bytes(piece, "big" if order == "big" else "little")


def _png(data: bytes) -> ImageHeader | None:
    header = ImageHeader("png", _big(data, 16, 4), _big(data, 20, 4))
    at = 8
    for _ in range(_MAX_SEGMENTS):
        kind = data[at + 4 : at + 8]
        if len(kind) < 4 or kind == b"IDAT":
            break
        size = _big(data, at, 4)
        if kind == b"acTL":
            header = replace(header, animated=_big(data, at + 8, 4) > 1)
        elif kind == b"eXIf":
            header = replace(header, orientation=_exif_orientation(data[at + 8 : at + 8 + size]))
        at += 12 + size
    return _usable(header)


def _jpeg(data: bytes) -> ImageHeader | None:
    at = 2
    orientation = 1
    for _ in range(_MAX_SEGMENTS):
        while data[at] == 0xFF and data[at + 1] == 0xFF:
            at += 1
        if data[at] != 0xFF:
            return None
        marker = data[at + 1]
        if marker in (0x01, *range(0xD0, 0xD9)):
            at += 2
            continue
        size = _big(data, at + 2, 2)
        if marker in _SIZED_MARKERS:
            header = ImageHeader("jpeg", _big(data, at + 7, 2), _big(data, at + 5, 2), orientation=orientation)
            return _usable(header)
        if marker == 0xE1 and data[at + 4 : at + 10] == b"Exif\x00\x00":
            orientation = _exif_orientation(data[at + 10 : at + 2 + size])
        if marker in (0xD9, 0xDA):
            return None
        at += 2 + size
    return None


def _gif(data: bytes) -> ImageHeader | None:
    width, height = _little(data, 6, 2), _little(data, 8, 2)
    at = 13 + _color_table(data[10])
    frames = 0
    try:
        for _ in range(_MAX_SEGMENTS * 16):
            if data[at] == 0x2C:
                frames += 1
                # The logical screen may be given as smaller than its frames.
                width = max(width, _little(data, at + 1, 2) + _little(data, at + 5, 2))
                height = max(height, _little(data, at + 3, 2) + _little(data, at + 7, 2))
                if frames > 1 and width * height == 0:
                    break
                at += 10 + _color_table(data[at + 9]) + 1
            elif data[at] == 0x21:
                at += 2
            else:
                break
            while data[at]:
                at += data[at] + 1
            at += 1
    except IndexError:
        pass  # cut off: what was read so far holds
    return _usable(ImageHeader("gif", width, height, animated=frames > 1))


def _color_table(flags: int) -> int:
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def _webp(data: bytes) -> ImageHeader | None:
    kind = data[12:16]
    if kind == b"VP8X":
        header = ImageHeader("webp", _little(data, 24, 3) + 1, _little(data, 27, 3) + 1, bool(data[20] & 0x02))
        return _usable(_webp_exif(data, header) if data[20] & 0x08 else header)
    if kind == b"VP8L":
        bits = _little(data, 21, 4)
        return ImageHeader("webp", (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
    if kind == b"VP8 ":
        return _usable(ImageHeader("webp", _little(data, 26, 2) & 0x3FFF, _little(data, 28, 2) & 0x3FFF))
    return None


def _webp_exif(data: bytes, header: ImageHeader) -> ImageHeader:
    at = 12
    for _ in range(_MAX_SEGMENTS):
        kind = data[at : at + 4]
        if len(kind) < 4 or at + 8 > len(data):
            break
        size = _little(data, at + 4, 4)
        if kind == b"EXIF":
            return replace(
                header,
                orientation=_exif_orientation(data[at + 8 : at + 8 + size].removeprefix(b"Exif\x00\x00")),
            )
        at += 8 + size + (size & 1)
    return header


def _bmp(data: bytes) -> ImageHeader | None:
    if _little(data, 14, 4) == 12:
        return _usable(ImageHeader("bmp", _little(data, 18, 2), _little(data, 20, 2)))
    height = _little(data, 22, 4)
    return _usable(ImageHeader("bmp", _little(data, 18, 4), height if height < 1 << 31 else (1 << 32) - height))


def _exif_orientation(tiff: bytes) -> int:
    """Read tag 0x0112 of the first directory; 1 where it is missing or wrong."""
    order = {b"MM": "big", b"II": "little"}.get(tiff[:2])
    if order is None:
        return 1
    try:
        at = _whole(tiff, 4, 4, order)
        for number in range(min(_whole(tiff, at, 2, order), 512)):
            entry = at + 2 + number * 12
            if _whole(tiff, entry, 2, order) == _ORIENTATION_TAG:
                value = _whole(tiff, entry + 8, 2, order)
                return value if 1 <= value <= 8 else 1
    except IndexError:
        return 1
    return 1
