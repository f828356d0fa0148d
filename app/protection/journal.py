"""The journal of a message: its row, its trace and its links, each written before the next step begins.

What is written for every message is given as statements, for ``Database.at_once`` to run together.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from psycopg.types.json import Jsonb
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.at_once import Row, Statement, statement
from app.links.token import visible_host
from app.messages.types import BodyResult, RewrittenLink, TransformResult, TransformWarning
from app.messages.undo_attached import KeptFile, unpack
from app.protection.holding import Held
from app.protection.models import MessageEvent, MessageRow
from app.protection.runtime import Runtime
from app.protection.states import RECONSIDERED, UNFINISHED, MessageState
from connectors.base.types import FetchedMessage, ReplaceState

MAX_STORED_LINKS = 2_000
_UNDO = "message-undo"
_LONGEST_REST_SECONDS = 300.0


def undo_scope(tenant_id: uuid.UUID, message_id: int) -> bytes:
    """What an undo record is bound to."""
    return tenant_id.bytes + message_id.to_bytes(8, "big")


def seal_undo(runtime: Runtime, tenant_id: uuid.UUID, message_id: int, undo: bytes) -> bytes:
    """Seal an undo record for one message of one tenant."""
    return runtime.keyring.seal(_UNDO, undo_scope(tenant_id, message_id), undo)


def open_undo(runtime: Runtime, row: MessageRow) -> bytes | None:
    """The undo record of a message's content, or None where it needed none."""
    return _opened(runtime, row)[0]


def open_kept(runtime: Runtime, row: MessageRow) -> tuple[KeptFile, ...]:
    """The attachments of a message as they came, where others were put, or to be put, in their place."""
    return _opened(runtime, row)[1]


def _opened(runtime: Runtime, row: MessageRow) -> tuple[bytes | None, tuple[KeptFile, ...]]:
    if row.undo_sealed is None:
        return None, ()
    return unpack(runtime.keyring.open(_UNDO, undo_scope(row.tenant_id, row.id), row.undo_sealed))


@dataclass(frozen=True, slots=True)
class Pending:
    """A journaled message that is to be brought to a final state.

    Attributes:
        id: Its number.
        external_id: The provider's id under which it was first seen.
        fresh: Whether it was journaled just now, so that nothing is known of it yet.
        returned: Whether it is the original of a protected copy, named again: it may be out of the bin.
    """

    id: int
    external_id: str
    fresh: bool
    returned: bool = False


_REGISTER = """
WITH known AS (
    SELECT id, state, reason, external_id, current_id, step_new_id FROM messages
    WHERE tenant_id = %(tenant)s AND mailbox_id = %(mailbox)s
      AND (
          external_id = ANY(%(ids)s) OR current_id = ANY(%(ids)s)
          OR (step_new_id <> '' AND step_new_id = ANY(%(ids)s))  -- as its index is
      )
), moved AS (
    UPDATE messages SET state = 'seen', reason = '', attempts = 0
    WHERE tenant_id = %(tenant)s
      AND id IN (SELECT id FROM known WHERE state = 'skipped' AND reason = ANY(%(reconsidered)s))
    RETURNING id, external_id
), added AS (
    INSERT INTO messages (tenant_id, mailbox_id, external_id, current_id, state, attempts, seen_at)
    SELECT %(tenant)s, %(mailbox)s, new.id, new.id, 'seen', 1, %(now)s
    FROM unnest(%(ids)s::text[]) WITH ORDINALITY AS new(id, place)
    WHERE NOT EXISTS (SELECT 1 FROM known WHERE new.id IN (external_id, current_id, step_new_id))
    ORDER BY new.place
    RETURNING id, external_id
), traced AS (
    INSERT INTO message_events (tenant_id, message_id, kind) SELECT %(tenant)s, id, 'seen' FROM added
)
SELECT id, external_id, false, false FROM known WHERE state IN ('seen', 'writing')
UNION ALL SELECT id, external_id, false, true FROM known
    WHERE state = 'protected' AND external_id = ANY(%(ids)s) AND current_id <> external_id
UNION ALL SELECT id, external_id, false, false FROM moved
UNION ALL SELECT id, external_id, true, false FROM added
ORDER BY 1
"""


