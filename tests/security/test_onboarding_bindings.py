"""Attempts to bind an organisation that one does not administer, or to forge what a provider sends back."""

from __future__ import annotations

from datetime import timedelta
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from prometheus_client import REGISTRY
from sqlalchemy import select, text

from app.tenants.actor import Role
from app.tenants.models import User
from tests.integration.console.world import Browser, Console

pytestmark = pytest.mark.anyio


def refusals(reason: str) -> float:
    return REGISTRY.get_sample_value("postern_console_refusals_total", {"reason": reason}) or 0.0


async def statuses(console: Console, external_id: str) -> tuple[str, bool]:
    row = await console.only_tenant(external_id)
    return row.status, row.consented_at is not None


def with_query(url: str, **changes: str | None) -> str:
    parts = urlsplit(url)
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    for name, value in changes.items():
        if value is None:
            query.pop(name, None)
        else:
            query[name] = value
    return parts._replace(query=urlencode(query)).geturl()


async def consenting(console: Console, domain: str = "") -> tuple[Browser, str, str]:
    """An administrator who has accepted on the consent page: browser, address of the callback, tenant."""
    _, (ada,) = console.microsoft("ada", domain=domain)
    browser = console.browser()
    await browser.sign_in("microsoft", ada)
    return browser, await browser.accept_consent(await browser.to_consent()), ada.tenant_id


async def refused(console: Console, browser: Browser, address: str, tenant: str, code: str, status: int = 400) -> None:
    """The callback is refused by name, counted, and leaves the tenant unbound."""
    before = refusals(code)
    answer = await browser.get(address)
    assert answer.status_code == status
    assert f'data-code="{code}"' in answer.text
    assert refusals(code) == before + 1
    assert await statuses(console, tenant) == ("onboarding", False)


async def test_a_consent_callback_without_a_session_is_refused(console: Console) -> None:
    _, back, tenant = await consenting(console)
    await refused(console, console.browser(), back, tenant, "consent_without_session")


async def test_a_consent_callback_with_another_tenants_id_is_refused(console: Console) -> None:
    browser, back, tenant = await consenting(console)
    other, _ = console.microsoft("eve", domain=f"evil-{console.domain}", consent=True)
    await refused(console, browser, with_query(back, tenant=other.id), tenant, "consent_other_tenant")


async def test_an_error_counts_even_where_the_answer_also_says_that_consent_was_given(console: Console) -> None:
    browser, back, tenant = await consenting(console)
    address = with_query(back, error="access_denied", error_description="AADSTS65004", admin_consent="True")
    await refused(console, browser, address, tenant, "consent_refused")


async def test_an_answer_that_does_not_say_granted_is_refused(console: Console) -> None:
    browser, back, tenant = await consenting(console)
    await refused(console, browser, with_query(back, admin_consent=None), tenant, "consent_refused")


async def test_a_changed_state_is_refused(console: Console) -> None:
    browser, back, tenant = await consenting(console)
    await refused(console, browser, with_query(back, state="x" * 43), tenant, "state_mismatch")


async def test_a_missing_state_is_refused(console: Console) -> None:
    browser, back, tenant = await consenting(console)
    await refused(console, browser, with_query(back, state=None), tenant, "state_mismatch")


async def test_a_callback_from_another_provider_is_refused(console: Console) -> None:
    browser, back, tenant = await consenting(console)
    address = back.replace("/callback/microsoft", "/callback/google")
    await refused(console, browser, address, tenant, "state_provider")


async def test_a_consent_that_took_too_long_is_refused(console: Console) -> None:
    browser, back, tenant = await consenting(console)
    console.clock.offset = timedelta(minutes=11)
    await refused(console, browser, back, tenant, "state_missing")


async def test_a_consent_callback_works_once(console: Console) -> None:
    browser, back, tenant = await consenting(console)
    flow = dict(browser.http.cookies)
    await refused(console, browser, with_query(back, error="x"), tenant, "consent_refused")
    browser.http.cookies.update(flow)
    await refused(console, browser, back, tenant, "state_replayed")


async def test_a_consent_started_in_another_session_is_refused(console: Console) -> None:
    """A victim is led to a callback that the attacker started, in the attacker's own tenant."""
    _, back, tenant = await consenting(console)
    _, (victim,) = console.microsoft("vic", domain=f"victim-{console.domain}")
    victims = console.browser()
    await victims.sign_in("microsoft", victim)
    await refused(console, victims, back, tenant, "state_missing")
    assert await statuses(console, victim.tenant_id) == ("onboarding", False)


