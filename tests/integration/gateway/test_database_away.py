"""PostgreSQL stopped under clicks, and started again."""

from __future__ import annotations

import asyncio
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import psycopg
import pytest

from app.kit.crypto import KeyRing
from app.kit.postgres import start_embedded
from app.migrations.run import migrate
from tests.integration.gateway.serving import serve

TENANT = uuid.UUID("0198f1a0-0000-7000-8000-000000000009")


@pytest.fixture
def own_folder() -> Iterator[Path]:
    """A folder that the system user of the embedded server may enter."""
    with tempfile.TemporaryDirectory(prefix="postern-away-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


async def test_clicks_go_on_and_none_is_lost_while_the_database_is_stopped(
    own_folder: Path, tmp_path: Path, keyring: KeyRing
) -> None:
    server, urls = await asyncio.to_thread(start_embedded, own_folder)
    await asyncio.to_thread(migrate, urls.owner)
    with psycopg.connect(urls.owner, autocommit=True) as connection:
        row = connection.execute(
            "INSERT INTO tenants (tenant_id, name, provider, external_id) VALUES (%s, 'Contoso', 'google', 'x') "
            "RETURNING no",
            (TENANT,),
        ).fetchone()
    assert row is not None
    answered: list[str] = []
    running = True
    with serve(tmp_path, keyring, database_url=urls.app) as served:

        async def click(client: httpx.AsyncClient, worker: int) -> None:
            number = 0
            while running:
                url = f"https://good.example/{worker}/{number}"
                answer = await client.get(served.link(url, tenant_no=row[0], message_no=worker + 1))
                assert answer.status_code == 302
                answered.append(url)
                number += 1

        async def clicks(more: int) -> None:
            wanted = len(answered) + more
            for _ in range(3_000):
                if len(answered) >= wanted:
                    return
                await asyncio.sleep(0.01)
            pytest.fail("the gateway stopped answering")

        async with httpx.AsyncClient(timeout=30) as client:
            workers = [asyncio.create_task(click(client, worker)) for worker in range(4)]
            await clicks(40)
            await asyncio.to_thread(server.cleanup)
            await clicks(200)
            server, _ = await asyncio.to_thread(start_embedded, own_folder)
            await clicks(40)
            running = False
            await asyncio.gather(*workers)
        for _ in range(3_000):
            with psycopg.connect(urls.owner) as connection:
                stored = [url for (url,) in connection.execute("SELECT url FROM clicks").fetchall()]
            if len(stored) >= len(answered):
                break
            await asyncio.sleep(0.01)
    await asyncio.to_thread(server.cleanup)
    assert sorted(stored) == sorted(answered)
