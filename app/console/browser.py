"""What is kept in the browser: the session cookie, the sealed sign-in flow, and tokens against forged forms.

Cookies are HttpOnly and SameSite=Lax; over https they are Secure and carry the ``__Host-`` prefix, so that
no other host or path can set them (RFC 6265bis section 4.1.3).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import secrets
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from fastapi import Request
from fastapi.responses import Response

from app.console.deps import ConsoleDeps
from app.kit.crypto import KeyRing, SealBroken
from app.tenants.sessions import LIFETIME
from connectors.base.types import Provider

FLOW_LIFETIME = timedelta(minutes=10)
_FLOW_PURPOSE = "console-flow"
_CSRF_PURPOSE = "console-csrf"

FlowKind = Literal["signin", "consent"]


def secure(deps: ConsoleDeps) -> bool:
    """Whether browsers reach the console over https."""
    return deps.settings.console_url.startswith("https:")


def cookie_name(deps: ConsoleDeps, name: str) -> str:
    """The cookie's full name."""
    return f"__Host-postern-{name}" if secure(deps) else f"postern-{name}"


def set_cookie(deps: ConsoleDeps, response: Response, name: str, value: str, lifetime: timedelta) -> None:
    """Set one of our cookies."""
    response.set_cookie(
        cookie_name(deps, name),
        value,
        max_age=int(lifetime.total_seconds()),
        path="/",
        secure=secure(deps),
        httponly=True,
        samesite="lax",
    )


def drop_cookie(deps: ConsoleDeps, response: Response, name: str) -> None:
    """Remove one of our cookies."""
    response.delete_cookie(cookie_name(deps, name), path="/", secure=secure(deps), httponly=True, samesite="lax")


def get_cookie(deps: ConsoleDeps, request: Request, name: str) -> str:
    """The value of one of our cookies, or empty."""
    return request.cookies.get(cookie_name(deps, name), "")


def set_session_cookie(deps: ConsoleDeps, response: Response, value: str) -> None:
    """Keep the session in the browser."""
    set_cookie(deps, response, "session", value, LIFETIME)


@dataclass(frozen=True, slots=True)
class Flow:
    """A sign-in or consent that is under way in this browser.

    Attributes:
        kind: Which of the two.
        provider: With whom; an answer from another provider is refused (mix-up, RFC 9207).
        state: Echoed by the provider.
        nonce: Expected in the id_token.
        verifier: PKCE code verifier (RFC 7636).
        session: Hex SHA-256 of the session token a consent belongs to, or empty.
        next: Path to go to afterwards.
        expires: Unix time.
    """

    kind: FlowKind
    provider: str
    state: str
    expires: int
    nonce: str = ""
    verifier: str = ""
    session: str = ""
    next: str = ""

    @property
    def challenge(self) -> str:
        """The S256 code challenge."""
        return _b64(hashlib.sha256(self.verifier.encode()).digest())

    @property
    def expires_at(self) -> datetime:
        """When it ends, aware UTC."""
        return datetime.fromtimestamp(self.expires, UTC)


def new_flow(kind: FlowKind, provider: Provider, now: datetime, *, session: bytes = b"", following: str = "") -> Flow:
    """A fresh flow with its own state, nonce and verifier."""
    return Flow(
        kind=kind,
        provider=provider.value,
        state=secrets.token_urlsafe(32),
        nonce=secrets.token_urlsafe(32),
        verifier=secrets.token_urlsafe(48),
        session=session.hex(),
        next=following,
        expires=int((now + FLOW_LIFETIME).timestamp()),
    )


def seal_flow(keys: KeyRing, flow: Flow) -> str:
    """The flow as a cookie value: encrypted, so that state and verifier stay with this browser."""
    plain = json.dumps(asdict(flow), separators=(",", ":")).encode()
    return _b64(keys.seal(_FLOW_PURPOSE, flow.kind.encode(), plain))


def open_flow(keys: KeyRing, kind: FlowKind, value: str, now: datetime) -> Flow | None:
    """The flow of a cookie; None where there is none, it was changed, or its time is over."""
    if not value or len(value) > 4000:
        return None
    try:
        sealed = base64.urlsafe_b64decode(value + "=" * (-len(value) % 4))
        flow = Flow(**json.loads(keys.open(_FLOW_PURPOSE, kind.encode(), sealed)))
    except (SealBroken, binascii.Error, ValueError):
        return None
    return flow if now.timestamp() < flow.expires else None


def csrf_token(keys: KeyRing, token_hash: bytes) -> str:
    """The token that every form of a session carries: bound to the session, useless in another."""
    key = keys.derive(keys.current, _CSRF_PURPOSE)
    return hmac.new(key, token_hash, hashlib.sha256).hexdigest()


def csrf_matches(keys: KeyRing, token_hash: bytes, given: str) -> bool:
    """Whether a form came from a page of this session (compared in constant time)."""
    return hmac.compare_digest(csrf_token(keys, token_hash).encode(), given.encode())


def safe_next(path: str) -> str:
    """A path of the console to go on with, or empty: never another site."""
    if not path.startswith("/") or path.startswith(("//", "/\\")) or len(path) > 500:
        return ""
    return path if path.isprintable() and "\\" not in path else ""


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
