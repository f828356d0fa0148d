"""Writing the labels of :mod:`app.gateway.automation` to the clicks of a span of time.

A scanner shows itself by what comes together, so a click is labelled again when later ones complete the picture.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Row, and_, or_, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.gateway.automation import WINDOW, ClickTrace, Label, label
from app.gateway.models import Click
from app.kit.db import tenant_of

MAX_CLICKS: Final = 2_000
MAX_NEAR: Final = 100
DRAWN_WITHIN: Final = timedelta(seconds=60)
"""A browser asks for a page's picture at once; after so long it never will."""

# The table belongs to a sibling package (protection), which the gateway does not import.
_DELIVERED = text("SELECT id, COALESCE(received_at, seen_at) AS at FROM messages WHERE id = ANY(:ids)")
PAGE, SEEN, DATACENTRE = "page", "seen", "datacentre"
"""Signals that are no headers: a page with a picture answered the click, the picture was asked for, where from."""
# One statement for all labels: at hundreds of clicks a second, one each would be the slowest part of taking them in.
_WRITE = text(
    "UPDATE clicks SET automated = made.automated, automated_reasons = CAST(made.reasons AS jsonb) "
    "FROM unnest(CAST(:ids AS uuid[]), CAST(:automated AS boolean[]), CAST(:reasons AS text[])) "
    "AS made(id, automated, reasons) WHERE clicks.tenant_id = :tenant AND clicks.id = made.id"
)
_COLUMNS = (
    Click.id,
    Click.at,
    Click.mailbox_id,
    Click.message_id,
    Click.url,
    Click.host,
    Click.user_agent,
    Click.action,
    Click.signals,
    Click.automated,
    Click.automated_reasons,
)


async def label_clicks(session: AsyncSession, new: Sequence[uuid.UUID], now: datetime | None = None) -> int:
    """Label clicks that were just taken in, and earlier ones of the same messages.

    Args:
        session: Sees one tenant; the labels are written with its transaction.
        new: Which clicks are new.
        now: Aware UTC; None: it is too early to tell which pages are never drawn.

    Returns:
        How many labels changed.
    """
    fresh = (await session.execute(select(*_COLUMNS).where(Click.id.in_(new)))).all()
    if not fresh:
        return 0
    messages = sorted({row.message_id for row in fresh if row.message_id is not None})
    rows = await _around(session, fresh, messages)
    delivered = {row.id: row.at for row in await session.execute(_DELIVERED, {"ids": messages})} if messages else {}
    # In a thread: it is the gateway's own event loop, and clicks are waiting beside it.
    found = await asyncio.to_thread(_label, rows, delivered, set(new), set(messages), now)
    if found:
        await session.execute(
            _WRITE,
            {
                "tenant": tenant_of(session),
                "ids": [number for number, _ in found],
                "automated": [label.automated for _, label in found],
                "reasons": [json.dumps(label.reasons) for _, label in found],
            },
        )
    return len(found)


def _label(
    rows: Sequence[Row[Any]],
    delivered: dict[int, datetime],
    wanted: set[uuid.UUID],
    touched: set[int],
    now: datetime | None,
) -> list[tuple[uuid.UUID, Label]]:
    """The labels that differ from what is stored."""
    traces = {row.id: _trace(row, delivered, now) for row in rows}
    by_message: dict[int | None, list[ClickTrace]] = defaultdict(list)
    by_program: dict[tuple[str, str], list[ClickTrace]] = defaultdict(list)
    for trace in traces.values():
        by_message[trace.message].append(trace)
        by_program[trace.agent, trace.host].append(trace)
    changed: list[tuple[uuid.UUID, Label]] = []
    for row in rows:
        if row.id not in wanted and row.message_id not in touched:
            continue
        trace = traces[row.id]
        near = by_message[trace.message] if trace.message is not None else []
        found = label(trace, [*near[:MAX_NEAR], *by_program[trace.agent, trace.host][:MAX_NEAR]])
        if (row.automated, row.automated_reasons) != (found.automated, list(found.reasons)):
            changed.append((row.id, found))
    return changed


async def _around(session: AsyncSession, fresh: Sequence[Row[Any]], messages: list[int]) -> Sequence[Row[Any]]:
    """The new clicks and those around them that could belong together."""
    times = [row.at for row in fresh]
    together = or_(
        Click.message_id.in_(messages),
        and_(Click.user_agent.in_({row.user_agent for row in fresh}), Click.host.in_({row.host for row in fresh})),
        Click.id.in_([row.id for row in fresh]),
    )
    query = (
        select(*_COLUMNS)
        .where(Click.at.between(min(times) - WINDOW, max(times) + WINDOW), together)
        .order_by(Click.at.desc())
        .limit(MAX_CLICKS)
    )
    return (await session.execute(query)).all()


def _drawn(row: Row[Any], now: datetime | None) -> bool | None:
    if SEEN in row.signals:
        return True
    late = now is not None and now - row.at > DRAWN_WITHIN
    return False if PAGE in row.signals and late else None


def _trace(row: Row[Any], delivered: dict[int, datetime], now: datetime | None) -> ClickTrace:
    return ClickTrace(
        at=row.at,
        message=row.message_id,
        mailbox=row.mailbox_id,
        url=row.url,
        host=row.host,
        agent=row.user_agent,
        action=row.action,
        headers={name: str(value) for name, value in row.signals.items()},
        delivered_at=delivered.get(row.message_id),
        drawn=_drawn(row, now),
        datacentre=DATACENTRE in row.signals,
    )
