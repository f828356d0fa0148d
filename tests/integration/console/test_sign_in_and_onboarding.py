"""Signing in and connecting an organisation, with both providers, from the landing page to protection on."""

from __future__ import annotations

import pytest
from sqlalchemy import select, text

from app.protection.models import MailboxRow
from app.tenants.actor import Role
from app.tenants.models import Domain, Session, Tenant, User
from tests.integration.console.world import Console

pytestmark = pytest.mark.anyio


async def test_a_microsoft_administrator_connects_the_organisation_and_switches_a_domain_on(console: Console) -> None:
    tenant, (ada, _) = console.microsoft("ada", "ben")
    browser = console.browser()
    assert "Microsoft 365" in await browser.page("/")

    answer = await browser.sign_in("microsoft", ada)
    assert answer.headers["location"] == "/"
    page = await browser.page("/onboarding")
    assert 'data-step="2"' in page
    assert "Mail.ReadWrite" in page

    back = await browser.accept_consent(await browser.to_consent())
    done = await browser.get(back)
    assert done.headers["location"] == "/onboarding"
    page = await browser.page("/onboarding")
    assert 'data-step="4"' in page
    assert f'data-testid="domain-{console.domain}"' in page

    row = await console.only_tenant(tenant.id)
    assert row.status == "active"
    assert row.consented_at is not None
    async with console.database.tenant(row.tenant_id) as session:
        owner = (await session.scalars(select(User))).one()
        assert (owner.role, owner.subject) == (Role.OWNER.value, ada.id)
        assert {box.address for box in await session.scalars(select(MailboxRow))} == {
            f"ada@{console.domain}",
            f"ben@{console.domain}",
        }
        assert not (await session.scalars(select(Domain))).one().protected

    switched = await browser.post("/onboarding/protect", {"domains": console.domain, "since": "7"})
    assert switched.headers["location"] == "/overview"
    async with console.database.tenant(row.tenant_id) as session:
        domain = (await session.scalars(select(Domain))).one()
        assert domain.protected
        assert not domain.dry_run
        assert domain.protect_since is not None
        assert 6.99 < (console.clock() - domain.protect_since).total_seconds() / 86400 < 7.01
    assert 'data-status="on"' in await browser.page("/overview")


async def test_a_google_administrator_enters_the_delegation_and_checks_until_it_works(console: Console) -> None:
    hanako, _ = console.google("hanako", "taro")
    browser = console.browser()
    await browser.sign_in("google", hanako)
    page = await browser.page("/onboarding")
    assert 'data-step="2"' in page
    assert console.google_client_id in page
    assert "https://www.googleapis.com/auth/gmail.modify" in page

    await browser.post("/onboarding/check")
    page = await browser.page("/onboarding")
    assert 'data-testid="check-delegation" data-status="failed"' in page
    assert (await console.only_tenant(console.google_domain, "google")).status == "onboarding"

    console.delegate(hanako.customer)
    await browser.post("/onboarding/check")
    page = await browser.page("/onboarding")
    assert 'data-step="4"' in page
    row = await console.only_tenant(console.google_domain, "google")
    assert (row.status, row.admin_address) == ("active", f"hanako@{console.google_domain}")


async def test_a_dry_run_is_stored_as_such(console: Console) -> None:
    _, (ada,) = console.microsoft("ada")
    browser = console.browser()
    await browser.sign_in("microsoft", ada)
    await browser.get(await browser.accept_consent(await browser.to_consent()))
    await browser.post("/onboarding/protect", {"domains": console.domain, "dry_run": "true"})
    row = await console.only_tenant(ada.tenant_id)
    async with console.database.tenant(row.tenant_id) as session:
        assert (await session.scalars(select(Domain.dry_run))).all() == [True]


