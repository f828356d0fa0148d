"""The OAuth 2.0 token endpoint.

* Service accounts: https://developers.google.com/identity/protocols/oauth2/service-account (JWT bearer grant,
  RFC 7523; error codes)
* Domain-wide delegation: https://support.google.com/a/answer/162106
* Web applications: https://developers.google.com/identity/protocols/oauth2/web-server (authorization code)
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote_plus

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from connectors.emulators.google.accounts import OAuthClient, ServiceAccount
from connectors.emulators.google.sign_in import Codes, id_token
from connectors.emulators.google.state import GoogleState

JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
GOOGLE_AUDIENCES = ("https://oauth2.googleapis.com/token", "https://www.googleapis.com/oauth2/v4/token")
"""Audiences that Google's libraries put into an assertion whatever token address they use."""

_SKEW = 300.0
_LONGEST = 3_600.0


class OAuthError(Exception):
    """An error answer by RFC 6749, section 5.2."""

    def __init__(self, error: str, description: str, status: int = 400) -> None:
        super().__init__(description)
        self.error = error
        self.description = description
        self.status = status


class TokenEndpoint:
    """``POST /token``."""

    def __init__(self, state: GoogleState, codes: Codes) -> None:
        self._state = state
        self._codes = codes

    async def token(self, request: Request) -> Response:
        """Answer one token request."""
        form = {name: str(value) for name, value in (await request.form()).items()}
        try:
            with self._state.lock:
                answer = self._grant(form, request.headers.get("authorization"))
        except OAuthError as error:
            body = {"error": error.error, "error_description": error.description}
            return JSONResponse(body, error.status, headers={"Cache-Control": "no-store"})
        return JSONResponse(answer, headers={"Cache-Control": "no-store"})

    def _grant(self, form: Mapping[str, str], authorization: str | None) -> dict[str, Any]:
        kind = form.get("grant_type")
        if kind == JWT_BEARER:
            return self._assertion(form.get("assertion", ""))
        if kind == "authorization_code":
            return self._code(form, authorization)
        raise OAuthError("unsupported_grant_type", f"Invalid grant_type: {kind}")

    # Service accounts

    def _assertion(self, assertion: str) -> dict[str, Any]:
        account, claims = self._read(assertion)
        wanted = str(claims.get("scope") or "").replace(",", " ").split()
        target = str(claims.get("target_audience") or "")
        if not wanted and not target:
            raise OAuthError("invalid_scope", "Invalid OAuth scope or ID token audience provided.")
        subject = str(claims.get("sub") or "")
        if subject in ("", account.email):
            return self._answer(account, None, wanted)
        user = self._state.accounts.user(subject)
        if user is None:
            raise OAuthError("invalid_grant", "Invalid email or User ID")
        customer = self._state.accounts.customers.get(user.customer)
        line = customer.delegations.get(account.client_id) if customer else None
        effective = (
            line is not None and line.since + self._state.behaviour.delegation_delay <= self._state.clock.timestamp()
        )
        # One scope that is not listed fails the whole request.
        if line is None or not effective or not set(wanted) <= set(line.scopes):
            raise OAuthError(
                "unauthorized_client",
                "Client is unauthorized to retrieve access tokens using this method, or client not "
                "authorized for any of the scopes requested.",
                401,
            )
        return self._answer(account, user.email, wanted)

    def _read(self, assertion: str) -> tuple[ServiceAccount, Mapping[str, Any]]:
        for account in self._state.accounts.service_accounts.values():
            for key in account.keys:
                claims = key.read_jwt(assertion)
                if claims is not None:
                    if claims.get("iss") not in (account.email, account.client_id):
                        raise OAuthError("invalid_grant", "Invalid grant: account not found")
                    self._check_times(claims)
                    return account, claims
        raise OAuthError("invalid_grant", "Invalid JWT Signature.")

    def _check_times(self, claims: Mapping[str, Any]) -> None:
        now = self._state.real_time()
        try:
            issued, expires = float(claims["iat"]), float(claims["exp"])
        except (KeyError, TypeError, ValueError):
            raise OAuthError("invalid_grant", "Invalid JWT: iat and exp are needed.") from None
        if issued > now + _SKEW or expires < now - _SKEW or expires - issued > _LONGEST + _SKEW:
            raise OAuthError(
                "invalid_grant",
                "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. "
                "Check your iat and exp values in the JWT claim.",
            )
        if claims.get("aud") not in (*GOOGLE_AUDIENCES, f"{self._state.base_url}/token"):
            raise OAuthError("invalid_grant", "Invalid JWT: Failed audience check.")

    def _answer(self, account: ServiceAccount, subject: str | None, wanted: list[str]) -> dict[str, Any]:
        lifetime = self._state.behaviour.token_lifetime
        token = self._state.tokens.issue(
            subject=subject,
            client=account.client_id,
            service_account=account.email,
            project=account.project,
            scopes=wanted,
            lifetime=lifetime,
        )
        return {"access_token": token, "expires_in": int(lifetime), "token_type": "Bearer"}

    # Web applications

    def _code(self, form: Mapping[str, str], authorization: str | None) -> dict[str, Any]:
        client = self._client(form, authorization)
        code = self._codes.take(form.get("code", ""))
        if code is None or code.client_id != client.client_id:
            raise OAuthError("invalid_grant", "Malformed auth code.")
        if form.get("redirect_uri") != code.redirect_uri:
            raise OAuthError("redirect_uri_mismatch", "Bad Request")
        if not _verifies(code.challenge, code.challenge_method, form.get("code_verifier")):
            raise OAuthError("invalid_grant", "Invalid code verifier.")
        user = self._state.accounts.user(code.user_id)
        if user is None or user.suspended:
            raise OAuthError("invalid_grant", "Account has been disabled.")
        lifetime = self._state.behaviour.token_lifetime
        token = self._state.tokens.issue(
            subject=user.email,
            client=client.client_id,
            service_account="",
            project=client.client_id.partition("-")[0],
            scopes=code.scopes,
            lifetime=lifetime,
        )
        return {
            "access_token": token,
            "expires_in": int(lifetime),
            "scope": " ".join(code.scopes),
            "token_type": "Bearer",
            "id_token": id_token(self._state, user, client.client_id, code.nonce, code.scopes, token),
        }

    def _client(self, form: Mapping[str, str], authorization: str | None) -> OAuthClient:
        client_id, secret = form.get("client_id", ""), form.get("client_secret", "")
        scheme, _, value = (authorization or "").partition(" ")
        if scheme.lower() == "basic":
            try:
                pair = base64.b64decode(value, validate=True).decode("utf-8")
            except ValueError:
                raise OAuthError("invalid_client", "The OAuth client was not found.", 401) from None
            client_id, _, secret = (unquote_plus(part) for part in pair.partition(":"))
        client = self._state.accounts.oauth_clients.get(client_id)
        if client is None:
            raise OAuthError("invalid_client", "The OAuth client was not found.", 401)
        if not hmac.compare_digest(client.secret.encode(), secret.encode()):
            raise OAuthError("invalid_client", "Unauthorized", 401)
        return client


def _verifies(challenge: str, method: str, verifier: str | None) -> bool:
    """PKCE (RFC 7636, section 4.6)."""
    if not challenge:
        return not verifier
    if not verifier:
        return False
    if method == "plain":
        return hmac.compare_digest(challenge.encode(), verifier.encode())
    digest = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=")
    return hmac.compare_digest(challenge.encode(), digest)
