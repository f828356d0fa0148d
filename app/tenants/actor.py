"""Who acts, and what that role may do (L31). Every repository call takes an :class:`Actor`."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from enum import StrEnum

from app.kit.errors import Forbidden


class Role(StrEnum):
    """Roles within a tenant."""

    OWNER = "owner"
    OPERATOR = "operator"
    ANALYST = "analyst"
    AUDITOR = "auditor"
    DOMAIN_ADMIN = "domain_admin"
    USER = "user"


class Permission(StrEnum):
    """What an action needs."""

    VIEW_TENANT = "view_tenant"
    VIEW_OWN_CLICKS = "view_own_clicks"
    CONFIGURE = "configure"
    RESTORE = "restore"
    INVESTIGATE = "investigate"
    VIEW_AUDIT = "view_audit"
    MANAGE_PEOPLE = "manage_people"


_VIEW = frozenset({Permission.VIEW_TENANT, Permission.VIEW_OWN_CLICKS})
_GRANTS: dict[Role, frozenset[Permission]] = {
    Role.OWNER: frozenset(Permission),
    Role.OPERATOR: frozenset(Permission) - {Permission.MANAGE_PEOPLE},
    Role.ANALYST: _VIEW | {Permission.INVESTIGATE},
    Role.AUDITOR: _VIEW | {Permission.VIEW_AUDIT},
    Role.DOMAIN_ADMIN: _VIEW,
    Role.USER: frozenset({Permission.VIEW_OWN_CLICKS}),
}


class ActorKind(StrEnum):
    """What kind of party acts."""

    PERSON = "person"
    SYSTEM = "system"
    CLI = "cli"


@dataclass(frozen=True, slots=True)
class Actor:
    """The party on whose behalf something happens."""

    kind: ActorKind
    tenant_id: uuid.UUID
    role: Role
    user_id: uuid.UUID | None = None
    label: str = ""
    domains: tuple[str, ...] | None = None
    """The only domains that this party sees; None: all of the tenant."""

    def can(self, permission: Permission) -> bool:
        """Whether the role grants the permission."""
        return permission in _GRANTS[self.role]

    def require(self, permission: Permission) -> None:
        """Refuse where the role does not grant the permission.

        Raises:
            Forbidden: It does not.
        """
        if not self.can(permission):
            raise Forbidden(f"The role {self.role.value} may not do this ({permission.value}).")


def system_actor(tenant_id: uuid.UUID, label: str) -> Actor:
    """Postern itself, e.g. a scheduled job."""
    return Actor(ActorKind.SYSTEM, tenant_id, Role.OWNER, label=label)


def cli_actor(tenant_id: uuid.UUID) -> Actor:
    """An operator at the command line, who has the database anyway."""
    return Actor(ActorKind.CLI, tenant_id, Role.OWNER, label="postern command")