async def test_colleagues_who_sign_in_later_see_their_own_clicks_and_administrators_operate(console: Console) -> None:
    tenant, (ada, ben) = console.microsoft("ada", "ben")
    second = console.emulators.world.microsoft.add_person(tenant, "Cem", f"cem@{console.domain}", is_admin=True)
    first = console.browser()
    await first.sign_in("microsoft", ada)
    await first.get(await first.accept_consent(await first.to_consent()))

    user = console.browser()
    await user.sign_in("microsoft", ben)
    assert (await user.get("/")).headers["location"] == "/my-clicks"
    operator = console.browser()
    await operator.sign_in("microsoft", second)
    assert (await operator.get("/")).headers["location"] == "/overview"
    row = await console.only_tenant(tenant.id)
    async with console.database.tenant(row.tenant_id) as session:
        roles = {person.email: person.role for person in await session.scalars(select(User))}
    assert {email.partition("@")[0]: role for email, role in roles.items()} == {
        "ada": "owner",
        "ben": "user",
        "cem": "operator",
    }


async def test_a_role_that_was_given_survives_the_next_sign_in(console: Console) -> None:
    tenant, (ada, ben) = console.microsoft("ada", "ben")
    first = console.browser()
    await first.sign_in("microsoft", ada)
    await first.get(await first.accept_consent(await first.to_consent()))
    colleague = console.browser()
    await colleague.sign_in("microsoft", ben)
    row = await console.only_tenant(tenant.id)
    async with console.database.tenant(row.tenant_id) as session:
        ben_id = (await session.scalars(select(User.id).where(User.subject == ben.id))).one()
    await first.page("/people")
    assert (await first.post(f"/people/{ben_id}/role", {"role": "analyst"})).status_code == 303
    await colleague.sign_in("microsoft", ben)
    assert "Analyst" in await colleague.page("/overview")


async def test_signing_in_goes_on_to_the_page_that_was_asked_for(console: Console) -> None:
    tenant_id = await console.make_tenant()
    _, (ada,) = console.microsoft("ada")
    async with console.database.tenant(tenant_id) as session:
        (await session.scalars(select(Tenant))).one().external_id = ada.tenant_id
    browser = console.browser()
    asked = await browser.get("/clicks")
    assert asked.headers["location"] == "/?next=%2Fclicks"
    assert "/sign-in/microsoft?next=/clicks" in (await browser.get(asked.headers["location"])).text
    address = await browser.to_provider("microsoft", "/clicks")
    answer = await browser.get(await browser.at_microsoft(address, ada))
    assert answer.headers["location"] == "/clicks"


async def test_a_sign_in_started_under_another_host_name_moves_to_the_consoles_own(console: Console) -> None:
    browser = console.browser()
    moved = await browser.get("/sign-in/microsoft", headers={"host": "localhost:1"})
    assert moved.headers["location"] == f"{console.url}/sign-in/microsoft?moved=1"


async def test_signing_out_ends_the_session_in_the_database(console: Console) -> None:
    tenant_id = await console.make_tenant()
    browser = await console.signed_in(tenant_id, Role.OPERATOR)
    stolen = dict(browser.http.cookies)
    await browser.page("/overview")
    assert (await browser.post("/sign-out")).headers["location"] == "/"
    async with console.database.tenant(tenant_id) as session:
        assert (await session.scalars(select(Session))).all() == []
    thief = console.browser()
    thief.http.cookies.update(stolen)
    assert (await thief.get("/overview")).headers["location"].startswith("/?next=")


async def test_the_acts_of_connecting_are_in_the_audit_log(console: Console) -> None:
    _, (ada,) = console.microsoft("ada")
    browser = console.browser()
    await browser.sign_in("microsoft", ada)
    await browser.get(await browser.accept_consent(await browser.to_consent()))
    await browser.post("/onboarding/protect", {"domains": console.domain})
    row = await console.only_tenant(ada.tenant_id)
    async with console.database.tenant(row.tenant_id) as session:
        actions = (await session.scalars(text("SELECT action FROM audit_log ORDER BY id"))).all()
    assert actions == [
        "session.started",
        "consent.requested",
        "consent.granted",
        "tenant.connected",
        "mailboxes.refreshed",
        "domain.protected",
    ]
    page = await browser.page("/audit")
    assert "tenant.connected" in page
