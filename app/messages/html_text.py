"""Bare addresses in the text of HTML, which mail clients make clickable by themselves.

The tree tells what is text but not where it stood. So every possible address is looked for in the source, those that
visibly stand in a tag or between the tags of a link are dropped, and what is left is marked and parsed once more: where
a mark turns up in the tree decides. Mails without such an address, which are most, pay for one search.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from typing import Final

import turbohtml

from app.messages import markup
from app.messages.candidates import Candidate, Found
from app.messages.charsets import View
from app.messages.linkify import Address, find_addresses
from app.messages.types import LinkKind
from app.messages.urls import TargetClass

_MARKS: Final = "\x01\x02\x03\x04\x05\x06\x07\x0e\x0f\x10\x11\x12\x13\x14\x15\x16\x17\x18\x19\x1a\x1c\x1d\x1e\x1f\x7f"
_DIGITS: Final = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_RUN_END: Final = re.compile("<(?!/>)|[\t\n\f\r ]")
_TAG_OPEN: Final = re.compile(r"<[a-zA-Z/!?]")
_REFERENCE: Final = re.compile(r"&(?:#[xX][0-9a-fA-F]+;?|#[0-9]+;?|[a-zA-Z][a-zA-Z0-9]*;?)|(?:\0|</>)+")
_OPEN_REFERENCE: Final = re.compile(r"&(?:#[xX][0-9a-fA-F]+|#[0-9]+|[a-zA-Z]{2,6})\Z")
_NUMBERED: Final = re.compile(r"&#(?:[xX]0*([0-9a-fA-F]{1,6})(?![0-9a-fA-F])|0*([0-9]{1,7})(?![0-9]))")
_MAX_GAPS: Final = 40
_MAX_RUN: Final = 4_000
_NONE: Final[frozenset[str]] = frozenset()
_NOT_TEXT: Final = " or ".join(
    f"ancestor::{tag}"
    for tag in (
        *("a", "script", "style", "title", "textarea", "noframes", "noembed", "iframe", "xmp", "plaintext", "select"),
        *("head", "template"),
    )
)
_INSIDE_LINK: Final = re.compile(
    r"[^<]*+(?:</?(?:b|i|u|font|span|strong|em|br|small|wbr|big|img)(?=[\s/>])[^<>]*+>[^<]*+)*+\Z", re.I
)


def _one(character: str) -> str:
    """A pattern for a character written plainly or as a numeric reference."""
    both = {character, character.upper()}
    numbers = "|".join(f"#0*{ord(c)}|#[xX]0*(?:{ord(c):x}|{ord(c):X})" for c in sorted(both))
    names = {":": "|colon", "/": "|sol", ".": "|period"}.get(character, "")
    plain = "".join(re.escape(c) for c in sorted(both))
    return f"(?:[{plain}]|&(?:{numbers}{names});?)"


def _scheme(between: str) -> re.Pattern[str]:
    forms = (["http", "://"], ["http", "s://"], ["www."])
    return re.compile("|".join(between.join(map(_one, "".join(form))) for form in forms))


_ENCODED_SCHEME: Final = _scheme("")
_SCHEME_WITH_GAPS: Final = _scheme("(?:\0|</>)*")  # which browsers drop from text
_ENCODES_ASCII: Final = re.compile(
    r"&(?:#(?:0*(?:4[67]|58|72|8[0347]|104|11[2569])(?![0-9])|[xX]0*(?:2[eEfF]|3[aA]|[46]8|[57][0347])(?![0-9a-fA-F]))"
    r"|colon|sol|period)"
)


def find_bare_addresses(view: View, found: Found, *, bare_domains: bool) -> list[Candidate]:
    """Find the addresses that stand in the text of an HTML part, outside of links.

    Args:
        view: The part.
        found: What `find_links` returned for it.
        bare_domains: Also take domain names without a scheme.

    Returns:
        Candidates to wrap in anchors, in order.
    """
    schemes: list[str] = []
    if not bare_domains:
        text = found.text
        # One character is looked for ten times as fast as two.
        schemes = ["://"] if "/" in text and "://" in text else []
        for letter in "wW":
            if letter in text and (end := letter + ".") in text:
                schemes += [name for name in ("w" + end, "W" + end) if name in text]
        if not schemes:
            return []
    starts = _possible_starts(found.parsed, schemes, bare_domains=bare_domains)
    if starts:
        starts = _outside_raw_text(_outside_links(starts, found), found)
    if not starts:
        return []
    return _addresses(view, found.parsed, _in_text(found.parsed, starts), bare_domains=bare_domains)


def _possible_starts(parsed: str, schemes: list[str], *, bare_domains: bool) -> list[int]:
    gaps = "\0" in parsed or "</>" in parsed
    if bare_domains or gaps or _ENCODES_ASCII.search(parsed) is not None:
        starts = [hit.start() for hit in (_SCHEME_WITH_GAPS if gaps else _ENCODED_SCHEME).finditer(parsed)]
        if bare_domains:
            starts += [hit.start() for hit in re.finditer(r"(?<![\w@.\-/])\w[\w\-]*\.(?=[^\W\d_])", parsed)]
            starts = sorted(set(starts))
        return starts if "<![CDATA[" in parsed else _tag_filter(parsed, starts)
    return _with_prefix(parsed, schemes, "<![CDATA[" in parsed)


def _with_prefix(parsed: str, schemes: list[str], everywhere: bool) -> list[int]:
    """Places of ``http://``, ``https://`` and ``www.`` that are not visibly inside a tag.

    Args:
        parsed: The source.
        schemes: Which of the beginnings occur in the text at all.
        everywhere: Whether a place inside a tag may be text all the same.
    """
    find, rfind = parsed.find, parsed.rfind
    starts: list[int] = []
    closed = opened = -1
    scanned = 0
    at = find("://") if "://" in schemes else -1
    while at >= 0:
        # Text always has a tag's end between it and the last tag's beginning. Both only move forward: one pass.
        newest = rfind("<", scanned, at)
        if newest >= 0:
            opened = newest
        newest = rfind(">", scanned, at)
        if newest >= 0:
            closed = newest
        scanned = at
        if everywhere or closed >= opened or not _TAG_OPEN.match(parsed, opened):
            before = parsed[max(at - 5, 0) : at].lower()
            if before.endswith("http"):
                starts.append(at - 4)
            elif before == "https":
                starts.append(at - 5)
        at = find("://", at + 3)
    bare: list[int] = []
    for name in schemes:
        at = find(name) if name != "://" else -1
        while at >= 0:
            if parsed[at - 1 : at] in ("w", "W") and parsed[at - 4 : at - 1] != "://":
                bare.append(at - 1)
            at = find(name, at + 3)
    if bare:
        starts = sorted(starts + (bare if everywhere else _tag_filter(parsed, sorted(bare))))
    return starts


def _tag_filter(parsed: str, starts: list[int]) -> list[int]:
    """Drop places with a tag's ``<`` before them and no ``>`` in between."""
    kept: list[int] = []
    closed = opened = -1
    scanned = 0
    for start in starts:
        newest = parsed.rfind("<", scanned, start)
        if newest >= 0:
            opened = newest
        newest = parsed.rfind(">", scanned, start)
        if newest >= 0:
            closed = newest
        scanned = start
        if closed >= opened or not _TAG_OPEN.match(parsed, opened):
            kept.append(start)
    return kept


