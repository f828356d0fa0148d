"""Tenants and the people who sign in to them: who is let in, and with which role.

The tenant of a person is what the provider's validated token says (Entra ``tid``, Google ``hd``), never what
a request says. Each (provider, external id) is one tenant, so a tenant that is bound cannot be bound again.
"""

from __future__ import annotations

import uuid
from datetime import datetime
from enum import StrEnum

from sqlalchemy import select, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from app.audit.service import record
from app.kit.db import Database
from app.kit.errors import NotFound, Refused
from app.tenants.actor import Actor, ActorKind, Permission, Role
from app.tenants.models import Tenant, User
from connectors.base.types import Provider, SignedIn


class TenantStatus(StrEnum):
    """How far a tenant has come."""

    ONBOARDING = "onboarding"
    ACTIVE = "active"
    PAUSED = "paused"
    REVOKED = "revoked"


async def find_tenant(database: Database, provider: Provider, external_id: str) -> uuid.UUID | None:
    """The tenant of a provider's organisation, or None. Needs no tenant context."""
    async with database.untenanted() as session:
        found: uuid.UUID | None = await session.scalar(
            text("SELECT postern_find_tenant(:provider, :external_id)"),
            {"provider": provider.value, "external_id": external_id},
        )
    return found


async def find_or_open_tenant(database: Database, who: SignedIn) -> uuid.UUID:
    """The tenant of somebody who signed in; made where an administrator comes first.

    Raises:
        Refused: A personal account (``personal_account``), or nobody has connected the organisation and
            this person does not administer it (``not_connected``).
    """
    if not who.external_tenant:
        raise Refused(
            "This is a personal account. Sign in with the account of your organisation.", "personal_account"
        )
    found = await find_tenant(database, who.provider, who.external_tenant)
    if found is not None:
        return found
    if who.is_admin is False:
        raise Refused(
            "Your organisation is not connected yet. Ask an administrator of your organisation to sign in first.",
            "not_connected",
        )
    tenant_id = uuid.uuid4()
    try:
        async with database.tenant(tenant_id) as session:
            session.add(
                Tenant(
                    tenant_id=tenant_id,
                    name=_name_from(who),
                    provider=who.provider.value,
                    external_id=who.external_tenant,
                    admin_address=who.email,
                )
            )
    except IntegrityError:
        # A colleague signed in at the same moment and was first.
        found = await find_tenant(database, who.provider, who.external_tenant)
        if found is None:
            raise
        return found
    return tenant_id


async def admit(session: AsyncSession, tenant_id: uuid.UUID, who: SignedIn, now: datetime) -> User:
    """Make or refresh the person's account.

    While a tenant is being connected, everybody who may be its administrator may go on with that; who gets
    it done becomes its owner (:func:`make_owner`). Afterwards a newcomer is a user, or an operator where the
    provider says that the person administers the organisation.

    Raises:
        NotFound: The tenant went away meanwhile.
    """
    tenant = await session.get(Tenant, tenant_id)
    if tenant is None:
        raise NotFound("The organisation is not here any more.")
    user = await session.scalar(
        select(User).where(User.tenant_id == tenant_id, User.subject == who.subject).with_for_update()
    )
    onboarding = tenant.status == TenantStatus.ONBOARDING
    if user is None:
        role = Role.OPERATOR if who.is_admin else Role.USER
        user = User(tenant_id=tenant_id, id=uuid.uuid4(), subject=who.subject, role=role.value)
        session.add(user)
    if onboarding:
        user.role = (Role.USER if who.is_admin is False else Role.OWNER).value
    user.email = who.email
    user.name = who.name[:200]
    user.last_seen_at = now
    await session.flush()
    return user


async def make_owner(session: AsyncSession, actor: Actor) -> None:
    """Who connected the tenant owns it; others who had started to connect it fall back to users."""
    await session.execute(
        update(User)
        .where(User.tenant_id == actor.tenant_id, User.role == Role.OWNER.value, User.id != actor.user_id)
        .values(role=Role.USER.value)
    )
    await session.execute(
        update(User)
        .where(User.tenant_id == actor.tenant_id, User.id == actor.user_id)
        .values(role=Role.OWNER.value)
    )


async def own_tenant(session: AsyncSession, actor: Actor) -> Tenant:
    """The actor's tenant.

    Raises:
        NotFound: It was deleted.
    """
    tenant = await session.get(Tenant, actor.tenant_id)
    if tenant is None:
        raise NotFound("The organisation is not here any more.")
    return tenant


async def rename_tenant(session: AsyncSession, actor: Actor, name: str, contact: str) -> None:
    """Set the organisation's name and the contact that click pages show.

    Raises:
        Forbidden: The role does not allow it.
        Refused: The name is empty, or one is too long.
    """
    actor.require(Permission.CONFIGURE)
    name, contact = name.strip(), contact.strip()
    if not name or len(name) > 100 or not name.isprintable():
        raise Refused("The name must have 1 to 100 characters.", "bad_name")
    if len(contact) > 200 or (contact and not contact.isprintable()):
        raise Refused("The contact must have at most 200 characters.", "bad_contact")
    tenant = await own_tenant(session, actor)
    before = {"name": tenant.name, "contact": tenant.settings.get("contact", "")}
    after = {"name": name, "contact": contact}
    if before == after:
        return
    tenant.name = name
    tenant.settings = {**tenant.settings, "contact": contact}
    await record(session, actor, "tenant.settings", name, {"before": before, "after": after})


async def set_own_locale(session: AsyncSession, actor: Actor, locale: str) -> None:
    """The person's own language."""
    await session.execute(
        update(User).where(User.tenant_id == actor.tenant_id, User.id == actor.user_id).values(locale=locale)
    )


def person_actor(user: User) -> Actor:
    """The person as a party of the application."""
    return Actor(ActorKind.PERSON, user.tenant_id, Role(user.role), user.id, user.email)


def _name_from(who: SignedIn) -> str:
    # A first guess that the owner can change: the mail domain is the only name known at this point.
    return who.email.partition("@")[2] or who.external_tenant
