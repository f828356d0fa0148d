"""Links in HTML, found as browsers find them, with the source range of what makes each of them clickable.

Covered: ``a``, ``area``, ``form``, ``formaction``, links of SVG (``href``, ``xlink:href``, animated ones) and MathML,
``ping``, meta refresh, ``base`` (relative links are resolved against it), VML and every other ``href`` inside Outlook's
conditional comments, content of ``template`` and ``noscript``. Repeated attributes are all covered, though only the
first counts. Images and style sheets are no links.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

import turbohtml

from app.messages import markup
from app.messages.charsets import View
from app.messages.types import LinkKind
from app.messages.urls import TargetClass, resolve

_SELECTOR: Final = "[href],[action],[formaction],[xlink\\:href],[ping],meta[content],animate,set"
_COMMENT = re.compile(r"<!--\s*\[if[^\]]*\]>", re.I)
_COMMENT_END = re.compile(r"--!?>")
_REFRESH = re.compile(
    "[\t\n\f\r ]*[0-9.]*[0-9.\t\n\f\r ;,]*(?:url[\t\n\f\r ]*=[\t\n\f\r ]*)?(?:(\")([^\"]*)|(')([^']*)|(.*))",
    re.I | re.S,
)
_LINK_ATTRIBUTES: Final = frozenset({"href", "xlink:href", "action", "formaction", "ping"})
_HTML_LINKS: Final = {
    ("a", "href"): LinkKind.ANCHOR,
    ("a", "xlink:href"): LinkKind.SVG,
    ("a", "ping"): LinkKind.PING,
    ("area", "href"): LinkKind.AREA,
    ("area", "xlink:href"): LinkKind.AREA,
    ("area", "ping"): LinkKind.PING,
    ("form", "action"): LinkKind.FORM,
    ("button", "formaction"): LinkKind.FORMACTION,
    ("input", "formaction"): LinkKind.FORMACTION,
    ("base", "href"): LinkKind.BASE,
}
_NOT_CLICKABLE: Final = frozenset(
    {"link", "image", "use", "script", "style", "feimage", "filter", "pattern", "lineargradient"}
)
_ANIMATIONS: Final = frozenset({"animate", "set"})
_MAX_TEXT: Final = 500


@dataclass(slots=True)
class Candidate:
    """A place in a text where a link stands.

    Attributes:
        start: First character of the view that is replaced.
        end: Past the last one.
        kind: What makes it clickable.
        target: Class of the target.
        url: Absolute URL.
        text: What the reader sees.
        wrap: An anchor is put around the range instead of replacing it.
        attribute_end: Past the closing quote of the attribute, for attributes.
        style: The element's own ``style`` and size attributes, for the hidden-link finding.
    """

    start: int
    end: int
    kind: LinkKind
    target: TargetClass
    url: str
    text: str
    wrap: bool = False
    attribute_end: int = -1
    style: str = ""
    has_title: bool = False


@dataclass(slots=True)
class Found:
    """What a scan of HTML found.

    Attributes:
        candidates: Links in the order of the source.
        covered: Ranges between the tags of links, in which addresses are clickable already.
        frames: Targets of frames, which load without a click.
        document: The parsed document.
        parsed: The text that was parsed, of the same length as the view.
    """

    candidates: list[Candidate]
    covered: list[tuple[int, int]]
    frames: list[str]
    document: markup.Document
    parsed: str


def find_links(view: View) -> Found:
    """Find the links of an HTML part, apart from bare addresses in its text."""
    source = view.text
    parsed = markup.parseable(source)
    document = markup.parse(parsed)
    found = Found([], [], [], document, parsed)
    base = _base_of(document, view)
    _scan(view, parsed, document, 0, 0, base, found)
    if "<noscript" in parsed or "<NOSCRIPT" in parsed or "<noscript" in parsed.lower():
        # A browser with scripting reads the content of noscript as text, which moves where tags begin.
        seen = {candidate.start for candidate in found.candidates}
        other = Found([], [], [], document, parsed)
        _scan(view, parsed, markup.parse(parsed, scripting=True), 0, 0, base, other)
        found.candidates += [candidate for candidate in other.candidates if candidate.start not in seen]
    if "[if" in parsed or "[IF" in parsed:
        _conditional_comments(view, parsed, document, 0, len(parsed), 1, base, found)
    found.candidates.sort(key=_position)
    return found


def _position(candidate: Candidate) -> tuple[int, int]:
    return candidate.start, candidate.end


def _base_of(document: markup.Document, view: View) -> str | None:
    for element in document.select("base[href]"):
        target, url = resolve(view.human(element.attr("href") or ""), None)
        return url if target is TargetClass.HTTP else None
    return None


def _scan(
    view: View,
    parsed: str,
    document: markup.Document,
    offset: int,
    depth: int,
    base: str | None,
    found: Found,
) -> None:
    """Collect the links of one parsed (part of the) source that begins at `offset` of the view."""
    source = view.text
    for element in document.select(_SELECTOR):
        location = element.source_location
        if location is None:
            continue
        tag = element.tag
        if tag in _NOT_CLICKABLE and not depth:
            continue
        start, end = location.start_tag.start_offset + offset, location.start_tag.end_offset + offset
        attributes = list(markup.attributes(parsed, start, end))
        if tag == "meta":
            _meta(view, attributes, source, base, found)
            continue
        if tag in _ANIMATIONS:
            _animation(view, attributes, source, found)
            continue
        foreign = element.namespace
        text: str | None = None
        style = ""
        has_title = False
        links: list[Candidate] = []
        for attribute in attributes:
            name = attribute.name
            if name in _LINK_ATTRIBUTES:
                kind = _kind(tag, name, foreign, depth)
                if kind is None:
                    continue
                if text is None:
                    text = _text_of(element, view) if kind is not LinkKind.BASE else ""
                made = _candidate(view, source, attribute, kind, base, text)
                if made is not None:
                    links.append(made)
            elif name in ("style", "width", "height", "hidden"):
                style += f"{name}={source[attribute.value_start : attribute.value_end][:400]};"
            elif name == "title":
                has_title = True
        for made in links:
            made.style = style
            made.has_title = has_title
        found.candidates += links
        if tag == "a" and location.end_tag is not None:
            found.covered.append((end, location.end_tag.start_offset + offset))


def _kind(tag: str, name: str, namespace: turbohtml.Namespace, depth: int) -> LinkKind | None:
    if namespace is turbohtml.Namespace.HTML:
        kind = _HTML_LINKS.get((tag, name))
        if kind is None and name == "href" and (depth or ":" in tag):
            return LinkKind.VML if ":" in tag else LinkKind.CONDITIONAL
        return kind
    if name in ("href", "xlink:href"):
        if namespace is turbohtml.Namespace.SVG:
            return LinkKind.SVG if tag == "a" else LinkKind.CONDITIONAL if depth and name == "href" else None
        return LinkKind.MATHML
    return LinkKind.PING if tag == "a" and name == "ping" else None


def _text_of(element: markup.Element, view: View) -> str:
    parts: list[str] = []
    size = 0
    for piece in element.strings:
        parts.append(piece)
        size += len(piece)
        if size > _MAX_TEXT * 2 or len(parts) > 64:
            break
    text = "".join(parts)
    if not text.isascii():
        text = view.human(text)
    return " ".join(text.split())[:_MAX_TEXT]


def _value(view: View, source: str, start: int, end: int) -> str:
    raw = source[start:end]
    if not raw.isascii():
        raw = view.decode(start, end)
    return markup.attribute_value(raw)


def _candidate(
    view: View, source: str, attribute: markup.Attribute, kind: LinkKind, base: str | None, text: str
) -> Candidate | None:
    start, end = attribute.value_start, attribute.value_end
    if start == end:
        return None
    value = _value(view, source, start, end)
    if kind is LinkKind.PING:
        targets = [resolve(item, base) for item in value.split()]
        web = [url for target, url in targets if target is TargetClass.HTTP]
        return Candidate(start, end, kind, TargetClass.HTTP, web[0], text, attribute_end=attribute.end) if web else None
    target, url = resolve(value, None if kind is LinkKind.BASE else base)
    if target is TargetClass.OTHER or (kind is LinkKind.BASE and target is not TargetClass.HTTP):
        return None
    return Candidate(start, end, kind, target, url, text, attribute_end=attribute.end)


def _meta(view: View, attributes: list[markup.Attribute], source: str, base: str | None, found: Found) -> None:
    content = None
    refresh = False
    for attribute in attributes:
        if attribute.name == "http-equiv":
            refresh = _value(view, source, attribute.value_start, attribute.value_end).strip().lower() == "refresh"
        elif attribute.name == "content" and content is None:
            content = attribute
    if not refresh or content is None:
        return
    value = source[content.value_start : content.value_end]
    hit = _REFRESH.match(value)
    if hit is None or hit.lastindex is None:
        return
    start, end = (content.value_start + at for at in hit.span(hit.lastindex))
    target, url = resolve(_value(view, source, start, end), base)
    if target is not TargetClass.OTHER:
        found.candidates.append(
            Candidate(start, end, LinkKind.META_REFRESH, target, url, "", attribute_end=content.end)
        )


def _animation(view: View, attributes: list[markup.Attribute], source: str, found: Found) -> None:
    """SVG animation can set the ``href`` of a link (SVG Animations Level 2): its values are links then."""
    named = {attribute.name: attribute for attribute in attributes}
    what = named.get("attributename")
    if what is None or source[what.value_start : what.value_end].strip().lower() not in (
        "href",
        "xlink:href",
    ):
        return
    for name in ("to", "from", "by", "values"):
        attribute = named.get(name)
        if attribute is None:
            continue
        value = _value(view, source, attribute.value_start, attribute.value_end)
        for item in value.split(";"):
            target, url = resolve(item, None)
            if target is not TargetClass.OTHER:
                found.candidates.append(
                    Candidate(attribute.value_start, attribute.value_end, LinkKind.SVG, target, url, "")
                )
                break


def _conditional_comments(
    view: View,
    parsed: str,
    document: markup.Document,
    start: int,
    end: int,
    depth: int,
    base: str | None,
    found: Found,
) -> None:
    """Parse the content of Outlook's conditional comments, which are comments to every other client."""
    comments: set[str] | None = None
    at = start
    while True:
        opening = _COMMENT.search(parsed, at, end)
        if opening is None:
            return
        closing = _COMMENT_END.search(parsed, opening.start() + 4, end)
        stop = closing.start() if closing else end
        at = max(opening.end(), closing.end() if closing else end)
        body = opening.end()
        if body >= stop:
            at = opening.end()
            continue
        lowered = parsed[body:stop].lower()
        if "href" not in lowered and "action" not in lowered and "refresh" not in lowered:
            continue
        if depth == 1:
            if comments is None:
                nodes = document.xpath("//comment()")
                comments = (
                    {node.data for node in nodes if isinstance(node, turbohtml.Comment)}
                    if isinstance(nodes, list)
                    else set()
                )
            if parsed[opening.start() + 4 : stop].replace("\0", "\ufffd") not in comments:
                continue  # it stands inside an attribute, a style sheet or the like
        inner = markup.parse(parsed[body:stop])
        _scan(view, parsed, inner, body, depth, _base_of(inner, view) or base, found)
