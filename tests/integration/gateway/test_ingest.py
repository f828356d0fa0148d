"""Clicks reach the database, each once, whatever happens in between."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.gateway import ingest as ingest_module
from app.gateway.events import (
    Subject,
    click_event,
    client_part,
    event_id,
    judged_part,
    report_event,
    seen_event,
)
from app.gateway.ingest import Ingest
from app.gateway.models import Click, ClickReport
from app.kit.clock import utc_now
from app.kit.crypto import KeyRing
from app.kit.db import Database, tenant_of
from app.kit.postgres import DatabaseUrls
from app.kit.spool import SpoolWriter
from app.kit.spool_reader import SpoolReader
from app.links.mint import Minter
from app.policy.service import PolicyService
from app.policy.snapshots import SnapshotStore
from app.tenants.actor import cli_actor
from tests.integration.gateway.serving import serve

TENANT = uuid.UUID("0198f1a0-0000-7000-8000-000000000001")


@pytest.fixture
def tenant_no(database_urls: DatabaseUrls) -> int:
    with psycopg.connect(database_urls.owner, autocommit=True) as connection:
        row = connection.execute(
            "INSERT INTO tenants (tenant_id, name, provider, external_id) VALUES (%s, 'Contoso', 'microsoft', 'x') "
            "RETURNING no",
            (TENANT,),
        ).fetchone()
    assert row is not None
    return int(row[0])


def click(tenant_no: int, url: str = "https://good.example/", mailbox_no: int = 3) -> bytes:
    judged = judged_part(
        url=url, host="good.example", level="unknown", action="redirect", rule="verdict:unknown", evidence=[]
    )
    return click_event(Subject(tenant_no, mailbox_no, 7), utc_now(), judged, client_part("UA", {"a": "b"}), None)


async def _spool(folder: Path, payloads: list[bytes]) -> None:
    writer = SpoolWriter(folder)
    writer.start()
    await asyncio.gather(*map(writer.append, payloads))
    await writer.stop()


async def _clicks(database: Database) -> list[Click]:
    async with database.tenant(TENANT) as session:
        return list(await session.scalars(select(Click).order_by(Click.at)))


async def test_events_become_rows(tmp_path: Path, database: Database, tenant_no: int) -> None:
    said = report_event(
        Subject(tenant_no, 3, 0), utc_now(), kind="release", url="https://e.example/", host="e.example", reason="pls"
    )
    await _spool(tmp_path, [click(tenant_no), said])
    ingest = Ingest(SpoolReader(tmp_path), database, SnapshotStore())
    assert await ingest.once() == 2
    (row,) = await _clicks(database)
    assert (row.mailbox_id, row.message_id, row.url, row.action) == (3, 7, "https://good.example/", "redirect")
    assert row.signals == {"a": "b"}
    async with database.tenant(TENANT) as session:
        report = (await session.scalars(select(ClickReport))).one()
    assert (report.kind, report.reason, report.message_id, report.state) == ("release", "pls", None, "open")


async def test_taking_the_same_events_in_twice_counts_them_once(
    tmp_path: Path, database: Database, tenant_no: int
) -> None:
    payloads = [click(tenant_no) for _ in range(40)]
    await _spool(tmp_path / "first", payloads)
    await _spool(tmp_path / "again", payloads)
    for folder in ("first", "again"):
        await Ingest(SpoolReader(tmp_path / folder), database, SnapshotStore()).once()
    assert len(await _clicks(database)) == 40


async def test_what_is_no_event_is_put_aside_and_stops_nobody_elses(
    tmp_path: Path, database: Database, tenant_no: int
) -> None:
    nul = click(tenant_no).replace(b"https://good.example/", b"https://good.example/\\u0000")
    await _spool(tmp_path, [b"garbage", click(tenant_no), click(999_999), nul, b'{"v":2}', click(tenant_no)])
    ingest = Ingest(SpoolReader(tmp_path), database, SnapshotStore())
    await ingest.once()
    assert len(await _clicks(database)) == 2
    assert ingest.stats.rejected == 4
    reasons = [json.loads(line)["reason"] for line in (tmp_path / "rejected.jsonl").read_text().splitlines()]
    assert sorted(reason.split(":")[0] for reason in reasons) == [
        "no tenant 999999",
        "not an event",
        "not an event",
        "refused by the database",
    ]


async def test_events_wait_while_the_database_is_away(
    tmp_path: Path, database_urls: DatabaseUrls, database: Database, tenant_no: int
) -> None:
    await _spool(tmp_path, [click(tenant_no)])
    away = Database("postgresql://nobody@127.0.0.1:9/none")
    with pytest.raises(Exception, match=r"(?i)connect"):
        await Ingest(SpoolReader(tmp_path), away, SnapshotStore()).once()
    await away.close()
    assert await Ingest(SpoolReader(tmp_path), database, SnapshotStore()).once() == 1
    assert len(await _clicks(database)) == 1


async def eventually(check: Callable[[], Awaitable[bool]]) -> None:
    """Wait for something that another process or thread brings about."""
    for _ in range(2_000):
        if await check():
            return
        await asyncio.sleep(0.01)
    pytest.fail("it did not happen in time")


async def test_a_click_is_in_the_database_shortly_after_its_answer(
    tmp_path: Path, database_urls: DatabaseUrls, database: Database, tenant_no: int, keyring: KeyRing
) -> None:
    with serve(tmp_path, keyring, database_url=database_urls.app) as served:
        async with httpx.AsyncClient() as client:
            answer = await client.get(served.link("https://good.example/now", tenant_no=tenant_no))
        assert answer.status_code == 302

        async def there() -> bool:
            return len(await _clicks(database)) == 1

        await eventually(there)


async def test_a_changed_list_reaches_a_running_gateway_and_survives_without_the_database(
    tmp_path: Path, database_urls: DatabaseUrls, database: Database, tenant_no: int, keyring: KeyRing
) -> None:
    service = PolicyService(database)
    with serve(tmp_path, keyring, database_url=database_urls.app) as served:
        link = served.link("https://casino.example/", tenant_no=tenant_no)
        async with httpx.AsyncClient() as client:
            assert (await client.get(link)).status_code == 302
            await service.add(cli_actor(TENANT), action="block", pattern="casino.example")

            async def blocked() -> bool:
                return (await client.get(link)).status_code == 403

            await eventually(blocked)
    with serve(tmp_path, keyring) as alone:
        link = alone.link("https://casino.example/", tenant_no=tenant_no)
        async with httpx.AsyncClient() as client:
            answer = await client.get(link)
            assert answer.status_code == 403
            assert "Contoso" in answer.text
            assert (await client.get(alone.url + "/readyz")).status_code == 200


async def test_what_the_message_showed_is_evidence_at_the_click(
    tmp_path: Path, database_urls: DatabaseUrls, database: Database, tenant_no: int, keyring: KeyRing
) -> None:
    found = [
        {
            "code": "text_mismatch",
            "where": "1 anchor",
            "message": "m",
            "evidence": {"shown": "bank.example", "host": "other.example", "strength": "strong"},
        }
    ]
    with psycopg.connect(database_urls.owner, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO message_links (tenant_id, message_id, ordinal, url, host, kind, findings) "
            "VALUES (%s, 7, 0, 'https://other.example/', 'other.example', 'anchor', %s)",
            (TENANT, json.dumps(found)),
        )
    with serve(tmp_path, keyring, database_url=database_urls.app) as served:

        async def loaded() -> bool:
            return served.gateway.deps.snapshots.from_database

        await eventually(loaded)
        async with httpx.AsyncClient() as client:
            page = await client.get(served.link("https://other.example/", tenant_no=tenant_no, message_no=7))
            assert "The text shows bank.example, but the link leads to other.example." in page.text
            other = await client.get(served.link("https://other.example/", tenant_no=tenant_no, message_no=8))
            assert other.status_code == 302


_GATEWAY = """
import asyncio, sys
from pathlib import Path
import uvicorn
from app.gateway.runtime import build_gateway
from app.kit.crypto import KeyRing
from app.kit.db import Database
from app.settings import Settings

