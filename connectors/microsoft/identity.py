"""Sign-in with Microsoft Entra ID and the administrator's consent.

Sources: OpenID Connect Core 1.0, RFC 7636 (PKCE),
https://learn.microsoft.com/entra/identity-platform/v2-protocols-oidc,
https://learn.microsoft.com/entra/identity-platform/access-tokens#validate-tokens (issuer with the tenant
substituted, issuer of the signing key), https://learn.microsoft.com/entra/identity-platform/v2-admin-consent,
https://learn.microsoft.com/entra/identity-platform/claims-validation (which claims prove something).

``is_admin`` comes from the ``wids`` claim. Entra puts it into id_tokens only where the application registration
has ``"groupMembershipClaims": "DirectoryRole"`` in its manifest
(https://learn.microsoft.com/entra/identity-platform/optional-claims); without it nobody is shown to be an
administrator.

Loads no Microsoft SDK.
"""

from __future__ import annotations

import asyncio
import hmac
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

import httpx
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet, RSAKey
from joserfc.jws import extract_compact

from connectors.base.errors import ConnectorError, MisconfiguredClient, Unavailable
from connectors.base.http import SharedHttp
from connectors.base.types import ConsentAnswer, ConsentInstructions, Provider, SignedIn
from connectors.microsoft.assertion import client_authentication
from connectors.microsoft.config import MicrosoftConfig
from connectors.microsoft.errors import GROUP_MEMBER_READ_ALL, OUR_FAULT_CODES, entra_codes

if TYPE_CHECKING:
    from connectors.base.protocol import IdentityProvider

ADMIN_ROLES = frozenset(
    {
        "62e90394-69f5-4237-9190-012177145e10",  # Global Administrator
        "e8611ab8-c189-46e8-94e1-60213ab1f814",  # Privileged Role Administrator
    }
)
"""Template ids of the roles that may consent to Graph application permissions
(https://learn.microsoft.com/entra/identity/role-based-access-control/permissions-reference)."""

PERSONAL_ACCOUNTS = "9188040d-6c67-4c5b-b112-36a304b66dad"
_ANY_ORGANISATION = "organizations"
_DISCOVERY_SECONDS = 24 * 3600.0
_KEYS_SECONDS = 24 * 3600.0
_KEYS_AGAIN_SECONDS = 60.0
"""Unknown key ids make the keys be read again, at most once a minute."""
_LEEWAY = 120
_MAX_TOKEN = 64_000
_GUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_MAX_ERROR_TEXT = 300


@dataclass(frozen=True, slots=True)
class _Discovery:
    authorize: str
    token: str
    keys: str
    issuer: str


