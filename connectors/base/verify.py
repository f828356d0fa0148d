"""Verifies a body that was written, by its meaning.

A provider may re-normalise the HTML it is given: quotes, case, white space, entities, the head. What must
have survived is what the rewriting was for: every expected link can be clicked, no replaced link can be
clicked any more, and every inline image is still referred to.

Links are looked for where a reader can click: ``href`` of ``a`` and ``area`` (and SVG's ``xlink:href``),
``action`` and ``formaction``, conditional comments included, since Outlook renders those.
"""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import turbohtml

from connectors.base.types import BodyContent

_CLICKABLE = {
    "a": ("href", "xlink:href"),
    "area": ("href",),
    "form": ("action",),
    "button": ("formaction",),
    "input": ("formaction",),
}
_CID_ATTRIBUTES = ("src", "background", "href", "xlink:href", "data", "poster")
_CID_IN_TEXT = re.compile(r"""cid:([^\s"'<>()&;,]+)""", re.IGNORECASE)
_CONDITIONAL = re.compile(r"^\[if[^\]]*\]>(.*)<!\[endif\]$", re.IGNORECASE | re.DOTALL)
_URL_STOP = re.compile(r"""[\s<>"']""")
_NOT_VISIBLE = frozenset({"script", "style", "title", "noscript", "template"})
_MAX_NESTED_COMMENTS = 5


@dataclass(frozen=True, slots=True)
class BodyFacts:
    """What a body means, as far as links go.

    Attributes:
        links: Every clickable target, with how often it occurs.
        cids: Content ids that are referred to.
        text: The visible text with white space collapsed.
    """

    links: Counter[str]
    cids: frozenset[str]
    text: str


@dataclass(frozen=True, slots=True)
class Verification:
    """The outcome.

    Attributes:
        missing: Expected links that are not there.
        left: Replaced links that still are.
        lost_cids: Inline references that went away.
        text_differs: With no link to look for: whether the texts or the links differ.
        identical: Whether what came back is what was sent, character for character.
    """

    missing: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    lost_cids: tuple[str, ...] = ()
    text_differs: bool = False
    identical: bool = False

    @property
    def ok(self) -> bool:
        """Whether what came back means what was sent."""
        return not (self.missing or self.left or self.lost_cids or self.text_differs)

    def __str__(self) -> str:
        """Counts for a log; no address out of the mail."""
        if self.ok:
            return "identical" if self.identical else "equal in meaning"
        parts = [
            f"{len(self.missing)} expected link(s) missing" if self.missing else "",
            f"{len(self.left)} replaced link(s) left" if self.left else "",
            f"{len(self.lost_cids)} inline reference(s) lost" if self.lost_cids else "",
            "text differs" if self.text_differs else "",
        ]
        return ", ".join(part for part in parts if part)


def body_facts(body: BodyContent) -> BodyFacts:
    """Parse a body. Plain text has no clickable targets of its own; its text is compared instead."""
    if not body.is_html:
        return BodyFacts(Counter(), frozenset(), _collapse(body.content))
    links: Counter[str] = Counter()
    cids: set[str] = set()
    text = _read_html(body.content, links, cids, 0)
    return BodyFacts(links, frozenset(cids), _collapse(text))


def verify_body(
    sent: BodyContent,
    got: BodyContent,
    expected: Iterable[str] = (),
    replaced: Iterable[str] = (),
) -> Verification:
    """Compare what was read back with what was sent.

    Args:
        sent: What was written.
        got: What the provider gives now.
        expected: URLs that must be there.
        replaced: URLs that must not be clickable any more, except as often as ``sent`` itself has them.

    Returns:
        What is wrong, if anything. Without any link to look for, the texts and all links are compared.
    """
    wanted = list(dict.fromkeys(expected))
    if sent == got and all(_is_written_in(sent.content, url) for url in wanted):
        return Verification(identical=True)
    unwanted = [url for url in dict.fromkeys(replaced) if url not in set(wanted)]
    before, after = body_facts(sent), body_facts(got)
    lost = tuple(sorted(before.cids - after.cids))
    if not wanted and not unwanted:
        differs = _without_space(before.text) != _without_space(after.text) or (
            sent.is_html == got.is_html and before.links != after.links
        )
        return Verification(lost_cids=lost, text_differs=differs, identical=sent == got)
    if sent.is_html and got.is_html:
        missing = tuple(url for url in wanted if not _has_link(after.links, url))
        left = tuple(url for url in unwanted if _count_link(after.links, url) > _count_link(before.links, url))
    else:
        missing = tuple(url for url in wanted if not (_count_text(after.text, url) or _has_link(after.links, url)))
        left = tuple(
            url
            for url in unwanted
            if _count_text(after.text, url) > _count_text(before.text, url)
            or _count_link(after.links, url) > _count_text(before.text, url)
        )
    return Verification(missing, left, lost, identical=sent == got)


def _is_written_in(content: str, url: str) -> bool:
    """The cheap look that suffices in nearly every case; where it fails, the body is parsed."""
    return url in content or html.escape(url) in content


def _has_link(links: Counter[str], url: str) -> bool:
    return _count_link(links, url) > 0


def _count_link(links: Counter[str], url: str) -> int:
    return links[_trim(url)]


def _count_text(text: str, url: str) -> int:
    """Occurrences of a URL that are not the beginning of a longer one."""
    needle = _collapse(url)
    count = 0
    position = text.find(needle) if needle else -1
    while position >= 0:
        end = position + len(needle)
        rest = text[end : end + 2]
        ends_here = not rest or bool(_URL_STOP.match(rest)) or not (rest[0].isalnum() or rest[0] in "/?#=&%-_~")
        count += ends_here
        position = text.find(needle, end)
    return count


def _read_html(markup: str, links: Counter[str], cids: set[str], depth: int) -> str:
    document = turbohtml.parse(markup, positions=False)
    texts: list[str] = []
    for node in document.descendants:
        if isinstance(node, turbohtml.Element):
            _read_element(node, links, cids)
        elif isinstance(node, turbohtml.Text):
            parent = node.parent
            if not (isinstance(parent, turbohtml.Element) and parent.tag.lower() in _NOT_VISIBLE):
                texts.append(node.data)
        elif isinstance(node, turbohtml.Comment):
            inner = _CONDITIONAL.match(node.data)
            if inner and depth < _MAX_NESTED_COMMENTS:
                _read_html(inner.group(1), links, cids, depth + 1)
    return " ".join(texts)


def _read_element(element: turbohtml.Element, links: Counter[str], cids: set[str]) -> None:
    tag = element.tag.lower()
    for name in _CLICKABLE.get(tag, ()):
        value = _attribute(element, name)
        if value is not None:
            links[_trim(value)] += 1
    for name in _CID_ATTRIBUTES:
        value = _attribute(element, name)
        if value is not None and value.strip()[:4].lower() == "cid:":
            cids.add(value.strip()[4:])
    style = _attribute(element, "style")
    if style and "cid:" in style.lower():
        cids.update(_CID_IN_TEXT.findall(style))


def _attribute(element: turbohtml.Element, name: str) -> str | None:
    value: Any = element.attrs.get(name)
    return value if isinstance(value, str) else None


def _trim(url: str) -> str:
    """As a browser reads an attribute: outer white space and inner tabs and newlines do not count."""
    return re.sub(r"[\t\n\r]", "", url).strip()


def _collapse(text: str) -> str:
    return " ".join(text.replace("\u00a0", " ").split())


def _without_space(text: str) -> str:
    return "".join(text.split())
