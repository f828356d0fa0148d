"""What an administrator can ask for: protection on and off, restore, pause. Each defers jobs, none does the work."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.audit.service import record
from app.kit.clock import utc_now
from app.kit.errors import Conflict, NotFound, Refused
from app.kit.ids import row_number
from app.protection.models import MailboxRow, MessageRow, RestoreRun
from app.protection.queue import defer_restore, defer_switch, defer_sync
from app.protection.restore import to_restore
from app.protection.states import MessageState
from app.tenants.actor import Actor, Permission
from app.tenants.models import Domain, Tenant

SCOPES = ("message", "mailbox", "domain", "tenant")


async def switch_domain(
    session: AsyncSession, actor: Actor, name: str, *, protected: bool, dry_run: bool, since: datetime
) -> None:
    """Switch protection of a domain on or off.

    Args:
        session: The unit of work.
        actor: Who asks.
        name: The domain.
        protected: On or off.
        dry_run: Only record what would be done.
        since: Mail received before this is left alone.

    Raises:
        Forbidden: The role may not configure.
        NotFound: The tenant has no such domain.
        Conflict: The tenant has not granted access.
    """
    actor.require(Permission.CONFIGURE)
    domain = await session.get(Domain, (actor.tenant_id, name), with_for_update=True)
    if domain is None:
        raise NotFound(f"This organisation has no domain {name}.")
    tenant = await session.get(Tenant, actor.tenant_id)
    if protected and (tenant is None or tenant.status != "active"):
        raise Conflict("Access to the mailboxes has not been granted. Nothing was switched on.")
    domain.protected, domain.dry_run = protected, dry_run
    if protected:
        # Providers keep times in whole seconds: mail of the very second of the switch is protected.
        domain.protect_since = since.replace(microsecond=0)
    domain.changed_at = utc_now()
    mailboxes = list(await session.scalars(select(MailboxRow).where(MailboxRow.domain == name, MailboxRow.enabled)))
    for mailbox in mailboxes:
        if protected:
            mailbox.cursor = None
        await defer_switch(session, actor.tenant_id, mailbox.id, on=protected)
    await record(
        session,
        actor,
        "domain.protected" if protected else "domain.unprotected",
        name,
        {"dry_run": dry_run, "since": since.isoformat(), "mailboxes": len(mailboxes)},
    )


async def request_restore(session: AsyncSession, actor: Actor, scope: str, target: str) -> int:
    """Ask for original links back.

    Args:
        session: The unit of work.
        actor: Who asks.
        scope: ``message``, ``mailbox``, ``domain`` or ``tenant``.
        target: Message number, mailbox number, domain name, or anything for the tenant.

    Returns:
        The run's number.

    Raises:
        Forbidden: The role may not restore.
        NotFound: There is no such message, mailbox or domain.
        Refused: There is no such scope.
    """
    actor.require(Permission.RESTORE)
    if scope not in SCOPES:
        raise Refused(f"A restore is for a {', '.join(SCOPES)}; nothing was started.", "restore_scope")
    await _check_target(session, actor, scope, target)
    newest = await session.scalar(select(func.coalesce(func.max(MessageRow.id), 0)))
    run = RestoreRun(
        tenant_id=actor.tenant_id,
        scope=scope,
        target=target,
        requested_by=actor.label,
        last_message_id=newest or 0,
        restored=0,
        failed=0,
        gone=0,
    )
    session.add(run)
    await session.flush()
    chosen = to_restore(run).subquery()
    counts = (
        await session.execute(
            select(MessageRow.mailbox_id, func.count())
            .where(MessageRow.id.in_(select(chosen.c.id)))
            .group_by(MessageRow.mailbox_id)
        )
    ).all()
    run.total = sum(count for _, count in counts)
    if not counts:
        run.state, run.finished_at = "done", utc_now()
    for mailbox_id, _ in counts:
        await defer_restore(session, actor.tenant_id, mailbox_id, run.id)
    await record(session, actor, "restore.requested", f"{scope} {target}", {"run": run.id, "messages": run.total})
    return run.id


async def _check_target(session: AsyncSession, actor: Actor, scope: str, target: str) -> None:
    found: object | None = True
    if scope in ("message", "mailbox"):
        table = MessageRow if scope == "message" else MailboxRow
        number = row_number(target)
        found = None if number is None else await session.get(table, (actor.tenant_id, number))
    elif scope == "domain":
        found = await session.get(Domain, (actor.tenant_id, target))
    if found is None:
        raise NotFound(f"There is no {scope} {target}.")


async def cancel_restore(session: AsyncSession, actor: Actor, run_id: int) -> None:
    """Stop a restore run; what was restored stays restored.

    Raises:
        Forbidden: The role may not restore.
        NotFound: There is no such run, or it has ended.
    """
    actor.require(Permission.RESTORE)
    changed = await session.execute(
        update(RestoreRun)
        .where(RestoreRun.id == run_id, RestoreRun.state.in_(["waiting", "running"]))
        .values(state="cancelled", finished_at=utc_now())
        .returning(RestoreRun.id)
    )
    if changed.first() is None:
        raise NotFound(f"There is no running restore {run_id}.")
    await record(session, actor, "restore.cancelled", str(run_id))


async def set_opted_out(session: AsyncSession, actor: Actor, mailbox_id: int, *, out: bool) -> None:
    """Leave one mailbox out of protection, or take it in again (L2); its rewritten links keep working.

    Raises:
        Forbidden: The role may not configure.
        NotFound: There is no such mailbox.
    """
    actor.require(Permission.CONFIGURE)
    mailbox = await session.get(MailboxRow, (actor.tenant_id, mailbox_id), with_for_update=True)
    if mailbox is None:
        raise NotFound(f"There is no mailbox {mailbox_id}.")
    if mailbox.opted_out == out:
        return
    mailbox.opted_out = out
    if not out:
        # Mail that came meanwhile is looked at from the domain's date on; what is journaled is not touched again.
        mailbox.cursor = None
    await defer_switch(session, actor.tenant_id, mailbox_id, on=not out)
    await record(session, actor, "mailbox.opted_out" if out else "mailbox.opted_in", mailbox.address)


async def pause(session: AsyncSession, actor: Actor) -> None:
    """Stop rewriting for the whole tenant; links already rewritten keep working.

    Raises:
        Forbidden: The role may not configure.
        Conflict: The tenant is not active.
    """
    await _set_status(session, actor, ("active",), "paused")
    writing = select(MessageRow.mailbox_id).where(MessageRow.state == MessageState.WRITING.value).distinct()
    for mailbox_id in list(await session.scalars(writing)):
        # What is half way is brought to its end; nothing new is begun.
        await defer_sync(session, actor.tenant_id, mailbox_id)


async def resume(session: AsyncSession, actor: Actor) -> None:
    """Go on where it was paused: mail that came meanwhile is protected too.

    Raises:
        Forbidden: The role may not configure.
        Conflict: The tenant is not paused or blocked.
    """
    await _set_status(session, actor, ("paused", "blocked", "revoked"), "active")
    rows = await session.scalars(
        select(MailboxRow.id)
        .join(Domain, (Domain.tenant_id == MailboxRow.tenant_id) & (Domain.name == MailboxRow.domain))
        .where(Domain.protected, MailboxRow.enabled)
    )
    for mailbox_id in list(rows):
        await defer_switch(session, actor.tenant_id, mailbox_id, on=True)


async def _set_status(session: AsyncSession, actor: Actor, before: tuple[str, ...], after: str) -> None:
    actor.require(Permission.CONFIGURE)
    tenant = await session.get(Tenant, actor.tenant_id, with_for_update=True)
    if tenant is None or tenant.status not in before:
        raise Conflict(f"This is possible only while protection is {' or '.join(before)}. Nothing was changed.")
    old, tenant.status = tenant.status, after
    await record(session, actor, f"tenant.{after}", tenant.name, {"before": old})
