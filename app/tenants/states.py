"""Single-use states of sign-in and consent (RFC 6749 section 10.12; OAuth 2.0 Security BCP, RFC 9700).

A state lives in the browser, sealed; here is only the SHA-256 of those that were spent, for as long as they
would still be accepted.
"""

from __future__ import annotations

import hashlib
from datetime import datetime

from sqlalchemy import delete
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from app.tenants.models import UsedState


async def spend_state(session: AsyncSession, state: str, expires_at: datetime, now: datetime) -> bool:
    """Mark a state as used, with the session's transaction.

    Returns:
        False where it had been used before: this is a replay.
    """
    await session.execute(delete(UsedState).where(UsedState.expires_at < now))
    hashed = hashlib.sha256(state.encode()).digest()
    spent = await session.execute(
        insert(UsedState)
        .values(state_hash=hashed, expires_at=expires_at)
        .on_conflict_do_nothing()
        .returning(UsedState.state_hash)
    )
    return spent.one_or_none() is not None
