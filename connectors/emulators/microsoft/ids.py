"""Identifiers in the shapes that Graph gives out.

"Obtain immutable identifiers for Outlook resources" (https://learn.microsoft.com/graph/outlook-immutable-id):
an ordinary message id changes when the message moves to another folder, an immutable one stays as long as the
message is in the mailbox. Folder ids are constant in both cases.
"""

from __future__ import annotations

import base64
import hashlib
import random
import uuid

_IMMUTABLE = "AAkALgAAAAAAHYQDEapmEc2byACqAC-EWg0A"
_ORDINARY = "AAMkAGVmMDEz"
_FOLDER = "AQMkAGVmMDEz"
_TOKEN = 22
"""Characters of base64url in 16 bytes."""
_PLACE = 11
"""Characters of base64url in the 8 bytes that tell one folder from another in an ordinary id."""


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode("ascii").rstrip("=")


def new_guid(source: random.Random) -> str:
    """A random GUID (RFC 9562 version 4)."""
    return str(uuid.UUID(bytes=source.randbytes(16), version=4))


def new_message_id(source: random.Random) -> str:
    """An immutable message id."""
    return f"{_IMMUTABLE}{_encode(source.randbytes(16))}AAA="


def new_attachment_id(source: random.Random) -> str:
    """An attachment id."""
    return f"{_IMMUTABLE}{_encode(source.randbytes(16))}AAABEgAQ="


def new_folder_id(source: random.Random) -> str:
    """A folder id."""
    return f"{_FOLDER}{_encode(source.randbytes(16))}AAA="


def ordinary_id(immutable_id: str, folder_id: str) -> str:
    """The id of the message for clients that do not ask for immutable ones."""
    token = immutable_id[len(_IMMUTABLE) : len(_IMMUTABLE) + _TOKEN]
    return f"{_ORDINARY}{_place(folder_id)}{token}AAA="


def split_id(given: str) -> tuple[str, str | None] | None:
    """Read an id from a request.

    Returns:
        The immutable id and, where an ordinary id was given, the part that stands for the folder; None
        where this is no message id at all.
    """
    if given.startswith(_IMMUTABLE):
        return given, None
    start = len(_ORDINARY) + _PLACE
    if given.startswith(_ORDINARY) and len(given) == start + _TOKEN + 4:
        return f"{_IMMUTABLE}{given[start:]}", given[len(_ORDINARY) : start]
    return None


def is_place(part: str, folder_id: str) -> bool:
    """Whether the folder part of an ordinary id stands for this folder."""
    return part == _place(folder_id)


def _place(folder_id: str) -> str:
    return _encode(hashlib.sha256(folder_id.encode()).digest()[:8])


def change_key(number: int) -> str:
    """The changeKey of the n-th change in a mailbox; ``@odata.etag`` is ``W/"<changeKey>"``."""
    return "CQAAABYAAAC4ofQH" + _encode(number.to_bytes(12, "big"))


def conversation_id(root_message_id: str) -> str:
    """One id for all messages of a thread, from its first message's Message-ID."""
    return "AAQkAGVmMDEz" + _encode(hashlib.sha256(root_message_id.encode()).digest()[:16]) + "AQAA="
