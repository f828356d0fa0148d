"""A running console for the tests of this folder."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.kit.crypto import KeyRing
from app.kit.db import Database
from tests.integration.console.world import Console, running_console


@pytest.fixture
async def console(database: Database, keyring: KeyRing, tmp_path: Path) -> AsyncIterator[Console]:
    """The console on loopback."""
    async with running_console(database, keyring, tmp_path) as running:
        yield running
