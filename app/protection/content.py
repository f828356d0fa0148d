"""Message content as connectors exchange it: hashing, and the same kind with other bytes."""

from __future__ import annotations

import hashlib

from connectors.base.types import BodyContent, Content, MimeContent


def content_bytes(content: Content) -> bytes:
    """The content as bytes, for hashing."""
    return content.raw if isinstance(content, MimeContent) else content.content.encode("utf-8", "surrogatepass")


def content_hash(content: Content) -> bytes:
    """SHA-256 of the content."""
    return hashlib.sha256(content_bytes(content)).digest()


def rebuilt(like: Content, new: bytes | str) -> Content:
    """New content of the same kind as ``like``.

    Raises:
        TypeError: Bytes for a body, or text for a MIME message.
    """
    if isinstance(like, MimeContent):
        if not isinstance(new, bytes):
            raise TypeError("a MIME message is bytes")
        return MimeContent(new)
    if not isinstance(new, str):
        raise TypeError("a body is text")
    return BodyContent(new, like.is_html)
