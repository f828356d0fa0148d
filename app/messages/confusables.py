"""Letters that look like other letters, and which alphabets a name mixes.

The *skeleton* of a name is what it looks like in Latin letters; two names with one skeleton are easily
taken for each other. The idea is that of Unicode Technical Standard #39, section 4 ("Confusable
Detection"); the table below is our own and limited to letters that registries and browsers accept in
host names (IDNA 2008) and that are read as a Latin letter at the size of mail text.

References:
    https://www.unicode.org/reports/tr39/#Confusable_Detection
    https://www.unicode.org/reports/tr39/#Restriction_Level_Detection
    Chromium's IDN policy: https://chromium.googlesource.com/chromium/src/+/main/docs/idn.md
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from typing import Final

_LOOKS_LIKE: Final[dict[str, str]] = {
    # What is read: the letters without decomposition that are read so (Cyrillic, Greek, Armenian, extended
    # Latin; zeros of Indic scripts for o). Letters with accents fall apart before this table is used.
    "a": "\u0430\u0251\u03b1",
    "b": "\u044c\u0185\u0253",
    "c": "\u0441\u03f2\u0188\u1d04",
    "d": "\u0501\u0257\u0256\u0111\u056a",
    "e": "\u0435\u04bd\u025b\u0454",
    "f": "\u0192\u0584\ua799",
    "g": "\u0261\u0262\u0581\u01e5",
    "h": "\u04bb\u0570\u0127",
    "i": "\u0456\u03b9\u0269\u0131\u0268",
    "j": "\u0458\u03f3\u0249\u0575",
    "k": "\u043a\u03ba\u0199\u049b\u049d\u04c4\u0138",
    "l": "\u04cf\u0142\u029f",
    "m": "\u043c\u0271",
    "n": "\u0273\u0578\u057c\u014b\u043f",
    "o": "\u043e\u03bf\u0585\u03c3\u04e9\u0473\u00f8\u0e50\u0ed0\u0966\u09e6\u0a66\u0ae6\u2c9f\u05e1",
    "p": "\u0440\u03c1\u01a5",
    "q": "\u051b\u0563\u0566\u024b",
    "r": "\u0433\u027c\u1d26",
    "s": "\u0455\u0282\ua731",
    "t": "\u0442\u03c4\u01ad\u0167",
    "u": "\u03c5\u057d\u028b",
    "v": "\u03bd\u0475\u1d20",
    "w": "\u051d\u0561\u03c9\u0448\u0461",
    "x": "\u0445\u03c7\u04b3\u04fd",
    "y": "\u0443\u04af\u04b1\u028f\u03b3\u0263",
    "z": "\u01b6\u0225\u0290\u1d22",
    "ae": "\u00e6\u04d5",
    "oe": "\u0153",
    "ss": "\u00df",
    "th": "\u00fe",
    "-": "\u2010\u2011\u2012\u2013\u2014\u2212\u30fc",
    ".": "\u3002\u2024",
}

_TABLE: Final[dict[int, str]] = {ord(letter): plain for plain, letters in _LOOKS_LIKE.items() for letter in letters}

_PERFECT_TWINS: Final = frozenset(
    # Cyrillic, Greek, Armenian
    "\u0430\u0441\u0501\u0435\u04bb\u0456\u0458\u04cf\u043e\u0440\u051b\u0455\u051d\u0445\u0443\u0475"
    "\u03bf\u03bd\u03c1\u03b1\u03b9"
    "\u0570\u0578\u057d\u0585\u0566"
)

# Latin shapes that imitate other Latin letters. Applied to both sides before comparing.
_ASCII_DIGITS: Final = str.maketrans({"0": "o", "1": "l", "i": "l", "3": "e", "4": "a", "5": "s", "7": "t", "8": "b"})
_ASCII_PAIRS: Final = (("rn", "m"), ("vv", "w"), ("cl", "d"), ("nn", "m"))

_SCRIPT_GROUPS: Final[tuple[frozenset[str], ...]] = (
    # Combinations that writing systems need: UTS #39 section 5.2, "Highly Restrictive".
    frozenset({"LATIN", "CJK", "HIRAGANA", "KATAKANA"}),
    frozenset({"LATIN", "CJK", "BOPOMOFO"}),
    frozenset({"LATIN", "CJK", "HANGUL"}),
)
_FULL_NAMES: Final = {"CJK": "Han", "IDEOGRAPHIC": "Han"}


def latin_skeleton(text: str) -> str:
    """Return what a Unicode name looks like in Latin letters.

    Args:
        text: A host or label, A-labels decoded.

    Returns:
        The look-alike in lower-case Latin letters; letters without a Latin look-alike stay.
    """
    if text.isascii():
        return text.lower()
    parts = unicodedata.normalize("NFD", unicodedata.normalize("NFKC", text).lower())
    return "".join(char for char in parts if not unicodedata.combining(char)).translate(_TABLE)


def is_whole_script_confusable(label: str) -> bool:
    """Whether a label without a Latin letter is made only of letters that are Latin ones to the eye.

    The set is narrower than the one of :func:`latin_skeleton`, which would also take ordinary Russian words.
    """
    letters = [char for char in label if char.isalpha()]
    return len(letters) >= 3 and all(char in _PERFECT_TWINS for char in letters)


def ascii_skeleton(label: str) -> str:
    """Fold the Latin letters and digits that are mistaken for each other (``rn`` and ``m``, ``1`` and ``l``).

    The result is only for comparing: both sides must be folded.
    """
    folded = label.translate(_ASCII_DIGITS)
    for pair, letter in _ASCII_PAIRS:
        if pair in folded:
            folded = folded.replace(pair, letter)
    return folded


@lru_cache(maxsize=4_096)
def script_of(char: str) -> str:
    """Return the script of a letter as the first word of its Unicode name (``LATIN``, ``CYRILLIC``).

    Digits, hyphens, marks and unnamed characters belong to no script: ``""``.
    """
    if not char.isalpha():
        return ""
    name = unicodedata.name(char, "")
    script = name.split(" ", 1)[0].split("-", 1)[0]
    return "LATIN" if script in ("FULLWIDTH", "FEMININE", "MASCULINE") else script


def scripts_of(text: str) -> frozenset[str]:
    """Return the scripts of all letters of a text."""
    return frozenset(filter(None, map(script_of, text)))


def is_suspicious_mix(scripts: frozenset[str]) -> bool:
    """Whether a label's scripts are not used together by any writing system."""
    return len(scripts) > 1 and not any(scripts <= group for group in _SCRIPT_GROUPS)


def script_names(scripts: frozenset[str]) -> str:
    """Return scripts as words for a sentence, in alphabetical order."""
    return ", ".join(sorted(_FULL_NAMES.get(script, script.title()) for script in scripts))
