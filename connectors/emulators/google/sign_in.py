"""Sign in with Google: OpenID Connect.

https://developers.google.com/identity/openid-connect/openid-connect (authorization request, ID token claims
with ``hd``), OpenID Connect Core 1.0, PKCE (RFC 7636).
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from connectors.emulators.google.accounts import OAuthClient, User
from connectors.emulators.google.api import error_response
from connectors.emulators.google.errors import ApiError, not_found, unauthenticated
from connectors.emulators.google.pages import page
from connectors.emulators.google.state import GoogleState

_CODE_LIFETIME = 600.0
_SCOPE_URLS = {
    "email": "https://www.googleapis.com/auth/userinfo.email",
    "profile": "https://www.googleapis.com/auth/userinfo.profile",
}
_REQUEST = (
    "client_id",
    "redirect_uri",
    "response_type",
    "scope",
    "state",
    "nonce",
    "code_challenge",
    "code_challenge_method",
    "hd",
    "login_hint",
)


@dataclass(frozen=True, slots=True)
class Code:
    """What an authorization code stands for. ``expires`` is seconds since the epoch."""

    client_id: str
    redirect_uri: str
    user_id: str
    scopes: tuple[str, ...]
    nonce: str
    challenge: str
    challenge_method: str
    expires: float


class Codes:
    """Authorization codes: each can be taken once, within ten minutes."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._codes: dict[str, Code] = {}

    def put(self, code: Code) -> str:
        """Keep a code and give its value."""
        now = self._clock()
        self._codes = {value: kept for value, kept in self._codes.items() if kept.expires > now}
        value = "4/0A" + secrets.token_urlsafe(48)
        self._codes[value] = code
        return value

    def take(self, value: str) -> Code | None:
        """The code, which is gone after that; None where it is unknown, used or expired."""
        code = self._codes.pop(value, None)
        return code if code is not None and code.expires > self._clock() else None


def id_token(
    state: GoogleState, user: User, client_id: str, nonce: str, scopes: Iterable[str], access_token: str
) -> str:
    """A signed ID token. ``hd`` is there for Workspace accounts only."""
    now = int(state.real_time())
    half = hashlib.sha256(access_token.encode("ascii")).digest()[:16]
    claims: dict[str, Any] = {
        "iss": state.issuer,
        "azp": client_id,
        "aud": client_id,
        "sub": user.id,
        "at_hash": base64.urlsafe_b64encode(half).rstrip(b"=").decode("ascii"),
        "iat": now,
        "exp": now + 3_600,
    }
    if nonce:
        claims["nonce"] = nonce
    return state.signing_key.sign_jwt({**claims, **_about(state, user, set(scopes))})


def _about(state: GoogleState, user: User, scopes: set[str]) -> dict[str, Any]:
    about: dict[str, Any] = {}
    if _SCOPE_URLS["email"] in scopes:
        about.update(email=user.email, email_verified=True)
        customer = state.accounts.customers.get(user.customer)
        if customer is not None:
            about["hd"] = customer.domains[0]
    if _SCOPE_URLS["profile"] in scopes:
        about.update(name=user.name, given_name=user.given_name, family_name=user.family_name)
    return about


