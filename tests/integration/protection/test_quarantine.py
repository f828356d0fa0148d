"""Quarantine, junk and release over the real connectors, the emulated providers and a real database."""

from __future__ import annotations

import uuid

import pytest
from sqlalchemy import select, text

from app.audit.models import AuditEntry
from app.kit.errors import Conflict, Forbidden, NotFound, Refused
from app.protection import quarantine
from app.protection.models import MessageEvent, MessageMove
from app.protection.quarantine import list_moves, request_move, request_release, run_move
from app.protection.service import request_restore
from app.protection.sync import sync_mailbox
from app.protection.tasks import restore_mailbox
from app.tenants.actor import Actor, ActorKind, Role
from connectors.base.errors import Unavailable
from connectors.base.protocol import MailboxConnector
from connectors.base.types import MessageRef, MoveResult, Place, Provider
from connectors.emulators.common.faults import FaultKind, FaultRule, Manner
from tests.integration.protection.world import GATEWAY, Organisation, mail

pytestmark = pytest.mark.anyio


class Killed(BaseException):
    """The process ends here; nothing in the code under test may catch it."""


def where(organisation: Organisation) -> tuple[str, list[str], bool]:
    """Place, labels or categories, and read state of the only message that is not in the bin."""
    address, world = organisation.people[0], organisation.emulators.world
    if organisation.provider is Provider.MICROSOFT:
        person = world.microsoft.person(address)
        folders = world.microsoft.folders_of(person.id)
        ((name, message),) = [
            (folder.name, message)
            for folder in folders
            for message in world.microsoft.messages_of(person.id, folder.id)
        ]
        return name, sorted(message.categories), message.is_read
    mailbox = world.google.mailbox(address)
    (stored,) = [message for message in mailbox.messages.values() if "TRASH" not in message.labels]
    shown = sorted(mailbox.labels.name(label) for label in stored.labels if label != "UNREAD")
    return "", shown, "UNREAD" not in stored.labels


def file_away(organisation: Organisation) -> None:
    """The owner reads the message and files it: out of the inbox, under a folder or label of their own."""
    address, world = organisation.people[0], organisation.emulators.world
    if organisation.provider is Provider.MICROSOFT:
        person = world.microsoft.person(address)
        (message,) = world.microsoft.messages_of(person.id)
        message.categories.append("Project")
        message.is_read = True
        world.microsoft.move(message, world.microsoft.add_folder(person.id, "Clients"))
        return
    mailbox = world.google.mailbox(address)
    label = mailbox.labels.create({"name": "Clients"})
    (stored,) = [message for message in mailbox.messages.values() if "TRASH" not in message.labels]
    mailbox.modify([stored.id], [label.id, "STARRED"], ["INBOX", "UNREAD"])


async def protected(organisation: Organisation) -> int:
    """A protected message, filed by its owner; its number."""
    address = organisation.people[0]
    organisation.deliver(address, mail(address))
    await sync_mailbox(organisation.runtime, organisation.tenant_id, await organisation.mailbox_id(address))
    file_away(organisation)
    (row,) = await organisation.messages()
    assert row.state == "protected"
    return row.id


async def ask(organisation: Organisation, message: int, place: Place = Place.QUARANTINE) -> int:
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        return await request_move(session, organisation.actor, message, place, "turned malicious")


async def release(organisation: Organisation, move: int) -> None:
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        await request_release(session, organisation.actor, move)


async def run(organisation: Organisation, move: int) -> MessageMove:
    mailbox = await organisation.mailbox_id(organisation.people[0])
    await run_move(organisation.runtime, organisation.tenant_id, mailbox, move)
    return await stored(organisation, move)


async def stored(organisation: Organisation, move: int) -> MessageMove:
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        return await session.get_one(MessageMove, (organisation.tenant_id, move))


async def events(organisation: Organisation) -> list[str]:
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        return list(await session.scalars(select(MessageEvent.kind).order_by(MessageEvent.id)))


