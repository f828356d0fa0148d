"""Roles that nobody gave by hand follow what the provider says of its administrators."""

from __future__ import annotations

import uuid

import pytest
from sqlalchemy import select

from app.audit.models import AuditEntry
from app.kit.clock import utc_now
from app.kit.db import Database
from app.tenants.accounts import TenantStatus, admit, person_actor
from app.tenants.actor import Role
from app.tenants.models import Tenant, User
from app.tenants.people import set_role
from connectors.base.types import Provider, SignedIn

pytestmark = pytest.mark.anyio

OWNER, BEN = "owner-subject", "ben-subject"


async def sign_in(database: Database, tenant_id: uuid.UUID, is_admin: bool | None, subject: str = BEN) -> User:
    who = SignedIn(Provider.GOOGLE, "corp.example", subject, f"{subject}@corp.example", "Somebody", is_admin)
    async with database.tenant(tenant_id) as session:
        return await admit(session, tenant_id, who, utc_now())


@pytest.fixture
async def tenant_id(database: Database) -> uuid.UUID:
    """An organisation that its owner has connected."""
    made = uuid.uuid4()
    async with database.tenant(made) as session:
        session.add(Tenant(tenant_id=made, name="Corp", provider="google", external_id="corp.example"))
    await sign_in(database, made, True, OWNER)
    async with database.tenant(made) as session:
        tenant = (await session.scalars(select(Tenant))).one()
        tenant.status = TenantStatus.ACTIVE.value
    return made


async def test_an_operator_who_administers_no_more_is_a_user_again_and_the_log_says_so(
    database: Database, tenant_id: uuid.UUID
) -> None:
    assert (await sign_in(database, tenant_id, True)).role == Role.OPERATOR
    assert (await sign_in(database, tenant_id, None)).role == Role.OPERATOR
    user = await sign_in(database, tenant_id, False)
    assert user.role == Role.USER
    async with database.tenant(tenant_id) as session:
        line = (await session.scalars(select(AuditEntry).where(AuditEntry.action == "person.role"))).one()
    assert (line.actor_kind, line.target) == ("system", user.email)
    assert line.detail == {"before": "operator", "after": "user", "user": str(user.id)}


async def test_a_role_that_an_owner_gave_stays_whatever_the_provider_says(
    database: Database, tenant_id: uuid.UUID
) -> None:
    owner = await sign_in(database, tenant_id, True, OWNER)
    assert owner.role == Role.OWNER
    user = await sign_in(database, tenant_id, False)
    assert user.role == Role.USER
    async with database.tenant(tenant_id) as session:
        await set_role(session, person_actor(owner), user.id, Role.OPERATOR.value)
    assert (await sign_in(database, tenant_id, False)).role == Role.OPERATOR
    assert (await sign_in(database, tenant_id, False, OWNER)).role == Role.OWNER


async def test_what_an_owner_decided_on_one_person_says_nothing_of_another(
    database: Database, tenant_id: uuid.UUID
) -> None:
    owner = await sign_in(database, tenant_id, True, OWNER)
    other = await sign_in(database, tenant_id, False, "other-subject")
    async with database.tenant(tenant_id) as session:
        await set_role(session, person_actor(owner), other.id, Role.OPERATOR.value)
    assert (await sign_in(database, tenant_id, True)).role == Role.OPERATOR
    assert (await sign_in(database, tenant_id, False)).role == Role.USER
