"""Threat-intelligence sources and the files that are distributed to gateways."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from app.migrations.guard import APP_ROLE, grant

revision = "0004"
down_revision = "0003"


def _text(name: str, default: str | None = "") -> sa.Column[str]:
    return sa.Column(name, sa.String(), server_default=default, nullable=False)


def _number(name: str, default: str | None = "0") -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), server_default=default, nullable=False)


def _flag(name: str, default: str) -> sa.Column[bool]:
    return sa.Column(name, sa.Boolean(), server_default=sa.text(default), nullable=False)


def _json(name: str, default: str) -> sa.Column[object]:
    kind = postgresql.JSONB(astext_type=sa.Text())
    return sa.Column(name, kind, server_default=sa.text(f"'{default}'::jsonb"), nullable=False)


def _bytes(name: str) -> sa.Column[bytes]:
    return sa.Column(name, sa.LargeBinary(), server_default=sa.text("''::bytea"), nullable=False)


def _time(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=True)


def _now(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False)


def upgrade() -> None:
    op.create_table(
        "threat_sources",
        _text("name", None),
        _text("kind", None),
        _text("address"),
        _text("secret_ref"),
        _number("every_seconds", None),
        _text("level", "malicious"),
        _number("weight", "100"),
        _text("licence"),
        _flag("enabled", "false"),
        _json("options", "{}"),
        _now("created_at"),
        sa.Column("state", sa.LargeBinary(), nullable=True),
        _time("last_try"),
        _time("last_success"),
        _time("last_change"),
        _time("next_try"),
        _text("error"),
        _number("failures"),
        _number("entries"),
        _number("refused"),
        _json("problems", "[]"),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_threat_sources")),
    )
    op.create_table(
        "feed_files",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        _text("kind", None),
        _text("source"),
        _flag("held", "false"),
        _json("reasons", "[]"),
        _flag("whole", "true"),
        _bytes("state"),
        _bytes("removed"),
        _number("entries"),
        _number("size", None),
        sa.Column("sha256", sa.LargeBinary(), nullable=False),
        _now("made_at"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_feed_files")),
    )
    op.create_index("ix_feed_files_kind_source", "feed_files", ["kind", "source"], unique=False)
    op.create_table(
        "feed_chunks",
        sa.Column("file_id", sa.BigInteger(), nullable=False),
        sa.Column("no", sa.BigInteger(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["file_id"], ["feed_files.id"], name=op.f("fk_feed_chunks_file_id_feed_files"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("file_id", "no", name=op.f("pk_feed_chunks")),
    )
    # Pieces are bytes that do not shrink: neither time nor a detour through compression is spent on them.
    op.execute("ALTER TABLE feed_chunks ALTER COLUMN data SET STORAGE EXTERNAL")
    for table in ("threat_sources", "feed_files"):
        grant(table)
    grant("feed_chunks", "SELECT, INSERT, DELETE")
    op.execute(f"GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO {APP_ROLE}")
