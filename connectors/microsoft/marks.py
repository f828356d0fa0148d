"""The marker by which we know our own copies, and how it cannot be forged.

Three named extended properties, set when a copy is created (later they could only be changed with
``Mail-Advanced.ReadWrite.All``, https://learn.microsoft.com/graph/api/singlevaluelegacyextendedproperty-post-singlevalueextendedproperties):

* ``PosternCopy``: an HMAC-SHA256 over the mailbox and the original's id, in hexadecimal digits: it proves that
  the copy is ours.
* ``PosternOriginal``: the original's id, which the HMAC proves.
* ``PosternWrite``: random for every write, so that two copies of one message can be told from one copy that its owner
  duplicated.

A sender's mail cannot carry such properties by SMTP, and what passed through TNEF would lack the key.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Callable

from connectors.base import marker_keys as base
from connectors.base.types import CopyMark

_SET = "{8e3c1a52-5d0f-4b7e-9a46-2f60b7c9d114}"
"""The namespace of our named properties; made up once, means nothing."""
COPY = f"String {_SET} Name PosternCopy"
ORIGINAL = f"String {_SET} Name PosternOriginal"
WRITE = f"String {_SET} Name PosternWrite"
_WRITE = re.compile(r"[0-9a-f]{16}")


class MarkKeys(base.MarkerKeys):
    """The secrets of markers, and what is done with them here."""

    __slots__ = ()

    def tags(self, mailbox_id: str, original_id: str) -> tuple[str, ...]:
        """What copies of this message carry as ``PosternCopy``, the present key's first."""
        return tuple(_tag(key, mailbox_id, original_id) for key in self.all)

    def properties(self, mailbox_id: str, original_id: str) -> list[dict[str, str]]:
        """The extended properties of a new copy."""
        return [
            {"id": COPY, "value": _tag(self.current, mailbox_id, original_id)},
            {"id": ORIGINAL, "value": original_id},
            {"id": WRITE, "value": secrets.token_hex(8)},
        ]

    def read(self, mailbox_id: str, value_of: Callable[[str], str]) -> CopyMark | None:
        """The marker of a message, where it has one that is ours.

        Args:
            mailbox_id: The mailbox it is in.
            value_of: Gives the message's extended property of an id; empty where it has none.
        """
        tag, original_id = value_of(COPY).lower(), value_of(ORIGINAL)
        if not tag or not original_id:
            return None
        if not any(hmac.compare_digest(tag.encode(), own.encode()) for own in self.tags(mailbox_id, original_id)):
            return None
        write = value_of(WRITE)
        return CopyMark(original_id, write if _WRITE.fullmatch(write) else "")


def _tag(key: bytes, mailbox_id: str, original_id: str) -> str:
    text = "\0".join(("postern-graph-copy-v1", mailbox_id, original_id))
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