class SignIn:
    """The pages and documents of the sign-in."""

    def __init__(self, state: GoogleState, codes: Codes) -> None:
        self._state = state
        self._codes = codes

    async def discovery(self, request: Request) -> Response:
        """``/.well-known/openid-configuration`` (OpenID Connect Discovery 1.0)."""
        base = self._state.base_url
        return JSONResponse(
            {
                "issuer": self._state.issuer,
                "authorization_endpoint": f"{base}/o/oauth2/v2/auth",
                "token_endpoint": f"{base}/token",
                "userinfo_endpoint": f"{base}/v1/userinfo",
                "jwks_uri": f"{base}/oauth2/v3/certs",
                "response_types_supported": ["code"],
                "response_modes_supported": ["query"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["RS256"],
                "scopes_supported": ["openid", "email", "profile"],
                "token_endpoint_auth_methods_supported": ["client_secret_post", "client_secret_basic"],
                "claims_supported": [
                    *("aud", "email", "email_verified", "exp", "family_name", "given_name"),
                    *("hd", "iat", "iss", "name", "sub"),
                ],
                "code_challenge_methods_supported": ["plain", "S256"],
                "grant_types_supported": [
                    "authorization_code",
                    "urn:ietf:params:oauth:grant-type:jwt-bearer",
                ],
            }
        )

    async def certs(self, request: Request) -> Response:
        """The public keys as JWKS (RFC 7517), with the caching time that Google's answer carries."""
        keys = {"keys": [self._state.signing_key.public_jwk()]}
        return JSONResponse(keys, headers={"Cache-Control": "public, max-age=21600, must-revalidate"})

    async def certificates(self, request: Request) -> Response:
        """The public keys as X.509 certificates, where older libraries look for them."""
        key = self._state.signing_key
        certificates = {key.key_id: key.certificate("federated-signon.system.gserviceaccount.com")}
        return JSONResponse(certificates, headers={"Cache-Control": "public, max-age=21600"})

    async def account_certificates(self, request: Request) -> Response:
        """The public keys of a service account (``client_x509_cert_url`` of its key file)."""
        with self._state.lock:
            account = self._state.accounts.service_account_of(request.path_params["account"])
            if account is None:
                return error_response(not_found())
            return JSONResponse({key.key_id: key.certificate(account.email) for key in account.keys})

    async def userinfo(self, request: Request) -> Response:
        """Claims about the user of an access token (OpenID Connect Core 1.0, section 5.3)."""
        try:
            with self._state.lock:
                grant = self._state.tokens.check(request.headers.get("authorization"))
                user = self._state.accounts.user(grant.subject or "")
                if user is None or "openid" not in grant.scopes:
                    raise unauthenticated()
                about = {"sub": user.id, **_about(self._state, user, set(grant.scopes))}
        except ApiError as error:
            return error_response(error)
        return JSONResponse(about)

    async def choose(self, request: Request) -> Response:
        """The page on which a person picks who to sign in as."""
        asked = {name: request.query_params.get(name, "") for name in _REQUEST}
        with self._state.lock:
            client, refusal = self._check(asked)
            people = self._people(asked)
        if client is None:
            return refusal
        return page(
            "choose",
            "Choose an account",
            intro="to continue to the application that sent you here",
            people=people,
            hidden=asked,
            action=f"{self._state.base_url}/o/oauth2/v2/auth",
            cancel=True,
        )

    async def chosen(self, request: Request) -> Response:
        """The person picked an account, or cancelled: back to the application."""
        form = {name: str(value) for name, value in (await request.form()).items()}
        asked = {name: form.get(name, "") for name in _REQUEST}
        with self._state.lock:
            client, refusal = self._check(asked)
            if client is None:
                return refusal
            if "cancel" in form:
                return _back(asked, {"error": "access_denied", "state": asked["state"]})
            user = self._state.accounts.user(form.get("user", ""))
            if user is None or user.suspended:
                return page("message", "Sign-in failed", status=403, text="This account is disabled.")
            scopes = tuple(_SCOPE_URLS.get(scope, scope) for scope in asked["scope"].split())
            code = Code(
                client_id=client.client_id,
                redirect_uri=asked["redirect_uri"],
                user_id=user.id,
                scopes=scopes,
                nonce=asked["nonce"],
                challenge=asked["code_challenge"],
                challenge_method=asked["code_challenge_method"] or "plain",
                expires=self._state.clock.timestamp() + _CODE_LIFETIME,
            )
            answer = {
                "state": asked["state"],
                "code": self._codes.put(code),
                "scope": " ".join(scopes),
                "authuser": "0",
                "prompt": "none",
            }
            customer = self._state.accounts.customers.get(user.customer)
            if customer is not None:
                answer["hd"] = customer.domains[0]
        return _back(asked, answer)

    def _people(self, asked: dict[str, str]) -> list[User]:
        """Who is offered. ``hd`` only filters the page: the application has to check the claim itself."""
        users = [u for u in self._state.accounts.users.values() if not u.deleted and not u.suspended]
        domain = asked["hd"].lower()
        customer = self._state.accounts.customer_of_domain(domain) if domain and domain != "*" else None
        if customer is not None:
            users = [user for user in users if user.customer == customer.id]
        elif domain == "*":
            users = [user for user in users if user.customer]
        hinted = asked["login_hint"].lower()
        return sorted(users, key=lambda u: (hinted not in (u.email, u.id), not u.admin, u.email))

    def _check(self, asked: dict[str, str]) -> tuple[OAuthClient | None, Response]:
        """The client, or the page that says what is wrong; nothing is sent to an address not registered."""
        client = self._state.accounts.oauth_clients.get(asked["client_id"])
        if client is None:
            return None, _wrong(401, "Error 401: invalid_client", "The OAuth client was not found.")
        if asked["redirect_uri"] not in client.redirect_uris:
            detail = f"The address {asked['redirect_uri']} is not registered for this client."
            return None, _wrong(400, "Error 400: redirect_uri_mismatch", detail)
        if asked["response_type"] != "code":
            return None, _wrong(400, "Error 400: unsupported_response_type", "Only code is supported.")
        if "openid" not in asked["scope"].split():
            return None, _wrong(400, "Error 400: invalid_scope", "The scope openid is missing.")
        if asked["code_challenge"] and asked["code_challenge_method"] not in ("", "plain", "S256"):
            return None, _wrong(400, "Error 400: invalid_request", "Unknown code_challenge_method.")
        return client, Response()


def _wrong(status: int, error: str, detail: str) -> Response:
    return page("message", "Access blocked", status=status, text=error, detail=detail)


def _back(asked: dict[str, str], answer: dict[str, str]) -> Response:
    joiner = "&" if "?" in asked["redirect_uri"] else "?"
    query = urlencode({name: value for name, value in answer.items() if value})
    return RedirectResponse(asked["redirect_uri"] + joiner + query, 302)
