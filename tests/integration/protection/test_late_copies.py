"""A copy of ours that appears beside the one the journal names: written by a try whose answer came too late."""

from __future__ import annotations

import copy as copying
import dataclasses
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from app.audit.models import AuditEntry
from app.kit.crypto import KeyRing
from app.kit.db import Database
from app.protection.models import MessageEvent
from app.protection.orphans import LATE
from app.protection.service import request_restore
from app.protection.tasks import restore_mailbox
from connectors.base.types import Provider
from connectors.emulators.common.faults import FaultKind, FaultRule
from connectors.emulators.microsoft import ids
from connectors.emulators.testing import Emulators
from tests.integration.protection.hands import Hands
from tests.integration.protection.world import (
    GATEWAY,
    Organisation,
    choose_copies_for,
    connect,
    mail,
    provider_settings,
)

pytestmark = pytest.mark.anyio


@pytest.fixture(params=[Provider.MICROSOFT, Provider.GOOGLE], ids=["microsoft", "google"])
async def organisation(
    request: pytest.FixtureRequest, database: Database, emulators: Emulators, keyring: KeyRing, tmp_path: Path
) -> AsyncIterator[Organisation]:
    settings = provider_settings(emulators, tmp_path)
    made = await connect(database, emulators, request.param, settings, keyring, "ada")
    if request.param is Provider.MICROSOFT:
        await choose_copies_for(made)
    yield made
    await made.runtime.providers.aclose()


async def protected(organisation: Organisation) -> tuple[str, str]:
    """A protected message: the original's id, in the bin, and the copy's."""
    (ada,) = organisation.people
    await organisation.sync()
    original = organisation.deliver(ada, mail(ada))
    await organisation.sync()
    await organisation.sync()
    (row,) = await organisation.messages()
    assert (row.state, row.external_id) == ("protected", original)
    assert row.current_id != original
    return original, row.current_id


def appear(organisation: Organisation, model: str, *, by_its_owner: bool = False) -> str:
    """Another copy like this one appears: by an earlier write, or because its owner duplicated it."""
    (ada,) = organisation.people
    world = organisation.emulators.world
    if organisation.provider is Provider.GOOGLE:
        with world.google.lock:
            box = world.google.mailbox(ada)
            known = box.messages[model]
            thread = known.thread_id
            return str(box.add(known.raw, ("INBOX",), internal_ms=known.internal_ms, thread_id=thread).id)
    state = world.microsoft
    message = copying.deepcopy(state.message(state.person(ada).id, model))
    message.id = ids.new_message_id(state.random)
    message.folder_id = state.folder(message.user_id, "inbox").id
    for name in [name for name in message.extended if name.endswith("PosternWrite") and not by_its_owner]:
        message.extended[name] = "0123456789abcdef"
    state.add_message(message)
    return message.id


def place(organisation: Organisation, message_id: str) -> str:
    (ada,) = organisation.people
    world = organisation.emulators.world
    if organisation.provider is Provider.GOOGLE:
        with world.google.lock:
            return "bin" if "TRASH" in world.google.mailbox(ada).messages[message_id].labels else "in sight"
    state = world.microsoft
    folder = state.message(state.person(ada).id, message_id).folder_id
    return "bin" if state.folders[folder].well_known == "deleteditems" else "in sight"


def to_bin(organisation: Organisation, message_id: str) -> None:
    (ada,) = organisation.people
    world = organisation.emulators.world
    if organisation.provider is Provider.GOOGLE:
        with world.google.lock:
            world.google.mailbox(ada).modify([message_id], ("TRASH",), ("INBOX",))
        return
    state = world.microsoft
    person = state.person(ada).id
    state.move(state.message(person, message_id), state.folder(person, "deleteditems"))


async def notes(organisation: Organisation) -> tuple[list[str], list[str]]:
    """What the trace and the audit log say of such copies."""
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        kinds = list(await session.scalars(select(MessageEvent.kind).order_by(MessageEvent.id)))
        actions = list(await session.scalars(select(AuditEntry.action).order_by(AuditEntry.id)))
    return [kind for kind in kinds if "cop" in kind or "duplicate" in kind], [a for a in actions if "duplicate" in a]


async def test_it_goes_to_the_bin_and_the_one_that_stands_is_left_as_it_is(organisation: Organisation) -> None:
    _, standing = await protected(organisation)
    late = appear(organisation, standing)

    await organisation.sync()
    await organisation.sync()

    assert (place(organisation, late), place(organisation, standing)) == ("bin", "in sight")
    (row,) = await organisation.messages()
    assert (row.state, row.current_id) == ("protected", standing)
    assert await notes(organisation) == (["duplicate_removed"], ["message.duplicate_removed"])


