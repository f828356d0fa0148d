"""The emulated Admin console: who signs in, and the domain-wide delegation table.

https://support.google.com/a/answer/162106 ("Control API access with domain-wide delegation"): a super
administrator enters a numeric client id and the scopes, comma-delimited. The address
``/admin/ac/owl/domainwidedelegation`` takes ``clientIdToAdd``, ``clientScopeToAdd`` and
``overwriteClientId`` as the real console does, so that an application can link to a filled-in form.
"""

from __future__ import annotations

import hmac
import re
import secrets

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from connectors.emulators.google.accounts import Customer, User
from connectors.emulators.google.pages import page
from connectors.emulators.google.state import GoogleState

_COOKIE = "emulated_google_admin"
_PRODUCT = "Google Admin"


class AdminConsole:
    """Pages under ``/admin``."""

    def __init__(self, state: GoogleState) -> None:
        self._state = state
        self._sessions: dict[str, tuple[str, str]] = {}

    def routes(self) -> list[Route]:
        """Where the pages are."""
        return [
            Route("/admin", self._home),
            Route("/admin/", self._home),
            Route("/admin/ac/owl/domainwidedelegation", self._home),
            Route("/admin/sign-in", self._sign_in, methods=["POST"]),
            Route("/admin/sign-out", self._sign_out, methods=["POST"]),
            Route("/admin/domainwidedelegation", self._add, methods=["POST"]),
            Route("/admin/domainwidedelegation/delete", self._delete, methods=["POST"]),
        ]

    async def _home(self, request: Request) -> Response:
        with self._state.lock:
            found = self._session(request)
            if found is None:
                return self._choose(str(request.url.query))
            query = request.query_params
            return self._table(
                request,
                found,
                client_id=query.get("clientIdToAdd", ""),
                scopes=query.get("clientScopeToAdd", ""),
                overwrite=query.get("overwriteClientId") == "true",
            )

    def _choose(self, query: str) -> Response:
        admins = [u for u in self._state.accounts.users.values() if u.admin and u.customer and not u.suspended]
        return page(
            "choose",
            "Sign in to the Admin console",
            product=_PRODUCT,
            intro="Only super administrators can manage domain-wide delegation.",
            people=sorted(admins, key=lambda user: user.email),
            hidden={"query": query},
            action=f"{self._state.base_url}/admin/sign-in",
        )

    async def _sign_in(self, request: Request) -> Response:
        form = await request.form()
        with self._state.lock:
            user = self._state.accounts.user(str(form.get("user", "")))
            if user is None or not user.admin or user.suspended or not user.customer:
                return page(
                    "message",
                    "Access denied",
                    product=_PRODUCT,
                    status=403,
                    text="You are not an administrator.",
                )
            session = secrets.token_urlsafe(32)
            self._sessions[session] = (user.id, secrets.token_urlsafe(32))
        query = str(form.get("query", ""))
        target = f"{self._state.base_url}/admin/ac/owl/domainwidedelegation"
        answer = RedirectResponse(f"{target}?{query}" if query else target, 303)
        answer.set_cookie(_COOKIE, session, httponly=True, samesite="lax", path="/")
        return answer

    async def _sign_out(self, request: Request) -> Response:
        form = await request.form()
        with self._state.lock:
            if self._writer(request, str(form.get("csrf", ""))) is not None:
                self._sessions.pop(request.cookies.get(_COOKIE, ""), None)
        return RedirectResponse(f"{self._state.base_url}/admin/", 303)

    async def _add(self, request: Request) -> Response:
        form = await request.form()
        client_id = str(form.get("client_id", "")).strip()
        text = str(form.get("scopes", ""))
        overwrite = form.get("overwrite") == "true"
        scopes = [scope for scope in re.split(r"[,\s]+", text) if scope]
        with self._state.lock:
            found = self._writer(request, str(form.get("csrf", "")))
            if found is None:
                return self._choose("")
            error = self._refuse(found[1], client_id, scopes, overwrite)
            if error:
                return self._table(
                    request, found, 400, client_id=client_id, scopes=text, overwrite=overwrite, error=error
                )
            self._state.delegate(found[1].id, client_id, scopes)
            return self._table(request, found, done=f"Client {client_id} is authorized.")

    def _refuse(self, customer: Customer, client_id: str, scopes: list[str], overwrite: bool) -> str:
        if self._state.accounts.service_account_of(client_id) is None:
            return "Client ID does not exist. Nothing was changed: enter the numeric id of the service account."
        bad = [scope for scope in scopes if not re.fullmatch(r"https://\S+", scope)]
        if not scopes or bad:
            return f"Invalid scope {bad[0] if bad else ''}. Nothing was changed: enter full scope addresses."
        if client_id in customer.delegations and not overwrite:
            return "This client ID is in the table already. Nothing was changed: tick the box to overwrite it."
        return ""

    async def _delete(self, request: Request) -> Response:
        form = await request.form()
        client_id = str(form.get("client_id", ""))
        with self._state.lock:
            found = self._writer(request, str(form.get("csrf", "")))
            if found is None:
                return self._choose("")
            self._state.revoke_delegation(found[1].id, client_id)
            return self._table(request, found, done=f"Client {client_id} was removed.")

    def _session(self, request: Request) -> tuple[User, Customer, str] | None:
        user_id, csrf = self._sessions.get(request.cookies.get(_COOKIE, ""), ("", ""))
        user = self._state.accounts.user(user_id) if user_id else None
        customer = self._state.accounts.customers.get(user.customer) if user else None
        if user is None or customer is None or user.suspended or not user.admin:
            return None
        return user, customer, csrf

    def _writer(self, request: Request, csrf: str) -> tuple[User, Customer, str] | None:
        """The session of a request that changes something: the form has to be from our own page."""
        found = self._session(request)
        if found is None or not hmac.compare_digest(found[2].encode(), csrf.encode()):
            return None
        return found

    def _table(
        self,
        request: Request,
        found: tuple[User, Customer, str],
        status: int = 200,
        *,
        client_id: str = "",
        scopes: str = "",
        overwrite: bool = False,
        error: str = "",
        done: str = "",
    ) -> Response:
        names = {account.client_id: account.email for account in self._state.accounts.service_accounts.values()}
        return page(
            "delegation",
            "Domain-wide delegation",
            product=_PRODUCT,
            status=status,
            base=self._state.base_url,
            person=found[0],
            customer=found[1],
            csrf=found[2],
            names=names,
            client_id=client_id,
            scopes=scopes,
            overwrite=overwrite,
            error=error,
            done=done,
        )