def registration(runtime: Runtime, tenant_id: uuid.UUID, mailbox_id: int, external_ids: list[str]) -> Statement:
    """Journals a page of messages before the first of them is touched; its rows are for :func:`pending`.

    It finds what is known under any of its names (the original's id, the copy's) and adds the rest. A message is
    counted as tried before it is parsed, so that even one that kills the process is given up one day.
    """
    return Statement(
        _REGISTER,
        {
            "tenant": tenant_id,
            "mailbox": mailbox_id,
            "ids": list(dict.fromkeys(external_ids)),
            "reconsidered": sorted(RECONSIDERED),
            "now": runtime.clock(),
        },
    )


def pending(rows: list[Row]) -> list[Pending]:
    """Those of a registered page that are to be worked on, from the rows of :func:`registration`."""
    return [Pending(*row) for row in rows]


def forgetting(tenant_id: uuid.UUID, message_id: int) -> tuple[Statement, ...]:
    """Takes a message out of the journal that turned out not to concern us (our own copy; from before)."""
    return (
        statement("DELETE FROM message_events WHERE tenant_id = %s AND message_id = %s", tenant_id, message_id),
        statement("DELETE FROM messages WHERE tenant_id = %s AND id = %s", tenant_id, message_id),
    )


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A message that an earlier try left half way.

    Attributes:
        id: Its number.
        external_id: The provider's id under which it was first seen.
        state: How far it came.
        due: When it may be tried again; None: at once.
    """

    id: int
    external_id: str
    state: str
    due: datetime | None


async def half_written(session: AsyncSession, mailbox_id: int) -> list[Pending]:
    """Messages whose writing was begun: a copy may stand beside its original."""
    rows = await session.execute(
        select(MessageRow.id, MessageRow.external_id)
        .where(MessageRow.mailbox_id == mailbox_id, MessageRow.state == MessageState.WRITING.value)
        .order_by(MessageRow.id)
    )
    return [Pending(row.id, row.external_id, fresh=False) for row in rows]


_UNFINISHED = """
SELECT m.id, m.external_id, m.state, count(e.id), max(e.at)
FROM messages m
LEFT JOIN message_events e ON e.tenant_id = m.tenant_id AND e.message_id = m.id AND e.kind = 'retry'
WHERE m.tenant_id = %s AND m.mailbox_id = %s AND m.state = ANY(%s)
GROUP BY m.tenant_id, m.id
ORDER BY m.id
"""


def asking_unfinished(tenant_id: uuid.UUID, mailbox_id: int) -> Statement:
    """Asks for messages that an earlier try left half way; its rows are for :func:`unfinished`."""
    return statement(_UNFINISHED, tenant_id, mailbox_id, sorted(state.value for state in UNFINISHED))


def unfinished(rows: list[Row]) -> list[Unfinished]:
    """Messages that an earlier try left half way, oldest first, from the rows of :func:`asking_unfinished`.

    One that failed is tried again after a while that doubles with each try; one whose worker died, at once.
    """
    return [
        Unfinished(number, external_id, state, None if last_retry is None else last_retry + retry_delay(failures))
        for number, external_id, state, failures, last_retry in rows
    ]


def retry_delay(failures: int) -> timedelta:
    """How long a message rests after so many failed tries: 2 s, 4 s, ... up to five minutes."""
    return timedelta(seconds=min(2.0 ** min(max(failures, 1), 10), _LONGEST_REST_SECONDS))


def add_event(session: AsyncSession, row: MessageRow, kind: str, actor: str = "", **detail: Any) -> None:
    """One line of the message's trace."""
    session.add(MessageEvent(tenant_id=row.tenant_id, message_id=row.id, kind=kind, actor=actor, detail=detail))


