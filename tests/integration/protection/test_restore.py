"""Giving original links back: for every scope, with counts, after crashes, in the way of nobody."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import text, update

from app.protection.long_tasks import take_up
from app.protection.models import MessageEvent, RestoreRun
from app.protection.queue import RESTORE
from app.protection.service import cancel_restore, request_restore
from app.protection.tasks import restore_mailbox
from connectors.base.types import Provider
from connectors.emulators.common.faults import FaultKind
from tests.integration.protection.hands import Hands
from tests.integration.protection.world import GATEWAY, Organisation, mail

pytestmark = pytest.mark.anyio


async def ask(organisation: Organisation, scope: str, target: str) -> int:
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        return await request_restore(session, organisation.actor, scope, target)


async def work(organisation: Organisation, run: int) -> None:
    for address in organisation.people:
        await restore_mailbox(organisation.runtime, organisation.tenant_id, await organisation.mailbox_id(address), run)


async def result(organisation: Organisation, run: int) -> RestoreRun:
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        found = await session.get(RestoreRun, (organisation.tenant_id, run))
        assert found is not None
        return found


async def restore(organisation: Organisation, scope: str, target: str) -> RestoreRun:
    run = await ask(organisation, scope, target)
    await work(organisation, run)
    return await result(organisation, run)


async def protect(organisation: Organisation, each: int = 2) -> dict[str, list[str]]:
    for address in organisation.people:
        for number in range(each):
            organisation.deliver(address, mail(address, f"Message {number}", n=number))
    before = {address: sorted(organisation.readable(address)) for address in organisation.people}
    for address in organisation.people:
        await organisation.sync(address)
        assert all(GATEWAY in text for text in organisation.readable(address))
    return before


def now(organisation: Organisation) -> dict[str, list[str]]:
    return {address: sorted(organisation.readable(address)) for address in organisation.people}


@pytest.mark.parametrize(("scope", "count"), [("message", 1), ("mailbox", 2), ("domain", 4), ("tenant", 4)])
async def test_a_restore_gives_back_its_scope_and_nothing_else(
    organisation: Organisation, scope: str, count: int
) -> None:
    before = await protect(organisation)
    protected = now(organisation)
    first = (await organisation.messages())[0]
    target = {
        "message": str(first.id),
        "mailbox": str(first.mailbox_id),
        "domain": organisation.domain,
        "tenant": "",
    }[scope]
    run = await restore(organisation, scope, target)
    assert (run.state, run.total, run.restored, run.failed, run.gone) == ("done", count, count, 0, 0)
    rewritten = sum(text in protected[address] for address, texts in now(organisation).items() for text in texts)
    assert rewritten == 4 - count
    for address in organisation.people:
        await organisation.sync(address)
    assert sum(row.state == "restored" for row in await organisation.messages()) == count
    if count == 4:
        assert now(organisation) == before


async def test_a_deleted_message_is_counted_as_gone(organisation: Organisation) -> None:
    await protect(organisation, each=1)
    rows = await organisation.messages()
    Hands(organisation).delete(organisation.people[0], rows[0].current_id)
    run = await restore(organisation, "tenant", "")
    assert (run.state, run.restored, run.gone) == ("done", 1, 1)


async def test_asking_again_gives_back_nothing_twice(organisation: Organisation) -> None:
    before = await protect(organisation)
    await restore(organisation, "tenant", "")
    run = await restore(organisation, "tenant", "")
    assert (run.state, run.total) == ("done", 0)
    assert now(organisation) == before


async def test_a_cancelled_run_does_no_more(organisation: Organisation) -> None:
    await protect(organisation)
    protected = now(organisation)
    run = await ask(organisation, "tenant", "")
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        await cancel_restore(session, organisation.actor, run)
    await work(organisation, run)
    assert now(organisation) == protected


async def test_changes_that_no_token_carries_are_taken_back_too(organisation: Organisation) -> None:
    address = organisation.people[0]
    amp = (
        f"From: Sender <sender@other.example>\r\nTo: {address}\r\nSubject: AMP\r\n"
        "Message-ID: <amp@other.example>\r\nMIME-Version: 1.0\r\n"
        "Content-Type: multipart/alternative; boundary=b\r\n\r\n"
        "--b\r\nContent-Type: text/plain\r\n\r\nRead https://news.example/a\r\n"
        '--b\r\nContent-Type: text/x-amp-html\r\n\r\n<html amp4email><a href="https://news.example/a">x</a></html>\r\n'
        '--b\r\nContent-Type: text/html\r\n\r\n<p>Read <a href="https://news.example/a">this</a>, '
        '<a href="https://news.example/%zz?a=1;b=2">that</a></p><base href="https://news.example/">'
        '<a href="relative">r</a>\r\n--b--\r\n'
    ).encode()
    organisation.deliver(address, amp)
    before = organisation.view(address)
    await organisation.sync()
    assert GATEWAY in organisation.readable(address)[0]
    run = await restore(organisation, "tenant", "")
    assert (run.restored, run.failed) == (1, 0)
    after = organisation.view(address)
    assert organisation.readable(address) == [(m.html or "") + (m.text or "") for m in before]
    if organisation.provider is Provider.GOOGLE:
        assert after[0].raw == before[0].raw


async def test_one_message_that_cannot_be_read_does_not_hold_up_the_restore_of_the_others(
    organisation: Organisation,
) -> None:
    await protect(organisation)
    last = (await organisation.messages())[-1]
    Hands(organisation).fail_reading(FaultKind.TIMEOUT_BEFORE, last.current_id)
    run = await ask(organisation, "tenant", "")
    for _ in range(2):
        await work(organisation, run)  # the one that fails takes up a whole turn
    assert (await result(organisation, run)).restored == 3
    organisation.emulators.world.faults.clear()
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        await session.execute(update(MessageEvent).values(at=MessageEvent.at - timedelta(minutes=5)))
    await work(organisation, run)
    done = await result(organisation, run)
    assert (done.state, done.restored, done.failed) == ("done", 4, 0)


async def test_a_restore_that_was_put_off_does_not_hold_up_protection(organisation: Organisation) -> None:
    await protect(organisation)
    run = await ask(organisation, "tenant", "")
    async with organisation.runtime.db.untenanted() as session:
        await session.execute(text("DELETE FROM procrastinate_jobs"))  # a worker took it
    Hands(organisation).fail_writing(FaultKind.THROTTLE, retry_after=60)
    await work(organisation, run)
    put_off = text(
        "SELECT max(priority) FROM procrastinate_jobs "
        "WHERE task_name = 'restore.mailbox' AND status = 'todo' AND scheduled_at > now()"
    )
    async with organisation.runtime.db.untenanted() as session:
        # Procrastinate keeps jobs of the same lock waiting behind one of higher priority, even one put off.
        assert (await session.execute(put_off)).scalar() == -1


async def test_a_restore_whose_jobs_were_lost_is_taken_up(organisation: Organisation) -> None:
    before = await protect(organisation)
    run = await ask(organisation, "tenant", "")
    async with organisation.runtime.db.untenanted() as session:
        await session.execute(text("DELETE FROM procrastinate_jobs"))
    await take_up(organisation.runtime, organisation.tenant_id)
    assert await organisation.waiting(RESTORE) == [None] * len(organisation.people)
    await work(organisation, run)
    assert (await result(organisation, run)).state == "done"
    assert now(organisation) == before
