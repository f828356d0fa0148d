"""What an earlier try left behind: the message as it was before our write, and whether that write is whole.

Between the try that wrote and the one that takes the message up again the tenant's options or lists may have changed.
What is in the mailbox then is what the journal tells of, not what would be made of the message now: a write that is
whole is kept, so that journal, undo record and mailbox go on speaking of the same thing.
"""

from __future__ import annotations

import dataclasses

from app.messages import restore, restore_body
from app.protection import journal
from app.protection.content import content_hash
from app.protection.models import MessageRow
from app.protection.payloads import OpenLink
from app.protection.runtime import Runtime
from app.protection.states import MessageState
from connectors.base.types import BodyContent, Content, FetchedMessage, MimeContent


def taken_back(runtime: Runtime, row: MessageRow, content: Content, opener: OpenLink) -> Content:
    """Content without our changes, with the journal's undo record."""
    undo = journal.open_undo(runtime, row)
    if isinstance(content, MimeContent):
        return MimeContent(restore(content.raw, opener, undo).content)
    body = restore_body(content.content, content.is_html, opener, undo)
    return BodyContent(body.content, content.is_html)


def before_our_write(
    runtime: Runtime, row: MessageRow, fetched: FetchedMessage, opener: OpenLink
) -> tuple[FetchedMessage, bool]:
    """The message as it was before a write of ours that took effect without being journaled as finished.

    Where the provider edits in place, a crash after the write leaves our own links in the message; taking
    them back gives the original.

    Returns:
        The message as it was, and whether what is in the mailbox is a whole write of ours: it gives back the very
        bytes that were journaled as the original's.
    """
    if row.state != MessageState.WRITING or row.original_hash is None:
        return fetched, False
    if content_hash(fetched.content) == row.original_hash:
        return fetched, False
    before = taken_back(runtime, row, fetched.content, opener)
    return dataclasses.replace(fetched, content=before), content_hash(before) == row.original_hash


def is_whole_copy(runtime: Runtime, row: MessageRow, copy: FetchedMessage, opener: OpenLink) -> bool:
    """Whether a copy that an earlier try inserted gives back the journaled original, byte for byte."""
    return row.original_hash is not None and (
        content_hash(taken_back(runtime, row, copy.content, opener)) == row.original_hash
    )
