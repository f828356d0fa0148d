"""Sign-in and admin consent: the pages that people see, and what they send back.

Documents: "OAuth 2.0 authorization code flow" (https://learn.microsoft.com/entra/identity-platform/v2-oauth2-auth-code-flow),
"OpenID Connect on the Microsoft identity platform" (.../v2-protocols-oidc), "Admin consent on the Microsoft identity
platform" (.../v2-admin-consent).
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from urllib.parse import urlencode

from starlette.datastructures import FormData, QueryParams
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from connectors.emulators.common.notify import is_loopback
from connectors.emulators.microsoft.entra_authority import MANY, Authority, Code, EntraError
from connectors.emulators.microsoft.model import Application, Person, Tenant

CODE_SECONDS = 600
SESSION_COOKIE = "emulated_entra_session"


class EntraPages:
    """Authorization endpoint, logout and admin consent endpoint."""

    def __init__(self, authority: Authority) -> None:
        self._at = authority

    async def authorize(self, request: Request) -> Response:
        """Authorization endpoint. Asking again with a code challenge is refused unless it is S256 (RFC 7636)."""
        query = request.query_params
        try:
            application = self._at.application(query.get("client_id", ""))
            redirect_uri = self._at.redirect_uri(application, query.get("redirect_uri", ""))
            tenant = None if request.path_params["tenant"] in MANY else self._at.tenant(request.path_params["tenant"])
        except EntraError as error:
            return self._at.page("entra_error.html", 400, message=str(error))
        refusal = _authorize_refusal(query)
        if refusal is not None:
            return self._answer(query, redirect_uri, {"error": refusal.error, "error_description": str(refusal)})
        people = [
            person
            for person in self._at.state.people.values()
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
                return self._at.page("entra_error.html", 400, message="AADSTS50034: The user account does not exist.")
            return self._signed_in(query, redirect_uri, application, chosen)
        return self._at.page(
            "entra_sign_in.html",
            application=application.name,
            organisation=tenant.name if tenant else "your organisation",
            people=[(person, self._at.state.tenants[person.tenant_id].name) for person in people],
            purpose="sign in",
        )

    def _signed_in(self, query: QueryParams, redirect_uri: str, application: Application, person: Person) -> Response:
        with self._at.state.lock:
            # Signing in to a multi-tenant application makes its service principal in the tenant, without app roles.
            if application.client_id not in self._at.state.tenants[person.tenant_id].grants:
                self._at.state.grant(person.tenant_id, application.client_id, [])
        code = f"1.{secrets.token_urlsafe(48)}"
        self._at.codes[code] = Code(
            client_id=application.client_id,
            redirect_uri=redirect_uri,
            challenge=query["code_challenge"],
            nonce=query["nonce"],
            person_id=person.id,
            scope=query["scope"],
            expires_at=self._at.state.clock.timestamp() + CODE_SECONDS,
        )
        answer = self._answer(query, redirect_uri, {"code": code, "session_state": secrets.token_hex(16)})
        self._remember(answer, person)
        return answer

    def _remember(self, answer: Response, person: Person) -> None:
        session = secrets.token_urlsafe(32)
        self._at.sessions[session] = person.id
        answer.set_cookie(SESSION_COOKIE, session, httponly=True, samesite="lax", path="/entra")

    def _answer(self, query: QueryParams, redirect_uri: str, values: dict[str, str]) -> Response:
        if "state" in query:
            values["state"] = query["state"]
        if query.get("response_mode") == "form_post":
            return self._at.page("entra_form_post.html", target=redirect_uri, values=values)
        separator = "&" if "?" in redirect_uri else "?"
        return RedirectResponse(f"{redirect_uri}{separator}{urlencode(values)}", 302)

    async def logout(self, request: Request) -> Response:
        """Forget who was signed in."""
        self._at.sessions.pop(request.cookies.get(SESSION_COOKIE, ""), None)
        target = request.query_params.get("post_logout_redirect_uri", "")
        answer: Response
        if target and is_loopback(target):
            answer = RedirectResponse(target, 302)
        else:
            answer = self._at.page("entra_error.html", message="You signed out of your account.")
        answer.delete_cookie(SESSION_COOKIE, path="/entra")
        return answer

    # --- admin consent ---------------------------------------------------------------------------------

    async def admin_consent(self, request: Request) -> Response:
        """Admin consent endpoint: an error answer carries ``admin_consent=True`` as a success does."""
        query = request.query_params
        try:
            application = self._at.application(query.get("client_id", ""))
            redirect_uri = self._at.redirect_uri(application, query.get("redirect_uri", ""))
            named = None if request.path_params["tenant"] in MANY else self._at.tenant(request.path_params["tenant"])
        except EntraError as error:
            return self._at.page("entra_error.html", 400, message=str(error))
        form = await request.form() if request.method == "POST" else FormData()
        session = request.cookies.get(SESSION_COOKIE, "")
        person = self._at.state.people.get(self._at.sessions.get(session, ""))
        if person is not None and named is not None and person.tenant_id != named.id:
            person = None
        if "person" in form:
            return self._choose_for_consent(request, named, str(form["person"]))
        if person is None or "other" in form:
            people = [
                person
                for person in self._at.state.people.values()
                if person.enabled and (named is None or person.tenant_id == named.id)
            ]
            return self._at.page(
                "entra_sign_in.html",
                application=application.name,
                organisation=named.name if named else "your organisation",
                people=[(person, self._at.state.tenants[person.tenant_id].name) for person in people],
                purpose="review the permissions",
            )
        tenant = self._at.state.tenants[person.tenant_id]
        if request.method == "GET":
            return self._at.page(
                "entra_consent.html",
                application=application,
                tenant=tenant,
                person=person,
                roles=[(role, _ROLE_TEXTS.get(role, "")) for role in application.roles],
                proof=self._proof(session),
            )
        values = {"admin_consent": "True", "tenant": tenant.id}
        if not hmac.compare_digest(str(form.get("proof", "")), self._proof(session)):
            return self._at.page("entra_error.html", 400, message="AADSTS50196: The request was not made on this page.")
        if "accept" in form and person.is_admin:
            self._at.state.grant(tenant.id, application.client_id, application.roles)
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
        person = self._at.state.people.get(person_id)
        if person is None or not person.enabled or (named is not None and person.tenant_id != named.id):
            return self._at.page("entra_error.html", 400, message="AADSTS50034: The user account does not exist.")
        answer = RedirectResponse(f"{self._at.base}{_below(request)}?{request.url.query}", 303)
        self._remember(answer, person)
        return answer

    def _proof(self, session: str) -> str:
        return hmac.new(session.encode(), b"consent", hashlib.sha256).hexdigest()


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


def _below(request: Request) -> str:
    """The request's path without the mount point."""
    path = str(request.scope["path"])
    root = str(request.scope.get("root_path", ""))
    return path.removeprefix(root)
