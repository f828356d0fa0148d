"""Keeping a tenant's lists, and loading what decisions need.

Every change goes into the audit log and tells all gateways over ``NOTIFY postern_policy`` with the tenant's id,
all in one transaction (https://www.postgresql.org/docs/current/sql-notify.html: sent when it commits), so that
they decide by it within a second.
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Any, Final, Literal

from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.audit.service import record
from app.kit.clock import utc_now
from app.kit.db import Database
from app.kit.errors import Conflict, NotFound, Refused
from app.policy.engine import LIST_ACTIONS, ListRule, PolicySnapshot, level_actions, page_words
from app.policy.models import ListEntry
from app.policy.patterns import compile_pattern
from app.tenants.actor import Actor, Permission
from app.tenants.levels import level_from
from app.tenants.models import Domain, Tenant

CHANNEL: Final = "postern_policy"
MAX_ENTRIES: Final = 20_000
MAX_NOTE: Final = 300
MAX_LINK_DAYS: Final = 36_500

Audit = Callable[[AsyncSession, Actor, str, str, Mapping[str, Any] | None], Awaitable[None]]
"""Writes one line of the audit log in the session's transaction."""

Place = Literal["first", "last"]


async def notify_policy(session: AsyncSession, tenant_id: uuid.UUID) -> None:
    """Tell every gateway that a tenant's lists, settings or domains changed, once the session commits."""
    await session.execute(text("SELECT pg_notify(:channel, :tenant)"), {"channel": CHANNEL, "tenant": str(tenant_id)})


