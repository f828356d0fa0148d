"""Microsoft 365 where changing received mail is refused: off by default, and by copies where that was chosen.

What other tests ask of both providers is asked here again of an organisation whose messages are replaced by copies.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from app.audit.models import AuditEntry
from app.kit.crypto import KeyRing
from app.kit.db import Database
from app.kit.errors import Refused
from app.protection.copying import choose_copies
from app.protection.onboarding import checks_from_json, sufficient
from app.protection.quarantine import request_move, request_release, run_move
from app.protection.service import request_restore
from app.protection.tasks import probe, restore_mailbox
from app.tenants.models import Tenant
from connectors.base.types import CheckStatus, Place, Provider
from connectors.emulators.microsoft.model import Message
from connectors.emulators.testing import Emulators
from tests.integration.protection.hands import Hands
from tests.integration.protection.test_crash_between_steps import (  # noqa: F401  # collected here, with copies
    test_protecting_goes_on_where_it_was,
    test_restoring_goes_on_where_it_was,
    test_what_was_half_written_is_finished_even_while_protection_is_paused,
)
from tests.integration.protection.test_job_taken_over import (  # noqa: F401  # collected here, with copies
    test_a_step_of_a_job_that_is_anothers_is_not_taken,
)
from tests.integration.protection.world import (
    GATEWAY,
    Organisation,
    choose_copies_for,
    connect,
    mail,
    provider_settings,
)

pytestmark = pytest.mark.anyio


@pytest.fixture
async def organisation(
    database: Database, emulators: Emulators, keyring: KeyRing, tmp_path: Path
) -> AsyncIterator[Organisation]:
    settings = provider_settings(emulators, tmp_path)
    made = await connect(database, emulators, Provider.MICROSOFT, settings, keyring, "ada", "ben")
    await choose_copies_for(made)
    yield made
    await made.runtime.providers.aclose()


def stored(organisation: Organisation, message_id: str) -> Message:
    state = organisation.emulators.world.microsoft
    return state.message(state.person(organisation.people[0]).id, message_id)


def folder(organisation: Organisation, message_id: str) -> str:
    state = organisation.emulators.world.microsoft
    person = state.person(organisation.people[0])
    return state.folder(person.id, stored(organisation, message_id).folder_id).well_known or ""


def move(organisation: Organisation, message_id: str, to: str) -> None:
    state = organisation.emulators.world.microsoft
    state.move(stored(organisation, message_id), state.folder(state.person(organisation.people[0]).id, to))


def state_of(message: Message) -> dict[str, Any]:
    names = "subject body_type received_at sent_at from_ sender to cc reply_to importance categories flag is_read"
    names += " is_draft internet_message_id conversation_id inference folder_id"
    found = {name: getattr(message, name) for name in names.split()}
    # Graph gives times to the second.
    return found | {name: found[name].replace(microsecond=0) for name in ("received_at", "sent_at")}


async def restore_all(organisation: Organisation) -> None:
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        run = await request_restore(session, organisation.actor, "tenant", "")
    mailbox = await organisation.mailbox_id(organisation.people[0])
    await restore_mailbox(organisation.runtime, organisation.tenant_id, mailbox, run)


async def audited(organisation: Organisation) -> list[str]:
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        return list(await session.scalars(select(AuditEntry.action).order_by(AuditEntry.id)))


async def test_a_copy_takes_the_place_of_the_original_with_all_that_its_owner_set(organisation: Organisation) -> None:
    (ada, _) = organisation.people
    original = organisation.deliver(ada, mail(ada, "Hello"))
    message = stored(organisation, original)
    message.categories, message.importance, message.flag, message.is_read = ["Red", "Shop"], "high", "flagged", True
    organisation.emulators.world.microsoft.changed(message)
    before = state_of(message)

    await organisation.sync()
    await organisation.sync()

    (row,) = await organisation.messages()
    assert (row.state, row.external_id) == ("protected", original)
    assert row.current_id != original
    assert state_of(stored(organisation, row.current_id)) == before
    assert folder(organisation, original) == "deleteditems"
    (text,) = organisation.readable(ada)
    assert f"{GATEWAY}/l/news.example/" in text
    assert "https://news.example/" not in text


async def test_restoring_brings_the_original_back_in_the_copy_s_place_and_state(organisation: Organisation) -> None:
    (ada, _) = organisation.people
    original = organisation.deliver(ada, mail(ada))
    body = stored(organisation, original).body
    await organisation.sync()
    (row,) = await organisation.messages()
    copy = row.current_id
    message = stored(organisation, copy)
    message.is_read, message.flag, message.categories = True, "complete", ["Later"]
    organisation.emulators.world.microsoft.changed(message)
    move(organisation, copy, "archive")

    await restore_all(organisation)
    await organisation.sync()

    (row,) = await organisation.messages()
    assert (row.state, row.current_id) == ("restored", original)
    assert folder(organisation, original) == "archive"
    assert folder(organisation, copy) == "deleteditems"
    back = stored(organisation, original)
    assert (back.body, back.is_read, back.flag, back.categories) == (body, True, "complete", ["Later"])


async def test_where_the_bin_was_emptied_the_original_links_are_given_back_by_a_copy(
    organisation: Organisation,
) -> None:
    (ada, _) = organisation.people
    original = organisation.deliver(ada, mail(ada))
    before = organisation.readable(ada)
    await organisation.sync()
    Hands(organisation).delete(ada, original)

    await restore_all(organisation)
    await organisation.sync()

    assert organisation.readable(ada) == before
    (row,) = await organisation.messages()
    assert row.state == "restored"
    assert not any("Postern" in name for name in stored(organisation, row.current_id).extended)


async def test_an_original_taken_out_of_the_bin_goes_back_there(organisation: Organisation) -> None:
    (ada, _) = organisation.people
    original = organisation.deliver(ada, mail(ada))
    await organisation.sync()
    await organisation.sync()
    move(organisation, original, "inbox")

    await organisation.sync()

    assert folder(organisation, original) == "deleteditems"
    (text,) = organisation.readable(ada)
    assert f"{GATEWAY}/l/news.example/" in text


async def test_where_the_copy_was_thrown_away_an_original_taken_out_of_the_bin_is_protected_anew(
    organisation: Organisation,
) -> None:
    (ada, _) = organisation.people
    original = organisation.deliver(ada, mail(ada))
    await organisation.sync()
    await organisation.sync()
    (row,) = await organisation.messages()
    move(organisation, row.current_id, "deleteditems")
    move(organisation, original, "inbox")
    Hands(organisation).expire_cursor(ada)  # as many messages in each folder as before: only a full round sees it

    await organisation.sync()
    await organisation.sync()

    (again,) = await organisation.messages()
    assert again.state == "protected"
    assert again.current_id not in (original, row.current_id)
    (text,) = organisation.readable(ada)
    assert f"{GATEWAY}/l/news.example/" in text


async def test_without_the_choice_a_refusal_stops_the_tenant_and_nothing_is_copied(organisation: Organisation) -> None:
    (ada, _) = organisation.people
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        assert await choose_copies(session, organisation.actor, False)
    organisation.deliver(ada, mail(ada))

    assert (await organisation.sync()).stopped == "blocked"

    (text,) = organisation.readable(ada)
    assert "https://news.example/" in text
    assert len(organisation.emulators.world.microsoft.messages) == 1
    assert (await audited(organisation))[-3:] == ["copies.allowed", "copies.forbidden", "tenant.blocked"]


async def test_a_copy_is_restored_though_the_choice_was_taken_back(organisation: Organisation) -> None:
    (ada, _) = organisation.people
    organisation.deliver(ada, mail(ada))
    before = organisation.readable(ada)
    await organisation.sync()
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        await choose_copies(session, organisation.actor, False)

    await restore_all(organisation)

    assert organisation.readable(ada) == before


async def test_where_exchange_makes_a_draft_of_the_copy_writing_stops_and_the_original_stands(
    organisation: Organisation,
) -> None:
    (ada, _) = organisation.people
    organisation.emulators.world.microsoft.switches.creation_makes_drafts = True
    original = organisation.deliver(ada, mail(ada))

    assert (await organisation.sync()).stopped == "blocked"

    assert folder(organisation, original) == "inbox"
    (text,) = organisation.readable(ada)
    assert "https://news.example/" in text


async def test_a_message_with_another_one_attached_is_left_alone_and_says_why(organisation: Organisation) -> None:
    (ada, _) = organisation.people
    raw = (
        b"From: s@other.example\r\nTo: a@x.example\r\nSubject: Fwd\r\nMIME-Version: 1.0\r\n"
        b"Message-ID: <fwd@other.example>\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
        b"--b\r\nContent-Type: text/html\r\n\r\n<p><a href='https://news.example/'>x</a></p>\r\n"
        b"--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: inner\r\n\r\nhello\r\n--b--\r\n"
    )
    original = organisation.deliver(ada, raw)

    await organisation.sync()

    (row,) = await organisation.messages()
    assert (row.state, row.reason) == ("skipped", "not_copyable")
    assert folder(organisation, original) == "inbox"


async def test_the_missing_permission_is_no_failed_check_any_more_once_copies_are_allowed(
    organisation: Organisation,
) -> None:
    for allowed in (True, False):
        async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
            await choose_copies(session, organisation.actor, allowed)
        await probe(organisation.runtime, organisation.tenant_id)
        async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
            tenant = await session.get_one(Tenant, organisation.tenant_id)
            checks = checks_from_json(tenant.checks)
        (advanced,) = (check for check in checks if check.key == "mail_advanced")
        assert advanced.status is (CheckStatus.SKIPPED if allowed else CheckStatus.FAILED)
        assert sufficient(checks) is allowed
        assert tenant.status == "active"


async def test_quarantine_and_release_work_on_the_copy(organisation: Organisation) -> None:
    (ada, _) = organisation.people
    original = organisation.deliver(ada, mail(ada))
    await organisation.sync()
    (row,) = await organisation.messages()
    mailbox = await organisation.mailbox_id(ada)
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        move_id = await request_move(session, organisation.actor, row.id, Place.QUARANTINE, "because")
    await run_move(organisation.runtime, organisation.tenant_id, mailbox, move_id)
    assert organisation.readable(ada) == []
    await organisation.sync()
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        await request_release(session, organisation.actor, move_id)
    await run_move(organisation.runtime, organisation.tenant_id, mailbox, move_id)
    await organisation.sync()

    assert folder(organisation, row.current_id) == "inbox"
    assert folder(organisation, original) == "deleteditems"
    (text,) = organisation.readable(ada)
    assert f"{GATEWAY}/l/news.example/" in text


async def test_older_mail_is_replaced_by_copies_too_and_no_copy_is_taken_for_mail(organisation: Organisation) -> None:
    (ada, _) = organisation.people
    for number in range(5):
        organisation.deliver(ada, mail(ada, f"old {number}", n=number))
    await organisation.sync()
    Hands(organisation).expire_cursor(ada)
    await organisation.sync()
    await organisation.sync()

    rows = await organisation.messages()
    assert len(rows) == 5
    assert {row.state for row in rows} == {"protected"}
    assert len(organisation.readable(ada)) == 5
    assert len(organisation.emulators.world.microsoft.messages) == 10


async def test_at_gmail_there_is_nothing_to_choose(organisation: Organisation) -> None:
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        tenant = await session.get_one(Tenant, organisation.tenant_id)
        tenant.provider = "google"
        with pytest.raises(Refused):
            await choose_copies(session, organisation.actor, False)
        tenant.provider = "microsoft"
