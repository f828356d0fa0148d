"""Incidents: links that turned out to be bad, who received them, and what was done."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from app.migrations.guard import APP_ROLE, guard

revision = "0003"
down_revision = "0002"


def _text(name: str, default: str | None = "") -> sa.Column[str]:
    return sa.Column(name, sa.String(), server_default=default, nullable=False)


def _number(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), server_default="0", nullable=False)


def _named(name: str, *, nullable: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), nullable=nullable)


def _json(name: str, default: str) -> sa.Column[object]:
    kind = postgresql.JSONB(astext_type=sa.Text())
    return sa.Column(name, kind, server_default=sa.text(f"'{default}'::jsonb"), nullable=False)


def _time(name: str, *, now: bool = False, nullable: bool = False) -> sa.Column[object]:
    default = sa.text("now()") if now else None
    return sa.Column(name, sa.DateTime(timezone=True), server_default=default, nullable=nullable)


def _tenant() -> sa.Column[object]:
    return sa.Column("tenant_id", sa.UUID(), nullable=False)


def _identity() -> sa.Column[int]:
    return sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False)


def upgrade() -> None:
    op.create_table(
        "incidents",
        _tenant(),
        _identity(),
        _text("kind", None),
        _text("subject", None),
        _text("pattern_kind"),
        _text("host"),
        _text("state", "open"),
        _text("cause"),
        _json("evidence", "[]"),
        _time("opened_at", now=True),
        _time("updated_at", now=True),
        _time("ended_at", nullable=True),
        _number("messages"),
        sa.Column("searched", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        _named("search_from", nullable=True),
        _number("seen_to"),
        _text("wanted"),
        _text("wanted_by"),
        _number("alerts"),
        _number("alerted"),
        _number("alert_failures"),
        _text("alert_error"),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_incidents")),
        sa.UniqueConstraint("tenant_id", "kind", "subject", name=op.f("uq_incidents_tenant_id_kind_subject")),
    )
    op.create_index("ix_incidents_state", "incidents", ["tenant_id", "state", "updated_at"], unique=False)
    op.create_table(
        "incident_messages",
        _tenant(),
        _named("incident_id"),
        _named("message_id"),
        _named("mailbox_id"),
        _json("urls", "[]"),
        _time("found_at", now=True),
        _named("move_id", nullable=True),
        _text("note"),
        sa.PrimaryKeyConstraint("tenant_id", "incident_id", "message_id", name=op.f("pk_incident_messages")),
    )
    op.create_index("ix_incident_messages_message", "incident_messages", ["tenant_id", "message_id"], unique=False)
    op.create_table(
        "incident_events",
        _tenant(),
        _identity(),
        _named("incident_id"),
        _time("at", now=True),
        _text("kind", None),
        _text("actor"),
        _json("detail", "{}"),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_incident_events")),
    )
    op.create_index("ix_incident_events_incident", "incident_events", ["tenant_id", "incident_id", "id"], unique=False)
    op.create_table(
        "turn_states",
        _tenant(),
        _text("compared"),
        _text("comparing"),
        _number("next_message"),
        _time("started_at", nullable=True),
        sa.PrimaryKeyConstraint("tenant_id", name=op.f("pk_turn_states")),
    )
    for table in ("incidents", "incident_messages", "incident_events", "turn_states"):
        guard(table)
    op.execute(f"GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO {APP_ROLE}")

    op.add_column("clicks", sa.Column("incident_id", sa.BigInteger(), nullable=True))
    # Clicks of before are nobody's news: they stay as they are, and open nothing.
    op.execute("UPDATE clicks SET incident_id = 0 WHERE action = 'block' OR level = 'malicious'")
    op.create_index(
        "ix_clicks_incident",
        "clicks",
        ["tenant_id", "incident_id"],
        unique=False,
        postgresql_where=sa.text("incident_id IS NOT NULL AND incident_id <> 0"),
    )
    op.create_index(
        "ix_clicks_stopped",
        "clicks",
        ["tenant_id", "id"],
        unique=False,
        postgresql_where=sa.text("incident_id IS NULL AND (action = 'block' OR level = 'malicious')"),
    )


def downgrade() -> None:
    """Without incidents."""
    op.drop_index("ix_clicks_stopped", table_name="clicks")
    op.drop_index("ix_clicks_incident", table_name="clicks")
    op.drop_column("clicks", "incident_id")
    for table in ("turn_states", "incident_events", "incident_messages", "incidents"):
        op.drop_table(table)