def described(fetched: FetchedMessage) -> dict[str, Any]:
    """What the journal keeps of a message's metadata, as column values."""
    return {
        "subject": storable(fetched.subject)[:1000],
        "sender": storable(fetched.sender)[:320],
        "internet_message_id": storable(fetched.internet_message_id)[:1000],
        "received_at": fetched.received_at,
        "version": fetched.version,
    }


NO_STEP: dict[str, Any] = {"step": "", "step_new_id": "", "step_version": "", "step_kind": ""}
"""Column values of a finished or abandoned replacement."""


def putting(tenant_id: uuid.UUID, message_id: int, **values: Any) -> Statement:
    """Sets columns of a message.

    Raises:
        KeyError: The table has no such column.
    """
    return statement(_update(tuple(values)), *map(_jsonb, values.values()), tenant_id, message_id)


@lru_cache(maxsize=64)
def _update(names: tuple[str, ...]) -> str:
    columns = ", ".join(f"{MessageRow.__table__.columns[name].name} = %s" for name in names)
    return f"UPDATE messages SET {columns} WHERE tenant_id = %s AND id = %s"  # noqa: S608  # names of the table's own


def _jsonb(value: Any) -> Any:
    return Jsonb(value) if isinstance(value, list | dict) else value


_TRACE = """
INSERT INTO message_events (tenant_id, message_id, kind, detail)
SELECT %s, %s, line.kind, line.detail FROM unnest(%s::text[], %s::jsonb[]) WITH ORDINALITY AS line(kind, detail, place)
ORDER BY line.place
"""


def tracing(tenant_id: uuid.UUID, message_id: int, *events: tuple[str, dict[str, Any]]) -> Statement:
    """Adds lines to the message's trace, in order."""
    kinds, details = [kind for kind, _ in events], [Jsonb(detail) for _, detail in events]
    return statement(_TRACE, tenant_id, message_id, kinds, details)


def stepping(
    tenant_id: uuid.UUID, message_id: int, values: dict[str, Any], *events: tuple[str, dict[str, Any]]
) -> Statement:
    """Sets columns of a message and adds lines to its trace, in order, in one statement.

    Raises:
        KeyError: The table has no such column.
    """
    kinds, details = [kind for kind, _ in events], [Jsonb(detail) for _, detail in events]
    written = map(_jsonb, values.values())
    sql = f"WITH step AS ({_update(tuple(values))}){_TRACE}"  # both are made in this module
    return statement(sql, *written, tenant_id, message_id, tenant_id, message_id, kinds, details)


_WHILE_HELD = """
WITH held AS (
    SELECT 1 FROM procrastinate_jobs
    WHERE id = %s AND status = 'doing' AND worker_id IS NOT DISTINCT FROM %s::int8 FOR SHARE
), step AS ("""
_TRACE_WHILE_HELD = """ AND EXISTS (SELECT 1 FROM held) RETURNING 1)
INSERT INTO message_events (tenant_id, message_id, kind, detail) SELECT %s, %s, %s, %s FROM step RETURNING 1
"""


def stepping_while_held(
    held: Held, tenant_id: uuid.UUID, message_id: int, values: dict[str, Any], event: tuple[str, dict[str, Any]]
) -> Statement:
    """Like :func:`stepping` for one line, but changes nothing and returns no row when the job is another's by now.

    Raises:
        KeyError: The table has no such column.
    """
    sql = f"{_WHILE_HELD}{_update(tuple(values))}{_TRACE_WHILE_HELD}"  # all made in this module
    written = map(_jsonb, values.values())
    traced = (tenant_id, message_id, event[0], Jsonb(event[1]))
    return statement(sql, held.job_id, held.worker_id, *written, tenant_id, message_id, *traced)


