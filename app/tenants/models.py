"""Tables of tenants and their people."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import Identity, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from app.kit.db import Base


class Tenant(Base):
    """One organisation at one provider. Guarded like every tenant table, by its own id.

    ``no`` is the short number that link tokens carry; ``external_id`` is the provider's own (Entra ``tid``;
    Google's hosted domain).
    """

    __tablename__ = "tenants"

    tenant_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    no: Mapped[int] = mapped_column(Identity(always=False, start=1001), unique=True)
    name: Mapped[str]
    provider: Mapped[str]
    external_id: Mapped[str]
    organisation_id: Mapped[str] = mapped_column(server_default="")
    """The provider's own id of the organisation (Entra ``tid``; Google's customer id). No two tenants have the same."""
    admin_address: Mapped[str] = mapped_column(server_default="")
    status: Mapped[str] = mapped_column(server_default="onboarding")
    """``onboarding`` (signed in, no grant yet), ``active``, ``paused``, ``revoked``."""
    consented_at: Mapped[datetime | None]
    checks: Mapped[list[Any]] = mapped_column(server_default=text("'[]'::jsonb"))
    checked_at: Mapped[datetime | None]
    settings: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'::jsonb"))
    """Tenant-wide options: locale, page words, contact, failure policy, restore days."""
    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"))

    __table_args__ = (
        UniqueConstraint("provider", "external_id"),
        Index(
            "uq_tenants_organisation",
            "provider",
            "organisation_id",
            unique=True,
            postgresql_where=text("organisation_id <> ''"),
        ),
    )


class Domain(Base):
    """A mail domain of a tenant. Protection is off until switched on (L2)."""

    __tablename__ = "domains"

    tenant_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    protected: Mapped[bool] = mapped_column(server_default=text("false"))
    dry_run: Mapped[bool] = mapped_column(server_default=text("false"))
    protect_since: Mapped[datetime | None]
    """Mail received before this is left alone."""
    changed_at: Mapped[datetime | None]


class User(Base):
    """A person who signed in to the console, with a role in this tenant (L31)."""

    __tablename__ = "users"

    tenant_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    subject: Mapped[str]
    email: Mapped[str]
    name: Mapped[str] = mapped_column(server_default="")
    role: Mapped[str] = mapped_column(server_default="user")
    domains: Mapped[list[Any]] = mapped_column(server_default=text("'[]'::jsonb"))
    """Of a domain administrator: the only domains that this person sees, beside their own mailbox."""
    locale: Mapped[str] = mapped_column(server_default="")
    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    last_seen_at: Mapped[datetime | None]

    __table_args__ = (UniqueConstraint("tenant_id", "subject"),)


class Session(Base):
    """A signed-in browser. The cookie carries tenant and token; here is only the token's SHA-256."""

    __tablename__ = "sessions"

    tenant_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    token_hash: Mapped[bytes] = mapped_column(primary_key=True)
    user_id: Mapped[uuid.UUID]
    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    expires_at: Mapped[datetime]


class UsedState(Base):
    """OAuth states that were spent: each works once. Shared by all tenants and holds nobody's data."""

    __tablename__ = "used_states"

    state_hash: Mapped[bytes] = mapped_column(primary_key=True)
    expires_at: Mapped[datetime]
