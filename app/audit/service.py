"""Writing the audit log: one line per act, in the transaction of the act itself.

So an act that is rolled back leaves no line, and a line never claims what did not happen. The application
role may insert and read the table; it can neither change nor delete a line.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any, Protocol

from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncSession

from app.audit.models import AuditEntry

MAX_TEXT = 500


class Party(Protocol):
    """Whoever acts. ``app.tenants.actor.Actor`` is one; audit lies below it and knows only this much."""

    @property
    def kind(self) -> str:
        """``person``, ``system`` or ``cli``."""

    @property
    def tenant_id(self) -> uuid.UUID:
        """In which tenant."""

    @property
    def user_id(self) -> uuid.UUID | None:
        """The person, where it is one."""

    @property
    def label(self) -> str:
        """Readable name, kept as it was at the time."""


async def record(
    session: AsyncSession,
    actor: Party,
    action: str,
    target: str = "",
    detail: Mapping[str, Any] | None = None,
) -> None:
    """Append one line to the actor's tenant's log, with the session's transaction.

    Args:
        session: The unit of work; the line exists if and only if it commits.
        actor: Who did it.
        action: Stable dotted name, e.g. ``domain.protected`` or ``list.added``.
        target: What it was done to, readable; control characters are dropped, over 500 characters cut.
        detail: JSON-ready facts (before, after, numbers). No secrets and no message content.
    """
    await session.execute(
        insert(AuditEntry).values(
            tenant_id=actor.tenant_id,
            actor_kind=str(actor.kind),
            actor_id=actor.user_id,
            actor_label=plain_text(actor.label),
            action=action,
            target=plain_text(target),
            detail=dict(detail or {}),
        )
    )


def plain_text(text: str) -> str:
    """The text on one line, without control characters, at most 500 characters."""
    kept = "".join(character if character.isprintable() else " " for character in text)
    return kept if len(kept) <= MAX_TEXT else kept[: MAX_TEXT - 1] + "…"
