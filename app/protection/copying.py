"""Whether messages may be replaced by copies where the provider refuses to change them: a choice of the tenant's, off
by default (``docs/adr/0013``).

It is for tenants whose provider edits in place but keeps that to applications with a permission that they do not give.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from app.audit.service import record
from app.kit.db import tenant_of
from app.kit.errors import NotFound, Refused
from app.tenants.actor import Actor, Permission
from app.tenants.models import Tenant
from connectors.base.types import AccessCheck, CheckStatus, Provider

_KEY = "copy_if_refused"


def may_choose(provider: str) -> bool:
    """Whether the choice means something: at Gmail every message is replaced by a copy anyway."""
    return provider == Provider.MICROSOFT.value


def copies_chosen(settings: Mapping[str, Any]) -> bool:
    """The choice, from ``tenants.settings``."""
    return settings.get(_KEY) is True


async def load_copies_chosen(session: AsyncSession) -> bool:
    """The choice of the unit of work's tenant."""
    tenant = await session.get(Tenant, tenant_of(session))
    return tenant is not None and copies_chosen(tenant.settings)


async def choose_copies(session: AsyncSession, actor: Actor, wanted: bool) -> bool:
    """Switch replacing by copies on or off. What was replaced stays so, and is restored as before.

    Returns:
        Whether anything changed.

    Raises:
        Forbidden: The role may not configure.
        NotFound: The organisation is gone.
        Refused: There is nothing to choose at this provider.
    """
    actor.require(Permission.CONFIGURE)
    tenant = await session.get(Tenant, actor.tenant_id, with_for_update=True)
    if tenant is None:
        raise NotFound("The organisation is not here any more.")
    if not may_choose(tenant.provider):
        raise Refused("At this provider messages are always replaced by copies. Nothing was changed.", "no_choice")
    if copies_chosen(tenant.settings) == wanted:
        return False
    tenant.settings = {**tenant.settings, _KEY: wanted}
    await record(session, actor, "copies.allowed" if wanted else "copies.forbidden", tenant.name)
    return True


def with_choice(checks: Sequence[AccessCheck], settings: Mapping[str, Any]) -> list[AccessCheck]:
    """The access checks, where what copies do without is no failure once they were chosen."""
    if not copies_chosen(settings):
        return list(checks)
    return [
        AccessCheck(
            check.key,
            CheckStatus.SKIPPED,
            "Not granted: messages are replaced by copies, as your organisation chose.",
            link=check.link,
        )
        if check.copies_do_without and check.status is CheckStatus.FAILED
        else check
        for check in checks
    ]
