"""What must be in place before an organisation's mail can be protected, and what to do where it is not."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from connectors.base.errors import (
    AccessRevoked,
    ConnectorError,
    MailboxUnavailable,
    MisconfiguredClient,
    Transient,
)
from connectors.base.types import AccessCheck, CheckStatus, Mailbox
from connectors.google import directory, errors, sdk
from connectors.google.client import GoogleClient
from connectors.google.config import SCOPE_FULL, SCOPE_USERS, GoogleConfig
from connectors.google.tokens import works

_P, _F, _U, _S = CheckStatus.PASSED, CheckStatus.FAILED, CheckStatus.UNKNOWN, CheckStatus.SKIPPED


def delegation_url(config: GoogleConfig) -> str:
    """The page of the Admin console for domain-wide delegation, with our values filled in.

    Security > Access and data control > API controls > Manage domain-wide delegation
    (https://support.google.com/a/answer/162106).
    """
    query = urlencode(
        {
            "clientScopeToAdd": ",".join(config.scopes),
            "clientIdToAdd": config.service_account.client_id,
            "overwriteClientId": "true",
        },
        safe=":/,",
    )
    return f"{config.admin_console}/ac/owl/domainwidedelegation?{query}"


async def check_access(client: GoogleClient) -> list[AccessCheck]:
    """Probe each thing by itself, in the order in which they depend on each other."""
    config = client.config
    scopes: dict[str, ConnectorError | None] = {}
    if client.admin_address:
        for scope in config.scopes:
            client.tokens.forget(client.admin_address, (scope,))  # the answer must be of now
            scopes[scope] = await works(client.tokens, client.admin_address, (scope,))
    checks = [_delegation(client, scopes)]
    granted = checks[0].status is _P
    directory_ready = scopes.get(SCOPE_USERS, AccessRevoked()) is None
    checks.append(await _directory(client) if directory_ready else _skipped("directory", "reading the users"))
    mail_ready = bool(scopes) and all(scopes[scope] is None for scope in config.mail_scopes)
    checks.append(await _mail(client) if mail_ready else _skipped("mail_read", "reading a mailbox"))
    checks.append(_removal(config, scopes))
    checks.append(_push(config, granted))
    return checks


def _delegation(client: GoogleClient, scopes: dict[str, ConnectorError | None]) -> AccessCheck:
    key, link = "delegation", delegation_url(client.config)
    if not scopes:
        return AccessCheck(
            key, _S, "No administrator has signed in yet.", "Sign in with a super administrator's account."
        )
    problems = [problem for problem in scopes.values() if problem is not None]
    if not problems:
        return AccessCheck(key, _P, "Domain-wide delegation covers every scope that is needed.")
    for problem in problems:
        if isinstance(problem, MisconfiguredClient):
            return AccessCheck(key, _U, str(problem), "Postern's operator must correct the service account.")
        if isinstance(problem, Transient):
            return AccessCheck(key, _U, str(problem), "Check again in a few minutes.")
        if isinstance(problem, MailboxUnavailable):
            return AccessCheck(
                key,
                _F,
                f"Google gives no access as {client.admin_address}: the account is deleted or suspended.",
                "Sign in with another administrator's account.",
                f"{client.config.admin_console}/ac/users",
            )
    missing = [scope for scope, problem in scopes.items() if isinstance(problem, errors.UnauthorizedClient)]
    if missing and len(missing) < len(scopes):
        return AccessCheck(
            key,
            _F,
            f"The delegation lacks: {', '.join(missing)}.",
            "Add the missing scope to our client id; a change can take up to 24 hours to take effect.",
            link,
        )
    return AccessCheck(
        key,
        _F,
        "Domain-wide delegation is not granted, or does not take effect yet.",
        f"Add client id {client.config.service_account.client_id} with the scopes shown; "
        "it can take up to 24 hours to take effect.",
        link,
    )


async def _directory(client: GoogleClient) -> AccessCheck:
    key = "directory"
    request = sdk.directory_users(client.config.admin_base).list(
        customer="my_customer", maxResults=1, fields="users(id)"
    )
    link = f"{client.config.admin_console}/ac/roles"
    check = await _probe(
        key,
        client.directory(request, "listing the organisation's users"),
        "The organisation's users can be listed.",
        "Sign in with an administrator who may read users (role User Management or Super Admin).",
        link,
    )
    if check.status is not _P:
        return check
    # A help desk may list users too; whoever binds the organisation has to administer it.
    try:
        is_admin = await directory.administers(client, client.admin_address)
    except ConnectorError as error:
        return AccessCheck(key, CheckStatus.UNKNOWN, str(error), "Check again in a few minutes.", link)
    if is_admin is True:
        return check
    return AccessCheck(
        key,
        CheckStatus.FAILED,
        "The signed-in person is not a super administrator of this organisation.",
        "Sign in with a super administrator's account.",
        link,
    )


async def _mail(client: GoogleClient) -> AccessCheck:
    admin = Mailbox(id=client.admin_address, address=client.admin_address)
    request = client.gmail.users.getProfile(userId=admin.address)
    return await _probe(
        "mail_read",
        client.mail(admin, request, "reading the administrator's mailbox"),
        "Mail can be read and changed.",
        "Turn Gmail on for the administrator's account; other mailboxes may work all the same.",
        f"{client.config.admin_console}/ac/appslist/core",
    )


def _removal(config: GoogleConfig, scopes: dict[str, ConnectorError | None]) -> AccessCheck:
    key = "permanent_delete"
    if config.removal == "trash":
        return AccessCheck(key, _S, "Not needed: originals go to the trash.")
    problem = scopes.get(SCOPE_FULL)
    if SCOPE_FULL in scopes and problem is None:
        return AccessCheck(key, _P, "Originals can be deleted for good.")
    if isinstance(problem, errors.UnauthorizedClient):
        return AccessCheck(
            key,
            _F,
            f"The scope {SCOPE_FULL} is not granted, so originals cannot be deleted for good.",
            "Grant the scope, or let originals go to the trash.",
            delegation_url(config),
        )
    return AccessCheck(key, _U, "Could not be told.", "Check again once the delegation works.")


def _push(config: GoogleConfig, granted: bool) -> AccessCheck:
    key = "push"
    if not config.pubsub_topic:
        return AccessCheck(key, _S, "No notifications are configured: mailboxes are asked for changes at intervals.")
    if not granted:
        return _skipped(key, "asking for notifications")
    return AccessCheck(key, _S, "Only a first notification proves that they arrive; changes are also polled.")


def _skipped(key: str, what: str) -> AccessCheck:
    return AccessCheck(key, _S, f"Not tried: {what} needs the delegation.", "Grant the delegation first.")


async def _probe(key: str, call: Any, passed: str, remedy: str, link: str) -> AccessCheck:
    try:
        await call
    except Transient as error:
        return AccessCheck(key, _U, str(error), "Check again in a few minutes.")
    except MisconfiguredClient as error:
        return AccessCheck(key, _U, str(error), "Postern's operator must correct its Google project.")
    except ConnectorError as error:
        return AccessCheck(key, _F, str(error), remedy, link)
    return AccessCheck(key, _P, passed)
