"""Credentials of our application, for azure-identity (Graph tokens) and for the sign-in code exchange.

Sources: https://learn.microsoft.com/python/api/overview/azure/identity-readme and
https://learn.microsoft.com/entra/identity-platform/certificate-credentials.

azure-identity is given a transport over the connector's own client: the same connections, limits and
back-off as all else, and no second HTTP library. It also lets azure-identity, which insists on https, reach
a sign-in service on loopback.
"""

from __future__ import annotations

import base64
import json
import secrets
import time
from collections.abc import AsyncIterator, MutableMapping
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

import httpx
from azure.core.credentials_async import AsyncTokenCredential
from azure.core.exceptions import HttpResponseError
from azure.core.pipeline.transport import AsyncHttpTransport
from azure.core.rest import AsyncHttpResponse, HttpRequest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from joserfc import jwt
from joserfc.jwk import RSAKey

from connectors.base.errors import MisconfiguredClient
from connectors.base.http import SharedHttp
from connectors.microsoft.config import (
    ClientCertificate,
    ClientSecret,
    FederatedTokenFile,
    MicrosoftConfig,
)

if TYPE_CHECKING:
    from types import TracebackType

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_ASSERTION_SECONDS = 300


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


def client_authentication(config: MicrosoftConfig, token_url: str) -> dict[str, str]:
    """Form fields with which the application proves itself when it exchanges a sign-in code.

    Args:
        config: Whose credential.
        token_url: Audience of a signed assertion.

    Raises:
        MisconfiguredClient: The certificate or token file cannot be read.
    """
    credential = config.credential
    if isinstance(credential, ClientSecret):
        return {"client_secret": credential.value}
    try:
        if isinstance(credential, FederatedTokenFile):
            with open(credential.path, encoding="ascii") as file:
                assertion = file.read().strip()
        else:
            assertion = _signed_assertion(config.client_id, credential, token_url)
    except (OSError, ValueError, TypeError) as error:
        raise MisconfiguredClient(f"Our own credential cannot be used: {type(error).__name__}.") from error
    return {"client_assertion_type": ASSERTION_TYPE, "client_assertion": assertion}


def _signed_assertion(client_id: str, certificate: ClientCertificate, audience: str) -> str:
    pem = certificate.read()
    password = certificate.password.encode() or None
    thumbprint = x509.load_pem_x509_certificate(pem).fingerprint(hashes.SHA256())
    key = load_pem_private_key(pem, password)
    header = {
        "alg": "PS256",
        "typ": "JWT",
        "x5t#S256": base64.urlsafe_b64encode(thumbprint).decode().rstrip("="),
    }
    now = int(time.time())
    claims = {
        "aud": audience,
        "iss": client_id,
        "sub": client_id,
        "jti": secrets.token_urlsafe(16),
        "nbf": now,
        "exp": now + _ASSERTION_SECONDS,
    }
    return jwt.encode(header, claims, RSAKey.import_key(key), algorithms=["PS256"])  # type: ignore[arg-type]  # joserfc takes cryptography's key objects, its annotation does not say so


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