@pytest.mark.parametrize("place", [Place.QUARANTINE, Place.JUNK])
async def test_a_message_is_moved_away_and_released_to_where_it_was(organisation: Organisation, place: Place) -> None:
    message = await protected(organisation)
    before = where(organisation)
    assert "Clients" in str(before)
    move = await ask(organisation, message, place)
    moved = await run(organisation, move)
    assert moved.state == "moved"
    assert moved.moved_at is not None
    assert where(organisation) != before
    assert "Clients" not in str(where(organisation)) or organisation.provider is Provider.GOOGLE
    await release(organisation, move)
    released = await run(organisation, move)
    assert released.state == "released"
    assert where(organisation) == before
    (content,) = organisation.readable(organisation.people[0])
    assert f"{GATEWAY}/l/" in content
    kinds = await events(organisation)
    assert kinds[-2:] == ["quarantined" if place is Place.QUARANTINE else "junked", "released"]
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        acts = list(await session.scalars(select(AuditEntry.action).order_by(AuditEntry.id)))
    assert acts[-2:] == ["message.move_requested", "message.release_requested"]


async def test_the_way_back_survives_a_crash_between_the_move_and_its_record(
    organisation: Organisation, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = await protected(organisation)
    before = where(organisation)
    connector = type(await the_connector(organisation))
    whole = connector.move

    async def move_and_die(self: MailboxConnector, ref: MessageRef, place: Place) -> MoveResult:
        await whole(self, ref, place)
        raise Killed

    monkeypatch.setattr(connector, "move", move_and_die)
    move = await ask(organisation, message)
    with pytest.raises(Killed):
        await run(organisation, move)
    monkeypatch.setattr(connector, "move", whole)
    assert (await stored(organisation, move)).state == "moving"
    assert where(organisation) != before
    assert (await run(organisation, move)).state == "moved"
    await release(organisation, move)
    assert (await run(organisation, move)).state == "released"
    assert where(organisation) == before


async def the_connector(organisation: Organisation) -> MailboxConnector:
    from app.protection.reach import any_work

    mailbox = await organisation.mailbox_id(organisation.people[0])
    work = await any_work(organisation.runtime, organisation.tenant_id, mailbox)
    assert work is not None
    return work.connector


async def test_the_stored_way_back_is_sealed(organisation: Organisation, monkeypatch: pytest.MonkeyPatch) -> None:
    message = await protected(organisation)
    move = await ask(organisation, message)
    sealed = (await run(organisation, move)).undo_sealed
    assert sealed is not None
    for word in (b"folder", b"labels", b"read"):
        assert word not in sealed


async def test_running_it_again_does_nothing(organisation: Organisation) -> None:
    message = await protected(organisation)
    move = await ask(organisation, message)
    await run(organisation, move)
    there, told = where(organisation), await events(organisation)
    await run(organisation, move)
    assert (where(organisation), await events(organisation)) == (there, told)
    await release(organisation, move)
    for _ in range(2):
        await run(organisation, move)
    assert (await events(organisation)).count("released") == 1


async def test_an_answer_lost_after_the_move_took_effect_is_asked_again(organisation: Organisation) -> None:
    message = await protected(organisation)
    before = where(organisation)
    move = await ask(organisation, message)
    faults = organisation.emulators.world.faults
    faults.add(FaultRule(FaultKind.TIMEOUT_AFTER, path="/move|/modify", method="POST", limit=1, manner=Manner.CUT))
    await run(organisation, move)
    again = await run(organisation, move)
    assert again.state == "moved"
    await release(organisation, move)
    assert (await run(organisation, move)).state == "released"
    assert where(organisation) == before


async def test_a_message_deleted_meanwhile_is_said_to_be_gone(organisation: Organisation) -> None:
    message = await protected(organisation)
    move = await ask(organisation, message)
    address, world = organisation.people[0], organisation.emulators.world
    if organisation.provider is Provider.MICROSOFT:
        (there,) = world.microsoft.messages_of(world.microsoft.person(address).id)
        world.microsoft.remove(there)
    else:
        mailbox = world.google.mailbox(address)
        mailbox.delete(list(mailbox.messages))
    gone = await run(organisation, move)
    assert gone.state == "gone"
    assert (await events(organisation))[-1] == "move_gone"
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        assert await list_moves(session, organisation.actor) == []
        (line,) = await list_moves(session, organisation.actor, ended=True)
    assert line.move.id == move


async def test_a_provider_that_is_away_delays_the_move_and_loses_nothing(
    organisation: Organisation, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = await protected(organisation)
    before = where(organisation)
    move = await ask(organisation, message)
    connector = type(await the_connector(organisation))
    whole = connector.way_back

    async def away(self: MailboxConnector, ref: MessageRef) -> str:
        raise Unavailable("no answer")

    monkeypatch.setattr(connector, "way_back", away)
    for _ in range(8):
        waiting = await run(organisation, move)
    assert (waiting.state, waiting.failures, waiting.error) == ("asked", 8, "no answer")
    assert where(organisation) == before
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        jobs = await session.execute(
            text(
                "SELECT lock, scheduled_at FROM procrastinate_jobs WHERE task_name = 'message.move' AND status = 'todo'"
            )
        )
        assert {row.lock.startswith("mailbox:") for row in jobs} == {True}
    monkeypatch.setattr(connector, "way_back", whole)
    assert (await run(organisation, move)).state == "moved"


async def test_a_quarantined_message_can_be_restored_and_then_released(organisation: Organisation) -> None:
    message = await protected(organisation)
    before = where(organisation)
    move = await ask(organisation, message)
    await run(organisation, move)
    mailbox = await organisation.mailbox_id(organisation.people[0])
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        restoring = await request_restore(session, organisation.actor, "message", str(message))
    await restore_mailbox(organisation.runtime, organisation.tenant_id, mailbox, restoring)
    await release(organisation, move)
    assert (await run(organisation, move)).state == "released"
    assert where(organisation) == before
    (content,) = organisation.readable(organisation.people[0])
    assert "https://news.example/" in content


async def test_quarantine_is_not_undone_by_the_next_look_at_the_mailbox(organisation: Organisation) -> None:
    message = await protected(organisation)
    move = await ask(organisation, message)
    await run(organisation, move)
    there = where(organisation)
    mailbox = await organisation.mailbox_id(organisation.people[0])
    await sync_mailbox(organisation.runtime, organisation.tenant_id, mailbox)
    assert where(organisation) == there
    (row,) = await organisation.messages()
    assert row.state == "protected"


async def test_what_is_half_written_is_brought_to_its_end_first(organisation: Organisation) -> None:
    message = await protected(organisation)
    before = where(organisation)
    move = await ask(organisation, message)
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        await session.execute(text("UPDATE messages SET state = 'writing'"))
    assert (await run(organisation, move)).state == "asked"
    assert where(organisation) == before


async def test_what_cannot_be_asked_is_refused(organisation: Organisation) -> None:
    message = await protected(organisation)
    analyst = Actor(ActorKind.PERSON, organisation.tenant_id, Role.ANALYST, uuid.uuid4(), "analyst")
    database = organisation.runtime.db
    cases: list[tuple[type[Exception], Actor, int, Place]] = [
        (Forbidden, analyst, message, Place.QUARANTINE),
        (NotFound, organisation.actor, 987654, Place.QUARANTINE),
        (Refused, organisation.actor, message, Place.INBOX),
    ]
    for error, who, what, place in cases:
        with pytest.raises(error):
            async with database.tenant(organisation.tenant_id) as session:
                await request_move(session, who, what, place)
    move = await ask(organisation, message)
    with pytest.raises(Conflict, match="already"):
        await ask(organisation, message, Place.JUNK)
    with pytest.raises(Conflict, match="not yet"):
        await release(organisation, move)
    await run(organisation, move)
    await release(organisation, move)
    await run(organisation, move)
    with pytest.raises(Conflict):
        await release(organisation, move)
    # Once it is back it can be moved again.
    assert await ask(organisation, message, Place.JUNK) != move


async def test_moves_that_lost_their_job_are_found_again(organisation: Organisation) -> None:
    message = await protected(organisation)
    await ask(organisation, message)
    database = organisation.runtime.db
    async with database.tenant(organisation.tenant_id) as session:
        await session.execute(text("DELETE FROM procrastinate_jobs"))
    await quarantine.take_up_moves(organisation.runtime, organisation.tenant_id)
    async with database.tenant(organisation.tenant_id) as session:
        count = await session.scalar(text("SELECT count(*) FROM procrastinate_jobs WHERE task_name = 'message.move'"))
    assert count == 1
