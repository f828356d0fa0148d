"""Graph v1.0 as an ASGI app: who is asking, what they may do, and where the answers come from.

Documents: "Overview of Microsoft Graph permissions" (https://learn.microsoft.com/graph/permissions-overview),
"Microsoft Graph throttling guidance" (https://learn.microsoft.com/graph/throttling) and "service-specific
throttling limits" (https://learn.microsoft.com/graph/throttling-limits#outlook-service-limits).
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from connectors.emulators.microsoft import render
from connectors.emulators.microsoft.graph_errors import GraphError, access_denied, bad_request, error_response
from connectors.emulators.microsoft.model import Person
from connectors.emulators.microsoft.render import Preferences
from connectors.emulators.microsoft.state import MicrosoftState
from connectors.emulators.microsoft.tokens import TokenRefused, Tokens

MAX_REQUEST_BYTES = 4 * 1024 * 1024
"""Largest request that Graph accepts."""

READ_MAIL = ("Mail.ReadWrite", "Mail.Read")
WRITE_MAIL = ("Mail.ReadWrite",)
READ_PEOPLE = ("User.Read.All", "Directory.Read.All")
READ_GROUPS = ("GroupMember.Read.All", "Group.Read.All", "Directory.Read.All")
ADVANCED = "Mail-Advanced.ReadWrite.All"


@dataclass(frozen=True, slots=True)
class Call:
    """One authenticated request.

    Attributes:
        client_id: The application, from the token.
        roles: The app roles in the token.
        address: The request's own address without query, as clients wrote it.
    """

    request: Request
    state: MicrosoftState
    tenant_id: str
    client_id: str
    roles: frozenset[str]
    prefer: Preferences
    address: str
    base: str

    def query(self, name: str) -> str | None:
        """A query option, with or without the dollar sign, in any case."""
        for key, value in self.request.query_params.multi_items():
            if key.lower().lstrip("$") == name.lower():
                return value
        return None

    def part(self, name: str) -> str:
        """A part of the path."""
        return str(self.request.path_params[name])

    def person(self) -> Person:
        """Whose mailbox or entry the path names.

        Raises:
            GraphError: Nobody of the caller's tenant.
        """
        key = self.part("user")
        try:
            person = self.state.person(key, self.tenant_id)
            # Other addresses of a mailbox receive mail, but name nobody here ("Get user": id or userPrincipalName).
            if key.lower() not in (person.id, person.address):
                raise KeyError(key)
            return person
        except KeyError:
            raise GraphError(
                404,
                "Request_ResourceNotFound",
                f"Resource '{key}' does not exist or one of its queried reference-property objects are not present.",
            ) from None

    def mailbox(self) -> Person:
        """As :meth:`person`, for mail.

        Raises:
            GraphError: Nobody of the tenant, nobody with a mailbox in use, or out of the application's scope.
        """
        try:
            person = self.person()
        except GraphError:
            raise GraphError(404, "ErrorInvalidUser", f"The requested user '{self.part('user')}' is invalid.") from None
        if not person.has_mailbox:
            raise GraphError(
                404,
                "MailboxNotEnabledForRESTAPI",
                "The mailbox is either inactive, soft-deleted, or is hosted on-premise.",
            )
        self.check_policy(person)
        return person

    def check_policy(self, person: Person) -> None:
        """Refuse a mailbox that an application access policy of the tenant excludes.

        Raises:
            GraphError: It does.
        """
        scope = self.state.tenants[self.tenant_id].mailbox_scope
        if scope is not None and person.id not in scope:
            raise GraphError(
                403,
                "ErrorAccessDenied",
                "Access to OData is disabled: [RAOP] : Blocked by tenant configured AppOnly AccessPolicy settings.",
            )

    def require(self, roles: tuple[str, ...]) -> None:
        """One of these app roles must be in the token, or given over the mailbox of the path.

        Raises:
            GraphError: None is.
        """
        if not self.may(*roles):
            raise access_denied()

    def may(self, *roles: str, person: Person | None = None) -> bool:
        """Whether the application has one of these roles, for everybody or for one mailbox (that of the path)."""
        if self.roles.intersection(roles):
            return True
        if person is None and "user" in self.request.path_params:
            try:
                person = self.person()
            except GraphError:
                return False
        if person is None:
            return False
        return not self.state.scoped_roles(self.tenant_id, self.client_id, person).isdisjoint(roles)

    async def json(self) -> render.Json:
        """The request's body as a JSON object.

        Raises:
            GraphError: Too large, or not a JSON object.
        """
        body = await self.request.body()
        if len(body) > MAX_REQUEST_BYTES:
            raise GraphError(413, "RequestEntityTooLarge", "The request is over the limit of 4 MB.")
        try:
            value = await self.request.json()
        except ValueError:
            raise bad_request("Unable to read JSON request payload.") from None
        if not isinstance(value, dict):
            raise bad_request("Empty Payload. JSON content expected.")
        return value

    def answer(self, value: render.Json, status: int = 200, headers: dict[str, str] | None = None) -> Response:
        """A JSON answer that confirms the preferences."""
        all_headers = dict(headers or {})
        if self.prefer.applied:
            all_headers["Preference-Applied"] = ", ".join(self.prefer.applied)
        return JSONResponse(value, status, headers=all_headers)

    def link(self, **options: str) -> str:
        """This request's address with other query options."""
        query = "&".join(f"{quote(name, safe='$')}={quote(value, safe='')}" for name, value in options.items())
        return f"{self.address}?{query}"

    def context(self, what: str) -> str:
        """``@odata.context``."""
        return f"{self.base}/$metadata#{what}"


