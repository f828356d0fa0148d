"""The marker that the connector puts at the head of an inserted copy: never part of what is restored."""

from __future__ import annotations

import re

_MARKER = re.compile(rb"(?i)x-postern[!-9;-~]*:[^\r\n]*(?:\r?\n[ \t][^\r\n]*)*\r?\n")
_LEADING = re.compile(
    rb"(?i)(?:(?:received|x-received|x-google-[a-z-]*|delivered-to)[ \t]*:[^\r\n]*(?:\r?\n[ \t][^\r\n]*)*\r?\n)*"
)


def strip_marker(raw: bytes) -> bytes:
    """Take the ``X-Postern`` fields off that the connector put at the head of an inserted copy.

    Only fields that stand before everything except trace fields (``Received``) are taken for ours: one further down
    came with the message and stays.
    """
    at = 0
    pieces: list[bytes] = []
    while True:
        lead = _LEADING.match(raw, at)
        start = lead.end() if lead else at
        marker = _MARKER.match(raw, start)
        if marker is None:
            return b"".join([*pieces, raw[at:]]) if pieces or at else raw
        pieces.append(raw[at:start])
        at = marker.end()
