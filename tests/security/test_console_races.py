"""The same things done at the same moment, and an audit log that the application itself cannot rewrite."""

from __future__ import annotations

import asyncio
import uuid

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import ProgrammingError

from app.audit.service import record
from app.tenants.actor import Role, system_actor
from app.tenants.models import Tenant, User
from app.tenants.states import spend_state
from tests.integration.console.world import Console

pytestmark = pytest.mark.anyio


async def test_colleagues_who_are_first_at_the_same_moment_share_one_tenant(console: Console) -> None:
    _, people = console.microsoft("ada", "ben", "cleo", "dan")
    browsers = [console.browser() for _ in people]
    backs = [
        await browser.at_microsoft(await browser.to_provider("microsoft"), person)
        for browser, person in zip(browsers, people, strict=True)
    ]
    answers = await asyncio.gather(*(browser.get(back) for browser, back in zip(browsers, backs, strict=True)))
    assert [answer.status_code for answer in answers] == [303] * 4
    row = await console.only_tenant(people[0].tenant_id)
    async with console.database.tenant(row.tenant_id) as session:
        assert len((await session.scalars(select(User))).all()) == 4


async def test_one_answer_used_twice_at_the_same_moment_signs_in_once(console: Console) -> None:
    _, (ada,) = console.microsoft("ada")
    browser = console.browser()
    back = await browser.at_microsoft(await browser.to_provider("microsoft"), ada)
    answers = await asyncio.gather(*(browser.get(back) for _ in range(4)))
    assert sorted(answer.status_code for answer in answers) == [303, 400, 400, 400]


async def test_a_state_is_spent_once_however_many_try(console: Console) -> None:
    now = console.clock()

    async def spend() -> bool:
        async with console.database.untenanted() as session:
            return await spend_state(session, "the-state", now.replace(year=now.year + 1), now)

    assert sorted(await asyncio.gather(*(spend() for _ in range(6)))) == [False] * 5 + [True]


async def test_two_administrators_who_connect_at_the_same_moment_leave_one_owner(console: Console) -> None:
    tenant, (ada,) = console.microsoft("ada")
    cem = console.emulators.world.microsoft.add_person(tenant, "Cem", f"cem@{console.domain}", is_admin=True)
    backs = []
    for person in (ada, cem):
        browser = console.browser()
        await browser.sign_in("microsoft", person)
        backs.append((browser, await browser.accept_consent(await browser.to_consent())))
    answers = await asyncio.gather(*(browser.get(back) for browser, back in backs))
    assert 303 in [answer.status_code for answer in answers]
    row = await console.only_tenant(tenant.id)
    async with console.database.tenant(row.tenant_id) as session:
        roles = (await session.scalars(select(User.role).order_by(User.role))).all()
    assert row.status == "active"
    assert roles == ["owner", "user"]


async def test_two_owners_who_demote_each_other_leave_one(console: Console) -> None:
    tenant_id = await console.make_tenant()
    one, two = await console.signed_in(tenant_id, Role.OWNER), await console.signed_in(tenant_id, Role.OWNER)
    await asyncio.gather(
        one.post(f"/people/{two.user_id}/role", {"role": "user"}),
        two.post(f"/people/{one.user_id}/role", {"role": "user"}),
    )
    async with console.database.tenant(tenant_id) as session:
        roles = (await session.scalars(select(User.role))).all()
    assert "owner" in roles


@pytest.mark.parametrize(
    "statement", ["UPDATE audit_log SET action = 'x'", "DELETE FROM audit_log", "TRUNCATE audit_log"]
)
async def test_the_application_can_neither_change_nor_remove_an_audit_line(console: Console, statement: str) -> None:
    tenant_id = await console.make_tenant()
    async with console.database.tenant(tenant_id) as session:
        await record(session, system_actor(tenant_id, "test"), "test.done")
    with pytest.raises(ProgrammingError, match="permission denied"):
        async with console.database.tenant(tenant_id) as session:
            await session.execute(text(statement))
    async with console.database.tenant(tenant_id) as session:
        assert await session.scalar(text("SELECT count(*) FROM audit_log")) == 1


async def test_an_act_that_is_rolled_back_leaves_no_audit_line(console: Console) -> None:
    tenant_id = await console.make_tenant()

    async def act() -> None:
        async with console.database.tenant(tenant_id) as session:
            await record(session, system_actor(tenant_id, "test"), "test.done")
            raise RuntimeError("something after it failed")

    with pytest.raises(RuntimeError):
        await act()
    async with console.database.tenant(tenant_id) as session:
        assert await session.scalar(text("SELECT count(*) FROM audit_log")) == 0


async def test_no_tenants_rows_are_seen_without_naming_the_tenant(console: Console) -> None:
    tenant_id = await console.make_tenant()
    await console.signed_in(tenant_id, Role.OWNER)
    async with console.database.untenanted() as session:
        for table in ("tenants", "users", "sessions", "audit_log", "domains"):
            assert await session.scalar(text(f"SELECT count(*) FROM {table}")) == 0  # a fixed list of names
    async with console.database.tenant(uuid.uuid4()) as session:
        assert (await session.scalars(select(Tenant))).all() == []
