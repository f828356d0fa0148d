"""Link tokens: what a rewritten link carries, sealed so that it opens without a database.

A link is ``https://<gateway>/<prefix>/<visible host>/<token>``. See :mod:`app.links.token` for the format.
"""

from app.links.mint import LinkOpener, Minter, message_opener
from app.links.token import LinkBroken, LinkToken, PayloadNeeded, visible_host

__all__ = [
    "LinkBroken",
    "LinkOpener",
    "LinkToken",
    "Minter",
    "PayloadNeeded",
    "message_opener",
    "visible_host",
]