class PolicyService:
    """The tenant's allow, block, ignore and lock lists.

    Args:
        database: The application's database.
        audit: Where acts are recorded.
    """

    def __init__(self, database: Database, audit: Audit = record) -> None:
        self._database = database
        self._audit = audit

    async def entries(self, actor: Actor) -> list[ListEntry]:
        """All entries by position.

        Raises:
            Forbidden: The role may not see the tenant's settings.
        """
        actor.require(Permission.VIEW_TENANT)
        async with self._database.tenant(actor.tenant_id) as session:
            return list(await session.scalars(select(ListEntry).order_by(ListEntry.position, ListEntry.id)))

    async def add(
        self,
        actor: Actor,
        *,
        action: str,
        pattern: str,
        kind: str = "wildcard",
        note: str = "",
        place: Place = "first",
    ) -> ListEntry:
        """Add an entry; by default in front, so that what was just allowed or blocked is so at once.

        Raises:
            Forbidden: The role may not configure.
            Refused: Action, kind, pattern or note is not acceptable.
            Conflict: The same entry exists, or there are too many.
        """
        actor.require(Permission.CONFIGURE)
        pattern, note = _checked(action, kind, pattern, note)
        async with self._database.tenant(actor.tenant_id) as session:
            await _lock_list(session)
            lowest, highest, count = (
                await session.execute(select(func.min(ListEntry.position), func.max(ListEntry.position), func.count()))
            ).one()
            if count >= MAX_ENTRIES:
                raise Conflict(f"The list is full ({MAX_ENTRIES} entries). Remove some first; nothing was changed.")
            twin = await session.scalar(
                select(ListEntry.id).where(
                    ListEntry.action == action, ListEntry.kind == kind, ListEntry.pattern == pattern
                )
            )
            if twin is not None:
                raise Conflict(f"The list has this entry already (number {twin}); nothing was changed.")
            position = 0 if not count else lowest - 1 if place == "first" else highest + 1
            entry = ListEntry(
                tenant_id=actor.tenant_id,
                action=action,
                kind=kind,
                pattern=pattern,
                position=position,
                note=note,
                created_by=actor.label,
            )
            session.add(entry)
            await session.flush()
            await session.refresh(entry)
            await self._changed(session, actor, "list.added", entry)
        return entry

    async def change(
        self,
        actor: Actor,
        entry_id: int,
        *,
        action: str | None = None,
        pattern: str | None = None,
        kind: str | None = None,
        note: str | None = None,
    ) -> ListEntry:
        """Change an entry; what is None stays.

        Raises:
            Forbidden: The role may not configure.
            NotFound: No such entry.
            Refused: Something is not acceptable.
        """
        actor.require(Permission.CONFIGURE)
        async with self._database.tenant(actor.tenant_id) as session:
            entry = await _entry(session, entry_id)
            action = entry.action if action is None else action
            kind = entry.kind if kind is None else kind
            checked, noted = _checked(
                action, kind, entry.pattern if pattern is None else pattern, entry.note if note is None else note
            )
            before = {"was": f"{entry.action} {entry.kind} {entry.pattern}"}
            entry.action, entry.kind, entry.pattern, entry.note = action, kind, checked, noted
            await session.flush()
            await self._changed(session, actor, "list.changed", entry, before)
        return entry

    async def move(self, actor: Actor, entry_id: int, *, before: int | None) -> None:
        """Put an entry before another one, or at the end (None).

        Raises:
            Forbidden: The role may not configure.
            NotFound: No such entry.
        """
        actor.require(Permission.CONFIGURE)
        async with self._database.tenant(actor.tenant_id) as session:
            await _lock_list(session)
            ordered = list(await session.scalars(select(ListEntry).order_by(ListEntry.position, ListEntry.id)))
            by_id = {entry.id: entry for entry in ordered}
            if entry_id not in by_id or (before is not None and before not in by_id):
                raise NotFound("There is no such entry.")
            entry = by_id[entry_id]
            if before == entry_id:
                return
            ordered.remove(entry)
            ordered.insert(len(ordered) if before is None else ordered.index(by_id[before]), entry)
            for position, item in enumerate(ordered):
                item.position = position
            await session.flush()
            await self._changed(session, actor, "list.moved", entry, {"position": entry.position})

    async def remove(self, actor: Actor, entry_id: int) -> None:
        """Remove an entry.

        Raises:
            Forbidden: The role may not configure.
            NotFound: No such entry.
        """
        actor.require(Permission.CONFIGURE)
        async with self._database.tenant(actor.tenant_id) as session:
            entry = await _entry(session, entry_id)
            await session.delete(entry)
            await session.flush()
            await self._changed(session, actor, "list.removed", entry)

    async def snapshot(self, tenant_id: uuid.UUID) -> PolicySnapshot:
        """Everything that decisions for a tenant need.

        Raises:
            NotFound: No such tenant.
        """
        async with self._database.tenant(tenant_id) as session:
            return await load_snapshot(session, tenant_id)

    async def _changed(
        self,
        session: AsyncSession,
        actor: Actor,
        act: str,
        entry: ListEntry,
        detail: Mapping[str, Any] | None = None,
    ) -> None:
        facts = {"id": entry.id, "action": entry.action, "kind": entry.kind, "note": entry.note, **(detail or {})}
        await self._audit(session, actor, act, entry.pattern, facts)
        await notify_policy(session, actor.tenant_id)


async def load_snapshot(session: AsyncSession, tenant_id: uuid.UUID) -> PolicySnapshot:
    """Load one tenant's snapshot in a transaction of that tenant.

    The tenant's settings used are those under ``gateway``: ``levels`` (verdict level -> ``redirect``, ``warn``,
    ``block`` or ``lock``), ``failure`` (``open`` or ``closed``), ``keep_address`` (bool), ``rewrite_own_domains``
    (bool), ``link_days`` (for so many days a link works; 0: for good), ``level_from`` (from how many points on
    ``suspicious`` and ``malicious`` begin) and ``words`` (``locale``, ``contact``, ``note``, ``accent``, ``block_url``,
    ``logo``).

    Raises:
        NotFound: No such tenant.
    """
    tenant = await session.get(Tenant, tenant_id)
    if tenant is None:
        raise NotFound("There is no such tenant.")
    entries = await session.scalars(select(ListEntry).order_by(ListEntry.position, ListEntry.id))
    domains = await session.scalars(select(Domain.name))
    rules = tuple(ListRule(row.id, row.action, row.kind, row.pattern, row.position) for row in entries)
    settings = tenant.settings.get("gateway")
    expired_below = await _expired_below(session, settings.get("link_days")) if isinstance(settings, Mapping) else 0
    return make_snapshot(
        tenant_id, tenant.no, tenant.name, tenant.settings, rules, frozenset(domains), expired_below=expired_below
    )


