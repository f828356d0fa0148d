"""Backfill, quarantine and off-boarding."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from app.migrations.guard import APP_ROLE, grant, guard

revision = "0002"
down_revision = "0001"


def _json(name: str, default: str) -> sa.Column[object]:
    kind = postgresql.JSONB(astext_type=sa.Text())
    return sa.Column(name, kind, server_default=sa.text(f"'{default}'::jsonb"), nullable=False)


def _text(name: str, default: str | None = "") -> sa.Column[str]:
    return sa.Column(name, sa.String(), server_default=default, nullable=False)


def _number(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), server_default="0", nullable=False)


def _flag(name: str) -> sa.Column[bool]:
    return sa.Column(name, sa.Boolean(), server_default=sa.text("false"), nullable=False)


def _time(name: str, *, now: bool = False, nullable: bool = False) -> sa.Column[object]:
    default = sa.text("now()") if now else None
    return sa.Column(name, sa.DateTime(timezone=True), server_default=default, nullable=nullable)


def _tenant() -> sa.Column[object]:
    return sa.Column("tenant_id", sa.UUID(), nullable=False)


def _identity() -> sa.Column[int]:
    return sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False)


def upgrade() -> None:
    op.add_column("messages", _number("backfill_run"))
    op.create_index(
        "ix_messages_backfill",
        "messages",
        ["tenant_id", "mailbox_id", "backfill_run"],
        unique=False,
        postgresql_where=sa.text("backfill_run <> 0"),
    )
    op.create_table(
        "backfill_runs",
        _tenant(),
        _identity(),
        _text("scope", None),
        _text("target", None),
        _time("since"),
        _time("until"),
        _flag("dry_run"),
        _text("requested_by", None),
        _time("requested_at", now=True),
        _time("started_at", nullable=True),
        _time("finished_at", nullable=True),
        _text("state", "waiting"),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_backfill_runs")),
    )
    op.create_table(
        "backfill_parts",
        _tenant(),
        sa.Column("run_id", sa.BigInteger(), nullable=False),
        sa.Column("mailbox_id", sa.BigInteger(), nullable=False),
        _text("state", "waiting"),
        sa.Column("cursor", sa.String(), nullable=True),
        _json("pending", "[]"),
        sa.Column("next_cursor", sa.String(), nullable=True),
        _flag("last_page"),
        _number("total"),
        _number("looked"),
        _number("done"),
        _number("skipped"),
        _number("failed"),
        _number("failures"),
        _text("error"),
        _time("updated_at", nullable=True),
        sa.PrimaryKeyConstraint("tenant_id", "run_id", "mailbox_id", name=op.f("pk_backfill_parts")),
    )
    op.create_table(
        "message_moves",
        _tenant(),
        _identity(),
        sa.Column("message_id", sa.BigInteger(), nullable=False),
        sa.Column("mailbox_id", sa.BigInteger(), nullable=False),
        _text("place", None),
        _text("why"),
        _text("state", "asked"),
        sa.Column("undo_sealed", sa.LargeBinary(), nullable=True),
        _text("requested_by", None),
        _time("requested_at", now=True),
        _time("moved_at", nullable=True),
        _text("released_by"),
        _time("released_at", nullable=True),
        _number("failures"),
        _text("error"),
        sa.PrimaryKeyConstraint("tenant_id", "id", name=op.f("pk_message_moves")),
    )
    op.create_index("ix_message_moves_message", "message_moves", ["tenant_id", "message_id"], unique=False)
    op.create_index("ix_message_moves_state", "message_moves", ["tenant_id", "state"], unique=False)
    op.create_index(
        "uq_message_moves_live",
        "message_moves",
        ["tenant_id", "message_id"],
        unique=True,
        postgresql_where=sa.text("state IN ('asked', 'moving', 'moved', 'releasing')"),
    )
    op.create_table(
        "offboardings",
        _tenant(),
        sa.Column("receipt_id", sa.UUID(), nullable=False),
        _text("state", "stopping"),
        _text("requested_by", None),
        sa.Column("requested_by_id", sa.UUID(), nullable=True),
        _time("requested_at", now=True),
        _number("restore_run"),
        _flag("delete_anyway"),
        _number("subscriptions_ended"),
        _number("subscriptions_left"),
        _json("counts", "{}"),
        _text("error"),
        sa.PrimaryKeyConstraint("tenant_id", name=op.f("pk_offboardings")),
    )
    op.create_table(
        "offboarding_receipts",
        sa.Column("id", sa.UUID(), nullable=False),
        _text("state", None),
        _time("requested_at"),
        _time("updated_at"),
        _json("progress", "{}"),
        _text("document"),
        sa.Column("sha256", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_offboarding_receipts")),
    )
    for table in ("backfill_runs", "backfill_parts", "message_moves", "offboardings"):
        guard(table)
    grant("offboarding_receipts", "SELECT, INSERT, UPDATE")
    op.execute(f"GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO {APP_ROLE}")
    _erasing()


def _erasing() -> None:
    """The one way in which a tenant's audit record ends: together with everything else of that tenant.

    It takes the tenant from the transaction, as the policies do, and works only while that tenant's
    off-boarding has come to the deletion, or once the tenant itself is gone. It runs as the owner, since the application may not delete audit
    lines. Every table with a ``tenant_id`` is emptied of that tenant, so later tables are covered too.
    """
    op.execute(
        """
        CREATE FUNCTION postern_erase_tenant() RETURNS jsonb LANGUAGE plpgsql VOLATILE SECURITY DEFINER
        SET search_path = pg_catalog, public, pg_temp AS $$
        DECLARE
            leaving uuid := NULLIF(current_setting('postern.tenant_id', true), '')::uuid;
            tables text[];
            name text;
            removed bigint;
            counts jsonb := '{}'::jsonb;
        BEGIN
            IF leaving IS NULL OR (
                EXISTS (SELECT 1 FROM public.tenants t WHERE t.tenant_id = leaving)
                AND NOT EXISTS (
                    SELECT 1 FROM public.offboardings o WHERE o.tenant_id = leaving AND o.state = 'deleting'
                )
            ) THEN
                RAISE EXCEPTION 'no tenant is being erased' USING ERRCODE = 'insufficient_privilege';
            END IF;
            SELECT array_agg(c.relname ORDER BY c.relname) INTO tables
              FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id'
             WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relnamespace = 'public'::regnamespace;
            FOREACH name IN ARRAY tables LOOP
                EXECUTE 'DELETE FROM public.' || quote_ident(name) || ' WHERE tenant_id = $1' USING leaving;
                GET DIAGNOSTICS removed = ROW_COUNT;
                counts := counts || jsonb_build_object(name, removed);
            END LOOP;
            RETURN counts;
        END $$
        """
    )
    op.execute("REVOKE ALL ON FUNCTION postern_erase_tenant FROM PUBLIC")
    op.execute(f"GRANT EXECUTE ON FUNCTION postern_erase_tenant TO {APP_ROLE}")


def downgrade() -> None:
    """Without backfills, quarantine records and receipts."""
    op.execute("DROP FUNCTION postern_erase_tenant")
    for table in ("offboarding_receipts", "offboardings", "message_moves", "backfill_parts", "backfill_runs"):
        op.drop_table(table)
    op.drop_index("ix_messages_backfill", table_name="messages")
    op.drop_column("messages", "backfill_run")
