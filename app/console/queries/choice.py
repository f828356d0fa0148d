"""Which mailboxes are taken in, and how reading the directory goes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from app.protection.models import ListedAddress, MailboxChoice, MailboxRow
from app.protection.roster import ImportState, Mode, unknown_addresses
from app.protection.states import LeftOut
from app.tenants.actor import Actor, Permission

_NAMED = 20


@dataclass(frozen=True, slots=True)
class ChoiceView:
    """The choice as shown.

    Attributes:
        mode: ``all``, ``group`` or ``list``.
        groups: Their names, address first.
        state: Of the last reading of the directory.
        found: Accounts read; ``chosen`` of them are taken in.
        error: Why it could not be read.
        finished_at: When it was read last.
        listed: Addresses of the list; ``unknown`` of them nobody has, the first in ``unknown_named``.
        refused: What of the list is no address: how many, and the first.
        not_chosen: Known mailboxes that are not taken in (any more); ``out_of_scope`` that we are not given.
    """

    mode: str
    groups: Sequence[str]
    state: str
    found: int
    chosen: int
    error: str
    finished_at: datetime | None
    listed: int
    unknown: int
    unknown_named: Sequence[str]
    refused: tuple[int, Sequence[str]]
    not_chosen: int
    out_of_scope: int

    @property
    def reading(self) -> bool:
        """Whether the directory is being read, or is about to be."""
        return self.state in (ImportState.WAITING, ImportState.RUNNING)


async def mailbox_choice(session: AsyncSession, actor: Actor) -> ChoiceView:
    """The tenant's choice of mailboxes.

    Raises:
        Forbidden: The role does not see the tenant.
    """
    actor.require(Permission.VIEW_TENANT)
    row = await session.get(MailboxChoice, actor.tenant_id)
    counts = (
        await session.execute(
            select(
                func.count().filter(MailboxRow.left_out == LeftOut.NOT_CHOSEN),
                func.count().filter(MailboxRow.left_out == LeftOut.OUT_OF_SCOPE),
            ).where(MailboxRow.tenant_id == actor.tenant_id)
        )
    ).one()
    if row is None:
        none = ImportState.NONE.value
        return ChoiceView(Mode.ALL.value, (), none, 0, 0, "", None, 0, 0, (), (0, ()), counts[0], counts[1])
    listed = await session.scalar(
        select(func.count()).select_from(ListedAddress).where(ListedAddress.tenant_id == actor.tenant_id)
    )
    unknown, named = await unknown_addresses(session, _NAMED)
    return ChoiceView(
        mode=row.mode,
        groups=[group["address"] or group["name"] or group["id"] for group in row.groups],
        state=row.state,
        found=row.found,
        chosen=row.chosen,
        error=row.error,
        finished_at=row.finished_at,
        listed=listed or 0,
        unknown=unknown,
        unknown_named=named,
        refused=(row.refused_count, row.refused),
        not_chosen=counts[0],
        out_of_scope=counts[1],
    )


async def listed_addresses(session: AsyncSession, actor: Actor) -> list[str]:
    """The list by which mailboxes are chosen, to be changed by hand.

    Raises:
        Forbidden: The role does not configure.
    """
    actor.require(Permission.CONFIGURE)
    mine = ListedAddress.tenant_id == actor.tenant_id
    return list(await session.scalars(select(ListedAddress.address).where(mine).order_by(ListedAddress.address)))
