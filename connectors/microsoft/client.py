"""The one place that talks to Microsoft Graph: the SDK builds a request, one async client sends it.

msgraph-sdk is the source of paths, query parameters and request bodies, azure-identity of tokens, and
kiota's validator of the hosts that may see one. What the SDK does not do here is send and deserialise: most of
its cost is the middleware chain and the typed models of an answer, of which a few fields are needed, and its
retry handler would repeat POST and PATCH, which must not be repeated blindly. CPU per call on the emulator
(``python -m tests.bench.graph_client_cpu``, 60 calls, a message of 20 KB, Python 3.11, November 2026)::

    GET a message: plain httpx, json                            2.06 ms
    GET a message: this client                                  1.08 ms
    GET a message: the SDK sends and deserialises              15.80 ms
      of that, building the request with the SDK                0.01 ms  (once; see ``templates``)
    fetch() and replace(): three requests, verified             2.94 ms

(on a busy machine: the ratios are what to look at).

Every request carries the same ``Prefer`` set, since an id read without ``IdType`` is another id
(https://learn.microsoft.com/graph/outlook-immutable-id) and a body read without ``allow-unsafe-html`` is
another body (https://learn.microsoft.com/graph/api/message-get).
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import httpx

from connectors.base.errors import (
    ConnectorError,
    MisconfiguredClient,
    TooLarge,
    Unavailable,
)
from connectors.base.http import SharedHttp
from connectors.base.wire import Outgoing
from connectors.microsoft.config import MicrosoftConfig
from connectors.microsoft.errors import (
    MAIL_READ_WRITE,
    MAX_REQUEST_BYTES,
    GraphFault,
    graph_error,
    read_fault,
    token_error,
)
from connectors.microsoft.templates import Built, built_by

if TYPE_CHECKING:
    from kiota_abstractions.request_information import RequestInformation
    from kiota_authentication_azure.azure_identity_access_token_provider import (
        AzureIdentityAccessTokenProvider,
    )

    from connectors.microsoft.requests import GraphRequests

_Result = TypeVar("_Result")

PREFER = 'IdType="ImmutableId", outlook.body-content-type="html", outlook.allow-unsafe-html'
_TOKEN_REUSE_SECONDS = 60.0
"""azure-identity renews five minutes ahead, so asking it once a minute is enough."""


@cache
def graph_requests() -> GraphRequests:
    """The builders of requests, which know no tenant. Loads the SDK."""
    from connectors.microsoft.requests import GraphRequests

    return GraphRequests()


async def gather_all(*calls: Awaitable[_Result]) -> list[_Result]:
    """Await all, then raise the first error: nothing goes on in the background afterwards."""
    results = await asyncio.gather(*calls, return_exceptions=True)
    done: list[_Result] = []
    for result in results:
        if isinstance(result, BaseException):
            raise result
        done.append(result)
    return done


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer of Graph.

    Attributes:
        status: HTTP status.
        data: The JSON object; empty where the answer has none.
        fault: Set for statuses of 400 and above.
    """

    status: int
    data: dict[str, Any] = field(default_factory=dict)
    fault: GraphFault | None = None

    @property
    def values(self) -> list[dict[str, Any]]:
        """The objects of a collection page."""
        found = self.data.get("value")
        return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []


def token_roles(token: str) -> frozenset[str]:
    """The ``roles`` of our own access token; empty where it has none or is not readable.

    The signature is not checked: the token came from the token endpoint over our own connection, and Graph,
    its audience, decides by it. It is read to say what is missing, never to allow anything
    (https://learn.microsoft.com/entra/identity-platform/access-token-claims-reference).
    """
    claims = token_claims(token)
    roles = claims.get("roles")
    return frozenset(role for role in roles if isinstance(role, str)) if isinstance(roles, list) else frozenset()


def token_claims(token: str) -> dict[str, Any]:
    """The payload of our own access token, unverified; empty where it is not a JWT."""
    parts = token.split(".")
    if len(parts) != 3:
        return {}
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except ValueError:
        return {}
    return claims if isinstance(claims, dict) else {}


_SCOPE_SECONDS = 3_600.0
_NO_SCOPE_SECONDS = 60.0
"""How long the answers to "is some mailbox ours?" hold: a yes, and a no."""
_REFUSAL_SECONDS = 1.0
"""How long a refused token request is answered from memory: requests come in bunches."""


