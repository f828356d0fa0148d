"""Lists, requests, mailboxes, restores, people and settings."""

from __future__ import annotations

import re
import uuid
from datetime import timedelta

import pytest
from sqlalchemy import select, text

from app.gateway.models import ClickReport
from app.policy.models import ListEntry
from app.protection.models import (
    SubscriptionRow,
)
from app.tenants.actor import Role
from app.tenants.models import Domain, Tenant
from tests.integration.console.estate import add_mailbox, add_message, make_estate, rows
from tests.integration.console.world import Console

pytestmark = pytest.mark.anyio


async def test_list_entries_are_added_moved_and_removed(console: Console) -> None:
    _, browser, _ = await make_estate(console)
    await browser.page("/lists")
    for action, pattern in (("block", "bad.example"), ("allow", "good.example"), ("lock", "held.example")):
        assert (await browser.post("/lists", {"action": action, "pattern": pattern})).status_code == 303

    async def order() -> list[str]:
        return re.findall(r'<code class="pattern">([^<]+)<', await browser.page("/lists"))

    assert await order() == ["held.example", "good.example", "bad.example"]
    page = await browser.page("/lists")
    last = re.findall(r"/lists/(\d+)/remove", page)[-1]
    await browser.post(f"/lists/{last}/move", {"direction": "up"})
    assert await order() == ["held.example", "bad.example", "good.example"]
    await browser.post(f"/lists/{last}/move", {"direction": "down"})
    assert await order() == ["held.example", "good.example", "bad.example"]
    await browser.post(f"/lists/{last}/remove")
    assert await order() == ["held.example", "good.example"]
    answer = await browser.post("/lists", {"action": "block", "pattern": "not a host"})
    assert answer.status_code == 400


async def report(console: Console, tenant_id: uuid.UUID, box: int, kind: str, host: str, reason: str = "") -> uuid.UUID:
    """What a person said of a link."""
    report_id = uuid.uuid4()
    async with console.database.tenant(tenant_id) as session:
        session.add(
            ClickReport(
                tenant_id=tenant_id,
                id=report_id,
                at=console.clock(),
                kind=kind,
                mailbox_id=box,
                url=f"https://{host}/x",
                host=host,
                reason=reason,
            )
        )
    return report_id


async def test_allowing_what_somebody_asked_for_adds_exactly_that_host(console: Console) -> None:
    tenant_id, browser, box = await make_estate(console)
    report_id = await report(console, tenant_id, box, "release", "portal.example", "Needed for orders")
    page = await browser.page("/lists")
    assert "Needed for orders" in page
    assert (await browser.post(f"/lists/requests/{report_id}", {"decision": "allow"})).status_code == 303
    async with console.database.tenant(tenant_id) as session:
        entry = (await session.scalars(select(ListEntry))).one()
        told = (await session.scalars(select(ClickReport))).one()
    assert (entry.action, entry.pattern) == ("allow", "=portal.example")
    assert (told.state, told.handled_by) == ("allowed", browser_email(await browser.page("/people")))
    assert (await browser.post(f"/lists/requests/{report_id}", {"decision": "dismiss"})).status_code == 409


async def test_a_link_that_a_person_reported_as_dangerous_can_be_blocked_from_there(console: Console) -> None:
    tenant_id, browser, box = await make_estate(console)
    report_id = await report(console, tenant_id, box, "harmful", "trap.example")
    page = await browser.page("/lists")
    assert 'value="block">Block this host' in page
    assert "Allow this host" not in page
    assert (await browser.post(f"/lists/requests/{report_id}", {"decision": "block"})).status_code == 303
    async with console.database.tenant(tenant_id) as session:
        entry = (await session.scalars(select(ListEntry))).one()
        told = (await session.scalars(select(ClickReport))).one()
    assert (entry.action, entry.pattern, told.state) == ("block", "=trap.example", "blocked")


async def test_a_request_that_the_list_cannot_take_stays_open(console: Console) -> None:
    tenant_id, browser, box = await make_estate(console)
    report_id = uuid.uuid4()
    async with console.database.tenant(tenant_id) as session:
        values = {
            "at": console.clock(),
            "kind": "release",
            "mailbox_id": box,
            "url": "data:,x",
            "host": "",
            "reason": "",
        }
        session.add(ClickReport(tenant_id=tenant_id, id=report_id, **values))
    answer = await browser.post(f"/lists/requests/{report_id}", {"decision": "allow"})
    assert answer.status_code == 400
    async with console.database.tenant(tenant_id) as session:
        told = (await session.scalars(select(ClickReport))).one()
        assert (told.state, told.handled_by) == ("open", "")
        assert (await session.scalars(select(ListEntry))).all() == []


