"""Fixtures that all tests share: a real PostgreSQL, and a fresh database of the current schema per test."""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import hypothesis
import psycopg
import pytest
from psycopg import sql

from app.kit.crypto import KeyRing
from app.kit.db import Database
from app.kit.postgres import DatabaseUrls, start_embedded
from app.migrations.run import migrate

TEMPLATE = "postern_template"

# The same examples in every run, so that a failure is somebody's change and not today's dice; without deadlines,
# since machines are noisy. HYPOTHESIS_PROFILE=explore (and `make fuzz`) look for new ones.
hypothesis.settings.register_profile("repeat", derandomize=True, deadline=None)
hypothesis.settings.register_profile("explore", deadline=None, max_examples=2_000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeat"))


def pytest_make_parametrize_id(val: object) -> str | None:
    """Packed data is no name for a test: gzip writes the time into it, so that two processes collect other tests."""
    return "gzip" if isinstance(val, bytes) and val.startswith(b"\x1f\x8b") else None


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Asynchronous tests run on asyncio."""
    return "asyncio"


@dataclass(frozen=True)
class Postgres:
    """A running server with a migrated template database."""

    template: DatabaseUrls

    def urls(self, database: str) -> DatabaseUrls:
        """Addresses of another database of this server."""
        old, new = f"/{TEMPLATE}?", f"/{database}?"
        return DatabaseUrls(self.template.app.replace(old, new), self.template.owner.replace(old, new))

    def create(self) -> DatabaseUrls:
        """A fresh database with the current schema, copied from the template."""
        name = f"test_{uuid.uuid4().hex}"
        with psycopg.connect(self.urls("postgres").owner, autocommit=True) as connection:
            connection.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(TEMPLATE))
            )
        return self.urls(name)

    def drop(self, urls: DatabaseUrls) -> None:
        """Remove a database; connections that are left are closed."""
        name = urls.app.split("?")[0].rsplit("/", 1)[1]
        with psycopg.connect(self.urls("postgres").owner, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    """One embedded PostgreSQL for the whole run, in a folder that another system user may enter."""
    folder = Path(tempfile.mkdtemp(prefix="postern-test-"))
    folder.chmod(0o755)
    server, urls = start_embedded(folder, TEMPLATE)
    with psycopg.connect(urls.owner, autocommit=True) as connection:
        # Nothing in here must survive a power cut; kill -9 of our processes needs no flush to disk.
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            connection.execute(sql.SQL("ALTER SYSTEM SET {} = off").format(sql.Identifier(setting)))
        connection.execute("SELECT pg_reload_conf()")
    migrate(urls.owner)
    yield Postgres(urls)
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def database_urls(postgres_server: Postgres) -> Iterator[DatabaseUrls]:
    """Addresses of a fresh database."""
    urls = postgres_server.create()
    yield urls
    postgres_server.drop(urls)


@pytest.fixture
async def database(database_urls: DatabaseUrls) -> AsyncIterator[Database]:
    """A fresh database, connected as the application's own role."""
    opened = Database(database_urls.app)
    yield opened
    await opened.close()


@pytest.fixture
def keyring() -> KeyRing:
    """A key ring with one fixed key."""
    return KeyRing({1: bytes(range(32))})


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of Chromium. Without one the test is skipped, unless POSTERN_REQUIRE_CHROMIUM says it must run."""
    path = os.environ.get("POSTERN_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        message = "Chromium is not installed: browser tests need it (apt-get install chromium)"
        if os.environ.get("POSTERN_REQUIRE_CHROMIUM"):
            pytest.fail(message)
        pytest.skip(message)
    # What a page does within a second takes a busy machine ten times as long.
    from playwright import async_api, sync_api

    for expecting in (async_api.expect, sync_api.expect):
        expecting.set_options(timeout=60_000)
    return path
