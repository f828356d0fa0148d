"""Links in attachments that are text: HTML, SVG, calendars, cards, shortcuts, plain text.

References:
    WHATWG HTML (https://html.spec.whatwg.org/), RFC 5545 (iCalendar: folding in 3.1, escapes in 3.3.11),
    RFC 6350 (vCard).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final
from urllib.parse import urljoin

import turbohtml

from app.messages.attachment_types import AttachmentLimits, AttachmentLinks, Collector

_ADDRESS_RE = re.compile(
    r"(?:https?|ftp)://[^\s<>\"\\\x00-\x20\x7f]{2,4000}|\bwww\.[^\s<>\"\\\x00-\x20\x7f]{3,4000}", re.IGNORECASE
)
_TRAILING: Final = ".,;:!?'*_~)]}>»”’"
_PAIRS: Final = {")": "(", "]": "[", "}": "{"}
_REFRESH_RE = re.compile(r"^[\s\d.;,]*(?:url\s*=\s*)?['\"]?(.+?)['\"]?\s*$", re.IGNORECASE | re.DOTALL)
_MAX_QUOTED_COLONS: Final = 20
_CHARSET_RE = re.compile(rb"charset\s*=\s*[\"']?\s*([A-Za-z0-9_\-]{2,40})", re.IGNORECASE)
_ELEMENTS: Final = {
    "a": (("href", "hyperlink"), ("xlink:href", "hyperlink")),
    "area": (("href", "hyperlink"),),
    "form": (("action", "form"),),
    "button": (("formaction", "form"),),
    "input": (("formaction", "form"),),
    "iframe": (("src", "frame"),),
    "frame": (("src", "frame"),),
    "embed": (("src", "frame"),),
    "object": (("data", "frame"),),
    "script": (("src", "external"), ("href", "external"), ("xlink:href", "external")),
    "use": (("href", "external"), ("xlink:href", "external")),
    "link": (("href", "external"),),
}


def addresses(text: str) -> Iterator[str]:
    """Yield the web addresses written out in a text, without the punctuation after them."""
    for match in _ADDRESS_RE.finditer(text):
        found = match.group()
        while found and found[-1] in _TRAILING:
            opening = _PAIRS.get(found[-1])
            if opening and found.count(opening) >= found.count(found[-1]):
                break
            found = found[:-1]
        if len(found) > 6:
            yield found


def decoded(data: bytes) -> str:
    """Decode text of an unknown character set: byte order mark, UTF-8, a ``charset`` it names, Latin-1."""
    for mark, name in ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be")):
        if data.startswith(mark):
            return data[len(mark) :].decode(name, "replace")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        pass
    named = _CHARSET_RE.search(data[:4_096])
    try:
        return data.decode(named.group(1).decode("ascii") if named else "cp1252", "replace")
    except LookupError:
        return data.decode("latin-1")


def html_links(data: bytes, limits: AttachmentLimits) -> AttachmentLinks:
    """Read the links of an HTML file; scripts are not run."""
    collector = Collector(limits)
    read_html(decoded(data), collector)
    return collector.result("HTML document")


def read_html(source: str, collector: Collector, inside: str = "") -> None:
    """Collect the links of HTML source."""
    document = turbohtml.parse(source)
    base = ""
    for element in document.find_all("base"):
        base = _text(element.attrs.get("href"))
        if base:
            break
    scripted = False
    for element in document.iter_elements():
        tag = element.tag
        scripted = scripted or tag == "script" or any(name.startswith("on") for name in element.attrs)
        for name, where in _ELEMENTS.get(tag, ()):
            value = _text(element.attrs.get(name))
            if value and not value.lstrip().startswith("#"):
                collector.add(_joined(base, value), where, inside)
        if tag == "meta" and _text(element.attrs.get("http-equiv")).strip().lower() == "refresh":
            match = _REFRESH_RE.match(_text(element.attrs.get("content"))[:4_000])
            if match:
                collector.add(match.group(1), "external", inside)
        elif tag == "iframe" and element.attrs.get("srcdoc"):
            collector.note("a page inside the page (srcdoc) was not looked at")
    if scripted:
        collector.note("scripts in it were not run, so links that they make were not seen")


def _joined(base: str, value: str) -> str:
    if not base:
        return value
    try:
        return urljoin(base, value.strip())
    except ValueError:
        return value


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    return " ".join(map(str, value)) if isinstance(value, (list, tuple)) else ""


def svg_links(data: bytes, limits: AttachmentLimits) -> AttachmentLinks:
    """Read the links of an SVG file. It is read as HTML, which finds the same links and cannot fail."""
    collector = Collector(limits)
    source = decoded(data)
    read_html(source, collector)
    if re.search(r"<\w{1,40}:(?:svg|a|script|use)\b", source):
        for name, value in re.findall(r"((?:xlink:)?href)\s*=\s*[\"']([^\"']*)", source):
            collector.add(value, "hyperlink" if name else "external")
    return collector.result("SVG drawing")


def calendar_links(data: bytes, limits: AttachmentLimits) -> AttachmentLinks:
    """Read the links of an iCalendar or vCard file: URL, DESCRIPTION, LOCATION, X-ALT-DESC, ATTACH and the rest."""
    collector = Collector(limits)
    unfolded = re.sub(r"\r?\n[ \t]", "", decoded(data))
    for line in unfolded.splitlines():
        head, _, value = line.partition(":")
        for _ in range(_MAX_QUOTED_COLONS):  # colons inside a quoted parameter
            if not head.count('"') % 2 or ":" not in value:
                break
            more, _, value = value.partition(":")
            head = f"{head}:{more}"
        name = head.partition(";")[0].rpartition(".")[2].upper()
        for address in addresses(head):
            collector.add(address, "property")
        text = re.sub(r"\\([nN,;\\])", lambda match: "\n" if match.group(1) in "nN" else match.group(1), value)
        if name == "X-ALT-DESC" or re.search(r"<(?:html|a|body)\b", text, re.IGNORECASE):
            read_html(text, collector)
        if name in ("URL", "ATTACH", "CONFERENCE", "SOURCE"):
            collector.add(text, "property")
        else:
            for address in addresses(text):
                collector.add(address, "text" if name in ("DESCRIPTION", "LOCATION", "COMMENT", "NOTE") else "property")
    kind = "calendar" if "BEGIN:VCALENDAR" in unfolded[:2_000].upper() else "contact card"
    return collector.result(kind)


def text_links(data: bytes, limits: AttachmentLimits, kind: str = "text") -> AttachmentLinks:
    """Read the addresses written out in a text file."""
    collector = Collector(limits)
    for address in addresses(decoded(data)):
        collector.add(address, "text")
    return collector.result(kind)


def shortcut_links(data: bytes, limits: AttachmentLimits) -> AttachmentLinks:
    """Read the target of an internet shortcut (``.url``, ``.webloc``, ``.desktop``)."""
    collector = Collector(limits)
    text = decoded(data)
    for target in re.findall(
        r"^[ \t]*(?:URL|BASEURL|IconFile)[ \t]*=[ \t]*(\S.*)$", text, re.IGNORECASE | re.MULTILINE
    ):
        collector.add(target, "hyperlink")
    for address in addresses(text):
        if "apple.com/DTDs/" not in address:
            collector.add(address, "hyperlink")
    return collector.result("internet shortcut")