def _outside_links(starts: list[int], found: Found) -> list[int]:
    """Drop places that visibly stand in a link: between its start tag and them is nothing that could end it."""
    anchors = found.anchors()
    ends: dict[int, int] = {}
    kept: list[int] = []
    last = 0
    reach = -1  # up to where the text behind the last anchor is known to be inside it; -1 when some of it is not
    for start in starts:
        index = bisect_right(anchors, start)
        while index:
            if index not in ends:
                ends[index] = markup.attributes(found.parsed, anchors[index - 1], _NONE)[1]
            if ends[index] <= start:
                break
            index -= 1
        if index != last:
            last = index
            reach = ends.get(index, -1)
        if index and reach >= 0 and _INSIDE_LINK.match(found.parsed, reach, start):
            reach = start
        else:
            reach = -1
            kept.append(start)
    return kept


def _outside_raw_text(starts: list[int], found: Found) -> list[int]:
    """Drop places in style sheets, scripts and the like, whose content only their own end tag ends."""
    raw = found.raw()
    if not starts or not raw:
        return starts
    positions = [position for position, _ in raw]
    ends: dict[int, int] = {}
    kept: list[int] = []
    for start in starts:
        index = bisect_right(positions, start) - 1
        if index >= 0 and index not in ends:
            position, tag = raw[index]
            end = re.compile("</" + tag, re.I).search(found.parsed, position)
            ends[index] = end.start() if end else len(found.parsed)
        if index < 0 or start >= ends[index]:
            kept.append(start)
    return kept


def _in_text(parsed: str, starts: list[int]) -> list[int]:
    """Mark the places, parse again, and keep those whose mark stands in text that is not part of a link."""
    spelled = _spelled(parsed)
    mark = next((character for character in _MARKS if character not in parsed and character not in spelled), None)
    if mark is None:
        present = set(parsed) | spelled
        mark = next(character for character in map(chr, range(0xF0000, 0x10FFFE)) if character not in present)
    pieces: list[str] = []
    at = 0
    for number, start in enumerate(starts):
        # Behind its first character: right after a "<" a mark would change what is a tag.
        reference = _REFERENCE.match(parsed, start)
        place = reference.end() if reference else start + 1
        pieces += (parsed[at:place], mark, _number(number), mark)
        at = place
    pieces.append(parsed[at:])
    document = markup.parse("".join(pieces))
    pattern = re.compile(f"{mark}([0-9a-zA-Z]+){mark}")
    texts = markup.query(document, f'//text()[contains(.,"{mark}")][not({_NOT_TEXT})]')
    kept = sorted(starts[_index(hit[1])] for text in texts for hit in pattern.finditer(str(text)))
    return _outside_cdata(parsed, kept) if "<![CDATA[" in parsed else kept


