"""Which mailboxes of a directory are taken in, and keeping that up to date.

The administrator chooses: every mailbox (those of protected domains are then protected), the members of groups, or
a list of addresses. The directory is read by a job, at once when the choice changes and every hour after that;
who joined or left since is said in the audit log. What cannot be read changes nothing: an answer that did not come
is never taken for an empty one.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from enum import StrEnum
from typing import TypeVar

import structlog
from sqlalchemy import Update, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from app.audit.service import record
from app.kit.clock import Clock, utc_now
from app.kit.db import Database
from app.kit.errors import Conflict
from app.policy.service import notify_policy
from app.protection.models import ListedAddress, MailboxChoice, MailboxRow
from app.protection.providers import Providers, TenantGrant
from app.protection.queue import defer_refresh, defer_switch
from app.protection.runtime import Runtime, grant_of
from app.protection.states import TRIED_AGAIN, LeftOut
from app.protection.sync import stop_tenant
from app.tenants.accounts import TenantStatus
from app.tenants.actor import system_actor
from app.tenants.models import Domain, Tenant
from connectors.base.errors import AccessRevoked, ConnectorError, Transient
from connectors.base.protocol import OrganisationDirectory
from connectors.base.types import Mailbox

log = structlog.get_logger()

_T = TypeVar("_T")
_AT_ONCE = 500
_AGAIN = timedelta(seconds=30)
_READ_FOR = (TenantStatus.ACTIVE, TenantStatus.PAUSED, TenantStatus.BLOCKED)
_NAMED = 20
"""Addresses that an audit line names; beyond that it gives the number."""


class Mode(StrEnum):
    """How mailboxes are chosen."""

    ALL = "all"
    GROUP = "group"
    LIST = "list"


class ImportState(StrEnum):
    """How the last reading of the directory went."""

    NONE = "none"
    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class _Choice:
    """What is to be taken in: everything, or these ids, or these addresses."""

    mode: Mode
    ids: frozenset[str] = frozenset()
    addresses: frozenset[str] = frozenset()

    def takes(self, mailbox: Mailbox) -> bool:
        if self.mode is Mode.GROUP:
            return mailbox.id in self.ids
        if self.mode is Mode.LIST:
            return not self.addresses.isdisjoint((mailbox.address, *mailbox.aliases))
        return True


@dataclass
class _Changes:
    """What one reading changed."""

    joined: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    enabled: int = 0


async def choice_of(session: AsyncSession, tenant_id: uuid.UUID, *, lock: bool = False) -> MailboxChoice:
    """The tenant's choice; everything, where nobody has chosen yet."""
    found = await session.get(MailboxChoice, tenant_id, with_for_update=lock or None)
    if found is None:
        found = MailboxChoice(
            tenant_id=tenant_id,
            mode=Mode.ALL.value,
            groups=[],
            refused=[],
            refused_count=0,
            state=ImportState.NONE.value,
            found=0,
            chosen=0,
            error="",
        )
        session.add(found)
        await session.flush()
    return found


async def import_mailboxes(db: Database, providers: Providers, grant: TenantGrant, clock: Clock = utc_now) -> int:
    """Read the tenant's mailboxes from its directory; new domains come with protection off (L2).

    Returns:
        How many enabled mailboxes are taken in.

    Raises:
        ConnectorError: The directory could not be read; what was known stays.
        Conflict: Another tenant is bound to this organisation of the provider; nothing was taken over.
    """
    async with db.tenant(grant.tenant_id) as session:
        row = await choice_of(session, grant.tenant_id)
        row.state, row.found, row.error = ImportState.RUNNING.value, 0, ""
        mode, groups, first = Mode(row.mode), [str(group["id"]) for group in row.groups], row.finished_at is None
        listed = frozenset(await session.scalars(select(ListedAddress.address)))
    try:
        connector = providers.connector(grant)
        if not grant.organisation_id:
            grant = await bind_organisation(db, grant, await connector.organisation())
            connector = providers.connector(grant)
        choice = _Choice(mode, await _members(connector, groups) if mode is Mode.GROUP else frozenset(), listed)
        found = await _read(db, grant, connector)
        changes = await _apply(db, grant, choice, found)
        await _finish(db, grant, choice, found, changes, clock, first=first)
    except Exception as error:
        # Whatever it was, the page must not say that the directory is still being read.
        text = str(error) if not isinstance(error, OSError) else type(error).__name__
        async with db.tenant(grant.tenant_id) as session:
            failed = {"state": ImportState.FAILED.value, "error": text[:500]}
            running = MailboxChoice.state == ImportState.RUNNING.value
            await session.execute(_this(grant).where(running).values(**failed))
        raise
    return changes.enabled


