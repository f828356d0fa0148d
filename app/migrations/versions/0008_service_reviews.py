"""How far links that were delivered have been asked about again at the services that judge single addresses."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from app.migrations.guard import guard

revision = "0008"
down_revision = "0007"


def _number(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), server_default="0", nullable=False)


def _time(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=True)


def upgrade() -> None:
    op.create_table(
        "service_reviews",
        sa.Column("tenant_id", sa.UUID(), nullable=False),
        sa.Column("age_seconds", sa.Integer(), nullable=False),
        _number("seen_to"),
        _number("asked"),
        _number("missed"),
        _number("reported"),
        _time("held_since"),
        _time("updated_at"),
        sa.PrimaryKeyConstraint("tenant_id", "age_seconds"),
    )
    guard("service_reviews")


def downgrade() -> None:
    op.drop_table("service_reviews")
