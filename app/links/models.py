"""The one table a link may need: payloads of links too long for a URL."""

from __future__ import annotations

import uuid
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.orm import Mapped, mapped_column

from app.kit.db import Base


class LinkPayload(Base):
    """A sealed token payload that would have made the link longer than 1,800 characters."""

    __tablename__ = "link_payloads"

    tenant_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    digest: Mapped[bytes] = mapped_column(primary_key=True)
    """First 16 bytes of the payload's SHA-256: the same link in the same message gives the same URL."""
    sealed: Mapped[bytes]
    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
