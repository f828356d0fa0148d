"""The journal of mails to administrators."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from app.migrations.guard import guard

revision = "0009"
down_revision = "0008"


def _text(name: str, default: str | None = "") -> sa.Column[str]:
    return sa.Column(name, sa.String(), server_default=default, nullable=False)


def _number(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), server_default="0", nullable=False)


def _now(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False)


def upgrade() -> None:
    op.create_table(
        "mail_alerts",
        sa.Column("tenant_id", sa.UUID(), nullable=False),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        _text("kind", None),
        _number("about"),
        _number("number"),
        _text("status"),
        _text("recipient", None),
        _text("state", "waiting"),
        _number("failures"),
        _text("error"),
        _now("asked_at"),
        _now("not_before"),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_mail_alerts")),
        sa.UniqueConstraint(
            "tenant_id",
            "kind",
            "about",
            "number",
            "recipient",
            name=op.f("uq_mail_alerts_tenant_id_kind_about_number_recipient"),
        ),
    )
    op.create_index("ix_mail_alerts_state", "mail_alerts", ["tenant_id", "state", "not_before"])
    guard("mail_alerts")
    # They name people beyond anybody's domains (see 0007).
    op.execute(
        "CREATE POLICY own_domains ON mail_alerts AS RESTRICTIVE FOR SELECT "
        "USING (COALESCE(current_setting('postern.domains', true), '') = '')"
    )


def downgrade() -> None:
    """Nobody is told by mail."""
    op.drop_table("mail_alerts")
