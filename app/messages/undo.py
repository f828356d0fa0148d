"""The undo record: what restoring needs when the links alone do not tell it.

A gateway link carries the bytes it replaced. What is redacted, styled, neutralised, tagged or removed carries nothing,
and base64 that is laid out by no rule cannot be laid out again. Then every change of the message is recorded with the
bytes that stood there, bound to the digest of the rewritten message. The record holds content of the mail: it belongs
into sealed storage.
"""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections.abc import Sequence

from app.messages.marker import strip_marker
from app.messages.transfer import RawSplice

_MAGIC = b"postern-undo-1\n"
_MAX_RECORD = 512 * 1024 * 1024


class UndoMismatch(ValueError):
    """The record is damaged, or does not belong to this message."""


def apply(raw: bytes, splices: Sequence[RawSplice]) -> bytes:
    """Replace ranges of a message; `splices` are sorted and do not overlap."""
    pieces: list[bytes] = []
    at = 0
    for splice in splices:
        pieces += (raw[at : splice.start], splice.new)
        at = splice.end
    pieces.append(raw[at:])
    return b"".join(pieces)


def make(raw: bytes, splices: Sequence[RawSplice], content: bytes) -> bytes | None:
    """Make the record of a change.

    Args:
        raw: The message before.
        splices: What was replaced in it.
        content: The message after.

    Returns:
        The record; None when the links in `content` are enough.
    """
    if all(splice.token for splice in splices):
        return None
    back: list[tuple[int, int, str]] = []
    shift = 0
    for splice in splices:
        start = splice.start + shift
        old = raw[splice.start : splice.end]
        back.append((start, start + len(splice.new), base64.b64encode(old).decode("ascii")))
        shift += len(splice.new) - len(old)
    record = {"sha256": hashlib.sha256(content).hexdigest(), "length": len(content), "splices": back}
    return _MAGIC + zlib.compress(json.dumps(record, separators=(",", ":")).encode("ascii"))


def make_text(before: str, splices: Sequence[RawSplice], after: str) -> bytes | None:
    """The same for a body that is text: offsets of `splices` count characters."""
    if all(splice.token for splice in splices):
        return None
    as_bytes: list[RawSplice] = []
    at = 0
    place = 0
    for splice in splices:
        place += len(_encoded(before[at : splice.start]))
        start = place
        place += len(_encoded(before[splice.start : splice.end]))
        at = splice.end
        as_bytes.append(RawSplice(start, place, splice.new, splice.token))
    return make(_encoded(before), as_bytes, _encoded(after))


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def is_record(data: bytes) -> bool:
    """Whether some bytes are meant to be an undo record."""
    return data.startswith(_MAGIC)


def revert(content: bytes, record: bytes) -> tuple[bytes, int]:
    """Take a recorded change back.

    Args:
        content: The rewritten message; header lines that a provider has put in front are kept, our marker is not.
        record: What `make` returned.

    Returns:
        The message as it was, and how many places were changed back.

    Raises:
        UndoMismatch: The record cannot be read or the message is not the one it was made for.
    """
    if not is_record(record):
        raise UndoMismatch("not an undo record")
    try:
        reader = zlib.decompressobj()
        read = json.loads(reader.decompress(record[len(_MAGIC) :], _MAX_RECORD))
        digest, length = str(read["sha256"]), int(read["length"])
        splices = [RawSplice(int(a), int(b), base64.b64decode(old), False) for a, b, old in read["splices"]]
    except (zlib.error, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise UndoMismatch("the undo record is damaged") from error
    shift = len(content) - length
    if shift < 0 or hashlib.sha256(content[shift:]).hexdigest() != digest:
        raise UndoMismatch("the message is not the one the undo record was made for")
    # What was put in front since: ours goes, and a field of the same name that came with the message stays.
    return strip_marker(content[:shift]) + apply(content[shift:], splices), len(splices)
