"""The charset that an HTML part names in itself, for parts whose header names none that is known.

Browsers then look for a ``meta`` element in the beginning of the source (WHATWG HTML Standard, section "prescan a byte
stream to determine its encoding"); mail clients differ, so that such a part is read both ways where it matters.
"""

from __future__ import annotations

import re

from app.messages.charset_names import codec_name, is_known
from app.messages.iso2022 import is_stateful

_SCANNED = 8_192  # browsers look at 1,024 bytes and, while they are loading, at more
_COMMENT = re.compile(rb"<!--(?:-?>|.*?(?:--!?>|\Z))", re.S)
# For lower-case text: a pattern that minds no case takes a hundred times as long to find where it may begin.
_META = re.compile(rb"<meta[\s/][^>]*?charset[\s]*=[\s]*[\"']?[\s]*([a-z0-9_.:\-]{2,40})")
_NAME = re.compile(rb"charset[\s]*=[\s]*[\"']?[\s]*([a-z0-9_.:\-]{2,40})")


def is_doubtful(data: bytes, label: str) -> bool:
    """Whether a charset that changes where tags begin is named somewhere, in a comment or an attribute perhaps."""
    if not _may_name_charset(data, label):
        return False
    codecs = {codec_name(hit[1].decode("ascii")) for hit in _NAME.finditer(data[:_SCANNED].lower())}
    return any(codec == "utf-7" or is_stateful(codec) for codec in codecs)


def _may_name_charset(data: bytes, label: str) -> bool:
    return not (label and is_known(label)) and b"charset" in data[:_SCANNED].lower()


def charset_in_markup(data: bytes, label: str) -> str | None:
    """Find the charset that an HTML part's ``meta`` element names.

    Args:
        data: The part, decoded from its transfer encoding.
        label: Its charset label in the header, ``""`` for none.

    Returns:
        The charset's label; None where the header's counts, where there is none, or where it means what is assumed
        without one. UTF-16 in a ``meta`` that can be read is no UTF-16, as in browsers.
    """
    if not _may_name_charset(data, label):
        return None
    head = data[:_SCANNED].lower()
    found = _META.search(_COMMENT.sub(b"", head))
    if found is None:
        return None
    named = found[1].decode("ascii")
    codec = codec_name(named)
    return None if not is_known(named) or codec == "utf-8" or codec.startswith(("utf-16", "utf-32")) else named
