"""Telling administrators by mail: a delivered link turned bad, or protection stopped (L26).

Every mail has a row in ``mail_alerts`` that is written in the transaction of what it tells of; a job sends what is
due and notes what became of it. Delivery is at least once: a process killed between the server's answer and the note
sends a mail again, under the same Message-ID. Tries are bounded like those of the webhook.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import structlog
from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from app.audit.service import record
from app.kit.clock import utc_now
from app.kit.errors import Conflict, NotFound, Refused
from app.kit.i18n import DEFAULT_LOCALE, LOCALES
from app.kit.mail import MailServer
from app.protection.incident_models import Incident, IncidentEvent
from app.protection.mail_models import MailAlert
from app.protection.mail_words import Said, compose
from app.protection.queue import defer_mail
from app.protection.runtime import Runtime
from app.settings import Settings
from app.tenants.actor import Actor, Permission
from app.tenants.models import Tenant

log = structlog.get_logger()

MAX_RECIPIENTS: Final = 10
MAX_TRIES: Final = 8
AT_ONCE: Final = 20
"""Mails over one connection; the next job takes up the rest."""
INCIDENTS_AN_HOUR: Final = 20
"""Of so many incidents each person is told within an hour; what is over waits its turn. Whoever sends mail with
thousands of bad hosts must not make thousands of mails of it."""
KEPT = timedelta(days=30)
TEST_EVERY = timedelta(minutes=1)
_FIRST_SECONDS, _LONGEST_SECONDS = 5.0, 900.0
_LABEL = "Postern"
_NAMES: Final = uuid.UUID("6f1f3c64-9c0e-4d0a-9a3e-5b1a6f0e7c55")
_ADDRESS_RE: Final = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63})+\Z")
"""As HTML's ``<input type=email>`` takes it, with a domain of at least two labels."""


@dataclass(frozen=True, slots=True)
class MailPolicy:
    """Who is told by mail; kept under ``settings["mail"]``.

    Attributes:
        recipients: Addresses; none: nobody.
        locale: The language of the mails.
    """

    recipients: tuple[str, ...] = ()
    locale: str = DEFAULT_LOCALE

    @classmethod
    def of(cls, tenant: Tenant) -> MailPolicy:
        """As stored; what is not there has its default."""
        stored = tenant.settings.get("mail") or {}
        locale = str(stored.get("locale", ""))
        return cls(tuple(map(str, stored.get("recipients") or ())), locale if locale in LOCALES else DEFAULT_LOCALE)


def mail_server(settings: Settings) -> MailServer | None:
    """The configured server; None where no server or no sender is."""
    if not settings.smtp_host or not settings.smtp_from:
        return None
    return MailServer(
        settings.smtp_host,
        settings.smtp_port,
        settings.smtp_from,
        settings.smtp_tls,
        settings.smtp_user,
        settings.smtp_password,
        settings.smtp_ca_file,
    )


async def change_mail_policy(session: AsyncSession, actor: Actor, wanted: MailPolicy) -> bool:
    """Set who is told by mail.

    Returns:
        Whether anything changed.

    Raises:
        Forbidden: The role may not configure.
        Refused: Too many addresses, one that is none, or a language that there is not.
        NotFound: The organisation is gone.
    """
    actor.require(Permission.CONFIGURE)
    addresses = tuple(dict.fromkeys(address.strip() for address in wanted.recipients if address.strip()))
    if len(addresses) > MAX_RECIPIENTS:
        raise Refused("At most 10 addresses can be told by mail. Nothing was changed.", "too_many_recipients")
    if not all(_ADDRESS_RE.match(address) for address in addresses):
        raise Refused("One of these is no mail address. Nothing was changed.", "bad_recipient")
    if wanted.locale not in LOCALES:
        raise Refused("There is no such language. Nothing was changed.", "bad_language")
    tenant = await _tenant(session, actor)
    before, after = MailPolicy.of(tenant), MailPolicy(addresses, wanted.locale)
    if before == after:
        return False
    tenant.settings = {**tenant.settings, "mail": {"recipients": list(addresses), "locale": after.locale}}
    detail = {"addresses": {"before": list(before.recipients), "after": list(after.recipients)}}
    await record(session, actor, "alerts.changed", tenant.name, detail)
    return True


