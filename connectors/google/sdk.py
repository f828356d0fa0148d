"""The only module that touches google-api-python-client and google-auth.

The SDK *builds* requests from Google's static discovery document (paths, parameters, schemas) and decodes
the answers; one async HTTP client sends them. httplib2, which the SDK would send with, blocks and is not
thread-safe (https://googleapis.github.io/google-api-python-client/docs/thread_safety.html).

The packages are loaded by name: google-api-python-client ships no type information, and neither is needed
before the first call.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import httpx

from connectors.base.errors import MisconfiguredClient, Unavailable
from connectors.base.wire import Outgoing
from connectors.google.config import Keyless, ServiceAccount

USER_AGENT = "Postern (gzip)"
_IAM_HOST = "https://iamcredentials.googleapis.com/"


class _NeverSends:
    """Stands where the SDK expects a transport; a request built here is never executed by the SDK."""

    def close(self) -> None:
        return None


@lru_cache(maxsize=16)
def service(name: str, version: str, base: str) -> Any:
    """The SDK's service object from the discovery document in the package; fetches nothing.

    Args:
        name: API name, e.g. ``gmail``.
        version: API version.
        base: Where the API is; ends in ``/``.
    """
    return import_module("googleapiclient.discovery").build(
        name,
        version,
        http=_NeverSends(),
        static_discovery=True,
        cache_discovery=False,
        client_options={"api_endpoint": base},
    )


@dataclass(frozen=True, slots=True)
class GmailResources:
    """The parts of the Gmail API in use. Making one of these objects costs a millisecond, so they are kept."""

    users: Any
    messages: Any
    threads: Any
    history: Any
    labels: Any


@lru_cache(maxsize=16)
def gmail(base: str) -> GmailResources:
    """Gmail API v1."""
    users = service("gmail", "v1", base).users()
    return GmailResources(users, users.messages(), users.threads(), users.history(), users.labels())


@lru_cache(maxsize=16)
def directory_users(base: str) -> Any:
    """``users`` of the Admin SDK's Directory API."""
    return service("admin", "directory_v1", base).users()


@lru_cache(maxsize=16)
def directory_groups(base: str) -> Any:
    """``groups`` of the Directory API."""
    return service("admin", "directory_v1", base).groups()


@lru_cache(maxsize=16)
def directory_members(base: str) -> Any:
    """``members`` of the Directory API."""
    return service("admin", "directory_v1", base).members()


@lru_cache(maxsize=16)
def pubsub_subscriptions(base: str) -> Any:
    """``projects.subscriptions`` of Pub/Sub v1."""
    return service("pubsub", "v1", base).projects().subscriptions()


def to_send(request: Any, token: str) -> Outgoing:
    """The SDK's request, to be sent by us."""
    headers = {**request.headers, "user-agent": USER_AGENT, "authorization": f"Bearer {token}"}
    content = request.body.encode() if isinstance(request.body, str) else request.body
    return Outgoing(request.method, request.uri, headers, content)


def decode(request: Any, response: httpx.Response) -> dict[str, Any]:
    """The SDK's reading of a successful answer.

    Raises:
        Unavailable: Not what the API documents; something in between answered.
    """
    try:
        data = request.postproc(
            SimpleNamespace(status=response.status_code, reason=response.reason_phrase), response.content
        )
    except ValueError as error:
        raise Unavailable("Google's answer is not JSON; something in between answered.") from error
    if data is None or data == "":
        return {}
    if not isinstance(data, dict):
        raise Unavailable("Google's answer is not a JSON object; something in between answered.")
    return data


def with_media(request: Any, base: str, media: bytes) -> Any:
    """Turn a metadata request into a multipart upload of a message (RFC 2387).

    The same request as the SDK's ``media_body`` makes, with two differences: the address keeps the
    configured endpoint, and the message goes out byte for byte (the SDK's encoder fails on 8-bit content of
    type ``message/rfc822``). See https://developers.google.com/workspace/gmail/api/guides/uploads#multipart.
    """
    path = request.uri[len(base) :]
    boundary = f"postern-{secrets.token_hex(16)}"
    request.uri = f"{base}upload/{path}&uploadType=multipart"
    request.headers["content-type"] = f'multipart/related; boundary="{boundary}"'
    metadata = request.body if isinstance(request.body, bytes) else request.body.encode()
    request.body = b"".join(
        (
            f"--{boundary}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n".encode(),
            metadata,
            f"\r\n--{boundary}\r\nContent-Type: message/rfc822\r\nContent-Transfer-Encoding: binary\r\n\r\n".encode(),
            media,
            f"\r\n--{boundary}--\r\n".encode(),
        )
    )
    return request


