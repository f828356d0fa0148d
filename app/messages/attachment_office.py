"""Links in Office files: Office Open XML, OpenDocument, RTF, and what can be seen of the old binary formats.

Parts are taken out of the package one by one, each and all together within limits, and searched as text:
nothing is rendered, no macro is run, no external part is loaded.

References:
    ECMA-376 part 2 (Open Packaging Conventions: relationships with ``TargetMode="External"``), part 1 17.16.5.25
    (HYPERLINK fields) and 18.17 (formulas); OpenDocument 1.3; RTF 1.9.1; MS-CFB; MS-OFFCRYPTO.
"""

from __future__ import annotations

import html
import io
import re
import zipfile
import zlib
from typing import Final

from app.messages.attachment_text import addresses, decoded
from app.messages.attachment_types import AttachmentLimits, AttachmentLinks, Collector, uncovered

_RELATIONSHIP_RE = re.compile(r"<(?:\w+:)?Relationship\b([^<>]*)>", re.IGNORECASE)
_ATTRIBUTE_RE = re.compile(r"([\w:]+)\s*=\s*(?:\"([^\"]*)\"|'([^']*)')")
_FIELD_RE = re.compile(r"HYPERLINK\s+(?:\\[a-z]\s+)*[\"“”]?([^\"“”\s]+)", re.IGNORECASE)
_INSTRUCTION_RE = re.compile(
    r"<w:instrText\b[^<>]*>([^<]*)</w:instrText>|<w:fldChar\b[^<>]{0,500}?fldCharType=[\"'](end|separate)"
)
_SIMPLE_FIELD_RE = re.compile(r"<w:fldSimple\b[^<>]{0,2000}?w:instr=(?:\"([^\"]*)\"|'([^']*)')")
_FORMULA_RE = re.compile(r"(?:HYPERLINK|WEBSERVICE|IMAGE)\s*\(\s*\"([^\"]+)\"", re.IGNORECASE)
_CELL_FORMULA_RE = re.compile(r"<f\b[^<>]*>([^<]*)</f>")
_ODF_LINK_RE = re.compile(r"xlink:href\s*=\s*(?:\"([^\"]*)\"|'([^']*)')")
_XML_TEXT_RE = re.compile(r"<([\w:]{1,80})[^<>]{0,4000}>([^<>]+)")
_NOT_SHOWN: Final = frozenset({"f", "w:instrText"})
_CHUNK: Final = 65_536


def package_links(data: bytes, limits: AttachmentLimits) -> AttachmentLinks:
    """Read the links of a ZIP-based document, or say what a ZIP archive is and that it was not opened."""
    try:
        package = zipfile.ZipFile(io.BytesIO(data))
        members = package.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError):
        return uncovered("ZIP archive", "the archive is damaged and could not be opened")
    names = {member.filename for member in members}
    if "[Content_Types].xml" in names:
        kind = "Office document"
    elif "META-INF/manifest.xml" in names and "content.xml" in names:
        kind = "OpenDocument file"
    else:
        if any(member.flag_bits & 1 for member in members):
            return uncovered("ZIP archive", "the archive is encrypted and was not opened")
        return uncovered("ZIP archive", f"the archive with {len(members)} files was not opened")
    collector = Collector(limits)
    left = limits.max_unpacked
    if len(members) > limits.max_members:
        collector.note(f"only the first {limits.max_members} parts of {len(members)} were looked at")
    for member in members[: limits.max_members]:
        name = member.filename
        if member.flag_bits & 1:
            collector.note("encrypted parts were not looked at")
            continue
        if not name.lower().endswith((".xml", ".rels", ".vml", ".html", ".htm")):
            _note_part(name, collector)
            continue
        content = unpacked(package, member, left)
        if content is None:
            collector.note("parts that are damaged or unpack to too much were not looked at")
            continue
        left -= len(content)
        _read_part(name, decoded(content), collector)
    return collector.result(kind)


def unpacked(package: zipfile.ZipFile, member: zipfile.ZipInfo, most: int) -> bytes | None:
    """Unpack one member of a package, whatever size it claims.

    Args:
        package: The open package.
        member: Which member.
        most: Most bytes to unpack.

    Returns:
        Its content; None where it is damaged, encrypted, packed in an unknown way or larger. Never raises.
    """
    pieces = bytearray()
    try:
        with package.open(member) as stream:
            while piece := stream.read(_CHUNK):
                pieces += piece
                if len(pieces) > most:
                    return None
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError, ValueError):
        return None
    return bytes(pieces)


def _note_part(name: str, collector: Collector) -> None:
    lower = name.lower()
    if lower.endswith("vbaproject.bin"):
        collector.note("macros in it were not looked at")
    elif "/embeddings/" in lower or lower.endswith((".ole", "/activex")):
        collector.note("files embedded in it were not looked at")
    elif lower.endswith(".bin") and "/worksheets/" in lower:
        collector.note("binary sheets (xlsb) were not looked at")


def _read_part(name: str, text: str, collector: Collector) -> None:
    if name.endswith(".rels"):
        for attributes in _RELATIONSHIP_RE.findall(text):
            values = {key.lower(): html.unescape(a or b) for key, a, b in _ATTRIBUTE_RE.findall(attributes)}
            if values.get("targetmode", "").lower() == "external":
                hyperlink = values.get("type", "").lower().endswith("/hyperlink")
                collector.add(values.get("target", ""), "hyperlink" if hyperlink else "external")
        return
    for url in _ODF_LINK_RE.findall(text):
        collector.add(html.unescape(url[0] or url[1]), "hyperlink")
    if "instr" in text:
        for instruction in _instructions(text):
            for url in _FIELD_RE.findall(instruction):
                collector.add(url, "field")
    if "HYPERLINK" in text or "WEBSERVICE" in text:
        for formula in _CELL_FORMULA_RE.findall(text):
            for url in _FORMULA_RE.findall(html.unescape(formula)):
                collector.add(url, "field")
    for element, run in _XML_TEXT_RE.findall(text):
        for address in addresses(html.unescape(run)) if element not in _NOT_SHOWN and "/" in run else ():
            collector.add(address, "text")


