"""Answering notifications: latency at a steady rate, and against an empty route of the same server.

    python -m tests.bench.intake [--rate 500] [--seconds 10]

The target is 5 ms at the 99th percentile under 500 notifications a second. The empty route is served by the same
kind of process and asked by the same client at the same rate, so that a slow or shared machine shows in both. Where
there are several processors, the measured process has one of its own: the client and PostgreSQL take the others.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import gc
import json
import os
import re
import secrets
import sys
import time
import uuid
from datetime import timedelta
from urllib.parse import urlsplit

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from app.kit.clock import utc_now
from app.kit.crypto import KeyRing
from app.kit.db import Database
from app.protection.models import MailboxRow, SubscriptionRow
from app.protection.subscriptions import seal_secret
from app.tenants.models import Domain, Tenant
from tests.bench.journey import spread, start_counted
from tests.chaos.processes import _CONTEXT
from tests.chaos.run import MASTER_KEY, free_port, postgres

MAILBOXES = 500
SECRET = "a" * 64


def _serve_empty(port: int) -> None:
    async def empty(request: Request) -> Response:
        await request.body()
        return Response(status_code=202)

    app = Starlette(routes=[Route("/hooks/empty", empty, methods=["POST"])])
    uvicorn.run(app, host="127.0.0.1", port=port, log_config=None, access_log=False, lifespan="off")


def _leave_one_processor() -> int | None:
    """Keep this process, and those it starts, off one processor; which, or None where there is no choice."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    *others, own = sorted(os.sched_getaffinity(0))
    if not others:
        return None
    os.sched_setaffinity(0, others)
    return own


async def _fill(database: Database, keys: KeyRing) -> uuid.UUID:
    """A tenant with many subscribed mailboxes."""
    tenant_id = uuid.uuid4()
    async with database.tenant(tenant_id) as session:
        session.add(
            Tenant(
                tenant_id=tenant_id,
                name="Flood",
                provider="microsoft",
                external_id="t",
                admin_address="",
                status="active",
            )
        )
        session.add(Domain(tenant_id=tenant_id, name="flood.example", protected=True, protect_since=utc_now()))
        boxes = [
            MailboxRow(tenant_id=tenant_id, external_id=f"m{n}", address=f"m{n}@flood.example", domain="flood.example")
            for n in range(MAILBOXES)
        ]
        session.add_all(boxes)
        await session.flush()
        for number, box in enumerate(boxes):
            session.add(
                SubscriptionRow(
                    tenant_id=tenant_id,
                    provider="microsoft",
                    id=f"subscription-{number}",
                    mailbox_id=box.id,
                    expires_at=utc_now() + timedelta(days=3),
                    secret_sealed=seal_secret(keys, tenant_id, SECRET),
                )
            )
    return tenant_id


def _notification() -> bytes:
    number = secrets.randbelow(MAILBOXES)
    item = {
        "id": str(uuid.uuid4()),
        "subscriptionId": f"subscription-{number}",
        "subscriptionExpirationDateTime": "2027-01-01T00:00:00Z",
        "clientState": SECRET,
        "changeType": "created",
        "resource": f"Users/m{number}/Messages/AAMk{number}",
        "tenantId": "t",
        "resourceData": {"@odata.type": "#Microsoft.Graph.Message", "id": f"AAMk{number}"},
    }
    return json.dumps({"value": [item]}).encode()