class GraphClient:
    """Requests to Graph on behalf of one tenant.

    Args:
        config: Addresses and credential.
        tenant: The tenant's id (a GUID).
        http: The shared client.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        config: MicrosoftConfig,
        tenant: str,
        http: SharedHttp,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.config = config
        self.tenant = tenant
        self._http = http
        self._clock = clock
        self._lock = asyncio.Lock()
        self._provider: AzureIdentityAccessTokenProvider | None = None
        self._token = ""
        self._token_until = 0.0
        self._refusal: ConnectorError | None = None
        self._refused_until = 0.0
        self._wrote_at: float | None = None
        self._refused_at: float | None = None
        self.find_scope: Callable[[], Awaitable[bool]] | None = None
        """See :func:`connectors.microsoft.reach.may_be_scoped`."""
        self._lacks_mail = False
        self._scoped = False
        self._scope_known_until = 0.0
        self._scope_lock = asyncio.Lock()

    @property
    def requests(self) -> GraphRequests:
        """Builders of requests."""
        return graph_requests()

    def now(self) -> float:
        """Monotonic seconds."""
        return self._clock()

    def note_write(self) -> None:
        """A received message's body was changed: the permission to do so is there."""
        self._wrote_at = self._clock()
        self._refused_at = None

    def note_refusal(self) -> None:
        """Graph refused to change the body of a received message for lack of permission."""
        self._refused_at = self._clock()

    def refused_within(self, seconds: float) -> bool:
        """Whether that was in the last seconds, and no body was changed since."""
        return self._refused_at is not None and self._clock() - self._refused_at < seconds

    def wrote_within(self, seconds: float) -> bool:
        """Whether a received message's body was changed in the last seconds."""
        return self._wrote_at is not None and self._clock() - self._wrote_at < seconds

    async def call(
        self,
        info: RequestInformation | Built,
        *,
        mailbox: str = "",
        read: bool,
        what: str,
        about_message: bool = False,
        needs: str = MAIL_READ_WRITE,
    ) -> Reply:
        """Send a request and raise the connector's error where Graph refuses it.

        Args:
            info: Built by the SDK.
            mailbox: The mailbox's id, or empty for calls about none.
            read: Whether it may be sent twice.
            what: For messages: "reading a message".
            about_message: Whether 404 means that the message is gone.
            needs: The permission it needs.

        Raises:
            ConnectorError: See :func:`connectors.microsoft.errors.graph_error`.
        """
        reply = await self.exchange(info, mailbox=mailbox, read=read, what=what)
        if reply.fault is not None:
            raise await self.refused(reply.fault, what, about_message=about_message, needs=needs)
        return reply

    async def refused(
        self, fault: GraphFault, what: str, *, about_message: bool = False, needs: str = MAIL_READ_WRITE
    ) -> ConnectorError:
        """The error for a refusal, with what is known about our permissions."""
        roles = token_roles(self._token)
        scoped = fault.status == 403 and needs == MAIL_READ_WRITE and self._lacks_mail and await self.may_be_scoped()
        return graph_error(fault, what, about_message=about_message, roles=roles, needs=needs, scoped=scoped)

    async def may_be_scoped(self) -> bool:
        """Whether Exchange gave (or may have given) us some mailboxes, although our token has no role for mail.

        Rights given by RBAC for Applications are in no token
        (https://learn.microsoft.com/exchange/permissions-exo/application-rbac): what proves them is a mailbox that
        answers. Looked for once an hour, where no answer of the hour proves it already.
        """
        if not self._lacks_mail or self.find_scope is None:
            return False
        async with self._scope_lock:
            if self._clock() >= self._scope_known_until:
                scoped = await self.find_scope()
                self._note_scope(scoped)
            return self._scoped

    def _note_scope(self, scoped: bool) -> None:
        self._scoped = scoped
        self._scope_known_until = self._clock() + (_SCOPE_SECONDS if scoped else _NO_SCOPE_SECONDS)

    async def exchange(
        self,
        info: RequestInformation | Built,
        *,
        mailbox: str = "",
        read: bool,
        what: str,
        headers: dict[str, str] | None = None,
        prefer: str = "",
    ) -> Reply:
        """Send a request and return the answer, a refusal included.

        A 401 is answered with one more try under a fresh token: a refused request took no effect.

        Raises:
            Transient: No answer, a server error, or told to slow down.
            AccessRevoked: No token for this tenant any more.
            MisconfiguredClient: Our own credential is wrong.
            TooLarge: The request is over Graph's limit; it was not sent.
        """
        built = info if isinstance(info, Built) else built_by(info, self.config.graph_url)
        url = self.own_url(self.config.graph_url + built.path if built.path.startswith("/") else built.path)
        content = built.content
        if content is not None and len(content) > MAX_REQUEST_BYTES:
            raise TooLarge(
                f"The request has {len(content)} bytes, over Graph's limit; nothing was sent: {what}.",
                MAX_REQUEST_BYTES,
            )
        sent = dict(built.headers)
        sent["prefer"] = f"{PREFER}, {prefer}" if prefer else PREFER
        if headers:
            sent.update(headers)
        gate = f"{self.tenant}/{mailbox}"
        token = ""
        for again in (False, True):
            token = await self.token(rejected=token)
            sent["authorization"] = f"Bearer {token}"
            response = await self._http.send(
                Outgoing(built.method, url, sent, content),
                mailbox=gate,
                read=read,
                what=what,
            )
            if response.status_code != 401 or again:
                break
        if self._lacks_mail and mailbox and response.status_code < 400 and not self._scoped:
            self._note_scope(True)
        return _read(response, what)

    def own_url(self, url: str) -> str:
        """The address itself, if it is Graph's: no other may see our token.

        Raises:
            ConnectorError: It is not below ``graph_url``.
        """
        if not url.startswith(self.config.graph_url + "/"):
            host = urlsplit(url).hostname
            raise ConnectorError(f"Refused to send a token to {host}: it is not the configured Graph address.")
        return url

    def follow(self, link: str) -> RequestInformation:
        """A request for a ``nextLink`` or ``deltaLink``, absolute or as :meth:`relative` gave it.

        Raises:
            ConnectorError: The link leads elsewhere.
        """
        url = self.config.graph_url + link if link.startswith("/") else link
        return self.requests.follow(self.own_url(url))

    def relative(self, link: str) -> str:
        """A ``nextLink`` or ``deltaLink`` without Graph's base, for storing.

        Raises:
            ConnectorError: The link leads elsewhere.
        """
        return self.own_url(link)[len(self.config.graph_url) :]

    async def token(self, *, rejected: str = "") -> str:
        """An access token for this tenant, from azure-identity.

        Args:
            rejected: A token that Graph did not accept: it is not returned again.

        Raises:
            AccessRevoked: The tenant's grant is gone.
            MisconfiguredClient: Our own credential is wrong.
            Transient: No token for now.
        """
        if self._token != rejected and self._clock() < self._token_until:
            return self._token
        async with self._lock:
            if self._token != rejected and self._clock() < self._token_until:
                return self._token
            if self._refusal is not None and self._clock() < self._refused_until:
                raise self._refusal  # asked a moment ago by a request that went along with this one
            if self._provider is None or (rejected and self._token == rejected):
                self._provider = self._make_provider()  # with an empty token cache
            try:
                self._token = await self._ask(self._provider)
            except ConnectorError as error:
                self._refusal, self._refused_until = error, self._clock() + _REFUSAL_SECONDS
                raise
            self._refusal = None
            self._lacks_mail = MAIL_READ_WRITE not in token_roles(self._token)
            self._token_until = self._clock() + _TOKEN_REUSE_SECONDS
            return self._token

    async def fresh_token(self) -> str:
        """A token issued now, so that its roles are those granted now."""
        self._refusal = None
        return await self.token(rejected=self._token)

    async def roles(self) -> frozenset[str]:
        """The permissions in the token in use."""
        return token_roles(await self.token())

    async def _ask(self, provider: AzureIdentityAccessTokenProvider) -> str:
        from azure.core.exceptions import AzureError, ClientAuthenticationError

        try:
            token = await provider.get_authorization_token(self.config.graph_url + "/")
        except ClientAuthenticationError as error:
            text = error.message
            if error.response is not None:
                text = f"{text} {error.response.text()}"
            raise token_error(text, self.tenant) from error
        except AzureError as error:
            raise Unavailable(f"No token for tenant {self.tenant}: {type(error).__name__}.") from error
        except (OSError, ValueError) as error:
            raise MisconfiguredClient(f"Our own credential cannot be used: {type(error).__name__}.") from error
        if not token:
            raise MisconfiguredClient("The configured Graph address is not among the allowed hosts.")
        return token

    def _make_provider(self) -> AzureIdentityAccessTokenProvider:
        from kiota_authentication_azure.azure_identity_access_token_provider import (
            AzureIdentityAccessTokenProvider,
        )

        from connectors.microsoft.credentials import azure_credential

        host = urlsplit(self.config.graph_url).hostname or ""
        return AzureIdentityAccessTokenProvider(
            azure_credential(self.config, self.tenant, self._http),
            options=None,
            scopes=[self.config.graph_scope],
            allowed_hosts=[host],
            is_cae_enabled=False,  # tokens then live an hour, within which a withdrawn consent is noticed
        )


def _read(response: httpx.Response, what: str) -> Reply:
    if response.status_code >= 400:
        return Reply(
            response.status_code,
            fault=read_fault(response.status_code, response.content),
        )
    if not response.content:
        return Reply(response.status_code)
    try:
        data = json.loads(response.content)
    except ValueError as error:
        raise Unavailable(f"Graph's answer while {what} is not JSON.") from error
    if not isinstance(data, dict):
        raise Unavailable(f"Graph's answer while {what} is not an object.")
    return Reply(response.status_code, data)
