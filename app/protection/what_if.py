"""What would happen to a link for one person, and why: at delivery, and at a click now (L3, N11).

Decided by the same functions as real mail and real clicks. Nothing is fetched: lists, the address itself and the
tenant's policy are what is here; what a look at the page would add is said to be missing.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.errors import NotFound
from app.policy.engine import Decision, PolicyContext, PolicySnapshot, Stage
from app.policy.service import load_snapshot
from app.protection.models import MailboxRow
from app.tenants.accounts import ClickPages, TenantStatus
from app.tenants.actor import Actor, Permission
from app.tenants.models import Domain, Tenant
from app.verdicts.inspect import Inspection, inspect_url
from app.verdicts.judge import InlineSource
from app.verdicts.lists import READING


@dataclass(frozen=True, slots=True)
class WhatIf:
    """The answer.

    Attributes:
        recipient: Whose mailbox; empty: nobody's in particular.
        received_at: When the message came.
        treatment: What protection does with such a message: ``protected``, ``dry_run``, ``tenant``, ``domain``,
            ``mailbox`` (left out or disabled), ``before`` (older than protection), ``anybody`` (nobody was named).
        delivery: What the policy says about the link at delivery.
        expired: The link has outlived the tenant's time for links, so a click opens nothing.
        inspection: Verdict with evidence, addresses, and the policy's answer to a click.
        snapshot: The policy it was decided by.
    """

    recipient: str
    received_at: datetime
    treatment: str
    delivery: Decision
    expired: bool
    inspection: Inspection
    snapshot: PolicySnapshot

    @property
    def rewritten(self) -> bool:
        """Whether the link would lead through the gateway."""
        return self.treatment in ("protected", "anybody") and self.delivery.action.value == "rewrite"

    @property
    def outcome(self) -> str:
        """What a person gets: ``direct`` (the link is not rewritten), ``expired``, or what the policy says."""
        if not self.rewritten:
            return "direct"
        if self.expired:
            return "expired"
        decided = self.inspection.decision
        return "" if decided is None else str(decided.action)

    def as_json(self) -> dict[str, Any]:
        """JSON form with stable names."""
        return {
            **self.inspection.as_json(),
            "recipient": self.recipient,
            "received_at": self.received_at.isoformat(),
            "treatment": self.treatment,
            "delivery": {
                "action": self.delivery.action.value,
                "rule": self.delivery.rule,
                "trace": [str(step) for step in self.delivery.trace],
            },
            "expired": self.expired,
            "outcome": self.outcome,
        }

    def as_text(self) -> str:
        """For a terminal."""
        lines = [
            f"{self.recipient or 'anybody'}: {self.outcome} ({self.treatment})",
            f"  delivery:  {self.delivery.action.value} ({self.delivery.rule})",
            *(f"        {step}" for step in self.delivery.trace),
        ]
        return "\n".join(lines) + "\n" + self.inspection.as_text()


async def what_if(
    session: AsyncSession,
    actor: Actor,
    url: str,
    *,
    lists: InlineSource,
    now: datetime,
    mailbox_id: int | None = None,
    received_at: datetime | None = None,
) -> WhatIf:
    """What would happen to a link.

    Args:
        session: The unit of work.
        actor: Who asks.
        url: Any address, as it stands in a message.
        lists: The lists of the installation.
        now: The time of the click.
        mailbox_id: Who received the message; None: anybody.
        received_at: When; None: now.

    Raises:
        Forbidden: The role does not see the tenant.
        NotFound: There is no such mailbox.
    """
    actor.require(Permission.VIEW_TENANT)
    tenant = await session.get(Tenant, actor.tenant_id)
    if tenant is None:
        raise NotFound("The organisation is not here any more.")
    snapshot = await load_snapshot(session, actor.tenant_id)
    received = received_at or now
    mailbox: MailboxRow | None = None
    if mailbox_id is not None:
        mailbox = await session.get(MailboxRow, (actor.tenant_id, mailbox_id))
        if mailbox is None:
            raise NotFound(f"There is no mailbox {mailbox_id}.")
    inspection = await asyncio.to_thread(_inspect, url, lists, snapshot, now)
    days = ClickPages.of(tenant).link_days
    return WhatIf(
        recipient="" if mailbox is None else mailbox.address,
        received_at=received,
        treatment=await _treatment(session, tenant, mailbox, received),
        delivery=snapshot.decide(PolicyContext(Stage.DELIVERY, inspection.chain)),
        expired=days > 0 and received < now - timedelta(days=days),
        inspection=inspection,
        snapshot=snapshot,
    )


def _inspect(url: str, lists: InlineSource, snapshot: PolicySnapshot, now: datetime) -> Inspection:
    # The worker's threads of this process may be asking the same lists; the lock is not waited for by the event loop.
    with READING:
        return inspect_url(url, feed=lists, lists=snapshot, clock=lambda: now)


async def _treatment(session: AsyncSession, tenant: Tenant, mailbox: MailboxRow | None, received: datetime) -> str:
    if tenant.status != TenantStatus.ACTIVE:
        return "tenant"
    if mailbox is None:
        return "anybody"
    domain = await session.scalar(
        select(Domain).where(Domain.tenant_id == tenant.tenant_id, Domain.name == mailbox.domain)
    )
    if domain is None or not domain.protected or domain.protect_since is None:
        return "domain"
    if not mailbox.enabled or mailbox.opted_out:
        return "mailbox"
    if received < domain.protect_since:
        return "before"
    return "dry_run" if domain.dry_run else "protected"
