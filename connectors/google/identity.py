"""Sign in with Google, and how an organisation grants access to its mailboxes.

OpenID Connect Core 1.0 with PKCE (RFC 7636); Google's side:
https://developers.google.com/identity/openid-connect/openid-connect. Access to mail is not part of the
sign-in: a super administrator enters our client id and scopes in the Admin console (domain-wide delegation),
and nobody is sent back to us from there.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlencode

import httpx

from connectors.base.errors import (
    AccessRevoked,
    ConnectorError,
    MailboxUnavailable,
    MisconfiguredClient,
    PermissionMissing,
    Transient,
    Unavailable,
)
from connectors.base.http import SharedHttp
from connectors.base.types import ConsentAnswer, ConsentInstructions, Provider, SignedIn
from connectors.google import checks, directory
from connectors.google.client import GoogleClient
from connectors.google.config import SCOPE_GROUPS, SCOPE_USERS, GoogleConfig
from connectors.google.jwks import KeyCache, TokenRefused, validate
from connectors.google.quotas import Pacer
from connectors.google.tokens import TokenSource

_DISCOVERY_LIFE = 86_400.0


class GoogleIdentity:
    """Implements :class:`connectors.base.protocol.IdentityProvider`.

    Args:
        config: The OAuth client for sign-in, the service account that is delegated to.
        http: A client to share; it is then the caller's to close.
        now: Seconds since the epoch.
    """

    provider = Provider.GOOGLE

    def __init__(
        self,
        config: GoogleConfig,
        *,
        http: SharedHttp | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._config = config
        self._own_http = http is None
        self._http = http or SharedHttp()
        self._now = now
        self._metadata: dict[str, str] = {}
        self._metadata_until = 0.0
        self._keys: KeyCache | None = None
        self._lock = asyncio.Lock()

    async def sign_in_url(self, redirect_uri: str, state: str, nonce: str, code_challenge: str) -> str:
        """See the protocol.

        Raises:
            Transient: Google's discovery document cannot be had now.
        """
        metadata = await self._discover()
        query = urlencode(
            {
                "client_id": self._config.oidc_client_id,
                "response_type": "code",
                "scope": "openid email profile",
                "redirect_uri": redirect_uri,
                "state": state,
                "nonce": nonce,
                "code_challenge": code_challenge,
                "code_challenge_method": "S256",
                "prompt": "select_account",
            }
        )
        address = metadata["authorization_endpoint"]
        return f"{address}{'&' if '?' in address else '?'}{query}"

    async def finish_sign_in(self, code: str, redirect_uri: str, code_verifier: str, nonce: str) -> SignedIn:
        """See the protocol. ``is_admin`` is known once delegation exists; None until then."""
        id_token = await self._exchange(code, redirect_uri, code_verifier)
        claims = await self._claims(id_token, nonce)
        email = str(claims["email"]).lower()
        hosted_domain = str(claims.get("hd") or "").lower()
        return SignedIn(
            provider=Provider.GOOGLE,
            external_tenant=hosted_domain,
            subject=str(claims["sub"]),
            email=email,
            name=str(claims.get("name") or ""),
            is_admin=await self._is_admin(email) if hosted_domain else None,
        )

    def consent(self, external_tenant: str, redirect_uri: str, state: str) -> ConsentInstructions:
        """What a super administrator enters, and where. Nobody comes back from there."""
        return ConsentInstructions(
            url=checks.delegation_url(self._config),
            returns=False,
            client_id=self._config.service_account.client_id,
            scopes=self._config.scopes,
            group_scopes=(SCOPE_GROUPS,),
        )

    def read_consent(self, query: Mapping[str, str]) -> ConsentAnswer:
        """Google sends no answer; whatever claims to be one grants nothing."""
        error = query.get("error") or "Google sends nobody back from the Admin console."
        return ConsentAnswer(granted=False, external_tenant="", error=error)

    async def aclose(self) -> None:
        """Close connections."""
        if self._own_http:
            await self._http.aclose()

    # ---- OpenID Connect

    async def _discover(self) -> dict[str, str]:
        async with self._lock:
            if not self._metadata or self._now() > self._metadata_until:
                self._metadata = await self._fetch_metadata()
                self._metadata_until = self._now() + _DISCOVERY_LIFE
                self._keys = KeyCache(self._metadata["jwks_uri"], self._http)
            return self._metadata

    async def _fetch_metadata(self) -> dict[str, str]:
        response = await self._http.send(
            httpx.Request("GET", self._config.discovery_url, headers={"accept": "application/json"}),
            mailbox="google-oidc",
            read=True,
            what="reading Google's sign-in settings",
        )
        if response.status_code != 200:
            raise Unavailable(f"Google's sign-in settings: status {response.status_code}.")
        try:
            data = response.json()
            names = ("issuer", "authorization_endpoint", "token_endpoint", "jwks_uri")
            metadata = {name: str(data[name]) for name in names}
        except (ValueError, KeyError, TypeError) as error:
            raise Unavailable("Google's sign-in settings are not readable.") from error
        if metadata["issuer"] != self._config.oidc_issuer:
            # OpenID Connect Discovery 1.0, section 4.3: it must be the issuer that was asked for.
            raise MisconfiguredClient("The sign-in settings are another issuer's; nobody was signed in.")
        return metadata

    async def _exchange(self, code: str, redirect_uri: str, code_verifier: str) -> str:
        metadata = await self._discover()
        body = urlencode(
            {
                "grant_type": "authorization_code",
                "code": code,
                "redirect_uri": redirect_uri,
                "code_verifier": code_verifier,
                "client_id": self._config.oidc_client_id,
                "client_secret": self._config.oidc_client_secret,
            }
        )
        response = await self._http.send(
            httpx.Request(
                "POST",
                metadata["token_endpoint"],
                headers={"content-type": "application/x-www-form-urlencoded", "accept": "application/json"},
                content=body.encode(),
            ),
            mailbox="google-oidc",
            read=False,  # a code is good for one use
            what="finishing a sign-in",
        )
        try:
            answer: Any = json.loads(response.content)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise Unavailable(f"Google's token endpoint answered {response.status_code} without a reason.")
        if response.status_code != 200:
            reason = str(answer.get("error", ""))
            if reason in ("invalid_client", "unauthorized_client", "redirect_uri_mismatch"):
                raise MisconfiguredClient(f"Google refuses our sign-in client ({reason}).")
            raise ConnectorError("Google refused the sign-in code: it is used, expired or not ours.")
        token = answer.get("id_token")
        if not isinstance(token, str):
            raise ConnectorError("Google's answer holds no id_token; nobody was signed in.")
        return token

    async def _claims(self, id_token: str, nonce: str) -> dict[str, Any]:
        issuer = self._config.oidc_issuer
        assert self._keys is not None, "discovered before the code was exchanged"
        try:
            claims = await validate(
                id_token,
                self._keys,
                issuers=(issuer, issuer.removeprefix("https://")),
                audience=self._config.oidc_client_id,
                now=self._now,
            )
        except TokenRefused as error:
            raise ConnectorError(f"The id_token is refused: {error}") from error
        if not nonce or not hmac.compare_digest(str(claims.get("nonce", "")).encode(), nonce.encode()):
            raise ConnectorError("The id_token is refused: it answers another sign-in.")
        if claims.get("azp", self._config.oidc_client_id) != self._config.oidc_client_id:
            raise ConnectorError("The id_token is refused: it was given to another client.")
        if not claims.get("email") or claims.get("email_verified") is not True:
            raise ConnectorError("The id_token is refused: Google has not verified the address.")
        return claims

    # ---- the Directory

    async def _is_admin(self, email: str) -> bool | None:
        client = GoogleClient(
            self._config,
            "sign-in",
            email,
            self._http,
            TokenSource(self._config, self._http),
            Pacer(self._config.units_per_user_minute),
        )
        try:
            return await directory.administers(client, email)
        except PermissionMissing:
            return None if await self._not_delegated(client, email) else False
        except (AccessRevoked, MailboxUnavailable, MisconfiguredClient, Transient):
            return None  # not delegated yet, or not to be had now: it did not say

    async def _not_delegated(self, client: GoogleClient, email: str) -> bool:
        """Whether the Directory's scope is what is missing, rather than the person's role."""
        try:
            await client.tokens.get(email, (SCOPE_USERS,))
        except ConnectorError:
            return True
        return False
