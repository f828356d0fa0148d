"""The tenant's mailboxes, from its directory.

Sources: https://learn.microsoft.com/graph/api/user-list,
https://learn.microsoft.com/graph/api/resources/user (``mail``, ``proxyAddresses``, ``userType``),
https://learn.microsoft.com/graph/api/group-list-transitivemembers.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from connectors.base.errors import GroupNotFound, MailboxUnavailable, PermissionMissing
from connectors.base.types import DirectoryGroup, Mailbox
from connectors.microsoft.client import GraphClient, Reply
from connectors.microsoft.errors import GROUP_MEMBER_READ_ALL, USER_READ_ALL

if TYPE_CHECKING:
    from kiota_abstractions.request_information import RequestInformation

_SELECT = ["id", "mail", "displayName", "proxyAddresses", "accountEnabled", "userType"]
_PAGE = 500
_GROUP_SELECT = ["id", "mail", "displayName"]
_GROUPS_SHOWN = 20


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


async def find_groups(client: GraphClient, text: str) -> list[DirectoryGroup]:
    """Groups with this object id, address or display name.

    Raises:
        PermissionMissing: ``GroupMember.Read.All`` is not granted.
    """
    what = "looking for a group"
    try:
        info = client.requests.group(str(uuid.UUID(text)), _GROUP_SELECT)
    except ValueError:
        info = client.requests.groups_named(text, _GROUP_SELECT, _GROUPS_SHOWN)
        found = (await _ask_groups(client, info, what)).values
    else:
        try:
            found = [(await _ask_groups(client, info, what)).data]
        except MailboxUnavailable:  # what "not found" means where a user is named
            found = []
    groups = (read_group(entry) for entry in found)
    return [group for group in groups if group is not None]


async def members(client: GraphClient, group_id: str) -> AsyncIterator[str]:
    """Object ids of the users in a group, nested groups included.

    Raises:
        GroupNotFound: There is no such group.
        PermissionMissing: ``GroupMember.Read.All`` is not granted.
    """
    info = client.requests.group_users(group_id, _PAGE)
    while True:
        try:
            reply = await _ask_groups(client, info, "listing the members of a group")
        except MailboxUnavailable as error:
            raise GroupNotFound(f"Microsoft 365 has no group {group_id} (any more).") from error
        for user in reply.values:
            if isinstance(user.get("id"), str):
                yield user["id"]
        link = reply.data.get("@odata.nextLink")
        if not isinstance(link, str):
            return
        info = client.follow(link)
        info.headers.try_add("ConsistencyLevel", "eventual")


async def _ask_groups(client: GraphClient, info: RequestInformation, what: str) -> Reply:
    """A request about groups; with a new token where the one in use was issued before the permission was granted."""
    try:
        return await client.call(info, read=True, what=what, needs=GROUP_MEMBER_READ_ALL)
    except PermissionMissing:
        await client.fresh_token()
        return await client.call(info, read=True, what=what, needs=GROUP_MEMBER_READ_ALL)


def read_group(group: dict[str, Any]) -> DirectoryGroup | None:
    """A group resource; None where the answer is none."""
    identity = group.get("id")
    if not isinstance(identity, str):
        return None
    return DirectoryGroup(identity, str(group.get("mail") or "").lower(), str(group.get("displayName") or ""))


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
