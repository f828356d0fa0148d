"""Connecting a tenant: consent judged, access probed, the tenant made active.

What a consent page sends back proves nothing: a forged callback could name a tenant that consented earlier
and bind it to the attacker's account. So the tenant is always the one of the validated sign-in, and an answer
that names another is refused; what was really granted is then probed with the application's own credentials
(https://learn.microsoft.com/entra/identity-platform/v2-admin-consent,
https://developers.google.com/identity/protocols/oauth2/service-account#delegatingauthority).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.audit.service import record
from app.kit.db import Database
from app.kit.errors import Conflict, NotFound, Refused
from app.protection import service
from app.protection.choosing import first_refresh
from app.protection.copying import with_choice
from app.protection.providers import Providers, TenantGrant
from app.protection.reach import protected_mailboxes
from app.protection.roster import bind_organisation
from app.protection.swapping import with_evidence
from app.tenants.accounts import TenantStatus, make_owner
from app.tenants.actor import Actor, Permission, Role
from app.tenants.models import Tenant
from connectors.base.errors import ConnectorError
from connectors.base.types import AccessCheck, CheckStatus, ConsentAnswer, Mailbox, Provider


@dataclass(frozen=True, slots=True)
class Connected:
    """What connecting came to.

    Attributes:
        checks: Every access check.
        active: Whether the tenant is connected now.
    """

    checks: tuple[AccessCheck, ...]
    active: bool


def grant_of(tenant: Tenant, admin_address: str | None = None) -> TenantGrant:
    """What opens the tenant's connector; with another administrator's address while that one connects it."""
    return TenantGrant(
        tenant_id=tenant.tenant_id,
        no=tenant.no,
        provider=Provider(tenant.provider),
        external_id=tenant.external_id,
        admin_address=tenant.admin_address if admin_address is None else admin_address,
        organisation_id=tenant.organisation_id,
    )


def judge_consent(answer: ConsentAnswer, external_tenant: str) -> None:
    """Refuse an answer that does not grant access to exactly the tenant of the sign-in.

    Args:
        answer: What the consent page sent back; its error was looked at before anything else.
        external_tenant: The provider's tenant id from the validated id_token.

    Raises:
        Refused: ``consent_refused``, ``consent_not_granted`` or ``consent_other_tenant``.
    """
    if answer.error:
        raise Refused("Access was not granted. Nothing was changed.", "consent_refused")
    if not answer.granted:
        raise Refused("The answer does not say that access was granted. Nothing was changed.", "consent_not_granted")
    if answer.external_tenant.lower() != external_tenant.lower():
        raise Refused(
            "The answer is for another organisation than the one you signed in with. Nothing was changed.",
            "consent_other_tenant",
        )


def probe_proves_admin(providers: Providers, tenant: Tenant) -> bool:
    """Whether probing the grant shows that the signed-in person administers the organisation.

    It does where access is granted without a way back to us (domain-wide delegation): the directory is then
    read on that person's behalf. Where the grant belongs to our application alone (Entra), a probe says
    nothing of the person, so the sign-in itself must have said it.
    """
    provider = Provider(tenant.provider)
    return not providers.identity(provider).consent(tenant.external_id, "", "").returns


def may_connect(actor: Actor, status: str, *, probe_proves: bool) -> None:
    """Refuse who may not grant access now.

    Args:
        actor: Who wants to.
        status: Of the tenant.
        probe_proves: See :func:`probe_proves_admin`.

    Raises:
        Forbidden: The role does not configure this tenant.
        Refused: ``not_administrator``: the provider did not say that the person administers the organisation.
        Conflict: The tenant is connected already, and only its owner may renew the grant.
    """
    actor.require(Permission.CONFIGURE)
    if status != TenantStatus.ONBOARDING:
        if not actor.can(Permission.MANAGE_PEOPLE):
            raise Conflict("This organisation is connected already. Only its owner may grant access again.")
    elif actor.role is not Role.OWNER and not probe_proves:
        raise Refused(
            "Your provider did not say that you administer this organisation. "
            "Ask an administrator to sign in here. Nothing was changed.",
            "not_administrator",
        )


async def note_consent(session: AsyncSession, actor: Actor, now: datetime) -> None:
    """Record that the provider says access was granted; what was granted is probed next."""
    tenant = await _locked(session, actor)
    may_connect(actor, tenant.status, probe_proves=False)
    tenant.consented_at = now
    await record(session, actor, "consent.granted", tenant.external_id)


async def connect(
    database: Database, providers: Providers, actor: Actor, admin_address: str, now: datetime
) -> Connected:
    """Probe the grant and, where nothing required fails, make the tenant active with the actor as owner.

    Args:
        database: Of the application.
        providers: Opens the connector.
        actor: The administrator who connects.
        admin_address: Their address from the validated sign-in; a provider that asks the directory on an
            administrator's behalf asks on theirs, which proves that they are one.
        now: The time.

    Returns:
        The checks and the outcome. Nothing is activated where a check failed or none passed. The mailboxes
        are read by a job: a large directory takes minutes.

    Raises:
        Forbidden: The role does not allow it.
        Refused: The person is not shown to administer the organisation.
        Conflict: Somebody else connected the tenant meanwhile, or the organisation is another tenant's.
    """
    async with database.tenant(actor.tenant_id) as session:
        tenant = await _locked(session, actor)
        probe_proves = probe_proves_admin(providers, tenant)
        may_connect(actor, tenant.status, probe_proves=probe_proves)
        first = tenant.status == TenantStatus.ONBOARDING
    # The probe talks to the provider: no transaction is held meanwhile.
    address = admin_address if first else tenant.admin_address
    grant = grant_of(tenant, address)
    checks = with_choice(await probe(providers, grant), tenant.settings)
    if sufficient(checks):
        await bind_organisation(database, grant, await _organisation(providers, grant))
    async with database.tenant(actor.tenant_id) as session:
        tenant = await _locked(session, actor)
        if first and tenant.status != TenantStatus.ONBOARDING:
            raise Conflict("Somebody else connected this organisation meanwhile.")
        _store(tenant, checks, now)
        if not sufficient(checks):
            await record(session, actor, "tenant.checked", tenant.name, {"failed": failed_keys(checks)})
            return Connected(tuple(checks), active=False)
        if tenant.consented_at is None:
            tenant.consented_at = now
        if first:
            tenant.admin_address = address
            await make_owner(session, actor)
            tenant.status = TenantStatus.ACTIVE.value
        elif tenant.status in (TenantStatus.REVOKED, TenantStatus.BLOCKED):
            # Mail that came while the grant was gone is looked at again.
            await service.resume(session, actor)
        await record(session, actor, "tenant.connected" if first else "tenant.renewed", tenant.name)
        await first_refresh(session, actor)
    return Connected(tuple(checks), active=True)


async def _organisation(providers: Providers, grant: TenantGrant) -> str:
    try:
        return await providers.connector(grant).organisation()
    except ConnectorError as error:
        raise Conflict(f"The provider did not say which organisation this is: {error} Check again.") from error


async def check_again(database: Database, providers: Providers, actor: Actor, now: datetime) -> list[AccessCheck]:
    """Probe the grant of a connected tenant and keep what was found; its status is left as it is.

    Raises:
        Forbidden: The role does not configure.
    """
    actor.require(Permission.CONFIGURE)
    async with database.tenant(actor.tenant_id) as session:
        tenant = await _read(session, actor)
        known = await protected_mailboxes(session)
    checks = with_choice(await probe(providers, grant_of(tenant), known), tenant.settings)
    async with database.tenant(actor.tenant_id) as session:
        tenant = await _locked(session, actor)
        _store(tenant, checks, now)
        await record(session, actor, "tenant.checked", tenant.name, {"failed": failed_keys(checks)})
    return checks


async def probe(providers: Providers, grant: TenantGrant, known: Sequence[Mailbox] = ()) -> list[AccessCheck]:
    """All access checks. A provider that does not answer is one more check, which could not be told.

    Args:
        providers: Opens the connector.
        grant: The tenant.
        known: Mailboxes to try first; the administrator's own is tried where none is known.
    """
    first = known or ([Mailbox(grant.admin_address, grant.admin_address)] if grant.admin_address else ())
    try:
        return await providers.connector(grant).check_access(first)
    except ConnectorError as error:
        return [
            AccessCheck(
                "provider",
                CheckStatus.UNKNOWN,
                f"The provider could not be asked: {error}",
                "Wait a minute and check again.",
            )
        ]


PROOF_OF_ADMIN = "directory"
"""The check that, where a provider has it, shows that the person who connects may list the organisation's users."""


