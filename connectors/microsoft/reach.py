"""Which mailboxes our grant reaches, by trying: no token tells.

An administrator may give an application some mailboxes only, by RBAC for Applications
(https://learn.microsoft.com/exchange/permissions-exo/application-rbac: rights in no token) or by the older
application access policies (https://learn.microsoft.com/exchange/permissions-exo/application-access-policies:
roles in the token, mailboxes refused).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from connectors.base.errors import ConnectorError, Transient
from connectors.base.types import Mailbox
from connectors.microsoft.client import GraphClient
from connectors.microsoft.directory import list_mailboxes

MOST_TRIED = 200
"""Mailboxes tried at most: a request each."""
_AT_ONCE = 8
_WHAT = "reading a mailbox to check access"


@dataclass(frozen=True, slots=True)
class Reach:
    """What trying mailboxes came to.

    Attributes:
        read: How many answered.
        tried: Of how many that exist; those without a mailbox are not counted.
        refusal: What the last refused one said.
        complete: Whether that was the whole directory.
    """

    read: int = 0
    tried: int = 0
    refusal: str = ""
    complete: bool = True


async def try_mailboxes(client: GraphClient, first: Sequence[Mailbox] = (), *, all_of_them: bool = True) -> Reach:
    """Try to read from mailboxes: ``first``, then others of the directory.

    Args:
        client: Graph.
        first: Those that matter most.
        all_of_them: Try up to :data:`MOST_TRIED`, for the numbers; else stop at the first that answers.

    Raises:
        ConnectorError: The directory could not be read, or Graph does not answer.
    """
    read = tried = asked = 0
    refusal = ""
    waiting: list[Mailbox] = []

    async def one(mailbox: Mailbox) -> tuple[bool, str] | None:
        info = client.requests.newest_messages(mailbox.id, None, ["id"], 1)
        reply = await client.exchange(info, mailbox=mailbox.id, read=True, what=_WHAT)
        if reply.fault is None:
            return True, ""
        if reply.status == 404:
            return None  # a directory entry without a mailbox says nothing about our rights
        return False, f"Graph answered {reply.status} {reply.fault.code}".rstrip()

    async def try_waiting() -> None:
        nonlocal read, tried, asked, refusal
        asked += len(waiting)
        for result in await asyncio.gather(*(one(mailbox) for mailbox in waiting)):
            if result is not None:
                tried += 1
                read += result[0]
                refusal = result[1] or refusal
        waiting.clear()

    async for mailbox in _candidates(client, first):
        waiting.append(mailbox)
        # The first alone: where it answers and its rights are in the token, there is nothing to count.
        if len(waiting) >= (1 if asked == 0 and not all_of_them else min(_AT_ONCE, MOST_TRIED - asked)):
            await try_waiting()
            if asked >= MOST_TRIED or (read and not all_of_them):
                break
    if waiting:
        await try_waiting()
    return Reach(read, tried, refusal, complete=asked < MOST_TRIED)


async def may_be_scoped(client: GraphClient) -> bool:
    """Whether the administrator may have given us some mailboxes: one answers, or there are too many to try them all.

    In doubt a refusal is the mailbox's own: that leaves it alone, while a missing permission stops the tenant. The
    hourly check of the access, which tries the protected mailboxes first, tells the two apart.

    Raises:
        Transient: It cannot be told now.
    """
    try:
        found = await try_mailboxes(client, all_of_them=False)
    except Transient:
        raise
    except ConnectorError:
        return False
    return found.read > 0 or not found.complete


async def _candidates(client: GraphClient, first: Sequence[Mailbox]) -> AsyncIterator[Mailbox]:
    seen: set[str] = set()
    for mailbox in first[:MOST_TRIED]:
        seen.update((mailbox.id, mailbox.address))
        yield mailbox
    async for mailbox in list_mailboxes(client):
        if mailbox.enabled and seen.isdisjoint((mailbox.id, mailbox.address)):
            yield mailbox
