"""From the links of one part to the splices that change them: judging, deciding, minting.

Shared by MIME parts and Graph bodies. A `Writer` holds what is the same for the whole message.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from operator import attrgetter

from app.messages import defang
from app.messages.candidates import Candidate, EmbeddedDocument
from app.messages.charsets import StringView, View
from app.messages.findings import LinkJudge
from app.messages.html_links import find_links
from app.messages.html_text import find_bare_addresses
from app.messages.linkify import find_addresses
from app.messages.markup import attribute_value
from app.messages.transfer import Edge, Splice
from app.messages.types import (
    Finding,
    FoundLink,
    LinkAction,
    LinkKind,
    RewrittenLink,
    TransformPlan,
    TransformWarning,
)
from app.messages.urls import TargetClass

_IN_TEXT = frozenset({LinkKind.TEXT, LinkKind.HTML_TEXT})
_LINK_CHARACTERS = re.compile(r"[A-Za-z0-9.\-_~%:/\[\]]*[A-Za-z0-9_\-]")
_UNSAFE = re.compile("[^!#$%(-;?-_a-~]")
_MAX_DOCUMENTS = 4
_GLUED = re.compile(r"(?:(?!https?://)[A-Za-z0-9.\-_~%:/])*(?!https?://)[A-Za-z0-9_\-]")
"""What a reader would take for the end of a gateway link that is written in front of it."""


@dataclass(slots=True)
class Change:
    """A range of a view and what it becomes.

    Attributes:
        start: First character of the view.
        end: Past the last one.
        new: What stands there afterwards.
        edge: See `Edge`.
        token: Whether the gateway URL in `new` is enough to restore.
    """

    start: int
    end: int
    new: str
    edge: Edge = Edge.NONE
    token: bool = True


@dataclass(slots=True)
class Writer:
    """What is collected over all parts of a message."""

    plan: TransformPlan
    unsubscribe: frozenset[str] = frozenset()
    links: list[RewrittenLink] = field(default_factory=list)
    warnings: list[TransformWarning] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    shown: str = ""
    """The text of the HTML part that was looked at last, in the characters of its view."""
    has_drawing: bool = False
    """Whether it has an SVG element."""
    _minted: dict[tuple[str, bytes, LinkKind], str] = field(default_factory=dict)
    """Gateway URLs by what they are made of: every fourth link of real mail stands there more than once."""
    judge: LinkJudge = field(init=False)
    _own: str = field(init=False)

    def __post_init__(self) -> None:
        self._own = self.plan.gateway.rstrip("/").lower()
        self.judge = LinkJudge(self.plan)

    def warn(self, code: str, part: str, message: str) -> None:
        """Report something that was not covered."""
        self.warnings.append(TransformWarning(code, part, message))

    def html(
        self, view: View, part: str, source_of: Callable[[int, int], bytes], base: str | None = None, depth: int = 0
    ) -> list[Change]:
        """Changes for the links of an HTML part.

        Args:
            view: The part's text.
            part: MIME part path.
            source_of: Raw bytes behind a range of the view.
            base: What relative links are resolved against where the part has no base of its own.
            depth: How many documents it stands in (``srcdoc``).
        """
        candidates: list[Candidate] = []
        documents: list[EmbeddedDocument] = []
        more = False
        for reading in (view, view.alternative):
            if reading is None:
                continue
            found = find_links(reading, self.is_ours, base)
            if not depth:
                drawing = found.document.select_one("svg") is not None
                self.has_drawing = drawing or (self.has_drawing and reading is not view)
                self.shown = found.text if reading is view else self.shown + found.text
            for frame in found.frames:
                self.findings.append(self.judge.frame(frame, part))
            bare = find_bare_addresses(reading, found, bare_domains=self.plan.bare_domains)
            more = more or bool(bare) or reading is not view
            candidates += found.candidates + bare
            documents += found.documents
        if more:
            candidates.sort(key=lambda c: (c.start, c.end))
        changes = self._changes(candidates, view, part, source_of, markup=True)
        return self._documents(documents, changes, view, part, depth) if documents else changes

    def _documents(
        self, documents: list[EmbeddedDocument], changes: list[Change], view: View, part: str, depth: int
    ) -> list[Change]:
        """Add the changes of documents inside attributes (``iframe srcdoc``) to those of the document around them."""
        out = list(changes)
        for inner in sorted(set(documents), key=lambda d: (d.start, d.end)):
            if any(change.start < inner.end and inner.start < change.end for change in out):
                self.warn(
                    "ambiguous_markup", part, "Some markup stands inside a link's target in another way of reading it."
                )
                continue
            if depth >= _MAX_DOCUMENTS:
                self.warn(
                    "not_covered", part, "Documents stand inside one another too often; the innermost was emptied."
                )
                out.append(Change(inner.start, inner.end, "", token=False))
                continue
            text = attribute_value(view.decode(inner.start, inner.end))
            read = StringView(text)
            made = self.html(read, part, _sources_in(text), inner.base, depth + 1)
            if made:
                new = _quoted(replaced(text, made))
                out.append(Change(inner.start, inner.end, new, token=False))
        return out

    def report(self, view: View, part: str, kind: LinkKind, *, is_html: bool, depth: int = 0) -> None:
        """Judge the links of a part that is left as it is."""
        if is_html:
            found = find_links(view)
            candidates = found.candidates
            for inner in found.documents if depth < _MAX_DOCUMENTS else ():
                text = attribute_value(view.decode(inner.start, inner.end))
                self.report(StringView(text), part, kind, is_html=True, depth=depth + 1)
        else:
            candidates = text_candidates(view, self.plan)
        for candidate in candidates:
            candidate.kind = kind
            source = view.bytes_of(candidate.start, candidate.end)
            link = self.judge.judge(candidate, candidate.url, source, part, (), unsubscribe=False)
            self.links.append(RewrittenLink(link, LinkAction.LEAVE, None))

    def text(self, view: View, part: str, source_of: Callable[[int, int], bytes]) -> list[Change]:
        """Changes for the addresses of a text part."""
        return self._changes(text_candidates(view, self.plan), view, part, source_of, markup=False)

    def _changes(
        self,
        candidates: Iterable[Candidate],
        view: View,
        part: str,
        source_of: Callable[[int, int], bytes],
        *,
        markup: bool,
    ) -> list[Change]:
        changes: list[Change] = []
        reach = 0
        overlaps = False
        for candidate in candidates:
            if candidate.start < reach:
                overlaps = True
                continue
            made = self._change(candidate, view, part, source_of, markup=markup)
            if made:
                changes += made
                reach = candidate.end
        if overlaps:
            self.warn(
                "ambiguous_markup", part, "Some markup stands inside a link's target in another way of reading it."
            )
        return changes

    def _change(
        self,
        candidate: Candidate,
        view: View,
        part: str,
        source_of: Callable[[int, int], bytes],
        *,
        markup: bool,
    ) -> list[Change]:
        plan = self.plan
        url = candidate.url
        extra: tuple[Finding, ...] = ()
        if candidate.target is TargetClass.HTTP and self.is_ours(url):
            if plan.open_link is None:
                return []
            if candidate.kind in _IN_TEXT and (exact := _LINK_CHARACTERS.match(url)):
                url = exact[0]  # what stands behind a link in text is not part of it
            opened = plan.open_link(url)
            if opened is None:
                url = candidate.url
                extra = (self.judge.forged(url, part, candidate.kind),)
            elif opened.same_message:
                return []
            else:
                extra = (self.judge.forwarded(url, opened.url, part, candidate.kind),)
                url = opened.url
        source = b"" if candidate.wrap else source_of(candidate.start, candidate.end)
        link = self.judge.judge(candidate, url, source, part, extra, unsubscribe=url in self.unsubscribe)
        if candidate.target is TargetClass.DANGEROUS:
            self.links.append(RewrittenLink(link, LinkAction.STYLE, None))
            return [Change(candidate.start, candidate.end, "#", token=False)]
        action = plan.decide(link) if plan.decide is not None else LinkAction.REWRITE
        if link.unsubscribe and (plan.leave_unsubscribe or action in (LinkAction.REDACT, LinkAction.STYLE)):
            action = LinkAction.LEAVE
        if action is LinkAction.REWRITE:
            return self._rewritten(candidate, link)
        self.links.append(RewrittenLink(link, action, None))
        if action is LinkAction.LEAVE:
            return []
        return [
            Change(start, end, new, token=False)
            for start, end, new in defang.changes(candidate, view, plan, action, markup=markup)
        ]

    def is_ours(self, url: str) -> bool:
        """Whether an address is on the gateway (made by it or not)."""
        own = self._own
        return url[: len(own)].lower() == own and url[len(own) : len(own) + 1] in ("", "/", "?", "#")

    def _rewritten(self, candidate: Candidate, link: FoundLink) -> list[Change]:
        same = (link.url, link.source, candidate.kind)
        gateway_url = self._minted.get(same)
        if gateway_url is None:
            try:
                gateway_url = self._minted[same] = self.plan.mint(link)
            except ValueError as error:
                self.warn("not_minted", link.part, f"A link could not be rewritten and was left as it is: {error}")
                self.links.append(RewrittenLink(link, LinkAction.LEAVE, None))
                return []
        self.links.append(RewrittenLink(link, LinkAction.REWRITE, gateway_url))
        if candidate.wrap:
            return [
                Change(candidate.start, candidate.start, f'<a href="{gateway_url}">', Edge.AFTER),
                Change(candidate.end, candidate.end, "</a>", Edge.BEFORE),
            ]
        changes = [Change(candidate.start, candidate.end, gateway_url)]
        tag = self.plan.tag
        if tag and candidate.kind in (LinkKind.ANCHOR, LinkKind.AREA) and not candidate.has_title:
            title = defang.escape(tag)
            changes.append(Change(candidate.attribute_end, candidate.attribute_end, f' title="{title}"', token=False))
        return changes


def text_candidates(view: View, plan: TransformPlan) -> list[Candidate]:
    """The addresses of a text part as ranges of its view."""
    if view.alternative is not None:
        both = [*_text_candidates(view, plan), *_text_candidates(view.alternative, plan)]
        return sorted(both, key=lambda c: (c.start, c.end))
    return _text_candidates(view, plan)


def _text_candidates(view: View, plan: TransformPlan) -> list[Candidate]:
    source = view.text
    if "://" not in source and "www." not in source.lower() and not plan.bare_domains:
        return []
    text, place = view.reader()
    out: list[Candidate] = []
    for found in find_addresses(text, bare_domains=plan.bare_domains):
        start = place(found.start)
        end = view.settle(start, place(found.end))
        if glued := _GLUED.match(source, end):
            end = glued.end()
        shown = text[found.start : found.end]
        out.append(Candidate(start, end, LinkKind.TEXT, TargetClass.HTTP, found.url, shown))
    return out


def replaced(text: str, changes: Iterable[Change]) -> str:
    """Apply changes to a text of which they count the characters."""
    pieces: list[str] = []
    at = 0
    for change in sorted(changes, key=lambda c: (c.start, c.end)):
        pieces += (text[at : change.start], change.new)
        at = change.end
    return "".join(pieces) + text[at:]


def _sources_in(text: str) -> Callable[[int, int], bytes]:
    def source_of(start: int, end: int) -> bytes:
        return _quoted(text[start:end]).encode("ascii")

    return source_of


def _quoted(text: str) -> str:
    """Write markup as an attribute value, in ASCII and such that it may stand with any quotes or none."""
    return _UNSAFE.sub(lambda hit: f"&#{ord(hit[0])};", text)


def splices(view: View, changes: list[Change]) -> list[Splice]:
    """Turn changes of a view into splices of its bytes."""
    offset, encode = view.offset, view.encode
    made = [Splice(offset(c.start), offset(c.end), encode(c.new), c.edge, c.token) for c in changes]
    made.sort(key=_place)
    return made


_place = attrgetter("start", "end")
