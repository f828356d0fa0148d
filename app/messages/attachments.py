"""Links in attachments: found where that is cheap, and what was not looked at is said.

What a file is, is decided by its content first; name and content type only help where the content says
nothing. No file is ever changed, run or loaded from elsewhere, and no input makes a reader raise.
"""

from __future__ import annotations

import re
import zlib
from typing import Final

from app.messages import attachment_office as office
from app.messages import attachment_text as text
from app.messages.attachment_tnef import SIGNATURE as TNEF_SIGNATURE
from app.messages.attachment_tnef import tnef_links
from app.messages.attachment_types import (
    AttachmentLimits,
    AttachmentLink,
    AttachmentLinks,
    Collector,
    Coverage,
    uncovered,
)

__all__ = ["AttachmentLimits", "AttachmentLink", "AttachmentLinks", "Coverage", "links"]

DEFAULT_LIMITS: Final = AttachmentLimits()

_ARCHIVES: Final = (
    (b"Rar!\x1a\x07", "RAR archive"),
    (b"7z\xbc\xaf\x27\x1c", "7z archive"),
    (b"\x1f\x8b", "gzip archive"),
    (b"BZh", "bzip2 archive"),
    (b"\xfd7zXZ\x00", "xz archive"),
    (b"\x28\xb5\x2f\xfd", "Zstandard archive"),
    (b"MSCF", "cabinet archive"),
    (b"ITSF", "compiled help file"),
)
_IMAGES: Final = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\x00", b"MM\x00*")
_ONENOTE: Final = bytes.fromhex("e4525c7b8cd8a74daeb15378d02996d3")
_SHORTCUT: Final = bytes.fromhex("4c0000000114020000000000c000000000000046")
_MEDIA: Final = ("audio/", "video/", "font/", "image/")
_URI_RE = re.compile(rb"/URI\s*(?:\(((?:\\.|[^\\()]){3,8000})\)|<([0-9A-Fa-f\s]{6,16000})>)", re.DOTALL)
_MOST_PACKED: Final = 2_000_000
_MOST_UNENDED: Final = 100
_STREAM_RE = re.compile(rb"stream\r?\n")
_ESCAPES: Final = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"f": b"\f", b"\n": b""}


def links(filename: str, content_type: str, data: bytes, limits: AttachmentLimits = DEFAULT_LIMITS) -> AttachmentLinks:
    """Find the links of an attachment.

    Args:
        filename: Its name in the message; may be empty.
        content_type: Its MIME type in the message; may be empty or wrong.
        data: Its content, transfer encoding removed.
        limits: How much is looked at.

    Returns:
        What it is, its links, and what was not looked at. Never raises.
    """
    return _links(filename, content_type, data, limits, 0)


def _links(filename: str, content_type: str, data: bytes, limits: AttachmentLimits, depth: int) -> AttachmentLinks:
    if not data:
        return AttachmentLinks("empty file")
    if len(data) > limits.max_bytes:
        return uncovered("large file", f"the file is larger than {limits.max_bytes} bytes and was not looked at")
    if data.startswith(TNEF_SIGNATURE):
        if depth >= limits.max_depth:
            return uncovered("winmail.dat (TNEF)", "it lies too deep inside other files and was not opened")
        return tnef_links(data, limits, lambda name, kind, inner: _links(name, kind, inner, limits, depth + 1))
    return _by_content(data, limits) or _by_name(filename.lower(), content_type.lower(), data, limits)