async def test_killed_after_the_trace_it_is_in_the_audit_log_too_and_in_each_once(organisation: Organisation) -> None:
    _, standing = await protected(organisation)
    late = appear(organisation, standing)
    (row,) = await organisation.messages()
    detail = {"id": late, "stands": standing}
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        event = MessageEvent(
            tenant_id=row.tenant_id, message_id=row.id, kind="duplicate_removed", actor="", detail=detail
        )
        session.add(event)

    await organisation.sync()

    assert place(organisation, late) == "bin"
    assert await notes(organisation) == (["duplicate_removed"], ["message.duplicate_removed"])


@pytest.mark.parametrize("gone", [True, False], ids=["deleted", "in_the_bin"])
async def test_the_only_one_that_is_left_stays_and_can_be_restored(organisation: Organisation, gone: bool) -> None:
    (ada,) = organisation.people
    _, standing = await protected(organisation)
    late = appear(organisation, standing)
    if gone:
        Hands(organisation).delete(ada, standing)
    else:
        to_bin(organisation, standing)

    await organisation.sync()
    await organisation.sync()

    assert place(organisation, late) == "in sight"
    (row,) = await organisation.messages()
    assert (row.state, row.current_id) == ("protected", late)
    assert await notes(organisation) == (["copy_adopted"], [])
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        run = await request_restore(session, organisation.actor, "tenant", "")
    mailbox = await organisation.mailbox_id(ada)
    await restore_mailbox(organisation.runtime, organisation.tenant_id, mailbox, run)
    (text,) = organisation.readable(ada)
    assert "https://news.example/" in text
    assert GATEWAY not in text


async def test_the_only_one_that_is_left_stays_where_the_other_was_deleted_for_good(organisation: Organisation) -> None:
    if organisation.provider is Provider.GOOGLE:
        pytest.skip("Gmail has no place where a message that was deleted for good still answers")
    (ada,) = organisation.people
    _, standing = await protected(organisation)
    late = appear(organisation, standing)
    state = organisation.emulators.world.microsoft
    person = state.person(ada).id
    state.move(state.message(person, standing), state.folder(person, "recoverableitemsdeletions"))

    await organisation.sync()
    await organisation.sync()

    assert place(organisation, late) == "in sight"
    assert await notes(organisation) == (["copy_adopted"], [])


async def test_what_appears_days_later_its_owner_has_made(organisation: Organisation) -> None:
    _, standing = await protected(organisation)
    late = appear(organisation, standing)
    now = organisation.runtime.clock
    organisation.runtime = dataclasses.replace(organisation.runtime, clock=lambda: now() + LATE + timedelta(minutes=1))

    await organisation.sync()

    assert (place(organisation, late), place(organisation, standing)) == ("in sight", "in sight")
    assert await notes(organisation) == ([], [])


async def test_one_that_its_owner_duplicated_stays(organisation: Organisation) -> None:
    if organisation.provider is Provider.GOOGLE:
        pytest.skip("at Gmail a message cannot be duplicated, and the marker does not tell one write from another")
    _, standing = await protected(organisation)
    own = appear(organisation, standing, by_its_owner=True)

    await organisation.sync()
    await organisation.sync()

    assert (place(organisation, own), place(organisation, standing)) == ("in sight", "in sight")
    assert await notes(organisation) == ([], [])


async def test_where_it_cannot_be_moved_now_it_is_tried_again_and_said_once(organisation: Organisation) -> None:
    _, standing = await protected(organisation)
    late = appear(organisation, standing)
    organisation.emulators.world.faults.add(FaultRule(FaultKind.TIMEOUT_BEFORE, r"/(move|modify)$", "POST", limit=9))

    await organisation.sync()
    assert place(organisation, late) == "in sight"
    organisation.emulators.world.faults.clear()
    now = organisation.runtime.clock
    organisation.runtime = dataclasses.replace(organisation.runtime, clock=lambda: now() + timedelta(minutes=10))
    await organisation.sync()

    assert (place(organisation, late), place(organisation, standing)) == ("bin", "in sight")
    assert await notes(organisation) == (["duplicate_removed"], ["message.duplicate_removed"])


async def test_a_marker_of_a_message_that_the_journal_does_not_know_moves_nothing(organisation: Organisation) -> None:
    (ada,) = organisation.people
    original, standing = await protected(organisation)
    late = appear(organisation, standing)
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        (row,) = await organisation.messages()
        stored = await session.merge(row)
        stored.external_id, stored.current_id = f"{original}-other", f"{standing}-other"
    Hands(organisation).read_and_star(ada, late)

    await organisation.sync()

    assert (place(organisation, late), place(organisation, standing)) == ("in sight", "in sight")
    assert await notes(organisation) == ([], [])
