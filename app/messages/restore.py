"""Taking every change back: ``restore(transform(m)) == m``, byte for byte.

A gateway link is replaced by the bytes it carries, in the encoding of its part. Only links made for this very message
are touched; the bytes put back are never looked at again. What the links cannot tell is in the undo record.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from app.messages import undo as undo_record
from app.messages.charsets import StringView, View, open_view
from app.messages.coverage import Role, role_of
from app.messages.marker import strip_marker
from app.messages.meta_charset import charset_in_markup
from app.messages.mime import Part, parse
from app.messages.transfer import Body, RawSplice, Restoration
from app.messages.transfer_base64 import is_mislabelled, open_body
from app.messages.types import OpenedLink, RestoreBodyResult, RestoreFailure, RestoreResult

_URL = re.compile(r"https?://(?:(?!https?://)[A-Za-z0-9.\-_~%:/\[\]])*(?!https?://)[A-Za-z0-9_\-]", re.I)
_FOREIGN = re.compile(r"[^A-Za-z0-9_\-]")
_MAX_TRIES = 3
_OPENING = '<a href="'
_REWRITTEN = frozenset({Role.HTML, Role.TEXT, Role.MARKUP})

Opener = Callable[[str], OpenedLink | None]


class _Back(NamedTuple):
    """Part of a view to put back."""

    start: int
    end: int
    source: bytes
    side: int


def open_longest(text: str, open_link: Opener) -> tuple[OpenedLink | None, int]:
    """Open the gateway link at the beginning of a text, behind which other characters of addresses may stand.

    Args:
        text: Such as ``https://gw.example/l/site.example/TOKEN][2``.
        open_link: Opens gateway links.

    Returns:
        What it stands for and how long it is; None when no beginning of the text is a link.
    """
    opened = open_link(text)
    end = len(text)
    for _ in range(_MAX_TRIES):
        if opened is not None:
            break
        token = text.rfind("/", 0, end) + 1
        foreign = _FOREIGN.search(text, token, end)
        end = foreign.start() if foreign else token - 1
        if end <= 0:
            break
        opened = open_link(text[:end])
    return opened, end


def _find(view: View, open_link: Opener) -> list[_Back]:
    text = view.text
    out: list[_Back] = []
    reach = 0
    if "://" not in text:
        return out
    for hit in _URL.finditer(text):
        if hit.start() < reach:
            continue
        opened, length = open_longest(hit[0], open_link)
        if opened is None or not opened.same_message:
            continue
        start = hit.start()
        end = start + length
        if opened.source:
            out.append(_Back(start, end, opened.source, 0))
            reach = end
            continue
        opening = start - len(_OPENING)
        closing = text.find("</a>", end)
        if opening >= 0 and text.startswith(_OPENING, opening) and text.startswith('">', end) and closing >= 0:
            out.append(_Back(opening, end + 2, b"", 1))
            out.append(_Back(closing, closing + 4, b"", -1))
            reach = closing + 4
    return out


def restore(raw: bytes, open_link: Opener, undo: bytes | None = None) -> RestoreResult:
    """Take back what `transform` did to a message.

    Args:
        raw: The rewritten message, with whatever trace fields and marker were put at its head since.
        open_link: Opens gateway links; only those with ``same_message`` are taken back.
        undo: The undo record, where there was one.

    Returns:
        The message as it was received. What could not be taken back is named and left as it is.
    """
    failed: list[RestoreFailure] = []
    if undo is not None:
        try:
            content, count = undo_record.revert(raw, undo)
        except undo_record.UndoMismatch as error:
            failed.append(RestoreFailure("", "", f"undo_mismatch: {error}"))
        else:
            return RestoreResult(content, content != raw, count)
    content = strip_marker(raw)
    splices: list[RawSplice] = []
    restored = 0
    for part in parse(content).walk():
        if part.is_leaf and role_of(part) in _REWRITTEN:
            made = _leaf(content, part, open_link, failed)
            restored += len(made)
            splices += made
    if not splices:
        return RestoreResult(raw, False, 0, tuple(failed))  # not ours: a marker in it is the sender's own
    new = undo_record.apply(content, splices)
    return RestoreResult(new, new != raw, restored, tuple(failed))


def _leaf(content: bytes, part: Part, open_link: Opener, failed: list[RestoreFailure]) -> list[RawSplice]:
    eol = b"\r\n" if b"\r\n" in content[:4000] else b"\n"
    body = open_body(content[part.body_start : part.body_end], part.encoding, eol)
    if body is None:
        return []
    named = None if role_of(part) is Role.TEXT else charset_in_markup(body.data, part.charset)
    view = open_view(body.data, named or part.charset)
    if view is None:
        return []
    places = _find(view, open_link)
    if not places and is_mislabelled(body):
        body = Body(body.raw)
        view = open_view(body.data, part.charset) or view
        places = _find(view, open_link)
    if not places:
        return []
    return _written(body, view, places, part)


def _written(body: Body, view: View, places: list[_Back], part: Part) -> list[RawSplice]:
    back = [Restoration(view.offset(p.start), view.offset(p.end), p.source, p.side) for p in places]
    offset = part.body_start
    return [RawSplice(s.start + offset, s.end + offset, s.new, True) for s in body.put_back(back)]


def restore_body(content: str, is_html: bool, open_link: Opener, undo: bytes | None = None) -> RestoreBodyResult:
    """Take back what `transform_body` did to a Graph body.

    Args:
        content: The rewritten body.
        is_html: Whether it is HTML.
        open_link: As for `restore`.
        undo: The undo record, where there was one.

    Returns:
        The body as it was; where the server has normalised the markup since, the links in it are still taken back.
    """
    failed: list[RestoreFailure] = []
    if undo is not None:
        try:
            old, count = undo_record.revert(content.encode("utf-8", "surrogatepass"), undo)
        except undo_record.UndoMismatch as error:
            failed.append(RestoreFailure("1", "", f"undo_mismatch: {error}"))
        else:
            text = old.decode("utf-8", "surrogatepass")
            return RestoreBodyResult(text, text != content, count)
    places = _find(StringView(content), open_link)
    pieces: list[str] = []
    at = 0
    for place in places:
        pieces += (content[at : place.start], place.source.decode("utf-8", "surrogatepass"))
        at = place.end
    pieces.append(content[at:])
    new = "".join(pieces)
    return RestoreBodyResult(new, new != content, sum(p.side >= 0 for p in places), tuple(failed))