class MicrosoftIdentity:
    """Implements :class:`connectors.base.protocol.IdentityProvider`.

    Args:
        config: Our application registration.
        http: A shared client; an own one otherwise.
        clock: Monotonic seconds, for the caches.
        wall_clock: Seconds since the epoch, for a token's times.
    """

    provider = Provider.MICROSOFT

    def __init__(
        self,
        config: MicrosoftConfig,
        *,
        http: SharedHttp | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._config = config
        self._owns_http = http is None
        self._http = http or SharedHttp()
        self._clock = clock
        self._wall_clock = wall_clock
        self._lock = asyncio.Lock()
        self._discovery: _Discovery | None = None
        self._discovered_at = 0.0
        self._keys: list[dict[str, Any]] = []
        self._keys_at = 0.0

    async def sign_in_url(self, redirect_uri: str, state: str, nonce: str, code_challenge: str) -> str:
        """Address of the sign-in page for work accounts of any organisation, with an S256 challenge.

        Raises:
            ConnectorError: The sign-in service's metadata cannot be read.
        """
        discovery = await self._discover()
        query = {
            "client_id": self._config.client_id,
            "response_type": "code",
            "redirect_uri": redirect_uri,
            "response_mode": "query",
            "scope": "openid profile email",
            "state": state,
            "nonce": nonce,
            "code_challenge": code_challenge,
            "code_challenge_method": "S256",
            "prompt": "select_account",
        }
        return f"{discovery.authorize}?{urlencode(query)}"

    async def finish_sign_in(self, code: str, redirect_uri: str, code_verifier: str, nonce: str) -> SignedIn:
        """Exchange the code and validate the id_token.

        Raises:
            MisconfiguredClient: Our own credential or redirect address is wrong.
            ConnectorError: The code or the token is not valid, or the service did not answer.
        """
        discovery = await self._discover()
        form = {
            "grant_type": "authorization_code",
            "client_id": self._config.client_id,
            "code": code,
            "redirect_uri": redirect_uri,
            "code_verifier": code_verifier,
            "scope": "openid profile email",
            **client_authentication(self._config, discovery.token),
        }
        # A code can be used once, so the request is sent once.
        response = await self._http.send(
            httpx.Request("POST", discovery.token, data=form),
            mailbox="sign-in",
            read=False,
            what="finishing a sign-in",
        )
        if response.status_code != 200:
            raise _refused_code(response.text)
        try:
            token = response.json()["id_token"]
        except (ValueError, KeyError, TypeError) as error:
            raise ConnectorError("The sign-in service answered without an id_token.") from error
        if not isinstance(token, str) or len(token) > _MAX_TOKEN:
            raise ConnectorError("The sign-in service's id_token is not a token.")
        return _person(await self._validate(token, nonce))

    def consent(self, external_tenant: str, redirect_uri: str, state: str) -> ConsentInstructions:
        """The admin consent page of one tenant.

        Args:
            external_tenant: ``tid`` of the validated sign-in; never what a browser sent.
            redirect_uri: Registered with the application.
            state: Single-use, bound to the session.

        Raises:
            ValueError: The tenant is not a GUID.
        """
        if not _GUID.fullmatch(external_tenant.lower()) or external_tenant.lower() == PERSONAL_ACCOUNTS:
            raise ValueError("The tenant is not the id of an organisation.")
        query = {
            "client_id": self._config.client_id,
            "scope": self._config.graph_scope,
            "redirect_uri": redirect_uri,
            "state": state,
        }
        return ConsentInstructions(
            url=f"{self._config.authority}/{external_tenant.lower()}/v2.0/adminconsent?{urlencode(query)}",
            returns=True,
            client_id=self._config.client_id,
            scopes=self._config.consent_permissions,
            group_scopes=(GROUP_MEMBER_READ_ALL,),
        )

    def read_consent(self, query: Mapping[str, str]) -> ConsentAnswer:
        """Read the consent page's answer; an error answer carries ``admin_consent=True`` too.

        The tenant in it proves nothing: compare it with the session's.
        """
        tenant = query.get("tenant", "").lower()
        tenant = tenant if _GUID.fullmatch(tenant) else ""
        if "error" in query:
            said = f"{query['error']}: {query.get('error_description', '')}".rstrip(": ")
            return ConsentAnswer(False, tenant, _printable(said) or "error")
        if query.get("admin_consent", "").lower() != "true":
            return ConsentAnswer(False, tenant, "The answer does not say that consent was given.")
        if not tenant:
            return ConsentAnswer(False, "", "The answer names no tenant.")
        return ConsentAnswer(True, tenant)

    async def aclose(self) -> None:
        """Close the connections, unless the client is shared."""
        if self._owns_http:
            await self._http.aclose()

    async def _discover(self) -> _Discovery:
        async with self._lock:
            if self._discovery and self._clock() - self._discovered_at < _DISCOVERY_SECONDS:
                return self._discovery
            url = f"{self._config.authority}/{_ANY_ORGANISATION}/v2.0/.well-known/openid-configuration"
            document = await self._get_json(url, "reading the sign-in service's metadata")
            names = ("authorization_endpoint", "token_endpoint", "jwks_uri", "issuer")
            values = [document.get(name) for name in names]
            for value in values:
                if not isinstance(value, str) or not self._is_ours(value):
                    raise ConnectorError(
                        "The sign-in service's metadata names an address that is not below the authority."
                    )
            self._discovery = _Discovery(*map(str, values))
            self._discovered_at = self._clock()
            return self._discovery

    def _is_ours(self, url: str) -> bool:
        """Same scheme, host and port as the authority: a client secret goes there."""
        given, own = urlsplit(url), urlsplit(self._config.authority)
        return (given.scheme, given.netloc) == (own.scheme, own.netloc)

    async def _get_json(self, url: str, what: str) -> dict[str, Any]:
        response = await self._http.send(httpx.Request("GET", url), mailbox="sign-in", read=True, what=what)
        if response.status_code != 200:
            raise Unavailable(f"The sign-in service answered {response.status_code} while {what}.")
        try:
            document = response.json()
        except ValueError as error:
            raise Unavailable(f"The sign-in service's answer while {what} is not JSON.") from error
        if not isinstance(document, dict):
            raise Unavailable(f"The sign-in service's answer while {what} is not an object.")
        return document

    async def _key(self, key_id: str) -> dict[str, Any]:
        """The signing key with this id; the keys are read again where it is unknown."""
        discovery = await self._discover()
        async with self._lock:
            age = self._clock() - self._keys_at
            found = next((key for key in self._keys if key.get("kid") == key_id), None)
            if not self._keys or age > _KEYS_SECONDS or (found is None and age > _KEYS_AGAIN_SECONDS):
                document = await self._get_json(discovery.keys, "reading the sign-in service's keys")
                keys = document.get("keys")
                self._keys = [key for key in keys if isinstance(key, dict)] if isinstance(keys, list) else []
                self._keys_at = self._clock()
                found = next((key for key in self._keys if key.get("kid") == key_id), None)
        if found is None:
            raise ConnectorError("The id_token is signed with a key that the sign-in service does not publish.")
        return found

    async def _validate(self, token: str, nonce: str) -> dict[str, Any]:
        discovery = await self._discover()
        try:
            key_id = extract_compact(token.encode()).headers().get("kid")
            if not isinstance(key_id, str):
                raise ConnectorError("The id_token names no key.")
            key = await self._key(key_id)
            material = {name: value for name, value in key.items() if name in ("kty", "n", "e", "kid")}
            claims = jwt.decode(token, KeySet([RSAKey.import_key(material)]), algorithms=["RS256"]).claims
            tenant = str(claims.get("tid", "")).lower()
            if not _GUID.fullmatch(tenant):
                raise ConnectorError("The id_token names no tenant.")
            issuer = discovery.issuer.replace("{tenantid}", tenant)
            key_issuer = str(key.get("issuer") or discovery.issuer).replace("{tenantid}", tenant)
            if key_issuer != issuer:
                raise ConnectorError("The id_token is signed with a key of another issuer.")
            jwt.JWTClaimsRegistry(
                now=int(self._wall_clock()),
                leeway=_LEEWAY,
                iss={"essential": True, "value": issuer},
                aud={"essential": True, "value": self._config.client_id},
                exp={"essential": True},
                iat={"essential": True},
                nonce={"essential": True},
                oid={"essential": True},
            ).validate(claims)
        except (JoseError, ValueError, TypeError) as error:
            raise ConnectorError(f"The id_token is not valid: {type(error).__name__}.") from error
        if not nonce or not hmac.compare_digest(str(claims["nonce"]).encode(), nonce.encode()):
            raise ConnectorError("The id_token was not issued for this sign-in (nonce).")
        return claims


def _person(claims: dict[str, Any]) -> SignedIn:
    """Who signed in. ``oid`` identifies; names and addresses are for display.

    ``email`` can be set to any address in a tenant somebody else controls, so that it is taken only where
    Entra says that its domain owner is verified (``xms_edov``).
    """
    tenant = str(claims["tid"]).lower()
    user_name = claims.get("preferred_username")
    email = user_name if isinstance(user_name, str) and "@" in user_name else ""
    if not email and claims.get("xms_edov") in (True, "1", 1, "true") and isinstance(claims.get("email"), str):
        email = claims["email"]
    roles = claims.get("wids")
    name = claims.get("name")
    return SignedIn(
        provider=Provider.MICROSOFT,
        external_tenant="" if tenant == PERSONAL_ACCOUNTS else tenant,
        subject=str(claims["oid"]),
        email=email.lower(),
        name=name if isinstance(name, str) else "",
        is_admin=bool(ADMIN_ROLES.intersection(map(str, roles))) if isinstance(roles, list) else None,
    )


def _refused_code(text: str) -> ConnectorError:
    codes = entra_codes(text)
    for code in codes:
        if code in OUR_FAULT_CODES:
            return MisconfiguredClient(f"Sign-in failed: {OUR_FAULT_CODES[code]} (AADSTS{code}).")
    named = ", ".join(f"AADSTS{code}" for code in codes) or "no code given"
    return ConnectorError(f"The sign-in could not be finished ({named}); start it again.")


def _printable(text: str) -> str:
    """Text of a query string, fit for a page or a log: no control characters, cut."""
    return "".join(char if char.isprintable() else " " for char in text)[:_MAX_ERROR_TEXT].strip()


if TYPE_CHECKING:

    def _implements(made: MicrosoftIdentity) -> IdentityProvider:
        return made