def _by_content(data: bytes, limits: AttachmentLimits) -> AttachmentLinks | None:
    head = data[:1_024].lstrip(b"\xef\xbb\xbf\x00\t\n\r ")
    if b"%PDF-" in data[:1_024]:
        return _pdf_links(data, limits)
    if data.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return office.package_links(data, limits)
    if head.startswith(b"{\\rt"):
        return office.rtf_links(data, limits)
    if data.startswith(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"):
        return office.compound_links(data, limits)
    if data.startswith(_ONENOTE):
        return office.visible_links(data, limits, "OneNote file")
    if data.startswith(_SHORTCUT):
        return office.visible_links(data, limits, "Windows shortcut")
    for magic, kind in _ARCHIVES:
        if data.startswith(magic):
            return uncovered(kind, "the archive was not opened")
    if data.startswith(_IMAGES) or (data.startswith(b"RIFF") and data[8:12] == b"WEBP"):
        return AttachmentLinks("picture")
    upper = head[:400].upper()
    if upper.startswith((b"BEGIN:VCALENDAR", b"BEGIN:VCARD")):
        return text.calendar_links(data, limits)
    if upper.startswith(b"[INTERNETSHORTCUT]") or b"<PLIST" in upper:
        return text.shortcut_links(data, limits)
    return None


def _by_name(name: str, content_type: str, data: bytes, limits: AttachmentLimits) -> AttachmentLinks:
    extension = name.rpartition(".")[2] if "." in name else ""
    kind = content_type.partition(";")[0].strip()
    start = text.decoded(data[:4_000]).lower()
    is_text = b"\x00" not in data[:4_000] or data.startswith((b"\xff\xfe", b"\xfe\xff"))
    if is_text and (extension == "svg" or kind == "image/svg+xml" or re.search(r"<(?:\w+:)?svg[\s>]", start)):
        if extension in ("htm", "html", "xhtml", "shtml") or kind == "text/html":
            return text.html_links(data, limits)
        return text.svg_links(data, limits)
    looks_like_html = re.search(r"<(?:!doctype html|html|head|body|script|a\s|meta\s|iframe|form)\b", start) is not None
    if is_text and (
        extension in ("htm", "html", "xhtml", "shtml", "hta", "mht", "mhtml")
        or kind in ("text/html", "application/xhtml+xml")
        or looks_like_html
    ):
        found = text.html_links(data, limits)
        if extension in ("mht", "mhtml"):
            return AttachmentLinks(
                found.kind, found.links, "partial", (*found.notes, "encoded parts were not looked at")
            )
        return found
    if kind in ("text/calendar", "text/vcard", "text/x-vcard") or extension in ("ics", "vcf", "ical"):
        return text.calendar_links(data, limits)
    if extension in ("url", "webloc", "website", "desktop"):
        return text.shortcut_links(data, limits)
    if kind == "message/rfc822" or extension == "eml":
        return uncovered("message", "an attached message is not looked at as a file")
    if kind.startswith(_MEDIA):
        return AttachmentLinks(kind.partition("/")[0])
    readable = sum(byte in b"\t\n\r" or byte >= 0x20 for byte in data[:2_000]) >= len(data[:2_000]) * 0.97
    if is_text and (readable or kind.startswith("text/")):
        found = text.text_links(data, limits)
        if extension in ("js", "vbs", "ps1", "bat", "cmd", "wsf", "jse", "vbe", "py", "sh", "hta"):
            note = "a program: only addresses that stand in it unbroken were seen"
            return AttachmentLinks("program text", found.links, "partial", (*found.notes, note))
        return found
    return uncovered("unknown file", "the format is not known; the file was not looked at")


# -- PDF -----------------------------------------------------------------------------------------------


def _pdf_links(data: bytes, limits: AttachmentLimits) -> AttachmentLinks:
    """Read link annotations and text addresses with PDFium, and other URI actions from the file itself."""
    from app.messages.qr import pdf  # loads PDFium and the image libraries, which most mail does not need
    from app.messages.qr.types import QrLimits

    scan = pdf.find(data, QrLimits(max_bytes=limits.max_bytes, max_pages=limits.max_pdf_pages), codes=False, links=True)
    if scan.encrypted:
        return uncovered("encrypted PDF document", "the document is encrypted and was not opened")
    collector = Collector(limits)
    for link in scan.links:
        collector.add(link.url, "annotation" if link.source == "annotation" else "text")
    known = {link.url for link in collector.links}
    for url in _uri_actions(data, limits):
        if url not in known:
            collector.add(url, "annotation")
    for note in scan.notes:
        collector.note(note)
    if b"/JavaScript" in data or b"/JS" in data:
        collector.note("scripts in it were not run")
    if b"/EmbeddedFile" in data:
        collector.note("files embedded in it were not looked at")
    return collector.result("PDF document")


def _uri_actions(data: bytes, limits: AttachmentLimits) -> list[str]:
    """Return the URIs of actions of any kind: those of form fields and of pages that are not read too."""
    found = _uris(data)
    left = limits.max_unpacked
    view = memoryview(data)
    unended = 0
    for count, match in enumerate(_STREAM_RE.finditer(data)):
        if count >= limits.max_members or left <= 0:
            break
        start = match.end()
        if data[start : start + 1] not in (b"\x78", b"\x58", b"\x68", b"\x48", b"\x38", b"\x28", b"\x18", b"\x08"):
            continue
        end = data.find(b"endstream", start, start + _MOST_PACKED)
        if end < 0:  # damaged, or longer than anything that holds links
            unended += 1
            if unended > _MOST_UNENDED:
                break
        packed = view[start : end if end >= 0 else start + _MOST_PACKED]
        try:
            content = zlib.decompressobj().decompress(packed, min(left, 8_000_000))
        except zlib.error:
            continue
        left -= len(content)
        if b"/URI" in content:
            found += _uris(content)
    return found


def _uris(content: bytes) -> list[str]:
    made = []
    for literal, hexadecimal in _URI_RE.findall(content):
        if hexadecimal:
            digits = re.sub(rb"\s", b"", hexadecimal)
            raw = bytes.fromhex((digits + b"0" * (len(digits) % 2)).decode("ascii"))
        else:
            raw = re.sub(rb"\\(\d{1,3}|\r\n|.)", _unescaped, literal, flags=re.DOTALL)
        made.append(text.decoded(raw))
    return made


def _unescaped(match: re.Match[bytes]) -> bytes:
    escape: bytes = match.group(1)
    if escape.isdigit():
        try:
            return bytes([int(escape, 8) & 255])
        except ValueError:
            return escape
    return _ESCAPES.get(escape, b"" if escape == b"\r\n" else escape)
