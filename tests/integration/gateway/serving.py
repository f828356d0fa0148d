"""A gateway served by uvicorn on loopback, with real links, for tests."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn

from app.gateway.app import Gateway
from app.gateway.limits import Limits
from app.gateway.runtime import build_gateway
from app.kit.crypto import KeyRing
from app.kit.db import Database
from app.kit.safe_http import SafeFetcher
from app.links.mint import Minter
from app.policy.engine import PolicySnapshot
from app.settings import Settings
from app.verdicts.feed import FeedFile
from app.verdicts.judge import AllSources

TENANT_NO = 1001


@dataclass
class Served:
    """A running gateway.

    Attributes:
        url: Its address.
        gateway: The application.
        keyring: Its keys.
        feed: The list it reads.
    """

    url: str
    gateway: Gateway
    keyring: KeyRing
    feed: Path

    def link(
        self, url: str, *, message_no: int = 7, mailbox_no: int = 3, tenant_no: int = TENANT_NO, kind: str = "anchor"
    ) -> str:
        """A protected link to an address."""
        minter = Minter(self.keyring, self.url, "l", tenant_no=tenant_no, mailbox_no=mailbox_no, message_no=message_no)
        return minter.mint(url, url.encode("utf-8", "surrogatepass"), kind)

    def list_as(self, level: str, *entries: str) -> None:
        """Put entries on the list."""
        with self.feed.open("a") as file:
            file.writelines(f"{level}\t{entry}\n" for entry in entries)
        lists = self.gateway.deps.source
        assert isinstance(lists, AllSources)
        assert isinstance(lists.sources[0], FeedFile)
        lists.sources[0].look_again()


@contextmanager
def serve(
    folder: Path,
    keyring: KeyRing,
    *,
    database_url: str | None = None,
    snapshots: tuple[PolicySnapshot, ...] = (),
    limits: Limits | None = None,
    fetcher: SafeFetcher | None = None,
    **more: Any,
) -> Iterator[Served]:
    """Serve a gateway on a free port in a thread of its own."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    feed = folder / "feed.tsv"
    feed.touch()
    values: dict[str, Any] = {
        "data_dir": folder,
        "gateway_url": url,
        "feed_file": feed,
        "click_ingest_ms": 20,
        "check_pages": fetcher is not None,
    }
    settings = Settings(_env_file=None, **(values | more))
    ready = threading.Event()
    made: list[Gateway] = []
    server: list[uvicorn.Server] = []

    async def run() -> None:
        database = None if database_url is None else Database(database_url, 2)
        gateway = build_gateway(settings, keyring, database, limits=limits, fetcher=fetcher)
        for snapshot in snapshots:
            gateway.deps.snapshots.put(snapshot)
        made.append(gateway)
        config = uvicorn.Config(gateway, log_level="warning", lifespan="on", access_log=False)
        server.append(uvicorn.Server(config))
        ready.set()
        await server[0].serve(sockets=[listener])
        if database is not None:
            await database.close()

    thread = threading.Thread(target=lambda: asyncio.run(run()), daemon=True)
    thread.start()
    assert ready.wait(10)
    while not server[0].started and thread.is_alive():
        threading.Event().wait(0.005)
    assert thread.is_alive(), "the gateway did not start"
    try:
        yield Served(url, made[0], keyring, feed)
    finally:
        server[0].should_exit = True
        thread.join(10)
        listener.close()
        assert not thread.is_alive()