async def request_test(session: AsyncSession, actor: Actor, now: datetime) -> int:
    """Have a test mail sent to everybody who is told.

    Returns:
        To how many.

    Raises:
        Forbidden: The role may not configure.
        Refused: Nobody is told by mail.
        Conflict: The last one is too short a time ago.
    """
    actor.require(Permission.CONFIGURE)
    tenant = await _tenant(session, actor)
    if not MailPolicy.of(tenant).recipients:
        raise Refused("Nobody is told by mail. Enter an address first.", "no_recipient")
    last = await session.scalar(select(func.max(MailAlert.asked_at)).where(MailAlert.kind == "test"))
    if last is not None and now - last < TEST_EVERY:
        raise Conflict("A test mail was asked for less than a minute ago. Wait a moment, then try again.")
    return await _note(session, tenant, "test", int(now.timestamp()), now=now)


async def mail_of_incident(session: AsyncSession, tenant_id: uuid.UUID, incident_id: int) -> None:
    """Note that administrators are to be told of an incident by mail; once for each of its alerts."""
    tenant = await session.get(Tenant, tenant_id)
    incident = await session.get(Incident, (tenant_id, incident_id))
    if tenant is not None and incident is not None:
        turn = await _turn(session, tenant_id, utc_now())
        await _note(session, tenant, "incident", incident_id, number=incident.alerts, not_before=turn)


async def _turn(session: AsyncSession, tenant_id: uuid.UUID, now: datetime) -> datetime:
    """When administrators may be told of one more incident."""
    told = (
        select(func.max(MailAlert.not_before))
        .where(MailAlert.tenant_id == tenant_id, MailAlert.kind == "incident")
        .group_by(MailAlert.about, MailAlert.number)
        .order_by(func.max(MailAlert.not_before).desc())
    )
    before = await session.scalar(told.offset(INCIDENTS_AN_HOUR - 1).limit(1))
    return now if before is None else max(now, before + timedelta(hours=1))


async def mail_of_stop(session: AsyncSession, tenant: Tenant, now: datetime) -> None:
    """Note that administrators are to be told by mail that protection has stopped."""
    await _note(session, tenant, "stopped", int(now.timestamp()), status=tenant.status)


async def _note(
    session: AsyncSession,
    tenant: Tenant,
    kind: str,
    about: int,
    *,
    number: int = 0,
    status: str = "",
    now: datetime | None = None,
    not_before: datetime | None = None,
) -> int:
    common = {"tenant_id": tenant.tenant_id, "kind": kind, "about": about, "number": number, "status": status}
    if now is not None:
        common |= {"asked_at": now, "not_before": now}
    if not_before is not None:
        common["not_before"] = not_before
    rows = [common | {"recipient": address} for address in MailPolicy.of(tenant).recipients]
    if not rows:
        return 0
    made = await session.scalars(
        insert(MailAlert)
        .values(rows)
        .on_conflict_do_nothing(index_elements=["tenant_id", "kind", "about", "number", "recipient"])
        .returning(MailAlert.id)
    )
    count = len(made.all())
    if count:
        await defer_mail(session, tenant.tenant_id)
    return count


