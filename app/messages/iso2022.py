"""Text in which shifts decide what a byte means: ISO-2022 (RFC 1468, RFC 1557) and HZ (RFC 1843).

Shifted bytes look like ASCII and are none: they are masked, so that nothing in them passes for markup. Where the text
is not what its shifts announce, readers differ, and both readings are looked at.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

STATEFUL = frozenset(
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


def is_stateful(codec: str) -> bool:
    """Whether what a byte means depends on shifts before it."""
    return codec in STATEFUL or codec == "hz"


def loses_bytes(data: bytes, codec: str) -> bool:
    """Whether bytes vanish in reading, within a tag perhaps: shifts to the state that the text is in."""
    if codec == "hz":
        return _VOID_HZ.search(data) is not None
    return codec in STATEFUL and _VOID_SHIFT.search(data) is not None and _has_void_shift(data, codec)


def unshifted(data: bytes, codec: str) -> tuple[bytes, bool] | None:
    """Mask the shifted bytes of a text.

    Args:
        data: The text.
        codec: A codec for which `is_stateful` holds.

    Returns:
        As many bytes, those of shifted text with the high bit set, and whether all of it is text of its state; None
        where nothing is shifted.
    """
    if codec == "hz":
        if b"~{" not in data:
            return None
        return _HZ.sub(lambda hit: hit[0].translate(_MASK), data), all(
            _PAIRS.fullmatch(hit[1]) for hit in _HZ.finditer(data)
        )
    return _masked(data, codec) if b"\x1b" in data or b"\x0e" in data else None


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


def decoded(data: bytes, codec: str) -> str:
    """Decode ISO-2022 run by run, with U+FFFD for what cannot be decoded."""
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
    return "".join(out)


def spelled(data: bytes, codec: str) -> tuple[str, list[int]] | None:
    """Decode ISO-2022 with the place of every character in the data.

    Args:
        data: Text that begins in the unshifted state.
        codec: One of `STATEFUL`.

    Returns:
        The text and as many offsets; None where its length does not tell them.

    Raises:
        UnicodeError: The text is not what its shifts announce.
    """
    out: list[str] = []
    places: list[int] = []
    shift = b""
    at = 0
    for hit in [*_shifts(codec).finditer(data), None]:
        stop = hit.start() if hit else len(data)
        wide = shift == b"\x0e" or shift[:3] in (b"\x1b$@", b"\x1b$A", b"\x1b$B", b"\x1b$(")
        text = ((b"\x1b$)C" if shift == b"\x0e" else b"") + shift + data[at:stop]).decode(codec)
        step = 2 if wide else 1
        if len(text) * step != stop - at:
            return None
        out.append(text)
        places += range(at, stop, step)
        if hit:
            shift, at = hit[0], hit.end()
    return "".join(out), places


def settled_end(data: bytes, codec: str, start: int, end: int) -> int:
    """Move the end of an address so that the text behind it is read in the state it was written in."""
    pattern = _shifts(codec)
    shifts = list(pattern.finditer(data, start, end))
    if not shifts or shifts[-1][0][:2] == b"\x1b(" or shifts[-1][0] in (b"\x0f", b"\x1b$)C"):
        return end
    following = pattern.match(data, end)
    if following and following[0] in (b"\x1b(B", b"\x1b(J", b"\x0f"):
        return following.end()
    return shifts[-1].start()
