"""The append-only record of who did and who looked. The application may insert and read, nothing else."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import Identity, text
from sqlalchemy.orm import Mapped, mapped_column

from app.kit.db import Base


class AuditEntry(Base):
    """One act of one party."""

    __tablename__ = "audit_log"

    tenant_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    actor_kind: Mapped[str]
    actor_id: Mapped[uuid.UUID | None]
    actor_label: Mapped[str] = mapped_column(server_default="")
    action: Mapped[str]
    target: Mapped[str] = mapped_column(server_default="")
    detail: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'::jsonb"))
