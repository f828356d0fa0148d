"""Domain administrators: a person who sees some domains of the organisation, and the database sees to it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"

_DOMAINS = "COALESCE(current_setting('postern.domains', true), '')"
_ALL = f"({_DOMAINS} = '')"
"""Nobody's sight is narrowed: the usual case, and told without looking at any row. (A setting that was local to an
earlier transaction of the connection reads as empty, which must therefore mean "all"; no domain at all is a comma.)"""


def _among(domain: str) -> str:
    return f"position(',' || lower({domain}) || ',' IN {_DOMAINS}) > 0"


def _by(table: str, column: str, of: str, key: str = "id") -> str:
    """Rows of a table by those of another one that are in sight (whose own policy says so)."""
    return f"EXISTS (SELECT 1 FROM {of} o WHERE o.tenant_id = {table}.tenant_id AND o.{key} = {table}.{column})"


_MAIL_DOMAIN = "split_part(email, '@', 2)"
_SIGHT = {
    "mailboxes": f"{_among('domain')} OR external_id = current_setting('postern.subject', true)",
    "domains": _among("name"),
    "users": f"{_among(_MAIL_DOMAIN)} OR subject = current_setting('postern.subject', true)",
    "messages": _by("messages", "mailbox_id", "mailboxes"),
    "message_links": _by("message_links", "message_id", "messages"),
    "message_events": _by("message_events", "message_id", "messages"),
    "message_moves": _by("message_moves", "mailbox_id", "mailboxes"),
    "subscriptions": _by("subscriptions", "mailbox_id", "mailboxes"),
    "backfill_parts": _by("backfill_parts", "mailbox_id", "mailboxes"),
    "clicks": _by("clicks", "mailbox_id", "mailboxes"),
    "click_reports": _by("click_reports", "mailbox_id", "mailboxes"),
    "incident_messages": _by("incident_messages", "mailbox_id", "mailboxes"),
    "incidents": _by("incidents", "id", "incident_messages", "incident_id"),
    # Of the organisation as a whole: they name people, mailboxes and domains beyond those in sight.
    "incident_events": "false",
    "restore_runs": "false",
    "backfill_runs": "false",
    "mailbox_choices": "false",
    "listed_addresses": "false",
}


def upgrade() -> None:
    kind = postgresql.JSONB(astext_type=sa.Text())
    op.add_column("users", sa.Column("domains", kind, server_default=sa.text("'[]'::jsonb"), nullable=False))
    for table, sight in _SIGHT.items():
        op.execute(f"CREATE POLICY own_domains ON {table} AS RESTRICTIVE FOR SELECT USING ({_ALL} OR {sight})")


def downgrade() -> None:
    """Nobody is a domain administrator; those who are see no more than their own clicks."""
    for table in _SIGHT:
        op.execute(f"DROP POLICY own_domains ON {table}")
    op.execute("UPDATE users SET role = 'user' WHERE role = 'domain_admin'")
    op.drop_column("users", "domains")
