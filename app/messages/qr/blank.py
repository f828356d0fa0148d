"""Codes without a picture made unreadable: block characters become spaces, colored cells one pale color.

Only what draws the code is changed, so that the words around it and the links in it stay; what was changed is read
again before it is given out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from html import unescape
from typing import Final, NamedTuple

from app.messages.qr.blocks import DARK, BlockCode, columns_of, find_in_text
from app.messages.qr.html_blocks import find_in_html
from app.messages.qr.types import QrLimits

_LIMITS: Final = QrLimits()
_PALE: Final = "#ebebeb"
_DARK_RUN = re.compile(f"{DARK.pattern}+")
_REFERENCE = re.compile(r"&(?:#[0-9]{4,6}|#[xX][0-9a-fA-F]{4,5}|[a-zA-Z]{3,8});?")
_CELL = re.compile(
    r"<(?:table|tbody|thead|tfoot|tr|td|th|div|span|p|font)(?=[\s/>])(?:\"[^\"]*\"|'[^']*'|[^'\">])*+>", re.I
)
_COLOR = re.compile(
    r"(bgcolor\s*=\s*)(?:\"[^\"]*\"|'[^']*'|[^\s>\"']+)|(background(?:-color|-image)?\s*:)[^;\"'<>]*", re.I
)


class Edit(NamedTuple):
    """A range of the source and what it becomes."""

    start: int
    end: int
    new: str


def blank_text(text: str, codes: Iterable[BlockCode], limits: QrLimits = _LIMITS) -> list[Edit] | None:
    """Make codes of a plain text unreadable.

    Args:
        text: The text in which ``find_in_text`` found the codes.
        codes: Those to make unreadable.
        limits: How much may be looked at.

    Returns:
        The changes, in order; None where one of the codes would still be readable.
    """
    return _checked(text, codes, lambda changed: find_in_text(changed, limits))


def blank_html(source: str, codes: Iterable[BlockCode], limits: QrLimits = _LIMITS) -> list[Edit] | None:
    """Make codes of an HTML source unreadable; see `blank_text`."""
    return _checked(source, codes, lambda changed: find_in_html(changed, limits))


def _checked(source: str, codes: Iterable[BlockCode], find: Callable[[str], Sequence[BlockCode]]) -> list[Edit] | None:
    wanted = list(codes)
    edits: set[Edit] = set()
    for code in wanted:
        edits.update(_cells(source, code) if code.kind == "table" else _characters(source, code))
    ordered = _apart(edits)
    pieces: list[str] = []
    at = 0
    for edit in ordered:
        pieces += (source[at : edit.start], edit.new)
        at = edit.end
    pieces.append(source[at:])
    still = {code.text for code in find("".join(pieces))}
    return None if any(code.text in still for code in wanted) else ordered


def _apart(edits: Iterable[Edit]) -> list[Edit]:
    out: list[Edit] = []
    for edit in sorted(edits):
        if not out or edit.start >= out[-1].end:
            out.append(edit)
    return out


def _characters(source: str, code: BlockCode) -> Iterable[Edit]:
    for hit in _DARK_RUN.finditer(source, code.start, code.end):
        yield Edit(*hit.span(), " " * sum(map(columns_of, hit[0])))
    for hit in _REFERENCE.finditer(source, code.start, code.end):
        if DARK.match(_meaning(hit[0])):
            yield Edit(*hit.span(), " ")


def _meaning(reference: str) -> str:
    return unescape(reference if reference.endswith(";") else reference + ";")[:1]


def _cells(source: str, code: BlockCode) -> Iterable[Edit]:
    yield from _characters(source, code)
    for tag in _CELL.finditer(source, code.start, code.end):
        for hit in _COLOR.finditer(source, *tag.span()):
            value = hit.end(1) if hit[1] else hit.end(2)
            yield Edit(value, hit.end(), f'"{_PALE}"' if hit[1] else _PALE)
