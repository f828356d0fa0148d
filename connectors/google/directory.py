"""The organisation's accounts, from the Directory API (as an administrator)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

from connectors.base.errors import MailboxUnavailable, MessageGone, PermissionMissing, Unavailable
from connectors.base.types import Mailbox
from connectors.google import sdk
from connectors.google.client import GoogleClient
from connectors.google.config import SCOPE_USERS

_FIELDS = "id,primaryEmail,name/fullName,aliases,nonEditableAliases,suspended,archived,isMailboxSetup"


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
    """All accounts of the customer, in all its domains.

    Raises:
        PermissionMissing: The administrator may not list users any more, or is gone.
    """
    page: str | None = None
    while True:
        request = sdk.directory_users(client.config.admin_base).list(
            customer="my_customer",
            maxResults=500,
            orderBy="email",
            pageToken=page,
            fields=f"nextPageToken,users({_FIELDS})",
        )
        try:
            answer = await client.directory(request, "listing the organisation's users")
        except MailboxUnavailable as error:
            raise PermissionMissing(
                SCOPE_USERS,
                "The administrator who connected the organisation is suspended or gone: "
                "another administrator must sign in.",
            ) from error
        for user in answer.get("users") or ():
            yield read_user(user)
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
