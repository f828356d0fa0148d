"""The organisation's accounts, from the Directory API (as an administrator)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

from connectors.base.errors import (
    ConnectorError,
    GroupNotFound,
    MailboxUnavailable,
    MessageGone,
    PermissionMissing,
    Unavailable,
)
from connectors.base.types import DirectoryGroup, Mailbox
from connectors.google import sdk
from connectors.google.client import GoogleClient
from connectors.google.config import SCOPE_GROUPS, SCOPE_USERS

_FIELDS = "id,primaryEmail,name/fullName,aliases,nonEditableAliases,suspended,archived,isMailboxSetup,customerId"
_ADMIN_GONE = (
    "The administrator who connected the organisation is suspended or gone: another administrator must sign in."
)


def read_user(data: Mapping[str, Any]) -> Mailbox:
    """Read a ``User`` resource (discovery schema ``User``).

    Raises:
        Unavailable: It is not one.
    """
    try:
        address = str(data["primaryEmail"]).lower()
        aliases = [*(data.get("aliases") or ()), *(data.get("nonEditableAliases") or ())]
        return Mailbox(
            id=str(data["id"]),
            address=address,
            name=str((data.get("name") or {}).get("fullName", "")),
            aliases=tuple(dict.fromkeys(str(alias).lower() for alias in aliases)),
            enabled=not (data.get("suspended") or data.get("archived") or data.get("isMailboxSetup") is False),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise Unavailable("Google's answer is not a user resource.") from error


async def list_mailboxes(client: GoogleClient) -> AsyncIterator[Mailbox]:
    """All accounts of the customer that the tenant is bound to, in all its domains.

    Google verifies every domain of a customer, so its id bounds them all
    (https://developers.google.com/workspace/admin/directory/v1/guides/manage-users#get_all_domain_users). A user
    resource of another customer is refused, whoever sent it.

    Raises:
        PermissionMissing: The administrator may not list users any more, or is gone.
        ConnectorError: The administrator is another customer's by now.
    """
    page: str | None = None
    while True:
        request = sdk.directory_users(client.config.admin_base).list(
            customer=client.customer or "my_customer",
            maxResults=500,
            orderBy="email",
            pageToken=page,
            fields=f"nextPageToken,users({_FIELDS})",
        )
        try:
            answer = await client.directory(request, "listing the organisation's users")
        except MailboxUnavailable as error:
            raise PermissionMissing(SCOPE_USERS, _ADMIN_GONE) from error
        for user in answer.get("users") or ():
            if client.customer and user.get("customerId") not in (None, client.customer):
                raise ConnectorError(
                    "Google listed a user of another customer than this organisation is bound to; "
                    "nothing was taken over."
                )
            yield read_user(user)
        page = answer.get("nextPageToken")
        if not page:
            return


async def customer_id(client: GoogleClient) -> str:
    """The immutable id of the customer whose administrator granted access (``customerId`` of the user resource).

    A customer may have many domains, and a sign-in names one of them: the id alone tells whether two sign-ins
    belong together.

    Raises:
        ConnectorError: It could not be read.
    """
    request = sdk.directory_users(client.config.admin_base).get(userKey=client.admin_address, fields="customerId")
    answer = await client.directory(request, "reading the organisation's id")
    found = answer.get("customerId")
    if not isinstance(found, str) or not found:
        raise Unavailable("Google's answer names no customer.")
    return found


async def find_groups(client: GoogleClient, text: str) -> list[DirectoryGroup]:
    """The group with this address or id. Google finds none by its name exactly.

    Raises:
        PermissionMissing: The scope for groups is not delegated.
    """
    request = sdk.directory_groups(client.config.admin_base).get(groupKey=text, fields="id,email,name")
    try:
        answer = await client.directory(request, "looking for a group", scope=SCOPE_GROUPS)
    except MessageGone:
        return []
    except MailboxUnavailable as error:
        raise PermissionMissing(SCOPE_GROUPS, _ADMIN_GONE) from error
    if not isinstance(answer.get("id"), str):
        raise Unavailable("Google's answer is not a group resource.")
    return [DirectoryGroup(answer["id"], str(answer.get("email") or "").lower(), str(answer.get("name") or ""))]


async def members(client: GoogleClient, group_id: str) -> AsyncIterator[str]:
    """Ids of the users in a group and in the groups within it.

    ``includeDerivedMembership`` follows nested groups
    (https://developers.google.com/workspace/admin/directory/reference/rest/v1/members/list).

    Raises:
        GroupNotFound: There is no such group.
        PermissionMissing: The scope for groups is not delegated.
    """
    page: str | None = None
    while True:
        request = sdk.directory_members(client.config.admin_base).list(
            groupKey=group_id,
            includeDerivedMembership=True,
            maxResults=200,
            pageToken=page,
            fields="nextPageToken,members(id,type)",
        )
        try:
            answer = await client.directory(request, "listing the members of a group", scope=SCOPE_GROUPS)
        except MessageGone as error:
            raise GroupNotFound(f"Google Workspace has no group {group_id} (any more).") from error
        except MailboxUnavailable as error:
            raise PermissionMissing(SCOPE_GROUPS, _ADMIN_GONE) from error
        for member in answer.get("members") or ():
            if member.get("type", "USER") == "USER" and isinstance(member.get("id"), str):
                yield member["id"]
        page = answer.get("nextPageToken")
        if not page:
            return


async def administers(client: GoogleClient, subject: str) -> bool | None:
    """Whether this person is a super administrator of the customer; None where that is not shown.

    Asked as the person: only administrators get an answer from the administrators' view
    (https://developers.google.com/workspace/admin/directory/v1/guides/manage-users#retrieve_users).
    ``isDelegatedAdmin`` covers any administrator role, the help desk's too
    (https://developers.google.com/workspace/admin/directory/reference/rest/v1/users): it shows nothing about
    the organisation's mail.
    """
    request = sdk.directory_users(client.config.admin_base).get(userKey=subject, fields="isAdmin,isDelegatedAdmin")
    try:
        answer = await client.directory(request, "reading a user's role", subject=subject)
    except MessageGone:
        return None
    if answer.get("isAdmin") is True:
        return True
    return None if answer.get("isDelegatedAdmin") else False
