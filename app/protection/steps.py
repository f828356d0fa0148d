"""Journaling the steps of a replacement, each before the next one begins."""

from __future__ import annotations

import uuid
from typing import Any

from app.kit.db import Database
from app.protection import journal
from app.protection.holding import HELD, JobTakenOver
from app.protection.models import MessageRow
from app.protection.runtime import Runtime
from app.protection.states import MessageState
from app.protection.work import MailboxWork
from connectors.base.types import ReplaceState, ReplaceStep


async def record_step(
    db: Database, tenant_id: uuid.UUID, message_id: int, values: dict[str, Any], event: tuple[str, dict[str, Any]]
) -> None:
    """Store values of a message and a line of its trace, durably, while the job is this worker's.

    Args:
        db: Where.
        tenant_id: Whose message.
        message_id: Which.
        values: Columns of the message, by name.
        event: Kind and detail of the line.

    Raises:
        JobTakenOver: Another worker has the job by now; nothing was stored.
    """
    held = HELD.get()
    if held is None:
        await db.at_once(tenant_id, journal.stepping(tenant_id, message_id, values, event))
        return
    (rows,) = await db.at_once(tenant_id, journal.stepping_while_held(held, tenant_id, message_id, values, event))
    if not rows:
        raise JobTakenOver


class StepRecorder:
    """Journals each step of a replacement; see ``connectors.base.types.Recorder``.

    Where a copy is made, a step is durable before the next begins. Steps after which nothing more is done at the
    provider wait in :attr:`unwritten` for the transaction that closes the message, since a crash in between is found
    by looking: where the provider edits in place, by reading the message; where a copy is made, a removed original
    counts as removed by us once the copy was verified.
    """

    def __init__(self, runtime: Runtime, work: MailboxWork, message_id: int, replaced_id: str, journey: str) -> None:
        self._runtime = runtime
        self._work = work
        self._message_id = message_id
        self._replaced_id = replaced_id
        self._journey = journey
        self.unwritten: tuple[tuple[str, dict[str, Any]], ...] = ()

    async def __call__(self, step: ReplaceState) -> None:
        """Record a step that has taken effect.

        Raises:
            JobTakenOver: Another worker has the job by now; the step is not recorded.
        """
        event = journal.step_event(self._journey, step)
        in_place = step.new_id == self._replaced_id
        if in_place or (step.step is ReplaceStep.REMOVED and self._journey == "protect"):
            self.unwritten = (*self.unwritten, event)
            return
        values = journal.step_values(self._journey, step)
        await record_step(self._runtime.db, self._work.tenant_id, self._message_id, values, event)

    async def write_down(self) -> None:
        """Journal what waits in :attr:`unwritten`, because more is about to be done at the provider.

        Raises:
            JobTakenOver: Another worker has the job by now; what was left to record is not recorded.
        """
        state = MessageState.WRITING if self._journey == "protect" else MessageState.RESTORING
        while self.unwritten:
            event, *later = self.unwritten
            values = {"state": state.value}
            await record_step(self._runtime.db, self._work.tenant_id, self._message_id, values, event)
            self.unwritten = tuple(later)


def resume_state(row: MessageRow) -> ReplaceState | None:
    """The last journaled step of a running replacement."""
    if not row.step:
        return None
    return ReplaceState(ReplaceStep(row.step), row.step_new_id, row.step_version)