async def send_mails(runtime: Runtime, tenant_id: uuid.UUID) -> None:
    """Send what is due, put off what fails, give up what failed often; and forget what ended long ago."""
    server, now = mail_server(runtime.settings), runtime.clock()
    async with runtime.db.tenant(tenant_id) as session:
        tenant = await session.get(Tenant, tenant_id)
        if tenant is None:
            return
        await session.execute(delete(MailAlert).where(MailAlert.ended_at < now - KEPT))
        policy = MailPolicy.of(tenant)
        # Whoever is not to be told any more is not told of what was noted before, either.
        waiting = (MailAlert.tenant_id == tenant_id) & (MailAlert.state == "waiting")
        await session.execute(delete(MailAlert).where(waiting, MailAlert.recipient.not_in(policy.recipients)))
        due = (
            await session.scalars(
                select(MailAlert).where(waiting, MailAlert.not_before <= now).order_by(MailAlert.id).limit(AT_ONCE)
            )
        ).all()
        found = [(row, await _said(session, tenant, row)) for row in due]
        for gone in (row for row, said in found if said is None):
            await session.delete(gone)
        mails = [(row, said) for row, said in found if said is not None]
    problems = ["no_server"] * len(mails)
    if server is not None and mails:
        problems = await server.send(
            [
                (
                    row.recipient,
                    compose(
                        about,
                        policy.locale,
                        recipient=row.recipient,
                        sender=server.sender,
                        console_url=runtime.settings.console_url,
                        key=uuid.uuid5(_NAMES, f"{tenant_id}/{row.id}"),
                    ),
                )
                for row, about in mails
            ]
        )
    async with runtime.db.tenant(tenant_id) as session:
        for number, problem in zip([row.id for row, _ in mails], problems, strict=True):
            row = await session.get(MailAlert, (tenant_id, number), with_for_update=True)
            if row is not None:
                await _ended(session, row, problem, runtime.clock())
        following = await session.scalar(select(func.min(MailAlert.not_before)).where(waiting))
        if following is not None:
            await defer_mail(session, tenant_id, at=max(following, runtime.clock()))


async def take_up_mails(runtime: Runtime, tenant_id: uuid.UUID) -> None:
    """Defer the sending of what waits: a job that was lost is found again."""
    async with runtime.db.tenant(tenant_id) as session:
        due = (MailAlert.state == "waiting") & (MailAlert.not_before <= runtime.clock())
        if await session.scalar(select(MailAlert.id).where(due).limit(1)) is not None:
            await defer_mail(session, tenant_id)


async def latest_mails(session: AsyncSession, actor: Actor, limit: int = 10) -> Sequence[MailAlert]:
    """The latest mails and what became of them.

    Raises:
        Forbidden: The role may not configure.
    """
    actor.require(Permission.CONFIGURE)
    query = select(MailAlert).where(MailAlert.tenant_id == actor.tenant_id).order_by(MailAlert.id.desc())
    return (await session.scalars(query.limit(limit))).all()


async def _said(session: AsyncSession, tenant: Tenant, row: MailAlert) -> Said | None:
    """What a mail is about; None where that is gone."""
    if row.kind == "incident":
        incident = await session.get(Incident, (tenant.tenant_id, row.about))
        if incident is None:
            return None
        return Said("incident", tenant.name, incident.updated_at, incident.id, incident.host, incident.messages)
    return Said(row.status or row.kind, tenant.name, row.asked_at)


async def _ended(session: AsyncSession, row: MailAlert, problem: str, now: datetime) -> None:
    """Note how a try ended."""
    if not problem:
        row.state, row.error, row.ended_at = "sent", "", now
    else:
        row.failures, row.error = row.failures + 1, problem[:200]
        log.warning("alert.mail_failed", tenant=str(row.tenant_id), mail=row.id, problem=problem)
        if row.failures < MAX_TRIES:
            seconds = min(_FIRST_SECONDS * 2**row.failures, _LONGEST_SECONDS)
            row.not_before = now + timedelta(seconds=seconds)
            return
        row.state, row.ended_at = "failed", now
    if row.kind == "incident":
        kind = "mailed" if row.state == "sent" else "mail_failed"
        detail = {"alert": row.number} | ({"error": row.error} if row.error else {})
        # One line for all who were told; clean, because the timeline is shown to those who may not see who is told.
        there = select(IncidentEvent.id).where(
            IncidentEvent.tenant_id == row.tenant_id,
            IncidentEvent.incident_id == row.about,
            IncidentEvent.kind == kind,
            IncidentEvent.detail["alert"].astext == str(row.number),
        )
        if await session.scalar(there.limit(1)) is None:
            session.add(
                IncidentEvent(tenant_id=row.tenant_id, incident_id=row.about, kind=kind, actor=_LABEL, detail=detail)
            )


async def _tenant(session: AsyncSession, actor: Actor) -> Tenant:
    tenant = await session.get(Tenant, actor.tenant_id, with_for_update=True)
    if tenant is None:
        raise NotFound("The organisation is not here any more.")
    return tenant
