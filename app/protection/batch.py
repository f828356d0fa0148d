"""Working through many messages of one mailbox: a few at a time, within a turn, around what fails.

A message that the provider cannot serve is set aside for a later try and holds up nobody; where several in a row
fail, it is the mailbox that is in trouble, and none is begun any more.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from app.protection import journal
from app.protection.attempts import MessageNotDone
from app.protection.protect import protect_one
from app.protection.runtime import Runtime
from app.protection.work import MailboxWork
from connectors.base.errors import Unavailable

AT_ONCE = 3
"""Messages of one mailbox under way together; both providers allow four requests per mailbox at once."""

TURN_SECONDS = 1.0
"""How long a job works before it gives its slot back; what is left goes on in the tenant's next turn."""

_REGISTERED_AT_ONCE = 25
_IN_A_ROW = 4


@dataclass(slots=True)
class Turn:
    """One job's share of the worker.

    Attributes:
        runtime: The process; a turn ends when it is asked to stop.
        seconds: How long it may take.
        aside: Messages that failed and are to be tried again later.
        done: Messages that came to an end or were set aside.
    """

    runtime: Runtime
    seconds: float = TURN_SECONDS
    aside: int = 0
    done: int = 0
    _began: float = field(default_factory=time.monotonic)

    def is_over(self) -> bool:
        """Whether to stop before the next message. A turn is good for one message at least."""
        if self.runtime.stopping.is_set():
            return True
        return self.done > 0 and time.monotonic() - self._began >= self.seconds

    def count(self) -> None:
        """A message came to an end, or was set aside."""
        self.done += 1


async def protect_page(runtime: Runtime, work: MailboxWork, external_ids: list[str], turn: Turn | None = None) -> bool:
    """Bring messages that the provider reported as new to a final state, or aside.

    Args:
        runtime: The process.
        work: The mailbox.
        external_ids: The provider's ids, oldest first. May name messages that are known already.
        turn: Ends early with it; by default without limit.

    Returns:
        Whether all of them were journaled and begun; if not, the cursor must stay.

    Raises:
        ConnectorError: One of ``STOPS_THE_MAILBOX``; nothing is lost, every message keeps its place.
    """
    turn = turn or Turn(runtime, float("inf"))
    for start in range(0, len(external_ids), _REGISTERED_AT_ONCE):
        if turn.is_over():
            return False
        some = external_ids[start : start + _REGISTERED_AT_ONCE]
        (rows,) = await runtime.db.at_once(
            work.tenant_id, journal.registration(runtime, work.tenant_id, work.mailbox_id, some)
        )
        pending = journal.pending(rows)
        # Those known from before are for take_up, at their own time.
        now = [message for message in pending if message.fresh or message.returned]
        if not await protect_all(runtime, work, now, turn):
            return False
    return True


async def protect_all(
    runtime: Runtime, work: MailboxWork, pending: list[journal.Pending], turn: Turn | None = None
) -> bool:
    """Work on journaled messages, :data:`AT_ONCE` at a time.

    Returns:
        Whether all were begun.

    Raises:
        Exception: The first failure that concerns the mailbox, or an error of ours; messages under way were finished.
    """
    turn = turn or Turn(runtime, float("inf"))
    waiting = list(reversed(pending))
    failed: list[Exception] = []
    in_a_row = 0

    async def one_after_another() -> None:
        while waiting and not failed and not turn.is_over():
            async with runtime.pace.one(work.tenant_id):
                if waiting and not failed:
                    await one(waiting.pop())

    async def one(message: journal.Pending) -> None:
        nonlocal in_a_row
        try:
            await protect_one(runtime, work, message)
            in_a_row = 0
        except (MessageNotDone, Unavailable) as error:
            turn.aside += 1
            in_a_row += 1
            if in_a_row >= _IN_A_ROW and isinstance(error, Unavailable):
                failed.append(error)
        except Exception as error:  # noqa: BLE001  # raised again below, once nothing is under way
            # Whatever it is: those under way come to an end before the job does. While it goes on without them,
            # another worker would begin it anew, and two would work on one message.
            failed.append(error)
        turn.count()

    await asyncio.gather(*(one_after_another() for _ in range(min(AT_ONCE, len(pending)))))
    if failed:
        raise failed[0]
    return not waiting
