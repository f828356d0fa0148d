"""A domain administrator sees their own domains and not one row beyond, on whatever page (L31)."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator

import pytest
from sqlalchemy import select

from app.console.routes import ROUTERS
from app.gateway.models import Click, ClickReport
from app.kit.connections import FOR_WORK
from app.protection.incident_models import Incident, IncidentMessage
from app.protection.models import (
    BackfillRun,
    ListedAddress,
    MailboxChoice,
    MailboxRow,
    MessageEvent,
    MessageLink,
    MessageMove,
    MessageRow,
    RestoreRun,
)
from app.tenants.accounts import person_actor
from app.tenants.actor import Role
from app.tenants.models import Domain, User
from app.tenants.people import narrow_sight
from tests.integration.console.estate import number
from tests.integration.console.world import Browser, Console, Postgres, console_on_fresh_database

pytestmark = pytest.mark.anyio

MINE, THEIRS = "mine.example", "theirs.example"


@pytest.fixture(scope="module")
async def console(postgres_server: Postgres, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Console]:
    async with console_on_fresh_database(postgres_server, tmp_path_factory.mktemp("console")) as made:
        yield made


async def fill(console: Console, tenant_id: uuid.UUID, domain: str) -> dict[str, int]:
    """One of everything in a domain; every text of it names the domain."""
    now = console.clock()
    async with console.database.tenant(tenant_id) as session:
        session.add(Domain(tenant_id=tenant_id, name=domain, protected=True))
        address = f"ada@{domain}"
        box = MailboxRow(tenant_id=tenant_id, external_id=address, address=address, domain=domain, error=f"of {domain}")
        session.add(box)
        session.add(
            User(tenant_id=tenant_id, id=uuid.uuid4(), subject=f"s-{domain}", email=f"user@{domain}", name=domain)
        )
        await session.flush()
        ids: dict[str, int] = {"mailbox": box.id}
        for state in ("protected", "failed"):
            row = MessageRow(
                tenant_id=tenant_id,
                mailbox_id=box.id,
                external_id=f"{state}-{domain}",
                current_id=f"{state}-{domain}",
                state=state,
                reason=f"of {domain}" if state == "failed" else "",
                subject=f"To {domain}",
                sender=f"x@{domain}",
                seen_at=now,
            )
            session.add(row)
            await session.flush()
            ids[state] = row.id
        message = ids["protected"]
        common = {"tenant_id": tenant_id, "message_id": message}
        url = f"https://{domain}/p"
        session.add(
            MessageLink(**common, ordinal=0, url=url, host=domain, kind="href", part="", text="", action="rewrite")
        )
        session.add(MessageEvent(**common, kind="seen", actor=f"a@{domain}", detail={}))
        session.add(
            MessageMove(
                **common, mailbox_id=box.id, place="quarantine", why=f"of {domain}", state="moved", requested_by=address
            )
        )
        session.add(
            Click(
                **common,
                id=uuid.uuid4(),
                mailbox_id=box.id,
                at=now,
                url=url,
                host=domain,
                level="malicious",
                action="block",
            )
        )
        incident = Incident(tenant_id=tenant_id, kind="url", subject=url, host=domain)
        session.add(incident)
        await session.flush()
        session.add(IncidentMessage(**common, incident_id=incident.id, mailbox_id=box.id))
        ids["incident"] = incident.id
        session.add(RestoreRun(tenant_id=tenant_id, scope="domain", target=domain, requested_by=f"o@{domain}"))
        session.add(
            BackfillRun(
                tenant_id=tenant_id, scope="domain", target=domain, since=now, until=now, requested_by=f"o@{domain}"
            )
        )
        session.add(ListedAddress(tenant_id=tenant_id, address=f"listed@{domain}", known=False))
    return ids


@pytest.fixture
async def estate(console: Console) -> tuple[uuid.UUID, dict[str, int], dict[str, int]]:
    tenant_id = await console.make_tenant("Somebody")
    mine, theirs = await fill(console, tenant_id, MINE), await fill(console, tenant_id, THEIRS)
    async with console.database.tenant(tenant_id) as session:
        session.add(MailboxChoice(tenant_id=tenant_id, mode="list", state="done"))
    return tenant_id, mine, theirs


def pages() -> Iterator[str]:
    """Every page and call without a name in its address, that is: every list there is."""
    for route in (route for router in ROUTERS for route in router.routes):
        path = getattr(route, "path", "")
        outside = path.startswith(("/sign-in", "/onboarding", "/offboarding"))
        if "GET" in getattr(route, "methods", ()) and "{" not in path and not outside:
            yield path


async def admin(console: Console, tenant_id: uuid.UUID, *domains: str) -> Browser:
    return await console.signed_in(tenant_id, Role.DOMAIN_ADMIN, f"dan@{MINE}", domains=list(domains))


async def test_no_page_shows_anything_of_another_domain(
    console: Console, estate: tuple[uuid.UUID, dict[str, int], dict[str, int]]
) -> None:
    tenant_id, _, _ = estate
    browser = await admin(console, tenant_id, MINE)
    owner = await console.signed_in(tenant_id, Role.OWNER, f"owner@{THEIRS}")
    shown: set[str] = set()
    for path in pages():
        answer = await browser.get(path)
        assert answer.status_code in (200, 303, 403, 404, 422), (path, answer.status_code)
        assert THEIRS not in answer.text, path
        if MINE in answer.text:
            shown.add(path)
        if answer.status_code == 200:
            assert (await owner.get(path)).status_code == 200, path
    assert {"/overview", "/messages", "/clicks", "/connector", "/connector-health", "/quarantine", "/people"} <= shown
    assert {"/incidents", "/api/v1/messages", "/api/v1/clicks", "/api/v1/domains", "/api/v1/incidents"} <= shown
    for path in ("/messages", "/clicks", "/connector", "/people"):
        assert THEIRS in (await owner.get(path)).text


async def test_what_another_domain_has_is_as_if_it_did_not_exist(
    console: Console, estate: tuple[uuid.UUID, dict[str, int], dict[str, int]]
) -> None:
    tenant_id, mine, theirs = estate
    browser = await admin(console, tenant_id, MINE)
    absent = {"protected": 2**40, "incident": 2**40}
    for path in ("/messages/{protected}", "/api/v1/messages/{protected}", "/incidents/{incident}"):
        assert (await browser.get(path.format(**mine))).status_code == 200, path
        other, none = await browser.get(path.format(**theirs)), await browser.get(path.format(**absent))
        assert (other.status_code, none.status_code) == (404, 404), path
    found = (await browser.get(f"/api/v1/messages?mailbox={theirs['mailbox']}")).json()
    assert found["items"] == []


async def test_without_any_domain_nothing_is_seen_and_with_both_everything(
    console: Console, estate: tuple[uuid.UUID, dict[str, int], dict[str, int]]
) -> None:
    tenant_id, _, _ = estate
    none = await admin(console, tenant_id)
    assert (await none.get("/api/v1/messages")).json()["items"] == []
    both = await console.signed_in(tenant_id, Role.DOMAIN_ADMIN, "eve@other.example", domains=[MINE, THEIRS])
    assert len((await both.get("/api/v1/messages")).json()["items"]) == 4


async def test_a_domain_is_not_mistaken_for_one_whose_name_contains_it(console: Console) -> None:
    tenant_id = await console.make_tenant("Somebody else")
    await fill(console, tenant_id, "nordwind.example")
    await fill(console, tenant_id, "sub.nordwind.example")
    browser = await admin(console, tenant_id, "nordwind.example")
    assert "sub.nordwind.example" not in (await browser.get("/messages")).text
    other = await admin(console, tenant_id, "sub.nordwind.example")
    assert len((await other.get("/api/v1/messages")).json()["items"]) == 2


async def test_what_is_counted_of_incidents_is_counted_in_their_sight(
    console: Console, estate: tuple[uuid.UUID, dict[str, int], dict[str, int]]
) -> None:
    tenant_id, mine, theirs = estate
    async with console.database.tenant(tenant_id) as session:
        shared = await session.get_one(Incident, (tenant_id, mine["incident"]))
        shared.messages = 2
        (elsewhere,) = await session.scalars(
            select(IncidentMessage).where(IncidentMessage.incident_id == theirs["incident"])
        )
        session.add(
            IncidentMessage(
                tenant_id=tenant_id,
                incident_id=shared.id,
                message_id=elsewhere.message_id,
                mailbox_id=elsewhere.mailbox_id,
            )
        )
    owner = await console.signed_in(tenant_id, Role.OWNER)
    seen = {
        browser: (
            number(await browser.page("/overview"), "open-incidents")[0],
            number(await browser.page(f"/incidents/{shared.id}"), "spread"),
            [item["messages"] for item in (await browser.get("/api/v1/incidents")).json()["items"]],
        )
        for browser in (owner, await admin(console, tenant_id, MINE))
    }
    of_owner, of_admin = seen.values()
    assert of_owner[0] == "2"
    assert of_owner[1].startswith("2 people · 2 messages")
    assert sorted(of_owner[2]) == [0, 2]
    assert of_admin == ("1", of_admin[1], [1])
    assert of_admin[1].startswith("1 person · 1 message")


async def test_the_narrowing_ends_with_the_transaction(
    console: Console, estate: tuple[uuid.UUID, dict[str, int], dict[str, int]]
) -> None:
    tenant_id, _, _ = estate
    browser = await admin(console, tenant_id, MINE)
    owner = await console.signed_in(tenant_id, Role.OWNER)
    for _ in range(3 * FOR_WORK["console"]):  # every connection of the pool has served both
        assert len((await browser.get("/api/v1/messages")).json()["items"]) == 2
        assert len((await owner.get("/api/v1/messages")).json()["items"]) == 4


async def test_an_owner_gives_the_role_with_domains_and_only_with_the_tenant_s_own(
    console: Console, estate: tuple[uuid.UUID, dict[str, int], dict[str, int]]
) -> None:
    tenant_id, _, _ = estate
    owner = await console.signed_in(tenant_id, Role.OWNER)
    person = await console.signed_in(tenant_id, Role.USER, f"fay@{MINE}")
    path = f"/people/{person.user_id}/role"
    for domains in ([], ["nobody.example"], [MINE, "nobody.example"]):
        assert (await owner.post(path, {"role": "domain_admin", "domains": domains})).status_code == 400
    assert (await person.get("/overview")).status_code == 403

    assert (await owner.post(path, {"role": "domain_admin", "domains": [MINE]})).status_code == 303
    assert THEIRS not in (await person.get("/messages")).text
    assert (await person.get("/messages")).status_code == 200
    assert f"{MINE}" in (await owner.get("/people")).text

    assert (await owner.post(path, {"role": "domain_admin", "domains": [THEIRS]})).status_code == 303
    assert f"To {MINE}" not in (await person.get("/messages")).text
    assert (await owner.post(path, {"role": "user"})).status_code == 303
    async with console.database.tenant(tenant_id) as session:
        row = (await session.scalars(select(User).where(User.id == person.user_id))).one()
        assert row.domains == []


async def test_their_own_mailbox_s_clicks_stay_in_their_sight(
    console: Console, estate: tuple[uuid.UUID, dict[str, int], dict[str, int]]
) -> None:
    tenant_id, _, _ = estate
    browser = await console.signed_in(
        tenant_id, Role.DOMAIN_ADMIN, f"ada@{THEIRS}", subject=f"ada@{THEIRS}", domains=[MINE]
    )
    assert THEIRS in (await browser.get("/my-clicks")).text
    assert f"To {MINE}" in (await browser.get("/messages")).text


async def test_the_database_narrows_what_is_asked_without_any_thought_of_domains(
    console: Console, estate: tuple[uuid.UUID, dict[str, int], dict[str, int]]
) -> None:
    tenant_id, mine, _ = estate
    browser = await admin(console, tenant_id, MINE)
    async with console.database.tenant(tenant_id) as session:
        user = (await session.scalars(select(User).where(User.id == browser.user_id))).one()
        await narrow_sight(session, person_actor(user), user.subject)
        assert list(await session.scalars(select(MailboxRow.id))) == [mine["mailbox"]]
        assert {row.host for row in await session.scalars(select(MessageLink))} == {MINE}
        assert len((await session.scalars(select(Click))).all()) == 1
        assert (await session.scalars(select(RestoreRun))).all() == []
        assert (await session.scalars(select(ClickReport))).all() == []
        assert (await session.scalars(select(ListedAddress))).all() == []
