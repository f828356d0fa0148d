"""Tables of the tenant's own lists."""

from __future__ import annotations

import uuid
from datetime import datetime

from sqlalchemy import Identity, text
from sqlalchemy.orm import Mapped, mapped_column

from app.kit.db import Base


class ListEntry(Base):
    """One line of a tenant's list (L4). The first entry by position that matches decides.

    ``action`` is ``allow``, ``block`` or ``ignore`` (never rewritten); ``pattern`` is a host
    (``example.com`` also matches its subdomains), a host and path with ``*``, or, with ``kind`` = ``re2``,
    an RE2 expression over the whole URL.
    """

    __tablename__ = "list_entries"

    tenant_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    action: Mapped[str]
    kind: Mapped[str] = mapped_column(server_default="wildcard")
    pattern: Mapped[str]
    position: Mapped[int] = mapped_column(server_default="0")
    note: Mapped[str] = mapped_column(server_default="")
    created_by: Mapped[str] = mapped_column(server_default="")
    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
