"""Links in ``winmail.dat``: Outlook's own packaging of a message (TNEF).

References:
    MS-OXTNEF (attributes), MS-OXCMSG (properties), MS-OXRTFCP (compressed RTF).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from app.messages.attachment_office import rtf_text
from app.messages.attachment_text import addresses, decoded, read_html
from app.messages.attachment_types import AttachmentLimits, AttachmentLinks, Collector

SIGNATURE: Final = b"\x78\x9f\x3e\x22"

_ATTACH_TITLE: Final = 0x00018010
_ATTACH_DATA: Final = 0x0006800F
_ATTACH_START: Final = 0x00069002
_ATTACH_PROPERTIES: Final = 0x00069005
_MESSAGE_PROPERTIES: Final = 0x00069003
_BODY: Final = 0x0002800C

_P_BODY: Final = 0x1000
_P_RTF_COMPRESSED: Final = 0x1009
_P_HTML: Final = 0x1013
_P_LONG_FILE_NAME: Final = 0x3707
_P_ATTACH_DATA: Final = 0x3701

_FIXED_SIZES: Final = {
    0x02: 4,
    0x03: 4,
    0x04: 4,
    0x05: 8,
    0x06: 8,
    0x07: 8,
    0x0A: 4,
    0x0B: 4,
    0x14: 8,
    0x40: 8,
    0x48: 16,
}
_VARIABLE: Final = (0x0D, 0x1E, 0x1F, 0x102)
_MAX_VALUES: Final = 2_000
_MAX_RTF: Final = 20_000_000

Reader = Callable[[str, str, bytes], AttachmentLinks]


def tnef_links(data: bytes, limits: AttachmentLimits, read_file: Reader) -> AttachmentLinks:
    """Read the links of a TNEF file: the body inside and the files inside.

    Args:
        data: The file.
        limits: How much is looked at.
        read_file: Called for every file inside: name, content type, content.

    Returns:
        The links; notes name what could not be read.
    """
    collector = Collector(limits)
    files = 0
    title = ""
    pending: bytes | None = None

    def finish() -> None:
        nonlocal pending, title
        if pending is not None:
            collector.take(read_file(title, "", pending), title or "unnamed file")
        pending, title = None, ""

    whole = False
    for identifier, body in _attributes(data):
        if identifier < 0:
            whole = True
        elif identifier == _ATTACH_START:
            finish()
            files += 1
            if files > limits.max_members:
                collector.note(f"only the first {limits.max_members} files inside were looked at")
                break
        elif identifier == _ATTACH_TITLE:
            title = body.rstrip(b"\x00").decode("cp1252", "replace")[:200]
        elif identifier == _ATTACH_DATA:
            pending = body
        elif identifier == _ATTACH_PROPERTIES:
            properties = dict(_properties(body))
            name = properties.get(_P_LONG_FILE_NAME)
            if name:
                title = _string(name)[:200]
            if pending is None and _P_ATTACH_DATA in properties:
                pending = properties[_P_ATTACH_DATA]
        elif identifier == _BODY:
            for address in addresses(body.decode("cp1252", "replace")):
                collector.add(address, "text")
        elif identifier == _MESSAGE_PROPERTIES:
            _read_message(dict(_properties(body)), collector)
    finish()
    if not whole:
        collector.note("the file is cut off or damaged; the rest was not looked at")
    return collector.result("winmail.dat (TNEF)")


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield attributes; a last one of -1 says that the file ended where it should."""
    at = 6
    while at < len(data):
        if at + 9 > len(data):
            return
        identifier = int.from_bytes(data[at + 1 : at + 5], "little")
        size = int.from_bytes(data[at + 5 : at + 9], "little")
        if at + 9 + size > len(data):
            return
        yield identifier, data[at + 9 : at + 9 + size]
        at += 11 + size
    yield -1, b""