def as_session_start(request: Any, base: str, size: int) -> Any:
    """Turn a metadata request into the start of a resumable upload of a message.

    See https://developers.google.com/workspace/gmail/api/guides/uploads#resumable, step 1.

    Args:
        request: Built by the SDK.
        base: The configured endpoint.
        size: The message's length in bytes.
    """
    request.uri = f"{base}upload/{request.uri[len(base) :]}&uploadType=resumable"
    request.headers["x-upload-content-type"] = "message/rfc822"
    request.headers["x-upload-content-length"] = str(size)
    return request


def session_upload(request: Any, base: str, session: str, media: bytes) -> Any:
    """The one upload of the message to a session (step 2 of the page above).

    Raises:
        Unavailable: The session is not at the configured endpoint: a message goes nowhere else.
    """
    if not session.startswith(f"{base}upload/") and not session.startswith(f"{base}resumable/upload/"):
        raise Unavailable("Google named no place to upload the message to; it was not sent.")
    return SimpleNamespace(
        method="PUT",
        uri=session,
        headers={"accept": "application/json", "content-type": "message/rfc822"},
        body=media,
        methodId=request.methodId,
        postproc=request.postproc,
    )


class _BlockingTransport:
    """google-auth's transport interface over httpx, for the IAM signer; used in a worker thread only.

    A connection per call: there is one signature per mailbox and hour, and nothing is left open in a thread.
    """

    def __init__(self, iam_base: str) -> None:
        self._iam_base = iam_base

    def __call__(
        self,
        url: str,
        method: str = "GET",
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        **_: Any,
    ) -> SimpleNamespace:
        if url.startswith(_IAM_HOST):
            url = self._iam_base + url[len(_IAM_HOST) :]
        try:
            response = httpx.request(
                method, url, content=body, headers=dict(headers or {}), timeout=timeout or 20.0, follow_redirects=False
            )
        except httpx.HTTPError as error:
            transport_error = import_module("google.auth.exceptions").TransportError
            raise transport_error(f"{type(error).__name__} while calling {httpx.URL(url).host}") from error
        return SimpleNamespace(status=response.status_code, headers=dict(response.headers), data=response.content)


@lru_cache(maxsize=4)
def _key_signer(private_key: str, key_id: str) -> Any:
    """Kept, since checking an RSA key takes longer than signing with it, and all tenants share one."""
    return import_module("google.auth.crypt").RSASigner.from_string(private_key, key_id or None)


def make_signer(account: ServiceAccount) -> Any:
    """google-auth's signer for the service account: its own key, or IAM's ``signBlob``. May block.

    Raises:
        MisconfiguredClient: The key cannot be read, or there are no default credentials.
    """
    try:
        if not isinstance(account, Keyless):
            return _key_signer(str(account.info["private_key"]), str(account.info.get("private_key_id", "")))
        scope = "https://www.googleapis.com/auth/cloud-platform"
        source = account.source
        if source is None:
            source, _ = import_module("google.auth").default(scopes=[scope])
        if account.impersonate:
            source = import_module("google.auth.impersonated_credentials").Credentials(
                source_credentials=source, target_principal=account.impersonate, target_scopes=[scope]
            )
        return import_module("google.auth.iam").Signer(_BlockingTransport(account.iam_base), source, account.email)
    except (ValueError, import_module("google.auth.exceptions").GoogleAuthError) as error:
        raise MisconfiguredClient(
            f"The service account's credential cannot be used ({type(error).__name__}); no mail was touched."
        ) from error


def sign_jwt(signer: Any, claims: Mapping[str, Any]) -> str:
    """A JWT signed by google-auth. Blocks: an RSA operation, or a call to IAM.

    Raises:
        Unavailable: IAM did not answer.
        MisconfiguredClient: IAM refused.
    """
    errors = import_module("google.auth.exceptions")
    try:
        token: bytes = import_module("google.auth.jwt").encode(signer, dict(claims))
    except errors.TransportError as error:
        detail = str(error.args[0]) if error.args else ""
        if "signBlob API: " in detail:
            raise MisconfiguredClient(
                "IAM refuses to sign for the service account: grant our identity the role Service Account "
                f"Token Creator on it. {_iam_reason(detail)}".rstrip()
            ) from error
        raise Unavailable("IAM did not answer when asked to sign.") from error
    except errors.GoogleAuthError as error:
        if getattr(error, "retryable", False):
            raise Unavailable("The identity we run as gave no token to sign with.") from error
        raise MisconfiguredClient(f"The identity we run as cannot be used to sign ({type(error).__name__}).") from error
    return token.decode("ascii")


def _iam_reason(detail: str) -> str:
    """The status that IAM named, out of google-auth's message, which quotes the answer."""
    start, end = detail.find("{"), detail.rfind("}")
    if start < 0 or end < start:
        return ""
    try:
        answer = json.loads(detail[start : end + 1].replace("\\n", " "))
        return f"IAM says {answer['error']['status']}."
    except (ValueError, KeyError, TypeError):
        return ""
