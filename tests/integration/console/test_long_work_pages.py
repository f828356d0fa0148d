"""The pages of older mail, quarantine, the connector's health and leaving."""

from __future__ import annotations

import hashlib
import json
import uuid
from datetime import timedelta

import pytest
from sqlalchemy import select, text, update

from app.protection.models import BackfillPart, BackfillRun, MailboxRow, MessageMove, MessageRow, Offboarding
from app.protection.offboarding import offboard_step
from app.protection.receipt import receipt_token
from app.protection.runtime import Runtime
from app.tenants.actor import Role
from app.tenants.models import Domain, Tenant
from tests.integration.console.estate import add_mailbox, add_message
from tests.integration.console.world import Browser, Console

pytestmark = pytest.mark.anyio


async def estate(console: Console, role: Role = Role.OWNER) -> tuple[uuid.UUID, Browser, int]:
    """A tenant with one protected mailbox, and who looks at it."""
    tenant_id = await console.make_tenant()
    async with console.database.tenant(tenant_id) as session:
        session.add(Domain(tenant_id=tenant_id, name="nordwind.example", protected=True, protect_since=console.clock()))
    mailbox_id = await add_mailbox(console, tenant_id)
    return tenant_id, await console.signed_in(tenant_id, role), mailbox_id


async def jobs(console: Console, task: str) -> int:
    async with console.database.untenanted() as session:
        found = await session.scalar(
            text("SELECT count(*) FROM procrastinate_jobs WHERE task_name = :task"), {"task": task}
        )
    return int(found or 0)


async def test_a_backfill_says_in_numbers_what_it_touches_and_starts_once_confirmed(console: Console) -> None:
    tenant_id, browser, mailbox_id = await estate(console)
    await add_message(console, tenant_id, mailbox_id, received_at=console.clock())
    await add_mailbox(console, tenant_id, "out@nordwind.example", opted_out=True)
    await browser.page("/backfill")
    filled_in = {"scope": "mailbox", "target": "nordwind.example", "address": "Ada@nordwind.example", "days": "7"}
    numbers = (await browser.post("/backfill/choose", filled_in)).headers["location"]
    assert numbers == f"/backfill/start?scope=mailbox&target={mailbox_id}&days=7"
    shown = await browser.page(numbers)
    assert 'data-mailboxes="1"' in shown
    assert "the last 7 days" in shown
    assert "1 message of this time was handled already" in shown
    assert "1 mailbox is left out" in await browser.page("/backfill/start?scope=tenant&days=7")
    before = await jobs(console, "backfill.mailbox")
    answer = await browser.post(
        "/backfill", {"scope": "mailbox", "target": str(mailbox_id), "days": "7", "dry_run": "true"}
    )
    assert answer.status_code == 303
    assert await jobs(console, "backfill.mailbox") == before + 1
    async with console.database.tenant(tenant_id) as session:
        run = (await session.scalars(select(BackfillRun))).one()
    assert run.dry_run
    assert run.until - run.since == timedelta(days=7)
    assert 'data-state="waiting"' in await browser.page("/backfill")
    nobody = {"scope": "mailbox", "address": "nobody@nordwind.example", "days": "7"}
    assert (await browser.post("/backfill/choose", nobody)).status_code == 404
    again = await browser.post("/backfill", {"scope": "tenant", "days": "7"})
    assert again.status_code == 409


async def test_a_running_backfill_shows_rate_and_estimate_and_can_be_cancelled(console: Console) -> None:
    tenant_id, browser, mailbox_id = await estate(console)
    now = console.clock()
    async with console.database.tenant(tenant_id) as session:
        run = BackfillRun(
            tenant_id=tenant_id,
            scope="tenant",
            target="",
            since=now - timedelta(days=1),
            until=now,
            requested_by="ada",
            started_at=now - timedelta(minutes=10),
            state="running",
        )
        session.add(run)
        await session.flush()
        part = BackfillPart(
            tenant_id=tenant_id, run_id=run.id, mailbox_id=mailbox_id, state="running", total=1400, looked=700, done=650
        )
        session.add(part)
    page = await browser.page("/backfill")
    for words in ("700 of 1,400 messages looked at", "70 a minute", "about 10 minutes left", "650 protected"):
        assert words in page
    assert (await browser.post(f"/backfill/{run.id}/cancel")).status_code == 303
    page = await browser.page("/backfill")
    assert 'data-state="cancelled"' in page
    assert "cancel-backfill" not in page


