"""Completing images that are cut off, as far as mail clients show them too.

A browser shows the rows that arrived; a decoder that gives up at the missing end would leave a code in them
unread. The missing part becomes blank.
"""

from __future__ import annotations

import zlib

from app.messages.qr.headers import ImageHeader, read_header

_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def completed(data: bytes, header: ImageHeader) -> bytes | None:
    """Return a decodable version of an image that was cut off.

    Args:
        data: The image's bytes.
        header: Its header.

    Returns:
        The completed image, or None where this format cannot be completed. Never raises.
    """
    if header.kind == "jpeg":
        return data + b"\xff\xd9"
    if header.kind == "png":
        return _completed_png(data, header)
    if header.kind == "bmp":
        missing = 14 + 124 + 1024 + header.pixels * 4 - len(data)
        return data + b"\xff" * missing if missing > 0 else None
    return None


def _completed_png(data: bytes, header: ImageHeader) -> bytes | None:
    depth, color, interlaced = data[24:25], data[25:26], data[28:29]
    if not interlaced or color[0] not in _SAMPLES:
        return None
    bits = _SAMPLES[color[0]] * depth[0]
    size = _raw_size(header.width, header.height, bits, adam7=interlaced == b"\x01")
    inflate = zlib.decompressobj()
    raw = bytearray()
    before = b""
    at = 8
    while at + 8 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        if kind == b"IDAT":
            try:
                raw += inflate.decompress(body, max(size - len(raw), 1))
            except zlib.error:
                break
        elif kind in (b"PLTE", b"tRNS", b"gAMA") and len(body) == length and not raw:
            before += _chunk(kind, body)
        if len(raw) >= size:
            break
        at += 12 + length
    if not raw:
        return None
    raw += b"\x00" * (size - len(raw))
    packed = zlib.compress(bytes(raw[:size]), 1)
    whole = data[:8] + _chunk(b"IHDR", data[16:29]) + before + _chunk(b"IDAT", packed) + _chunk(b"IEND", b"")
    return whole if read_header(whole) is not None else None


def _raw_size(width: int, height: int, bits: int, *, adam7: bool) -> int:
    """Bytes of the filtered rows (PNG section 7)."""
    if not adam7:
        return height * (1 + (width * bits + 7) // 8)
    total = 0
    for left, top, right_step, down_step in _ADAM7:
        columns = (width - left + right_step - 1) // right_step
        rows = (height - top + down_step - 1) // down_step
        if columns > 0 and rows > 0:
            total += rows * (1 + (columns * bits + 7) // 8)
    return total


def _chunk(kind: bytes, body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")
