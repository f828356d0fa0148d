"""The charset that an HTML part names in itself, for parts whose header names none that is known.

Browsers then look for a ``meta`` element in the beginning of the source (WHATWG HTML Standard, section "prescan a byte
stream to determine its encoding"); mail clients differ, so that such a part is read both ways where it matters.
"""

from __future__ import annotations

import re

from app.messages.charset_names import codec_name, is_known

_SCANNED = 8_192  # browsers look at 1,024 bytes and, while they are loading, at more
_COMMENT = re.compile(rb"<!--.*?(?:-->|\Z)", re.S)
_META = re.compile(rb"(?i)<meta[\s/][^>]*?charset[\s]*=[\s]*[\"']?[\s]*([A-Za-z0-9_.:\-]{2,40})")


def charset_in_markup(data: bytes, label: str) -> str | None:
    """Find the charset that an HTML part's ``meta`` element names.

    Args:
        data: The part, decoded from its transfer encoding.
        label: Its charset label in the header, ``""`` for none.

    Returns:
        The charset's label; None where the header's counts, where there is none, or where it means what is assumed
        without one. UTF-16 in a ``meta`` that can be read is no UTF-16, as in browsers.
    """
    if (label and is_known(label)) or b"charset" not in (head := data[:_SCANNED].lower()):
        return None
    found = _META.search(_COMMENT.sub(b"", head))
    if found is None:
        return None
    named = found[1].decode("ascii")
    codec = codec_name(named)
    return None if not is_known(named) or codec == "utf-8" or codec.startswith(("utf-16", "utf-32")) else named
