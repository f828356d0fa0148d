"""A tenant leaves: restored, deleted, with a receipt; over the real connectors and a real database."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError

from app.gateway.models import Click
from app.kit.crypto import KeyRing
from app.kit.db import Base
from app.kit.errors import Conflict, Forbidden, Refused
from app.protection import offboarding, restore, subscriptions
from app.protection.backfill import request_backfill
from app.protection.models import (
    BackfillRun,
    MessageMove,
    Offboarding,
    OffboardingReceipt,
    SubscriptionRow,
)
from app.protection.offboarding import (
    cancel_offboarding,
    delete_anyway,
    offboarding_extent,
    request_offboarding,
    retry_offboarding,
    take_up_offboarding,
)
from app.protection.quarantine import request_move
from app.protection.reach import any_work
from app.protection.receipt import find_receipt, read_token, receipt_token
from app.protection.service import resume
from app.protection.sync import sync_mailbox
from app.tenants.actor import Actor, ActorKind, Role
from app.tenants.models import Tenant, User
from connectors.base.types import Place
from connectors.emulators.common.faults import FaultKind, FaultRule
from tests.integration.protection.jobs import give_back, work_off
from tests.integration.protection.world import GATEWAY, Organisation, mail

pytestmark = pytest.mark.anyio


class Killed(BaseException):
    """The process ends here; nothing in the code under test may catch it."""


def now() -> datetime:
    return datetime.now(UTC)


async def settled(organisation: Organisation, count: int = 3) -> list[str]:
    """A subscribed mailbox with protected mail; what its owner saw before."""
    runtime, address = organisation.runtime, organisation.people[0]
    for number in range(count):
        organisation.deliver(address, mail(address, f"Mail {number}", n=number))
    before = sorted(organisation.readable(address))
    mailbox = await organisation.mailbox_id(address)
    work = await any_work(runtime, organisation.tenant_id, mailbox)
    assert work is not None
    with answering_handshakes() as callback:
        made = await work.connector.subscribe(work.mailbox, callback)
    await subscriptions._store(runtime, work, made)
    await sync_mailbox(runtime, organisation.tenant_id, mailbox)
    async with runtime.db.tenant(organisation.tenant_id) as session:
        await session.execute(text("DELETE FROM procrastinate_jobs"))
        assert len(list(await session.scalars(select(SubscriptionRow)))) == 1
    assert all(f"{GATEWAY}/l/" in content for content in organisation.readable(address))
    return before


@contextmanager
def answering_handshakes() -> Iterator[str]:
    """An address that answers Graph's validation request, and nothing else."""

    class Handshake(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            token = parse_qs(urlsplit(self.path).query).get("validationToken", [""])[0].encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/plain")
            self.send_header("Content-Length", str(len(token)))
            self.end_headers()
            self.wfile.write(token)

        def log_message(self, *_: object) -> None:
            """Tests print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handshake)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/hooks"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


async def ask(organisation: Organisation) -> uuid.UUID:
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        tenant = await session.get_one(Tenant, organisation.tenant_id)
        return await request_offboarding(session, organisation.actor, tenant.name, now())


async def state(organisation: Organisation) -> str:
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        row = await session.get(Offboarding, organisation.tenant_id)
    return "" if row is None else row.state


async def receipt(organisation: Organisation, receipt_id: uuid.UUID) -> OffboardingReceipt:
    async with organisation.runtime.db.untenanted() as session:
        return await session.get_one(OffboardingReceipt, receipt_id)


async def rows_left(organisation: Organisation) -> dict[str, int]:
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        return {
            table.name: count
            for table in Base.metadata.sorted_tables
            if "tenant_id" in table.columns
            and (count := await session.scalar(text(f'SELECT count(*) FROM "{table.name}"')))
        }


def is_at(organisation: Organisation, wanted: str) -> Callable[[], Awaitable[bool]]:
    async def reached() -> bool:
        return await state(organisation) == wanted

    return reached


async def other_tenant(organisation: Organisation) -> uuid.UUID:
    tenant_id = uuid.uuid4()
    async with organisation.runtime.db.tenant(tenant_id) as session:
        session.add(Tenant(tenant_id=tenant_id, name="Other", provider="google", external_id="other.example"))
        session.add(User(tenant_id=tenant_id, id=uuid.uuid4(), subject="s", email="x@other.example"))
    return tenant_id


async def test_everything_is_restored_then_deleted_and_a_receipt_remains(organisation: Organisation) -> None:
    other = await other_tenant(organisation)
    before = await settled(organisation)
    receipt_id = await ask(organisation)
    await work_off(organisation.runtime)
    assert sorted(organisation.readable(organisation.people[0])) == before
    assert await rows_left(organisation) == {}
    done = await receipt(organisation, receipt_id)
    assert done.state == "done"
    document: dict[str, Any] = json.loads(done.document)
    assert document["messages"] == {"restored": 3, "gone": 0, "never_changed": 0, "not_restored": 0}
    assert document["subscriptions"] == {"ended": 1, "left_to_expire": 0}
    assert document["rows_deleted"]["messages"] == 3
    assert document["rows_deleted"]["tenants"] == 1
    assert document["deleted_although_not_restored"] is False
    assert done.sha256 == hashlib.sha256(done.document.encode()).digest()
    async with organisation.runtime.db.tenant(other) as session:
        assert len(list(await session.scalars(select(User)))) == 1
        assert (await session.execute(text("SELECT count(*) FROM procrastinate_jobs"))).scalar() == 0


async def test_the_receipt_holds_no_personal_data(organisation: Organisation) -> None:
    await settled(organisation, 1)
    receipt_id = await ask(organisation)
    await work_off(organisation.runtime)
    done = await receipt(organisation, receipt_id)
    for word in ("@", organisation.domain, "Mail 0", "news.example", str(organisation.tenant_id)):
        assert word not in done.document
    columns = {column.name for column in OffboardingReceipt.__table__.columns}
    assert columns == {"id", "state", "requested_at", "updated_at", "progress", "document", "sha256"}


async def test_notifications_are_ended_at_the_provider(organisation: Organisation) -> None:
    await settled(organisation, 1)
    await ask(organisation)
    await work_off(organisation.runtime)
    world, address = organisation.emulators.world, organisation.people[0]
    if organisation.provider.value == "microsoft":
        assert world.microsoft.subscriptions_of(world.microsoft.person(address).id) == []
    else:
        assert not world.google.mailbox(address).watches


STEPS = ["_stop", "_see_restored", "_tell", "_facts", "write_receipt", "release_all"]


@pytest.mark.parametrize("where", STEPS)
async def test_killed_at_any_step_it_goes_on_and_does_nothing_twice(
    organisation: Organisation, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    before = await settled(organisation, 2)
    receipt_id = await ask(organisation)
    whole = getattr(offboarding, where)

    def die(*_: object) -> None:
        raise Killed

    monkeypatch.setattr(offboarding, where, die)
    with pytest.raises(Killed):
        await work_off(organisation.runtime)
    assert await rows_left(organisation) != {}
    monkeypatch.setattr(offboarding, where, whole)
    await give_back(organisation.runtime)
    await work_off(organisation.runtime)
    assert sorted(organisation.readable(organisation.people[0])) == before
    assert await rows_left(organisation) == {}
    done = await receipt(organisation, receipt_id)
    assert (done.state, json.loads(done.document)["messages"]["restored"]) == ("done", 2)


async def test_killed_while_restoring_it_goes_on(organisation: Organisation, monkeypatch: pytest.MonkeyPatch) -> None:
    before = await settled(organisation, 3)
    receipt_id = await ask(organisation)
    whole, calls = restore.restore_message, 0

    async def die_at_the_second(*args: Any) -> Any:
        nonlocal calls
        calls += 1
        done = await whole(*args)
        if calls == 2:
            raise Killed
        return done

    monkeypatch.setattr(restore, "restore_message", die_at_the_second)
    with pytest.raises(Killed):
        await work_off(organisation.runtime)
    await give_back(organisation.runtime)
    await work_off(organisation.runtime)
    assert sorted(organisation.readable(organisation.people[0])) == before
    assert (await receipt(organisation, receipt_id)).state == "done"


async def stuck(organisation: Organisation) -> uuid.UUID:
    """An organisation that cannot leave: writing fails, so links stay."""
    await settled(organisation, 2)
    receipt_id = await ask(organisation)
    await work_off(organisation.runtime, is_at(organisation, "restoring"))
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        # As if the restore had ended with failures: its messages are still protected.
        await session.execute(text("UPDATE restore_runs SET state = 'done', failed = 2"))
    await work_off(organisation.runtime, is_at(organisation, "stuck"))
    assert await state(organisation) == "stuck"
    return receipt_id


async def test_nothing_is_deleted_while_links_are_left(organisation: Organisation) -> None:
    receipt_id = await stuck(organisation)
    await work_off(organisation.runtime)
    assert await state(organisation) == "stuck"
    assert (await rows_left(organisation))["messages"] == 2
    told = await receipt(organisation, receipt_id)
    assert (told.state, told.progress["left"]) == ("stuck", 2)
    await take_up_offboarding(organisation.runtime, organisation.tenant_id)
    await work_off(organisation.runtime)
    assert (await rows_left(organisation))["messages"] == 2


async def test_trying_again_restores_the_rest_and_goes_on(organisation: Organisation) -> None:
    receipt_id = await stuck(organisation)
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        await retry_offboarding(session, organisation.actor)
    await work_off(organisation.runtime)
    done = await receipt(organisation, receipt_id)
    assert json.loads(done.document)["messages"]["restored"] == 2


async def test_deleting_anyway_says_so_in_the_receipt(organisation: Organisation) -> None:
    receipt_id = await stuck(organisation)
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        tenant = await session.get_one(Tenant, organisation.tenant_id)
        await delete_anyway(session, organisation.actor, tenant.name)
    await work_off(organisation.runtime)
    assert await rows_left(organisation) == {}
    document = json.loads((await receipt(organisation, receipt_id)).document)
    assert document["messages"]["not_restored"] == 2
    assert document["deleted_although_not_restored"] is True


async def test_nothing_is_deleted_while_another_job_of_the_organisation_runs(organisation: Organisation) -> None:
    await settled(organisation, 1)
    await ask(organisation)
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        await session.execute(
            text(
                "INSERT INTO procrastinate_jobs (queue_name, task_name, args, status) VALUES "
                "('default', 'mailbox.sync', jsonb_build_object('tenant_id', CAST(:t AS text)), 'doing')"
            ),
            {"t": str(organisation.tenant_id)},
        )
    await work_off(organisation.runtime, is_at(organisation, "deleting"))
    for _ in range(3):
        await offboarding.offboard_step(organisation.runtime, organisation.tenant_id)
    assert (await rows_left(organisation))["tenants"] == 1
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        await session.execute(text("DELETE FROM procrastinate_jobs WHERE task_name = 'mailbox.sync'"))
    await work_off(organisation.runtime)
    assert await rows_left(organisation) == {}


async def test_what_arrives_after_the_deletion_is_swept_up(organisation: Organisation) -> None:
    await settled(organisation, 1)
    await ask(organisation)

    async def gone() -> bool:
        return await rows_left(organisation) == {}

    await work_off(organisation.runtime, gone)
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        session.add(
            Click(
                tenant_id=organisation.tenant_id,
                id=uuid.uuid4(),
                at=now(),
                url="https://late.example/",
                host="late.example",
                level="clean",
                action="redirect",
            )
        )
    assert await rows_left(organisation) == {"clicks": 1}
    await work_off(organisation.runtime)
    assert await rows_left(organisation) == {}


async def test_cancelling_keeps_everything_and_leaves_protection_paused(organisation: Organisation) -> None:
    await settled(organisation, 2)
    receipt_id = await ask(organisation)
    await work_off(organisation.runtime, is_at(organisation, "restoring"))
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        await cancel_offboarding(session, organisation.actor, now())
    await work_off(organisation.runtime)
    assert (await receipt(organisation, receipt_id)).state == "cancelled"
    assert (await rows_left(organisation))["messages"] == 2
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        assert (await session.get_one(Tenant, organisation.tenant_id)).status == "paused"
        await resume(session, organisation.actor)
    # It may leave again, with another receipt.
    assert await ask(organisation) != receipt_id


async def test_while_leaving_nothing_new_is_protected_and_nothing_resumes(organisation: Organisation) -> None:
    await settled(organisation, 1)
    await ask(organisation)
    address = organisation.people[0]
    organisation.deliver(address, mail(address, "Later"))
    report = await sync_mailbox(organisation.runtime, organisation.tenant_id, await organisation.mailbox_id(address))
    assert "leaving" in report.stopped
    with pytest.raises(Conflict):
        async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
            await resume(session, organisation.actor)


async def test_a_running_backfill_ends_and_quarantine_is_released(organisation: Organisation) -> None:
    before = await settled(organisation, 1)
    runtime, tenant_id = organisation.runtime, organisation.tenant_id
    mailbox = await organisation.mailbox_id(organisation.people[0])
    (row,) = await organisation.messages()
    async with runtime.db.tenant(tenant_id) as session:
        await request_move(session, organisation.actor, row.id, Place.QUARANTINE, "")
    await work_off(runtime)
    async with runtime.db.tenant(tenant_id) as session:
        assert (await session.scalars(select(MessageMove.state))).all() == ["moved"]
        await request_backfill(session, organisation.actor, "mailbox", str(mailbox), days=3, now=now())
    await ask(organisation)
    async with runtime.db.tenant(tenant_id) as session:
        assert (await session.scalars(select(BackfillRun.state))).all() == ["cancelled"]
    await work_off(runtime)
    assert organisation.readable(organisation.people[0]) == before
    assert [entry.message.place for entry in organisation.view(organisation.people[0])] == ["Inbox"]


async def test_what_is_half_written_is_finished_and_then_restored(
    organisation: Organisation, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = organisation.people[0]
    organisation.deliver(address, mail(address))
    before = organisation.readable(address)
    mailbox = await organisation.mailbox_id(address)
    from app.protection import protect

    def die(*_: object, **__: object) -> None:
        raise Killed

    whole = protect._close
    monkeypatch.setattr(protect, "_close", die)
    with pytest.raises(Killed):
        await sync_mailbox(organisation.runtime, organisation.tenant_id, mailbox)
    monkeypatch.setattr(protect, "_close", whole)
    (row,) = await organisation.messages()
    assert row.state == "writing"
    receipt_id = await ask(organisation)
    await work_off(organisation.runtime)
    assert organisation.readable(address) == before
    assert json.loads((await receipt(organisation, receipt_id)).document)["messages"]["restored"] == 1


async def test_a_provider_that_is_away_only_delays_it(organisation: Organisation) -> None:
    before = await settled(organisation, 1)
    receipt_id = await ask(organisation)
    faults = organisation.emulators.world.faults
    faults.add(FaultRule(FaultKind.UNAVAILABLE, limit=6, retry_after=0))
    await work_off(organisation.runtime)
    assert organisation.readable(organisation.people[0]) == before
    assert (await receipt(organisation, receipt_id)).state == "done"


async def test_only_an_owner_who_types_the_name_may_begin(organisation: Organisation) -> None:
    await settled(organisation, 1)
    database = organisation.runtime.db
    operator = Actor(ActorKind.PERSON, organisation.tenant_id, Role.OPERATOR, uuid.uuid4(), "operator")
    cases: list[tuple[type[Exception], Actor, str]] = [
        (Forbidden, operator, "Nordwind"),
        (Refused, organisation.actor, "Somebody else"),
        (Refused, organisation.actor, ""),
    ]
    for error, who, name in cases:
        with pytest.raises(error):
            async with database.tenant(organisation.tenant_id) as session:
                await request_offboarding(session, who, name, now())
    await ask(organisation)
    with pytest.raises(Conflict, match="already"):
        await ask(organisation)
    async with database.tenant(organisation.tenant_id) as session:
        with pytest.raises(Forbidden):
            await cancel_offboarding(session, operator, now())
        with pytest.raises(Forbidden):
            await delete_anyway(session, operator, "Nordwind")


async def test_what_leaving_touches_is_said_in_numbers_before(organisation: Organisation) -> None:
    await settled(organisation, 2)
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        extent = await offboarding_extent(session, organisation.actor)
    assert (extent.mailboxes, extent.to_restore, extent.messages, extent.quarantined) == (2, 2, 2, 0)


async def test_a_tenant_that_is_not_leaving_cannot_be_erased(organisation: Organisation) -> None:
    await settled(organisation, 1)
    for tenant in (organisation.tenant_id, None):
        with pytest.raises(DBAPIError, match="no tenant is being erased"):
            context = organisation.runtime.db.tenant(tenant) if tenant else organisation.runtime.db.untenanted()
            async with context as session:
                await session.execute(text("SELECT postern_erase_tenant()"))
    assert (await rows_left(organisation))["messages"] == 1


async def test_a_receipt_is_found_by_its_own_link_alone(organisation: Organisation) -> None:
    await settled(organisation, 1)
    receipt_id = await ask(organisation)
    keys = organisation.runtime.keyring
    token = receipt_token(keys, receipt_id)
    async with organisation.runtime.db.untenanted() as session:
        found = await find_receipt(session, keys, token)
        assert found is not None
        assert found.id == receipt_id
    changed = token[:-1] + ("A" if token[-1] != "A" else "B")
    for wrong in ("", "x", token[:-1], token + "A", changed, str(receipt_id), "ä" * 64, "!" * 64):
        assert read_token(keys, wrong) is None
    newer = KeyRing({2: b"another master key of 32 bytes!!", 1: bytes(range(32))})
    assert read_token(newer, token) == receipt_id
    assert read_token(KeyRing({2: b"another master key of 32 bytes!!"}), token) is None
    assert now() - timedelta(hours=1) < found.requested_at
