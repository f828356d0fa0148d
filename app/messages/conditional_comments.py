"""Outlook's conditional comments: markup to it, comments to every other client."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import turbohtml

from app.messages import markup

_COMMENT = re.compile(r"<!--\s*\[if[^\]]{0,2000}\]>", re.I)
_COMMENT_END = re.compile(r"--!?>")
_MAX_NESTED: Final = 4


def may_be_conditional(parsed: str) -> bool:
    """Whether the beginning of a condition stands anywhere in the source."""
    at = parsed.find("[")
    while at >= 0:
        if parsed[at + 1 : at + 3].lower() == "if":
            return True
        at = parsed.find("[", at + 1)
    return False


def _conditions(document: markup.Document) -> dict[int, set[str]]:
    """The comments of a document by their length; empty when none of them can be a conditional one."""
    comments: dict[int, set[str]] = {}
    is_conditional = False
    for node in markup.query(document, "//comment()"):
        if isinstance(node, turbohtml.Comment):
            data = node.data
            is_conditional = is_conditional or "[if" in data.lower()
            comments.setdefault(len(data), set()).add(data)
    return comments if is_conditional else {}


def conditional_contents(parsed: str, document: markup.Document) -> Iterator[tuple[int, int]]:
    """Find the content of Outlook's conditional comments, which are comments to every other client.

    Args:
        parsed: The source.
        document: What was parsed of it.

    Yields:
        Where each content begins and ends in which a link may stand, nested ones too.
    """
    comments: dict[int, set[str]] | None = None
    at = reach = nested = 0
    plain_start = plain = -1
    end = -1
    while (start := parsed.find("<!--", at)) >= 0:
        opening = _COMMENT.match(parsed, start)
        if opening is None:
            if start >= plain:
                end = _comment_end(parsed, start + 2, end)  # <!--> is a whole comment
                plain_start, plain = start, end
            at = start + 4
            continue
        at = body = opening.end()
        inside = start < reach
        nested = nested + 1 if inside else 0
        if not inside:
            reach = end = _comment_end(parsed, start + 4, end)
        if body >= reach or nested > _MAX_NESTED:
            continue
        if not inside and parsed.find("<!--", body, reach + 3) < 0 and not _may_be_linked(parsed[body:reach]):
            at = reach  # nothing stands in it, comment or not
            continue
        if not inside:
            if comments is None:
                comments = _conditions(document)
            # A comment may hold one that Outlook reads; what looks like one may stand inside an attribute.
            outer = {start, plain_start} if start < plain else {start}
            stops = {reach}
            if reach == len(parsed):
                stops.update(len(parsed) - less for less in (1, 2, 3))  # the beginning of "--!>"
            if not any(
                stop - begin - 4 in comments
                and parsed[begin + 4 : stop].replace("\0", "\ufffd") in comments[stop - begin - 4]
                for begin in outer
                for stop in stops
            ):
                reach = at  # it stands inside an attribute, a style sheet or the like
                continue
        if not _may_be_linked(parsed[body:reach]):
            at = reach
            continue
        yield body, reach


def _may_be_linked(source: str) -> bool:
    """Whether the name of an attribute that makes a link stands somewhere in a source."""
    lowered = source.lower()
    return "href" in lowered or "action" in lowered or "refresh" in lowered


def _comment_end(parsed: str, at: int, known: int) -> int:
    """Where a comment ends whose content begins at `at`; `known` is the last such end, which may still be ahead."""
    if known >= at:
        return known
    closing = _COMMENT_END.search(parsed, at)
    return closing.start() if closing else len(parsed)