folder, url, port = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])

async def main():
    settings = Settings(data_dir=folder, gateway_url=f"http://127.0.0.1:{port}", click_ingest_ms=20, _env_file=None)
    gateway = build_gateway(settings, KeyRing({1: bytes(range(32))}), Database(url, 2))
    await uvicorn.Server(uvicorn.Config(gateway, port=port, log_level="error")).serve()

asyncio.run(main())
"""


async def test_kill_9_under_load_loses_and_doubles_no_answered_click(
    tmp_path: Path, database_urls: DatabaseUrls, database: Database, tenant_no: int, keyring: KeyRing
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    base = f"http://127.0.0.1:{port}"
    minter = Minter(keyring, base, "l", tenant_no=tenant_no, mailbox_no=3, message_no=7)
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    answered: list[str] = []

    async def hammer(client: httpx.AsyncClient, worker: int) -> None:
        for number in range(10_000):
            url = f"https://good.example/{worker}/{number}"
            try:
                answer = await client.get(minter.mint(url, url.encode(), "anchor"))
            except httpx.HTTPError:
                return
            if answer.status_code == 302:
                answered.append(url)

    for _ in range(2):
        process = subprocess.Popen(  # noqa: ASYNC220 - starting takes no time, and only kill() is asked of it
            [sys.executable, "-c", _GATEWAY, str(tmp_path), database_urls.app, str(port)], env=environment
        )
        try:
            async with httpx.AsyncClient() as client:

                async def up() -> bool:
                    try:
                        return (await client.get(f"{base}/healthz")).status_code == 200
                    except httpx.HTTPError:
                        return False

                await eventually(up)
                before = len(answered)
                workers = [asyncio.create_task(hammer(client, worker)) for worker in range(8)]

                async def busy(until: int = before + 150) -> bool:
                    return len(answered) >= until

                await eventually(busy)
                process.send_signal(signal.SIGKILL)
                await asyncio.gather(*workers)
        finally:
            process.kill()
            process.wait()
    await Ingest(SpoolReader(tmp_path / "gateway" / "spool"), database, SnapshotStore()).once()
    urls = [row.url for row in await _clicks(database)]
    # The hammer restarts its numbers, so an address is counted as often as it was answered.
    for url in set(answered):
        assert urls.count(url) >= answered.count(url)
    # What was durable but not yet answered when the process died may be there too: one per worker and round.
    assert len(urls) <= len(answered) + 16


async def test_clicks_are_labelled_as_of_people_or_programs(tmp_path: Path, database: Database, tenant_no: int) -> None:
    def by(agent: str, number: int) -> bytes:
        judged = judged_part(
            url=f"https://x.example/{number}",
            host="x.example",
            level="unknown",
            action="redirect",
            rule="",
            evidence=[],
        )
        headers = {"accept-language": "en", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
        return click_event(Subject(tenant_no, 3, number // 100), utc_now(), judged, client_part(agent, headers), None)

    firefox = "Mozilla/5.0 (X11; Linux x86_64; rv:132.0) Gecko/20100101 Firefox/132.0"
    await _spool(tmp_path / "a", [by(firefox, 100), by("curl/8.9.1", 200), by(firefox, 301)])
    await Ingest(SpoolReader(tmp_path / "a"), database, SnapshotStore()).once()
    found = {row.url[-3:]: row for row in await _clicks(database)}
    assert [found[number].automated for number in ("100", "200", "301")] == [False, True, False]
    assert "tool" in found["200"].automated_reasons[0]
    # The rest of the burst arrives later, and the first of it is labelled anew.
    await _spool(tmp_path / "b", [by(firefox, 302 + number) for number in range(8)])
    await Ingest(SpoolReader(tmp_path / "b"), database, SnapshotStore()).once()
    found = {row.url[-3:]: row for row in await _clicks(database)}
    assert found["301"].automated
    assert "9 links of the message" in found["301"].automated_reasons[0]
    assert not found["100"].automated


async def test_labels_that_fail_for_one_tenant_hold_up_nobodys_clicks_and_are_made_good(
    tmp_path: Path, database: Database, tenant_no: int, database_urls: DatabaseUrls, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = uuid.uuid4()
    with psycopg.connect(database_urls.owner, autocommit=True) as connection:
        row = connection.execute(
            "INSERT INTO tenants (tenant_id, name, provider, external_id) VALUES (%s, 'Fabrikam', 'google', 'y') "
            "RETURNING no",
            (other,),
        ).fetchone()
    assert row is not None
    real, broken = ingest_module.label_clicks, [True]

    async def label_clicks(session: AsyncSession, *more: Any) -> int:
        if broken[0] and tenant_of(session) == TENANT:
            raise ValueError("something odd in a click")
        return await real(session, *more)

    monkeypatch.setattr(ingest_module, "label_clicks", label_clicks)
    monkeypatch.setattr(ingest_module, "_RETRY_SECONDS", (0.0,))
    automated = click_event(
        Subject(tenant_no, 3, 7),
        utc_now(),
        judged_part(
            url="https://g.example/", host="g.example", level="unknown", action="redirect", rule="", evidence=[]
        ),
        client_part("curl/8.5", {}),
        None,
    )
    await _spool(tmp_path, [automated, click(int(row[0]))])
    ingest = Ingest(SpoolReader(tmp_path), database, SnapshotStore())
    assert await ingest.once() == 2
    assert ingest.stats.ingested == 2
    assert ingest.stats.label_failures > 0
    async with database.tenant(other) as session:
        assert (await session.scalars(select(Click))).one().automated_reasons != []
    assert [found.automated for found in await _clicks(database)] == [False]
    broken[0] = False
    await ingest.once()
    assert [found.automated for found in await _clicks(database)] == [True]
    assert ingest.stats.unlabelled == 0


async def test_labels_that_never_succeed_are_given_up_and_counted(
    tmp_path: Path, database: Database, tenant_no: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def label_clicks(session: AsyncSession, *more: Any) -> int:
        raise ValueError("something odd in a click")

    monkeypatch.setattr(ingest_module, "label_clicks", label_clicks)
    monkeypatch.setattr(ingest_module, "_RETRY_SECONDS", (0.0,))
    await _spool(tmp_path, [click(tenant_no)])
    ingest = Ingest(SpoolReader(tmp_path), database, SnapshotStore())
    for _ in range(2 * ingest_module.LABEL_TRIES):
        await ingest.once()
    assert (ingest.stats.label_failures, ingest.stats.unlabelled) == (ingest_module.LABEL_TRIES, 1)
    assert len(await _clicks(database)) == 1


async def test_a_drawn_page_is_noted_with_its_click_and_counts_for_a_person(
    tmp_path: Path, database: Database, tenant_no: int
) -> None:
    def page(number: str, at: datetime) -> bytes:
        judged = judged_part(
            url="https://g.example/", host="g.example", level="suspicious", action="warn", rule="", evidence=[]
        )
        client = client_part("Mozilla/5.0 Firefox/80.0", {})
        return click_event(Subject(tenant_no, 3, 0), at, judged, client, None, number=number, page=True)

    drawn, never = event_id(), event_id()
    long_ago = utc_now() - timedelta(minutes=5)
    await _spool(tmp_path, [page(drawn, long_ago), page(never, long_ago), seen_event(tenant_no, drawn, long_ago)])
    ingest = Ingest(SpoolReader(tmp_path), database, SnapshotStore())
    await ingest.once()
    found = {row.id.hex: row for row in await _clicks(database)}
    assert found[drawn].signals["seen"] == "1"
    assert "seen" not in found[never].signals
    assert any("drawn by a browser" in reason for reason in found[drawn].automated_reasons)
    assert any("never drawn" in reason for reason in found[never].automated_reasons)
