"""Jobs: taken up when their worker died, done at once when something new comes, taken in turn over tenants."""

from __future__ import annotations

import asyncio
import uuid
from datetime import datetime, timedelta

import psycopg
import pytest
from procrastinate import RetryDecision
from procrastinate.jobs import Job, Status
from sqlalchemy import select, text, update

from app.kit.clock import utc_now
from app.kit.db import Database
from app.kit.jobs import defer, make_app
from app.protection import queue
from app.protection.again import Again
from app.protection.fairness import FairJobManager
from app.protection.liveness import Bereaved, Life
from app.protection.models import MailboxRow
from app.protection.runtime import Runtime
from app.protection.sync import SyncReport, sync_mailbox
from app.protection.worker import run_worker
from connectors.base.types import Provider
from tests.integration.protection.world import Organisation, mail

pytestmark = pytest.mark.anyio


async def jobs(database: Database) -> list[tuple[str, str]]:
    async with database.untenanted() as session:
        rows = await session.execute(text("SELECT task_name, status::text FROM procrastinate_jobs ORDER BY id"))
        return [(row[0], row[1]) for row in rows]


async def its_worker_dies(database: Database) -> None:
    """The waiting jobs were taken by a worker that gives no sign of life any more."""
    async with database.untenanted() as session:
        worker = (await session.execute(text("SELECT worker_id FROM procrastinate_register_worker_v1()"))).scalar()
        await session.execute(
            text("UPDATE procrastinate_workers SET last_heartbeat = now() - interval '1 hour' WHERE id = :id"),
            {"id": worker},
        )
        await session.execute(
            text("UPDATE procrastinate_jobs SET status = 'doing', worker_id = :id WHERE status = 'todo'"),
            {"id": worker},
        )


async def test_a_job_of_a_dead_worker_is_done_again(organisation: Organisation) -> None:
    runtime = organisation.runtime
    mailbox = await organisation.mailbox_id(organisation.people[0])
    async with runtime.db.untenanted() as session:
        await session.execute(text("DELETE FROM procrastinate_jobs"))
    async with runtime.db.tenant(organisation.tenant_id) as session:
        await queue.defer_sync(session, organisation.tenant_id, mailbox)
    await its_worker_dies(runtime.db)
    app = make_app(runtime.db.url)
    app.job_manager = FairJobManager(app.connector, 4, asyncio.Event())
    async with app.open_async():
        assert await Bereaved(app, utc_now).take_up() == 1
        assert await jobs(runtime.db) == [(queue.SYNC, "todo")]


async def test_a_job_of_a_dead_worker_gives_way_to_an_equal_one_that_waits(organisation: Organisation) -> None:
    runtime = organisation.runtime
    mailbox = await organisation.mailbox_id(organisation.people[0])
    async with runtime.db.untenanted() as session:
        await session.execute(text("DELETE FROM procrastinate_jobs"))
    async with runtime.db.tenant(organisation.tenant_id) as session:
        await queue.defer_sync(session, organisation.tenant_id, mailbox)
    await its_worker_dies(runtime.db)
    async with runtime.db.tenant(organisation.tenant_id) as session:
        assert await queue.defer_sync(session, organisation.tenant_id, mailbox, notified=True)
    app = make_app(runtime.db.url)
    app.job_manager = FairJobManager(app.connector, 4, asyncio.Event())
    async with app.open_async():
        await Bereaved(app, utc_now).take_up()
        assert await jobs(runtime.db) == [(queue.SYNC, "todo")]
        worker = await app.job_manager.register_worker()
        assert await app.job_manager.fetch_job(None, worker) is not None


async def test_a_notification_does_not_wait_for_a_look_that_was_put_off(organisation: Organisation) -> None:
    runtime = organisation.runtime
    mailbox = await organisation.mailbox_id(organisation.people[0])
    async with runtime.db.tenant(organisation.tenant_id) as session:
        await queue.defer_sync(session, organisation.tenant_id, mailbox, at=utc_now() + timedelta(minutes=5))
    assert None not in await organisation.waiting(queue.SYNC)
    async with runtime.db.tenant(organisation.tenant_id) as session:
        assert not await queue.defer_sync(session, organisation.tenant_id, mailbox, notified=True)
    assert await organisation.waiting(queue.SYNC) == [None]


async def test_a_look_at_many_mailboxes_leaves_out_those_that_wait_already(organisation: Organisation) -> None:
    runtime = organisation.runtime
    ids = [await organisation.mailbox_id(address) for address in organisation.people]
    later = utc_now() + timedelta(minutes=5)
    async with runtime.db.tenant(organisation.tenant_id) as session:
        await queue.defer_sync(session, organisation.tenant_id, ids[0], at=later)
    for _ in range(2):
        await queue.defer_syncs(runtime.db, organisation.tenant_id, ids)
    assert sorted(str(at) for at in await organisation.waiting(queue.SYNC)) == sorted(["None", str(later)])


