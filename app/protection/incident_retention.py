"""How long incidents are kept: they say whose mail held a bad link and which administrator did what about it.

An incident that has ended is removed with its copies and its timeline once nothing happened to it for
``incident_days``. One that is open stays, since it looks for new copies, but forgets copies that were found longer ago,
except those in quarantine or on their way there or back. What an administrator did stays in the audit log, which is
never changed; entries of the organisation's own list stay until somebody removes them.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import ColumnElement, column, delete, exists, select, table, tuple_, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.protection.incident_models import Incident, IncidentEvent, IncidentMessage
from app.protection.models import MessageMove

IN_BATCH: Final = 500
# The table belongs to a sibling package (gateway), which protection does not import.
_CLICKS: Final = table("clicks", column("tenant_id"), column("incident_id"))
_HELD: Final = ("asked", "moving", "moved", "releasing")


async def forget_old_incidents(session: AsyncSession, now: datetime, days: int) -> int:
    """Remove what has outlived its time, some of it in one transaction.

    Args:
        session: The unit of work of one tenant.
        now: Aware UTC.
        days: For how long incidents and copies are kept.

    Returns:
        How many incidents and copies were removed; a whole batch may mean that there are more.
    """
    before = now - timedelta(days=days)
    ended = list(
        await session.scalars(
            select(Incident.id)
            .where(Incident.state != "open", Incident.updated_at < before, Incident.ended_at < before)
            .where(Incident.wanted == "")
            .where(~exists().where(IncidentMessage.incident_id == Incident.id, _held()))
            .order_by(Incident.id)
            .limit(IN_BATCH)
            .with_for_update(skip_locked=True)
        )
    )
    await session.execute(update(_CLICKS).where(_CLICKS.c.incident_id.in_(ended)).values(incident_id=0))
    for of_incident in (IncidentMessage, IncidentEvent):
        await session.execute(delete(of_incident).where(of_incident.incident_id.in_(ended)))
    await session.execute(delete(Incident).where(Incident.id.in_(ended)))
    copies = (
        select(IncidentMessage.incident_id, IncidentMessage.message_id)
        .where(IncidentMessage.found_at < before, ~_held())
        .limit(IN_BATCH)
    )
    key = tuple_(IncidentMessage.incident_id, IncidentMessage.message_id)
    forgotten = await session.execute(
        delete(IncidentMessage).where(key.in_(copies)).returning(IncidentMessage.message_id)
    )
    return len(ended) + len(forgotten.all())


def _held() -> ColumnElement[bool]:
    """Whether a copy is in quarantine, or on its way there or back."""
    return exists().where(
        MessageMove.tenant_id == IncidentMessage.tenant_id,
        MessageMove.id == IncidentMessage.move_id,
        MessageMove.state.in_(_HELD),
    )
