"""Everything a job about one mailbox needs to know, read in one round trip."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from app.kit.at_once import Row, statement
from app.messages.options import DeliveryOptions
from app.policy.engine import ListRule, PolicySnapshot
from app.policy.service import make_snapshot
from app.protection import journal
from app.protection.models import MailboxRow
from app.protection.providers import TenantGrant
from app.protection.runtime import Runtime, to_mailbox
from app.protection.work import MailboxWork
from app.tenants.accounts import TenantStatus
from app.tenants.models import Domain
from connectors.base.types import Provider

_MAILBOX_COLUMNS = tuple(MailboxRow.__table__.columns.keys())
_TENANT = (
    "SELECT no, provider, external_id, admin_address, status, name, (settings -> 'gateway')::text, "
    "(settings -> 'delivery')::text, organisation_id, settings ->> 'copy_if_refused' = 'true' "
    "FROM tenants WHERE tenant_id = %s"
)
_MAILBOX = f"SELECT {', '.join(_MAILBOX_COLUMNS)} FROM mailboxes WHERE tenant_id = %s AND id = %s"  # noqa: S608
_DOMAINS = "SELECT name, protected, dry_run, protect_since FROM domains WHERE tenant_id = %s ORDER BY name"
_RULES = "SELECT id, action, kind, pattern, position FROM list_entries WHERE tenant_id = %s ORDER BY position, id"


@dataclass(frozen=True, slots=True)
class Opened:
    """A mailbox and what belongs to it, as they are now.

    Attributes:
        grant: The tenant.
        status: The tenant's.
        mailbox: Its row, for reading only; None where it is gone.
        domain: The mailbox's domain, for reading only; None where it is not one of the tenant's.
        policy: The tenant's lists and domains.
        options: How the tenant wants links treated.
        copy_if_refused: Whether a copy may replace a message that the provider does not let be changed.
        unfinished: Messages that an earlier try left half way.
    """

    grant: TenantGrant
    status: str
    mailbox: MailboxRow | None
    domain: Domain | None
    policy: PolicySnapshot
    options: DeliveryOptions
    copy_if_refused: bool
    unfinished: list[journal.Unfinished]

    def closed(self) -> str:
        """Why the mailbox is not to be worked on; empty where it is."""
        if self.mailbox is None:
            return "no such mailbox"
        if self.status != TenantStatus.ACTIVE:
            return f"tenant is {self.status}"
        if self.domain is None or not self.domain.protected or self.domain.protect_since is None:
            return "protection is off for this domain"
        if not self.mailbox.enabled or self.mailbox.opted_out:
            return "mailbox is disabled or opted out"
        return ""

    def work(self, runtime: Runtime) -> MailboxWork:
        """For working on the mailbox, where it is not :meth:`closed`."""
        assert self.mailbox is not None
        assert self.domain is not None
        assert self.domain.protect_since is not None
        return MailboxWork(
            grant=self.grant,
            mailbox=to_mailbox(self.mailbox),
            mailbox_id=self.mailbox.id,
            connector=runtime.providers.connector(self.grant),
            policy=self.policy,
            since=self.domain.protect_since,
            dry_run=self.domain.dry_run,
            options=self.options,
            copy_if_refused=self.copy_if_refused,
        )


async def read_mailbox(runtime: Runtime, tenant_id: uuid.UUID, mailbox_id: int) -> Opened:
    """Read a mailbox and what belongs to it.

    Raises:
        LookupError: No such tenant.
        OptionError: What is stored as the tenant's options is not acceptable; it was checked when it was stored.
    """
    tenants, mailboxes, domains, rules, unfinished = await runtime.db.at_once(
        tenant_id,
        statement(_TENANT, tenant_id),
        statement(_MAILBOX, tenant_id, mailbox_id),
        statement(_DOMAINS, tenant_id),
        statement(_RULES, tenant_id),
        journal.asking_unfinished(tenant_id, mailbox_id),
    )
    if not tenants:
        raise LookupError(f"no tenant {tenant_id}")
    number, provider, external_id, admin, status, name, gateway, delivery, organisation_id, copies = tenants[0]
    row = MailboxRow(**dict(zip(_MAILBOX_COLUMNS, mailboxes[0], strict=True))) if mailboxes else None
    own = [
        Domain(tenant_id=tenant_id, name=each, protected=protected, dry_run=dry_run, protect_since=since)
        for each, protected, dry_run, since in domains
        if row is not None and each == row.domain
    ]
    names = frozenset(domain[0] for domain in domains)
    return Opened(
        grant=TenantGrant(tenant_id, number, Provider(provider), external_id, admin, organisation_id),
        status=status,
        mailbox=row,
        domain=own[0] if own else None,
        policy=_snapshot(tenant_id, number, name, gateway, tuple(rules), names),
        options=_options(delivery),
        copy_if_refused=bool(copies),
        unfinished=journal.unfinished(unfinished),
    )


@lru_cache(maxsize=256)
def _snapshot(
    tenant_id: uuid.UUID, number: int, name: str, gateway: str | None, rules: tuple[Row, ...], domains: frozenset[str]
) -> PolicySnapshot:
    """Kept as long as nothing of it has changed: a tenant's lists are compiled once, not for every mail."""
    stored = {"gateway": json.loads(gateway) if gateway else None}
    return make_snapshot(tenant_id, number, name, stored, tuple(ListRule(*rule) for rule in rules), domains)


@lru_cache(maxsize=256)
def _options(delivery: str | None) -> DeliveryOptions:
    stored: dict[str, Any] = json.loads(delivery) if delivery else {}
    return DeliveryOptions.parse(stored or {})
