"""One hostile message cannot hold up the mailbox it was sent to."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from app.kit.crypto import KeyRing
from app.kit.db import Database
from connectors.base.types import Provider
from connectors.emulators.testing import running_emulators
from tests.integration.protection.world import Organisation, connect, mail, provider_settings

pytestmark = pytest.mark.anyio


@pytest.fixture
async def organisation(database: Database, keyring: KeyRing, tmp_path: Path) -> AsyncIterator[Organisation]:
    with running_emulators() as emulators:
        settings = provider_settings(emulators, tmp_path)
        made = await connect(database, emulators, Provider.GOOGLE, settings, keyring, "ada")
        yield made
        await made.runtime.providers.aclose()


async def test_half_a_surrogate_pair_in_a_link_holds_nothing_up(organisation: Organisation) -> None:
    """UTF-7 spells code points that no other encoding takes, and PostgreSQL refuses them in JSON."""
    (ada,) = organisation.people
    poison = (
        f"From: x@other.example\r\nTo: {ada}\r\nSubject: Poison\r\nMessage-ID: <poison@other.example>\r\n"
        "Date: Sat, 21 Nov 2026 12:00:00 +0000\r\nMIME-Version: 1.0\r\n"
        "Content-Type: text/html; charset=utf-7\r\n\r\n"
        '<a href="javascript:+2AA-">a</a> <a href="https://news.example/+2AA-">+2AA-</a>\r\n'
    )
    organisation.deliver(ada, poison.encode())
    organisation.deliver(ada, mail(ada, "Harmless"))
    report = await organisation.sync(ada)
    assert report.stopped == ""
    states = {row.subject: row.state for row in await organisation.messages()}
    assert states["Harmless"] == "protected"
    assert states["Poison"] in ("protected", "skipped")
