"""Reads Gmail's notifications as Pub/Sub pushes them. Loads no Google library and fetches no mail.

The body (https://docs.cloud.google.com/pubsub/docs/push#receive_push) wraps Gmail's
``{"emailAddress", "historyId"}`` (https://developers.google.com/workspace/gmail/api/guides/push) in base64;
the bearer token proves that it comes from our own push subscription
(https://docs.cloud.google.com/pubsub/docs/authenticate-push-subscriptions).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import re
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from connectors.base.http import SharedHttp
from connectors.base.types import Hint, Provider
from connectors.google.config import GoogleConfig
from connectors.google.jwks import KeyCache, TokenRefused, validate

MAX_BODY_BYTES: Final = 65_536
_REMEMBERED_TOKENS: Final = 256
_LONGEST_REMEMBERED_SECONDS: Final = 3_600.0
_ADDRESS = re.compile(r"[^\s@\x00-\x1f]{1,64}@[^\s@\x00-\x1f]{1,253}")
_HISTORY_ID = re.compile(r"\d{1,20}")


class GoogleNotifications:
    """Implements :class:`connectors.base.protocol.NotificationReader`.

    Args:
        config: Audience and service account of the push subscription, and where Google's keys are.
        http: A client to share; it is then the caller's to close.
        now: Seconds since the epoch.
    """

    provider = Provider.GOOGLE
    skipped = 0
    """A push is one message: there are no entries to leave out."""

    def __init__(
        self,
        config: GoogleConfig,
        *,
        http: SharedHttp | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._config = config
        self._own_http = http is None
        self._http = http or SharedHttp()
        self._keys = KeyCache(config.certs_url, self._http)
        self._now = now
        self._genuine: dict[bytes, float] = {}

    def handshake(self, query: Mapping[str, str]) -> str | None:
        """Pub/Sub asks for none."""
        return None

    async def read(self, headers: Mapping[str, str], body: bytes) -> list[Hint]:
        """The hint in a push request: which mailbox changed.

        Raises:
            PermissionError: It does not come from our push subscription.
            ValueError: It is not a Gmail notification; says why. Acknowledge it, or it comes for days.
            connectors.base.errors.Transient: Google's keys cannot be had now: answer 503, it comes again.
        """
        if len(body) > MAX_BODY_BYTES:
            raise ValueError(f"The notification is larger than {MAX_BODY_BYTES} bytes.")
        await self._authenticate(headers)
        return [read_push(body, self._config.pubsub_subscription)]

    async def aclose(self) -> None:
        """Close connections."""
        if self._own_http:
            await self._http.aclose()

    async def _authenticate(self, headers: Mapping[str, str]) -> None:
        expected = self._config.push_service_account
        if not expected:
            raise PermissionError("No service account is configured for pushed notifications.")
        text = next((value for name, value in headers.items() if name.lower() == "authorization"), "")
        scheme, _, token = text.partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise PermissionError("The notification carries no bearer token.")
        # Pub/Sub sends one token for up to an hour
        # (https://docs.cloud.google.com/pubsub/docs/authenticate-push-subscriptions): it is verified once.
        digest = hashlib.sha256(token.strip().encode("utf-8", "surrogatepass")).digest()
        if self._now() < self._genuine.get(digest, 0.0):
            return
        issuer = self._config.oidc_issuer
        try:
            claims = await validate(
                token.strip(),
                self._keys,
                issuers=(issuer, issuer.removeprefix("https://")),
                audience=self._config.push_audience,
                now=self._now,
            )
        except TokenRefused as error:
            raise PermissionError(str(error)) from error
        email = str(claims.get("email", ""))
        if not hmac.compare_digest(email.encode(), expected.encode()):
            raise PermissionError("The token is another service account's.")
        if claims.get("email_verified") is not True:
            raise PermissionError("The token's address is not verified.")
        self._remember(digest, float(claims["exp"]))

    def _remember(self, digest: bytes, until: float) -> None:
        now = self._now()
        if len(self._genuine) >= _REMEMBERED_TOKENS:
            self._genuine = {known: end for known, end in self._genuine.items() if end > now}
        if len(self._genuine) < _REMEMBERED_TOKENS:
            self._genuine[digest] = min(until, now + _LONGEST_REMEMBERED_SECONDS)


def read_push(body: bytes, subscription: str = "") -> Hint:
    """Read a push request's body.

    Args:
        body: JSON.
        subscription: The only subscription accepted; empty: any.

    Raises:
        ValueError: It is not a Gmail notification; says why.
    """
    try:
        data = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ValueError("The notification is not JSON.") from error
    if not isinstance(data, dict):
        raise ValueError("The notification is not a JSON object.")
    if subscription and data.get("subscription") != subscription:
        raise ValueError("The notification names another subscription.")
    message = data.get("message")
    if not isinstance(message, dict):
        raise ValueError("The notification carries no message.")
    return read_message(message)


def read_message(message: Mapping[str, Any]) -> Hint:
    """Read a ``PubsubMessage``, pushed or pulled.

    Raises:
        ValueError: It is not a Gmail notification; says why.
    """
    encoded = message.get("data")
    if not isinstance(encoded, str) or not encoded:
        raise ValueError("The notification carries no data.")
    try:
        text = encoded.replace("-", "+").replace("_", "/").rstrip("=")
        decoded = json.loads(base64.b64decode(text + "=" * (-len(text) % 4), validate=True))
    except (binascii.Error, ValueError, RecursionError) as error:
        raise ValueError("The notification's data is not JSON in base64.") from error
    if not isinstance(decoded, dict):
        raise ValueError("The notification's data is not a JSON object.")
    address, history_id = decoded.get("emailAddress"), decoded.get("historyId")
    if not isinstance(address, str) or not _ADDRESS.fullmatch(address):
        raise ValueError("The notification names no mailbox.")
    number = isinstance(history_id, int) and not isinstance(history_id, bool) and history_id >= 0
    if not number and not (isinstance(history_id, str) and _HISTORY_ID.fullmatch(history_id)):
        raise ValueError("The notification names no history id.")
    return Hint(subscription_id=address.lower())
