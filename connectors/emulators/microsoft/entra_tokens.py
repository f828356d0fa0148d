"""The token endpoint: authorization codes of people, and client credentials of applications.

Documents: "OAuth 2.0 client credentials flow"
(https://learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow), "OAuth 2.0 authorization code
flow" (.../v2-oauth2-auth-code-flow), "Certificate credentials" (.../certificate-credentials).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from connectors.emulators.microsoft.assertions import check_assertion
from connectors.emulators.microsoft.entra_authority import MANY, Authority, EntraError, error_json
from connectors.emulators.microsoft.model import Application, Tenant
from connectors.emulators.microsoft.tokens import TOKEN_SECONDS, TokenRefused, secret_matches

JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


class TokenEndpoint:
    """Exchanges codes and credentials for tokens."""

    def __init__(self, authority: Authority) -> None:
        self._at = authority

    async def token(self, request: Request) -> Response:
        """One token request."""
        form = await request.form()
        values = {key: str(value) for key, value in form.items()}
        try:
            _read_basic(request, values)
            match values.get("grant_type"):
                case "client_credentials":
                    body = self._client_credentials(request.path_params["tenant"], values)
                case "authorization_code":
                    body = self._authorization_code(request.path_params["tenant"], values)
                case other:
                    raise EntraError("unsupported_grant_type", 70003, f"The grant type {other!r} is not supported.")
        except EntraError as error:
            return error_json(error)
        return JSONResponse(body, headers={"Cache-Control": "no-store"})

    def _client_credentials(self, tenant_name: str, values: dict[str, str]) -> dict[str, object]:
        tenant = self._at.tenant(tenant_name)
        application = self._authenticate(tenant_name, values)
        if not values.get("scope", "").endswith("/.default"):
            raise EntraError("invalid_scope", 1002012, "The provided value for scope is not valid: use '/.default'.")
        with self._at.state.lock:
            grant = tenant.grants.get(application.client_id)
            if grant is None:
                raise _no_service_principal(self._at.state.switches.revoked_error, application, tenant)
            if not grant.enabled:
                raise EntraError("unauthorized_client", 7000112, f"Application '{application.client_id}' is disabled.")
            token = self._at.tokens.app_token(tenant, application, grant.roles)
        return {
            "token_type": "Bearer",
            "expires_in": TOKEN_SECONDS,
            "ext_expires_in": TOKEN_SECONDS,
            "access_token": token,
        }

    def _authorization_code(self, tenant_name: str, values: dict[str, str]) -> dict[str, object]:
        application = self._authenticate(tenant_name, values)
        # Single use: taken out before anything is checked (RFC 6749, 4.1.2).
        code = self._at.codes.pop(values.get("code", ""), None)
        if code is None:
            raise EntraError("invalid_grant", 54005, "The authorization code was redeemed already or is unknown.")
        if code.expires_at <= self._at.state.clock.timestamp():
            raise EntraError("invalid_grant", 70008, "The authorization code has expired.")
        if code.client_id != application.client_id or code.redirect_uri != values.get("redirect_uri"):
            raise EntraError("invalid_grant", 50011, "The redirect URI or client is not the one of the request.")
        digest = hashlib.sha256(values.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        if not hmac.compare_digest(challenge, code.challenge):
            raise EntraError("invalid_grant", 501481, "The code_verifier does not match the code_challenge.")
        person = self._at.state.people[code.person_id]
        if tenant_name not in MANY and self._at.tenant(tenant_name).id != person.tenant_id:
            raise EntraError("invalid_grant", 700005, "The code is intended to be used against another tenant.")
        issuer = self._at.issuer(person.tenant_id)
        return {
            "token_type": "Bearer",
            "scope": "openid profile email",
            "expires_in": TOKEN_SECONDS,
            "ext_expires_in": TOKEN_SECONDS,
            "access_token": self._at.tokens.user_token(person.tenant_id, person, application.client_id),
            "id_token": self._at.tokens.id_token(issuer, person, application.client_id, code.nonce),
        }

    def _authenticate(self, tenant_name: str, values: dict[str, str]) -> Application:
        """The application, proved by a secret or by an assertion."""
        application = self._at.application(values.get("client_id", ""))
        if "client_assertion" in values:
            if values.get("client_assertion_type") != JWT_BEARER:
                raise EntraError("invalid_request", 50027, "The client_assertion_type is not supported.")
            at = f"{self._at.base}/{tenant_name}"
            audiences = (f"{at}/oauth2/v2.0/token", f"{at}/v2.0")
            try:
                check_assertion(values["client_assertion"], application, audiences)
            except TokenRefused as refused:
                number = re.search(r"AADSTS(\d+): (.*)", str(refused))
                raise EntraError(
                    "invalid_client", int(number[1]) if number else 700027, number[2] if number else str(refused), 401
                ) from refused
        elif not secret_matches(application, values.get("client_secret", "")):
            raise EntraError(
                "invalid_client",
                7000215,
                f"Invalid client secret provided. Ensure the secret being sent in the request is the client secret "
                f"value, not the client secret ID, for a secret added to app '{application.client_id}'.",
                401,
            )
        return application


def _no_service_principal(number: int, application: Application, tenant: Tenant) -> EntraError:
    texts = {
        7000229: (
            f"The client application {application.client_id} is missing service principal in the tenant {tenant.id}."
        ),
        700016: (
            f"Application with identifier '{application.client_id}' was not found in the directory '{tenant.name}'."
        ),
        65001: f"The administrator has not consented to use the application with ID '{application.client_id}'.",
        500011: "The resource principal named https://graph.microsoft.com was not found in the tenant.",
        90002: f"Tenant '{tenant.id}' not found.",
    }
    error = {65001: "invalid_grant", 500011: "invalid_resource", 90002: "invalid_request"}
    return EntraError(error.get(number, "unauthorized_client"), number, texts.get(number, "Access is not granted."))


def _read_basic(request: Request, values: dict[str, str]) -> None:
    """Client authentication in the Authorization header (RFC 6749, 2.3.1)."""
    scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return
    try:
        client_id, _, secret = base64.b64decode(encoded, validate=True).decode().partition(":")
    except ValueError as error:
        raise EntraError("invalid_client", 7000216, "The Authorization header cannot be read.", 401) from error
    values.setdefault("client_id", client_id)
    values.setdefault("client_secret", secret)
