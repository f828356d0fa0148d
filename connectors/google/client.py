"""One call of a Google API on behalf of one person: quota, token, sending, reading the answer."""

from __future__ import annotations

from typing import Any, Final

import httpx

from connectors.base.errors import (
    AccessRevoked,
    ConnectorError,
    MailboxUnavailable,
    PermissionMissing,
    TooLarge,
    Transient,
    Unavailable,
)
from connectors.base.http import SharedHttp
from connectors.base.types import Mailbox
from connectors.google import errors, sdk
from connectors.google.config import SCOPE_PUBSUB, SCOPE_USERS, GoogleConfig
from connectors.google.quotas import Pacer
from connectors.google.tokens import TokenSource, works

_ONE_REQUEST: Final = 5 * 1024 * 1024


class GoogleClient:
    """Sends what the SDK builds. The only thing in this package that talks to a tenant's API.

    Args:
        config: Addresses and scopes.
        tenant: The customer's domain; part of every gate's key.
        admin_address: The administrator for whom the Directory answers; empty where not known yet.
        customer: The customer's id that the tenant is bound to; empty while it is being connected.
        http: The shared client.
        tokens: Gives access tokens.
        pacer: Keeps mailboxes under their quota.
    """

    def __init__(
        self,
        config: GoogleConfig,
        tenant: str,
        admin_address: str,
        http: SharedHttp,
        tokens: TokenSource,
        pacer: Pacer,
        customer: str = "",
    ) -> None:
        self.config = config
        self.tenant = tenant
        self.admin_address = admin_address
        self.customer = customer
        self.tokens = tokens
        self.gmail = sdk.gmail(config.gmail_base)
        self._http = http
        self._pacer = pacer

    async def mail(self, mailbox: Mailbox, request: Any, what: str, *, read: bool = True) -> dict[str, Any]:
        """Send a Gmail request as the mailbox's owner.

        Args:
            mailbox: Whose mailbox.
            request: Built by the SDK.
            what: In words for an administrator, e.g. ``"reading a message"``.
            read: Whether sending it twice does no harm.

        Raises:
            ConnectorError: See :mod:`connectors.google.errors`.
        """
        key = self._gate(mailbox.address)
        await self._pacer.spend(key, request.methodId)
        return await self._call(request, mailbox.address, self.config.mail_scopes, key, what, read)

    async def upload(self, mailbox: Mailbox, request: Any, media: bytes, what: str) -> dict[str, Any]:
        """Send a request that carries a message. The message is sent once: it writes.

        Up to 5 MB go in one request; larger ones into an upload session, as Google recommends.
        """
        if len(media) > errors.MAX_MESSAGE_BYTES:
            raise TooLarge("The message is larger than Gmail takes.", errors.MAX_MESSAGE_BYTES)
        base = self.config.gmail_base
        if len(media) <= _ONE_REQUEST:
            return await self.mail(mailbox, sdk.with_media(request, base, media), what, read=False)
        key, scopes = self._gate(mailbox.address), self.config.mail_scopes
        await self._pacer.spend(key, request.methodId)
        start = sdk.as_session_start(request, base, len(media))
        # A session that is begun twice has no effect; only the upload into one writes.
        begun = await self._exchange(start, mailbox.address, scopes, key, what, True)
        put = sdk.session_upload(request, base, begun.headers.get("location", ""), media)
        return await self._call(put, mailbox.address, scopes, key, what, False)

    async def directory(
        self, request: Any, what: str, *, subject: str = "", scope: str = SCOPE_USERS
    ) -> dict[str, Any]:
        """Send a Directory request as the administrator, or as ``subject``."""
        who = subject or self.admin_address
        if not who:
            raise PermissionMissing(scope, "No administrator has signed in for this organisation yet.")
        return await self._call(request, who, (scope,), self._gate("directory"), what, True)

    async def pubsub(self, request: Any, what: str) -> dict[str, Any]:
        """Send a Pub/Sub request as the service account itself."""
        return await self._call(request, "", (SCOPE_PUBSUB,), "google-pubsub", what, True)

    def _gate(self, name: str) -> str:
        return f"google:{self.tenant}:{name}"

    async def _call(
        self, request: Any, subject: str, scopes: tuple[str, ...], gate: str, what: str, read: bool
    ) -> dict[str, Any]:
        return sdk.decode(request, await self._exchange(request, subject, scopes, gate, what, read))

    async def _exchange(
        self, request: Any, subject: str, scopes: tuple[str, ...], gate: str, what: str, read: bool
    ) -> httpx.Response:
        for attempt in (1, 2):
            try:
                token = await self.tokens.get(subject, scopes)
            except errors.UnauthorizedClient as error:
                raise await self.explain_refusal(subject, scopes) from error
            response = await self._http.send(
                sdk.to_send(request, token),
                mailbox=gate,
                read=read,
                what=what,
                throttle=errors.throttle_seconds,
            )
            if response.status_code < 300:
                return response
            if response.status_code == 401 and attempt == 1:
                # Refused before anything was done, so even a write may be sent again with a new token.
                self.tokens.forget(subject, scopes)
                continue
            raise errors.api_error(response, what, scopes[0])
        raise Unavailable(f"Google did not take a fresh access token while {what}.")

    async def explain_refusal(self, subject: str, scopes: tuple[str, ...]) -> ConnectorError:
        """What ``unauthorized_client`` means: a foreign account, a scope that is not listed, or all is gone.

        The token endpoint says the same for all three. What the administrator may still do tells them apart;
        where that cannot be found out now, nothing is concluded.
        """
        admin = self.admin_address
        if admin and subject != admin:
            problem = await works(self.tokens, admin, scopes)
            if problem is None:
                return MailboxUnavailable("This account is not covered by the organisation's delegation.")
            if isinstance(problem, Transient):
                return problem
        for other in (scope for scope in self.config.scopes if scope not in scopes):
            problem = await works(self.tokens, admin or subject, (other,))
            if isinstance(problem, Transient):
                return problem
            if not isinstance(problem, errors.UnauthorizedClient):
                return PermissionMissing(
                    scopes[0], f"The domain-wide delegation does not include the scope {scopes[0]}."
                )
        return AccessRevoked(
            "The organisation's domain-wide delegation to our service account does not exist (any more)."
        )
