"""Tables of the threat-intelligence sources. They belong to the installation, not to a tenant."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Identity, Index, text
from sqlalchemy.orm import Mapped, mapped_column

from app.kit.db import Base


class ThreatSourceRow(Base):
    """A source as it was set up, and how it is doing. Its key is not in here, only where it is."""

    __tablename__ = "threat_sources"

    name: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    address: Mapped[str] = mapped_column(server_default="")
    secret_ref: Mapped[str] = mapped_column(server_default="")
    every_seconds: Mapped[int]
    level: Mapped[str] = mapped_column(server_default="malicious")
    weight: Mapped[int] = mapped_column(server_default="100")
    licence: Mapped[str] = mapped_column(server_default="")
    enabled: Mapped[bool] = mapped_column(server_default=text("false"))
    options: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'::jsonb"))
    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"))
    state: Mapped[bytes | None]
    last_try: Mapped[datetime | None]
    last_success: Mapped[datetime | None]
    last_change: Mapped[datetime | None]
    next_try: Mapped[datetime | None]
    error: Mapped[str] = mapped_column(server_default="")
    failures: Mapped[int] = mapped_column(server_default="0")
    entries: Mapped[int] = mapped_column(server_default="0")
    refused: Mapped[int] = mapped_column(server_default="0")
    problems: Mapped[list[Any]] = mapped_column(server_default=text("'[]'::jsonb"))


class FeedFileRow(Base):
    """A file that is built by a worker and fetched by others: written in one transaction, never changed.

    ``kind``: ``store`` (what gateways map; ``id`` is its version), ``list`` (a downloaded list on its way into the
    store, as a store of one source), ``delta`` (what a new store lists and the one before did not), ``file`` (a signal
    source's own).
    """

    __tablename__ = "feed_files"

    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    kind: Mapped[str]
    source: Mapped[str] = mapped_column(server_default="")
    held: Mapped[bool] = mapped_column(server_default=text("false"))
    reasons: Mapped[list[Any]] = mapped_column(server_default=text("'[]'::jsonb"))
    whole: Mapped[bool] = mapped_column(server_default=text("true"))
    state: Mapped[bytes] = mapped_column(server_default=text("''::bytea"))
    removed: Mapped[bytes] = mapped_column(server_default=text("''::bytea"))
    entries: Mapped[int] = mapped_column(server_default="0")
    size: Mapped[int]
    sha256: Mapped[bytes]
    made_at: Mapped[datetime] = mapped_column(server_default=text("now()"))

    __table_args__ = (Index("ix_feed_files_kind_source", "kind", "source"),)


class FeedChunkRow(Base):
    """A piece of a file."""

    __tablename__ = "feed_chunks"

    file_id: Mapped[int] = mapped_column(ForeignKey("feed_files.id", ondelete="CASCADE"), primary_key=True)
    no: Mapped[int] = mapped_column(primary_key=True)
    data: Mapped[bytes]
