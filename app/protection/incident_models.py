"""Tables of the Turn journey: a link that is bad after all, who received it, and what was done about it."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import Identity, Index, Integer, UniqueConstraint
from sqlalchemy import text as sql
from sqlalchemy.orm import Mapped, mapped_column

from app.kit.db import Base


class Incident(Base):
    """One bad address or list entry in a tenant's mail; however often it turns, it has one row."""

    __tablename__ = "incidents"

    tenant_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    kind: Mapped[str]
    """``listed`` (entry of a threat list, or what a service reports), ``rule`` (of the tenant's own list),
    ``checked`` (found at a click)."""
    subject: Mapped[str]
    """The entry, the pattern, or host and path (``exact``: with the query)."""
    pattern_kind: Mapped[str] = mapped_column(server_default="")
    """Of a ``rule``: ``wildcard`` or ``re2``; of ``checked``: ``exact`` where that very address alone is meant."""
    host: Mapped[str] = mapped_column(server_default="")
    """To look for and to show; empty where a pattern names none."""
    state: Mapped[str] = mapped_column(server_default="open")
    """``open``, ``closed`` or ``false_positive``."""
    cause: Mapped[str] = mapped_column(server_default="")
    """What brought it about: ``click``, ``list``, ``service`` or ``person``."""
    evidence: Mapped[list[Any]] = mapped_column(server_default=sql("'[]'::jsonb"))
    opened_at: Mapped[datetime] = mapped_column(server_default=sql("now()"))
    updated_at: Mapped[datetime] = mapped_column(server_default=sql("now()"))
    ended_at: Mapped[datetime | None]
    messages: Mapped[int] = mapped_column(server_default="0")
    """Copies found so far."""
    searched: Mapped[bool] = mapped_column(server_default=sql("false"))
    """Whether the mail of before was searched for it."""
    search_from: Mapped[int | None]
    """Where that search goes on: messages below this number; None: at the newest."""
    seen_to: Mapped[int] = mapped_column(server_default="0")
    """Messages above this number have not been looked at yet."""
    wanted: Mapped[str] = mapped_column(server_default="")
    """``quarantine``: of every copy, those found later too; ``release``: of those moved, until that is done."""
    wanted_by: Mapped[str] = mapped_column(server_default="")
    alerts: Mapped[int] = mapped_column(server_default="0")
    """How often the administrators were to be told."""
    alerted: Mapped[int] = mapped_column(server_default="0")
    """The last of these that was delivered, or given up."""
    alert_failures: Mapped[int] = mapped_column(server_default="0")
    alert_error: Mapped[str] = mapped_column(server_default="")

    __table_args__ = (
        UniqueConstraint("tenant_id", "kind", "subject"),
        Index("ix_incidents_state", "tenant_id", "state", "updated_at"),
    )


class IncidentMessage(Base):
    """One copy: a received message with the bad address in it."""

    __tablename__ = "incident_messages"

    tenant_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    incident_id: Mapped[int] = mapped_column(primary_key=True)
    message_id: Mapped[int] = mapped_column(primary_key=True)
    mailbox_id: Mapped[int]
    urls: Mapped[list[Any]] = mapped_column(server_default=sql("'[]'::jsonb"))
    """The bad addresses as they stood in it."""
    found_at: Mapped[datetime] = mapped_column(server_default=sql("now()"))
    move_id: Mapped[int | None]
    """Its move to quarantine that this incident asked for."""
    note: Mapped[str] = mapped_column(server_default="")
    """Why it was not moved: ``gone`` or ``moved_already``; ``released`` where it was put back."""

    __table_args__ = (Index("ix_incident_messages_message", "tenant_id", "message_id"),)


class IncidentEvent(Base):
    """One line of an incident's timeline; clicks are shown beside them."""

    __tablename__ = "incident_events"

    tenant_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    incident_id: Mapped[int]
    at: Mapped[datetime] = mapped_column(server_default=sql("now()"))
    kind: Mapped[str]
    """``opened``, ``reopened``, ``quarantine``, ``quarantined``, ``release``, ``released``, ``closed``,
    ``false_positive``, ``alerted``, ``alert_failed``."""
    actor: Mapped[str] = mapped_column(server_default="")
    detail: Mapped[dict[str, Any]] = mapped_column(server_default=sql("'{}'::jsonb"))

    __table_args__ = (Index("ix_incident_events_incident", "tenant_id", "incident_id", "id"),)


class TurnState(Base):
    """How far a tenant's mail was compared with the lists as they are now."""

    __tablename__ = "turn_states"

    tenant_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    compared: Mapped[str] = mapped_column(server_default="")
    """The state of the lists that all mail was compared with."""
    comparing: Mapped[str] = mapped_column(server_default="")
    """The one under way; empty: none is."""
    next_message: Mapped[int] = mapped_column(server_default="0")
    """The comparison under way goes on below this number."""
    started_at: Mapped[datetime | None]


class ServiceReviewState(Base):
    """How far a tenant's delivered links were asked about again at the services, for one age of mail."""

    __tablename__ = "service_reviews"

    tenant_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    age_seconds: Mapped[int] = mapped_column(Integer, primary_key=True)
    """The age at which mail is looked at in this turn; each age has its own place."""
    seen_to: Mapped[int] = mapped_column(server_default="0")
    """Messages up to this number were asked about."""
    asked: Mapped[int] = mapped_column(server_default="0")
    """Addresses asked about so far."""
    missed: Mapped[int] = mapped_column(server_default="0")
    """Those about which a service did not answer."""
    reported: Mapped[int] = mapped_column(server_default="0")
    """Those that a service called dangerous."""
    held_since: Mapped[datetime | None]
    """Since when a service does not answer."""
    updated_at: Mapped[datetime | None]
