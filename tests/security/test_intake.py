"""What the public intake takes, what it refuses, and that it counts both."""

from __future__ import annotations

import asyncio
import base64
import json
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import REGISTRY
from sqlalchemy import select, text

from app.kit.crypto import KeyRing
from app.kit.db import Database
from app.protection import subscriptions
from app.protection.intake import MAX_BODY_BYTES, MAX_HINTS, IntakeDeps, create_intake
from app.protection.models import IntakeCount, MailboxRow, SubscriptionRow
from app.protection.sync import open_work
from app.tenants.models import Tenant
from connectors.base.types import Provider, Subscription
from connectors.emulators.testing import running_emulators
from tests.integration.protection.world import Organisation, connect, provider_settings

pytestmark = pytest.mark.anyio


@pytest.fixture
async def organisation(database: Database, keyring: KeyRing, tmp_path: Path) -> AsyncIterator[Organisation]:
    with running_emulators() as emulators:
        settings = provider_settings(emulators, tmp_path)
        made = await connect(database, emulators, Provider.MICROSOFT, settings, keyring, "ada")
        yield made
        await made.runtime.providers.aclose()


@pytest.fixture
async def client(organisation: Organisation) -> AsyncIterator[httpx.AsyncClient]:
    runtime = organisation.runtime
    app = create_intake(IntakeDeps(runtime.db, runtime.keyring, runtime.providers))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://intake") as made:
        yield made
    await app.settle()


async def subscribed(organisation: Organisation, secret: str = "s3cret") -> str:
    """A stored subscription of the first mailbox."""
    mailbox_id = await organisation.mailbox_id(organisation.people[0])
    opened = await open_work(organisation.runtime, organisation.tenant_id, mailbox_id)
    assert not isinstance(opened, str)
    made = Subscription(str(uuid.uuid4()), opened[0].mailbox, datetime.now(UTC) + timedelta(days=6), secret)
    await subscriptions._store(organisation.runtime, opened[0], made)
    return made.id


def notification(subscription_id: str, secret: str, **more: Any) -> dict[str, Any]:
    return {
        "value": [
            {
                "id": str(uuid.uuid4()),
                "subscriptionId": subscription_id,
                "subscriptionExpirationDateTime": "2026-12-01T00:00:00Z",
                "clientState": secret,
                "changeType": "created",
                "resource": "Users/u/Messages/m",
                "tenantId": str(uuid.uuid4()),
                "resourceData": {"@odata.type": "#Microsoft.Graph.Message", "id": "m"},
                **more,
            }
        ]
    }


async def jobs(organisation: Organisation, task: str) -> int:
    async with organisation.runtime.db.untenanted() as session:
        query = text("SELECT count(*) FROM procrastinate_jobs WHERE task_name = :task")
        return int((await session.execute(query, {"task": task})).scalar_one())


async def counts(organisation: Organisation) -> dict[str, int]:
    async with organisation.runtime.db.untenanted() as session:
        rows = await session.execute(select(IntakeCount.reason, IntakeCount.count))
        return {reason: number for reason, number in rows}  # noqa: C416 - a Row is no tuple to mypy


def metric(outcome: str) -> float:
    """What this process has counted for Prometheus."""
    labels = {"provider": "microsoft", "outcome": outcome}
    return REGISTRY.get_sample_value("postern_intake_notifications_total", labels) or 0.0


async def counted(organisation: Organisation, wanted: dict[str, int]) -> None:
    """Wait until the counts are stored: for those of what was taken no answer waits."""
    async with asyncio.timeout(60):
        while await counts(organisation) != wanted:  # noqa: ASYNC110  # another task does the work
            await asyncio.sleep(0.02)


async def test_a_genuine_notification_defers_one_look_at_its_mailbox(
    organisation: Organisation, client: httpx.AsyncClient
) -> None:
    subscription, before = await subscribed(organisation), metric("taken")
    for _ in range(3):
        answer = await client.post("/hooks/microsoft", json=notification(subscription, "s3cret"))
        assert answer.status_code == 202
    assert await jobs(organisation, "mailbox.sync") == 1
    assert metric("taken") - before == 3
    await counted(organisation, {"taken": 3})
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        assert (await session.scalars(select(MailboxRow.last_notified_at))).one() is not None


async def test_a_wrong_secret_and_an_unknown_subscription_are_refused_and_counted(
    organisation: Organisation, client: httpx.AsyncClient
) -> None:
    subscription = await subscribed(organisation)
    await client.post("/hooks/microsoft", json=notification(subscription, "guess"))
    await client.post("/hooks/microsoft", json=notification(subscription, ""))
    await client.post("/hooks/microsoft", json=notification(str(uuid.uuid4()), "s3cret"))
    assert await jobs(organisation, "mailbox.sync") == 0
    assert await counts(organisation) == {"wrong_secret": 2, "unknown_subscription": 1}


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b'{"value": 3}', b'{"value": [3]}', b"\xff\xfe", b"[" * 100_000]
)
async def test_malformed_json_is_refused_by_name_and_counted(
    organisation: Organisation, client: httpx.AsyncClient, body: bytes
) -> None:
    answer = await client.post("/hooks/microsoft", content=body)
    assert answer.status_code == 400
    assert await counts(organisation) == {"malformed": 1}


