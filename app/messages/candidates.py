"""What is found in a part: places where links stand, and documents inside attributes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import turbohtml

from app.messages import markup
from app.messages.types import LinkKind
from app.messages.urls import TargetClass

_RAW_SELECTOR: Final = "style,script,title,textarea"


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


@dataclass(frozen=True, slots=True)
class EmbeddedDocument:
    """HTML inside an attribute: the value of ``srcdoc``.

    Attributes:
        start: First character of the value in the view.
        end: Past the last one.
        base: What relative links in it are resolved against: the base of the document around it.
    """

    start: int
    end: int
    base: str | None


@dataclass(slots=True)
class Found:
    """What a scan of HTML found.

    Attributes:
        candidates: Links in the order of the source.
        document: The parsed document.
        parsed: The text that was parsed, of the same length as the view.
        frames: Targets of frames and plug-ins, which load without a click.
        documents: Documents inside attributes.
        is_ours: Tells whether an address is on the gateway.
        has_noscript: Whether scripting decides how the text is read.
    """

    candidates: list[Candidate]
    document: markup.Document
    parsed: str
    has_noscript: bool = False
    frames: list[str] = field(default_factory=list)
    documents: list[EmbeddedDocument] = field(default_factory=list)
    is_ours: Callable[[str], bool] = lambda url: False
    _text: str | None = None

    @property
    def text(self) -> str:
        """All the text of the document, in the characters of the view."""
        if self._text is None:
            self._text = self.document.text
        return self._text

    def anchors(self) -> list[int]:
        """Offsets of the start tags of ``a`` elements, in order."""
        return [position for position, _ in self._positions("a")]

    def raw(self) -> list[tuple[int, str]]:
        """Offset and name of elements whose content is no markup, in order."""
        return self._positions(_RAW_SELECTOR)

    def _positions(self, selector: str) -> list[tuple[int, str]]:
        return sorted(
            {
                (element.source_col, element.tag)
                for element in self.document.select(selector)
                if element.source_col is not None and element.namespace is turbohtml.Namespace.HTML
            }
        )