def browser_email(page: str) -> str:
    found = re.search(r"owner-[0-9a-f]{6}@nordwind\.example", page)
    assert found
    return found[0]


async def test_the_connector_page_shows_each_mailbox_with_its_health(console: Console) -> None:
    tenant_id, browser, box = await make_estate(console)
    await add_mailbox(console, tenant_id, "broken@nordwind.example", error="No licence.")
    await add_mailbox(console, tenant_id, "out@nordwind.example", opted_out=True)
    async with console.database.tenant(tenant_id) as session:
        session.add(
            SubscriptionRow(
                tenant_id=tenant_id,
                provider="microsoft",
                id="s",
                mailbox_id=box,
                expires_at=console.clock() - timedelta(hours=1),
                secret_sealed=b"x",
            )
        )
    await add_message(console, tenant_id, box)
    page = await browser.page("/connector")
    found = rows(page, "mailbox-row")
    assert "broken@nordwind.example" in found[0], "those in trouble come first"
    assert "No licence." in found[0]
    ada = next(row for row in found if "ada@nordwind.example" in row)
    assert "expired" in ada
    assert "Restore" in ada
    assert "Opted out" in next(row for row in found if "out@nordwind.example" in row)
    assert len(rows(await browser.page("/connector?show=trouble"), "mailbox-row")) == 1


async def test_a_restore_says_in_numbers_what_it_will_touch_before_it_starts(console: Console) -> None:
    tenant_id, browser, box = await make_estate(console)
    other = await add_mailbox(console, tenant_id, "ben@nordwind.example")
    for _ in range(3):
        await add_message(console, tenant_id, box)
    await add_message(console, tenant_id, other)
    await add_message(console, tenant_id, other, state="skipped")
    page = await browser.page(f"/connector/restore?scope=mailbox&target={box}")
    assert 'data-messages="3"' in page
    assert "ada@nordwind.example" in page
    page = await browser.page("/connector/restore?scope=tenant")
    assert 'data-messages="4"' in page
    await browser.post("/connector/restore", {"scope": "tenant"})
    page = await browser.page("/connector")
    assert 'data-scope="tenant"' in page
    assert "0 of 4" in page


async def test_a_domain_is_switched_in_the_settings_and_by_the_api(console: Console) -> None:
    tenant_id, browser, _ = await make_estate(console)
    await browser.page("/settings")
    await browser.post("/settings/domains/nordwind.example", {"protected": "false"})
    async with console.database.tenant(tenant_id) as session:
        assert not (await session.scalars(select(Domain))).one().protected
    answer = await browser.http.put(
        "/api/v1/domains/nordwind.example",
        json={"protected": True, "dry_run": True, "days": 30},
        headers={"x-csrf-token": browser.csrf},
    )
    assert answer.status_code == 200
    assert answer.json()["dry_run"] is True


async def test_the_organisations_words_are_stored_where_the_gateway_reads_them(console: Console) -> None:
    from app.policy.service import PolicyService

    tenant_id, browser, _ = await make_estate(console)
    await browser.page("/settings")
    form = {"name": "Nordwind AG", "contact": "help@nordwind.example", "note": "Ask us", "failure": "closed"}
    await browser.post("/settings/organisation", {**form, "keep_address": "true"})
    snapshot = await PolicyService(console.database).snapshot(tenant_id)
    assert (snapshot.name, snapshot.words.contact, snapshot.words.note) == (
        "Nordwind AG",
        "help@nordwind.example",
        "Ask us",
    )
    assert snapshot.failure == "closed"
    assert snapshot.keep_address
    page = await browser.page("/audit")
    assert "tenant.settings" in page


