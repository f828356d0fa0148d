"""Entra ID: OpenID Connect sign-in, admin consent and the client credentials grant.

Documents: "OpenID Connect on the Microsoft identity platform"
(https://learn.microsoft.com/entra/identity-platform/v2-protocols-oidc), "OAuth 2.0 authorization code flow"
(.../v2-oauth2-auth-code-flow), "OAuth 2.0 client credentials flow" (.../v2-oauth2-client-creds-grant-flow),
"Admin consent on the Microsoft identity platform" (.../v2-admin-consent), "Microsoft Entra authentication and
authorization error codes" (.../reference-error-codes).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.datastructures import FormData, QueryParams
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from connectors.emulators.common.notify import is_loopback
from connectors.emulators.microsoft.model import Application, Person, Tenant
from connectors.emulators.microsoft.state import MicrosoftState
from connectors.emulators.microsoft.tokens import TOKEN_SECONDS, TokenRefused, Tokens, secret_matches

CODE_SECONDS = 600
SESSION_COOKIE = "emulated_entra_session"
JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
MANY = ("common", "organizations")
"""Tenant names in addresses that stand for any organisation."""

_templates = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"), autoescape=True, undefined=StrictUndefined
)
_CSP = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'; img-src 'self' data:"


class EntraError(Exception):
    """An OAuth error with its AADSTS number.

    Args:
        error: OAuth 2.0 error code, e.g. ``invalid_client``.
        number: AADSTS number.
        text: Description without the number.
        status: HTTP status at the token endpoint.
    """

    def __init__(self, error: str, number: int, text: str, status: int = 400) -> None:
        super().__init__(f"AADSTS{number}: {text}")
        self.error = error
        self.number = number
        self.status = status


@dataclass(slots=True)
class _Code:
    client_id: str
    redirect_uri: str
    challenge: str
    nonce: str
    person_id: str
    scope: str
    expires_at: float


class Entra:
    """The authority. ``base`` is its address, e.g. ``http://127.0.0.1:8090/entra``."""

    def __init__(self, state: MicrosoftState, tokens: Tokens, base: str = "") -> None:
        self.base = base
        self._state = state
        self._tokens = tokens
        self._codes: dict[str, _Code] = {}
        self._sessions: dict[str, str] = {}

    def app(self) -> Starlette:
        """The ASGI app, to be mounted at the authority's address."""
        return Starlette(
            routes=[
                Route("/{tenant}/v2.0/.well-known/openid-configuration", self._discovery),
                Route("/{tenant}/discovery/v2.0/keys", self._keys),
                Route("/{tenant}/oauth2/v2.0/authorize", self._authorize, methods=["GET", "POST"]),
                Route("/{tenant}/oauth2/v2.0/token", self._token, methods=["POST"]),
                Route("/{tenant}/oauth2/v2.0/logout", self._logout),
                Route("/{tenant}/v2.0/adminconsent", self._admin_consent, methods=["GET", "POST"]),
                Route("/common/discovery/instance", self._instance),
            ]
        )

    def issuer(self, tenant_id: str) -> str:
        """The issuer of a tenant's v2.0 tokens."""
        return f"{self.base}/{tenant_id}/v2.0"

    # --- metadata --------------------------------------------------------------------------------------

    async def _discovery(self, request: Request) -> Response:
        name = request.path_params["tenant"]
        if name in MANY:
            issuer_tenant = "{tenantid}"
        else:
            try:
                issuer_tenant = self._tenant(name).id
            except EntraError as error:
                return _token_error(error)
        at = f"{self.base}/{name}"
        return JSONResponse(
            {
                "token_endpoint": f"{at}/oauth2/v2.0/token",
                "token_endpoint_auth_methods_supported": [
                    "client_secret_post",
                    "private_key_jwt",
                    "client_secret_basic",
                ],
                "jwks_uri": f"{at}/discovery/v2.0/keys",
                "response_modes_supported": ["query", "form_post"],
                "subject_types_supported": ["pairwise"],
                "id_token_signing_alg_values_supported": ["RS256"],
                "response_types_supported": ["code"],
                "scopes_supported": ["openid", "profile", "email", "offline_access"],
                "issuer": self.issuer(issuer_tenant),
                "authorization_endpoint": f"{at}/oauth2/v2.0/authorize",
                "end_session_endpoint": f"{at}/oauth2/v2.0/logout",
                "code_challenge_methods_supported": ["S256"],
                "claims_supported": [
                    "sub",
                    "iss",
                    "aud",
                    "exp",
                    "iat",
                    "nonce",
                    "preferred_username",
                    "name",
                    "tid",
                    "oid",
                    "email",
                    "wids",
                ],
                "tenant_region_scope": "EU",
            }
        )

    async def _keys(self, _: Request) -> Response:
        return JSONResponse(self._tokens.jwks())

    async def _instance(self, request: Request) -> Response:
        """Instance discovery as clients of the identity platform ask for it before they trust an authority."""
        endpoint = f"{self.base}/common/v2.0/.well-known/openid-configuration"
        return JSONResponse({"tenant_discovery_endpoint": endpoint, "api-version": "1.1", "metadata": []})

    # --- sign-in ---------------------------------------------------------------------------------------

    async def _authorize(self, request: Request) -> Response:
        """Authorization endpoint. Asking again with a code challenge is refused unless it is S256 (RFC 7636)."""
        query = request.query_params
        try:
            application = self._application(query.get("client_id", ""))
            redirect_uri = self._redirect_uri(application, query.get("redirect_uri", ""))
            tenant = None if request.path_params["tenant"] in MANY else self._tenant(request.path_params["tenant"])
        except EntraError as error:
            return self._page("entra_error.html", 400, message=str(error))
        refusal = _authorize_refusal(query)
        if refusal is not None:
            return self._answer(query, redirect_uri, {"error": refusal.error, "error_description": str(refusal)})
        people = [
            person
            for person in self._state.people.values()
            if person.enabled and (tenant is None or person.tenant_id == tenant.id)
        ]
        if request.method == "POST":
            form = await request.form()
            if "cancel" in form:
                declined = EntraError("access_denied", 65004, "User declined to consent to access the app.")
                values = {"error": declined.error, "error_description": str(declined)}
                return self._answer(query, redirect_uri, values)
            chosen = next((person for person in people if person.id == form.get("person")), None)
            if chosen is None:
                return self._page("entra_error.html", 400, message="AADSTS50034: The user account does not exist.")
            return self._signed_in(query, redirect_uri, application, chosen)
        return self._page(
            "entra_sign_in.html",
            application=application.name,
            organisation=tenant.name if tenant else "your organisation",
            people=[(person, self._state.tenants[person.tenant_id].name) for person in people],
            purpose="sign in",
        )

    def _signed_in(self, query: QueryParams, redirect_uri: str, application: Application, person: Person) -> Response:
        with self._state.lock:
            # Signing in to a multi-tenant application makes its service principal in the tenant, without app roles.
            if application.client_id not in self._state.tenants[person.tenant_id].grants:
                self._state.grant(person.tenant_id, application.client_id, [])
        code = f"1.{secrets.token_urlsafe(48)}"
        self._codes[code] = _Code(
            client_id=application.client_id,
            redirect_uri=redirect_uri,
            challenge=query["code_challenge"],
            nonce=query["nonce"],
            person_id=person.id,
            scope=query["scope"],
            expires_at=self._state.clock.timestamp() + CODE_SECONDS,
        )
        answer = self._answer(query, redirect_uri, {"code": code, "session_state": secrets.token_hex(16)})
        self._remember(answer, person)
        return answer

    def _remember(self, answer: Response, person: Person) -> None:
        session = secrets.token_urlsafe(32)
        self._sessions[session] = person.id
        answer.set_cookie(SESSION_COOKIE, session, httponly=True, samesite="lax", path="/entra")

    def _answer(self, query: QueryParams, redirect_uri: str, values: dict[str, str]) -> Response:
        if "state" in query:
            values["state"] = query["state"]
        if query.get("response_mode") == "form_post":
            return self._page("entra_form_post.html", target=redirect_uri, values=values)
        separator = "&" if "?" in redirect_uri else "?"
        return RedirectResponse(f"{redirect_uri}{separator}{urlencode(values)}", 302)

    async def _logout(self, request: Request) -> Response:
        self._sessions.pop(request.cookies.get(SESSION_COOKIE, ""), None)
        target = request.query_params.get("post_logout_redirect_uri", "")
        answer: Response
        if target and is_loopback(target):
            answer = RedirectResponse(target, 302)
        else:
            answer = self._page("entra_error.html", message="You signed out of your account.")
        answer.delete_cookie(SESSION_COOKIE, path="/entra")
        return answer

    # --- admin consent ---------------------------------------------------------------------------------

    async def _admin_consent(self, request: Request) -> Response:
        """Admin consent endpoint: an error answer carries ``admin_consent=True`` as a success does."""
        query = request.query_params
        try:
            application = self._application(query.get("client_id", ""))
            redirect_uri = self._redirect_uri(application, query.get("redirect_uri", ""))
            named = None if request.path_params["tenant"] in MANY else self._tenant(request.path_params["tenant"])
        except EntraError as error:
            return self._page("entra_error.html", 400, message=str(error))
        form = await request.form() if request.method == "POST" else FormData()
        session = request.cookies.get(SESSION_COOKIE, "")
        person = self._state.people.get(self._sessions.get(session, ""))
        if person is not None and named is not None and person.tenant_id != named.id:
            person = None
        if "person" in form:
            return self._choose_for_consent(request, named, str(form["person"]))
        if person is None or "other" in form:
            people = [
                person
                for person in self._state.people.values()
                if person.enabled and (named is None or person.tenant_id == named.id)
            ]
            return self._page(
                "entra_sign_in.html",
                application=application.name,
                organisation=named.name if named else "your organisation",
                people=[(person, self._state.tenants[person.tenant_id].name) for person in people],
                purpose="review the permissions",
            )
        tenant = self._state.tenants[person.tenant_id]
        if request.method == "GET":
            return self._page(
                "entra_consent.html",
                application=application,
                tenant=tenant,
                person=person,
                roles=[(role, _ROLE_TEXTS.get(role, "")) for role in application.roles],
                proof=self._proof(session),
            )
        values = {"admin_consent": "True", "tenant": tenant.id}
        if not hmac.compare_digest(str(form.get("proof", "")), self._proof(session)):
            return self._page("entra_error.html", 400, message="AADSTS50196: The request was not made on this page.")
        if "accept" in form and person.is_admin:
            self._state.grant(tenant.id, application.client_id, application.roles)
            values["scope"] = query.get("scope", "")
        elif "accept" in form:
            refusal = EntraError("access_denied", 90094, "An administrator's permission is needed.")
            values |= {"error": refusal.error, "error_description": str(refusal), "error_subcode": "not_admin"}
        else:
            refusal = EntraError("access_denied", 65004, "The resource owner denied the request.")
            values |= {"error": refusal.error, "error_description": str(refusal), "error_subcode": "cancel"}
        if "state" in query:
            values["state"] = query["state"]
        separator = "&" if "?" in redirect_uri else "?"
        return RedirectResponse(f"{redirect_uri}{separator}{urlencode(values)}", 302)

    def _choose_for_consent(self, request: Request, named: Tenant | None, person_id: str) -> Response:
        person = self._state.people.get(person_id)
        if person is None or not person.enabled or (named is not None and person.tenant_id != named.id):
            return self._page("entra_error.html", 400, message="AADSTS50034: The user account does not exist.")
        answer = RedirectResponse(f"{self.base}{_below(request)}?{request.url.query}", 303)
        self._remember(answer, person)
        return answer

    def _proof(self, session: str) -> str:
        return hmac.new(session.encode(), b"consent", hashlib.sha256).hexdigest()

    # --- token endpoint --------------------------------------------------------------------------------

    async def _token(self, request: Request) -> Response:
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
            return _token_error(error)
        return JSONResponse(body, headers={"Cache-Control": "no-store"})

    def _client_credentials(self, tenant_name: str, values: dict[str, str]) -> dict[str, object]:
        tenant = self._tenant(tenant_name)
        application = self._authenticate(tenant_name, values)
        if not values.get("scope", "").endswith("/.default"):
            raise EntraError("invalid_scope", 1002012, "The provided value for scope is not valid: use '/.default'.")
        with self._state.lock:
            grant = tenant.grants.get(application.client_id)
            if grant is None:
                raise _no_service_principal(self._state.switches.revoked_error, application, tenant)
            if not grant.enabled:
                raise EntraError("unauthorized_client", 7000112, f"Application '{application.client_id}' is disabled.")
            token = self._tokens.app_token(tenant, application, grant.roles)
        return {
            "token_type": "Bearer",
            "expires_in": TOKEN_SECONDS,
            "ext_expires_in": TOKEN_SECONDS,
            "access_token": token,
        }

    def _authorization_code(self, tenant_name: str, values: dict[str, str]) -> dict[str, object]:
        application = self._authenticate(tenant_name, values)
        # Single use: taken out before anything is checked (RFC 6749, 4.1.2).
        code = self._codes.pop(values.get("code", ""), None)
        if code is None:
            raise EntraError("invalid_grant", 54005, "The authorization code was redeemed already or is unknown.")
        if code.expires_at <= self._state.clock.timestamp():
            raise EntraError("invalid_grant", 70008, "The authorization code has expired.")
        if code.client_id != application.client_id or code.redirect_uri != values.get("redirect_uri"):
            raise EntraError("invalid_grant", 50011, "The redirect URI or client is not the one of the request.")
        digest = hashlib.sha256(values.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        if not hmac.compare_digest(challenge, code.challenge):
            raise EntraError("invalid_grant", 501481, "The code_verifier does not match the code_challenge.")
        person = self._state.people[code.person_id]
        if tenant_name not in MANY and self._tenant(tenant_name).id != person.tenant_id:
            raise EntraError("invalid_grant", 700005, "The code is intended to be used against another tenant.")
        return {
            "token_type": "Bearer",
            "scope": "openid profile email",
            "expires_in": TOKEN_SECONDS,
            "ext_expires_in": TOKEN_SECONDS,
            "access_token": self._tokens.user_token(person.tenant_id, person, application.client_id),
            "id_token": self._tokens.id_token(self.issuer(person.tenant_id), person, application.client_id, code.nonce),
        }

    def _authenticate(self, tenant_name: str, values: dict[str, str]) -> Application:
        """The application, proved by a secret or by an assertion."""
        application = self._application(values.get("client_id", ""))
        if "client_assertion" in values:
            if values.get("client_assertion_type") != JWT_BEARER:
                raise EntraError("invalid_request", 50027, "The client_assertion_type is not supported.")
            at = f"{self.base}/{tenant_name}"
            audiences = (f"{at}/oauth2/v2.0/token", f"{at}/v2.0")
            try:
                self._tokens.check_assertion(values["client_assertion"], application, audiences)
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

    # --- look-ups --------------------------------------------------------------------------------------

    def _tenant(self, name: str) -> Tenant:
        with self._state.lock:
            for tenant in self._state.tenants.values():
                if name.lower() in (tenant.id, *tenant.domains):
                    return tenant
        raise EntraError("invalid_request", 90002, f"Tenant '{name}' not found.")

    def _application(self, client_id: str) -> Application:
        application = self._state.applications.get(client_id)
        if application is None:
            raise EntraError(
                "unauthorized_client",
                700016,
                f"Application with identifier '{client_id}' was not found in the directory.",
            )
        return application

    def _redirect_uri(self, application: Application, given: str) -> str:
        """Registered addresses exactly; without a registration every loopback address."""
        if given in application.redirect_uris or (not application.redirect_uris and is_loopback(given)):
            return given
        raise EntraError(
            "invalid_request", 50011, f"The redirect URI '{given}' does not match those configured for the application."
        )

    def _page(self, template: str, status: int = 200, **values: object) -> Response:
        return HTMLResponse(
            _templates.get_template(template).render(**values),
            status,
            headers={"Content-Security-Policy": _CSP, "Cache-Control": "no-store", "X-Frame-Options": "DENY"},
        )


_ROLE_TEXTS = {
    "Mail.ReadWrite": "Read and write mail in all mailboxes",
    "Mail.Read": "Read mail in all mailboxes",
    "Mail-Advanced.ReadWrite.All": "Update properties of received mail in all mailboxes",
    "User.Read.All": "Read all users' full profiles",
    "GroupMember.Read.All": "Read all group memberships",
    "Mail.Send": "Send mail as any user",
}


def _authorize_refusal(query: QueryParams) -> EntraError | None:
    if query.get("response_type") != "code":
        return EntraError("unsupported_response_type", 700054, "Only response_type 'code' is enabled.")
    if "openid" not in query.get("scope", "").split():
        return EntraError("invalid_scope", 70011, "The scope must contain 'openid'.")
    if not query.get("nonce"):
        return EntraError("invalid_request", 90014, "The required field 'nonce' is missing.")
    if not query.get("code_challenge") or query.get("code_challenge_method") != "S256":
        return EntraError("invalid_request", 501491, "A code_challenge with code_challenge_method 'S256' is required.")
    return None


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


def _token_error(error: EntraError) -> Response:
    trace, correlation = secrets.token_hex(16), secrets.token_hex(16)
    return JSONResponse(
        {
            "error": error.error,
            "error_description": f"{error} Trace ID: {trace} Correlation ID: {correlation}",
            "error_codes": [error.number],
            "trace_id": trace,
            "correlation_id": correlation,
            "error_uri": f"https://login.microsoftonline.com/error?code={error.number}",
        },
        error.status,
        headers={"Cache-Control": "no-store"},
    )


def _below(request: Request) -> str:
    """The request's path without the mount point."""
    path = str(request.scope["path"])
    root = str(request.scope.get("root_path", ""))
    return path.removeprefix(root)
