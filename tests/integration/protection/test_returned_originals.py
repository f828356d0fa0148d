"""At Gmail the original of a protected copy lies in the bin; what happens when its owner brings it back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import select

from app.kit.crypto import KeyRing
from app.kit.db import Database
from app.protection.models import MessageEvent
from app.protection.service import request_restore
from app.protection.tasks import restore_mailbox
from connectors.base.types import Provider
from connectors.emulators.testing import Emulators
from tests.integration.protection.hands import Hands
from tests.integration.protection.world import GATEWAY, Organisation, connect, mail, provider_settings

pytestmark = pytest.mark.anyio


@pytest.fixture
async def workspace(
    database: Database, emulators: Emulators, keyring: KeyRing, tmp_path: Path
) -> AsyncIterator[Organisation]:
    settings = provider_settings(emulators, tmp_path)
    made = await connect(database, emulators, Provider.GOOGLE, settings, keyring, "ada")
    yield made
    await made.runtime.providers.aclose()


def untrash(organisation: Organisation, message_id: str) -> None:
    google, (ada,) = organisation.emulators.world.google, organisation.people
    with google.lock:
        google.mailbox(ada).modify([message_id], ("INBOX",), ("TRASH",))


def trash(organisation: Organisation, message_id: str) -> None:
    google, (ada,) = organisation.emulators.world.google, organisation.people
    with google.lock:
        google.mailbox(ada).modify([message_id], ("TRASH",), ("INBOX",))


def labels(organisation: Organisation) -> dict[str, frozenset[str]]:
    google, (ada,) = organisation.emulators.world.google, organisation.people
    with google.lock:
        return {stored.id: frozenset(stored.labels) for stored in google.mailbox(ada).newest_first()}


async def protected(organisation: Organisation) -> tuple[str, str]:
    """A protected message: the original's id, in the bin, and the copy's."""
    (ada,) = organisation.people
    await organisation.sync()
    original = organisation.deliver(ada, mail(ada))
    await organisation.sync()
    (row,) = await organisation.messages()
    assert (row.state, row.external_id) == ("protected", original)
    return original, row.current_id


async def events(organisation: Organisation) -> list[str]:
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        return list(await session.scalars(select(MessageEvent.kind).order_by(MessageEvent.id)))


async def test_an_original_brought_back_beside_its_copy_goes_to_the_bin_again_and_the_copy_stays_as_it_is(
    workspace: Organisation,
) -> None:
    original, copy = await protected(workspace)
    (ada,) = workspace.people
    Hands(workspace).read_and_star(ada, copy)
    before = labels(workspace)[copy]
    for _ in range(3):
        untrash(workspace, original)
        await workspace.sync()
        await workspace.sync()
        assert "TRASH" in labels(workspace)[original]
        assert labels(workspace)[copy] == before
    assert len(labels(workspace)) == 2
    assert (await events(workspace)).count("returned") == 3
    (text,) = workspace.readable(ada)
    assert f"{GATEWAY}/l/news.example/" in text


async def test_where_the_copy_was_thrown_away_the_original_is_protected_anew_once(workspace: Organisation) -> None:
    original, copy = await protected(workspace)
    (ada,) = workspace.people
    trash(workspace, copy)
    untrash(workspace, original)
    await workspace.sync()
    await workspace.sync()

    (row,) = await workspace.messages()
    assert row.state == "protected"
    assert row.current_id not in (original, copy)
    found = labels(workspace)
    assert "TRASH" in found[original]
    assert "INBOX" in found[row.current_id]
    assert len(found) == 3
    (text,) = workspace.readable(ada)
    assert f"{GATEWAY}/l/news.example/" in text
    assert "https://news.example/" not in text


async def test_where_the_copy_was_deleted_for_good_too(workspace: Organisation) -> None:
    original, copy = await protected(workspace)
    (ada,) = workspace.people
    Hands(workspace).delete(ada, copy)
    untrash(workspace, original)
    await workspace.sync()
    (text,) = workspace.readable(ada)
    assert f"{GATEWAY}/l/news.example/" in text
    assert len(labels(workspace)) == 2


async def test_it_is_found_after_the_history_has_expired(workspace: Organisation) -> None:
    original, _ = await protected(workspace)
    (ada,) = workspace.people
    untrash(workspace, original)
    Hands(workspace).expire_cursor(ada)
    await workspace.sync()
    assert "TRASH" in labels(workspace)[original]


async def test_a_message_whose_links_were_given_back_is_left_to_its_owner(workspace: Organisation) -> None:
    original, _ = await protected(workspace)
    (ada,) = workspace.people
    async with workspace.runtime.db.tenant(workspace.tenant_id) as session:
        run = await request_restore(session, workspace.actor, "tenant", "")
    await restore_mailbox(workspace.runtime, workspace.tenant_id, await workspace.mailbox_id(ada), run)
    untrash(workspace, original)
    await workspace.sync()
    assert "TRASH" not in labels(workspace)[original]
    assert (await workspace.messages())[0].state == "restored"


async def test_a_restored_message_s_links_can_be_given_back_after_it_was_protected_anew(
    workspace: Organisation,
) -> None:
    original, copy = await protected(workspace)
    (ada,) = workspace.people
    trash(workspace, copy)
    untrash(workspace, original)
    await workspace.sync()
    async with workspace.runtime.db.tenant(workspace.tenant_id) as session:
        run = await request_restore(session, workspace.actor, "tenant", "")
    await restore_mailbox(workspace.runtime, workspace.tenant_id, await workspace.mailbox_id(ada), run)
    (text,) = workspace.readable(ada)
    assert "https://news.example/" in text
    assert GATEWAY not in text
