"""Tenant isolation in the database, and jobs that belong to their transaction."""

from __future__ import annotations

import uuid

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, select, text
from sqlalchemy.exc import DBAPIError

from app.audit.models import AuditEntry
from app.kit.db import Base, Database, sqlalchemy_url
from app.kit.errors import ConfigurationError
from app.kit.jobs import defer
from app.kit.postgres import DatabaseUrls
from app.migrations.env_filter import include
from app.protection.models import MailboxRow
from app.tenants.models import Tenant

pytestmark = pytest.mark.anyio


async def _tenant(database: Database, external_id: str) -> uuid.UUID:
    tenant_id = uuid.uuid4()
    async with database.tenant(tenant_id) as session:
        session.add(Tenant(tenant_id=tenant_id, name="N", provider="microsoft", external_id=external_id))
        session.add(MailboxRow(tenant_id=tenant_id, external_id="m", address="a@a.example", domain="a.example"))
    return tenant_id


async def test_a_query_without_a_tenant_sees_nothing(database: Database) -> None:
    await _tenant(database, "one")
    async with database.untenanted() as session:
        for table in Base.metadata.sorted_tables:
            if "tenant_id" in table.columns:
                assert (await session.execute(select(table))).first() is None, table.name


async def test_a_tenant_sees_its_own_rows_alone_and_cannot_write_anothers(database: Database) -> None:
    one, two = await _tenant(database, "one"), await _tenant(database, "two")
    async with database.tenant(one) as session:
        assert (await session.scalars(select(MailboxRow.tenant_id))).all() == [one]
    with pytest.raises(DBAPIError, match="row-level security"):
        async with database.tenant(one) as session:
            session.add(MailboxRow(tenant_id=two, external_id="x", address="x", domain="x"))


async def test_every_tenant_table_is_guarded(database: Database) -> None:
    async with database.untenanted() as session:
        rows = await session.execute(
            text(
                "SELECT c.relname, c.relrowsecurity, EXISTS (SELECT 1 FROM pg_policy p WHERE p.polrelid = c.oid) "
                "FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id' "
                "WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace"
            )
        )
        found = {name: (on, policy) for name, on, policy in rows}
    assert set(found) == {t.name for t in Base.metadata.sorted_tables if "tenant_id" in t.columns}
    assert all(on and policy for on, policy in found.values()), found


def test_tenant_id_comes_first_in_every_tenant_key() -> None:
    for table in Base.metadata.sorted_tables:
        if "tenant_id" in table.columns:
            assert next(iter(table.primary_key.columns)).name == "tenant_id", table.name


async def test_the_audit_record_cannot_be_changed_or_removed(database: Database) -> None:
    tenant_id = await _tenant(database, "one")
    async with database.tenant(tenant_id) as session:
        session.add(AuditEntry(tenant_id=tenant_id, actor_kind="system", action="test"))
    for statement in ("UPDATE audit_log SET action = 'x'", "DELETE FROM audit_log"):
        with pytest.raises(DBAPIError, match="permission denied"):
            async with database.tenant(tenant_id) as session:
                await session.execute(text(statement))


async def test_a_role_that_can_bypass_row_security_is_refused(database: Database, database_urls: DatabaseUrls) -> None:
    await database.check_role()
    owner = Database(database_urls.owner)
    try:
        with pytest.raises(ConfigurationError, match="row-level security"):
            await owner.check_role()
    finally:
        await owner.close()


def test_the_migrated_schema_is_the_one_the_code_declares(database_urls: DatabaseUrls) -> None:
    engine = create_engine(sqlalchemy_url(database_urls.owner))
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"include_object": include})
        assert compare_metadata(context, Base.metadata) == []
    engine.dispose()


async def test_a_job_exists_only_if_its_transaction_commits(database: Database) -> None:
    tenant_id = uuid.uuid4()
    with pytest.raises(RuntimeError, match="rolled back"):
        async with database.tenant(tenant_id) as session:
            assert await defer(session, "task", {"a": 1})
            raise RuntimeError("rolled back")
    async with database.tenant(tenant_id) as session:
        assert await defer(session, "task", {"a": 1})
        assert (await session.execute(text("SELECT count(*) FROM procrastinate_jobs"))).scalar() == 1


async def test_waiting_jobs_of_one_queueing_lock_coalesce(database: Database) -> None:
    async with database.tenant(uuid.uuid4()) as session:
        assert await defer(session, "task", {}, queueing_lock="mailbox 1")
        assert not await defer(session, "task", {}, queueing_lock="mailbox 1")
        assert await defer(session, "task", {}, queueing_lock="mailbox 2")