def _properties(body: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield MAPI properties as identifier and value; stops at what it does not understand."""
    at = 4
    for _ in range(min(int.from_bytes(body[:4], "little"), _MAX_VALUES)):
        kind = int.from_bytes(body[at : at + 2], "little")
        identifier = int.from_bytes(body[at + 2 : at + 4], "little")
        at += 4
        if at >= len(body):
            return
        if identifier & 0x8000:  # named: a GUID, then a number or a name
            numbered = int.from_bytes(body[at + 16 : at + 20], "little") == 0
            length = int.from_bytes(body[at + 20 : at + 24], "little")
            at += 24 if numbered else 24 + _padded(length)
        plain = kind & 0x0FFF
        count = 1
        if kind & 0x1000 or plain in _VARIABLE:
            count = int.from_bytes(body[at : at + 4], "little")
            at += 4
        if count > _MAX_VALUES:
            return
        for number in range(count):
            if plain in _VARIABLE:
                size = int.from_bytes(body[at : at + 4], "little")
                value = body[at + 4 : at + 4 + size]
                at += 4 + _padded(size)
            elif plain in _FIXED_SIZES:
                size = _FIXED_SIZES[plain]
                value = body[at : at + size]
                at += size
            else:
                return
            if at > len(body) + 3:
                return
            if number == 0:
                yield identifier, value[16:] if plain == 0x0D else value  # an object begins with its class


def _padded(size: int) -> int:
    return size + (-size % 4)


def _string(raw: bytes) -> str:
    if len(raw) > 1 and raw[1::2].count(0) > len(raw) // 4:
        return raw.decode("utf-16-le", "replace").rstrip("\x00")
    return raw.decode("cp1252", "replace").rstrip("\x00")


def _read_message(properties: dict[int, bytes], collector: Collector) -> None:
    if _P_HTML in properties:
        read_html(decoded(properties[_P_HTML]), collector)
    if _P_BODY in properties:
        for address in addresses(_string(properties[_P_BODY])):
            collector.add(address, "text")
    if _P_RTF_COMPRESSED in properties:
        source = decompressed_rtf(properties[_P_RTF_COMPRESSED])
        if source is None:
            collector.note("the formatted body inside could not be unpacked")
        else:
            text = rtf_text(source)
            for address in addresses(text):
                collector.add(address, "text")
            if "\\fromhtml" in source[:2_000].decode("latin-1"):
                read_html(text, collector)


_DICTIONARY: Final = (
    rb"{\rtf1\ansi\mac\deff0\deftab720{\fonttbl;}{\f0\fnil \froman \fswiss \fmodern \fscript \fdecor "
    rb"MS Sans SerifSymbolArialTimes New RomanCourier{\colortbl\red0\green0\blue0"
    b"\r\n"
    rb"\par \pard\plain\f0\fs20\b\i\u\tab\tx"
)


def decompressed_rtf(data: bytes) -> bytes | None:
    """Unpack compressed RTF (MS-OXRTFCP); None for what is not compressed RTF."""
    if len(data) < 16:
        return None
    size = int.from_bytes(data[4:8], "little")
    if data[8:12] == b"MELA":
        return data[16 : 16 + size]
    if data[8:12] != b"LZFu" or size > _MAX_RTF:
        return None
    window = bytearray(_DICTIONARY.ljust(4_096, b"\x00"))
    position = len(_DICTIONARY)
    made = bytearray()
    at = 16
    while at < len(data) and len(made) < size:
        control = data[at]
        at += 1
        for bit in range(8):
            if at >= len(data) or len(made) >= size:
                break
            if control >> bit & 1:
                if at + 1 >= len(data):
                    return bytes(made)
                reference = data[at] << 8 | data[at + 1]
                at += 2
                offset, length = reference >> 4, (reference & 15) + 2
                if offset == position % 4_096:
                    return bytes(made)
                for step in range(length):
                    byte = window[(offset + step) % 4_096]
                    made.append(byte)
                    window[position % 4_096] = byte
                    position += 1
            else:
                made.append(data[at])
                window[position % 4_096] = data[at]
                position += 1
                at += 1
    return bytes(made)
