"""Views of encoded text in which every offset is an offset into the bytes.

Markup and addresses are ASCII, and in nearly every charset of mail an ASCII byte means that character wherever it
stands outside a multi-byte sequence, whose trailing bytes never are ``<``, ``>``, quotes, ``&``, ``=`` or ``/``. Such
text is read as Latin-1: one character per byte, nothing is lost when it cannot be decoded, and a splice is a splice of
bytes. UTF-16 and UTF-32 are read one character per code unit, ISO-2022 and HZ with their shifted bytes masked. What a
human reads is decoded piece by piece, only where it is needed.

Follows the WHATWG Encoding Standard for labels and for what a byte order mark overrides.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache

_ALIASES = {
    "": "utf-8",
    "us-ascii": "cp1252",
    "ascii": "cp1252",
    "iso-8859-1": "cp1252",
    "latin1": "cp1252",
    "latin-1": "cp1252",
    "iso8859-1": "cp1252",
    "iso_8859-1": "cp1252",
    "ansi_x3.4-1968": "cp1252",
    "iso-8859-9": "cp1254",
    "iso-8859-11": "cp874",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "shift_jis": "cp932",
    "shift-jis": "cp932",
    "sjis": "cp932",
    "x-sjis": "cp932",
    "euc-kr": "cp949",
    "ks_c_5601-1987": "cp949",
    "ks_c_5601": "cp949",
    "big5": "big5hkscs",
    "iso-8859-8-i": "iso-8859-8",
    "unicode-1-1-utf-7": "utf-7",
    "utf8": "utf-8",
    "unicode": "utf-16-le",
    "utf-16": "utf-16-le",
    "utf-32": "utf-32-le",
    "ucs-2": "utf-16-le",
    "x-unknown": "utf-8",
    "unknown-8bit": "utf-8",
    "8bit": "utf-8",
    "default": "utf-8",
    "x-user-defined": "latin-1",
}
_STATEFUL = frozenset(
    {
        "iso2022_jp",
        "iso2022_jp_1",
        "iso2022_jp_2",
        "iso2022_jp_2004",
        "iso2022_jp_3",
        "iso2022_jp_ext",
        "iso2022_kr",
    }
)
_SHIFT = re.compile(rb"\x1b\$(?:[@AB]|\([@AB])|\x1b\([A-Z]")
_KOREAN_SHIFT = re.compile(rb"\x1b\$\)C|\x0e|\x0f")
_HZ = re.compile(rb"~\{(.*?)(?:~\}|\n|\Z)", re.S)
# What really is text of two bytes a character: no row 14 or 15, which are empty, so that no "//" passes for it.
_PAIRS = re.compile(rb"(?:[\x21-\x2d\x30-\x7e][\x21-\x7e])*+")
_VOID_SHIFT = re.compile(rb"\x1b[($]|\x0f")
_VOID_HZ = re.compile(rb"~\n|~\{~\}|~~|(?:\A|[^~])~\}~\{")
_KATAKANA = re.compile(rb"(?:(?!//)[\x21-\x5f])*+")
_MASK = bytes(b if b in (0x0A, 0x0D) or b >= 0x80 else b | 0x80 for b in range(256))
_KEPT = "surrogateescape"
"""Bytes that cannot be decoded are characters of their own, so that places can be told all the same."""
_WIDE_LABEL = re.compile("(?i)utf-?(?:16|32)|ucs|^unicode$")
_WIDE_SLASHES = re.compile(rb"/\0{1,3}/")
_HIGH_RUN = re.compile("[\x80-\xff]+")


@lru_cache(maxsize=512)
def codec_name(label: str) -> str:
    """Find the Python codec for a charset label of mail; text whose label is unknown is taken for UTF-8.

    Args:
        label: The ``charset`` parameter as written, quotes and stray characters included.

    Returns:
        A codec name that ``codecs.lookup`` knows and that turns bytes into text.
    """
    name = re.sub(r"[^a-z0-9_.:\-]", "", label.lower())
    name = _ALIASES.get(name, name)
    for candidate in (name, name.replace("_", "-"), re.sub(r"^(?:x|cs)-?", "", name)):
        candidate = _ALIASES.get(candidate, candidate)
        if candidate in (
            "hex",
            "base64",
            "rot13",
            "rot_13",
            "idna",
            "punycode",
            "undefined",
            "unicode_escape",
        ):
            continue
        try:
            found = codecs.lookup(candidate)
        except (LookupError, ValueError):
            continue
        if found._is_text_encoding:
            return found.name
    return "utf-8"


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
        return self.codec in _STATEFUL or self.codec == "hz"

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
            if self.codec in _STATEFUL:
                return self._spelled_in_states(start, end)
            for character in text:
                at += 1 if character.isascii() else len(character.encode(self.codec, _KEPT)) // self._unit
                places.append(at)
        except UnicodeError:
            at = -1
        return (text, places) if at == end else (piece, range(start, end + 1))

    def _read(self, start: int, end: int) -> str:
        data = self.bytes_of(start, end)
        if self._unit == 1 and self.codec not in _STATEFUL:
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
        if source.isascii() or self.codec in _STATEFUL:
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

    def _spelled_in_states(self, start: int, end: int) -> tuple[str, Sequence[int]]:
        data = self.bytes_of(start, end)
        out: list[str] = []
        places: list[int] = []
        shift = b""
        at = 0
        for hit in [*_shifts(self.codec).finditer(data), None]:
            stop = hit.start() if hit else len(data)
            wide = shift == b"\x0e" or shift[:3] in (b"\x1b$@", b"\x1b$A", b"\x1b$B", b"\x1b$(")
            text = ((b"\x1b$)C" if shift == b"\x0e" else b"") + shift + data[at:stop]).decode(self.codec)
            step = 2 if wide else 1
            if len(text) * step != stop - at:
                return self.text[start:end], range(start, end + 1)
            out.append(text)
            places += range(start + at, start + stop, step)
            if hit:
                shift, at = hit[0], hit.end()
        places.append(end)
        return "".join(out), places

    def settle(self, start: int, end: int) -> int:
        """Move the end of an address so that the text behind it is read in the state it was written in (ISO-2022)."""
        if self.codec not in _STATEFUL or self._unit > 1:
            return end
        pattern = _shifts(self.codec)
        shifts = list(pattern.finditer(self._data, start, end))
        if not shifts or shifts[-1][0][:2] == b"\x1b(" or shifts[-1][0] in (b"\x0f", b"\x1b$)C"):
            return end
        following = pattern.match(self._data, end)
        if following and following[0] in (b"\x1b(B", b"\x1b(J", b"\x0f"):
            return following.end()
        return shifts[-1].start()

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


def open_view(data: bytes, label: str) -> View | None:
    """View the decoded bytes of a part.

    Args:
        data: The bytes after the transfer encoding.
        label: The part's charset label, ``""`` for none.

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
    if codec in _STATEFUL and _VOID_SHIFT.search(data) and _has_void_shift(data, codec):
        return None
    if codec == "hz" and _VOID_HZ.search(data):
        return None
    if codec in _STATEFUL and (b"\x1b" in data or b"\x0e" in data):
        masked, is_sound = _masked(data, codec)
        view = View(data, masked.decode("latin-1"), 1, codec)
        if not is_sound:
            view.alternative = View(data, data.decode("latin-1"), 1, "cp1252")
        return view
    if codec == "hz" and b"~{" in data:
        view = View(data, _HZ.sub(lambda hit: hit[0].translate(_MASK), data).decode("latin-1"), 1, codec)
        if not all(_PAIRS.fullmatch(hit[1]) for hit in _HZ.finditer(data)):
            view.alternative = View(data, data.decode("latin-1"), 1, "cp1252")
        return view
    return View(data, data.decode("latin-1"), 1, codec)


