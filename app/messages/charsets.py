"""Views of encoded text in which every offset is an offset into the bytes.

Markup and addresses are ASCII, and in nearly every charset of mail an ASCII byte means that character wherever it
stands outside a multi-byte sequence, whose trailing bytes never are ``<``, ``>``, quotes, ``&``, ``=`` or ``/``. Such
text is read as Latin-1: one character per byte, nothing is lost when it cannot be decoded, and a splice is a splice of
bytes. UTF-16 and UTF-32 are read one character per code unit, ISO-2022 and HZ with their shifted bytes masked. What a
human reads is decoded piece by piece, only where it is needed.

Follows the WHATWG Encoding Standard for labels and for what a byte order mark overrides.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from app.messages import iso2022
from app.messages.charset_names import codec_name

_KEPT = "surrogateescape"
"""Bytes that cannot be decoded are characters of their own, so that places can be told all the same."""
_WIDE_LABEL = re.compile("(?i)utf-?(?:16|32)|ucs|^unicode$")
_WIDE_SLASHES = re.compile(rb"/\0{1,3}/")
_TAG = re.compile(rb"<[A-Za-z!/?]")
_HIGH_RUN = re.compile("[\x80-\xff]+")


class View:
    """Text of a part, one character per code unit.

    Attributes:
        text: The characters; ``text[i]`` stands for the bytes ``[offset(i), offset(i + 1))`` of the data.
        codec: Python codec name of the charset.
        alternative: The same bytes as readers see them that do not follow every shift (ISO-2022, HZ); None where all
            readers agree.
    """

    __slots__ = ("_data", "_unit", "alternative", "codec", "text")

    def __init__(self, data: bytes, text: str, unit: int, codec: str) -> None:
        self._data = data
        self.text = text
        self._unit = unit
        self.codec = codec
        self.alternative: View | None = None

    @property
    def is_text(self) -> bool:
        """Whether the characters are those that are read, rather than bytes."""
        return self._unit > 1

    @property
    def is_stateful(self) -> bool:
        """Whether what a byte means depends on shifts before it (ISO-2022, HZ)."""
        return iso2022.is_stateful(self.codec)

    def offset(self, index: int) -> int:
        """Byte offset of a character of the view."""
        return index * self._unit

    def bytes_of(self, start: int, end: int) -> bytes:
        """The bytes behind a range of the view."""
        return self._data[start * self._unit : end * self._unit]

    def decode(self, start: int, end: int) -> str:
        """What a human reads in a range of the view; undecodable bytes become U+FFFD."""
        piece = self.text[start:end]
        if piece.isascii() and self._unit == 1:
            return piece
        return self.bytes_of(start, end).decode(self.codec, "replace")

    def spelled(self, start: int, end: int) -> tuple[str, Sequence[int]]:
        """Decode a range for reading, with the place of every character, and of the end, in the view.

        Where the bytes cannot be decoded every one of them is a character of its own.
        """
        piece = self.text[start:end]
        if piece.isascii():
            return piece, range(start, end + 1)
        text = self._read(start, end)
        places = [start]
        at = start
        try:
            if self.codec in iso2022.STATEFUL:
                found = iso2022.spelled(self.bytes_of(start, end), self.codec)
                if found is None:
                    return piece, range(start, end + 1)
                return found[0], [*(start + at for at in found[1]), end]
            for character in text:
                at += 1 if character.isascii() else len(character.encode(self.codec, _KEPT)) // self._unit
                places.append(at)
        except UnicodeError:
            at = -1
        return (text, places) if at == end else (piece, range(start, end + 1))

    def _read(self, start: int, end: int) -> str:
        data = self.bytes_of(start, end)
        if self._unit == 1 and self.codec not in iso2022.STATEFUL:
            try:
                return data.decode(self.codec, _KEPT)
            except UnicodeError:
                pass  # a lead byte in front of ASCII
        return data.decode(self.codec, "replace")

    def reader(self) -> tuple[str, Callable[[int], int]]:
        """The whole text for reading, with a function from its offsets (asked in rising order) to those of the view.

        Costs no more than decoding and encoding once, however long the text is.
        """
        source = self.text
        if source.isascii() or self.codec in iso2022.STATEFUL:
            text, places = self.spelled(0, len(source))
            return text, places.__getitem__
        text = self._read(0, len(source))
        try:
            whole = len(text.encode(self.codec, _KEPT)) == len(source) * self._unit
        except UnicodeError:
            whole = False
        if not whole or "\ufffd" in text:
            return source, lambda at: at
        done = [0, 0]

        def place(at: int) -> int:
            done[1] += len(text[done[0] : at].encode(self.codec, _KEPT)) // self._unit
            done[0] = at
            return done[1]

        return text, place

    def settle(self, start: int, end: int) -> int:
        """Move the end of an address so that the text behind it is read in the state it was written in (ISO-2022)."""
        if self.codec not in iso2022.STATEFUL or self._unit > 1:
            return end
        return iso2022.settled_end(self._data, self.codec, start, end)

    def encode(self, text: str) -> bytes:
        """Encode ASCII text of ours (gateway URLs, tags) for insertion, or words of a tenant as far as possible."""
        return (
            text.encode(self.codec, "xmlcharrefreplace")
            if self._unit > 1 or not text.isascii()
            else text.encode("ascii")
        )

    def human(self, text: str) -> str:
        """Turn text that a parser made of the view (references resolved) into what a human reads."""
        if text.isascii() or self._unit > 1:
            return text
        return _HIGH_RUN.sub(self._decode_run, text)

    def _decode_run(self, run: re.Match[str]) -> str:
        try:
            return run[0].encode("latin-1").decode(self.codec)
        except UnicodeDecodeError:
            return run[0]


class StringView(View):
    """A body that is text already (Graph): the identity view. Lone surrogates are kept."""

    def __init__(self, text: str) -> None:
        super().__init__(b"", text, 1, "utf-8")

    @property
    def is_text(self) -> bool:
        """They are."""
        return True

    def bytes_of(self, start: int, end: int) -> bytes:
        """The characters as UTF-8, lone surrogates kept."""
        return self.text[start:end].encode("utf-8", "surrogatepass")

    def decode(self, start: int, end: int) -> str:
        """The characters themselves."""
        return self.text[start:end]

    def human(self, text: str) -> str:
        """Text that a parser made is readable already."""
        return text

    def spelled(self, start: int, end: int) -> tuple[str, Sequence[int]]:
        """The characters themselves."""
        return self.text[start:end], range(start, end + 1)

    def reader(self) -> tuple[str, Callable[[int], int]]:
        """The characters themselves."""
        return self.text, lambda at: at

    def encode(self, text: str) -> bytes:
        """UTF-8, lone surrogates kept."""
        return text.encode("utf-8", "surrogatepass")


def open_view(data: bytes, label: str, *, is_certain: bool = True) -> View | None:
    """View the decoded bytes of a part.

    Args:
        data: The bytes after the transfer encoding.
        label: The part's charset label, ``""`` for none.
        is_certain: Whether all readers go by the label; else the view has an alternative where it matters.

    Returns:
        The view; None where no byte keeps its meaning (UTF-7) or bytes vanish in reading, within a tag perhaps
        (shifts to the state that it is in): such a part is decoded as a whole.
    """
    codec = codec_name(label) if label else "utf-8"
    marked = True
    if data[:3] == b"\xef\xbb\xbf":
        codec = "utf-8"
    elif data[:4] == b"\xff\xfe\x00\x00":
        codec = "utf-32-le"
    elif data[:2] == b"\xff\xfe":
        codec = "utf-16-le"
    elif data[:2] == b"\xfe\xff":
        codec = "utf-16-be"
    else:
        marked = False
    if not marked and b"\0" in data and not codec.startswith(("utf-16", "utf-32")) and _is_wide(data):
        return _wide(data, "utf-16-be" if _is_big_endian(data) else "utf-16-le")
    if codec.startswith(("utf-16", "utf-32")):
        # Text without a zero byte holds no ASCII in UTF-16: it has no link, or it is ASCII-like with a wrong label. A
        # mark against the label is believed where it makes sense of an address.
        if b"\0" in data and (not marked or _WIDE_LABEL.search(label) or _WIDE_SLASHES.search(data)):
            if codec == "utf-16-le" and not marked and "le" not in label.lower() and _is_big_endian(data):
                codec = "utf-16-be"
            return _wide(data, codec)
        codec = "utf-8"
    if codec == "utf-7":
        return None
    if iso2022.is_stateful(codec):
        if iso2022.loses_bytes(data, codec):
            return None
        unshifted = iso2022.unshifted(data, codec)
        if unshifted is not None:
            masked, is_sound = unshifted
            view = View(data, masked.decode("latin-1"), 1, codec)
            if not is_sound or not is_certain:
                view.alternative = View(data, data.decode("latin-1"), 1, "cp1252" if is_certain else "utf-8")
            return view
    return View(data, data.decode("latin-1"), 1, codec)


def _is_wide(data: bytes) -> bool:
    """Whether text that is not labelled so is UTF-16: every other byte is zero, and without them there is no markup."""
    zeros = data.count(0)
    return (
        zeros * 5 >= len(data) * 2
        and max(data[::2].count(0), data[1::2].count(0)) * 10 >= zeros * 9
        and _WIDE_SLASHES.search(data) is not None
        and _TAG.search(data) is None
    )


def _is_big_endian(data: bytes) -> bool:
    """Whether UTF-16 without a mark has its ASCII the other way round (RFC 2781 section 4.3)."""
    return data[::2].count(0) > data[1::2].count(0)


def decode_whole(data: bytes, label: str) -> tuple[str, str]:
    """Decode a part of which `open_view` makes no view.

    Args:
        data: The bytes after the transfer encoding.
        label: The part's charset label.

    Returns:
        The text, with U+FFFD for what cannot be decoded, and the name of the codec.
    """
    codec = codec_name(label)
    if codec in iso2022.STATEFUL:
        return iso2022.decoded(data, codec), codec
    return data.decode(codec, "replace"), codec


def _wide(data: bytes, codec: str) -> View:
    unit = 2 if "16" in codec else 4
    whole = data[: len(data) - len(data) % unit]
    text = whole.decode(codec, "replace") if unit == 4 else _units(whole, codec.endswith("be"))
    if len(text) * unit != len(whole):
        text = _units32(whole, codec.endswith("be"))
    return View(data, text, unit, codec)


def _units(data: bytes, big: bool) -> str:
    """One character per UTF-16 code unit; halves of surrogate pairs become U+FFFD."""
    import numpy as np

    units = np.frombuffer(data, dtype=">u2" if big else "<u2").astype("<u4")
    units[(units >= 0xD800) & (units < 0xE000)] = 0xFFFD
    return units.tobytes().decode("utf-32-le")


def _units32(data: bytes, big: bool) -> str:
    """One character per UTF-32 code unit; what is no character becomes U+FFFD."""
    import numpy as np

    units = np.frombuffer(data, dtype=">u4" if big else "<u4").astype("<u4")
    units[((units >= 0xD800) & (units < 0xE000)) | (units > 0x10FFFF)] = 0xFFFD
    return units.tobytes().decode("utf-32-le")
