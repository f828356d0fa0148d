"""The people of a tenant and their roles (L31)."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from sqlalchemy import and_, or_, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from app.audit.models import AuditEntry
from app.audit.service import plain_text, record
from app.kit.errors import Conflict, NotFound, Refused
from app.tenants.actor import Actor, ActorKind, Permission, Role
from app.tenants.models import Domain, User
from app.tenants.sessions import end_sessions_of

ROLE_GIVEN = "person.role"
"""In the audit log: an owner gave a person a role, or the system took back what it had given."""

ASSIGNABLE = (Role.OWNER, Role.OPERATOR, Role.ANALYST, Role.AUDITOR, Role.DOMAIN_ADMIN, Role.USER)
"""Roles that can be given."""


async def narrow_sight(session: AsyncSession, actor: Actor, subject: str) -> None:
    """From now on the unit of work sees the actor's domains alone, where the actor is confined to some.

    The database does it (row-level security, migration 0007), so that no query can forget to. A person's own mailbox
    stays in sight.

    Args:
        session: The unit of work.
        actor: Who looks.
        subject: The provider's id of that person, which is also that of their own mailbox.
    """
    if actor.domains is None:
        return
    names = f",{','.join(domain.lower() for domain in actor.domains)},"
    await session.execute(
        text("SELECT set_config('postern.domains', :domains, true), set_config('postern.subject', :subject, true)"),
        {"domains": names, "subject": subject},
    )


async def list_people(session: AsyncSession, actor: Actor, search: str = "") -> Sequence[User]:
    """Everybody who has signed in, by address.

    Raises:
        Forbidden: The role does not see the tenant.
    """
    actor.require(Permission.VIEW_TENANT)
    query = select(User).where(User.tenant_id == actor.tenant_id).order_by(User.email).limit(500)
    if search:
        query = query.where(
            User.email.icontains(search, autoescape=True) | User.name.icontains(search, autoescape=True)
        )
    return (await session.scalars(query)).all()


async def set_role(
    session: AsyncSession, actor: Actor, user_id: uuid.UUID, role: str, domains: Sequence[str] = ()
) -> None:
    """Give a person a role; it counts from the person's next request on.

    Args:
        session: The unit of work.
        actor: Who decides.
        user_id: Whose role.
        role: Which, one of :data:`ASSIGNABLE`.
        domains: Of a domain administrator: those that the person sees, and no others.

    Raises:
        Forbidden: Only owners may.
        NotFound: No such person in this tenant.
        Refused: No such role, or a domain administrator without a domain of the tenant.
        Conflict: It would leave the tenant without an owner.
    """
    actor.require(Permission.MANAGE_PEOPLE)
    if role not in ASSIGNABLE:
        raise Refused("There is no such role.", "bad_role")
    wanted = await _domains(session, actor, domains) if role == Role.DOMAIN_ADMIN else []
    # All owners are locked, in one order, so that two owners cannot demote each other at the same moment.
    owners = (
        await session.scalars(
            select(User.id)
            .where(User.tenant_id == actor.tenant_id, User.role == Role.OWNER.value)
            .order_by(User.id)
            .with_for_update()
        )
    ).all()
    user = await _person(session, actor, user_id)
    if user.role == role and user.domains == wanted:
        return
    if list(owners) == [user.id]:
        raise Conflict("This is the only owner. Make somebody else an owner first.")
    before, user.role, user.domains = user.role, role, wanted
    detail: dict[str, object] = {"before": before, "after": role, "user": str(user.id)}
    await record(session, actor, ROLE_GIVEN, user.email, detail | ({"domains": wanted} if wanted else {}))


async def _domains(session: AsyncSession, actor: Actor, names: Sequence[str]) -> list[str]:
    """The tenant's domains among these."""
    known = set(await session.scalars(select(Domain.name).where(Domain.tenant_id == actor.tenant_id)))
    wanted = sorted(set(names))
    if not wanted:
        raise Refused("Choose at least one domain for a domain administrator. Nothing was changed.", "no_domain")
    if not known.issuperset(wanted):
        raise Refused("One of these domains is not yours. Nothing was changed.", "unknown_domain")
    return wanted


async def given_by_hand(session: AsyncSession, user: User) -> bool:
    """Whether an owner has ever decided on the person's role, as the audit log says.

    Lines of before lines named the person's id are known by the address.
    """
    about = AuditEntry.detail["user"].astext
    found = await session.scalar(
        select(AuditEntry.id)
        .where(
            AuditEntry.tenant_id == user.tenant_id,
            AuditEntry.action == ROLE_GIVEN,
            AuditEntry.actor_kind != ActorKind.SYSTEM.value,
            or_(about == str(user.id), and_(about.is_(None), AuditEntry.target == plain_text(user.email))),
        )
        .limit(1)
    )
    return found is not None


async def sign_out_everywhere(session: AsyncSession, actor: Actor, user_id: uuid.UUID) -> None:
    """End all sessions of a person.

    Raises:
        Forbidden: Only owners may, apart from oneself.
        NotFound: No such person in this tenant.
    """
    if user_id != actor.user_id:
        actor.require(Permission.MANAGE_PEOPLE)
    user = await _person(session, actor, user_id)
    await end_sessions_of(session, actor.tenant_id, user.id)
    await record(session, actor, "person.signed_out", user.email)


async def _person(session: AsyncSession, actor: Actor, user_id: uuid.UUID) -> User:
    user = await session.get(User, (actor.tenant_id, user_id))
    if user is None:
        raise NotFound("There is no such person.")
    return user