def _spelled(parsed: str) -> set[str]:
    """The characters that stand in a source as numbers (``&#1;``)."""
    if "&#" not in parsed:
        return set()
    numbers = {int(hit[1], 16) if hit[1] else int(hit[2]) for hit in _NUMBERED.finditer(parsed)}
    return {chr(number) for number in numbers if number < 0x110000}


def _outside_cdata(parsed: str, starts: list[int]) -> list[int]:
    """Keep the places where markup is markup: a comment put there turns up as a comment in the tree."""
    pieces: list[str] = []
    at = 0
    for start in starts:
        pieces += (parsed[at:start], f"<!--at{start}-->")
        at = start
    pieces.append(parsed[at:])
    nodes = markup.query(markup.parse("".join(pieces)), "//comment()")
    seen = {node.data for node in nodes if isinstance(node, turbohtml.Comment)}
    return [start for start in starts if f"at{start}" in seen]


def _number(value: int) -> str:
    out = _DIGITS[value % 62]
    while value := value // 62:
        out = _DIGITS[value % 62] + out
    return out


def _index(text: str) -> int:
    value = 0
    for digit in text:
        value = value * 62 + _DIGITS.index(digit)
    return value


def _addresses(view: View, parsed: str, starts: list[int], *, bare_domains: bool) -> list[Candidate]:
    out: list[Candidate] = []
    reach = 0
    for start in starts:
        if start < reach:
            continue
        stop = _RUN_END.search(parsed, start, min(start + _MAX_RUN, len(parsed)))
        end = stop.start() if stop else min(start + _MAX_RUN, len(parsed))
        before = _before(view, parsed, start)
        text, places = _decoded(view, start, end)
        for address in _from(before + text, len(before), bare_domains=bare_domains):
            first = places[address.start - len(before)]
            last = view.settle(first, places[address.end - len(before)])
            shown = (before + text)[address.start : address.end]
            out.append(
                Candidate(first, last, LinkKind.HTML_TEXT, TargetClass.HTTP, address.url, shown[:500], wrap=True)
            )
        reach = max(reach, end)
    return out


def _before(view: View, parsed: str, start: int) -> str:
    """The character that is read before a place: that of a reference without its semicolon (``&lthttp``) too."""
    for _ in range(_MAX_GAPS):  # what browsers drop from text
        if parsed.startswith("\0", start - 1) and start:
            start -= 1
        elif start > 2 and parsed.startswith("</>", start - 3):
            start -= 3
        else:
            break
    lead = _OPEN_REFERENCE.search(parsed, max(start - 12, 0), start)
    if lead is not None:
        return markup.text_value(parsed[lead.start() : start + 1])[-2:-1]
    at = start
    while at > max(start - 40, 0) and (parsed[at - 1] >= "\x80" or parsed[max(at - 2, 0)] >= "\x80"):
        at -= 1  # the second byte of a character may be a letter of ASCII (Shift JIS, GBK, Big5)
    return view.decode(at, start)[-1:] if at < start else parsed[max(start - 1, 0) : start]


def _from(text: str, skip: int, *, bare_domains: bool) -> list[Address]:
    return [found for found in find_addresses(text, bare_domains=bare_domains) if found.start >= skip]


def _decoded(view: View, start: int, end: int) -> tuple[str, list[int]]:
    """Decode a run of text and map every character of it (and its end) to the view."""
    source = view.text[start:end]
    if source.isascii() and "&" not in source and "\0" not in source and "</>" not in source:
        return source, list(range(start, end + 1))
    out: list[str] = []
    places: list[int] = []
    at = start
    for hit in [*_REFERENCE.finditer(view.text, start, end), None]:
        stop = hit.start() if hit else end
        _plain(view, at, stop, out, places)
        if hit is not None:
            meaning = markup.text_value(hit[0]) if hit[0][0] == "&" else ""
            if meaning == hit[0]:
                _plain(view, stop, hit.end(), out, places)
            else:
                for character in meaning:
                    out.append(character)
                    places.append(stop)
            at = hit.end()
    places.append(end)
    return "".join(out), places


def _plain(view: View, start: int, end: int, out: list[str], places: list[int]) -> None:
    text, at = view.spelled(start, end)
    out.append(text)
    places += at[:-1]