async def test_a_message_is_quarantined_from_its_page_and_released_from_the_list(console: Console) -> None:
    tenant_id, browser, mailbox_id = await estate(console)
    message = await add_message(console, tenant_id, mailbox_id)
    assert "to-quarantine" in await browser.page(f"/messages/{message}")
    form = {"place": "quarantine", "why": "<b>turned bad</b>\u202e", "next": f"/messages/{message}"}
    assert (await browser.post(f"/messages/{message}/move", form)).headers["location"] == f"/messages/{message}"
    page = await browser.page(f"/messages/{message}")
    assert "to-quarantine" not in page
    assert 'data-testid="moved" data-state="asked"' in page
    assert "<b>turned bad" not in page
    async with console.database.tenant(tenant_id) as session:
        await session.execute(update(MessageMove).values(state="moved", moved_at=console.clock()))
        move = (await session.scalars(select(MessageMove))).one()
    listed = await browser.page("/quarantine")
    assert "Invoice" in listed
    assert "turned bad" in listed
    assert move.requested_by in listed
    assert (await browser.post(f"/quarantine/{move.id}/release")).status_code == 303
    assert 'data-state="releasing"' in await browser.page("/quarantine")
    assert (await browser.post(f"/quarantine/{move.id}/release")).status_code == 409
    async with console.database.tenant(tenant_id) as session:
        await session.execute(update(MessageMove).values(state="released"))
    assert "Nothing is in quarantine" in await browser.page("/quarantine")
    assert 'data-state="released"' in await browser.page("/quarantine?show=ended")


async def test_who_may_not_act_sees_no_buttons(console: Console) -> None:
    tenant_id, browser, mailbox_id = await estate(console, Role.ANALYST)
    message = await add_message(console, tenant_id, mailbox_id, state="failed")
    for path, button in (
        (f"/messages/{message}", "to-quarantine"),
        (f"/messages/{message}", "retry"),
        ("/backfill", "backfill-form"),
        ("/connector-health", "retry-all"),
        ("/connector", 'data-testid="leave"'),
    ):
        assert button not in await browser.page(path), path


async def test_health_names_reasons_and_failed_messages_are_tried_again(console: Console) -> None:
    tenant_id, browser, mailbox_id = await estate(console)
    failed = [
        await add_message(console, tenant_id, mailbox_id, state="failed", reason=f"WriteNotVerified {n}", attempts=5)
        for n in range(2)
    ]
    await add_message(console, tenant_id, mailbox_id, state="skipped", reason="signed")
    async with console.database.tenant(tenant_id) as session:
        await session.execute(update(MailboxRow).values(not_before=console.clock() + timedelta(minutes=3)))
    page = await browser.page("/connector-health")
    for words in ('data-health="trouble"', "WriteNotVerified 0", "WriteNotVerified 1", "signed: a change would break"):
        assert words in page
    assert "1 mailbox, the last until" in page
    assert (await browser.post(f"/messages/{failed[0]}/retry", {"next": "/connector-health"})).status_code == 303
    async with console.database.tenant(tenant_id) as session:
        states = {row.id: row.state for row in await session.execute(select(MessageRow.id, MessageRow.state))}
        row = await session.get_one(MessageRow, (tenant_id, failed[0]))
    assert (states[failed[0]], states[failed[1]]) == ("seen", "failed")
    assert (row.attempts, row.reason) == (0, "")
    assert await jobs(console, "mailbox.sync") >= 1
    assert (await browser.post(f"/messages/{failed[0]}/retry")).status_code == 409
    assert (await browser.post("/connector-health/retry")).status_code == 303
    assert "No message has failed" in await browser.page("/connector-health")


