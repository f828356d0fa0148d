"""Choosing mailboxes on the page: by group, by list, everything; what the page says of it."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from app.protection.models import MailboxChoice, MailboxRow
from app.tenants.actor import Role
from connectors.emulators.google.accounts import NewUser
from tests.integration.console.world import Browser, Console

pytestmark = pytest.mark.anyio


async def connected(console: Console, *names: str) -> tuple[Browser, str]:
    """A connected organisation at Microsoft and its owner's browser; the tenant's id at Microsoft."""
    tenant, (first, *_) = console.microsoft(*names)
    browser = console.browser()
    await browser.sign_in("microsoft", first)
    await browser.get(await browser.accept_consent(await browser.to_consent()))
    return browser, tenant.id


async def chosen(console: Console, external_id: str) -> dict[str, bool]:
    row = await console.only_tenant(external_id)
    async with console.database.tenant(row.tenant_id) as session:
        return {box.address.partition("@")[0]: box.enabled for box in await session.scalars(select(MailboxRow))}


async def test_connecting_answers_at_once_and_the_page_shows_the_directory_being_read(console: Console) -> None:
    _, (ada,) = console.microsoft("ada")
    browser = console.browser()
    await browser.sign_in("microsoft", ada)
    back = await browser.accept_consent(await browser.to_consent())
    assert (await browser.http.get(back)).status_code == 303  # no worker so far

    page = await browser.page("/onboarding")
    assert 'data-testid="reading"' in page
    assert "data-refresh" in page
    assert 'data-testid="protect-form"' not in page

    await console.read_directories()
    page = await browser.page("/onboarding")
    assert 'data-testid="protect-form"' in page
    assert 'data-testid="reading"' not in page


async def test_a_group_is_chosen_by_its_address_and_its_members_alone_are_taken_in(console: Console) -> None:
    browser, tenant_id = await connected(console, "ada", "ben")
    state = console.emulators.world.microsoft
    state.grant(tenant_id, console.emulators.client_id, ["GroupMember.Read.All"])
    address = f"pilot@{console.domain}"
    state.add_group(state.tenants[tenant_id], "Pilot", [state.person(f"ben@{console.domain}")], address)

    answer = await browser.post("/connector/choice", {"mode": "group", "groups": address})
    assert answer.headers["location"] == "/connector/choice"

    page = await browser.page("/connector/choice")
    assert 'data-testid="choice" data-mode="group" data-state="done"' in page
    assert address in page
    assert await chosen(console, tenant_id) == {"ada": False, "ben": True}
    assert 'data-testid="left-out-not_chosen"' in await browser.page("/connector")


@pytest.mark.parametrize("groups", ["", "nobody@nowhere.example", "\n".join(map(str, range(21)))])
async def test_groups_that_are_none_or_too_many_are_refused_and_nothing_changes(console: Console, groups: str) -> None:
    browser, tenant_id = await connected(console, "ada")
    console.emulators.world.microsoft.grant(tenant_id, console.emulators.client_id, ["GroupMember.Read.All"])

    answer = await browser.post("/connector/choice", {"mode": "group", "groups": groups})
    assert answer.status_code == 400
    assert "Nothing was changed" in answer.text
    assert 'data-mode="all"' in await browser.page("/connector/choice")


async def test_without_the_permission_for_groups_it_is_named(console: Console) -> None:
    browser, _ = await connected(console, "ada")
    answer = await browser.post("/connector/choice", {"mode": "group", "groups": "pilot@nordwind.example"})
    assert answer.status_code == 400
    assert "GroupMember.Read.All" in answer.text


async def test_an_uploaded_list_names_and_counts_what_it_could_not_take(console: Console) -> None:
    browser, tenant_id = await connected(console, "ada", "ben")
    text = f"\ufeffName;Mail\r\nBen;ben@{console.domain}\r\nGone;gone@{console.domain}\r\n"

    answer = await browser.http.post(
        "/connector/choice",
        data={"csrf": browser.csrf, "mode": "list"},
        files={"file": ("list.csv", text.encode(), "text/csv")},
    )
    assert answer.status_code == 303
    await console.read_directories()

    page = await browser.page("/connector/choice")
    assert 'data-testid="unknown-addresses" data-count="1"' in page
    assert f"gone@{console.domain}" in page
    assert 'data-testid="refused-addresses" data-count="4"' in page  # Name, Mail, Ben, Gone
    assert await chosen(console, tenant_id) == {"ada": False, "ben": True}


@pytest.mark.parametrize("data", [b"\x89PNG\r\n\x1a\n\xff\xfe\xfd", b"no address here"])
async def test_a_file_that_is_no_list_is_refused(console: Console, data: bytes) -> None:
    browser, tenant_id = await connected(console, "ada")
    answer = await browser.http.post(
        "/connector/choice",
        data={"csrf": browser.csrf, "mode": "list"},
        files={"file": ("list.csv", data, "text/csv")},
    )
    assert answer.status_code == 400
    assert await chosen(console, tenant_id) == {"ada": True}


async def test_a_reading_that_failed_is_shown_with_its_reason_and_asked_for_again(console: Console) -> None:
    tenant_id = await console.make_tenant()
    async with console.database.tenant(tenant_id) as session:
        session.add(MailboxChoice(tenant_id=tenant_id, state="failed", error="Graph answered 503"))
    browser = await console.signed_in(tenant_id, Role.OWNER)
    page = await browser.page("/connector/choice")
    assert 'data-testid="reading-failed"' in page
    assert "Graph answered 503" in page
    assert (await browser.http.post("/connector/refresh", data={"csrf": browser.csrf})).status_code == 303
    assert 'data-state="waiting"' in await browser.page("/connector/choice")
    await console.read_directories()


async def test_a_workspace_customer_that_is_connected_cannot_be_claimed_under_its_other_domain(
    console: Console,
) -> None:
    (hanako,) = console.google("hanako", delegated=True)
    browser = console.browser()
    await browser.sign_in("google", hanako)
    await browser.post("/onboarding/check")
    first = await console.only_tenant(console.google_domain, "google")
    assert (first.status, first.organisation_id) == ("active", hanako.customer)

    # The customer makes another domain its primary one: another hosted domain in the sign-in, the same directory.
    google, other = console.emulators.world.google, f"second-{console.google_domain}"
    google.accounts.customers[hanako.customer].domains.insert(0, other)
    jiro = google.create_user(NewUser(f"jiro@{other}", "Jiro", admin=True))
    intruder = console.browser()
    await intruder.sign_in("google", jiro)
    answer = await intruder.post("/onboarding/check")

    assert answer.status_code == 409
    second = await console.only_tenant(other, "google")
    assert (second.status, second.organisation_id) == ("onboarding", "")
