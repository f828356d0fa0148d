"""Incidents in the console: what is shown, what may be done, and what becomes of it."""

from __future__ import annotations

import uuid

import pytest
from sqlalchemy import select, text

from app.gateway.models import Click
from app.protection.incident_models import Incident
from app.protection.models import MessageLink, MessageMove
from app.protection.queue import TURN
from app.protection.runtime import Runtime
from app.protection.turn import run_turn
from app.tenants.actor import Role
from tests.integration.console.estate import add_click, add_mailbox, add_message, make_estate, number, rows
from tests.integration.console.world import Browser, Console

pytestmark = pytest.mark.anyio

BAD = "https://parcel.evil.example/track?id=7"
HOSTILE = "https://evil.example/<script>alert(1)</script>"


async def two_copies(console: Console) -> tuple[uuid.UUID, Browser, list[int]]:
    """A tenant in which two people received a bad link; one of them clicked before it turned, and a scanner after."""
    tenant_id, browser, box = await make_estate(console)
    other = await add_mailbox(console, tenant_id, "ben@nordwind.example")
    messages = [await add_message(console, tenant_id, mailbox, subject="Your parcel") for mailbox in (box, other)]
    async with console.database.tenant(tenant_id) as session:
        for message in messages:
            session.add(
                MessageLink(
                    tenant_id=tenant_id,
                    message_id=message,
                    ordinal=0,
                    url=BAD,
                    host="parcel.evil.example",
                    kind="anchor",
                )
            )
    about = {"url": BAD, "host": "parcel.evil.example", "message_id": messages[0], "mailbox_id": box}
    await add_click(console, tenant_id, "unknown", "redirect", **about)
    await add_click(console, tenant_id, "malicious", "block", rule="verdict:malicious", automated=True, **about)
    return tenant_id, browser, messages


async def work(console: Console, tenant_id: uuid.UUID) -> None:
    runtime = Runtime(console.settings, console.database, console.keys, console.providers, console.clock)
    await run_turn(runtime, tenant_id)


async def only_incident(console: Console, tenant_id: uuid.UUID) -> Incident:
    async with console.database.tenant(tenant_id) as session:
        return (await session.scalars(select(Incident))).one()


async def test_a_stopped_click_is_an_incident_with_everybody_who_received_the_link(console: Console) -> None:
    tenant_id, browser, messages = await two_copies(console)
    assert 'data-testid="open-incidents"' not in await browser.page("/overview")
    await work(console, tenant_id)
    (row,) = rows(await browser.page("/incidents"), "incident-row")
    assert "parcel.evil.example/track" in row
    assert number(await browser.page("/overview"), "open-incidents").startswith("1")
    incident = await only_incident(console, tenant_id)
    page = await browser.page(f"/incidents/{incident.id}")
    assert len(rows(page, "copy-row")) == 2
    assert "2 people" in number(page, "spread")
    clicks = number(page, "clicks-human")
    assert clicks.startswith("1 by people, 1 of them was let through")
    assert "1 automated" in clicks
    trace = await browser.page(f"/messages/{messages[1]}")
    assert f'href="/incidents/{incident.id}"' in trace


async def test_every_copy_is_asked_to_be_moved_and_the_incident_ended(console: Console) -> None:
    tenant_id, browser, _ = await two_copies(console)
    await work(console, tenant_id)
    incident = await only_incident(console, tenant_id)
    address = f"/incidents/{incident.id}"
    await browser.page(address)
    assert (await browser.post(f"{address}/quarantine")).status_code == 303
    assert (await browser.post(f"{address}/quarantine")).status_code == 409
    await work(console, tenant_id)
    async with console.database.tenant(tenant_id) as session:
        assert [move.state for move in await session.scalars(select(MessageMove))] == ["asked", "asked"]
    assert "2 of 2" in number(await browser.page(address), "quarantined")
    assert (await browser.post(f"{address}/close")).status_code == 303
    assert rows(await browser.page("/incidents?state=open"), "incident-row") == []
    assert (await browser.post(f"{address}/reopen")).status_code == 303
    assert len(rows(await browser.page("/incidents?state=open"), "incident-row")) == 1


async def test_a_mistake_is_allowed_by_an_entry_of_the_list(console: Console) -> None:
    tenant_id, browser, _ = await two_copies(console)
    await work(console, tenant_id)
    incident = await only_incident(console, tenant_id)
    await browser.page(f"/incidents/{incident.id}")
    assert (await browser.post(f"/incidents/{incident.id}/false-positive")).status_code == 303
    assert "parcel.evil.example/track" in rows(await browser.page("/lists"), "entry-row")[0]
    assert rows(await browser.page("/incidents?state=false_positive"), "incident-row") != []


async def test_an_analyst_marks_but_moves_nothing(console: Console) -> None:
    tenant_id, _, _ = await two_copies(console)
    analyst = await console.signed_in(tenant_id, Role.ANALYST)
    page = await analyst.page("/incidents")
    assert 'data-testid="mark-form"' in page
    assert 'name="quarantine"' not in page
    answer = await analyst.post("/incidents/mark", {"target": "evil.example", "note": "phishing"})
    assert answer.status_code == 303
    page = await analyst.page(answer.headers["location"])
    assert 'data-testid="quarantine-all"' not in page
    assert 'data-testid="close"' in page
    assert (await analyst.post("/incidents/mark", {"target": "no host"})).status_code == 400
    async with console.database.tenant(tenant_id) as session:
        waiting = await session.scalar(
            text("SELECT count(*) FROM procrastinate_jobs WHERE task_name = :task AND args->>'tenant_id' = :tenant"),
            {"task": TURN, "tenant": str(tenant_id)},
        )
    assert waiting == 1


async def test_a_webhook_is_https_and_its_key_is_shown_to_those_who_configure(console: Console) -> None:
    tenant_id, browser, _ = await two_copies(console)
    await browser.page("/incidents")
    refused = await browser.post("/incidents/policy", {"webhook": "http://plain.example/"})
    assert refused.status_code == 400
    done = await browser.post("/incidents/policy", {"webhook": "https://hooks.example/postern", "quarantine": "true"})
    assert done.status_code == 303
    page = await browser.page("/incidents")
    assert "https://hooks.example/postern" in page
    assert 'data-testid="webhook-key"' in page
    auditor = await console.signed_in(tenant_id, Role.AUDITOR)
    page = await auditor.page("/incidents")
    assert "webhook-key" not in page
    assert "hooks.example" not in page


async def test_hostile_text_stays_text(console: Console) -> None:
    tenant_id, browser, box = await make_estate(console)
    message = await add_message(console, tenant_id, box, subject="<b>Invoice</b>")
    about = {"url": HOSTILE, "host": "evil.example", "message_id": message, "rule": "verdict:malicious"}
    await add_click(console, tenant_id, "malicious", "block", **about)
    await work(console, tenant_id)
    incident = await only_incident(console, tenant_id)
    for address in ("/incidents", f"/incidents/{incident.id}"):
        page = await browser.page(address)
        assert "<script>alert" not in page
        assert "<b>Invoice" not in page


async def test_clicks_are_counted_once_for_an_incident(console: Console) -> None:
    tenant_id, _, _ = await two_copies(console)
    for _ in range(3):
        await work(console, tenant_id)
    async with console.database.tenant(tenant_id) as session:
        found = list(await session.scalars(select(Click.incident_id).order_by(Click.level)))
    incident = await only_incident(console, tenant_id)
    assert sorted(found, key=str) == sorted([incident.id, None], key=str)
