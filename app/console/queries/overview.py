"""The overview: is protection on and keeping up, what was stopped, who clicked, what needs somebody now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.console.queries.clicks import STOPPED, ClickFilter, ClickLine, list_clicks
from app.console.queries.domains import DomainLine, list_domains
from app.gateway.models import Click, ClickReport
from app.protection.models import MailboxRow, MessageRow, SubscriptionRow
from app.protection.states import UNFINISHED, MessageState
from app.tenants.actor import Actor, Permission
from app.tenants.models import Tenant

PERIODS = (1, 7, 30)
LATE = timedelta(minutes=5)
LEVELS = ("clean", "unknown", "suspicious", "malicious")


@dataclass(frozen=True, slots=True)
class Bar:
    """Clicks of people in one hour or day, by level."""

    start: datetime
    counts: tuple[int, int, int, int]

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self.counts)


@dataclass(frozen=True, slots=True)
class Overview:
    """Everything the page says.

    Attributes:
        since: Start of the period.
        domains: With their switches.
        messages: State -> messages seen in the period.
        links: Links protected in the period.
        waiting: Messages whose work is not finished.
        oldest_waiting: When the oldest of them was seen.
        mailboxes: Mailboxes of protected domains.
        broken_mailboxes: Of those, how many report an error.
        expired_subscriptions: Subscriptions whose time is over.
        failed_checks: Names of access checks that failed.
        actions: What was answered -> clicks of people in the period.
        automated: Automated clicks in the period.
        clickers: Persons who clicked on something that was stopped.
        bars: The period in hours or days.
        stopped: The latest clicks of people that were stopped.
        open_reports: Requests of people that nobody has answered.
    """

    since: datetime
    domains: Sequence[DomainLine]
    messages: dict[str, int]
    links: int
    waiting: int
    oldest_waiting: datetime | None
    mailboxes: int
    broken_mailboxes: int
    expired_subscriptions: int
    failed_checks: list[str]
    actions: dict[str, int]
    automated: int
    clickers: int
    bars: Sequence[Bar]
    stopped: Sequence[ClickLine]
    open_reports: int

    @property
    def protected_domains(self) -> int:
        """Domains whose protection is switched on."""
        return sum(domain.protected for domain in self.domains)

    @property
    def clicks(self) -> int:
        """Clicks of people in the period."""
        return sum(self.actions.values())

    def late(self, now: datetime) -> bool:
        """Whether a message waits longer than it should."""
        return self.oldest_waiting is not None and now - self.oldest_waiting > LATE


async def read_overview(session: AsyncSession, actor: Actor, tenant: Tenant, now: datetime, days: int) -> Overview:
    """The overview of the last days.

    Raises:
        Forbidden: The role does not see the tenant.
    """
    actor.require(Permission.VIEW_TENANT)
    mine = actor.tenant_id
    since = now - timedelta(days=days)
    domains = await list_domains(session, actor)
    protected = [domain.name for domain in domains if domain.protected]
    states = await session.execute(
        select(MessageRow.state, func.count(), func.coalesce(func.sum(MessageRow.links), 0))
        .where(MessageRow.tenant_id == mine, MessageRow.seen_at >= since)
        .group_by(MessageRow.state)
    )
    messages: dict[str, int] = {}
    links = 0
    for state, count, found in states:
        messages[state] = count
        links += int(found) if state == MessageState.PROTECTED else 0
    waiting, oldest = (
        await session.execute(
            select(func.count(), func.min(MessageRow.seen_at)).where(
                MessageRow.tenant_id == mine, MessageRow.state.in_([state.value for state in UNFINISHED])
            )
        )
    ).one()
    mailboxes, broken = (
        await session.execute(
            select(func.count(), func.count().filter(MailboxRow.error != "")).where(
                MailboxRow.tenant_id == mine, MailboxRow.enabled, MailboxRow.domain.in_(protected)
            )
        )
    ).one()
    expired = await session.scalar(
        select(func.count()).where(SubscriptionRow.tenant_id == mine, SubscriptionRow.expires_at <= now)
    )
    actions_rows = await session.execute(
        select(Click.action, Click.automated, func.count())
        .where(Click.tenant_id == mine, Click.at >= since)
        .group_by(Click.action, Click.automated)
    )
    actions: dict[str, int] = {}
    automated = 0
    for action, by_machine, count in actions_rows:
        if by_machine:
            automated += count
        else:
            actions[action] = count
    clickers = await session.scalar(
        select(func.count(func.distinct(Click.mailbox_id))).where(
            Click.tenant_id == mine, Click.at >= since, Click.action.in_(STOPPED), Click.automated.is_(False)
        )
    )
    reports = await session.scalar(
        select(func.count()).where(ClickReport.tenant_id == mine, ClickReport.state == "open")
    )
    stopped = await list_clicks(session, actor, ClickFilter(action="stopped", who="people", since=since))
    return Overview(
        since=since,
        domains=domains,
        messages=messages,
        links=links,
        waiting=waiting,
        oldest_waiting=oldest,
        mailboxes=mailboxes,
        broken_mailboxes=broken,
        expired_subscriptions=expired or 0,
        failed_checks=[check["key"] for check in tenant.checks if check["status"] == "failed"],
        actions=actions,
        automated=automated,
        clickers=clickers or 0,
        bars=await _bars(session, actor, now, days),
        stopped=stopped.rows[:6],
        open_reports=reports or 0,
    )


async def _bars(session: AsyncSession, actor: Actor, now: datetime, days: int) -> list[Bar]:
    unit, step, number = ("hour", timedelta(hours=1), 24) if days == 1 else ("day", timedelta(days=1), days)
    last = now.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    last = last if unit == "hour" else last.replace(hour=0)
    starts = [last - step * back for back in range(number - 1, -1, -1)]
    bucket = func.date_trunc(unit, Click.at, "UTC")
    rows = await session.execute(
        select(bucket, Click.level, func.count())
        .where(Click.tenant_id == actor.tenant_id, Click.at >= starts[0], Click.automated.is_(False))
        .group_by(bucket, Click.level)
    )
    counts = {(start.astimezone(UTC), level): count for start, level, count in rows}
    return [
        Bar(
            start,
            (
                counts.get((start, "clean"), 0),
                counts.get((start, "unknown"), 0),
                counts.get((start, "suspicious"), 0),
                counts.get((start, "malicious"), 0),
            ),
        )
        for start in starts
    ]