def sufficient(checks: Iterable[AccessCheck]) -> bool:
    """Whether protection can work: nothing failed, something was really proved, and the directory answers.

    A check that could not be told does no harm elsewhere, but a directory that could not be read proves
    nothing about who is asking.
    """
    found = {check.key: check.status for check in checks}
    if CheckStatus.FAILED in found.values() or CheckStatus.PASSED not in found.values():
        return False
    return found.get(PROOF_OF_ADMIN, CheckStatus.PASSED) is CheckStatus.PASSED


def failed_keys(checks: Iterable[AccessCheck]) -> list[str]:
    """Names of the checks that failed."""
    return [check.key for check in checks if check.status is CheckStatus.FAILED]


def checks_to_json(checks: Iterable[AccessCheck]) -> list[dict[str, Any]]:
    """As kept with the tenant."""
    return [
        {
            "key": check.key,
            "status": check.status.value,
            "summary": check.summary,
            "remedy": check.remedy,
            "link": check.link,
        }
        for check in checks
    ]


def checks_from_json(stored: Iterable[Any]) -> list[AccessCheck]:
    """As kept with the tenant, back again."""
    return [
        AccessCheck(item["key"], CheckStatus(item["status"]), item["summary"], item["remedy"], item["link"])
        for item in stored
    ]


def known_checks(tenant: Tenant) -> list[AccessCheck]:
    """The checks of a tenant as they are shown: as they were stored, with what its mail has told since."""
    return with_evidence(checks_from_json(tenant.checks), tenant.settings)


def _store(tenant: Tenant, checks: list[AccessCheck], now: datetime) -> None:
    tenant.checks = checks_to_json(checks)
    tenant.checked_at = now


async def _read(session: AsyncSession, actor: Actor) -> Tenant:
    tenant = await session.get(Tenant, actor.tenant_id)
    if tenant is None:
        raise NotFound("The organisation is not here any more.")
    return tenant


async def _locked(session: AsyncSession, actor: Actor) -> Tenant:
    tenant = await session.scalar(select(Tenant).where(Tenant.tenant_id == actor.tenant_id).with_for_update())
    if tenant is None:
        raise NotFound("The organisation is not here any more.")
    return tenant