@pytest.mark.parametrize(
    "form",
    [
        {"name": ""},
        {"name": "x" * 101},
        {"name": "a\x00b"},
        {"name": "N", "contact": "c" * 201},
        {"name": "N", "note": "line\nline"},
        {"name": "N", "failure": "explode"},
    ],
)
async def test_unusable_settings_are_refused_and_change_nothing(console: Console, form: dict[str, str]) -> None:
    tenant_id, browser, _ = await make_estate(console)
    assert (await browser.post("/settings/organisation", form)).status_code == 400
    async with console.database.tenant(tenant_id) as session:
        assert (await session.scalars(select(Tenant.name))).one() == "Nordwind"


async def test_the_last_owner_stays_owner(console: Console) -> None:
    tenant_id, browser, _ = await make_estate(console)
    answer = await browser.post(f"/people/{browser.user_id}/role", {"role": "user"})
    assert answer.status_code == 409
    second = await console.signed_in(tenant_id, Role.ANALYST)
    assert (await browser.post(f"/people/{second.user_id}/role", {"role": "owner"})).status_code == 303
    assert (await browser.post(f"/people/{browser.user_id}/role", {"role": "user"})).status_code == 303
    assert (await browser.post(f"/people/{second.user_id}/role", {"role": "user"})).status_code == 404


async def test_an_owner_signs_a_person_out_everywhere(console: Console) -> None:
    tenant_id, browser, _ = await make_estate(console)
    analyst = await console.signed_in(tenant_id, Role.ANALYST)
    await analyst.page("/overview")
    await browser.post(f"/people/{analyst.user_id}/sign-out")
    assert (await analyst.get("/overview")).status_code == 303


async def test_pages_speak_the_readers_language(console: Console) -> None:
    _, browser, _ = await make_estate(console)
    page = (await browser.get("/overview", headers={"accept-language": "de-AT, en;q=0.5"})).text
    assert '<html lang="de">' in page
    assert "Übersicht" in page
    await browser.page("/settings")
    await browser.post("/settings/language", {"locale": "ja"})
    page = (await browser.get("/overview", headers={"accept-language": "de"})).text
    assert '<html lang="ja">' in page
    assert "概要" in page
    visitor = console.browser()
    chosen = await visitor.get("/language/de", params={"next": "/"})
    assert chosen.headers["location"] == "/"
    assert "Anmelden" in await visitor.page("/")


async def test_static_files_are_kept_for_long_under_an_address_that_changes_with_them(console: Console) -> None:
    browser = console.browser()
    page = await browser.page("/")
    for path in re.findall(r'(?:href|src)="(/static/[^"]+)"', page):
        answer = await browser.get(path)
        assert answer.status_code == 200
        assert "immutable" in answer.headers["cache-control"]
        assert "?v=" in path


async def test_a_restore_is_cancelled_from_the_connector_page(console: Console) -> None:
    tenant_id, browser, box = await make_estate(console)
    await add_message(console, tenant_id, box)
    await browser.page("/connector")
    await browser.post("/connector/restore", {"scope": "tenant"})
    page = await browser.page("/connector")
    cancel = re.search(r'action="(/connector/restores/\d+/cancel)"', page)
    assert cancel
    assert (await browser.post(cancel[1])).status_code == 303
    page = await browser.page("/connector")
    assert 'data-state="cancelled"' in page
    assert "cancel-restore" not in page


async def test_renewing_a_grant_that_was_withdrawn_goes_on_where_it_stopped(console: Console) -> None:
    _, (ada,) = console.microsoft("ada")
    browser = console.browser()
    await browser.sign_in("microsoft", ada)
    await browser.get(await browser.accept_consent(await browser.to_consent()))
    await browser.post("/onboarding/protect", {"domains": console.domain})
    row = await console.only_tenant(ada.tenant_id)
    async with console.database.tenant(row.tenant_id) as session:
        (await session.scalars(select(Tenant))).one().status = "revoked"
        await session.execute(
            text("DELETE FROM procrastinate_jobs WHERE args->>'tenant_id' = :id"), {"id": str(row.tenant_id)}
        )
    assert "access was withdrawn" in await browser.page("/overview")
    done = await browser.get(await browser.accept_consent(await browser.to_consent()))
    assert done.headers["location"] == "/onboarding"
    async with console.database.tenant(row.tenant_id) as session:
        tenant = (await session.scalars(select(Tenant))).one()
        jobs = await session.scalar(
            text("SELECT count(*) FROM procrastinate_jobs WHERE args->>'tenant_id' = :id"), {"id": str(row.tenant_id)}
        )
    assert tenant.status == "active"
    assert jobs == 1
