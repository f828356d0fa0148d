"""Our application's credential for azure-identity, which gets the tokens for Graph.

Source: https://learn.microsoft.com/python/api/overview/azure/identity-readme.

azure-identity is given a transport over the connector's own client: the same connections, limits and
back-off as all else, and no second HTTP library. It also lets azure-identity, which insists on https, reach
a sign-in service on loopback.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, MutableMapping
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

import httpx
from azure.core.credentials_async import AsyncTokenCredential
from azure.core.exceptions import HttpResponseError
from azure.core.pipeline.transport import AsyncHttpTransport
from azure.core.rest import AsyncHttpResponse, HttpRequest

from connectors.base.errors import MisconfiguredClient
from connectors.base.http import SharedHttp
from connectors.microsoft.config import (
    ClientCertificate,
    FederatedTokenFile,
    MicrosoftConfig,
)

if TYPE_CHECKING:
    from types import TracebackType


def azure_credential(config: MicrosoftConfig, tenant: str, http: SharedHttp) -> AsyncTokenCredential:
    """The azure-identity credential for one tenant.

    Raises:
        MisconfiguredClient: The certificate or token file cannot be read.
    """
    from azure.identity.aio import (
        CertificateCredential,
        ClientSecretCredential,
        WorkloadIdentityCredential,
    )

    common: dict[str, Any] = {
        "authority": "https://" + config.authority.split("://", 1)[1],
        "transport": _SharedTransport(http, config.authority, f"{tenant}/token"),
        "retry_total": 0,  # the transport already repeats what may be repeated
    }
    credential = config.credential
    try:
        if isinstance(credential, FederatedTokenFile):
            return WorkloadIdentityCredential(
                tenant_id=tenant,
                client_id=config.client_id,
                token_file_path=credential.path,
                **common,
            )
        if isinstance(credential, ClientCertificate):
            return CertificateCredential(
                tenant,
                config.client_id,
                certificate_data=credential.read(),
                password=credential.password or None,
                **common,
            )
        return ClientSecretCredential(tenant, config.client_id, credential.value, **common)
    except (OSError, ValueError, TypeError) as error:
        raise MisconfiguredClient(f"Our own credential cannot be used: {type(error).__name__}.") from error


class _SharedTransport(AsyncHttpTransport[HttpRequest, AsyncHttpResponse]):
    """Sends azure-core requests through :class:`SharedHttp`; token requests may be repeated."""

    def __init__(self, http: SharedHttp, authority: str, gate: str) -> None:
        parts = urlsplit(authority)
        self._http = http
        self._host = parts.netloc
        self._scheme = parts.scheme
        self._gate = gate

    async def open(self) -> None:
        """Nothing to open: the client is shared."""

    async def close(self) -> None:
        """Nothing to close: the client is shared."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        return None

    async def send(self, request: HttpRequest, **kwargs: Any) -> AsyncHttpResponse:
        """Send one request; errors are the connector's own, which azure-core lets pass."""
        del kwargs  # time-outs and TLS are the shared client's
        url = urlsplit(request.url)
        if url.netloc != self._host:
            raise MisconfiguredClient("azure-identity asked for an address that is not the sign-in service.")
        content = request.content
        # azure-core keeps a form as a dictionary until the transport encodes it.
        is_form = isinstance(content, dict)
        outgoing = httpx.Request(
            request.method,
            url._replace(scheme=self._scheme).geturl(),
            headers={k: v for k, v in request.headers.items() if k.lower() != "content-length"},
            data=content if is_form else None,
            content=None if is_form else content,
        )
        response = await self._http.send(outgoing, mailbox=self._gate, read=True, what="asking for a token")
        return _Answer(request, response)


class _Answer(AsyncHttpResponse):
    """An httpx response, already read, in azure-core's shape."""

    def __init__(self, request: HttpRequest, response: httpx.Response) -> None:
        self._request = request
        self._response = response
        self._encoding: str | None = None

    @property
    def request(self) -> HttpRequest:
        return self._request

    @property
    def status_code(self) -> int:
        return self._response.status_code

    @property
    def headers(self) -> MutableMapping[str, str]:
        return self._response.headers

    @property
    def reason(self) -> str:
        return self._response.reason_phrase

    @property
    def content_type(self) -> str | None:
        value: str | None = self._response.headers.get("content-type")
        return value

    @property
    def is_closed(self) -> bool:
        return True

    @property
    def is_stream_consumed(self) -> bool:
        return True

    @property
    def encoding(self) -> str | None:
        return self._encoding or self._response.encoding

    @encoding.setter
    def encoding(self, value: str | None) -> None:
        self._encoding = value

    @property
    def url(self) -> str:
        return self._request.url

    @property
    def content(self) -> bytes:
        return self._response.content

    def text(self, encoding: str | None = None) -> str:
        return self._response.content.decode(encoding or self.encoding or "utf-8", "replace")

    def json(self) -> Any:
        return json.loads(self._response.content)

    def raise_for_status(self) -> None:
        if self.status_code >= 400:
            raise HttpResponseError(response=self)

    async def read(self) -> bytes:
        return self._response.content

    async def iter_raw(self, **kwargs: Any) -> AsyncIterator[bytes]:
        yield self._response.content

    async def iter_bytes(self, **kwargs: Any) -> AsyncIterator[bytes]:
        yield self._response.content

    async def close(self) -> None:
        """Already closed."""

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        return None
