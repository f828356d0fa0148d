"""Tables of the Protect and Restore journeys."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import Identity, Index, UniqueConstraint
from sqlalchemy import text as sql
from sqlalchemy.orm import Mapped, mapped_column

from app.kit.db import Base


class MailboxRow(Base):
    """A mailbox of a tenant. ``cursor`` is the provider's, and the durable log of what is done."""

    __tablename__ = "mailboxes"

    tenant_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    external_id: Mapped[str]
    address: Mapped[str]
    domain: Mapped[str]
    name: Mapped[str] = mapped_column(server_default="")
    aliases: Mapped[list[Any]] = mapped_column(server_default=sql("'[]'::jsonb"))
    enabled: Mapped[bool] = mapped_column(server_default=sql("true"))
    left_out: Mapped[str] = mapped_column(server_default="")
    """Why it is not protected though its domain is: see ``app.protection.states.LeftOut``."""
    opted_out: Mapped[bool] = mapped_column(server_default=sql("false"))
    cursor: Mapped[str | None]
    cursor_at: Mapped[datetime | None]
    last_notified_at: Mapped[datetime | None]
    last_synced_at: Mapped[datetime | None]
    not_before: Mapped[datetime | None]
    """The provider asked for quiet until then."""
    error: Mapped[str] = mapped_column(server_default="")
    failures: Mapped[int] = mapped_column(server_default="0")

    __table_args__ = (
        UniqueConstraint("tenant_id", "external_id"),
        Index("ix_mailboxes_domain", "tenant_id", "domain"),
    )


class MailboxChoice(Base):
    """Which mailboxes of a tenant's directory are taken in, and how the last reading of the directory went.

    ``mode`` is ``all``, ``group`` or ``list``; ``groups`` holds objects with ``id``, ``address`` and ``name``;
    ``refused`` what of a list was no address (the first of ``refused_count``). ``state`` is ``none``, ``waiting``,
    ``running``, ``done`` or ``failed``; ``found`` counts accounts read, ``chosen`` those taken in.
    """

    __tablename__ = "mailbox_choices"

    tenant_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    mode: Mapped[str] = mapped_column(server_default="all")
    groups: Mapped[list[Any]] = mapped_column(server_default=sql("'[]'::jsonb"))
    refused: Mapped[list[Any]] = mapped_column(server_default=sql("'[]'::jsonb"))
    refused_count: Mapped[int] = mapped_column(server_default="0")
    state: Mapped[str] = mapped_column(server_default="none")
    found: Mapped[int] = mapped_column(server_default="0")
    chosen: Mapped[int] = mapped_column(server_default="0")
    error: Mapped[str] = mapped_column(server_default="")
    requested_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class ListedAddress(Base):
    """An address of the list by which mailboxes are chosen. ``known``: the directory has it; None: not read yet."""

    __tablename__ = "listed_addresses"

    tenant_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    address: Mapped[str] = mapped_column(primary_key=True)
    known: Mapped[bool | None]


class SubscriptionRow(Base):
    """A live subscription of a mailbox. The secret is kept sealed."""

    __tablename__ = "subscriptions"

    tenant_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    provider: Mapped[str] = mapped_column(primary_key=True)
    id: Mapped[str] = mapped_column(primary_key=True)
    mailbox_id: Mapped[int]
    expires_at: Mapped[datetime]
    secret_sealed: Mapped[bytes]
    created_at: Mapped[datetime] = mapped_column(server_default=sql("now()"))
    renewed_at: Mapped[datetime | None]

    __table_args__ = (UniqueConstraint("tenant_id", "mailbox_id"),)


