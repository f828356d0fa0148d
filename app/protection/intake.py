"""The intake role: takes provider notifications, checks that they are genuine, stores the hint, answers.

It never fetches mail and never follows an address in a notification. Everything that is refused is counted by
provider and reason. Graph wants its answer within three seconds (202); Pub/Sub takes any 2xx as
acknowledgement and delivers again otherwise (``graph.md``, ``gmail.md``).
"""

from __future__ import annotations

import asyncio
import hmac
import time
import uuid
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import structlog
from sqlalchemy import Row, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError, InterfaceError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from app.kit.clock import Clock, utc_now
from app.kit.crypto import KeyRing, SealBroken
from app.kit.db import Database
from app.protection.models import IntakeCount, MailboxRow
from app.protection.providers import Providers
from app.protection.queue import defer_notified, defer_renew
from app.protection.subscriptions import open_secret
from connectors.base.errors import ConnectorError
from connectors.base.types import Hint, HintKind, Provider

log = structlog.get_logger()

MAX_BODY_BYTES = 1_048_576
MAX_HINTS = 1_000

_REMEMBER_SECONDS = 60.0
_REMEMBERED = 100_000
_NO_WAIT_FOR_DISK = text("SET LOCAL synchronous_commit TO off")
"""A hint is stored once the database has it. Should the database's machine die within the next half second, the hint
is lost as providers lose some too, and polling finds the mail
(https://www.postgresql.org/docs/current/wal-async-commit.html)."""


@dataclass(frozen=True, slots=True)
class IntakeDeps:
    """What the intake role works with."""

    db: Database
    keyring: KeyRing
    providers: Providers
    clock: Clock = utc_now


@dataclass(frozen=True, slots=True)
class _Target:
    tenant_id: uuid.UUID
    mailbox_id: int


def create_intake(deps: IntakeDeps) -> Starlette:
    """The ASGI application: ``POST /hooks/{provider}``."""
    known, writer = _Subscriptions(deps), _Writer(deps)

    async def notifications(request: Request) -> Response:
        try:
            provider = Provider(request.path_params["provider"])
        except ValueError:
            return PlainTextResponse("There is no such provider.", 404)
        if provider not in deps.providers.configured():
            return PlainTextResponse("There is no such provider.", 404)
        reader = deps.providers.notifications(provider)
        answer = reader.handshake(dict(request.query_params))
        if answer is not None:
            return PlainTextResponse(answer, headers={"X-Content-Type-Options": "nosniff"})
        body = await _read(request)
        if body is None:
            await writer.count(provider, {"too_large": 1})
            return PlainTextResponse(f"A notification has at most {MAX_BODY_BYTES} bytes. Nothing was taken.", 413)
        try:
            hints = await reader.read(request.headers, body)
        except PermissionError as error:
            await writer.count(provider, {"not_genuine": 1})
            log.warning("intake.refused", provider=provider.value, reason="not_genuine", error=str(error))
            return PlainTextResponse("This notification is not from the provider. Nothing was taken.", 401)
        except ValueError as error:
            await writer.count(provider, {"malformed": 1})
            if provider is Provider.GOOGLE:
                # It is genuine: anything but 2xx would have Pub/Sub deliver it again for days.
                log.warning("intake.malformed", provider=provider.value, error=str(error))
                return Response(status_code=204)
            return PlainTextResponse(f"This is not a notification: {error}. Nothing was taken.", 400)
        except ConnectorError as error:
            # The provider's keys could not be read: it will deliver again.
            log.warning("intake.unavailable", provider=provider.value, error=str(error))
            return PlainTextResponse("It could not be checked now. Please deliver again.", 503)
        try:
            await _take(known, writer, provider, hints[:MAX_HINTS])
        except (DBAPIError, InterfaceError, TimeoutError) as error:
            log.warning("intake.database_away", provider=provider.value, error=type(error).__name__)
            return PlainTextResponse("It could not be stored now. Please deliver again.", 503)
        return Response(status_code=202 if provider is Provider.MICROSOFT else 204)

    return Starlette(routes=[Route("/hooks/{provider}", notifications, methods=["POST"])])


class HintStore:
    """Stores hints that were fetched the way pushed ones are."""

    def __init__(self, deps: IntakeDeps) -> None:
        self._known, self._writer = _Subscriptions(deps), _Writer(deps)

    async def take(self, provider: Provider, hints: list[Hint]) -> None:
        """Returns once they are stored.

        Raises:
            DBAPIError, InterfaceError, TimeoutError: They could not be.
        """
        await _take(self._known, self._writer, provider, hints)

    async def count_malformed(self, provider: Provider, number: int) -> None:
        """Count what was no notification."""
        await self._writer.count(provider, {"malformed": number})


async def _read(request: Request) -> bytes | None:
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > MAX_BODY_BYTES:
        return None
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            return None
    return bytes(body)


async def _take(known: _Subscriptions, writer: _Writer, provider: Provider, hints: list[Hint]) -> None:
    """Store genuine hints by tenant and defer a look at each mailbox; count the others by reason."""
    counts: Counter[str] = Counter()
    genuine: dict[_Target, set[HintKind]] = {}
    found = await known.find(provider, {hint.subscription_id for hint in hints})
    for hint in hints:
        subscription = found[hint.subscription_id]
        if subscription is None:
            reason = "unknown_subscription"
        # JSON can spell half a surrogate pair, which no text encoding takes: it is a wrong secret like any other.
        elif not hmac.compare_digest(subscription[1].encode(), hint.secret.encode("utf-8", "surrogatepass")):
            reason = "wrong_secret"
        else:
            reason = "taken"
            genuine.setdefault(subscription[0], set()).add(hint.kind)
        counts[reason] += 1
    refused = {reason: number for reason, number in counts.items() if reason != "taken"}
    if refused:
        log.warning("intake.refused", provider=provider.value, **refused)
    await writer.write(provider, genuine, counts)