async def test_a_consent_flow_copied_into_another_session_is_refused(console: Console) -> None:
    browser, back, tenant = await consenting(console)
    _, (victim,) = console.microsoft("vic", domain=f"victim-{console.domain}")
    victims = console.browser()
    await victims.sign_in("microsoft", victim)
    victims.http.cookies.set("postern-consent", browser.http.cookies["postern-consent"], domain="127.0.0.1")
    await refused(console, victims, back, tenant, "consent_session")


async def test_refused_consents_are_in_the_audit_log(console: Console) -> None:
    browser, back, tenant = await consenting(console)
    await browser.get(with_query(back, error="access_denied"))
    row = await console.only_tenant(tenant)
    async with console.database.tenant(row.tenant_id) as session:
        reasons = await session.scalars(
            text("SELECT detail->>'reason' FROM audit_log WHERE action = 'consent.refused'")
        )
        assert reasons.all() == ["consent_refused"]


async def test_someone_who_does_not_administer_cannot_take_over_an_organisation_that_consented_before(
    console: Console,
) -> None:
    """The application has its roles in the tenant already, so every probe would pass."""
    _, (_, ben) = console.microsoft("ada", "ben", consent=True)
    browser = console.browser()
    await browser.sign_in("microsoft", ben)
    assert "An administrator of your organisation" in await browser.page("/onboarding")
    for path in ("/onboarding/grant", "/onboarding/check"):
        answer = await browser.post(path)
        assert answer.status_code == 400
        assert 'data-code="not_administrator"' in answer.text
    assert await statuses(console, ben.tenant_id) == ("onboarding", False)


async def test_someone_who_does_not_administer_a_workspace_cannot_connect_it(console: Console) -> None:
    """The colleague was quicker than the administrator, and tries again once the delegation stands."""
    hanako, taro = console.google("hanako", "taro")
    browser = console.browser()
    await browser.sign_in("google", taro)
    console.delegate(hanako.customer)
    await browser.post("/onboarding/check")
    assert 'data-testid="check-directory" data-status="failed"' in await browser.page("/onboarding")
    assert (await console.only_tenant(console.google_domain, "google")).status == "onboarding"


async def test_who_was_first_without_proof_keeps_nothing_once_an_administrator_connects(console: Console) -> None:
    _, (ada, ben) = console.microsoft("ada", "ben")
    squatter = console.browser()
    await squatter.sign_in("microsoft", ben)
    for path, form in (
        ("/lists", {"action": "allow", "pattern": "evil.example"}),
        ("/settings/organisation", {"name": "Mine"}),
        ("/onboarding/protect", {"domains": console.domain}),
    ):
        answer = await squatter.post(path, form)
        assert answer.headers.get("location") == "/onboarding" or answer.status_code == 400
    admin = console.browser()
    await admin.sign_in("microsoft", ada)
    await admin.get(await admin.accept_consent(await admin.to_consent()))
    row = await console.only_tenant(ada.tenant_id)
    async with console.database.tenant(row.tenant_id) as session:
        roles = {user.subject: user.role for user in await session.scalars(select(User))}
        assert await session.scalar(text("SELECT count(*) FROM list_entries")) == 0
    assert roles == {ada.id: Role.OWNER.value, ben.id: Role.USER.value}
    assert row.name == console.domain
    assert (await squatter.get("/overview")).status_code == 403


async def test_an_organisation_that_is_connected_is_not_connected_again_by_a_second_administrator(
    console: Console,
) -> None:
    browser, back, tenant = await consenting(console)
    await browser.get(back)
    emulated = console.emulators.world.microsoft.tenants[tenant]
    second = console.emulators.world.microsoft.add_person(emulated, "Cem", f"cem@{console.domain}", is_admin=True)
    other = console.browser()
    await other.sign_in("microsoft", second)
    await other.page("/overview")
    answer = await other.post("/onboarding/grant")
    assert answer.status_code == 409
    assert (await other.post("/onboarding/check")).status_code == 409
    row = await console.only_tenant(tenant)
    assert row.admin_address == f"ada@{console.domain}"


async def test_one_organisation_is_one_tenant_however_often_its_people_sign_in(console: Console) -> None:
    _, people = console.microsoft("ada", "ben", "cleo")
    found = set()
    for person in people:
        browser = console.browser()
        await browser.sign_in("microsoft", person)
        found.add((await console.only_tenant(person.tenant_id)).tenant_id)
    assert len(found) == 1


async def test_a_person_of_an_organisation_nobody_connected_who_is_no_administrator_is_told_so(
    console: Console,
) -> None:
    """Google says who administers once delegation stands."""
    _, taro = console.google("hanako", "taro", delegated=True)
    answer = await console.browser().sign_in("google", taro)
    assert answer.status_code == 400
    assert 'data-code="not_connected"' in answer.text
    with pytest.raises(LookupError):
        await console.only_tenant(console.google_domain, "google")