async def refresh_mailboxes(runtime: Runtime, tenant_id: uuid.UUID) -> None:
    """The job: read the directory; a grant that is gone stops the tenant, what passes by itself is tried again."""
    async with runtime.db.tenant(tenant_id) as session:
        grant, status = await grant_of(session, tenant_id)
    if status not in _READ_FOR:
        return
    try:
        await import_mailboxes(runtime.db, runtime.providers, grant, runtime.clock)
    except AccessRevoked as error:
        await stop_tenant(runtime, tenant_id, "revoked", str(error))
    except (Transient, IntegrityError) as error:
        # Not to be read now; or a second reading at the same moment was first with a mailbox.
        log.info("directory.not_read", tenant=str(tenant_id), error=type(error).__name__)
        async with runtime.db.tenant(tenant_id) as session:
            await defer_refresh(session, tenant_id, at=runtime.clock() + _AGAIN)
    except (ConnectorError, Conflict) as error:
        # Shown on the connector's page; the next round tries again.
        log.warning("directory.not_read", tenant=str(tenant_id), error=str(error))


async def bind_organisation(db: Database, grant: TenantGrant, organisation: str) -> TenantGrant:
    """Bind the tenant to the provider's own id of the organisation; the grant with it.

    A sign-in at Google names a domain, and an organisation may have several: without this two tenants, one per
    domain, could both list, and rewrite, the same mailboxes.

    Raises:
        Conflict: Another tenant is bound to it, or this tenant to another organisation. Nothing was changed.
    """
    try:
        async with db.tenant(grant.tenant_id) as session:
            tenant = await session.get_one(Tenant, grant.tenant_id, with_for_update=True)
            if tenant.organisation_id not in ("", organisation):
                raise Conflict(
                    "The administrator who signed in belongs to another organisation of the provider than the one "
                    "that is connected here. Nothing was changed."
                )
            tenant.organisation_id = organisation
    except IntegrityError as error:
        raise Conflict(
            "This organisation is connected already, under another of its domains. Sign in with an account of that "
            "domain. Nothing was changed."
        ) from error
    return replace(grant, organisation_id=organisation)


async def _members(connector: OrganisationDirectory, groups: Sequence[str]) -> frozenset[str]:
    return frozenset([member for group in groups async for member in connector.members(group)])


def _this(grant: TenantGrant) -> Update:
    return update(MailboxChoice).where(MailboxChoice.tenant_id == grant.tenant_id)


async def _read(db: Database, grant: TenantGrant, connector: OrganisationDirectory) -> list[Mailbox]:
    """The whole directory, with the number read so far for whoever watches."""
    found: list[Mailbox] = []
    async for mailbox in connector.mailboxes():
        found.append(mailbox)
        if len(found) % _AT_ONCE == 0:
            async with db.tenant(grant.tenant_id) as session:
                await session.execute(_this(grant).values(found=len(found)))
    return found


async def _apply(db: Database, grant: TenantGrant, choice: _Choice, found: list[Mailbox]) -> _Changes:
    """Take over what was read, some at a time: a crash in between leaves nothing half, the next reading goes on."""
    changes = _Changes()
    for mailboxes in _portions(found):
        async with db.tenant(grant.tenant_id) as session:
            await _apply_some(session, grant, choice, mailboxes, changes)
    here = {mailbox.id for mailbox in found}
    async with db.tenant(grant.tenant_id) as session:
        names = select(MailboxRow.id, MailboxRow.external_id).where(MailboxRow.left_out != LeftOut.GONE)
        gone = [number for number, external_id in await session.execute(names) if external_id not in here]
    for some in _portions(gone):
        async with db.tenant(grant.tenant_id) as session:
            for row in await session.scalars(select(MailboxRow).where(MailboxRow.id.in_(some)).with_for_update()):
                await _leave(session, row, LeftOut.GONE, changes)
    async with db.tenant(grant.tenant_id) as session:
        await notify_policy(session, grant.tenant_id)
    return changes


def _portions(values: Sequence[_T]) -> Iterator[Sequence[_T]]:
    return (values[start : start + _AT_ONCE] for start in range(0, len(values), _AT_ONCE))