def _has_void_shift(data: bytes, codec: str) -> bool:
    """Whether a shift changes nothing, so that what stands on either side of it is read as one."""
    end = -1
    wide = False
    for hit in _shifts(codec).finditer(data):
        code = hit[0]
        if hit.start() == end and end > 0:
            return True
        end = hit.end()
        if code == b"\x1b$)C":
            if hit.start() and data[hit.start() - 1] not in b"\r\n":
                return True
            end = -1
            continue
        narrow = code in (b"\x1b(B", b"\x1b(J", b"\x0f")
        if narrow and not wide:
            return True
        wide = not narrow
    return False


def _is_big_endian(data: bytes) -> bool:
    """Whether UTF-16 without a mark has its ASCII the other way round (RFC 2781 section 4.3)."""
    return data[::2].count(0) > data[1::2].count(0)


def _shifts(codec: str) -> re.Pattern[bytes]:
    return _KOREAN_SHIFT if codec == "iso2022_kr" else _SHIFT


def _runs(data: bytes, codec: str) -> Iterator[tuple[bytes, bytes, re.Pattern[bytes] | None]]:
    """The shifts of ISO-2022 text, each with what stands behind it and what that must look like."""
    shift = b""
    at = 0
    pattern: re.Pattern[bytes] | None = None
    designated = False
    for hit in [*_shifts(codec).finditer(data), None]:
        yield shift, data[at : hit.start() if hit else len(data)], pattern
        if hit is None:
            return
        shift, at = hit[0], hit.end()
        designated = designated or shift == b"\x1b$)C"
        if shift == b"\x0e":
            pattern = _PAIRS if designated else None
        elif shift == b"\x1b(I":
            pattern = _KATAKANA
        else:
            pattern = _PAIRS if shift[:2] == b"\x1b$" and shift != b"\x1b$)C" else None


def _masked(data: bytes, codec: str) -> tuple[bytes, bool]:
    """Set the high bit of every byte in a shifted state of ISO-2022; tell whether all of it is text of that state."""
    out: list[bytes] = []
    is_sound = True
    for shift, run, pattern in _runs(data, codec):
        out.append(b"\xa0" * len(shift))
        if pattern is None:
            out.append(run)
        else:
            out.append(run.translate(_MASK))
            is_sound = is_sound and pattern.fullmatch(run) is not None
    return b"".join(out), is_sound


def decode_whole(data: bytes, label: str) -> tuple[str, str]:
    """Decode a part of which `open_view` makes no view.

    Args:
        data: The bytes after the transfer encoding.
        label: The part's charset label.

    Returns:
        The text, with U+FFFD for what cannot be decoded, and the name of the codec.
    """
    codec = codec_name(label)
    if codec not in _STATEFUL:
        return data.decode(codec, "replace"), codec
    out: list[str] = []
    for shift, run, pattern in _runs(data, codec):
        if pattern is None:
            out.append(run.decode("ascii", "replace"))
            continue
        start = b"\x1b$)C\x0e" if shift == b"\x0e" else shift
        found = pattern.match(run)
        end = found.end() if found else 0
        out.append((start + run[:end]).decode(codec, "replace"))
        out.append("\ufffd" * (len(run) - end))
    return "".join(out), codec


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
