"""Access checks: what must be in place in the tenant, whether it is, and what to do about it.

Sources: https://learn.microsoft.com/graph/permissions-reference,
https://learn.microsoft.com/entra/identity-platform/v2-admin-consent,
https://learn.microsoft.com/exchange/permissions-exo/application-rbac (scoping to some mailboxes).

Permissions are read from the ``roles`` of a token issued for the check: a consent can succeed and yet grant
nothing. A time-out gives ``UNKNOWN``: it says nothing about the grant.
"""

from __future__ import annotations

from connectors.base.errors import (
    AccessRevoked,
    ConnectorError,
    MailboxUnavailable,
    MisconfiguredClient,
    PermissionMissing,
    Transient,
)
from connectors.base.types import AccessCheck, CheckStatus, Mailbox
from connectors.microsoft.client import GraphClient, token_claims, token_roles
from connectors.microsoft.directory import list_mailboxes
from connectors.microsoft.errors import MAIL_ADVANCED, MAIL_READ_WRITE, USER_READ_ALL

_PROBED_MAILBOXES = 5
_KEYS = {MAIL_READ_WRITE: "mail_read_write", MAIL_ADVANCED: "mail_advanced", USER_READ_ALL: "directory"}
_PURPOSE = {
    MAIL_READ_WRITE: "read messages and move them",
    MAIL_ADVANCED: "change the body of received messages (needed from 31 December 2026)",
    USER_READ_ALL: "list the tenant's mailboxes",
}


def permissions_page(admin_center: str, client_id: str, service_principal: str = "") -> str:
    """The page of the Entra admin centre on which permissions of our enterprise application are granted."""
    if service_principal:
        return (
            f"{admin_center}/#view/Microsoft_AAD_IAM/ManagedAppMenuBlade/~/Permissions"
            f"/objectId/{service_principal}/appId/{client_id}"
        )
    return f"{admin_center}/#view/Microsoft_AAD_IAM/StartboardApplicationsMenuBlade/~/AppAppsPreview"


def credentials_page(admin_center: str, client_id: str) -> str:
    """The page of the Entra admin centre on which our registration's credentials are."""
    return f"{admin_center}/#view/Microsoft_AAD_RegisteredApps/ApplicationMenuBlade/~/Credentials/appId/{client_id}"


async def check_access(client: GraphClient) -> list[AccessCheck]:
    """All checks, in the order in which they build on each other. Never raises for a missing grant."""
    config = client.config
    try:
        token = await client.fresh_token()
    except ConnectorError as error:
        link = permissions_page(config.admin_center_url, config.client_id)
        return [_token_check(client, error), *(_skipped(which, link) for which in _KEYS), _probe_skipped()]
    roles = token_roles(token)
    principal = token_claims(token).get("oid")
    link = permissions_page(config.admin_center_url, config.client_id, principal if isinstance(principal, str) else "")
    checks = [
        AccessCheck("consent", CheckStatus.PASSED, "Microsoft Entra ID issues tokens for this tenant."),
        *(_role_check(which, roles, link) for which in _KEYS),
    ]
    checks.append(await _probe(client, roles, link))
    return checks


def _token_check(client: GraphClient, error: ConnectorError) -> AccessCheck:
    config = client.config
    if isinstance(error, MisconfiguredClient):
        return AccessCheck(
            "consent",
            CheckStatus.FAILED,
            str(error),
            "The operator of this service must renew the application's credential; the tenant need do nothing.",
            credentials_page(config.admin_center_url, config.client_id),
        )
    if isinstance(error, AccessRevoked):
        return AccessCheck(
            "consent",
            CheckStatus.FAILED,
            str(error),
            "A Global Administrator or Privileged Role Administrator must grant the consent (again).",
            permissions_page(config.admin_center_url, config.client_id),
        )
    return AccessCheck(
        "consent",
        CheckStatus.UNKNOWN,
        f"It cannot be told now: {error}",
        "Check again in a few minutes; nothing needs to be changed.",
    )


def _role_check(which: str, roles: frozenset[str], link: str) -> AccessCheck:
    if which in roles:
        return AccessCheck(_KEYS[which], CheckStatus.PASSED, f"{which} is granted.")
    return AccessCheck(
        _KEYS[which],
        CheckStatus.FAILED,
        f"{which} is not granted: the service cannot {_PURPOSE[which]}.",
        f'Choose "Grant admin consent" so that the application permission {which} is granted.',
        link,
    )


def _skipped(which: str, link: str) -> AccessCheck:
    return AccessCheck(
        _KEYS[which],
        CheckStatus.SKIPPED,
        f"Whether {which} is granted cannot be told without a token.",
        "Solve the check above first.",
        link,
    )


def _probe_skipped() -> AccessCheck:
    return AccessCheck(
        "mailbox_access",
        CheckStatus.SKIPPED,
        "No mailbox was tried, since a permission is missing.",
        "Solve the checks above first.",
    )


async def _probe(client: GraphClient, roles: frozenset[str], link: str) -> AccessCheck:
    """Read from a real mailbox: an access policy can exclude mailboxes that the roles allow."""
    if MAIL_READ_WRITE not in roles or USER_READ_ALL not in roles:
        return _probe_skipped()
    tried = 0
    refusal = ""
    try:
        async for mailbox in list_mailboxes(client):
            if not mailbox.enabled:
                continue
            if tried == _PROBED_MAILBOXES:
                break
            tried += 1
            try:
                await _read_one(client, mailbox)
            except (MailboxUnavailable, PermissionMissing) as error:
                refusal = str(error)
                continue
            return AccessCheck("mailbox_access", CheckStatus.PASSED, "A mailbox was read.")
    except Transient as error:
        return AccessCheck(
            "mailbox_access",
            CheckStatus.UNKNOWN,
            f"It cannot be told now: {error}",
            "Check again in a few minutes; nothing needs to be changed.",
        )
    except ConnectorError as error:
        return AccessCheck("mailbox_access", CheckStatus.FAILED, str(error), "Grant the permission named.", link)
    if tried == 0:
        return AccessCheck(
            "mailbox_access",
            CheckStatus.UNKNOWN,
            "The directory lists no enabled user with a mail address.",
            "Check that the tenant has mailboxes.",
            f"{client.config.admin_center_url}/#view/Microsoft_AAD_UsersAndTenants/UserManagementMenuBlade",
        )
    return AccessCheck(
        "mailbox_access",
        CheckStatus.FAILED,
        f"None of {tried} mailboxes tried can be read: {refusal}",
        "Check the application access policy or the scope of RBAC for Applications in Exchange Online, "
        "and that these users have a licence with Exchange.",
        "https://admin.exchange.microsoft.com/#/adminRoles",
    )


async def _read_one(client: GraphClient, mailbox: Mailbox) -> None:
    info = client.requests.newest_messages(mailbox.id, None, ["id"], 1)
    await client.call(info, mailbox=mailbox.id, read=True, what="reading a mailbox to check access")
