"""A running console for the tests of this folder."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.integration.console.world import Console, Postgres, console_on_fresh_database


@pytest.fixture(scope="module")
async def module_console(postgres_server: Postgres, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Console]:
    """One console for all tests of a module."""
    async with console_on_fresh_database(postgres_server, tmp_path_factory.mktemp("console")) as running:
        yield running


@pytest.fixture
async def console(module_console: Console) -> Console:
    """The console, with organisations of this test's own."""
    await module_console.renew()
    return module_console
