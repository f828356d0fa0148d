"""The JSON API: it says what the pages say, to the same people, and describes itself."""

from __future__ import annotations

from datetime import timedelta

import pytest

from app.protection.incident_models import Incident, IncidentMessage
from app.tenants.actor import Role
from tests.integration.console.estate import add_click, add_mailbox, add_message, make_estate
from tests.integration.console.world import Console

pytestmark = pytest.mark.anyio


async def test_the_json_api_says_the_same_as_the_pages(console: Console) -> None:
    tenant_id, browser, box = await make_estate(console)
    message_id = await add_message(console, tenant_id, box)
    await add_click(console, tenant_id, "malicious", "block", mailbox_id=box, message_id=message_id)
    overview = (await browser.get("/api/v1/overview")).json()
    assert overview["messages"] == {"protected": 1}
    assert overview["actions"] == {"block": 1}
    assert (await browser.get("/api/v1/messages")).json()["items"][0]["subject"] == "Invoice"
    trace = (await browser.get(f"/api/v1/messages/{message_id}")).json()
    assert trace["events"][-1]["kind"] == "click"
    assert (await browser.get("/api/v1/clicks")).json()["items"][0]["person"] == "ada@nordwind.example"
    described = (await browser.get("/api/v1/openapi.json")).json()
    assert set(described["paths"]) == {
        "/api/v1/session",
        "/api/v1/overview",
        "/api/v1/messages",
        "/api/v1/messages/search",
        "/api/v1/messages/{message_id}",
        "/api/v1/clicks",
        "/api/v1/clicks/search",
        "/api/v1/incidents",
        "/api/v1/domains",
        "/api/v1/domains/{name}",
        "/api/v1/restores",
    }


async def test_the_api_names_a_mailbox_by_its_number_and_takes_addresses_in_a_body_only(console: Console) -> None:
    tenant_id, browser, box = await make_estate(console)
    other = await add_mailbox(console, tenant_id, "ben@nordwind.example")
    await add_message(console, tenant_id, box)
    message_id = await add_message(console, tenant_id, other, subject="For Ben")

    (line,) = (await browser.get(f"/api/v1/messages?mailbox={other}")).json()["items"]
    assert (line["id"], line["mailbox_id"], line["recipient"]) == (message_id, other, "ben@nordwind.example")
    assert (await browser.get("/api/v1/messages?mailbox=ben@nordwind.example")).status_code == 422

    token = {"X-CSRF-Token": browser.csrf}
    found = await browser.http.post(
        "/api/v1/messages/search", json={"recipient": "BEN@nordwind.example"}, headers=token
    )
    assert [item["id"] for item in found.json()["items"]] == [message_id]
    assert (await browser.http.post("/api/v1/messages/search", json={"recipient": "x"})).status_code == 400


async def test_no_address_of_a_person_is_taken_in_a_web_address(console: Console) -> None:
    tenant_id, browser, box = await make_estate(console)
    await add_message(console, tenant_id, box)
    described = (await browser.get("/api/v1/openapi.json")).json()["paths"]
    for path in ("/api/v1/messages", "/api/v1/clicks", "/api/v1/incidents"):
        taken = {parameter["name"]: parameter["schema"] for parameter in described[path]["get"]["parameters"]}
        assert "q" not in taken
        assert "string" not in str(taken.get("mailbox"))


async def test_clicks_of_a_person_are_looked_for_in_a_body(console: Console) -> None:
    tenant_id, browser, box = await make_estate(console)
    other = await add_mailbox(console, tenant_id, "ben@nordwind.example")
    for mailbox in (box, other):
        await add_click(console, tenant_id, "malicious", "block", mailbox_id=mailbox)
    await add_click(console, tenant_id, "clean", "redirect", mailbox_id=other)

    async def people(**wanted: object) -> list[str]:
        answer = await browser.http.post("/api/v1/clicks/search", json=wanted, headers={"X-CSRF-Token": browser.csrf})
        return [item["person"] for item in answer.json()["items"]]

    assert await people(search="ben@") == ["ben@nordwind.example"] * 2
    assert await people(search="ben@", action="stopped") == ["ben@nordwind.example"]
    assert sorted(await people(level="malicious")) == ["ada@nordwind.example", "ben@nordwind.example"]
    assert (await browser.http.post("/api/v1/clicks/search", json={"search": "ben@"})).status_code == 400


async def test_incidents_are_listed_narrowed_and_paged(console: Console) -> None:
    tenant_id, browser, box = await make_estate(console)
    message_id = await add_message(console, tenant_id, box)
    now = console.clock()
    async with console.database.tenant(tenant_id) as session:
        for number in range(60):
            listed = Incident(
                tenant_id=tenant_id,
                kind="listed",
                subject=f"bad{number}.example/",
                host=f"bad{number}.example",
                updated_at=now - timedelta(hours=number),
            )
            session.add(listed)
        found = Incident(
            tenant_id=tenant_id,
            kind="checked",
            subject="evil.example/x",
            host="evil.example",
            state="closed",
            updated_at=now - timedelta(days=40),
            messages=1,
        )
        session.add(found)
        await session.flush()
        session.add(IncidentMessage(tenant_id=tenant_id, incident_id=found.id, message_id=message_id, mailbox_id=box))

    async def hosts(query: str = "") -> list[str]:
        return [item["host"] for item in (await browser.get(f"/api/v1/incidents{query}")).json()["items"]]

    first = (await browser.get("/api/v1/incidents")).json()
    assert (len(first["items"]), first["page"], first["more"]) == (50, 1, True)
    assert first["items"][0]["host"] == "bad0.example"
    second = (await browser.get("/api/v1/incidents?page=2")).json()
    assert (len(second["items"]), second["more"]) == (11, False)
    assert await hosts("?state=closed") == ["evil.example"]
    assert await hosts("?kind=checked&state=open") == []
    assert await hosts("?host=EVIL.example") == ["evil.example"]
    assert len(await hosts("?days=1")) == 24
    assert (await browser.get("/api/v1/incidents?state=gone")).status_code == 422
    (item,) = (await browser.get("/api/v1/incidents?kind=checked")).json()["items"]
    assert (item["messages"], item["people"], item["clicks"]) == (1, 1, 0)
    assert item["subject"] == "evil.example/x"


async def test_incidents_of_another_organisation_are_not_there(console: Console) -> None:
    tenant_id, _, _ = await make_estate(console)
    async with console.database.tenant(tenant_id) as session:
        session.add(Incident(tenant_id=tenant_id, kind="listed", subject="bad.example/", host="bad.example"))
    stranger = await console.signed_in(await console.make_tenant("Others"), Role.OWNER)
    assert (await stranger.get("/api/v1/incidents")).json()["items"] == []