Handler = Callable[[Call], Awaitable[Response]]


class Graph:
    """Routes of Graph v1.0.

    Args:
        base: Its address, e.g. ``http://127.0.0.1:8090/graph/v1.0``; links in answers begin with it.
    """

    def __init__(self, state: MicrosoftState, tokens: Tokens, base: str = "") -> None:
        self.base = base
        self.state = state
        self._tokens = tokens
        self._routes: list[BaseRoute] = []

    def route(self, method: str, path: str, handler: Handler) -> None:
        """Add a route, given without the version prefix."""

        async def endpoint(request: Request) -> Response:
            return await self._serve(request, handler)

        self._routes.append(Route(path, endpoint, methods=[method]))

    def app(self) -> ASGIApp:
        """The ASGI app, to be mounted at the base address."""
        fallback = Route("/{rest:path}", self._unknown, methods=["GET", "POST", "PATCH", "PUT", "DELETE"])
        inner = Starlette(routes=[*self._routes, fallback])

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http":
                scope = {**scope, "path": plain_path(scope["path"])}
            await inner(scope, receive, send)

        return app

    async def _serve(self, request: Request, handler: Handler) -> Response:
        request_id = request.headers.get("client-request-id") or str(uuid.uuid4())
        try:
            response = await handler(self._authenticate(request))
        except GraphError as error:
            response = error_response(error, request_id, render.moment(self.state.clock.now()))
        response.headers["request-id"] = request_id
        response.headers["client-request-id"] = request_id
        return response

    async def _unknown(self, request: Request) -> Response:
        async def handler(_: Call) -> Response:
            raise bad_request(f"Resource not found for the segment in {request.url.path}.")

        return await self._serve(request, handler)

    def _authenticate(self, request: Request) -> Call:
        """Read the bearer token ("Access token validation failure" answers are 401)."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise _unauthenticated("Access token is empty.")
        try:
            claims = self._tokens.check(token.strip())
        except TokenRefused as refused:
            raise _unauthenticated(str(refused)) from refused
        if claims.get("idtyp") != "app":
            raise access_denied()
        tenant_id = str(claims["tid"])
        if tenant_id not in self.state.tenants:
            raise _unauthenticated("The identity of the calling application could not be established.")
        roles = claims.get("roles", [])
        root = str(request.scope.get("root_path", ""))
        return Call(
            request=request,
            state=self.state,
            tenant_id=tenant_id,
            client_id=str(claims["appid"]),
            roles=frozenset(str(role) for role in roles) if isinstance(roles, list) else frozenset(),
            prefer=render.read_preferences(request.headers.getlist("prefer")),
            address=self.base + quote(str(request.scope["path"]).removeprefix(root), safe="/$=@"),
            base=self.base,
        )


def _unauthenticated(message: str) -> GraphError:
    return GraphError(
        401,
        "InvalidAuthenticationToken",
        message,
        {"WWW-Authenticate": 'Bearer realm="", authorization_uri="", error="invalid_token"'},
    )


_KEY = re.compile(r"([A-Za-z]+)\('([^'/]*)'\)")
_CALL = re.compile(r"\b(delta|reauthorize|permanentDelete|move)\(\)")


def plain_path(path: str) -> str:
    """One spelling of addresses: ``mailFolders('inbox')`` becomes ``mailFolders/inbox``, ``delta()`` ``delta``.

    Names of segments compare without regard to case: ``mailfolders`` is ``mailFolders``.
    """
    path = _CALL.sub(r"\1", _KEY.sub(r"\1/\2", path))
    parts = [_SEGMENTS.get(part.lower(), part) for part in path.split("/")]
    plain = "/".join(parts)
    return plain.rstrip("/") if len(plain) > 1 else plain


_SEGMENTS = {
    name.lower(): name
    for name in (
        "users",
        "mailFolders",
        "childFolders",
        "messages",
        "attachments",
        "subscriptions",
        "organization",
        "groups",
        "members",
        "transitiveMembers",
        "permanentDelete",
        "sendMail",
        "delta",
    )
}
_SEGMENTS["graph.user"] = "microsoft.graph.user"  # the namespace's alias, which SDKs use


class MailboxThrottle:
    """429 beyond the documented limits per app and mailbox: requests at once, and requests in ten minutes.

    Outlook service limits: 10,000 API requests in a 10 minute period, and 4 concurrent requests. The window is
    the emulated clock's, so that a test need not send for ten minutes.

    Args:
        app: The app in front of which requests are counted.
        prefix: Where Graph is mounted.
    """

    WINDOW_SECONDS = 600

    def __init__(self, app: ASGIApp, state: MicrosoftState, tokens: Tokens, prefix: str) -> None:
        self._app = app
        self._state = state
        self._tokens = tokens
        self._mailbox = re.compile(re.escape(prefix) + r"/users[/(]'?([^/')]+)'?\)?/", re.IGNORECASE)
        self._under_way: dict[tuple[str, str], int] = {}
        self._windows: dict[tuple[str, str], tuple[float, int]] = {}
        self.highest = 0
        """The most requests that were ever under way for one mailbox and app."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, or answer 429."""
        key = self._key(scope) if scope["type"] == "http" else None
        if key is None:
            await self._app(scope, receive, send)
            return
        switches = self._state.switches
        if self._under_way.get(key, 0) >= switches.concurrency:
            await self._refuse("MailboxConcurrency", switches.retry_after, scope, receive, send)
            return
        now = self._state.clock.timestamp()
        start, count = self._windows.get(key, (now, 0))
        if now - start >= self.WINDOW_SECONDS:
            start, count = now, 0
        if count >= switches.requests_per_window:
            wait = max(1, int(start + self.WINDOW_SECONDS - now) + 1)
            await self._refuse("RequestRate", wait, scope, receive, send)
            return
        self._windows[key] = (start, count + 1)
        self._under_way[key] = self._under_way.get(key, 0) + 1
        self.highest = max(self.highest, self._under_way[key])
        try:
            await self._app(scope, receive, send)
        finally:
            self._under_way[key] -= 1
            if not self._under_way[key]:
                del self._under_way[key]

    def _key(self, scope: Scope) -> tuple[str, str] | None:
        found = self._mailbox.match(scope["path"])
        if found is None:
            return None
        try:
            mailbox = self._state.person(found[1]).id
        except KeyError:
            return None
        for name, value in scope["headers"]:
            if name == b"authorization":
                try:
                    claims = self._tokens.check(value.decode("latin-1").partition(" ")[2].strip())
                except TokenRefused:
                    return None
                return str(claims.get("appid")), mailbox
        return None

    async def _refuse(self, limit: str, seconds: int, scope: Scope, receive: Receive, send: Send) -> None:
        error = GraphError(
            429, "ApplicationThrottled", f"Application is over its {limit} limit.", {"Retry-After": str(seconds)}
        )
        date = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._state.clock.timestamp()))
        await error_response(error, str(uuid.uuid4()), date)(scope, receive, send)
