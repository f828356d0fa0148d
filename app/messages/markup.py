"""The one place that knows the HTML parser: elements with the position of their start tags.

turbohtml builds the tree of the WHATWG HTML Standard and keeps line and column of every start tag. Before parsing,
every line break becomes a tab: both are white space between attributes, both are dropped from URLs, and a source
without line breaks has one line whose columns are offsets. Elements that the parser cloned (mis-nested formatting)
share the position of the tag they came from; those it made up have none.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final, NamedTuple

import turbohtml

Element = turbohtml.Element
Document = turbohtml.Document

_SURROGATES = re.compile("[\ud800-\udfff]")
# The next attribute, or with no group the end of the tag: one of them always follows.
_ATTRIBUTE: Final = re.compile(
    "[\t\n\f\r /]*(?:([^\t\n\f\r />][^\t\n\f\r />=]*)"
    "(?:[\t\n\f\r ]*=[\t\n\f\r ]*(?:\"([^\"]*)\"|'([^']*)'|([^\t\n\f\r >]*)))?|>|\\Z)"
)
_TAG_NAME = re.compile("<[a-zA-Z][^\t\n\f\r />]*")


def parseable(source: str) -> str:
    """Map a source to a text of the same length whose parse has the same structure, on one line."""
    if "\n" in source:
        source = source.replace("\n", "\t")
    if "\r" in source:
        source = source.replace("\r", "\t")
    return source if _is_encodable(source) else _SURROGATES.sub("\ufffd", source)


def _is_encodable(text: str) -> bool:
    """Whether a text has no lone surrogate: an encoder tells in a hundredth of a pattern's time."""
    if text.isascii():
        return True
    for codec in ("latin-1", "utf-8"):
        try:
            text.encode(codec)
        except UnicodeEncodeError:
            continue
        return True
    return False


def parse(text: str, *, scripting: bool = False) -> Document:
    """Parse text that `parseable` returned."""
    return turbohtml.parse(text, scripting=scripting)


def query(document: Document, path: str) -> list[turbohtml.Node | str]:
    """Evaluate an XPath expression that yields nodes or texts."""
    found = document.xpath(path)
    return found if isinstance(found, list) else []


@lru_cache(maxsize=256)
def tag_end(tag: str) -> re.Pattern[str]:
    """The end tag of an element."""
    return re.compile(f"</{re.escape(tag)}(?![a-z0-9])", re.I)


class Attribute(NamedTuple):
    """One attribute as it stands in a start tag.

    Attributes:
        name: Lower-case name.
        start: Offset of the first character of the value (behind its quote).
        stop: Past the last character of the value.
        end: Past the closing quote.
    """

    name: str
    start: int
    stop: int
    end: int


def attributes(source: str, start: int, wanted: frozenset[str]) -> tuple[list[Attribute], int]:
    """Read a start tag as the tokenizer of the HTML Standard does.

    Args:
        source: The text that was parsed.
        start: Offset of the tag's ``<``; the tag is known to be complete.
        wanted: Lower-case names of the attributes to return.

    Returns:
        The wanted attributes that have a value, repeated ones included, and the offset past the tag's ``>``.
    """
    found = _TAG_NAME.match(source, start)
    at = found.end() if found else start
    out: list[Attribute] = []
    for hit in _ATTRIBUTE.finditer(source, at):
        name = hit[1]
        if name is None:
            return out, hit.end()
        name = name.lower()
        if name in wanted and (group := hit.lastindex or 1) > 1:
            out.append(Attribute(name, *hit.span(group), hit.end()))
    return out, len(source)


def attribute_value(raw: str) -> str:
    """Resolve the character references of an attribute value as a browser does."""
    if "&" not in raw:
        return raw
    if raw.count("&") == raw.count("&amp;"):
        return raw.replace("&amp;", "&")
    quoted = raw.replace('"', "&quot;")
    link = turbohtml.parse_fragment(f'<a x="{quoted}">').find("a")
    return (link.attr("x") if link is not None else None) or ""


def text_value(raw: str) -> str:
    """Resolve the character references of text as a browser does."""
    if "&" not in raw:
        return raw
    return turbohtml.parse_fragment(raw.replace("<", "&lt;")).text


def visible_text(raw: str) -> str:
    """The text of a piece of markup."""
    if "<" not in raw and "&" not in raw:
        return raw
    return turbohtml.parse_fragment(raw).text