async def put(database: Database, tenant: uuid.UUID, count: int) -> None:
    async with database.tenant(tenant) as session:
        for number in range(count):
            await defer(session, "some.task", {}, queue=queue.tenant_queue(tenant), lock=f"{tenant}:{number}")


async def test_tenants_take_turns_however_much_each_has_waiting(database: Database) -> None:
    many, few = uuid.uuid4(), uuid.uuid4()
    await put(database, many, 20)
    await put(database, few, 2)
    app = make_app(database.url)
    manager = FairJobManager(app.connector, 4, asyncio.Event())
    async with app.open_async():
        worker = await manager.register_worker()
        order = []
        for _ in range(6):
            job = await manager.fetch_job(None, worker)
            assert job is not None
            order.append(job.queue)
            await manager.finish_job(job, Status.SUCCEEDED, delete_job=True)
    assert sorted(order[:2]) == sorted(order[2:4]) == sorted(map(queue.tenant_queue, (many, few)))
    assert order[4:] == [queue.tenant_queue(many)] * 2


async def test_one_tenant_never_takes_all_slots_of_a_worker(database: Database) -> None:
    many, few = uuid.uuid4(), uuid.uuid4()
    await put(database, many, 20)
    app = make_app(database.url)
    manager = FairJobManager(app.connector, 4, asyncio.Event())
    async with app.open_async():
        worker = await manager.register_worker()
        taken = [await manager.fetch_job(None, worker) for _ in range(4)]
        assert [job is not None for job in taken] == [True, True, True, False]
        await put(database, few, 1)
        manager.forget_what_is_ready()
        job = await manager.fetch_job(None, worker)
        assert job is not None and job.queue == queue.tenant_queue(few)


async def a_job_is_taken(database: Database, manager: FairJobManager) -> Job:
    await put(database, uuid.uuid4(), 1)
    job = await manager.fetch_job(None, await manager.register_worker())
    assert job is not None
    return job


