"""Who looked at whose message: one audit line per look, not one per refresh of the page."""

from __future__ import annotations

import uuid
from collections import OrderedDict
from datetime import datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncSession

from app.audit.service import record
from app.tenants.actor import Actor

SAME_LOOK = timedelta(minutes=10)
_REMEMBERED = 10_000


class Looks:
    """Remembers in this process who looked at what lately.

    A page refreshes itself every two seconds. Forgetting (a restart, another process) costs a second line
    in the log, never a missing one.
    """

    def __init__(self) -> None:
        self._last: OrderedDict[tuple[uuid.UUID, uuid.UUID | None, int], datetime] = OrderedDict()

    def is_new(self, actor: Actor, message_id: int, now: datetime) -> bool:
        """Whether this is another look, and remember it."""
        key = (actor.tenant_id, actor.user_id, message_id)
        before = self._last.pop(key, None)
        self._last[key] = now
        while len(self._last) > _REMEMBERED:
            self._last.popitem(last=False)
        return before is None or now - before > SAME_LOOK

    async def note(self, session: AsyncSession, actor: Actor, message_id: int, recipient: str, now: datetime) -> None:
        """Record that a person looked at a message's trace."""
        if self.is_new(actor, message_id, now):
            await record(session, actor, "message.viewed", recipient, {"message": message_id})