async def _load(url: str, rate: int, seconds: float) -> tuple[list[float], int]:
    """Send at a steady rate whatever the answers do; a latency counts from when the request was due.

    Plain connections that are kept open: a comfortable client would need more of the processor than the server.
    """
    parts = urlsplit(url)
    # This process holds a hundred thousand objects of other libraries: walking over them takes 0.1 s, in which nothing
    # is sent and no answer is taken, and a hundredth of ten seconds is the p99.
    gc.collect()
    gc.freeze()
    times: list[float] = []
    refused = 0
    idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def one(due: float) -> None:
        nonlocal refused
        while idle and idle[-1][0].at_eof():
            idle.pop()  # the server closes connections that rest for five seconds
        if idle:
            reader, writer = idle.pop()
        else:
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        body = _notification()
        writer.write(
            b"POST %b HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
            % (parts.path.encode(), len(body), body)
        )
        head = await reader.readuntil(b"\r\n\r\n")
        refused += b" 202 " not in head.split(b"\r\n", 1)[0] + b" "
        length = re.search(rb"content-length: (\d+)", head.lower())
        if length is not None:
            await reader.readexactly(int(length[1]))
        times.append(time.perf_counter() - due)
        idle.append((reader, writer))

    began = time.perf_counter()
    running = []
    for number in range(int(rate * seconds)):
        due = began + number / rate
        if due > time.perf_counter():
            await asyncio.sleep(due - time.perf_counter())
        running.append(asyncio.create_task(one(due)))
    await asyncio.gather(*running)
    for _, writer in idle:
        writer.close()
    return times, refused


async def measure(rate: int, seconds: float) -> None:
    """Print both."""
    keys, ports = KeyRing({1: MASTER_KEY}), (free_port(), free_port())
    own = _leave_one_processor()
    print(f"{os.cpu_count()} processors, load of the last minute before the run {os.getloadavg()[0]:.1f}", flush=True)
    with postgres() as (_, urls, folder):
        database = Database(urls.app)
        await _fill(database, keys)
        environment = {
            "POSTERN_DATABASE_URL": urls.app,
            "POSTERN_MASTER_KEY": base64.b64encode(MASTER_KEY).decode(),
            "POSTERN_DATA_DIR": str(folder / "data"),
            "POSTERN_PORT": str(ports[0]),
            "POSTERN_MICROSOFT_CLIENT_ID": "bench",
        }
        intake, counted = start_counted("intake", environment, folder)
        empty = _CONTEXT.Process(target=_serve_empty, args=(ports[1],), daemon=True)
        empty.start()
        if own is not None:
            for process in (intake, empty):
                os.sched_setaffinity(process.pid or 0, {own})
        try:
            found: dict[str, list[float]] = {}
            for name, url in (
                ("empty route", f"http://127.0.0.1:{ports[1]}/hooks/empty"),
                ("intake", f"http://127.0.0.1:{ports[0]}/hooks/microsoft"),
            ):
                await _up(url)
                await _load(url, 250, 8.0)  # every subscription is known by then
                if name == "intake":
                    counted.begin()
                times, refused = await _load(url, rate, seconds)
                found[name] = sorted(times)
                print(f"{name:12} {len(times)} at {rate}/s: {spread(times)}, refused {refused}", flush=True)
            spent = counted.spent()
            print(
                f"CPU of intake: {spent.cpu / len(found['intake']) * 1000:.2f} ms per notification "
                f"({spent.cpu / seconds:.0%} of a core), by layer, ms: {spent.split(len(found['intake']), 2)}"
            )
            at = {name: times[len(times) * 99 // 100] for name, times in found.items()}
            print(f"p99 of intake / p99 of the empty route: {at['intake'] / at['empty route']:.1f}")
        finally:
            for process in (intake, empty):
                process.terminate()
                process.join(10)
            await database.close()


async def _up(url: str) -> None:
    deadline = time.monotonic() + 60
    async with httpx.AsyncClient() as client:
        while True:
            try:
                await client.post(url, content=_notification(), timeout=5)
                return
            except httpx.TransportError:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.1)


def main() -> int:
    """Run it."""
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--rate", type=int, default=500)
    ask.add_argument("--seconds", type=float, default=10.0)
    given = ask.parse_args()
    asyncio.run(measure(given.rate, given.seconds))
    return 0


if __name__ == "__main__":
    sys.exit(main())
