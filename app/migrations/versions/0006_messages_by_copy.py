"""Messages are found under their copy's id without reading all of their mailbox's history."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    # Only while a copy is being made does a message have such an id, so the index stays tiny.
    op.create_index(
        "ix_messages_step",
        "messages",
        ["tenant_id", "mailbox_id", "step_new_id"],
        unique=False,
        postgresql_where=sa.text("step_new_id <> ''"),
    )


def downgrade() -> None:
    op.drop_index("ix_messages_step", table_name="messages")
