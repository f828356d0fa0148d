"""Backfill over the real connectors, the emulated providers and a real database."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select, text, update

from app.kit.errors import Conflict, Forbidden, NotFound, Refused
from app.protection import backfill_work
from app.protection.backfill import (
    BackfillProgress,
    backfill_extent,
    backfill_progress,
    cancel_backfill,
    request_backfill,
)
from app.protection.backfill_work import backfill_mailbox
from app.protection.models import BackfillPart, MailboxRow
from app.protection.sync import sync_mailbox
from app.tenants.actor import Actor, ActorKind, Role
from app.tenants.models import Domain, Tenant
from connectors.base.types import Provider
from connectors.emulators.common.faults import FaultKind, FaultRule
from tests.integration.protection.world import GATEWAY, Organisation, mail

pytestmark = pytest.mark.anyio


class Killed(BaseException):
    """The process ends here; nothing in the code under test may catch it."""


def now() -> datetime:
    return datetime.now(UTC)


def links(organisation: Organisation) -> int:
    """Links that a message has: Graph shows one body, Gmail the HTML and the text."""
    return 1 if organisation.provider is Provider.MICROSOFT else 2


async def protect_from_now(organisation: Organisation) -> None:
    """Protection is switched on this minute: what is there already came before."""
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        await session.execute(update(Domain).values(protect_since=now() + timedelta(minutes=1)))


async def ask(organisation: Organisation, scope: str = "mailbox", dry_run: bool = False, days: int = 30) -> int:
    target = str(await organisation.mailbox_id(organisation.people[0]))
    if scope != "mailbox":
        target = organisation.domain if scope == "domain" else ""
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        return await request_backfill(session, organisation.actor, scope, target, days=days, now=now(), dry_run=dry_run)


async def step(organisation: Organisation, run: int, address: str) -> None:
    mailbox = await organisation.mailbox_id(address)
    await backfill_mailbox(organisation.runtime, organisation.tenant_id, mailbox, run)


async def progress(organisation: Organisation, run: int) -> BackfillProgress:
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        (found,) = await backfill_progress(session, organisation.actor, now(), run)
    return found


async def finish(organisation: Organisation, run: int, *addresses: str, steps: int = 60) -> BackfillProgress:
    for _ in range(steps):
        for address in addresses or (organisation.people[0],):
            await step(organisation, run, address)
        found = await progress(organisation, run)
        if found.run.state not in ("waiting", "running"):
            return found
    raise AssertionError(f"not finished: {found}")


def deliver(organisation: Organisation, count: int, person: int = 0) -> None:
    address = organisation.people[person]
    for number in range(count):
        organisation.deliver(address, mail(address, f"Old {number}", n=number))


async def test_mail_from_before_is_protected_once_and_counted(organisation: Organisation) -> None:
    deliver(organisation, 13)
    await protect_from_now(organisation)
    run = await ask(organisation)
    done = await finish(organisation, run)
    assert (done.total, done.looked, done.done, done.skipped, done.failed) == (13, 13, 13, 0, 0)
    assert done.run.state == "done"
    shown = organisation.readable(organisation.people[0])
    assert len(shown) == 13
    for content in shown:
        assert "https://news.example/" not in content
        assert content.count(f"{GATEWAY}/l/news.example/") == links(organisation)
    # Nothing of it is done again: neither by a sync nor by another backfill.
    await sync_mailbox(
        organisation.runtime, organisation.tenant_id, await organisation.mailbox_id(organisation.people[0])
    )
    again = await finish(organisation, await ask(organisation))
    assert (again.done, again.skipped, again.failed) == (0, 0, 0)
    assert again.already == again.looked
    assert organisation.readable(organisation.people[0]) == shown


async def test_mail_older_than_the_range_is_left_alone(organisation: Organisation) -> None:
    deliver(organisation, 2)
    await protect_from_now(organisation)
    before = organisation.readable(organisation.people[0])
    run = await ask(organisation, days=1)
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        await session.execute(text("UPDATE backfill_runs SET since = now() + interval '1 hour'"))
    done = await finish(organisation, run)
    assert done.done == 0
    assert organisation.readable(organisation.people[0]) == before


async def test_a_dry_run_changes_nothing_and_a_real_one_then_does_it_all(organisation: Organisation) -> None:
    deliver(organisation, 3)
    await protect_from_now(organisation)
    before = organisation.readable(organisation.people[0])
    tried = await finish(organisation, await ask(organisation, dry_run=True))
    assert (tried.run.dry_run, tried.total, tried.done) == (True, 3, 3)
    assert organisation.readable(organisation.people[0]) == before
    done = await finish(organisation, await ask(organisation))
    assert done.done == 3
    assert all(f"{GATEWAY}/l/" in content for content in organisation.readable(organisation.people[0]))


async def test_a_crash_in_the_middle_of_a_page_repeats_nothing(
    organisation: Organisation, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliver(organisation, 7)
    await protect_from_now(organisation)
    monkeypatch.setattr(backfill_work, "CHUNK", 3)
    run = await ask(organisation)
    address = organisation.people[0]
    while (await progress(organisation, run)).looked < 3:
        await step(organisation, run, address)

    # The worker dies after the mailbox was changed and before that is stored with the run.
    keep = backfill_work._keep

    async def die(*args: object, **values: object) -> None:
        if "looked" in values:
            raise Killed
        await keep(*args, **values)  # type: ignore[arg-type]  # passed through as it came

    monkeypatch.setattr(backfill_work, "_keep", die)
    with pytest.raises(Killed):
        await step(organisation, run, address)
    monkeypatch.setattr(backfill_work, "_keep", keep)
    assert (await progress(organisation, run)).looked == 3

    done = await finish(organisation, run)
    assert (done.total, done.looked, done.done, done.failed) == (7, 7, 7, 0)
    shown = organisation.readable(address)
    assert len(shown) == 7
    assert all(content.count(f"{GATEWAY}/l/news.example/") == links(organisation) for content in shown)


async def test_a_cancelled_run_stops_and_leaves_the_rest_as_it_is(
    organisation: Organisation, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliver(organisation, 5)
    await protect_from_now(organisation)
    monkeypatch.setattr(backfill_work, "CHUNK", 2)
    run = await ask(organisation)
    address = organisation.people[0]
    while not (await progress(organisation, run)).looked:
        await step(organisation, run, address)
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        await cancel_backfill(session, organisation.actor, run, now())
    for _ in range(3):
        await step(organisation, run, address)
    stopped = await progress(organisation, run)
    assert (stopped.run.state, stopped.looked, stopped.mailboxes_done) == ("cancelled", 2, 1)
    assert sum(f"{GATEWAY}/l/" in content for content in organisation.readable(address)) == 2
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        with pytest.raises(NotFound):
            await cancel_backfill(session, organisation.actor, run, now())


async def test_a_whole_organisation_is_gone_through_mailbox_by_mailbox(organisation: Organisation) -> None:
    deliver(organisation, 2)
    deliver(organisation, 3, person=1)
    await protect_from_now(organisation)
    run = await ask(organisation, "tenant")
    done = await finish(organisation, run, *organisation.people)
    assert (done.mailboxes, done.mailboxes_done, done.done) == (2, 2, 5)
    assert done.rate > 0
    assert done.seconds_left is None


async def test_while_it_runs_there_is_a_rate_and_an_estimate(
    organisation: Organisation, monkeypatch: pytest.MonkeyPatch
) -> None:
    deliver(organisation, 4)
    await protect_from_now(organisation)
    monkeypatch.setattr(backfill_work, "CHUNK", 2)
    run = await ask(organisation)
    assert (await progress(organisation, run)).counting == 1
    while not (await progress(organisation, run)).looked:
        await step(organisation, run, organisation.people[0])
    found = await progress(organisation, run)
    assert (found.total, found.looked, found.counting) == (4, 2, 0)
    assert found.rate > 0
    assert found.seconds_left is not None


async def test_every_step_defers_the_next_below_all_other_work_of_the_mailbox(organisation: Organisation) -> None:
    deliver(organisation, 1)
    await protect_from_now(organisation)
    run = await ask(organisation)
    await step(organisation, run, organisation.people[0])
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        jobs = await session.execute(
            text("SELECT priority, lock FROM procrastinate_jobs WHERE task_name = 'backfill.mailbox'")
        )
        ((priority, lock),) = jobs.all()
    assert priority < -10
    mailbox = await organisation.mailbox_id(organisation.people[0])
    assert lock == f"mailbox:{organisation.tenant_id}:{mailbox}"


async def test_quiet_that_the_provider_asked_for_is_kept(organisation: Organisation) -> None:
    deliver(organisation, 2)
    await protect_from_now(organisation)
    run = await ask(organisation)
    address = organisation.people[0]
    faults = organisation.emulators.world.faults
    faults.add(FaultRule(FaultKind.THROTTLE, retry_after=30))
    await step(organisation, run, address)
    faults.clear()
    mailbox = await organisation.mailbox_id(address)
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        row = await session.scalar(select(MailboxRow).where(MailboxRow.id == mailbox))
        assert row is not None
        assert row.not_before is not None
        assert row.not_before > now() + timedelta(seconds=15)
    await step(organisation, run, address)
    assert (await progress(organisation, run)).looked == 0
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        await session.execute(update(MailboxRow).values(not_before=None))
    # The connector waits by itself too; the next process begins without that memory.
    await organisation.runtime.providers.aclose()
    assert (await finish(organisation, run)).done == 2


async def test_a_paused_organisation_makes_the_run_wait(organisation: Organisation) -> None:
    deliver(organisation, 1)
    await protect_from_now(organisation)
    run = await ask(organisation)
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        await session.execute(update(Tenant).values(status="paused"))
    for _ in range(3):
        await step(organisation, run, organisation.people[0])
    waiting = await progress(organisation, run)
    assert waiting.looked == 0
    assert "paused" in waiting.errors[0][1]
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        await session.execute(update(Tenant).values(status="active"))
    assert (await finish(organisation, run)).done == 1


async def test_a_mailbox_whose_protection_ends_meanwhile_ends_its_part_with_the_reason(
    organisation: Organisation,
) -> None:
    deliver(organisation, 1)
    await protect_from_now(organisation)
    run = await ask(organisation)
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        await session.execute(update(Domain).values(protected=False))
    ended = await finish(organisation, run)
    assert ended.done == 0
    assert "off" in ended.errors[0][1]


async def test_what_cannot_be_started_is_refused_and_starts_nothing(organisation: Organisation) -> None:
    database, actor = organisation.runtime.db, organisation.actor
    mailbox = str(await organisation.mailbox_id(organisation.people[0]))
    viewer = Actor(ActorKind.PERSON, organisation.tenant_id, Role.ANALYST, uuid.uuid4(), "analyst")
    cases: list[tuple[type[Exception], Actor, str, str, int]] = [
        (Forbidden, viewer, "mailbox", mailbox, 5),
        (NotFound, actor, "mailbox", "987654", 5),
        (NotFound, actor, "mailbox", "x", 5),
        (NotFound, actor, "domain", "never.example", 5),
        (Refused, actor, "message", "1", 5),
        (Refused, actor, "mailbox", mailbox, 0),
        (Refused, actor, "mailbox", mailbox, 5000),
    ]
    for error, who, scope, target, days in cases:
        with pytest.raises(error):
            async with database.tenant(organisation.tenant_id) as session:
                await request_backfill(session, who, scope, target, days=days, now=now())
    await ask(organisation)
    with pytest.raises(Conflict, match="going through"):
        await ask(organisation, "tenant")
    async with database.tenant(organisation.tenant_id) as session:
        await session.execute(update(BackfillPart).values(state="done"))
        await session.execute(update(Domain).values(protected=False))
    with pytest.raises(Conflict, match="off"):
        await ask(organisation)


async def test_the_extent_is_said_in_numbers_beforehand(organisation: Organisation) -> None:
    deliver(organisation, 2)
    address = organisation.people[0]
    await sync_mailbox(organisation.runtime, organisation.tenant_id, await organisation.mailbox_id(address))
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        await session.execute(update(MailboxRow).where(MailboxRow.address != address).values(opted_out=True))
        extent = await backfill_extent(session, organisation.actor, "tenant", "", 30, now())
    assert (extent.mailboxes, extent.left_out, extent.handled) == (1, 1, 2)
