"""How well a tenant's connector keeps up, and what it could not do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.protection.models import IntakeCount, MailboxRow, MessageRow, SubscriptionRow
from app.protection.states import TRIED_AGAIN, UNFINISHED, LeftOut, MessageState
from app.tenants.actor import Actor, Permission
from app.tenants.models import Domain, Tenant

SOON = timedelta(hours=12)
"""A subscription that ends within this time and was not renewed needs a look."""

LATE_MINUTES = 15
_LISTED = 20


@dataclass(frozen=True, slots=True)
class Health:
    """The connector of a tenant, in numbers.

    Attributes:
        protected: Protected mailboxes.
        last_notified_at: The provider's last notification of any mailbox.
        oldest_sync_at: When the protected mailbox was looked at that waits longest.
        never_synced: Protected mailboxes that were never looked at.
        unfinished: Messages under way; the oldest was seen at ``oldest_unfinished_at``.
        expired: Protected mailboxes whose subscription has ended; ``expiring`` soon; ``missing`` have none.
        next_expiry: When the first of the live ones ends.
        out_of_scope: Mailboxes of protected domains that the organisation does not give us.
        throttled: Mailboxes that the provider wants left in peace, the last until ``throttled_until``.
        in_trouble: Mailboxes with an error, the first of them in ``troubled``.
        failed: Reason and number of messages; ``skipped`` likewise.
        failed_messages: The latest of the failed: number, subject, mailbox address, reason.
        intake: Notifications of the last 24 hours at this installation, by reason.
    """

    protected: int
    last_notified_at: datetime | None
    oldest_sync_at: datetime | None
    never_synced: int
    unfinished: int
    oldest_unfinished_at: datetime | None
    expired: int
    expiring: int
    missing: int
    next_expiry: datetime | None
    out_of_scope: int
    throttled: int
    throttled_until: datetime | None
    in_trouble: int
    troubled: Sequence[MailboxRow]
    failed: Sequence[tuple[str, int]]
    skipped: Sequence[tuple[str, int]]
    failed_messages: Sequence[tuple[int, str, str, str]]
    intake: Sequence[tuple[str, int]]

    @property
    def failures(self) -> int:
        """Failed messages in all."""
        return sum(count for _, count in self.failed)

    def late(self, now: datetime) -> bool:
        """Whether it does not keep up."""
        limit = now - timedelta(minutes=LATE_MINUTES)
        moments = (self.oldest_sync_at, self.oldest_unfinished_at)
        return any(moment is not None and moment < limit for moment in moments)


async def connector_health(session: AsyncSession, actor: Actor, now: datetime) -> Health:
    """How the tenant's connector does.

    Raises:
        Forbidden: The role does not see the tenant.
    """
    actor.require(Permission.VIEW_TENANT)
    mine = MailboxRow.tenant_id == actor.tenant_id
    outside = MailboxRow.left_out == LeftOut.OUT_OF_SCOPE
    wanted = MailboxRow.enabled & ~MailboxRow.opted_out & func.coalesce(Domain.protected, False)
    protected = wanted & ~outside
    # One that cannot be used, or is not given to us, also rests until it is tried again: nobody throttles it.
    throttled = (MailboxRow.not_before > now) & MailboxRow.left_out.not_in(TRIED_AGAIN)
    live = SubscriptionRow.expires_at > now
    boxes = (
        await session.execute(
            select(
                func.count().filter(protected).label("protected"),
                func.max(MailboxRow.last_notified_at).label("notified"),
                func.min(MailboxRow.last_synced_at).filter(protected).label("synced"),
                func.count().filter(protected, MailboxRow.last_synced_at.is_(None)).label("never"),
                func.count().filter(protected, SubscriptionRow.expires_at <= now).label("expired"),
                func.count().filter(protected, live, SubscriptionRow.expires_at <= now + SOON).label("expiring"),
                func.count().filter(protected, SubscriptionRow.id.is_(None)).label("missing"),
                func.min(SubscriptionRow.expires_at).filter(live).label("next"),
                func.count().filter(wanted, outside).label("outside"),
                func.count().filter(throttled).label("throttled"),
                func.max(MailboxRow.not_before).filter(throttled).label("until"),
                func.count().filter(MailboxRow.error != "").label("trouble"),
            )
            .select_from(MailboxRow)
            .outerjoin(Domain, (Domain.tenant_id == MailboxRow.tenant_id) & (Domain.name == MailboxRow.domain))
            .outerjoin(
                SubscriptionRow,
                (SubscriptionRow.tenant_id == MailboxRow.tenant_id) & (SubscriptionRow.mailbox_id == MailboxRow.id),
            )
            .where(mine)
        )
    ).one()
    unfinished, oldest = (
        await session.execute(
            select(func.count(), func.min(MessageRow.seen_at)).where(
                MessageRow.tenant_id == actor.tenant_id,
                MessageRow.state.in_([state.value for state in UNFINISHED]),
            )
        )
    ).one()
    troubled = select(MailboxRow).where(mine, MailboxRow.error != "").order_by(MailboxRow.address).limit(_LISTED)
    return Health(
        protected=boxes.protected,
        last_notified_at=boxes.notified,
        oldest_sync_at=boxes.synced,
        never_synced=boxes.never,
        unfinished=unfinished,
        oldest_unfinished_at=oldest,
        expired=boxes.expired,
        expiring=boxes.expiring,
        missing=boxes.missing,
        next_expiry=boxes.next,
        out_of_scope=boxes.outside,
        throttled=boxes.throttled,
        throttled_until=boxes.until,
        in_trouble=boxes.trouble,
        troubled=list(await session.scalars(troubled)),
        failed=await _by_reason(session, actor, MessageState.FAILED),
        skipped=await _by_reason(session, actor, MessageState.SKIPPED),
        failed_messages=await _failed(session, actor),
        intake=await _intake(session, actor, now),
    )


async def _by_reason(session: AsyncSession, actor: Actor, state: MessageState) -> list[tuple[str, int]]:
    rows = await session.execute(
        select(MessageRow.reason, func.count())
        .where(MessageRow.tenant_id == actor.tenant_id, MessageRow.state == state.value)
        .group_by(MessageRow.reason)
        .order_by(func.count().desc(), MessageRow.reason)
        .limit(_LISTED)
    )
    return [(reason, count) for reason, count in rows]


async def _failed(session: AsyncSession, actor: Actor) -> list[tuple[int, str, str, str]]:
    rows = await session.execute(
        select(MessageRow.id, MessageRow.subject, MailboxRow.address, MessageRow.reason)
        .join(
            MailboxRow,
            (MailboxRow.tenant_id == MessageRow.tenant_id) & (MailboxRow.id == MessageRow.mailbox_id),
        )
        .where(MessageRow.tenant_id == actor.tenant_id, MessageRow.state == MessageState.FAILED.value)
        .order_by(MessageRow.id.desc())
        .limit(_LISTED)
    )
    return [(row[0], row[1], row[2], row[3]) for row in rows]


async def _intake(session: AsyncSession, actor: Actor, now: datetime) -> list[tuple[str, int]]:
    tenant = await session.get_one(Tenant, actor.tenant_id)
    rows = await session.execute(
        select(IntakeCount.reason, func.sum(IntakeCount.count))
        .where(IntakeCount.provider == tenant.provider, IntakeCount.hour > now - timedelta(hours=24))
        .group_by(IntakeCount.reason)
        .order_by(IntakeCount.reason)
    )
    return [(reason, int(count)) for reason, count in rows]