class MessageRow(Base):
    """One message and how far it has come: the state machine of Protect, and its journal.

    ``external_id`` is the id under which it was first seen; ``current_id`` the one that carries the
    content now (another one where a provider replaces by copy). States: see ``app.protection.states``.
    """

    __tablename__ = "messages"

    tenant_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    mailbox_id: Mapped[int]
    external_id: Mapped[str]
    current_id: Mapped[str]
    state: Mapped[str]
    reason: Mapped[str] = mapped_column(server_default="")
    """Why it was skipped or failed."""
    step: Mapped[str] = mapped_column(server_default="")
    """Last step of a running replacement: written, verified, removed."""
    step_new_id: Mapped[str] = mapped_column(server_default="")
    step_version: Mapped[str] = mapped_column(server_default="")
    step_kind: Mapped[str] = mapped_column(server_default="")
    """``protect`` or ``restore``."""
    attempts: Mapped[int] = mapped_column(server_default="0")
    subject: Mapped[str] = mapped_column(server_default="")
    sender: Mapped[str] = mapped_column(server_default="")
    internet_message_id: Mapped[str] = mapped_column(server_default="")
    received_at: Mapped[datetime | None]
    seen_at: Mapped[datetime] = mapped_column(server_default=sql("now()"))
    finished_at: Mapped[datetime | None]
    original_hash: Mapped[bytes | None]
    body_hash: Mapped[bytes | None]
    undo_sealed: Mapped[bytes | None]
    links: Mapped[int] = mapped_column(server_default="0")
    warnings: Mapped[list[Any]] = mapped_column(server_default=sql("'[]'::jsonb"))
    version: Mapped[str] = mapped_column(server_default="")
    restore_run: Mapped[int] = mapped_column(server_default="0")
    """The last restore run that counted this message."""
    backfill_run: Mapped[int] = mapped_column(server_default="0")
    """The backfill that brought this message, or 0."""

    __table_args__ = (
        UniqueConstraint("tenant_id", "mailbox_id", "external_id"),
        Index("ix_messages_current", "tenant_id", "mailbox_id", "current_id"),
        Index(
            "ix_messages_step",
            "tenant_id",
            "mailbox_id",
            "step_new_id",
            postgresql_where=sql("step_new_id <> ''"),
        ),
        Index("ix_messages_seen", "tenant_id", "seen_at"),
        Index("ix_messages_state", "tenant_id", "state"),
        Index(
            "ix_messages_backfill",
            "tenant_id",
            "mailbox_id",
            "backfill_run",
            postgresql_where=sql("backfill_run <> 0"),
        ),
    )


class MessageLink(Base):
    """A link of a protected message: who received which URL."""

    __tablename__ = "message_links"

    tenant_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    message_id: Mapped[int] = mapped_column(primary_key=True)
    ordinal: Mapped[int] = mapped_column(primary_key=True)
    url: Mapped[str]
    host: Mapped[str]
    kind: Mapped[str]
    part: Mapped[str] = mapped_column(server_default="")
    text: Mapped[str] = mapped_column(server_default="")
    action: Mapped[str] = mapped_column(server_default="rewrite")
    findings: Mapped[list[Any]] = mapped_column(server_default=sql("'[]'::jsonb"))

    __table_args__ = (Index("ix_message_links_host", "tenant_id", "host"),)


class MessageEvent(Base):
    """One line of a message's trace."""

    __tablename__ = "message_events"

    tenant_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    message_id: Mapped[int]
    at: Mapped[datetime] = mapped_column(server_default=sql("now()"))
    kind: Mapped[str]
    """``seen``, ``skipped``, ``written``, ``verified``, ``removed``, ``protected``, ``failed``, ``retry``,
    ``restored``, ``quarantined``, ``released``."""
    actor: Mapped[str] = mapped_column(server_default="")
    detail: Mapped[dict[str, Any]] = mapped_column(server_default=sql("'{}'::jsonb"))

    __table_args__ = (Index("ix_message_events_message", "tenant_id", "message_id", "id"),)


class RestoreRun(Base):
    """A request to give original links back, for one message, mailbox, domain or tenant."""

    __tablename__ = "restore_runs"

    tenant_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    scope: Mapped[str]
    """``message``, ``mailbox``, ``domain`` or ``tenant``."""
    target: Mapped[str]
    requested_by: Mapped[str]
    requested_at: Mapped[datetime] = mapped_column(server_default=sql("now()"))
    state: Mapped[str] = mapped_column(server_default="waiting")
    """``waiting``, ``running``, ``done``, ``cancelled``."""
    total: Mapped[int] = mapped_column(server_default="0")
    restored: Mapped[int] = mapped_column(server_default="0")
    failed: Mapped[int] = mapped_column(server_default="0")
    gone: Mapped[int] = mapped_column(server_default="0")
    last_message_id: Mapped[int] = mapped_column(server_default="0")
    """Messages that came after the request are not part of it."""
    finished_at: Mapped[datetime | None]


class IntakeCount(Base):
    """How many notifications were taken or refused, by reason and hour. Shared; holds nobody's data."""

    __tablename__ = "intake_counts"

    provider: Mapped[str] = mapped_column(primary_key=True)
    reason: Mapped[str] = mapped_column(primary_key=True)
    hour: Mapped[datetime] = mapped_column(primary_key=True)
    count: Mapped[int] = mapped_column(server_default="0")


class BackfillRun(Base):
    """A request to protect mail that was there before protection was switched on."""

    __tablename__ = "backfill_runs"

    tenant_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    scope: Mapped[str]
    """``mailbox``, ``domain`` or ``tenant``."""
    target: Mapped[str]
    since: Mapped[datetime]
    """Mail received before is left alone."""
    until: Mapped[datetime]
    """The time of the request: what comes after it is protected as it arrives."""
    dry_run: Mapped[bool] = mapped_column(server_default=sql("false"))
    requested_by: Mapped[str]
    requested_at: Mapped[datetime] = mapped_column(server_default=sql("now()"))
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    state: Mapped[str] = mapped_column(server_default="waiting")
    """``waiting``, ``running``, ``done``, ``cancelled``."""