async def test_a_huge_body_is_refused_before_it_is_read_whole(
    organisation: Organisation, client: httpx.AsyncClient
) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b" " * 65_536

    for content in (b" " * (MAX_BODY_BYTES + 1), endless()):
        assert (await client.post("/hooks/microsoft", content=content)).status_code == 413
    assert await counts(organisation) == {"too_large": 2}


async def test_the_handshake_answers_the_token_as_plain_text(client: httpx.AsyncClient) -> None:
    answer = await client.post("/hooks/microsoft?validationToken=a%20%3Cb%3E%26c")
    assert answer.status_code == 200
    assert answer.text == "a <b>&c"
    assert answer.headers["content-type"].startswith("text/plain")


@pytest.mark.parametrize(
    ("event", "task"),
    [
        ("missed", "mailbox.sync"),
        ("reauthorizationRequired", "mailbox.renew"),
        ("subscriptionRemoved", "mailbox.renew"),
    ],
)
async def test_a_lifecycle_notification_leads_to_its_job(
    organisation: Organisation, client: httpx.AsyncClient, event: str, task: str
) -> None:
    subscription = await subscribed(organisation)
    body = notification(subscription, "s3cret", lifecycleEvent=event)
    assert (await client.post("/hooks/microsoft", json=body)).status_code == 202
    assert await jobs(organisation, task) == 1


async def test_a_forged_pubsub_push_is_refused(organisation: Organisation, client: httpx.AsyncClient) -> None:
    data = base64.b64encode(json.dumps({"emailAddress": "a@kasuga.example", "historyId": 1}).encode()).decode()
    body = {"subscription": "projects/p/subscriptions/s", "message": {"data": data, "messageId": "1"}}
    for headers in ({}, {"Authorization": "Bearer x.y.z"}, {"Authorization": "Basic eDp5"}):
        assert (await client.post("/hooks/google", json=body, headers=headers)).status_code == 401
    assert await counts(organisation) == {"not_genuine": 3}


async def test_an_unknown_provider_is_absent(client: httpx.AsyncClient) -> None:
    assert (await client.post("/hooks/lotus", json={})).status_code == 404
    assert (await client.get("/hooks/microsoft")).status_code == 405


async def test_the_secret_is_stored_sealed(organisation: Organisation) -> None:
    await subscribed(organisation, "very-secret-word")
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        (sealed,) = (await session.scalars(select(SubscriptionRow.secret_sealed))).all()
    assert b"very-secret-word" not in sealed


async def test_entries_that_cannot_be_used_are_left_out_and_counted(
    organisation: Organisation, client: httpx.AsyncClient
) -> None:
    subscription = await subscribed(organisation)
    body = notification(subscription, "s3cret")
    body["value"] += [{"subscriptionId": 7}, "text"]
    assert (await client.post("/hooks/microsoft", json=body)).status_code == 202
    assert (await client.post("/hooks/microsoft", json=notification(subscription, "s3cret"))).status_code == 202
    assert await counts(organisation) == {"taken": 2, "entry_malformed": 2}


async def test_entries_beyond_the_most_at_once_are_counted(
    organisation: Organisation, client: httpx.AsyncClient
) -> None:
    subscription = await subscribed(organisation)
    body = notification(subscription, "s3cret")
    body["value"] *= MAX_HINTS + 5
    assert (await client.post("/hooks/microsoft", json=body)).status_code == 202
    assert await counts(organisation) == {"taken": MAX_HINTS, "too_many": 5}


async def another_tenants_subscription(organisation: Organisation, secret: str) -> str:
    """A subscription of a mailbox of a second tenant."""
    runtime, tenant_id, made = organisation.runtime, uuid.uuid4(), str(uuid.uuid4())
    async with runtime.db.tenant(tenant_id) as session:
        session.add(
            Tenant(tenant_id=tenant_id, name="Other", provider="microsoft", external_id="other", status="active")
        )
        box = MailboxRow(tenant_id=tenant_id, external_id="m", address="m@other.example", domain="other.example")
        session.add(box)
        await session.flush()
        session.add(
            SubscriptionRow(
                tenant_id=tenant_id,
                provider="microsoft",
                id=made,
                mailbox_id=box.id,
                expires_at=datetime.now(UTC) + timedelta(days=3),
                secret_sealed=subscriptions.seal_secret(runtime.keyring, tenant_id, secret),
            )
        )
    return made


async def test_a_tenant_whose_hints_cannot_be_stored_keeps_nobody_elses_waiting(
    organisation: Organisation, client: httpx.AsyncClient
) -> None:
    stuck, other = await subscribed(organisation), await another_tenants_subscription(organisation, "0ther")
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        await session.execute(select(MailboxRow.id).with_for_update())  # held until the end of this block
        waiting = [
            asyncio.create_task(client.post("/hooks/microsoft", json=notification(stuck, "s3cret"))) for _ in range(3)
        ]
        for _ in range(3):
            answer = await client.post("/hooks/microsoft", json=notification(other, "0ther"))
            assert answer.status_code == 202
        assert not any(task.done() for task in waiting)
        assert {(await task).status_code for task in waiting} == {503}
    answer = await client.post("/hooks/microsoft", json=notification(stuck, "s3cret"))
    assert answer.status_code == 202
    assert await jobs(organisation, "mailbox.sync") == 2
    assert (await counts(organisation))["not_stored"] == 3
