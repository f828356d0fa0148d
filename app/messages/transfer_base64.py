"""Base64 bodies, written again with the layout they had (RFC 2045 section 6.8)."""

from __future__ import annotations

import binascii
import re
from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np

from app.messages.transfer import Body, QuotedPrintableBody, RawSplice, Restoration, Splice

_LINE = 76
_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="
_BASE64_RUN = re.compile(rb"[A-Za-z0-9+/]+={0,2}")
_LINKED = re.compile(rb"(?i):\0?/\0?/|h\0?r\0?e\0?f\0?=")
_FIRST_LINE = re.compile(rb"[A-Za-z0-9+/=]+")


class _Layout(NamedTuple):
    """How a base64 text is laid out: what stands before it, line width (0 for one line), line end, what follows."""

    lead: bytes
    width: int
    eol: bytes
    tail: bytes


class Base64Body(Body):
    """A base64 body (RFC 2045 section 6.8), written again as a whole with the layout it had."""

    def __init__(self, raw: bytes, eol: bytes) -> None:
        self.raw = raw
        self.default_eol = eol
        self.space = b" "
        """A space in the charset of the text."""
        self.layout, self.core = _layout(raw, eol)
        self.data = _decode_base64(self.core)
        behind = b"".join([_decode_base64(piece) for piece in self.layout.tail.split(b"=") if len(piece) > 8])
        if _LINKED.search(behind):
            # Some readers read on behind the padding, where text of another encoding makes no sense.
            self.data += behind
            self.layout = self.layout._replace(tail=b"")

    @cached_property
    def defective(self) -> bool:
        """Whether the text is laid out by no rule, so that only an undo record can bring it back."""
        layout = self.layout
        return bool(layout.tail.strip()) or not _is_regular(self.core, len(self.data), layout)

    def write(self, splices: Sequence[Splice]) -> list[RawSplice]:
        """See `Body.write`; one splice of the whole text."""
        if not splices:
            return []
        pieces: list[bytes] = []
        at = 0
        for splice in splices:
            pieces += (self.data[at : splice.start], splice.new)
            at = splice.end
        pieces.append(self.data[at:])
        data = b"".join(pieces)
        padded = bool(self.layout.tail.strip()) and len(data) % 3 == 0
        if padded:
            # Readers stop at the padding: without one they would read on in what stands behind it. Half a character
            # at the end of UTF-16 stays there.
            whole = len(data) - len(data) % len(self.space)
            data = data[:whole] + self.space + data[whole:]
        new = _encode_base64(data, self.layout)
        # Restoring sees only the new text: it must find the same layout in it.
        token = (
            all(s.token for s in splices)
            and not padded
            and _layout(new, self.default_eol)[0] == self.layout
            and not self.defective
        )
        return [RawSplice(0, len(self.raw), new, token)]

    def put_back(self, places: Sequence[Restoration]) -> list[RawSplice]:
        """See `Body.put_back`."""
        return self.write([Splice(p.start, p.end, p.source) for p in places])


def _layout(raw: bytes, eol: bytes) -> tuple[_Layout, bytes]:
    first = _FIRST_LINE.search(raw)
    if first is None:
        return _Layout(raw, _LINE, eol, b""), b""
    start = first.start()
    padding = raw.find(b"=", start)
    end = len(raw)
    if padding >= 0:
        end = padding + 1
        while raw[end : end + 1] == b"=":
            end += 1
    else:
        end = len(raw.rstrip(b" \t\r\n"))
    core = raw[start:end]
    ends_line = raw[first.end() : first.end() + 2]
    width = first.end() - start
    if first.end() >= end:
        width = 0 if width > _LINE else _LINE
    found = eol if first.end() >= end else b"\r\n" if ends_line == b"\r\n" else ends_line[:1]
    return _Layout(raw[:start], width, found, raw[end:]), core


def _decode_base64(core: bytes) -> bytes:
    """Decode as lenient readers do: foreign characters are passed over, missing padding is added."""
    try:
        return binascii.a2b_base64(core)
    except binascii.Error:
        letters = b"".join(_BASE64_RUN.findall(core)).replace(b"=", b"")
        if len(letters) % 4 == 1:
            letters = letters[:-1]
        return binascii.a2b_base64(letters + b"=" * (-len(letters) % 4))


def _encode_base64(data: bytes, layout: _Layout) -> bytes:
    return layout.lead + _lines(binascii.b2a_base64(data, newline=False), layout) + layout.tail


def _is_regular(core: bytes, size: int, layout: _Layout) -> bool:
    """Whether base64 text is exactly what encoding its `size` bytes in this layout gives."""
    characters = (size + 2) // 3 * 4
    width, eol = layout.width, layout.eol
    breaks = (characters - 1) // width if width and characters else 0
    if len(core) != characters + breaks * len(eol):
        return False
    # The length leaves room for the line ends and nothing else: they must stand where they belong.
    if any(
        core[width + i :: width + len(eol)][:breaks] != eol[i : i + 1] * breaks for i in range(len(eol) * bool(breaks))
    ):
        return False
    if core.translate(None, _ALPHABET + eol):
        return False
    last = core[-8:].translate(None, b"\r\n")[-4:]
    return binascii.b2a_base64(_decode_base64(last), newline=False) == last


def _lines(text: bytes, layout: _Layout) -> bytes:
    """Break base64 text into lines; the last one may be shorter."""
    width = layout.width
    if not width or len(text) <= width:
        return text
    full = (len(text) - 1) // width
    lines = np.empty((full, width + len(layout.eol)), dtype=np.uint8)
    lines[:, :width] = np.frombuffer(text, dtype=np.uint8, count=full * width).reshape(full, width)
    lines[:, width:] = np.frombuffer(layout.eol, dtype=np.uint8)
    return lines.tobytes() + text[full * width :]


def is_mislabelled(body: Body) -> bool:
    """Whether a body says base64 and may be text: some readers show one that cannot be decoded as it stands."""
    if not isinstance(body, Base64Body):
        return False
    raw = body.raw
    return b"<" in raw or (b":" in raw and b"://" in raw)  # one character that is not there is found out at once


def open_body(raw: bytes, encoding: str, eol: bytes) -> Body | None:
    """Decode a body.

    Args:
        raw: The body as it stands in the message.
        encoding: Lower-case Content-Transfer-Encoding.
        eol: The line end of the message, for line breaks of ours.

    Returns:
        The body; None for an encoding that is not known (uuencode): the part is left alone.
    """
    if encoding == "quoted-printable":
        return QuotedPrintableBody(raw, eol)
    if encoding == "base64":
        return Base64Body(raw, eol)
    if encoding in ("x-uuencode", "uuencode", "x-uue", "uue"):
        return None
    return Body(raw)
