"""The worker's side of :mod:`app.verdicts.sources.reports`: saying that a service began to report something."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.db import Database
from app.verdicts.sources.distribution import FILE, drop_older, newest, put_file
from app.verdicts.sources.models import FeedChunkRow
from app.verdicts.sources.reports import REPORTS, Report
from app.verdicts.sources.service import announce

KEPT: Final = timedelta(hours=24)
"""No gateway remembers an answer for longer."""
MAX_REPORTS: Final = 1_000
_LOCK: Final = 0x706F7374_72657074


async def add_reports(database: Database, folder: Path, reports: Iterable[Report], now: datetime) -> None:
    """Tell all gateways.

    Args:
        database: The process's.
        folder: For a draft.
        reports: What is new.
        now: Aware UTC.
    """
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="reports-", dir=folder) as work:
        draft = Path(work) / REPORTS
        async with database.untenanted() as session:
            await session.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _LOCK})
            kept = [item for item in await _current(session) if datetime.fromisoformat(item["at"]) > now - KEPT]
            kept += [{"source": one.source, "digest": one.digest.hex(), "at": now.isoformat()} for one in reports]
            draft.write_text(json.dumps(kept[-MAX_REPORTS:]))
            await put_file(session, draft, kind=FILE, source=REPORTS, entries=len(kept), made_at=now)
            await drop_older(session, FILE, REPORTS, keep=2)
            await announce(session)


async def _current(session: AsyncSession) -> list[dict[str, Any]]:
    row = await newest(session, FILE, REPORTS)
    if row is None:
        return []
    pieces = await session.scalars(
        select(FeedChunkRow.data).where(FeedChunkRow.file_id == row.id).order_by(FeedChunkRow.no)
    )
    found: list[dict[str, Any]] = json.loads(b"".join(pieces))
    return found