async def _apply_some(
    session: AsyncSession, grant: TenantGrant, choice: _Choice, mailboxes: Sequence[Mailbox], changes: _Changes
) -> None:
    rows = await session.scalars(
        select(MailboxRow)
        .where(MailboxRow.external_id.in_([mailbox.id for mailbox in mailboxes]))
        .order_by(MailboxRow.id)
        .with_for_update()
    )
    known = {row.external_id: row for row in rows}
    domains = {domain.name: domain for domain in await session.scalars(select(Domain))}
    started: list[MailboxRow] = []
    for mailbox in mailboxes:
        name = mailbox.address.rpartition("@")[2]
        row, taken = known.get(mailbox.id), choice.takes(mailbox)
        if row is None and not taken:
            continue
        if row is None:
            row = MailboxRow(tenant_id=grant.tenant_id, external_id=mailbox.id, enabled=False, left_out="", cursor=None)
            session.add(row)
        row.address, row.domain, row.name, row.aliases = mailbox.address, name, mailbox.name, list(mailbox.aliases)
        if not taken:
            await _leave(session, row, LeftOut.NOT_CHOSEN, changes)
            continue
        if name not in domains:
            domains[name] = Domain(tenant_id=grant.tenant_id, name=name, protected=False)
            session.add(domains[name])
        appeared = mailbox.enabled and not row.enabled
        if appeared:
            changes.joined.append(mailbox.address)
        row.enabled = mailbox.enabled
        if not mailbox.enabled:
            row.left_out = LeftOut.SUSPENDED.value
        elif row.left_out not in TRIED_AGAIN:
            row.left_out = ""
        changes.enabled += mailbox.enabled
        if domains[name].protected and mailbox.enabled and (appeared or row.cursor is None):
            started.append(row)
    await session.flush()
    for row in started:
        await defer_switch(session, grant.tenant_id, row.id, on=True)


async def _leave(session: AsyncSession, row: MailboxRow, why: LeftOut, changes: _Changes) -> None:
    """Not taken in any more: new mail is left as it is; links already rewritten keep working."""
    if row.enabled:
        changes.left.append(row.address)
        row.enabled = False
        await session.flush()
        await defer_switch(session, row.tenant_id, row.id, on=False)
    row.left_out = why.value


async def _finish(
    db: Database,
    grant: TenantGrant,
    choice: _Choice,
    found: list[Mailbox],
    changes: _Changes,
    clock: Clock,
    *,
    first: bool,
) -> None:
    async with db.tenant(grant.tenant_id) as session:
        row = await choice_of(session, grant.tenant_id, lock=True)
        row.found, row.chosen, row.finished_at = len(found), changes.enabled, clock()
        if row.state == ImportState.RUNNING:  # else somebody has chosen anew meanwhile, and the next job waits
            row.state = ImportState.DONE.value
        if choice.mode is Mode.LIST:
            here = {address for mailbox in found for address in (mailbox.address, *mailbox.aliases)}
            mine = update(ListedAddress).where(ListedAddress.tenant_id == grant.tenant_id)
            await session.execute(mine.values(known=False))
            for some in _portions(sorted(choice.addresses & here)):
                await session.execute(mine.where(ListedAddress.address.in_(some)).values(known=True))
        if changes.joined or changes.left:
            target = f"+{len(changes.joined)} \N{MINUS SIGN}{len(changes.left)}"
            detail: dict[str, object] = {"joined": len(changes.joined), "left": len(changes.left)}
            if not first:
                detail |= {"who_joined": changes.joined[:_NAMED], "who_left": changes.left[:_NAMED]}
            await record(session, system_actor(grant.tenant_id, "Postern"), "mailboxes.refreshed", target, detail)


async def replace_list(session: AsyncSession, tenant_id: uuid.UUID, addresses: Iterable[str]) -> None:
    """Put a list of addresses in place of the one there is."""
    await session.execute(delete(ListedAddress).where(ListedAddress.tenant_id == tenant_id))
    rows = [{"tenant_id": tenant_id, "address": address} for address in dict.fromkeys(addresses)]
    if rows:
        await session.execute(insert(ListedAddress), rows)


async def unknown_addresses(session: AsyncSession, limit: int) -> tuple[int, list[str]]:
    """Listed addresses that the directory does not have: how many, and the first of them."""
    unknown = ListedAddress.known.is_(False)
    count = await session.scalar(select(func.count()).select_from(ListedAddress).where(unknown))
    names = select(ListedAddress.address).where(unknown).order_by(ListedAddress.address).limit(limit)
    rows = await session.scalars(names)
    return count or 0, list(rows)
