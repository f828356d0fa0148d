"""A connected organisation at each provider."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from app.kit.crypto import KeyRing
from app.kit.db import Database
from connectors.base.types import Provider
from connectors.emulators.testing import Emulators, running_emulators
from tests.integration.protection.world import Organisation, connect, provider_settings


@pytest.fixture
def emulators() -> Iterator[Emulators]:
    with running_emulators() as running:
        yield running


@pytest.fixture(params=[Provider.MICROSOFT, Provider.GOOGLE], ids=["microsoft", "google"])
async def organisation(
    request: pytest.FixtureRequest, database: Database, emulators: Emulators, keyring: KeyRing, tmp_path: Path
) -> AsyncIterator[Organisation]:
    settings = provider_settings(emulators, tmp_path)
    made = await connect(database, emulators, request.param, settings, keyring, "ada", "ben")
    yield made
    await made.runtime.providers.aclose()