class _Subscriptions:
    """Which mailbox a subscription is for, and its secret; remembered for a while, since both never change."""

    def __init__(self, deps: IntakeDeps) -> None:
        self._deps = deps
        self._known: dict[tuple[Provider, str], tuple[float, _Target, str]] = {}

    async def find(self, provider: Provider, ids: set[str]) -> dict[str, tuple[_Target, str] | None]:
        """Each id's target and secret, or None where there is no such subscription."""
        now = time.monotonic()
        found: dict[str, tuple[_Target, str] | None] = {}
        for subscription_id in ids:
            known = self._known.get((provider, subscription_id))
            if known is not None and known[0] > now:
                found[subscription_id] = known[1:]
        missing = ids - found.keys()
        if missing:
            async with self._deps.db.untenanted() as session:
                for subscription_id in missing:
                    row = (
                        await session.execute(
                            text("SELECT * FROM postern_find_subscription(:provider, :id)"),
                            {"provider": provider.value, "id": subscription_id},
                        )
                    ).first()
                    found[subscription_id] = None if row is None else _opened(self._deps, row)
            if len(self._known) > _REMEMBERED:
                self._known.clear()
            for subscription_id in missing:
                opened = found[subscription_id]
                if opened is not None:
                    self._known[provider, subscription_id] = (now + _REMEMBER_SECONDS, *opened)
        return found


def _opened(deps: IntakeDeps, row: Row[Any]) -> tuple[_Target, str] | None:
    tenant_id, mailbox_id, sealed = row.tenant_id, row.mailbox_id, row.secret_sealed
    try:
        return _Target(tenant_id, mailbox_id), open_secret(deps.keyring, tenant_id, bytes(sealed))
    except SealBroken:
        log.error("intake.secret_does_not_open", tenant=str(tenant_id), mailbox=mailbox_id)
        return None


@dataclass(slots=True)
class _Batch:
    """What is written together."""

    targets: dict[uuid.UUID, dict[int, set[HintKind]]] = field(default_factory=dict)
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    done: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class _Writer:
    """Writes what came in while it was writing before in one go; whoever waits is answered when it is stored.

    A transaction per notification would queue up at the disk and at the row of counts under a few hundred a second.
    """

    def __init__(self, deps: IntakeDeps) -> None:
        self._deps = deps
        self._next: _Batch | None = None
        self._working: asyncio.Task[None] | None = None

    async def count(self, provider: Provider, counts: dict[str, int]) -> None:
        """Count refusals. The database may be away: the answer does not depend on it."""
        try:
            await self.write(provider, {}, Counter(counts))
        except (DBAPIError, InterfaceError, TimeoutError) as error:
            log.warning("intake.not_counted", provider=provider.value, error=type(error).__name__)

    async def write(self, provider: Provider, genuine: dict[_Target, set[HintKind]], counts: Counter[str]) -> None:
        """Store hints and counts; returns once they are.

        Raises:
            DBAPIError: They could not be stored.
        """
        batch = self._next
        if batch is None:
            batch = self._next = _Batch()
        for target, kinds in genuine.items():
            batch.targets.setdefault(target.tenant_id, {}).setdefault(target.mailbox_id, set()).update(kinds)
        for reason, number in counts.items():
            batch.counts[provider.value, reason] += number
        if self._working is None or self._working.done():
            self._working = asyncio.create_task(self._work())
        await asyncio.shield(batch.done)

    async def _work(self) -> None:
        while self._next is not None:
            batch, self._next = self._next, None
            try:
                for tenant_id, mailboxes in batch.targets.items():
                    await self._store(tenant_id, mailboxes)
                await self._add(batch.counts)
            except Exception as error:  # noqa: BLE001 - whoever waits for this batch gets it, whatever it is
                batch.done.set_exception(error)
            else:
                batch.done.set_result(None)

    async def _store(self, tenant_id: uuid.UUID, mailboxes: dict[int, set[HintKind]]) -> None:
        ids = sorted(mailboxes)
        async with self._deps.db.tenant(tenant_id) as session:
            await session.execute(_NO_WAIT_FOR_DISK)
            await session.execute(
                update(MailboxRow).where(MailboxRow.id.in_(ids)).values(last_notified_at=self._deps.clock())
            )
            for mailbox_id in ids:
                kinds = mailboxes[mailbox_id]
                if kinds & {HintKind.REAUTHORIZE, HintKind.SUBSCRIPTION_REMOVED}:
                    await defer_renew(session, tenant_id, mailbox_id, anew=HintKind.SUBSCRIPTION_REMOVED in kinds)
            await defer_notified(session, tenant_id, ids)

    async def _add(self, counts: Counter[tuple[str, str]]) -> None:
        hour: datetime = self._deps.clock().replace(minute=0, second=0, microsecond=0)
        rows = [
            {"provider": provider, "reason": reason, "hour": hour, "count": number}
            for (provider, reason), number in sorted(counts.items())
        ]
        statement = insert(IntakeCount).values(rows)
        async with self._deps.db.untenanted() as session:
            await session.execute(_NO_WAIT_FOR_DISK)
            await session.execute(
                statement.on_conflict_do_update(
                    index_elements=[IntakeCount.provider, IntakeCount.reason, IntakeCount.hour],
                    set_={"count": IntakeCount.count + statement.excluded.count},
                )
            )
