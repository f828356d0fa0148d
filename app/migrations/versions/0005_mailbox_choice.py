"""Which mailboxes of the directory are taken in, and which organisation of the provider a tenant is bound to."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from app.migrations.guard import guard, routing_function

revision = "0005"
down_revision = "0004"


def _text(name: str, default: str = "") -> sa.Column[str]:
    return sa.Column(name, sa.String(), server_default=default, nullable=False)


def _number(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), server_default="0", nullable=False)


def _json(name: str) -> sa.Column[object]:
    kind = postgresql.JSONB(astext_type=sa.Text())
    return sa.Column(name, kind, server_default=sa.text("'[]'::jsonb"), nullable=False)


def _time(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=True)


def upgrade() -> None:
    op.add_column("mailboxes", _text("left_out"))
    op.create_table(
        "mailbox_choices",
        sa.Column("tenant_id", sa.UUID(), nullable=False),
        _text("mode", "all"),
        _json("groups"),
        _json("refused"),
        _number("refused_count"),
        _text("state", "none"),
        _number("found"),
        _number("chosen"),
        _text("error"),
        _time("requested_at"),
        _time("finished_at"),
        sa.PrimaryKeyConstraint("tenant_id", name=op.f("pk_mailbox_choices")),
    )
    op.create_table(
        "listed_addresses",
        sa.Column("tenant_id", sa.UUID(), nullable=False),
        sa.Column("address", sa.String(), nullable=False),
        sa.Column("known", sa.Boolean(), nullable=True),
        sa.PrimaryKeyConstraint("tenant_id", "address", name=op.f("pk_listed_addresses")),
    )
    guard("mailbox_choices")
    guard("listed_addresses")

    op.add_column("tenants", _text("organisation_id"))
    # Across tenants: two of them cannot be bound to one organisation of the provider.
    op.create_index(
        "uq_tenants_organisation",
        "tenants",
        ["provider", "organisation_id"],
        unique=True,
        postgresql_where=sa.text("organisation_id <> ''"),
    )
    op.execute("DROP FUNCTION postern_tenants()")
    routing_function(
        "postern_tenants()",
        "TABLE (tenant_id uuid, no bigint, provider text, external_id text, admin_address text, status text, "
        "name text, organisation_id text)",
        "SELECT tenant_id, no, provider, external_id, admin_address, status, name, organisation_id FROM public.tenants",
    )


def downgrade() -> None:
    """Every mailbox of the directory is taken in again; an organisation is known by its sign-in alone."""
    op.execute("DROP FUNCTION postern_tenants()")
    routing_function(
        "postern_tenants()",
        "TABLE (tenant_id uuid, no bigint, provider text, external_id text, admin_address text, status text, name text)",
        "SELECT tenant_id, no, provider, external_id, admin_address, status, name FROM public.tenants",
    )
    op.drop_index("uq_tenants_organisation", table_name="tenants")
    op.drop_column("tenants", "organisation_id")
    op.drop_table("listed_addresses")
    op.drop_table("mailbox_choices")
    op.drop_column("mailboxes", "left_out")
