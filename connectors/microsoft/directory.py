"""The tenant's mailboxes, from its directory.

Sources: https://learn.microsoft.com/graph/api/user-list,
https://learn.microsoft.com/graph/api/resources/user (``mail``, ``proxyAddresses``, ``userType``).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from connectors.base.types import Mailbox
from connectors.microsoft.client import GraphClient
from connectors.microsoft.errors import USER_READ_ALL

_SELECT = ["id", "mail", "displayName", "proxyAddresses", "accountEnabled", "userType"]
_PAGE = 500


async def list_mailboxes(client: GraphClient) -> AsyncIterator[Mailbox]:
    """Every member of the tenant that has a mail address.

    A directory entry does not tell whether it has a mailbox: one without is yielded too and gives
    ``MailboxUnavailable`` when it is read. Guests are left out, their mail is elsewhere.

    Raises:
        PermissionMissing: ``User.Read.All`` is not granted.
    """
    info = client.requests.users(_SELECT, _PAGE)
    while True:
        reply = await client.call(info, read=True, what="listing the tenant's users", needs=USER_READ_ALL)
        for user in reply.values:
            mailbox = read_user(user)
            if mailbox is not None:
                yield mailbox
        link = reply.data.get("@odata.nextLink")
        if not isinstance(link, str):
            return
        info = client.follow(link)


def read_user(user: dict[str, Any]) -> Mailbox | None:
    """A user resource as a mailbox; None for guests and users without an address."""
    identity, address = user.get("id"), user.get("mail")
    if not isinstance(identity, str) or not isinstance(address, str) or "@" not in address:
        return None
    if str(user.get("userType") or "").lower() == "guest":
        return None
    primary = address.strip().lower()
    aliases: dict[str, None] = {}
    for entry in user.get("proxyAddresses") or []:
        kind, _, other = str(entry).partition(":")
        if kind.lower() == "smtp" and "@" in other and other.strip().lower() != primary:
            aliases[other.strip().lower()] = None
    name = user.get("displayName")
    return Mailbox(
        identity,
        primary,
        name if isinstance(name, str) else "",
        tuple(aliases),
        user.get("accountEnabled") is not False,
    )
