"""Keeping each protected mailbox's subscription alive: made once, renewed in place, well before its end."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta

import structlog
from sqlalchemy import ColumnElement, Double, cast, func, literal, or_, select

from app.kit.crypto import KeyRing
from app.protection.models import MailboxRow, SubscriptionRow
from app.protection.runtime import Runtime
from app.protection.work import MailboxWork
from connectors.base.types import Subscription

log = structlog.get_logger()

RENEW_SHARE = 0.5
"""A subscription is renewed once about this share of its life is left, so that a day's outage costs none."""

ROUND_SECONDS = 1800
"""Time between two looks at which subscriptions are due."""

_SPREAD = 0.3
_GOLDEN = 0.6180339887498949

_PURPOSE = "subscription"


def open_secret(keyring: KeyRing, tenant_id: uuid.UUID, sealed: bytes) -> str:
    """The secret that a notification of this subscription must present."""
    return keyring.open(_PURPOSE, tenant_id.bytes, sealed).decode()


def seal_secret(keyring: KeyRing, tenant_id: uuid.UUID, secret: str) -> bytes:
    """The secret as it is stored."""
    return keyring.seal(_PURPOSE, tenant_id.bytes, secret.encode())


def renew_share(mailbox_id: int) -> float:
    """Share of its life that is left when a mailbox's subscription is renewed: 0.35 to 0.65.

    The multiples of the golden ratio, modulo one, lie evenly whichever numbers the mailboxes have (Knuth, TAOCP 3,
    6.4): subscriptions that were made together drift apart and are renewed at a steady rate from then on.
    """
    return RENEW_SHARE + _SPREAD * ((mailbox_id * _GOLDEN) % 1.0 - 0.5)


def due(now: datetime, life: timedelta) -> ColumnElement[bool]:
    """Whether a mailbox has no subscription or one that is due by :func:`renew_share`, for a query of both tables.

    Args:
        now: The present, aware.
        life: How long a subscription lives at most.
    """
    turn = cast(MailboxRow.id, Double) * literal(_GOLDEN, Double)
    share = literal(RENEW_SHARE - _SPREAD / 2, Double) + literal(_SPREAD, Double) * (turn - func.floor(turn))
    left = func.extract("epoch", SubscriptionRow.expires_at - literal(now))
    return or_(SubscriptionRow.expires_at.is_(None), left <= share * life.total_seconds())


async def ensure(runtime: Runtime, work: MailboxWork) -> None:
    """Subscribe a mailbox, or renew what there is where it is due.

    Raises:
        ConnectorError: Of the provider; notifications may be missing meanwhile, polling goes on.
    """
    async with runtime.db.tenant(work.tenant_id) as session:
        row = await session.scalar(select(SubscriptionRow).where(SubscriptionRow.mailbox_id == work.mailbox_id))
    callback = runtime.callback_url(work.grant.provider)
    if row is None:
        await _store(runtime, work, await work.connector.subscribe(work.mailbox, callback))
        return
    if row.expires_at - runtime.clock() > work.connector.capabilities.subscription_ttl * renew_share(work.mailbox_id):
        return
    await _store(runtime, work, await work.connector.renew(_to_subscription(runtime, work, row), callback))


async def renew_now(runtime: Runtime, work: MailboxWork, *, anew: bool = False) -> None:
    """Renew at the provider's word (lifecycle notification); ``anew`` where it removed the subscription."""
    async with runtime.db.tenant(work.tenant_id) as session:
        row = await session.scalar(select(SubscriptionRow).where(SubscriptionRow.mailbox_id == work.mailbox_id))
    callback = runtime.callback_url(work.grant.provider)
    if row is None or anew:
        await _store(runtime, work, await work.connector.subscribe(work.mailbox, callback))
    else:
        await _store(runtime, work, await work.connector.renew(_to_subscription(runtime, work, row), callback))


async def stop(runtime: Runtime, work: MailboxWork) -> None:
    """End a mailbox's subscription."""
    async with runtime.db.tenant(work.tenant_id) as session:
        row = await session.scalar(select(SubscriptionRow).where(SubscriptionRow.mailbox_id == work.mailbox_id))
    if row is None:
        return
    await work.connector.unsubscribe(_to_subscription(runtime, work, row))
    async with runtime.db.tenant(work.tenant_id) as session:
        gone = await session.get(SubscriptionRow, (row.tenant_id, row.provider, row.id))
        if gone is not None:
            await session.delete(gone)


def _to_subscription(runtime: Runtime, work: MailboxWork, row: SubscriptionRow) -> Subscription:
    return Subscription(
        id=row.id,
        mailbox=work.mailbox,
        expires_at=row.expires_at,
        secret=open_secret(runtime.keyring, row.tenant_id, row.secret_sealed),
    )


async def _store(runtime: Runtime, work: MailboxWork, made: Subscription) -> None:
    sealed = seal_secret(runtime.keyring, work.tenant_id, made.secret)
    async with runtime.db.tenant(work.tenant_id) as session:
        old = await session.scalar(select(SubscriptionRow).where(SubscriptionRow.mailbox_id == work.mailbox_id))
        if old is not None and old.id != made.id:
            await session.delete(old)
            await session.flush()
            old = None
        if old is None:
            session.add(
                SubscriptionRow(
                    tenant_id=work.tenant_id,
                    provider=work.grant.provider.value,
                    id=made.id,
                    mailbox_id=work.mailbox_id,
                    expires_at=made.expires_at,
                    secret_sealed=sealed,
                )
            )
        else:
            old.expires_at = made.expires_at
            old.secret_sealed = sealed
            old.renewed_at = runtime.clock()
    log.info(
        "subscription.stored",
        tenant=str(work.tenant_id),
        mailbox=work.mailbox_id,
        hours=round((made.expires_at - runtime.clock()) / timedelta(hours=1), 1),
    )
