"""Saying that verdicts may have turned: who keeps lists or takes clicks in says it, the worker listens.

The word is only a hint; a look at every tenant once a minute finds what was missed.
"""

from __future__ import annotations

import uuid
from typing import Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

CHANNEL: Final = "postern_turned"


async def notify_turned(session: AsyncSession, tenant_id: uuid.UUID | None = None) -> None:
    """Tell the workers, once the session commits
    (https://www.postgresql.org/docs/current/sql-notify.html).

    Args:
        session: The unit of work.
        tenant_id: Whose verdicts; None: everybody's, because a list of the installation changed.
    """
    payload = "" if tenant_id is None else str(tenant_id)
    await session.execute(text("SELECT pg_notify(:channel, :tenant)"), {"channel": CHANNEL, "tenant": payload})
