"""The journal of mails to administrators: what each is about, and what became of it."""

from __future__ import annotations

import uuid
from datetime import datetime

from sqlalchemy import Identity, Index, UniqueConstraint
from sqlalchemy import text as sql
from sqlalchemy.orm import Mapped, mapped_column

from app.kit.db import Base


class MailAlert(Base):
    """One mail to one person."""

    __tablename__ = "mail_alerts"

    tenant_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    kind: Mapped[str]
    """``incident``, ``stopped`` or ``test``."""
    about: Mapped[int] = mapped_column(server_default="0")
    """The incident's number; otherwise the second of the event (Unix time)."""
    number: Mapped[int] = mapped_column(server_default="0")
    """Of an incident: the how-manieth alert."""
    status: Mapped[str] = mapped_column(server_default="")
    """Of ``stopped``: ``revoked`` or ``blocked``."""
    recipient: Mapped[str]
    state: Mapped[str] = mapped_column(server_default="waiting")
    """``waiting``, ``sent`` or ``failed`` (given up)."""
    failures: Mapped[int] = mapped_column(server_default="0")
    error: Mapped[str] = mapped_column(server_default="")
    asked_at: Mapped[datetime] = mapped_column(server_default=sql("now()"))
    not_before: Mapped[datetime] = mapped_column(server_default=sql("now()"))
    ended_at: Mapped[datetime | None]

    __table_args__ = (
        UniqueConstraint("tenant_id", "kind", "about", "number", "recipient"),
        Index("ix_mail_alerts_state", "tenant_id", "state", "not_before"),
    )