async def test_a_worker_whose_connection_ends_is_dead_at_the_second_look(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.protection.liveness.GRACE_SECONDS", 0.0)
    app, life = make_app(database.url), Life(database.url)
    manager = FairJobManager(app.connector, 4, asyncio.Event(), life=life)
    async with app.open_async():
        await a_job_is_taken(database, manager)
        bereaved = Bereaved(app, utc_now)
        assert [await bereaved.take_up() for _ in range(3)] == [0, 0, 0]
        await life.end()  # what PostgreSQL sees of a process that was killed
        looks = [await bereaved.take_up()]
        while not any(looks):  # PostgreSQL needs a moment to notice
            looks.append(await bereaved.take_up())
        assert len(looks) > 1
        assert sum(looks) == 1
        assert await jobs(database) == [("some.task", "todo")]


async def test_the_living_are_not_taken_for_dead_after_a_restart_of_the_database(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.protection.liveness.GRACE_SECONDS", 1e9)
    app, life = make_app(database.url), Life(database.url)
    manager = FairJobManager(app.connector, 4, asyncio.Event(), life=life)
    async with app.open_async():
        await a_job_is_taken(database, manager)
        await life.end()  # every lock is gone, and not taken again yet
        bereaved = Bereaved(app, utc_now)
        assert [await bereaved.take_up() for _ in range(3)] == [0, 0, 0]


async def test_a_worker_takes_its_lock_again_when_its_connection_was_cut(database: Database) -> None:
    life = Life(database.url)
    held = text("SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711 AND objsubid = 2")
    await life.begin(4711)
    async with database.untenanted() as session:
        first = (await session.execute(held)).scalar_one()
        await session.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": first})
    while True:
        async with database.untenanted() as session:
            if (await session.execute(held)).scalar_one_or_none() not in (None, first):
                break
        await asyncio.sleep(0.05)
    await life.end()


async def test_a_worker_that_was_thought_dead_does_not_end_its_successors_job(database: Database) -> None:
    app = make_app(database.url)
    manager = FairJobManager(app.connector, 4, asyncio.Event())
    async with app.open_async():
        job = await a_job_is_taken(database, manager)
        async with database.untenanted() as session:
            await session.execute(text("UPDATE procrastinate_workers SET last_heartbeat = now() - interval '1 hour'"))
        assert await Bereaved(app, utc_now).take_up() == 1
        again = await manager.fetch_job(None, await manager.register_worker())
        assert again is not None and again.id == job.id
        await manager.finish_job(job, Status.SUCCEEDED, delete_job=True)
        await manager.retry_job(job)
        assert await jobs(database) == [("some.task", "doing")]
        await manager.finish_job(again, Status.SUCCEEDED, delete_job=True)
        assert await jobs(database) == []


async def test_a_job_that_meets_an_error_of_ours_is_seen_at_its_mailbox_and_tried_again(
    organisation: Organisation, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = organisation.runtime
    mailbox = await organisation.mailbox_id(organisation.people[0])
    organisation.deliver(organisation.people[0], mail(organisation.people[0]))
    tries = 0

    async def sometimes(runtime: Runtime, tenant_id: uuid.UUID, mailbox_id: int) -> SyncReport:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise KeyError("a mistake in our code")
        box = await row()
        assert "KeyError" in box.error and box.failures == 1
        return await sync_mailbox(runtime, tenant_id, mailbox_id)

    async def row() -> MailboxRow:
        async with runtime.db.tenant(organisation.tenant_id) as session:
            return (await session.scalars(select(MailboxRow).where(MailboxRow.id == mailbox))).one()

    monkeypatch.setattr("app.protection.tasks.sync_mailbox", sometimes)
    monkeypatch.setattr("app.protection.again._FIRST_SECONDS", 0.05)
    async with runtime.db.untenanted() as session:
        await session.execute(text("DELETE FROM procrastinate_jobs"))
    async with runtime.db.tenant(organisation.tenant_id) as session:
        await queue.defer_sync(session, organisation.tenant_id, mailbox, notified=True)
    working = asyncio.create_task(run_worker(runtime, asyncio.Event()))
    try:
        while [message.state for message in await organisation.messages()] != ["protected"]:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    finally:
        runtime.stopping.set()
        await working
    assert tries >= 2
    box = await row()
    assert (box.error, box.failures) == ("", 0)


def decided(exception: BaseException, attempts: int = 0, priority: int = 0) -> RetryDecision | None:
    job = Job(id=1, queue="q", lock="l", queueing_lock="ql", task_name="t", attempts=attempts, priority=priority)
    return Again().get_retry_decision(exception=exception, job=job)


def test_a_job_waits_ever_longer_after_an_error_of_ours_and_is_given_up_one_day() -> None:
    before = utc_now()
    first, later = decided(KeyError(), priority=10), decided(KeyError(), attempts=12, priority=-20)
    assert first is not None and first.retry_at is not None and first.retry_at < before + timedelta(seconds=5)
    assert first.priority == queue.PUT_OFF_PRIORITY
    assert later is not None and later.retry_at is not None and later.retry_at > before + timedelta(minutes=4)
    assert later.priority == -20
    assert decided(KeyError(), attempts=20) is None


def test_a_job_that_met_no_database_or_a_stopping_worker_is_never_given_up() -> None:
    for error in (psycopg.OperationalError(), OSError(), asyncio.CancelledError()):
        decision = decided(error, attempts=10_000, priority=10)
        assert decision is not None and decision.priority == 10


async def test_equal_jobs_coalesce_whatever_the_jobs_own_numbers_are(organisation: Organisation) -> None:
    db, tenant_id = organisation.runtime.db, organisation.tenant_id
    mailboxes = [1_000_001, 1_000_002]
    async with db.untenanted() as session:
        await session.execute(text("DELETE FROM procrastinate_jobs"))
    for _ in range(2):
        await db.at_once(tenant_id, queue.notified(tenant_id, mailboxes))
        await queue.defer_syncs(db, tenant_id, mailboxes)
        await queue.defer_subscribes(db, tenant_id, [(mailbox, 5.0) for mailbox in mailboxes])

    assert sorted(await jobs(db)) == [(task, "todo") for task in (queue.SUBSCRIBE, queue.SYNC) for _ in mailboxes]


async def test_gmail_is_looked_at_again_after_a_notification_and_the_first_look(organisation: Organisation) -> None:
    """Within a second of an event Gmail announces no other one."""
    db, mailbox = organisation.runtime.db, await organisation.mailbox_id(organisation.people[0])
    at_gmail = organisation.provider is Provider.GOOGLE

    async def looks_planned(last_notified: datetime | None) -> int:
        async with db.untenanted() as session:
            await session.execute(text("DELETE FROM procrastinate_jobs"))
        async with db.tenant(organisation.tenant_id) as session:
            await session.execute(update(MailboxRow).values(last_notified_at=last_notified))
        await sync_mailbox(organisation.runtime, organisation.tenant_id, mailbox)
        return len(await organisation.waiting(queue.SYNC))

    assert await looks_planned(None) == at_gmail  # the first look comes just after the watch, which is an event
    assert await looks_planned(None) == 0
    assert await looks_planned(utc_now()) == at_gmail
    assert await looks_planned(utc_now() - timedelta(seconds=5)) == 0
