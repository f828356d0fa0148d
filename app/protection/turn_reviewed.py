"""What came of asking services about delivered links again, in numbers, for whoever shows them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.protection.incident_models import ServiceReviewState


@dataclass(frozen=True, slots=True)
class ReviewTotals:
    """Of one tenant, since services are asked again.

    Attributes:
        asked: Addresses asked about; one that was asked about at three ages counts three times.
        missed: Those about which a service did not answer.
        reported: Those that a service called malicious.
        last: When it was asked last; None: never.
    """

    asked: int = 0
    missed: int = 0
    reported: int = 0
    last: datetime | None = None


async def review_totals(session: AsyncSession) -> ReviewTotals:
    """The numbers of the transaction's tenant."""
    of = ServiceReviewState
    query = select(func.sum(of.asked), func.sum(of.missed), func.sum(of.reported), func.max(of.updated_at))
    asked, missed, reported, last = (await session.execute(query)).one()
    return ReviewTotals(int(asked or 0), int(missed or 0), int(reported or 0), last)