class BackfillPart(Base):
    """One mailbox's part of a backfill: where it stands, so that it goes on there after a crash."""

    __tablename__ = "backfill_parts"

    tenant_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    run_id: Mapped[int] = mapped_column(primary_key=True)
    mailbox_id: Mapped[int] = mapped_column(primary_key=True)
    state: Mapped[str] = mapped_column(server_default="waiting")
    """``waiting``, ``counting``, ``running``, ``done``, ``failed``, ``cancelled``."""
    cursor: Mapped[str | None]
    """The provider's; of the count, and then of the work."""
    pending: Mapped[list[Any]] = mapped_column(server_default=sql("'[]'::jsonb"))
    """Ids of the page under way that are not done yet."""
    next_cursor: Mapped[str | None]
    """Follows the page under way; None: there is no page under way."""
    last_page: Mapped[bool] = mapped_column(server_default=sql("false"))
    """Whether the page under way is the last."""
    total: Mapped[int] = mapped_column(server_default="0")
    looked: Mapped[int] = mapped_column(server_default="0")
    done: Mapped[int] = mapped_column(server_default="0")
    skipped: Mapped[int] = mapped_column(server_default="0")
    failed: Mapped[int] = mapped_column(server_default="0")
    failures: Mapped[int] = mapped_column(server_default="0")
    """Attempts in a row that the provider did not answer."""
    error: Mapped[str] = mapped_column(server_default="")
    updated_at: Mapped[datetime | None]


class MessageMove(Base):
    """A message that was moved to quarantine or junk, and the way back. The way back is kept sealed."""

    __tablename__ = "message_moves"

    tenant_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    message_id: Mapped[int]
    mailbox_id: Mapped[int]
    place: Mapped[str]
    """``quarantine`` or ``junk``."""
    why: Mapped[str] = mapped_column(server_default="")
    state: Mapped[str] = mapped_column(server_default="asked")
    """``asked``, ``moving`` (the way back is stored), ``moved``, ``releasing``, ``released``, ``gone``, ``failed``."""
    undo_sealed: Mapped[bytes | None]
    requested_by: Mapped[str]
    requested_at: Mapped[datetime] = mapped_column(server_default=sql("now()"))
    moved_at: Mapped[datetime | None]
    released_by: Mapped[str] = mapped_column(server_default="")
    released_at: Mapped[datetime | None]
    failures: Mapped[int] = mapped_column(server_default="0")
    error: Mapped[str] = mapped_column(server_default="")

    __table_args__ = (
        Index("ix_message_moves_message", "tenant_id", "message_id"),
        Index("ix_message_moves_state", "tenant_id", "state"),
        Index(
            "uq_message_moves_live",
            "tenant_id",
            "message_id",
            unique=True,
            postgresql_where=sql("state IN ('asked', 'moving', 'moved', 'releasing')"),
        ),
    )


class Offboarding(Base):
    """A tenant that is leaving: at most one row, which goes with the tenant."""

    __tablename__ = "offboardings"

    tenant_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    receipt_id: Mapped[uuid.UUID]
    state: Mapped[str] = mapped_column(server_default="stopping")
    """``stopping``, ``restoring``, ``stuck`` (some links could not be taken back), ``deleting``, ``cancelled``."""
    requested_by: Mapped[str]
    requested_by_id: Mapped[uuid.UUID | None]
    requested_at: Mapped[datetime] = mapped_column(server_default=sql("now()"))
    restore_run: Mapped[int] = mapped_column(server_default="0")
    delete_anyway: Mapped[bool] = mapped_column(server_default=sql("false"))
    subscriptions_ended: Mapped[int] = mapped_column(server_default="0")
    subscriptions_left: Mapped[int] = mapped_column(server_default="0")
    """Those the provider refused to end; they expire within a week and lead nowhere."""
    counts: Mapped[dict[str, Any]] = mapped_column(server_default=sql("'{}'::jsonb"))
    error: Mapped[str] = mapped_column(server_default="")


class OffboardingReceipt(Base):
    """What is left of a tenant that has left: numbers and times. Shared; holds nobody's data."""

    __tablename__ = "offboarding_receipts"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    state: Mapped[str]
    """As the off-boarding's, and ``done`` at the end."""
    requested_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    progress: Mapped[dict[str, Any]] = mapped_column(server_default=sql("'{}'::jsonb"))
    """Counts while it is under way."""
    document: Mapped[str] = mapped_column(server_default="")
    """The receipt: canonical JSON (RFC 8785 for the values used), once it is done."""
    sha256: Mapped[bytes | None]
    """Of ``document`` in UTF-8."""
