"""Signed-in browsers.

The cookie carries the tenant's id (so that row-level security can be set before the look-up) and a random
token of 256 bits; the table holds only the token's SHA-256. A session is always a new one: nothing that
a browser brought before signing in lives on (no session fixation).
"""

from __future__ import annotations

import hashlib
import secrets
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.tenants.models import Session, Tenant, User

LIFETIME = timedelta(hours=12)
SEEN_EVERY = timedelta(minutes=5)
_TOKEN_BYTES = 32


@dataclass(frozen=True, slots=True)
class OpenSession:
    """A live session with its person and tenant, as they are now (a changed role counts at once)."""

    user: User
    tenant: Tenant
    token_hash: bytes


def cookie_value(tenant_id: uuid.UUID, token: str) -> str:
    """What the browser keeps."""
    return f"{tenant_id.hex}.{token}"


def read_cookie(value: str) -> tuple[uuid.UUID, str] | None:
    """Tenant and token of a cookie, or None where it is not one of ours."""
    tenant, dot, token = value.partition(".")
    if not dot or len(tenant) != 32 or not 20 <= len(token) <= 100:
        return None
    try:
        return uuid.UUID(hex=tenant), token
    except ValueError:
        return None


def token_hash(token: str) -> bytes:
    """What the table holds of a token."""
    return hashlib.sha256(token.encode()).digest()


async def start_session(session: AsyncSession, user: User, now: datetime) -> str:
    """Open a session and drop the person's expired ones.

    Returns:
        The token; it is stored nowhere.
    """
    await session.execute(
        delete(Session).where(
            Session.tenant_id == user.tenant_id, Session.user_id == user.id, Session.expires_at <= now
        )
    )
    token = secrets.token_urlsafe(_TOKEN_BYTES)
    session.add(
        Session(
            tenant_id=user.tenant_id,
            token_hash=token_hash(token),
            user_id=user.id,
            created_at=now,
            expires_at=now + LIFETIME,
        )
    )
    return token


async def resume_session(session: AsyncSession, tenant_id: uuid.UUID, token: str, now: datetime) -> OpenSession | None:
    """The live session of a token, or None: unknown, expired, ended or of a deleted person."""
    hashed = token_hash(token)
    row = (
        await session.execute(
            select(User, Tenant)
            .join(Session, (Session.tenant_id == User.tenant_id) & (Session.user_id == User.id))
            .join(Tenant, Tenant.tenant_id == User.tenant_id)
            .where(Session.tenant_id == tenant_id, Session.token_hash == hashed, Session.expires_at > now)
        )
    ).one_or_none()
    if row is None:
        return None
    user, tenant = row
    if user.last_seen_at is None or now - user.last_seen_at > SEEN_EVERY:
        await session.execute(
            update(User)
            .where(User.tenant_id == tenant_id, User.id == user.id)
            .values(last_seen_at=now)
            .execution_options(synchronize_session=False)
        )
    return OpenSession(user, tenant, hashed)


async def end_session(session: AsyncSession, tenant_id: uuid.UUID, token: str) -> None:
    """Sign out: the token opens nothing any more."""
    await session.execute(
        delete(Session).where(Session.tenant_id == tenant_id, Session.token_hash == token_hash(token))
    )


async def end_sessions_of(session: AsyncSession, tenant_id: uuid.UUID, user_id: uuid.UUID) -> None:
    """Sign a person out everywhere."""
    await session.execute(delete(Session).where(Session.tenant_id == tenant_id, Session.user_id == user_id))