def _instructions(text: str) -> list[str]:
    """Return field instructions; Word splits one over several runs."""
    made = [html.unescape(a or b) for a, b in _SIMPLE_FIELD_RE.findall(text)]
    current: list[str] = []
    for piece, end in _INSTRUCTION_RE.findall(text):
        if end:
            made.append("".join(current))
            current = []
        else:
            current.append(html.unescape(piece))
    made.append("".join(current))
    return [instruction for instruction in made if instruction]


# -- RTF -----------------------------------------------------------------------------------------------

_RTF_RE = re.compile(
    rb"\\bin(\d{1,9}) ?"
    rb"|\\u(-?\d{1,6}) ?"
    rb"|\\'([0-9a-fA-F]{2})"
    rb"|\\([a-zA-Z]{1,32})(?:-?\d{1,10})? ?"
    rb"|\\([^a-zA-Z])"
    rb"|([^\\{}\r\n]+)"
    rb"|([{}])"
    rb"|[\r\n]"
)


def rtf_links(data: bytes, limits: AttachmentLimits) -> AttachmentLinks:
    """Read the links of an RTF file: HYPERLINK fields, addresses in the text, templates loaded from elsewhere."""
    collector = Collector(limits)
    text = rtf_text(data[: limits.max_bytes])
    for url in _FIELD_RE.findall(text):
        collector.add(url, "field")
    for address in addresses(text):
        collector.add(address, "text")
    if b"\\objdata" in data:
        collector.note("objects embedded in it were not looked at")
    return collector.result("RTF document")


def rtf_text(data: bytes) -> str:
    """Return all text of RTF source, that of field instructions and other destinations included."""
    pieces: list[str] = []
    at = 0
    skip = 0
    depth = 0
    apart: list[int] = []  # depths of destinations, whose text does not run on into what follows
    while match := _RTF_RE.search(data, at):
        at = match.end()
        binary, unicode, hexadecimal, word, symbol, plain, brace = match.groups()
        if binary is not None:
            at += int(binary)
        elif unicode is not None:
            pieces.append(chr(int(unicode) & 0xFFFF) if not 0xD800 <= int(unicode) & 0xFFFF < 0xE000 else "\ufffd")
            skip = 1
        elif hexadecimal is not None:
            if not skip:
                pieces.append(bytes.fromhex(hexadecimal.decode()).decode("cp1252", "replace"))
            skip = 0
        elif word is not None:
            if word in (b"par", b"line", b"tab", b"cell", b"row", b"sect", b"page", b"fldrslt", b"htmltag"):
                pieces.append("\n" if word != b"tab" else "\t")
        elif symbol == b"*":
            apart.append(depth)
            pieces.append("\n")
        elif symbol is not None:
            char = symbol.decode("latin-1")
            pieces.append({"~": " ", "-": "", "_": "-"}.get(char, char))
        elif plain is not None:
            pieces.append(plain.decode("cp1252", "replace")[1 if skip else 0 :])
            skip = 0
        elif brace is not None:
            if brace == b"}" and apart and apart[-1] == depth:
                apart.pop()
                pieces.append("\n")
            depth += 1 if brace == b"{" else -1
    return "".join(pieces)


# -- old binary formats --------------------------------------------------------------------------------

_WIDE_ADDRESS_RE = re.compile(rb"(?:h\0t\0t\0p\0(?:s\0)?:\0/\0/\0)(?:[\x21-\x7e]\0){3,2000}", re.IGNORECASE)
_NARROW_ADDRESS_RE = re.compile(rb"https?://[\x21-\x7e]{3,2000}", re.IGNORECASE)
_SCHEMA_HOSTS: Final = ("schemas.openxmlformats.org", "schemas.microsoft.com", "www.w3.org", "purl.org", "ns.adobe.com")


def compound_links(data: bytes, limits: AttachmentLimits) -> AttachmentLinks:
    """Read what can be seen in a compound file (old Office, Outlook message): whole addresses only."""
    if "EncryptedPackage".encode("utf-16-le") in data:
        return uncovered("encrypted Office document", "the document is encrypted and was not opened")
    kind = "old Office document"
    if "__substg1.0_".encode("utf-16-le") in data:
        kind = "Outlook message"
    return visible_links(data, limits, kind)


def visible_links(data: bytes, limits: AttachmentLimits, kind: str) -> AttachmentLinks:
    """Collect whole addresses in a binary file that is not understood otherwise."""
    collector = Collector(limits)
    for match in _NARROW_ADDRESS_RE.finditer(data):
        _add_visible(match.group().decode("ascii"), collector)
    for match in _WIDE_ADDRESS_RE.finditer(data):
        _add_visible(match.group()[::2].decode("ascii"), collector)
    collector.note("the format is not read; only addresses that stand in it unbroken were seen")
    return collector.result(kind)


def _add_visible(text: str, collector: Collector) -> None:
    for address in addresses(text):
        if not any(host in address for host in _SCHEMA_HOSTS):
            collector.add(address, "text")
