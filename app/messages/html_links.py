"""Links in HTML, found as browsers find them, with the source range of what makes each of them clickable.

Covered: ``a``, ``area``, ``form``, ``formaction``, links of SVG (``href``, ``xlink:href``, animated ones) and MathML,
``ping``, meta refresh, ``base`` (relative links are resolved against it), VML and every other ``href`` inside Outlook's
conditional comments, content of ``template`` and ``noscript``. Repeated attributes are all covered, though only the
first counts. Images and style sheets are no links.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

import turbohtml

from app.messages import markup
from app.messages.candidates import Candidate, EmbeddedDocument, Found
from app.messages.charsets import View
from app.messages.conditional_comments import conditional_contents, may_be_conditional
from app.messages.types import LinkKind
from app.messages.urls import TargetClass, is_parsable, resolve

# What a selector costs goes by the number of its alternatives, elements that do not match included. Under ``:is`` it
# takes little more than half the time; what only bare addresses need is asked for when there is one.
_SELECTOR: Final = (
    ":is([href],[action],[formaction],[xlink\\:href],[ping],[http-equiv],"
    "animate,set,noscript,iframe,frame,object,embed)"
)
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
    ("area", "ping"): LinkKind.PING,
    ("form", "action"): LinkKind.FORM,
    ("button", "formaction"): LinkKind.FORMACTION,
    ("input", "formaction"): LinkKind.FORMACTION,
    ("base", "href"): LinkKind.BASE,
}
_NOT_CLICKABLE: Final = frozenset({"link", "image", "use", "feimage", "filter", "pattern", "lineargradient"})
_RAW_TEXT: Final = frozenset({"style", "script", "title", "textarea"})
_FRAMES: Final = {"iframe": "src", "frame": "src", "embed": "src", "object": "data"}
_DATA_PICTURE: Final = re.compile(r"(?i)data:\s*(?:image/(?:png|jpe?g|gif|webp|bmp)|audio/|video/)")
_ANIMATIONS: Final = frozenset({"animate", "set"})
_MAX_TEXT: Final = 500
_MAX_CONTENT: Final = 1_500
_LOOKS: Final = frozenset({"style", "width", "height", "hidden"})
_WANTED: Final = _LINK_ATTRIBUTES | _LOOKS | {"title"}
_CONTENT: Final = frozenset({"content"})
_ANIMATED: Final = frozenset({"attributename", "to", "from", "by", "values"})
_WITHOUT_TEXT: Final = frozenset({"area", "form", "input", "base"})


def find_links(view: View, is_ours: Callable[[str], bool] = lambda url: False, base: str | None = None) -> Found:
    """Find the links of an HTML part, apart from bare addresses in its text.

    Args:
        view: The part's text.
        is_ours: Tells whether an address is on the gateway: a base there is one that was rewritten already, and
            nothing is resolved against it.
        base: What relative links are resolved against where the part has no base of its own.
    """
    parsed = markup.parseable(view.text)
    document = markup.parse(parsed)
    found = Found([], document, parsed, is_ours=is_ours)
    base = _scan(view, parsed, document, 0, 0, base, found)
    if found.has_noscript:
        # A browser with scripting reads the content of noscript as text, which moves where tags begin.
        seen = {candidate.start for candidate in found.candidates}
        other = Found([], document, parsed, is_ours=is_ours)
        _scan(view, parsed, markup.parse(parsed, scripting=True), 0, 0, base, other)
        found.candidates += [candidate for candidate in other.candidates if candidate.start not in seen]
        known = {document.start for document in found.documents}
        found.documents += [document for document in other.documents if document.start not in known]
    if may_be_conditional(parsed):
        for start, end in conditional_contents(parsed, document):
            _scan(view, parsed, markup.parse(parsed[start:end]), start, 1, base, found)
    found.candidates.sort(key=_position)
    return found


def _position(candidate: Candidate) -> tuple[int, int]:
    return candidate.start, candidate.end


def _base_of(elements: list[markup.Element], view: View, is_ours: Callable[[str], bool]) -> str | None:
    """The base URL of a document: that of its first ``base`` element with an ``href``."""
    for element in elements:
        if element.tag == "base" and element.namespace is turbohtml.Namespace.HTML:
            value = element.attr("href")
            if value is not None:
                target, url = resolve(view.human(value), None)
                return url if target is TargetClass.HTTP and is_parsable(url) and not is_ours(url) else None
    return None


def _scan(
    view: View, parsed: str, document: markup.Document, offset: int, depth: int, base: str | None, found: Found
) -> str | None:
    """Collect the links of one parsed (part of the) source that begins at `offset` of the view; return its base."""
    last = -1
    elements = document.select(_SELECTOR)
    base = _base_of(elements, view, found.is_ours) or base
    for element in elements:
        position = element.source_col
        if position is None or position == last:
            continue
        last = position
        tag = element.tag
        start = position + offset
        if tag == "a":
            _element(view, parsed, element, start, depth, base, found)
            continue
        if tag in _RAW_TEXT and element.namespace is turbohtml.Namespace.HTML:
            pass
        elif tag == "meta":
            if (element.attr("http-equiv") or "").strip().lower() == "refresh":
                _meta(view, parsed, start, base, found)
        elif tag in _ANIMATIONS:
            _animation(view, parsed, start, found)
        elif tag in _FRAMES:
            _frame(view, parsed, element, start, base, found)
        elif tag == "noscript":
            found.has_noscript = True
        elif depth or tag not in _NOT_CLICKABLE:
            _element(view, parsed, element, start, depth, base, found)
            continue
        if depth and element.attr("href") is not None:
            _element(view, parsed, element, start, depth, base, found)
    return base


def _element(
    view: View, parsed: str, element: markup.Element, start: int, depth: int, base: str | None, found: Found
) -> None:
    tag = element.tag
    attributes, end = markup.attributes(parsed, start, _WANTED)
    style = ""
    has_title = False
    links: list[Candidate] = []
    text: str | None = None
    for attribute in attributes:
        name = attribute[0]
        if name in _LINK_ATTRIBUTES:
            kind = _kind(tag, name, element.namespace, depth)
            if kind is None:
                continue
            made = _candidate(view, attribute, kind, base)
            if made is not None:
                if text is None:
                    text = _text_after(view, parsed, tag, end)
                made.text = text
                links.append(made)
        elif name == "title":
            has_title = True
        elif name in _LOOKS and len(style) < _MAX_TEXT:
            style += f"{name}={parsed[attribute.start : attribute.stop][:400]};"
    if links:
        for made in links:
            made.style = style
            made.has_title = has_title
        found.candidates += links


def _kind(tag: str, name: str, namespace: turbohtml.Namespace, depth: int) -> LinkKind | None:
    if namespace is turbohtml.Namespace.HTML:
        kind = _HTML_LINKS.get((tag, name))
        if kind is None and name == "href" and (depth or ":" in tag):
            return LinkKind.VML if ":" in tag else LinkKind.CONDITIONAL
        return kind
    if name in ("href", "xlink:href"):
        if namespace is turbohtml.Namespace.SVG:
            return LinkKind.SVG if tag == "a" else LinkKind.CONDITIONAL if depth and name == "href" else None
        return LinkKind.MATHML if name == "href" or tag == "a" else None
    # No browser follows these in a foreign namespace; a reader that does not mind namespaces would.
    return _HTML_LINKS.get((tag, name))


def _frame(view: View, parsed: str, element: markup.Element, start: int, base: str | None, found: Found) -> None:
    name = _FRAMES[element.tag]
    for attribute in markup.attributes(parsed, start, frozenset({name, "srcdoc"}))[0]:
        if attribute.start == attribute.stop:
            continue
        if attribute.name == "srcdoc":
            if element.tag == "iframe":
                found.documents.append(EmbeddedDocument(attribute.start, attribute.stop, base))
            continue
        target, url = resolve(_value(view, attribute.start, attribute.stop), base)
        if target is not TargetClass.OTHER:
            found.frames.append(url)
        if target is TargetClass.DANGEROUS and not _DATA_PICTURE.match(url):
            # A document of the sender's own making, with links in it that work.
            found.candidates.append(
                Candidate(attribute.start, attribute.stop, LinkKind.FRAME, target, url, "", attribute_end=attribute.end)
            )


def _text_after(view: View, parsed: str, tag: str, start: int) -> str:
    """What the reader sees of an element that begins at `start`: the text up to its end tag, so far as it is near."""
    if tag in _WITHOUT_TEXT:
        return ""
    far = start + _MAX_CONTENT
    closing = "</" + tag
    stop = parsed.find(closing, start, far)
    behind = stop + len(closing)
    if stop < 0 or (behind < far and parsed[behind : behind + 1].isalnum()):
        hit = markup.tag_end(tag).search(parsed, start, far)
        stop = hit.start() if hit else far
    text = markup.visible_text(parsed[start:stop])
    if not text.isascii():
        text = view.human(text)
    return " ".join(text.split())[:_MAX_TEXT]


def _value(view: View, start: int, end: int) -> str:
    return markup.attribute_value(view.decode(start, end))


def _candidate(view: View, attribute: markup.Attribute, kind: LinkKind, base: str | None) -> Candidate | None:
    _, start, end, _ = attribute
    if start == end:
        return None
    value = _value(view, start, end)
    if kind is LinkKind.PING:
        targets = [resolve(item, base) for item in (*value.split(), value)]
        web = [url for target, url in targets if target is TargetClass.HTTP]
        return Candidate(start, end, kind, TargetClass.HTTP, web[0], "", attribute_end=attribute.end) if web else None
    target, url = resolve(value, None if kind is LinkKind.BASE else base)
    if target is TargetClass.OTHER or (kind is LinkKind.BASE and target is not TargetClass.HTTP):
        return None
    return Candidate(start, end, kind, target, url, "", attribute_end=attribute.end)


def _meta(view: View, parsed: str, position: int, base: str | None, found: Found) -> None:
    content = next(iter(markup.attributes(parsed, position, _CONTENT)[0]), None)
    if content is None:
        return
    hit = _REFRESH.match(parsed[content.start : content.stop])
    if hit is None or hit.lastindex is None:
        return
    start, end = (content.start + at for at in hit.span(hit.lastindex))
    target, url = resolve(_value(view, start, end), base)
    if target is not TargetClass.OTHER and start < end:
        found.candidates.append(
            Candidate(start, end, LinkKind.META_REFRESH, target, url, "", attribute_end=content.end)
        )


def _animation(view: View, parsed: str, position: int, found: Found) -> None:
    """SVG animation can set the ``href`` of a link (SVG Animations Level 2): its values are links then."""
    named = {attribute.name: attribute for attribute in reversed(markup.attributes(parsed, position, _ANIMATED)[0])}
    what = named.get("attributename")
    if what is None or parsed[what.start : what.stop].strip().lower() not in ("href", "xlink:href"):
        return
    for name in ("to", "from", "by", "values"):
        attribute = named.get(name)
        if attribute is None:
            continue
        for item in _value(view, attribute.start, attribute.stop).split(";"):
            target, url = resolve(item, None)
            if target is not TargetClass.OTHER:
                found.candidates.append(Candidate(attribute.start, attribute.stop, LinkKind.SVG, target, url, ""))
                break
