"""Charset labels of mail and the Python codecs for them (WHATWG Encoding Standard, section 4.2)."""

from __future__ import annotations

import codecs
import re
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
_NO_CHARSET = frozenset({"hex", "base64", "rot13", "rot_13", "idna", "punycode", "undefined", "unicode_escape"})


def codec_name(label: str) -> str:
    """Find the Python codec for a charset label of mail; text whose label is unknown is taken for UTF-8.

    Args:
        label: The ``charset`` parameter as written, quotes and stray characters included.

    Returns:
        A codec name that ``codecs.lookup`` knows and that turns bytes into text.
    """
    return _known(label) or "utf-8"


def is_known(label: str) -> bool:
    """Whether a charset label of mail names a charset."""
    return _known(label) is not None


@lru_cache(maxsize=512)
def _known(label: str) -> str | None:
    name = re.sub(r"[^a-z0-9_.:\-]", "", label.lower())
    name = _ALIASES.get(name, name)
    for candidate in (name, name.replace("_", "-"), re.sub(r"^(?:x|cs)-?", "", name)):
        candidate = _ALIASES.get(candidate, candidate)
        if candidate in _NO_CHARSET:
            continue
        try:
            found = codecs.lookup(candidate)
        except (LookupError, ValueError):
            continue
        if found._is_text_encoding:
            return found.name
    return None
