"""Tables of what happens at the gateway."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import Index, text
from sqlalchemy.orm import Mapped, mapped_column

from app.kit.db import Base


class Click(Base):
    """One click (L23). ``id`` is made when it is spooled, so that ingesting twice counts once."""

    __tablename__ = "clicks"

    tenant_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    at: Mapped[datetime]
    mailbox_id: Mapped[int | None]
    message_id: Mapped[int | None]
    url: Mapped[str]
    host: Mapped[str]
    level: Mapped[str]
    """Verdict level: clean, unknown, suspicious, malicious."""
    action: Mapped[str]
    """What was answered: redirect, warn, proceed (past a warning), block, wait, lock."""
    rule: Mapped[str] = mapped_column(server_default="")
    evidence: Mapped[list[Any]] = mapped_column(server_default=text("'[]'::jsonb"))
    user_agent: Mapped[str] = mapped_column(server_default="")
    client_address: Mapped[str | None]
    automated: Mapped[bool] = mapped_column(server_default=text("false"))
    automated_reasons: Mapped[list[Any]] = mapped_column(server_default=text("'[]'::jsonb"))
    signals: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'::jsonb"))
    incident_id: Mapped[int | None]
    """The incident that a stopped click belongs to; 0: none, which was decided; None: not looked at yet."""

    __table_args__ = (
        Index("ix_clicks_at", "tenant_id", "at"),
        Index("ix_clicks_message", "tenant_id", "message_id"),
        Index(
            "ix_clicks_incident",
            "tenant_id",
            "incident_id",
            postgresql_where=text("incident_id IS NOT NULL AND incident_id <> 0"),
        ),
        Index(
            "ix_clicks_stopped",
            "tenant_id",
            "id",
            postgresql_where=text("incident_id IS NULL AND (action = 'block' OR level = 'malicious')"),
        ),
    )


class ClickReport(Base):
    """What a person asked for or said on a gateway page: a release request or a mistake (L19, L21)."""

    __tablename__ = "click_reports"

    tenant_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    at: Mapped[datetime]
    kind: Mapped[str]
    """``release``, ``mistake`` or ``harmful``."""
    mailbox_id: Mapped[int | None]
    message_id: Mapped[int | None]
    url: Mapped[str]
    host: Mapped[str]
    reason: Mapped[str] = mapped_column(server_default="")
    state: Mapped[str] = mapped_column(server_default="open")
    handled_by: Mapped[str] = mapped_column(server_default="")
    handled_at: Mapped[datetime | None]
