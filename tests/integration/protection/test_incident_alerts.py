"""Alerts about incidents: signed, over TLS to a real server, tried again, given up, never to a private network."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
import json
import ssl
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import select

from app.bootstrap import LoadedProviders
from app.kit.addresses import IPAddress
from app.kit.crypto import KeyRing
from app.kit.db import Database
from app.kit.safe_http import FetchLimits, SafeFetcher
from app.protection.incident_models import Incident, IncidentEvent
from app.protection.incidents import TurnPolicy, change_turn_policy, ensure_incident
from app.protection.runtime import Runtime
from app.protection.turn import tell
from app.protection.turn_alert import MAX_TRIES, send_alert, webhook_keys
from app.protection.turn_match import Subject
from app.settings import Settings
from app.tenants.actor import cli_actor
from app.tenants.models import Tenant
from tests.integration.protection.certificates import make_certificate

pytestmark = pytest.mark.anyio

NAME = "hooks.example"
SUBJECT = Subject("listed", "evil.example/", host="evil.example")


class Receiver:
    """A server that keeps what it was sent."""

    def __init__(self, certificate: Path) -> None:
        self.certificate = certificate
        self.status = 200
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.port = 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head.splitlines()[1:])}
        body = await reader.readexactly(int(headers["content-length"]))
        self.got.append((headers | {"": head.partition("\r\n")[0]}, body))
        writer.write(f"HTTP/1.1 {self.status} Said\r\nContent-Length: 0\r\n\r\n".encode())
        await writer.drain()
        writer.close()

    @property
    def url(self) -> str:
        return f"https://{NAME}:{self.port}/postern"

    def fetcher(self) -> SafeFetcher:
        async def resolve(host: str, port: int) -> list[IPAddress]:
            assert host == NAME
            return [ipaddress.ip_address("127.0.0.1")]

        limits = FetchLimits(ports=frozenset({self.port}), allowed=(ipaddress.ip_network("127.0.0.0/8"),))
        return SafeFetcher(limits, resolve, ssl.create_default_context(cafile=str(self.certificate)))


@asynccontextmanager
async def receiver(folder: Path) -> AsyncIterator[Receiver]:
    certificate = make_certificate(folder, NAME)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    made = Receiver(certificate)
    server = await asyncio.start_server(made.handle, "127.0.0.1", 0, ssl=context)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        await server.wait_closed()


@pytest.fixture
async def tenant(database: Database) -> uuid.UUID:
    tenant_id = uuid.uuid4()
    async with database.tenant(tenant_id) as session:
        session.add(
            Tenant(tenant_id=tenant_id, name="Nordwind", provider="google", external_id="nordwind", status="active")
        )
    return tenant_id


@pytest.fixture
def runtime(database: Database, tmp_path: Path) -> Runtime:
    # The second key is one that was retired: receivers that still know it alone must not be cut off.
    keys = KeyRing({2: bytes(range(40, 72)), 1: bytes(range(32))})
    settings = Settings(data_dir=tmp_path, _env_file=None)
    return Runtime(settings, database, keys, LoadedProviders(settings, keys))


async def opened(runtime: Runtime, tenant_id: uuid.UUID, webhook: str) -> int:
    async with runtime.db.tenant(tenant_id) as session:
        await change_turn_policy(session, cli_actor(tenant_id), TurnPolicy(webhook=webhook))
    async with runtime.db.tenant(tenant_id) as session:
        incident = await ensure_incident(session, tenant_id, SUBJECT, cause="list")
        incident.searched, incident.messages = True, 12
        await session.flush()
        await tell(session, tenant_id)
        return incident.id


async def stored(runtime: Runtime, tenant_id: uuid.UUID, incident_id: int) -> tuple[Incident, list[str]]:
    async with runtime.db.tenant(tenant_id) as session:
        kinds = list(await session.scalars(select(IncidentEvent.kind).order_by(IncidentEvent.id)))
        return await session.get_one(Incident, (tenant_id, incident_id)), kinds


async def test_an_alert_is_signed_says_no_names_and_is_delivered_once(
    runtime: Runtime, tenant: uuid.UUID, tmp_path: Path
) -> None:
    async with receiver(tmp_path) as server:
        number = await opened(runtime, tenant, server.url)
        for _ in range(3):
            await send_alert(runtime, tenant, number, server.fetcher())
    ((headers, body),) = server.got
    assert headers[""] == "POST /postern HTTP/1.1"
    data = json.loads(body)
    assert (data["event"], data["incident"], data["subject"], data["messages"]) == (
        "incident.opened",
        number,
        "evil.example/",
        12,
    )
    time, *macs = headers["postern-signature"].split(",")
    seconds = time.removeprefix("t=")
    assert abs(int(seconds) - datetime.now(UTC).timestamp()) < 60
    keys = webhook_keys(runtime.keyring, tenant)
    assert len(keys) == 2
    assert macs == [
        "v1=" + hmac.new(bytes.fromhex(key), f"{seconds}.".encode() + body, hashlib.sha256).hexdigest() for key in keys
    ]
    incident, kinds = await stored(runtime, tenant, number)
    assert (incident.alerted, incident.alert_error, kinds) == (1, "", ["opened", "alerted"])


async def test_another_tenants_key_signs_nothing_of_ours(runtime: Runtime, tenant: uuid.UUID) -> None:
    assert not set(webhook_keys(runtime.keyring, tenant)) & set(webhook_keys(runtime.keyring, uuid.uuid4()))


async def test_a_receiver_that_fails_is_asked_again_under_the_same_name_and_given_up_in_the_end(
    runtime: Runtime, tenant: uuid.UUID, tmp_path: Path
) -> None:
    async with receiver(tmp_path) as server:
        server.status = 503
        number = await opened(runtime, tenant, server.url)
        for _ in range(MAX_TRIES + 2):
            await send_alert(runtime, tenant, number, server.fetcher())
    assert len(server.got) == MAX_TRIES
    assert len({headers["postern-delivery"] for headers, _ in server.got}) == 1
    incident, kinds = await stored(runtime, tenant, number)
    assert (incident.alerted, incident.alert_error) == (1, "status 503")
    assert kinds == ["opened", "alert_failed"]


async def test_a_redirect_is_not_followed(runtime: Runtime, tenant: uuid.UUID, tmp_path: Path) -> None:
    async with receiver(tmp_path) as server:
        server.status = 302
        number = await opened(runtime, tenant, server.url)
        await send_alert(runtime, tenant, number, server.fetcher())
    assert len(server.got) == 1
    incident, _ = await stored(runtime, tenant, number)
    assert incident.alert_error == "status 302"


@pytest.mark.parametrize(
    ("webhook", "problem"),
    [
        ("https://127.0.0.1/", "address"),
        ("https://169.254.169.254/latest/meta-data/", "address"),
        ("https://[::1]/", "address"),
        ("https://localhost/", "name"),
        ("https://metadata.google.internal/", "name"),
        ("https://user:pass@hooks.example/", "credentials"),
        ("https://hooks.example:22/", "port"),
    ],
)
async def test_a_webhook_does_not_reach_into_the_own_network(
    runtime: Runtime, tenant: uuid.UUID, webhook: str, problem: str
) -> None:
    number = await opened(runtime, tenant, webhook)
    await send_alert(runtime, tenant, number)
    incident, _ = await stored(runtime, tenant, number)
    assert incident.alert_error == problem


async def test_without_a_webhook_nothing_is_sent_and_nothing_waits(runtime: Runtime, tenant: uuid.UUID) -> None:
    number = await opened(runtime, tenant, "")
    await send_alert(runtime, tenant, number)
    incident, kinds = await stored(runtime, tenant, number)
    assert (incident.alerted, kinds) == (1, ["opened"])
