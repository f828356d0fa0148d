"""An administrator's choice of mailboxes: everything, groups, or a list. The work is done by a job (roster)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncSession

from app.audit.service import record
from app.kit.errors import Conflict, NotFound, Refused
from app.protection.models import MailboxChoice, MailboxRow
from app.protection.queue import defer_refresh
from app.protection.roster import ImportState, Mode, choice_of, replace_list
from app.protection.states import TRIED_AGAIN
from app.tenants.accounts import TenantStatus
from app.tenants.actor import Actor, Permission
from app.tenants.models import Tenant
from connectors.base.types import DirectoryGroup

MAX_LIST = 50_000
MAX_GROUPS = 20
_KEPT_REFUSED = 20
_ADDRESS = re.compile(r"[^\s@<>()\[\],;:\"\\]{1,64}@[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?", re.IGNORECASE)
_IN_BRACKETS = re.compile(r"[^,;\n\r\t<>]*<([^<>\s]+)>")


@dataclass(frozen=True, slots=True)
class AddressList:
    """What was read from a pasted or uploaded list.

    Attributes:
        addresses: Lower case, each once, in the order given.
        refused: What is no address, each once.
    """

    addresses: tuple[str, ...]
    refused: tuple[str, ...]


def read_list(text: str) -> AddressList:
    """Addresses in a text: one a line, or separated by commas, semicolons or spaces; ``Name <address>`` too.

    A first line with names of columns, as exports have, is refused like anything else that is no address; it is
    counted and named, and changes nothing.
    """
    plain = _IN_BRACKETS.sub(lambda found: f" {found[1]} ", text.lstrip("\ufeff"))
    addresses: dict[str, None] = {}
    refused: dict[str, None] = {}
    for token in re.split(r"[\s,;]+", plain):
        word = token.strip("\"'")
        if not word:
            continue
        if _ADDRESS.fullmatch(word) and len(word) <= 254:
            addresses[word.lower()] = None
        else:
            refused[word[:100]] = None
    return AddressList(tuple(addresses), tuple(refused))


async def choose_all(session: AsyncSession, actor: Actor) -> None:
    """Take in every mailbox of the directory.

    Raises:
        Forbidden: The role does not configure.
        Conflict: The tenant is not connected.
    """
    row = await _changing(session, actor)
    await _chosen(session, actor, row, Mode.ALL, {"before": row.mode, "after": Mode.ALL.value})


async def choose_groups(session: AsyncSession, actor: Actor, groups: list[DirectoryGroup]) -> None:
    """Take in the members of these groups, as they are now and as they will be.

    Args:
        session: The unit of work.
        actor: Who chooses.
        groups: As the directory gave them.

    Raises:
        Forbidden: The role does not configure.
        Refused: No group, or too many.
        Conflict: The tenant is not connected.
    """
    if not 1 <= len(groups) <= MAX_GROUPS:
        raise Refused(f"Choose 1 to {MAX_GROUPS} groups. Nothing was changed.", "group_count")
    row = await _changing(session, actor)
    before = row.mode
    row.groups = [{"id": group.id, "address": group.address, "name": group.name[:200]} for group in groups]
    names = [group.address or group.name or group.id for group in groups]
    await _chosen(session, actor, row, Mode.GROUP, {"before": before, "after": Mode.GROUP.value, "groups": names})


async def choose_list(session: AsyncSession, actor: Actor, text: str) -> AddressList:
    """Take in the mailboxes of a list of addresses.

    Returns:
        What was read; what is no address was left out of the list.

    Raises:
        Forbidden: The role does not configure.
        Refused: There is no address in it, or far too many.
        Conflict: The tenant is not connected.
    """
    row = await _changing(session, actor)
    read = read_list(text)
    if not read.addresses:
        raise Refused("There is no mail address in this list. Nothing was changed.", "empty_list")
    if len(read.addresses) > MAX_LIST:
        raise Refused(
            f"A list has at most {MAX_LIST} addresses. Choose a group instead. Nothing was changed.", "long_list"
        )
    before = row.mode
    row.refused, row.refused_count = list(read.refused[:_KEPT_REFUSED]), len(read.refused)
    await replace_list(session, actor.tenant_id, read.addresses)
    detail = {
        "before": before,
        "after": Mode.LIST.value,
        "addresses": len(read.addresses),
        "refused": len(read.refused),
    }
    await _chosen(session, actor, row, Mode.LIST, detail)
    return read


async def request_refresh(session: AsyncSession, actor: Actor) -> None:
    """Have the directory read now; mailboxes that could not be reached are tried again soon, too.

    Raises:
        Forbidden: The role does not configure.
        Conflict: The tenant is not connected.
    """
    row = await _changing(session, actor)
    outside = (MailboxRow.tenant_id == actor.tenant_id, MailboxRow.left_out.in_(TRIED_AGAIN))
    await session.execute(update(MailboxRow).where(*outside).values(not_before=None))
    await _ask(session, row)


async def first_refresh(session: AsyncSession, actor: Actor) -> None:
    """Have the directory read because access was granted just now, by whoever was shown to administer it."""
    await _ask(session, await choice_of(session, actor.tenant_id, lock=True))


async def _changing(session: AsyncSession, actor: Actor) -> MailboxChoice:
    actor.require(Permission.CONFIGURE)
    tenant = await session.get(Tenant, actor.tenant_id)
    if tenant is None:
        raise NotFound("The organisation is not here any more.")
    if tenant.status not in (TenantStatus.ACTIVE, TenantStatus.PAUSED, TenantStatus.BLOCKED):
        raise Conflict("Access to the mailboxes has not been granted. Nothing was changed.")
    return await choice_of(session, actor.tenant_id, lock=True)


async def _chosen(
    session: AsyncSession, actor: Actor, row: MailboxChoice, mode: Mode, detail: dict[str, object]
) -> None:
    row.mode = mode.value
    if mode is not Mode.GROUP:
        row.groups = []
    if mode is not Mode.LIST:
        row.refused, row.refused_count = [], 0
        await replace_list(session, actor.tenant_id, ())
    await record(session, actor, "mailboxes.chosen", mode.value, detail)
    await _ask(session, row)


async def _ask(session: AsyncSession, row: MailboxChoice) -> None:
    row.state, row.error, row.found = ImportState.WAITING.value, "", 0
    await session.flush()
    await defer_refresh(session, row.tenant_id)
