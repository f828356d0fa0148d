"""Attachments in the undo record: what lay apart from the body and had another file put in its place.

A provider that keeps attachments apart gives a body to rewrite and files to swap. The record of the body
(:mod:`app.messages.undo`) and the files as they came are kept together, in this container: a line that names it, the
length of a JSON head, the head, the body's record, the files one after another as they are.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from app.messages.undo import UndoMismatch

_MAGIC = b"postern-undo-attached-1\n"


@dataclass(frozen=True, slots=True)
class KeptFile:
    """An attachment as it came.

    Attributes:
        name: As given.
        content_type: As given.
        content_id: What the body shows it by, or None.
        is_inline: Whether it is shown in the body.
        content: The file.
        became: SHA-256 of the content that was put in its place.
        links: How many gateway links are in that.
        part: What the message's links call it, such as ``attachment 1``.
    """

    name: str
    content_type: str
    content_id: str | None
    is_inline: bool
    content: bytes = field(repr=False)
    became: bytes
    links: int = 0
    part: str = ""


def pack(record: bytes | None, files: Sequence[KeptFile]) -> bytes | None:
    """The record of a message whose attachments were changed, too; the body's own where none was.

    Args:
        record: The body's, or None where its links are enough.
        files: The attachments.
    """
    if not files:
        return record
    head = {
        "record": None if record is None else len(record),
        "files": [
            {
                "name": file.name,
                "type": file.content_type,
                "id": file.content_id,
                "inline": file.is_inline,
                "length": len(file.content),
                "became": file.became.hex(),
                "links": file.links,
                "part": file.part,
            }
            for file in files
        ],
    }
    encoded = json.dumps(head, separators=(",", ":")).encode("ascii")
    contents = b"".join(file.content for file in files)
    return _MAGIC + len(encoded).to_bytes(4, "big") + encoded + (record or b"") + contents


def unpack(packed: bytes | None) -> tuple[bytes | None, tuple[KeptFile, ...]]:
    """The body's record and the attachments, from what :func:`pack` gave.

    Raises:
        UndoMismatch: It is damaged.
    """
    if packed is None or not packed.startswith(_MAGIC):
        return packed, ()
    at = len(_MAGIC) + 4
    size = int.from_bytes(packed[len(_MAGIC) : at], "big")
    try:
        head = json.loads(packed[at : at + size])
        at += size
        record: bytes | None = None
        if head["record"] is not None:
            record = packed[at : at + head["record"]]
            at += len(record)
        files: list[KeptFile] = []
        for each in head["files"]:
            content = packed[at : at + each["length"]]
            at += each["length"]
            became = bytes.fromhex(each["became"])
            files.append(
                KeptFile(
                    *(each["name"], each["type"], each["id"], each["inline"]),
                    content=content,
                    became=became,
                    links=each["links"],
                    part=each["part"],
                )
            )
    except (ValueError, KeyError, TypeError) as error:
        raise UndoMismatch("the undo record of the attachments is damaged") from error
    if at != len(packed):
        raise UndoMismatch("the undo record of the attachments is cut off or too long")
    return record, tuple(files)
