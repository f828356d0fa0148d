"""Access tokens for acting as one person, by the service account's assertion (RFC 7523).

google-auth signs; the exchange itself is sent by the async client, so that thousands of mailboxes can renew
their hourly tokens without threads. The assertion is the one of "Using OAuth 2.0 for Server to Server
Applications", https://developers.google.com/identity/protocols/oauth2/service-account#authorizingrequests.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import httpx

from connectors.base.errors import ConnectorError, Unavailable
from connectors.base.http import SharedHttp
from connectors.google import errors, sdk
from connectors.google.config import GoogleConfig

_AUDIENCE = "https://oauth2.googleapis.com/token"
"""Always this, wherever the endpoint is reached (the page above; google-auth does the same)."""
_LIFETIME = 3600
_EARLY = 300
"""Seconds before the end of its life at which a token is renewed."""
_KEPT = 20_000


@dataclass(frozen=True, slots=True)
class _Token:
    value: str
    expires_at: float


class TokenSource:
    """Gives access tokens, one per person and set of scopes, and remembers them until they near expiry.

    Args:
        config: Which service account, and where tokens are given.
        http: The shared client.
        clock: Seconds since the epoch.
    """

    def __init__(self, config: GoogleConfig, http: SharedHttp, clock: Callable[[], float] = time.time) -> None:
        self._config = config
        self._http = http
        self._clock = clock
        self._signer: Any = None
        self._tokens: dict[tuple[str, tuple[str, ...]], _Token] = {}
        self._asking: dict[tuple[str, tuple[str, ...]], asyncio.Lock] = {}
        self._signer_lock = asyncio.Lock()

    async def get(self, subject: str, scopes: tuple[str, ...]) -> str:
        """A token for acting as ``subject``; empty: as the service account itself.

        Raises:
            UnauthorizedClient: There is no delegation for (one of) these scopes.
            MailboxUnavailable: The person is gone or suspended.
            MisconfiguredClient: Our own credential is refused.
            Transient: No answer, or asked to slow down.
        """
        key = (subject, scopes)
        if token := self._fresh(key):
            return token
        lock = self._asking.setdefault(key, asyncio.Lock())
        try:
            async with lock:
                if token := self._fresh(key):
                    return token
                return await self._ask(key)
        finally:
            if not lock.locked() and self._asking.get(key) is lock:
                del self._asking[key]

    def forget(self, subject: str, scopes: tuple[str, ...]) -> None:
        """Drop a token that an API did not take."""
        self._tokens.pop((subject, scopes), None)

    def _fresh(self, key: tuple[str, tuple[str, ...]]) -> str:
        token = self._tokens.get(key)
        return token.value if token and token.expires_at - _EARLY > self._clock() else ""

    async def _ask(self, key: tuple[str, tuple[str, ...]]) -> str:
        subject, scopes = key
        now = int(self._clock())
        claims = {
            "iss": self._config.service_account.email,
            "aud": _AUDIENCE,
            "scope": " ".join(scopes),
            "iat": now,
            "exp": now + _LIFETIME,
        }
        if subject:
            claims["sub"] = subject
        assertion = await asyncio.to_thread(sdk.sign_jwt, await self._get_signer(), claims)
        body = urlencode({"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": assertion})
        request = httpx.Request(
            "POST",
            self._config.token_uri,
            headers={"content-type": "application/x-www-form-urlencoded", "user-agent": sdk.USER_AGENT},
            content=body.encode("ascii"),
        )
        response = await self._http.send(
            request,
            mailbox=f"google-token:{subject}",
            read=True,  # asking twice gives two valid tokens, nothing more
            what="asking Google for an access token",
            throttle=errors.throttle_seconds,
        )
        if response.status_code != 200:
            raise errors.token_error(response, subject)
        token = self._read(response)
        if len(self._tokens) >= _KEPT:
            self._drop_stale()
        self._tokens[key] = token
        return token.value

    def _read(self, response: httpx.Response) -> _Token:
        try:
            answer = json.loads(response.content)
            value, seconds = answer["access_token"], float(answer.get("expires_in", _LIFETIME))
        except (ValueError, KeyError, TypeError) as error:
            raise Unavailable("Google's token endpoint answered without a token.") from error
        if not isinstance(value, str) or not value:
            raise Unavailable("Google's token endpoint answered without a token.")
        return _Token(value, self._clock() + seconds)

    def _drop_stale(self) -> None:
        """Make room: expired tokens first; the oldest half where that is not enough."""
        now = self._clock()
        kept = {key: token for key, token in self._tokens.items() if token.expires_at > now}
        if len(kept) >= _KEPT:
            by_age = sorted(kept.items(), key=lambda item: item[1].expires_at)
            kept = dict(by_age[len(by_age) // 2 :])
        self._tokens = kept

    async def _get_signer(self) -> Any:
        async with self._signer_lock:
            if self._signer is None:
                self._signer = await asyncio.to_thread(sdk.make_signer, self._config.service_account)
            return self._signer


async def works(tokens: TokenSource, subject: str, scopes: tuple[str, ...]) -> ConnectorError | None:
    """The error that asking for such a token gives now, or None where it is given."""
    try:
        await tokens.get(subject, scopes)
    except ConnectorError as error:
        return error
    return None
