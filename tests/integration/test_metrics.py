"""What ``/metrics`` says, and to whom."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import text

from app.kit.db import Database
from app.kit.exposition import Exposition
from app.protection import queue
from app.protection.metrics import FromDatabase, FromProviders
from app.serve import Health

pytestmark = pytest.mark.anyio


def asking(token: str) -> httpx.AsyncClient:
    app = Health("gateway", {}, metrics=Exposition(token))
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://postern")


async def test_a_process_tells_what_it_counts_in_the_format_that_prometheus_reads() -> None:
    async with asking("") as client:
        answer = await client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert "postern_intake_notifications_total" in answer.text


async def test_with_a_token_only_who_presents_it_reads_them() -> None:
    async with asking("s3cret") as client:
        for header in ("", "s3cret", "Bearer wrong", "Bearer s3cret ", "Bearer \udcff"):
            raw = header.encode("utf-8", "surrogateescape")
            assert (await client.get("/metrics", headers=[(b"authorization", raw)])).status_code == 401
        assert (await client.get("/metrics", headers={"Authorization": "Bearer s3cret"})).status_code == 200
        assert (await client.post("/metrics", headers={"Authorization": "Bearer s3cret"})).status_code == 405


async def test_a_role_without_metrics_has_no_such_page() -> None:
    app = Health("gateway", {})
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://postern") as client:
        assert (await client.get("/metrics")).status_code == 404


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def seen(database: Database, registry: CollectorRegistry) -> Iterator[FromDatabase]:
    made = FromDatabase(database, registry)
    yield made
    made.close()


async def test_jobs_are_told_by_task_and_state_with_the_age_of_the_oldest(
    database: Database, seen: FromDatabase, registry: CollectorRegistry
) -> None:
    tenant_id, now = uuid.uuid4(), datetime.now(UTC)
    async with database.tenant(tenant_id) as session:
        await queue.defer_sync(session, tenant_id, 1, at=now - timedelta(minutes=5))
        await queue.defer_sync(session, tenant_id, 2)
        await queue.defer_sync(session, tenant_id, 3, at=now + timedelta(hours=1))
        await session.execute(text("UPDATE procrastinate_jobs SET status = 'doing' WHERE args ->> 'mailbox_id' = '2'"))
    await seen.ask()

    def told(state: str) -> float | None:
        return registry.get_sample_value("postern_jobs", {"task": queue.SYNC, "state": state})

    assert [told(state) for state in ("due", "later", "doing", "failed")] == [1, 1, 1, 0]
    age = registry.get_sample_value("postern_jobs_oldest_due_seconds", {"task": queue.SYNC})
    assert age is not None
    assert age >= 300


async def test_workers_are_told_by_their_last_sign_of_life(
    database: Database, seen: FromDatabase, registry: CollectorRegistry
) -> None:
    async with database.untenanted() as session:
        for _ in range(2):
            await session.execute(text("SELECT procrastinate_register_worker_v1()"))
        await session.execute(
            text(
                "UPDATE procrastinate_workers SET last_heartbeat = now() - interval '1 hour' "
                "WHERE id = (SELECT min(id) FROM procrastinate_workers)"
            )
        )
    await seen.ask()
    assert registry.get_sample_value("postern_workers_known") == 2
    assert registry.get_sample_value("postern_workers_alive") == 1
    assert (registry.get_sample_value("postern_worker_heartbeat_age_seconds") or 0) >= 3600


async def test_threat_lists_are_told_with_their_last_success(
    database: Database, seen: FromDatabase, registry: CollectorRegistry
) -> None:
    read = datetime(2026, 11, 1, tzinfo=UTC)
    async with database.untenanted() as session:
        await session.execute(
            text(
                "INSERT INTO threat_sources (name, kind, every_seconds, enabled, last_success, entries, failures) "
                "VALUES ('urls', 'list', 300, true, :read, 42, 0), ('never', 'list', 300, true, NULL, 0, 3)"
            ),
            {"read": read},
        )
    await seen.ask()

    def told(name: str, source: str) -> float | None:
        return registry.get_sample_value(f"postern_source_{name}", {"source": source})

    assert told("last_success_timestamp_seconds", "urls") == read.timestamp()
    assert told("last_success_timestamp_seconds", "never") == 0
    assert told("entries", "urls") == 42
    assert told("failures", "never") == 3


async def test_while_the_database_is_away_only_that_is_told() -> None:
    registry, away = CollectorRegistry(), Database("postgresql://nobody@127.0.0.1:9/none")
    seen = FromDatabase(away, registry)
    await seen.ask()
    assert registry.get_sample_value("postern_database_up") == 0
    assert registry.get_sample_value("postern_workers_alive") is None
    await away.close()


async def test_the_database_is_up_and_its_connections_are_told(seen: FromDatabase, registry: CollectorRegistry) -> None:
    await asyncio.gather(seen.ask(), seen.ask())
    assert registry.get_sample_value("postern_database_up") == 1
    taken = registry.get_sample_value("postern_database_connections_taken")
    most = registry.get_sample_value("postern_database_connections_most")
    assert taken is not None and most is not None
    assert 0 < taken <= most


async def test_requests_to_providers_are_told_with_how_often_they_said_slow_down() -> None:
    registry = CollectorRegistry()
    FromProviders(lambda: {"google": (7, 2, 1, 0)}, registry)
    for name, wanted in (("sent", 7), ("throttled", 2), ("retried", 1), ("failed", 0)):
        found = registry.get_sample_value(f"postern_provider_requests_{name}_total", {"provider": "google"})
        assert found == wanted