async def test_a_connector_that_keeps_up_says_so(console: Console) -> None:
    tenant_id, browser, _ = await estate(console)
    async with console.database.tenant(tenant_id) as session:
        await session.execute(update(MailboxRow).values(last_synced_at=console.clock()))
    assert 'data-health="good"' in await browser.page("/connector-health")
    console.clock.offset = timedelta(minutes=20)
    assert 'data-health="trouble"' in await browser.page("/connector-health")
    async with console.database.tenant(tenant_id) as session:
        await session.execute(update(Tenant).values(status="paused"))
    assert 'data-health="paused"' in await browser.page("/connector-health")


async def test_leaving_wants_the_name_and_ends_with_a_receipt_that_needs_no_account(console: Console) -> None:
    tenant_id, browser, mailbox_id = await estate(console)
    await add_message(console, tenant_id, mailbox_id, state="skipped")
    page = await browser.page("/offboarding")
    assert 'data-restore="0"' in page
    assert (await browser.post("/offboarding", {"confirm": "nordwind?"})).status_code == 400
    answer = await browser.post("/offboarding", {"confirm": "Nordwind"})
    link = answer.headers["location"]
    assert answer.status_code == 303
    nobody = console.browser()
    assert 'data-state="stopping"' in await nobody.page(link)
    assert (await nobody.get(link + "/download")).status_code == 404
    assert link in await browser.page("/offboarding")
    other = await console.signed_in(tenant_id, Role.OWNER)
    assert link not in await other.page("/offboarding")
    assert "Your organisation is leaving" in await browser.page("/overview")
    runtime = Runtime(console.settings, console.database, console.keys, console.providers)
    for _ in range(3):
        await offboard_step(runtime, tenant_id)
    page = await nobody.page(link)
    assert "Everything was deleted" in page
    file = await nobody.get(link + "/download")
    assert json.loads(file.content)["messages"]["never_changed"] == 1
    assert hashlib.sha256(file.content).hexdigest() in page
    assert "attachment" in file.headers["content-disposition"]
    assert (await browser.get("/offboarding")).headers["location"].startswith("/")
    async with console.database.tenant(tenant_id) as session:
        assert (await session.scalars(select(Tenant))).all() == []


async def test_a_receipts_link_cannot_be_guessed(console: Console) -> None:
    nobody = console.browser()
    answers = [
        await nobody.get(f"/offboarding/receipts/{token}{more}")
        for token in ("x", "A" * 64, receipt_token(console.keys, uuid.uuid4()), str(uuid.uuid4()), "A" * 99)
        for more in ("", "/download")
    ]
    assert {answer.status_code for answer in answers} == {404}


async def test_a_stuck_leaving_offers_to_try_again_to_stay_or_to_delete_anyway(console: Console) -> None:
    tenant_id, browser, mailbox_id = await estate(console)
    await add_message(console, tenant_id, mailbox_id)
    assert (await browser.post("/offboarding", {"confirm": "Nordwind"})).status_code == 303
    async with console.database.tenant(tenant_id) as session:
        await session.execute(update(Offboarding).values(state="stuck", error="1"))
    page = await browser.page("/offboarding")
    for button in ("offboarding-retry", "offboarding-cancel", "delete-anyway"):
        assert button in page
    assert "1 message still carries rewritten links" in page
    assert (await browser.post("/offboarding/delete-anyway", {"confirm": "no"})).status_code == 400
    assert (await browser.post("/offboarding/retry")).status_code == 303
    assert (await browser.post("/offboarding/cancel")).status_code == 303
    async with console.database.tenant(tenant_id) as session:
        assert (await session.scalars(select(Tenant.status))).one() == "paused"
    assert (await browser.post("/offboarding", {"confirm": "Nordwind"})).status_code == 303
    assert (await browser.post("/offboarding/delete-anyway", {"confirm": "Nordwind"})).status_code == 303
    async with console.database.tenant(tenant_id) as session:
        assert (await session.scalars(select(Offboarding.state))).one() == "deleting"
