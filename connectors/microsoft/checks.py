"""Access checks: what must be in place in the tenant, whether it is, and what to do about it.

Sources: https://learn.microsoft.com/graph/permissions-reference,
https://learn.microsoft.com/entra/identity-platform/v2-admin-consent,
https://learn.microsoft.com/exchange/permissions-exo/application-rbac (scoping to some mailboxes).

Permissions are read from the ``roles`` of a token issued for the check: a consent can succeed and yet grant
nothing. Rights over some mailboxes are in no token: mailboxes are tried. A time-out gives ``UNKNOWN``: it says
nothing about the grant.
"""

from __future__ import annotations

from collections.abc import Sequence

from connectors.base.errors import (
    AccessRevoked,
    ConnectorError,
    MisconfiguredClient,
    Transient,
)
from connectors.base.types import AccessCheck, CheckStatus, Mailbox
from connectors.microsoft.client import GraphClient, token_claims, token_roles
from connectors.microsoft.errors import MAIL_ADVANCED, MAIL_READ_WRITE, USER_READ_ALL
from connectors.microsoft.reach import Reach, try_mailboxes

_EVIDENCE_SECONDS = 3_600.0
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


async def check_access(client: GraphClient, first: Sequence[Mailbox] = ()) -> list[AccessCheck]:
    """All checks, in the order in which they build on each other. Never raises for a missing grant.

    Args:
        client: Graph.
        first: Mailboxes to try before any other.
    """
    config = client.config
    try:
        token = await client.fresh_token()
    except ConnectorError as error:
        link = permissions_page(config.admin_center_url, config.client_id)
        skipped = (_skipped(which, link) for which in _KEYS)
        return [_token_check(client, error), *skipped, _probe_skipped()]
    roles = token_roles(token)
    principal = token_claims(token).get("oid")
    link = permissions_page(config.admin_center_url, config.client_id, principal if isinstance(principal, str) else "")
    found, probe = await _probe(client, roles, first, link)
    scoped = MAIL_READ_WRITE not in roles and found.read > 0
    return [
        AccessCheck("consent", CheckStatus.PASSED, "Microsoft Entra ID issues tokens for this tenant."),
        _scoped_read(found) if scoped else _role_check(MAIL_READ_WRITE, roles, link),
        _scoped_write(client, link)
        if scoped and MAIL_ADVANCED not in roles
        else _role_check(MAIL_ADVANCED, roles, link),
        _role_check(USER_READ_ALL, roles, link),
        probe,
    ]


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
        vital=which == MAIL_READ_WRITE,
        copies_do_without=which == MAIL_ADVANCED,
    )


def _skipped(which: str, link: str) -> AccessCheck:
    return AccessCheck(
        _KEYS[which],
        CheckStatus.SKIPPED,
        f"Whether {which} is granted cannot be told without a token.",
        "Solve the check above first.",
        link,
    )


def _scoped_read(found: Reach) -> AccessCheck:
    return AccessCheck(
        _KEYS[MAIL_READ_WRITE],
        CheckStatus.PASSED,
        f"{MAIL_READ_WRITE} is granted in Exchange Online for some mailboxes: {found.read} of {found.tried} tried "
        "can be read.",
    )


def _scoped_write(client: GraphClient, link: str) -> AccessCheck:
    key = _KEYS[MAIL_ADVANCED]
    if client.wrote_within(_EVIDENCE_SECONDS):
        return AccessCheck(key, CheckStatus.PASSED, "A received message was changed within the hour.")
    return AccessCheck(
        key,
        CheckStatus.UNKNOWN,
        f"Rights given in Exchange Online are in no token, so that {MAIL_ADVANCED} cannot be told from it. The first "
        "message that is protected shows it; a refused one is left as it is.",
        f"If protection stops at the first message, grant {MAIL_ADVANCED} for the same mailboxes.",
        link,
    )


def _probe_skipped() -> AccessCheck:
    return AccessCheck(
        "mailbox_access",
        CheckStatus.SKIPPED,
        "No mailbox was tried, since a permission is missing.",
        "Solve the checks above first.",
    )


async def _probe(
    client: GraphClient, roles: frozenset[str], first: Sequence[Mailbox], link: str
) -> tuple[Reach, AccessCheck]:
    """Read from real mailboxes: they can be given, or excluded, one by one."""
    key = "mailbox_access"
    if USER_READ_ALL not in roles:
        return Reach(), _probe_skipped()
    in_token = MAIL_READ_WRITE in roles
    try:
        found = await try_mailboxes(client, first, all_of_them=False)
        if found.refusal:
            found = await try_mailboxes(client, first)
    except Transient as error:
        return Reach(), AccessCheck(
            key,
            CheckStatus.UNKNOWN,
            f"It cannot be told now: {error}",
            "Check again in a few minutes; nothing needs to be changed.",
        )
    except ConnectorError as error:
        return Reach(), AccessCheck(key, CheckStatus.FAILED, str(error), "Grant the permission named.", link)
    if found.read and not found.refusal:
        return found, AccessCheck(key, CheckStatus.PASSED, "A mailbox was read.")
    if found.read:
        return found, AccessCheck(
            key,
            CheckStatus.PASSED,
            f"{found.read} of {found.tried} mailboxes tried can be read; the others are not in the scope that "
            "Exchange Online gives us, and are left alone.",
        )
    if not in_token:
        return found, _probe_skipped()
    if found.tried == 0:
        return found, AccessCheck(
            key,
            CheckStatus.UNKNOWN,
            "The directory lists no enabled user with a mailbox.",
            "Check that the tenant has mailboxes.",
            f"{client.config.admin_center_url}/#view/Microsoft_AAD_UsersAndTenants/UserManagementMenuBlade",
        )
    return found, AccessCheck(
        key,
        CheckStatus.FAILED,
        f"None of {found.tried} mailboxes tried can be read: {found.refusal}.",
        "Check the application access policy or the scope of RBAC for Applications in Exchange Online, "
        "and that these users have a licence with Exchange. Put your own mailbox into the scope: it is tried first.",
        "https://admin.exchange.microsoft.com/#/adminRoles",
    )
