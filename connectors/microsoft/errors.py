"""Maps what Microsoft Entra ID and Microsoft Graph say to the connector's errors.

Sources: https://learn.microsoft.com/entra/identity-platform/reference-error-codes,
https://learn.microsoft.com/graph/errors, https://learn.microsoft.com/graph/throttling.

The rule that matters most: only an answer that *says* that the grant is gone becomes ``AccessRevoked``.
A time-out, a 5xx or a code this table does not know never does.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from connectors.base.errors import (
    AccessRevoked,
    ConnectorError,
    CursorExpired,
    MailboxOutOfScope,
    MailboxUnavailable,
    MessageGone,
    MisconfiguredClient,
    PermissionMissing,
    TooLarge,
    Unavailable,
    VersionConflict,
)

MAIL_ADVANCED = "Mail-Advanced.ReadWrite.All"
MAIL_READ_WRITE = "Mail.ReadWrite"
USER_READ_ALL = "User.Read.All"
GROUP_MEMBER_READ_ALL = "GroupMember.Read.All"
MAX_REQUEST_BYTES = 4 * 1024 * 1024
"""Largest request Graph accepts (https://learn.microsoft.com/graph/api/resources/mail-api-overview)."""

REVOKED_CODES: dict[int, str] = {
    7000229: "the application has no service principal in this tenant",
    700016: "the application was not found in this tenant",
    7000112: "the application is disabled in this tenant",
    65001: "the administrator has not consented, or has withdrawn the consent",
    500011: "the requested resource is not available in this tenant",
    90002: "the tenant was not found",
}
OUR_FAULT_CODES: dict[int, str] = {
    7000215: "the client secret is wrong",
    7000222: "the client secret has expired",
    7000216: "the client credential is missing",
    7000218: "the client credential is missing",
    700027: "the certificate is not registered with the application, or its signature is wrong",
    700024: "the client assertion is not valid at this time (check this machine's clock)",
    700030: "the certificate is not acceptable",
    700211: "no federated identity matches the issuer of the workload's token",
    700212: "no federated identity matches the audience of the workload's token",
    700213: "no federated identity matches the subject of the workload's token",
    70021: "no federated identity matches the workload's token",
    50011: "the redirect address is not registered with the application",
}

_AADSTS = re.compile(r"AADSTS(\d{5,8})")
_CODE_TEXT = re.compile(r"[^A-Za-z0-9_.\-]")


@dataclass(frozen=True, slots=True)
class GraphFault:
    """An error answer of Graph.

    Attributes:
        status: HTTP status.
        code: ``error.code``, cleaned and cut; empty where the body is not Graph's.
        inner: ``error.innerError.code``, likewise.
    """

    status: int
    code: str = ""
    inner: str = ""

    def has(self, *codes: str) -> bool:
        """Whether one of the codes was given; Graph is not consistent in their case."""
        wanted = {code.lower() for code in codes}
        return self.code.lower() in wanted or self.inner.lower() in wanted


def read_fault(status: int, body: bytes) -> GraphFault:
    """Read ``{"error": {"code", "message", "innerError"}}``; anything else gives empty codes."""
    try:
        error = json.loads(body)["error"]
        code = error["code"]
    except (ValueError, KeyError, TypeError):
        return GraphFault(status)
    inner = error.get("innerError") or error.get("innererror") or {}
    inner_code = inner.get("code", "") if isinstance(inner, dict) else ""
    return GraphFault(status, _clean(code), _clean(inner_code))


def _clean(code: Any) -> str:
    return _CODE_TEXT.sub("", code)[:80] if isinstance(code, str) else ""


def entra_codes(text: str) -> list[int]:
    """The AADSTS numbers in an answer of the token endpoint, in the order given."""
    codes: list[int] = []
    try:
        listed = json.loads(text).get("error_codes", [])
        codes.extend(int(code) for code in listed)
    except (ValueError, AttributeError, TypeError):
        pass  # not JSON, or not Entra's shape: the text itself is searched below
    codes.extend(int(match) for match in _AADSTS.findall(text))
    return list(dict.fromkeys(codes))


def token_error(text: str, tenant: str) -> ConnectorError:
    """What a refused token request means.

    Args:
        text: Body of the answer, or the SDK's message.
        tenant: The tenant's id, for the message.
    """
    codes = entra_codes(text)
    for code in codes:
        if code in OUR_FAULT_CODES:
            return MisconfiguredClient(
                f"Microsoft Entra ID refused our own credential: {OUR_FAULT_CODES[code]} (AADSTS{code}). "
                "No tenant need do anything; renew the credential in the settings."
            )
    for code in codes:
        if code in REVOKED_CODES:
            return AccessRevoked(
                f"Tenant {tenant} no longer grants access: {REVOKED_CODES[code]} (AADSTS{code}). "
                "No mail was touched; an administrator can grant it again."
            )
    named = ", ".join(f"AADSTS{code}" for code in codes) or "no code given"
    return Unavailable(f"Microsoft Entra ID issued no token for tenant {tenant} ({named}); tried again later.")


def graph_error(
    fault: GraphFault,
    what: str,
    *,
    about_message: bool = False,
    roles: Collection[str] | None = None,
    needs: str = MAIL_READ_WRITE,
    scoped: bool = False,
) -> ConnectorError:
    """What a refused Graph request means.

    Args:
        fault: The answer.
        what: What the request was for.
        about_message: Whether it was addressed to one message, so that 404 means that this is gone.
        roles: The roles in our token, if known: they tell a missing permission from a mailbox that is
            out of the scope the administrator gave us.
        needs: The permission that such a request needs.
        scoped: Whether the administrator gave us some mailboxes in Exchange, which no token tells.
    """
    said = f"Graph answered {fault.status} {fault.code}".rstrip() + f" while {what}"
    if fault.status == 410 or fault.has("SyncStateNotFound", "SyncStateInvalid", "resyncRequired"):
        return CursorExpired(f"{said}: the changes since then are no longer known.")
    if fault.has(
        "MailboxNotEnabledForRESTAPI",
        "MailboxNotSupportedForRESTAPI",
        "ErrorNonExistentMailbox",
        "ErrorInvalidUser",
        "ErrorMailboxMoveInProgress",
        "ErrorQuotaExceeded",
        "Request_ResourceNotFound",
        "ResourceNotFound",
    ):
        return MailboxUnavailable(f"{said}: this mailbox cannot be used at present.")
    if fault.status == 413 or fault.has("ErrorMessageSizeExceeded", "RequestEntityTooLarge"):
        return TooLarge(f"{said}: too large; nothing was written.", MAX_REQUEST_BYTES)
    if fault.status == 412 or fault.has("ErrorIrresolvableConflict", "ErrorChangeKeyMismatch"):
        return VersionConflict(f"{said}: the message changed meanwhile; nothing was written.")
    if fault.status == 404:
        if about_message:
            return MessageGone(f"{said}: the message no longer exists.")
        return MailboxUnavailable(f"{said}: not found.")
    if fault.status == 401:
        return AccessRevoked(f"{said}: a fresh token of this tenant is not accepted.")
    if fault.status == 403:
        if roles is not None and not roles:
            return AccessRevoked(f"{said}: the tenant's token carries no permission any more.")
        if scoped or (roles is not None and needs in roles):
            return MailboxOutOfScope(
                f"{said}: this mailbox is not among those that the tenant's administrator gave us."
            )
        return PermissionMissing(needs, f"{said}: {needs} is missing.")
    if fault.status >= 500 or fault.status in (408, 409, 423):
        return Unavailable(f"{said}; tried again later.")
    return ConnectorError(f"{said}; nothing was changed.")