def make_snapshot(
    tenant_id: uuid.UUID,
    tenant_no: int,
    name: str,
    stored: Mapping[str, Any],
    rules: tuple[ListRule, ...],
    domains: frozenset[str],
    *,
    expired_below: int = 0,
) -> PolicySnapshot:
    """A snapshot of what is stored.

    Args:
        tenant_id: Whose.
        tenant_no: The number in link tokens.
        name: The organisation's.
        stored: ``tenants.settings``; see :func:`load_snapshot`.
        rules: The lists, by position.
        domains: The tenant's mail domains.
        expired_below: See :class:`app.policy.engine.PolicySnapshot`; of no use at delivery.
    """
    settings = stored.get("gateway")
    settings = settings if isinstance(settings, Mapping) else {}
    return PolicySnapshot(
        tenant_no=tenant_no,
        tenant_id=str(tenant_id),
        name=name,
        rules=rules,
        levels=level_actions(settings.get("levels")),
        failure="closed" if settings.get("failure") == "closed" else "open",
        own_domains=frozenset() if settings.get("rewrite_own_domains") else domains,
        words=page_words(settings.get("words")),
        keep_address=settings.get("keep_address") is True,
        expired_below=expired_below,
        level_from=level_from(settings.get("level_from")),
    )


# The table belongs to a package above (protection). Numbers grow with time, so one number says which links are too
# old: a gateway without the database decides by it, and a link needs no date.
_OLDEST_IN_TIME = text("SELECT id FROM messages WHERE seen_at >= :since ORDER BY seen_at LIMIT 1")
_NEWEST_TOO_OLD = text("SELECT id FROM messages WHERE seen_at < :since ORDER BY seen_at DESC LIMIT 1")


async def _expired_below(session: AsyncSession, days: object) -> int:
    if not isinstance(days, int) or isinstance(days, bool) or days <= 0:
        return 0
    since = {"since": utc_now() - timedelta(days=min(days, MAX_LINK_DAYS))}
    oldest = await session.scalar(_OLDEST_IN_TIME, since)
    if oldest is not None:
        return int(oldest)
    newest = await session.scalar(_NEWEST_TOO_OLD, since)
    return 0 if newest is None else int(newest) + 1


async def _lock_list(session: AsyncSession) -> None:
    """One change of order at a time per tenant; row-level security narrows the rows to the tenant's."""
    await session.execute(
        text("SELECT pg_advisory_xact_lock(hashtextextended(current_setting('postern.tenant_id'), 77))")
    )


async def _entry(session: AsyncSession, entry_id: int) -> ListEntry:
    entry = await session.scalar(select(ListEntry).where(ListEntry.id == entry_id).with_for_update())
    if entry is None:
        raise NotFound("There is no such entry.")
    return entry


def _checked(action: str, kind: str, pattern: str, note: str) -> tuple[str, str]:
    if action not in LIST_ACTIONS:
        raise Refused(f"An entry can {', '.join(LIST_ACTIONS)}; “{action[:40]}” is none of these.", "list_action")
    if len(note) > MAX_NOTE or not note.replace("\n", " ").isprintable():
        raise Refused(f"A note has at most {MAX_NOTE} printable characters; nothing was changed.", "list_note")
    pattern = pattern.strip()
    compile_pattern(kind, pattern)
    return pattern, note
