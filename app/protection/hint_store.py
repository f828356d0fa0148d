"""Stores genuine hints: which mailbox a subscription is for, and group commit by tenant.

What comes in while a tenant's hints are being written is written together in the tenant's next transaction, which is
one round trip; whoever waits is answered when its own tenant's hints are stored. A tenant whose hints cannot be stored
keeps nobody else's waiting.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime

import structlog
from sqlalchemy.exc import DBAPIError, IntegrityError, InterfaceError

from app.kit.at_once import Statement, statement
from app.kit.clock import Clock, utc_now
from app.kit.crypto import KeyRing, SealBroken
from app.kit.db import Database
from app.protection.metrics import NOTIFICATIONS
from app.protection.providers import Providers
from app.protection.queue import defer_renew, notified
from app.protection.subscriptions import open_secret
from connectors.base.types import HintKind, Provider

log = structlog.get_logger()

STORE_ERRORS = (DBAPIError, InterfaceError, TimeoutError)
"""What :meth:`HintWriter.write` raises where hints could not be stored."""

_REMEMBER_SECONDS = 60.0
_REMEMBERED = 100_000
_UNKNOWN_SECONDS = 2.0
"""A subscription may be stored a moment after the provider knows it; what comes in between is found by the look that
follows its making."""
_UNKNOWNS = 10_000
_TRIES = 3
_RENEWS = frozenset({HintKind.REAUTHORIZE, HintKind.SUBSCRIPTION_REMOVED})

_NO_WAIT_FOR_DISK = statement("SET LOCAL synchronous_commit TO off")
"""For counts alone: those of the last half second may be lost with the database's machine
(https://www.postgresql.org/docs/current/wal-async-commit.html). A hint is answered for once it is on the disk."""

_NOT_FOR_EVER = statement("SET LOCAL statement_timeout TO '2500ms'")
"""Microsoft waits three seconds for its answer; what cannot be stored by then comes again."""

_COUNT_SECONDS = 0.25
"""Counts of what was taken are written so often: nobody's answer waits for them."""

_NOTIFIED_AT = "UPDATE mailboxes SET last_notified_at = %s WHERE tenant_id = %s AND id = ANY(%s::bigint[])"

_FIND = """
SELECT asked.id, found.tenant_id, found.mailbox_id, found.secret_sealed
FROM unnest(%s::text[]) AS asked(id), LATERAL postern_find_subscription(%s, asked.id) AS found
"""

_COUNT = """
INSERT INTO intake_counts (provider, reason, hour, count)
SELECT seen.provider, seen.reason, %s, seen.count
FROM unnest(%s::text[], %s::text[], %s::bigint[]) AS seen(provider, reason, count)
ON CONFLICT (provider, reason, hour) DO UPDATE SET count = intake_counts.count + excluded.count
"""


@dataclass(frozen=True, slots=True)
class IntakeDeps:
    """What the intake role works with."""

    db: Database
    keyring: KeyRing
    providers: Providers
    clock: Clock = utc_now


@dataclass(frozen=True, slots=True)
class Target:
    """The mailbox that a subscription is for."""

    tenant_id: uuid.UUID
    mailbox_id: int


class KnownSubscriptions:
    """Which mailbox a subscription is for, and its secret; remembered for a while, since both never change.

    That there is none is remembered for two seconds, so that a flood of made-up ids is not one of queries.
    """

    def __init__(self, deps: IntakeDeps) -> None:
        self._deps = deps
        self._known: dict[tuple[Provider, str], tuple[float, Target, bytes]] = {}
        self._unknown: dict[tuple[Provider, str], float] = {}

    async def find(self, provider: Provider, ids: Iterable[str]) -> dict[str, tuple[Target, bytes]]:
        """Target and secret of each id that is a subscription's.

        Raises:
            DBAPIError, InterfaceError: The database is away.
        """
        now = time.monotonic()
        found: dict[str, tuple[Target, bytes]] = {}
        missing: list[str] = []
        for subscription_id in ids:
            known = self._known.get((provider, subscription_id))
            if known is not None and known[0] > now:
                found[subscription_id] = known[1:]
            elif self._unknown.get((provider, subscription_id), 0.0) <= now:
                missing.append(subscription_id)
        if missing:
            (rows,) = await self._deps.db.at_once(None, statement(_FIND, missing, provider.value))
            if len(self._known) > _REMEMBERED:
                self._known.clear()
            if len(self._unknown) > _UNKNOWNS:
                self._unknown.clear()
            for subscription_id in missing:
                self._unknown[provider, subscription_id] = now + _UNKNOWN_SECONDS
            for subscription_id, tenant_id, mailbox_id, sealed in rows:
                secret = self._opened(tenant_id, mailbox_id, bytes(sealed))
                if secret is not None:
                    found[subscription_id] = (Target(tenant_id, mailbox_id), secret)
                    self._known[provider, subscription_id] = (now + _REMEMBER_SECONDS, *found[subscription_id])
                    self._unknown.pop((provider, subscription_id), None)
        return found

    def _opened(self, tenant_id: uuid.UUID, mailbox_id: int, sealed: bytes) -> bytes | None:
        try:
            return open_secret(self._deps.keyring, tenant_id, sealed).encode()
        except SealBroken:
            log.error("intake.secret_does_not_open", tenant=str(tenant_id), mailbox=mailbox_id)
            return None


@dataclass(slots=True)
class _Batch:
    """Hints of one tenant that are written together."""

    mailboxes: dict[int, set[HintKind]] = field(default_factory=dict)
    done: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


@dataclass(slots=True)
class _Lane:
    """One tenant's writing."""

    next: _Batch | None = None
    working: asyncio.Task[None] | None = None


class HintWriter:
    """Writes hints and counts; see the module."""

    def __init__(self, deps: IntakeDeps) -> None:
        self._deps = deps
        self._lanes: dict[uuid.UUID, _Lane] = {}
        self._counts: Counter[tuple[str, str]] = Counter()
        self._counted: asyncio.Future[None] | None = None
        self._at_once = asyncio.Event()
        self._counting: asyncio.Task[None] | None = None

    async def write(self, genuine: dict[Target, set[HintKind]]) -> None:
        """Store hints; returns once all of them are.

        Raises:
            DBAPIError, InterfaceError, TimeoutError: Those of a tenant could not be stored.
        """
        batches: dict[uuid.UUID, _Batch] = {}
        for target, kinds in genuine.items():
            lane = self._lanes.get(target.tenant_id)
            if lane is None:
                lane = self._lanes[target.tenant_id] = _Lane()
            if lane.next is None:
                lane.next = _Batch()
            lane.next.mailboxes.setdefault(target.mailbox_id, set()).update(kinds)
            batches[target.tenant_id] = lane.next
            if lane.working is None:
                lane.working = asyncio.create_task(self._work(target.tenant_id, lane))
        if len(batches) == 1:
            (batch,) = batches.values()
            await asyncio.shield(batch.done)
            return
        results = await asyncio.gather(
            *(asyncio.shield(batch.done) for batch in batches.values()), return_exceptions=True
        )
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def _work(self, tenant_id: uuid.UUID, lane: _Lane) -> None:
        while lane.next is not None:
            batch, lane.next = lane.next, None
            try:
                await self._store(tenant_id, batch.mailboxes)
            except Exception as error:  # noqa: BLE001 - whoever waits for this batch gets it, whatever it is
                batch.done.set_exception(error)
                batch.done.exception()  # taken note of, even where nobody waits any more
            else:
                batch.done.set_result(None)
        del self._lanes[tenant_id]

    async def _store(self, tenant_id: uuid.UUID, mailboxes: dict[int, set[HintKind]]) -> None:
        ids = sorted(mailboxes)
        renewals = [mailbox_id for mailbox_id in ids if mailboxes[mailbox_id] & _RENEWS]
        if renewals:
            async with self._deps.db.tenant(tenant_id) as session:
                for mailbox_id in renewals:
                    anew = HintKind.SUBSCRIPTION_REMOVED in mailboxes[mailbox_id]
                    await defer_renew(session, tenant_id, mailbox_id, anew=anew)
        statements: tuple[Statement, ...] = (
            _NOT_FOR_EVER,
            statement(_NOTIFIED_AT, self._deps.clock(), tenant_id, ids),
            notified(tenant_id, ids),
        )
        for last in range(1, _TRIES + 1):
            try:
                await self._deps.db.at_once(tenant_id, *statements)
                return
            except IntegrityError:
                # Another process deferred one of them at the same instant; it is seen the next time.
                if last == _TRIES:
                    raise

    async def count(self, provider: Provider, counts: dict[str, int]) -> None:
        """Count by reason; returns when it is stored, or the database is away: the answer does not depend on it.

        What could not be stored is stored with what comes next.
        """
        if self._counted is None:
            self._counted = asyncio.get_running_loop().create_future()
        counted = self._counted
        self.note(provider, counts)
        self._at_once.set()
        await asyncio.shield(counted)

    def note(self, provider: Provider, counts: dict[str, int]) -> None:
        """Count by reason, soon."""
        for reason, number in counts.items():
            self._counts[provider.value, reason] += number
            NOTIFICATIONS.labels(provider.value, reason).inc(number)
        if self._counting is None:
            self._counting = asyncio.create_task(self._count())

    async def settle(self) -> None:
        """Store what was noted, before the process ends."""
        self._at_once.set()
        if self._counting is not None:
            await self._counting

    async def _count(self) -> None:
        wanted = True
        while wanted:
            counts, self._counts = self._counts, Counter()
            counted, self._counted = self._counted, None
            self._at_once.clear()
            try:
                await self._add(counts)
                stored = True
            except STORE_ERRORS as error:
                log.warning("intake.not_counted", error=type(error).__name__)
                self._counts.update(counts)
                stored = False
            if counted is not None:
                counted.set_result(None)
            if stored and self._counts and self._counted is None:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._at_once.wait(), _COUNT_SECONDS)
            # What could not be stored waits for the next notification, not for itself.
            wanted = self._counted is not None or (stored and bool(self._counts))
        self._counting = None

    async def _add(self, counts: Counter[tuple[str, str]]) -> None:
        hour: datetime = self._deps.clock().replace(minute=0, second=0, microsecond=0)
        rows = sorted(counts.items())
        names, reasons = [provider for (provider, _), _ in rows], [reason for (_, reason), _ in rows]
        numbers = [number for _, number in rows]
        await self._deps.db.at_once(
            None, _NO_WAIT_FOR_DISK, _NOT_FOR_EVER, statement(_COUNT, hour, names, reasons, numbers)
        )
