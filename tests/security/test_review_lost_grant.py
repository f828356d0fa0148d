"""What a lost grant must not undo: a tenant that was paused or is leaving when a job meets the refusal."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest
from sqlalchemy import select

from app.audit.models import AuditEntry
from app.bootstrap import LoadedProviders
from app.kit.crypto import KeyRing
from app.kit.db import Database
from app.protection.runtime import Runtime
from app.protection.sync import stop_tenant
from app.settings import Settings
from app.tenants.models import Tenant

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("active", "revoked"),
        ("blocked", "revoked"),
        ("paused", "paused"),
        ("leaving", "leaving"),
        ("onboarding", "onboarding"),
    ],
)
async def test_a_lost_grant_stops_only_what_was_running(
    database: Database, keyring: KeyRing, tmp_path: Path, before: str, after: str
) -> None:
    settings = Settings(data_dir=tmp_path, _env_file=None)
    runtime = Runtime(settings, database, keyring, LoadedProviders(settings, keyring))
    tenant_id = uuid.uuid4()
    async with database.tenant(tenant_id) as session:
        values = {"name": "Our", "provider": "google", "external_id": "our.example", "admin_address": "a@our.example"}
        session.add(Tenant(tenant_id=tenant_id, status=before, **values))
    await stop_tenant(runtime, tenant_id, "revoked", "unauthorized_client")
    async with database.tenant(tenant_id) as session:
        assert (await session.scalars(select(Tenant.status))).one() == after
        told = (await session.scalars(select(AuditEntry))).all()
    assert bool(told) == (before != after)
