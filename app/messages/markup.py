"""The one place that knows the HTML parser: elements with the position of their start tags.

turbohtml builds the tree of the WHATWG HTML Standard and tells where each start tag stood. Its offsets count
``\\r\\n`` once, so every ``\\r`` becomes a tab before parsing: like a line break, a tab is white space between
attributes and is dropped from URLs, and every offset is one of the source. Elements that the parser cloned
(mis-nested formatting) or made up have no position.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import turbohtml

Element = turbohtml.Element
Document = turbohtml.Document

_SURROGATES = re.compile("[\ud800-\udfff]")
_ATTRIBUTE: Final = re.compile(
    "[\t\n\f\r /]*([^\t\n\f\r />][^\t\n\f\r />=]*)"
    "(?:[\t\n\f\r ]*=[\t\n\f\r ]*(?:\"([^\"]*)\"|'([^']*)'|([^\t\n\f\r >]*)))?"
)
_TAG_NAME = re.compile("<[a-zA-Z][^\t\n\f\r />]*")


def parseable(source: str) -> str:
    """Map a source to a text of the same length whose parse has the same structure and exact offsets."""
    if "\r" in source:
        source = source.replace("\r", "\t")
    if not source.isascii() and _SURROGATES.search(source):
        source = _SURROGATES.sub("\ufffd", source)
    return source


def parse(text: str, *, scripting: bool = False) -> Document:
    """Parse text that `parseable` returned, keeping the positions of start tags."""
    return turbohtml.parse(text, source_locations=True, scripting=scripting)


def parse_tree(text: str) -> Document:
    """Parse without positions, for questions about the tree alone."""
    return turbohtml.parse(text)


def span(element: Element) -> tuple[int, int] | None:
    """Source range of an element's start tag, None for an element that stood nowhere."""
    location = element.source_location
    if location is None:
        return None
    tag = location.start_tag
    return tag.start_offset, tag.end_offset


def inner_span(element: Element) -> tuple[int, int] | None:
    """Source range between start and end tag; None when the source did not close the element."""
    location = element.source_location
    if location is None or location.end_tag is None:
        return None
    return location.start_tag.end_offset, location.end_tag.start_offset


class Attribute:
    """One attribute as it stands in a start tag.

    Attributes:
        name: Lower-case name.
        value_start: Source offset of the first character of the value (behind its quote).
        value_end: Past the last character of the value.
        end: Past the closing quote.
    """

    __slots__ = ("end", "name", "value_end", "value_start")

    def __init__(self, name: str, value_start: int, value_end: int, end: int) -> None:
        self.name = name
        self.value_start = value_start
        self.value_end = value_end
        self.end = end


def attributes(source: str, start: int, end: int) -> Iterator[Attribute]:
    """The attributes of a start tag that have a value, repeated ones included.

    Args:
        source: The text that was parsed.
        start: Offset of the tag's ``<``.
        end: Past the tag's ``>``.
    """
    name = _TAG_NAME.match(source, start, end)
    at = name.end() if name else end
    for hit in _ATTRIBUTE.finditer(source, at, end - 1):
        group = hit.lastindex or 1
        if group > 1:
            yield Attribute(hit[1].lower(), hit.start(group), hit.end(group), hit.end())


def attribute_value(raw: str) -> str:
    """Resolve the character references of an attribute value as a browser does."""
    if "&" not in raw:
        return raw
    quoted = raw.replace('"', "&quot;")
    link = turbohtml.parse_fragment(f'<a x="{quoted}">').find("a")
    return (link.attr("x") if link is not None else None) or ""


def text_value(raw: str) -> str:
    """Resolve the character references of text as a browser does."""
    if "&" not in raw:
        return raw
    return turbohtml.parse_fragment(raw.replace("<", "&lt;")).text
