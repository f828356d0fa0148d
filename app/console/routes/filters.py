"""Filters as they stand in the address of a page."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Literal

from fastapi import Path, Query

from app.console.queries.paging import MAX_PAGE

Search = Annotated[str, Query(alias="q", max_length=400)]
Short = Annotated[str, Query(max_length=400)]
PageNumber = Annotated[int, Query(ge=1, le=MAX_PAGE)]
Days = Annotated[Literal["", "1", "7", "30", "90"], Query()]
RowId = Annotated[int, Path(ge=1, le=2**63 - 1)]
MailboxId = Annotated[int | None, Query(alias="mailbox", ge=1, le=2**63 - 1)]
OpenRow = Annotated[int | None, Query(alias="open", ge=1, le=2**63 - 1)]


def start_of(days: str, now: datetime) -> datetime | None:
    """The beginning of the chosen days; None where all are shown."""
    return now - timedelta(days=int(days)) if days else None
