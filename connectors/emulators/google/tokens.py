"""Access tokens and the table of what each may do."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from connectors.emulators.google.errors import unauthenticated


@dataclass(frozen=True, slots=True)
class Grant:
    """What an access token stands for.

    Attributes:
        subject: The user's address, or None for a service account acting as itself.
        client: Client id: the service account's numeric id or the OAuth client's.
        service_account: The service account's address, or empty for an OAuth client.
        project: The Cloud project whose quota is used.
        scopes: What was granted.
        expires: Seconds since the epoch.
    """

    subject: str | None
    client: str
    service_account: str
    project: str
    scopes: frozenset[str]
    expires: float


class Tokens:
    """Issued access tokens. They outlive a restart of the emulator, as Google's do."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._grants: dict[str, Grant] = {}

    def issue(
        self,
        *,
        subject: str | None,
        client: str,
        service_account: str,
        project: str,
        scopes: Iterable[str],
        lifetime: float,
    ) -> str:
        """Make a token and forget expired ones."""
        now = self._clock()
        if len(self._grants) > 1_000:
            self._grants = {token: grant for token, grant in self._grants.items() if grant.expires > now}
        token = "ya29." + secrets.token_urlsafe(48)
        self._grants[token] = Grant(subject, client, service_account, project, frozenset(scopes), now + lifetime)
        return token

    def check(self, authorization: str | None) -> Grant:
        """Read an Authorization header (RFC 6750, section 2.1).

        Raises:
            ApiError: 401 for a missing, unknown or expired token.
        """
        scheme, _, token = (authorization or "").partition(" ")
        grant = self._grants.get(token.strip()) if scheme.lower() == "bearer" else None
        if grant is None or grant.expires <= self._clock():
            raise unauthenticated()
        return grant

    def drop(self, wanted: Callable[[Grant], bool]) -> None:
        """Make tokens invalid at once."""
        self._grants = {token: grant for token, grant in self._grants.items() if not wanted(grant)}

    def save(self) -> dict[str, Any]:
        """Plain data for JSON; holds live tokens of the emulator."""
        return {token: {**asdict(grant), "scopes": sorted(grant.scopes)} for token, grant in self._grants.items()}

    def load(self, data: Mapping[str, Any]) -> None:
        """The reverse of :meth:`save`."""
        self._grants = {
            token: Grant(**{**grant, "scopes": frozenset(grant["scopes"])}) for token, grant in data.items()
        }
