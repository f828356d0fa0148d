"""The intake role: takes provider notifications, checks that they are genuine, stores the hint, answers.

It never fetches mail and never follows an address in a notification. Everything that is refused is counted by
provider and reason. Graph wants its answer within three seconds (202); Pub/Sub takes any 2xx as
acknowledgement and delivers again otherwise (``graph.md``, ``gmail.md``).
"""

from __future__ import annotations

import hmac
import uuid
from dataclasses import dataclass
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
from app.protection.queue import defer_renew, defer_sync
from app.protection.subscriptions import open_secret
from connectors.base.errors import ConnectorError
from connectors.base.types import Hint, HintKind, Provider

log = structlog.get_logger()

MAX_BODY_BYTES = 1_048_576
MAX_HINTS = 1_000


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
            await _count(deps, provider, {"too_large": 1})
            return PlainTextResponse(f"A notification has at most {MAX_BODY_BYTES} bytes. Nothing was taken.", 413)
        try:
            hints = await reader.read(request.headers, body)
        except PermissionError as error:
            await _count(deps, provider, {"not_genuine": 1})
            log.warning("intake.refused", provider=provider.value, reason="not_genuine", error=str(error))
            return PlainTextResponse("This notification is not from the provider. Nothing was taken.", 401)
        except ValueError as error:
            await _count(deps, provider, {"malformed": 1})
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
            await _take(deps, provider, hints[:MAX_HINTS])
        except (DBAPIError, InterfaceError, TimeoutError) as error:
            log.warning("intake.database_away", provider=provider.value, error=type(error).__name__)
            return PlainTextResponse("It could not be stored now. Please deliver again.", 503)
        return Response(status_code=202 if provider is Provider.MICROSOFT else 204)

    return Starlette(routes=[Route("/hooks/{provider}", notifications, methods=["POST"])])


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


async def _take(deps: IntakeDeps, provider: Provider, hints: list[Hint]) -> None:
    """Store genuine hints by tenant and defer a look at each mailbox; count the others by reason."""
    counts: dict[str, int] = {}
    genuine: dict[_Target, set[HintKind]] = {}
    found: dict[str, tuple[_Target, str] | None] = {}
    async with deps.db.untenanted() as session:
        for subscription_id in {hint.subscription_id for hint in hints}:
            row = (
                await session.execute(
                    text("SELECT * FROM postern_find_subscription(:provider, :id)"),
                    {"provider": provider.value, "id": subscription_id},
                )
            ).first()
            found[subscription_id] = None if row is None else _opened(deps, row)
    for hint in hints:
        # JSON can spell half a surrogate pair, which no text encoding takes: it is a wrong secret like any other.
        known = found[hint.subscription_id]
        if known is None:
            reason = "unknown_subscription"
        elif not hmac.compare_digest(known[1].encode(), hint.secret.encode("utf-8", "surrogatepass")):
            reason = "wrong_secret"
        else:
            reason = "taken"
            genuine.setdefault(known[0], set()).add(hint.kind)
        counts[reason] = counts.get(reason, 0) + 1
    for target, kinds in genuine.items():
        await _store(deps, target, kinds)
    refused = {reason: number for reason, number in counts.items() if reason != "taken"}
    if refused:
        log.warning("intake.refused", provider=provider.value, **refused)
    await _count(deps, provider, counts)


def _opened(deps: IntakeDeps, row: Row[Any]) -> tuple[_Target, str] | None:
    tenant_id, mailbox_id, sealed = row.tenant_id, row.mailbox_id, row.secret_sealed
    try:
        return _Target(tenant_id, mailbox_id), open_secret(deps.keyring, tenant_id, bytes(sealed))
    except SealBroken:
        log.error("intake.secret_does_not_open", tenant=str(tenant_id), mailbox=mailbox_id)
        return None


async def _store(deps: IntakeDeps, target: _Target, kinds: set[HintKind]) -> None:
    async with deps.db.tenant(target.tenant_id) as session:
        await session.execute(
            update(MailboxRow).where(MailboxRow.id == target.mailbox_id).values(last_notified_at=deps.clock())
        )
        if kinds & {HintKind.REAUTHORIZE, HintKind.SUBSCRIPTION_REMOVED}:
            await defer_renew(session, target.tenant_id, target.mailbox_id, anew=HintKind.SUBSCRIPTION_REMOVED in kinds)
        await defer_sync(session, target.tenant_id, target.mailbox_id, notified=True)


async def _count(deps: IntakeDeps, provider: Provider, counts: dict[str, int]) -> None:
    hour: datetime = deps.clock().replace(minute=0, second=0, microsecond=0)
    async with deps.db.untenanted() as session:
        for reason, number in sorted(counts.items()):
            statement = insert(IntakeCount).values(provider=provider.value, reason=reason, hour=hour, count=number)
            await session.execute(
                statement.on_conflict_do_update(
                    index_elements=[IntakeCount.provider, IntakeCount.reason, IntakeCount.hour],
                    set_={"count": IntakeCount.count + statement.excluded.count},
                )
            )
