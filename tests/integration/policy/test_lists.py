"""A tenant's lists on the real database: order, permissions, audit, notification, isolation."""

from __future__ import annotations

import uuid

import psycopg
import pytest
from sqlalchemy import select

from app.audit.models import AuditEntry
from app.kit.db import Database
from app.kit.errors import Conflict, Forbidden, NotFound, Refused
from app.kit.postgres import DatabaseUrls
from app.policy.engine import Action, PolicyContext, Stage
from app.policy.service import CHANNEL, PolicyService
from app.tenants.actor import Actor, ActorKind, Role, cli_actor

FIRST, SECOND = uuid.UUID(int=1), uuid.UUID(int=2)


@pytest.fixture
def tenants(database_urls: DatabaseUrls) -> None:
    with psycopg.connect(database_urls.owner, autocommit=True) as connection:
        for tenant_id, name in ((FIRST, "Contoso"), (SECOND, "Fabrikam")):
            connection.execute(
                "INSERT INTO tenants (tenant_id, name, provider, external_id, settings) "
                "VALUES (%s, %s, 'google', %s, %s)",
                (tenant_id, name, name, '{"gateway": {"failure": "closed", "words": {"contact": "IT"}}}'),
            )
        connection.execute("INSERT INTO domains (tenant_id, name) VALUES (%s, 'contoso.example')", (FIRST,))


@pytest.fixture
def service(database: Database, tenants: None) -> PolicyService:
    return PolicyService(database)


def actor(role: Role, tenant_id: uuid.UUID = FIRST) -> Actor:
    return Actor(ActorKind.PERSON, tenant_id, role, uuid.uuid4(), "Ada")


async def test_new_entries_go_in_front_unless_asked_otherwise(service: PolicyService) -> None:
    owner = actor(Role.OWNER)
    for pattern, place in (("a.example", "first"), ("b.example", "first"), ("c.example", "last")):
        await service.add(owner, action="block", pattern=pattern, place=place)  # type: ignore[arg-type]  # literals
    assert [entry.pattern for entry in await service.entries(owner)] == ["b.example", "a.example", "c.example"]


async def test_the_snapshot_holds_lists_domains_and_settings(service: PolicyService) -> None:
    await service.add(actor(Role.OPERATOR), action="block", pattern="casino.example")
    snapshot = await service.snapshot(FIRST)
    assert (snapshot.name, snapshot.failure, snapshot.words.contact) == ("Contoso", "closed", "IT")
    assert snapshot.own_domains == {"contoso.example"}
    decision = snapshot.decide(PolicyContext(Stage.CLICK, ("https://casino.example/",)))
    assert decision.action is Action.BLOCK


async def test_moving_changes_what_decides(service: PolicyService) -> None:
    owner = actor(Role.OWNER)
    block = await service.add(owner, action="block", pattern="a.example")
    allow = await service.add(owner, action="allow", pattern="a.example")
    await service.move(owner, allow.id, before=None)
    assert [entry.id for entry in await service.entries(owner)] == [block.id, allow.id]
    await service.move(owner, allow.id, before=block.id)
    assert [entry.id for entry in await service.entries(owner)] == [allow.id, block.id]
    await service.move(owner, allow.id, before=allow.id)
    assert [entry.id for entry in await service.entries(owner)] == [allow.id, block.id]


async def test_an_entry_can_be_changed_and_removed(service: PolicyService) -> None:
    owner = actor(Role.OWNER)
    entry = await service.add(owner, action="block", pattern="a.example", note="spam")
    changed = await service.change(owner, entry.id, action="allow", note="fine after all")
    assert (changed.action, changed.pattern, changed.note) == ("allow", "a.example", "fine after all")
    await service.remove(owner, entry.id)
    assert await service.entries(owner) == []


@pytest.mark.parametrize("role", [Role.ANALYST, Role.AUDITOR, Role.DOMAIN_ADMIN, Role.USER])
async def test_only_those_who_configure_may_change_lists(service: PolicyService, role: Role) -> None:
    entry = await service.add(actor(Role.OWNER), action="block", pattern="a.example")
    with pytest.raises(Forbidden):
        await service.add(actor(role), action="allow", pattern="b.example")
    with pytest.raises(Forbidden):
        await service.change(actor(role), entry.id, action="allow")
    with pytest.raises(Forbidden):
        await service.move(actor(role), entry.id, before=None)
    with pytest.raises(Forbidden):
        await service.remove(actor(role), entry.id)
    assert [(row.action, row.pattern) for row in await service.entries(actor(Role.OWNER))] == [("block", "a.example")]


async def test_users_do_not_see_the_lists(service: PolicyService) -> None:
    with pytest.raises(Forbidden):
        await service.entries(actor(Role.USER))


async def test_another_tenants_entry_is_as_good_as_absent(service: PolicyService) -> None:
    entry = await service.add(actor(Role.OWNER), action="block", pattern="a.example")
    other = actor(Role.OWNER, SECOND)
    assert await service.entries(other) == []
    with pytest.raises(NotFound):
        await service.remove(other, entry.id)
    with pytest.raises(NotFound):
        await service.change(other, entry.id, action="allow")
    with pytest.raises(NotFound):
        await service.move(other, entry.id, before=None)
    assert (await service.snapshot(SECOND)).rules == ()


@pytest.mark.parametrize(
    "values",
    [
        {"action": "delete", "pattern": "a.example"},
        {"action": "block", "pattern": ""},
        {"action": "block", "pattern": "(", "kind": "re2"},
        {"action": "block", "pattern": "a.example", "note": "x" * 301},
        {"action": "block", "pattern": "a.example", "note": "\x00"},
    ],
)
async def test_bad_input_is_refused_and_changes_nothing(service: PolicyService, values: dict[str, str]) -> None:
    owner = actor(Role.OWNER)
    with pytest.raises(Refused):
        await service.add(owner, **values)  # type: ignore[arg-type]  # keywords from the table above
    assert await service.entries(owner) == []


async def test_the_same_entry_twice_is_a_conflict(service: PolicyService) -> None:
    owner = actor(Role.OWNER)
    await service.add(owner, action="block", pattern="a.example")
    with pytest.raises(Conflict):
        await service.add(owner, action="block", pattern=" a.example ")


async def test_every_change_is_in_the_audit_log(service: PolicyService, database: Database) -> None:
    owner = actor(Role.OWNER)
    entry = await service.add(owner, action="block", pattern="a.example")
    await service.change(owner, entry.id, action="allow")
    await service.move(owner, entry.id, before=None)
    await service.remove(owner, entry.id)
    async with database.tenant(FIRST) as session:
        lines = list(await session.scalars(select(AuditEntry).order_by(AuditEntry.id)))
    assert [line.action for line in lines] == ["list.added", "list.changed", "list.moved", "list.removed"]
    assert {line.actor_label for line in lines} == {"Ada"}
    assert lines[1].detail["was"] == "block wildcard a.example"


async def test_every_change_tells_the_gateways(service: PolicyService, database_urls: DatabaseUrls) -> None:
    async with await psycopg.AsyncConnection.connect(database_urls.app, autocommit=True) as connection:
        await connection.execute(f"LISTEN {CHANNEL}")
        await service.add(cli_actor(FIRST), action="block", pattern="a.example")
        notices = [notice.payload async for notice in connection.notifies(timeout=60, stop_after=1)]
    assert notices == [str(FIRST)]