def finishing(
    tenant_id: uuid.UUID,
    message_id: int,
    now: datetime,
    state: MessageState,
    reason: str,
    values: dict[str, Any],
    events: tuple[tuple[str, dict[str, Any]], ...] = (),
) -> Statement:
    """Puts a message into a final state, with further column values and lines of its trace before the last."""
    final = {"state": state.value, "reason": reason, "finished_at": now}
    last = (state.value, {"reason": reason} if reason else {})
    return stepping(tenant_id, message_id, NO_STEP | values | final, *events, last)


def step_values(kind: str, step: ReplaceState) -> dict[str, Any]:
    """Column values of a step that has taken effect at the provider."""
    return {
        "step": step.step.value,
        "step_new_id": step.new_id,
        "step_version": step.version,
        "step_kind": kind,
    }


def step_event(kind: str, step: ReplaceState) -> tuple[str, dict[str, Any]]:
    """The step's line in the trace."""
    return step.step.value, {"journey": kind, "id": step.new_id}


def clear_step(row: MessageRow) -> None:
    """Forget the steps of a finished or abandoned replacement."""
    row.step = row.step_new_id = row.step_version = row.step_kind = ""


_STORE_LINKS = """
INSERT INTO message_links (tenant_id, message_id, ordinal, url, host, kind, part, text, action, findings)
SELECT %s, %s, link.* FROM jsonb_to_recordset(%s) AS link(
    ordinal bigint, url text, host text, kind text, part text, text text, action text, findings jsonb)
ON CONFLICT DO NOTHING
"""
_STORE_PAYLOADS = """
INSERT INTO link_payloads (tenant_id, digest, sealed)
SELECT %s, long.digest, long.sealed FROM unnest(%s::bytea[], %s::bytea[]) AS long(digest, sealed)
ON CONFLICT DO NOTHING
"""
# A later try finds the same links again: the first account of them stays.


def storing_links(
    tenant_id: uuid.UUID, message_id: int, result: TransformResult | BodyResult, payloads: dict[bytes, bytes]
) -> tuple[Statement, ...]:
    """Stores what was found in a message: its links, and payloads of long ones."""
    found: list[Statement] = []
    if result.links:
        rows = [_link_row(ordinal, link) for ordinal, link in enumerate(result.links[:MAX_STORED_LINKS])]
        found.append(statement(_STORE_LINKS, tenant_id, message_id, Jsonb(rows)))
    return (*found, *storing_payloads(tenant_id, payloads))


def storing_payloads(tenant_id: uuid.UUID, payloads: dict[bytes, bytes]) -> tuple[Statement, ...]:
    """Stores what links stand for that are too long to carry it."""
    if not payloads:
        return ()
    return (statement(_STORE_PAYLOADS, tenant_id, list(payloads), list(payloads.values())),)


def link_values(result: TransformResult | BodyResult) -> dict[str, Any]:
    """Column values of a message: how many links were rewritten, what was not covered."""
    return {
        "links": sum(1 for link in result.links if link.gateway_url is not None),
        "warnings": [warning_value(warning) for warning in result.warnings],
    }


def warning_value(warning: TransformWarning) -> dict[str, str]:
    """A warning as it is kept with its message."""
    return {"code": warning.code, "part": storable(warning.part), "message": storable(warning.message)}


def storable(text: str) -> str:
    """Text as PostgreSQL takes it, in JSON too: without NUL, and "?" for half a surrogate pair (UTF-7 spells those).

    A message whose record the database refuses could not be protected.
    """
    return text.replace("\x00", "").encode("utf-8", "replace").decode()


def _link_row(ordinal: int, rewritten: RewrittenLink) -> dict[str, Any]:
    link = rewritten.link
    url = storable(link.inner_url or link.url)
    return {
        "ordinal": ordinal,
        "url": url,
        "host": visible_host(url),
        "kind": str(link.kind),
        "part": storable(link.part),
        "text": storable(link.text),
        "action": str(rewritten.action),
        "findings": [
            {
                "code": finding.code,
                "where": storable(finding.where),
                "message": storable(finding.message),
                "evidence": {key: storable(str(value)) for key, value in finding.evidence.items()},
            }
            for finding in link.findings
        ],
    }
