"""Google's public keys, cached, and the validation of tokens signed with them. No Google library.

google-auth's own verifier fetches the certificates at every call and blocks; this one fetches them when
their ``Cache-Control`` lifetime is over, or when a token names a key that is not known yet (key rotation).
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from typing import Any

import httpx
from joserfc import jws, jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from connectors.base.errors import Transient, Unavailable
from connectors.base.http import SharedHttp

LEEWAY = 60
"""Seconds by which two clocks may differ."""
MAX_TOKEN_CHARS = 16_384
_MAX_AGE = re.compile(r"max-age=(\d{1,9})")
_DEFAULT_LIFE = 3600.0
_SHORTEST_LIFE, _LONGEST_LIFE = 300.0, 86_400.0
_BETWEEN_LOOKUPS = 30.0


class TokenRefused(Exception):
    """A token that is not valid; says why in words that hold no part of it."""


class KeyCache:
    """The keys of one JWKS address.

    Args:
        url: Where they are.
        http: The client to use.
        clock: Monotonic seconds.
    """

    def __init__(self, url: str, http: SharedHttp, clock: Callable[[], float] = time.monotonic) -> None:
        self._url = url
        self._http = http
        self._clock = clock
        self._keys: KeySet | None = None
        self._ids: frozenset[str] = frozenset()
        self._fresh_until = 0.0
        self._asked_at = float("-inf")
        self._lock = asyncio.Lock()

    async def keys_for(self, key_id: str) -> KeySet:
        """The key set, fetched anew if stale, or if it lacks ``key_id`` and was not just fetched.

        Raises:
            Transient: There are no keys, and none can be had now.
        """
        if self._usable(key_id):
            assert self._keys is not None
            return self._keys
        async with self._lock:
            if not self._usable(key_id) and self._may_ask():
                await self._refresh()
            if self._keys is None:
                raise Unavailable("The provider's public keys cannot be had now; the token was not judged.")
            return self._keys

    def _usable(self, key_id: str) -> bool:
        return self._keys is not None and self._clock() < self._fresh_until and key_id in self._ids

    def _may_ask(self) -> bool:
        """Forged key ids must not make us ask at every request."""
        return self._keys is None or self._clock() - self._asked_at >= _BETWEEN_LOOKUPS

    async def _refresh(self) -> None:
        self._asked_at = self._clock()
        try:
            response = await self._http.send(
                httpx.Request("GET", self._url, headers={"accept": "application/json"}),
                mailbox=f"keys:{self._url}",
                read=True,
                what="fetching the provider's public keys",
            )
            if response.status_code != 200:
                raise Unavailable(f"The provider's public keys: status {response.status_code}.")
            data: Any = response.json()
            keys = KeySet.import_key_set(data)
            ids = frozenset(str(key["kid"]) for key in data["keys"] if "kid" in key)
        except (JoseError, ValueError, KeyError, TypeError) as error:
            if self._keys is None:
                raise Unavailable("The provider's public keys are not readable.") from error
            return
        except Transient:
            if self._keys is None:
                raise
            return  # the keys at hand go on being used; a stale key is still one of the provider's
        match = _MAX_AGE.search(response.headers.get("cache-control", ""))
        life = float(match.group(1)) if match else _DEFAULT_LIFE
        self._keys, self._ids = keys, ids
        self._fresh_until = self._clock() + min(max(life, _SHORTEST_LIFE), _LONGEST_LIFE)


async def validate(
    token: str,
    keys: KeyCache,
    *,
    issuers: tuple[str, ...],
    audience: str,
    now: Callable[[], float] = time.time,
) -> dict[str, Any]:
    """The claims of an RS256 token, once signature, issuer, audience and times are right.

    Args:
        token: Compact JWS.
        keys: The issuer's keys.
        issuers: Accepted values of ``iss``.
        audience: The only accepted ``aud``.
        now: Seconds since the epoch.

    Raises:
        TokenRefused: It is not valid.
        Transient: The keys cannot be had; nothing is known about the token.
    """
    if not audience or len(token) > MAX_TOKEN_CHARS:
        raise TokenRefused("The token is too long, or no audience is configured.")
    try:
        header = jws.extract_compact(token.encode("ascii")).headers()
        key_set = await keys.keys_for(str(header.get("kid", "")))
        decoded = jwt.decode(token, key_set, algorithms=["RS256"])
        registry = jwt.JWTClaimsRegistry(
            now=lambda: int(now()),
            leeway=LEEWAY,
            iss={"essential": True, "values": list(issuers)},
            aud={"essential": True, "value": audience},
            exp={"essential": True},
            iat={"essential": True},
            sub={"essential": True},
        )
        registry.validate(decoded.claims)
    except (JoseError, ValueError, KeyError, TypeError) as error:
        raise TokenRefused(f"The token is not valid ({type(error).__name__}).") from error
    if decoded.claims["aud"] != audience:
        raise TokenRefused("The token is meant for several audiences.")
    return dict(decoded.claims)
