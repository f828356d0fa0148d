"""Notifications that are fetched are stored like pushed ones, and come again until they are."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Callable, Coroutine
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import select, text

from app.bootstrap import LoadedProviders
from app.kit.crypto import KeyRing
from app.kit.db import Database
from app.kit.errors import ConfigurationError
from app.kit.postgres import DatabaseUrls
from app.protection import subscriptions
from app.protection.intake import HintStore, IntakeDeps
from app.protection.models import IntakeCount
from app.protection.pull import Fetching, fetched_providers
from app.protection.sync import open_work
from app.serve import _run_web
from connectors.base.types import Hint, Provider, Subscription
from connectors.emulators.demo.google_setup import SUBSCRIPTION, TOPIC
from connectors.emulators.testing import Emulators, running_emulators
from tests.integration.protection.world import Organisation, connect, provider_settings

pytestmark = pytest.mark.anyio

PATIENCE = 60.0


@pytest.fixture
def emulators() -> Any:
    with running_emulators() as running:
        yield running


@pytest.fixture
async def organisation(
    database: Database, emulators: Emulators, keyring: KeyRing, tmp_path: Path
) -> AsyncIterator[Organisation]:
    settings = provider_settings(emulators, tmp_path, google_pubsub_pull=True)
    emulators.world.google.pubsub.subscriptions[SUBSCRIPTION].fields["pushConfig"] = {}
    made = await connect(database, emulators, Provider.GOOGLE, settings, keyring, "ada")
    work = await open_work(made.runtime, made.tenant_id, await made.mailbox_id(made.people[0]))
    assert not isinstance(work, str)
    expires = datetime.now(UTC) + timedelta(days=6)
    await subscriptions._store(made.runtime, work[0], Subscription(made.people[0], work[0].mailbox, expires, ""))
    yield made
    await made.runtime.providers.aclose()


def publish(organisation: Organisation, data: bytes) -> None:
    state = organisation.emulators.world.google
    with state.lock:
        state.pubsub.publish(TOPIC, data)


def pending(organisation: Organisation) -> int:
    state = organisation.emulators.world.google
    with state.lock:
        return len(state.pubsub.subscriptions[SUBSCRIPTION].pending)


def knock(address: str) -> bytes:
    return b'{"emailAddress": "%s", "historyId": 7}' % address.encode()


async def counts(organisation: Organisation) -> dict[str, int]:
    async with organisation.runtime.db.untenanted() as session:
        return {row.reason: row.count for row in await session.scalars(select(IntakeCount))}


async def looks(organisation: Organisation) -> int:
    query = text("SELECT count(*) FROM procrastinate_jobs WHERE task_name = 'mailbox.sync'")
    async with organisation.runtime.db.untenanted() as session:
        return int((await session.execute(query)).scalar_one())


def deps(organisation: Organisation) -> IntakeDeps:
    runtime = organisation.runtime
    return IntakeDeps(runtime.db, runtime.keyring, runtime.providers)


async def no_pause(seconds: float) -> None:
    await asyncio.sleep(0)


async def fetch_until(
    organisation: Organisation,
    store: HintStore,
    done: Callable[[], Coroutine[Any, Any, bool]],
    pause: Callable[[float], Coroutine[Any, Any, None]] = no_pause,
) -> None:
    """Fetch as the intake role does, until something holds, then stop as the role stops."""
    stopping = asyncio.Event()
    fetching = asyncio.create_task(
        Fetching(organisation.runtime.providers, Provider.GOOGLE, store, stopping, pause).run()
    )
    async with asyncio.timeout(PATIENCE):
        while not await done():  # noqa: ASYNC110 - the emulator has no event for what was acknowledged
            await asyncio.sleep(0.05)
        stopping.set()
        await fetching


async def test_a_fetched_hint_has_its_mailbox_looked_at_and_is_acknowledged(organisation: Organisation) -> None:
    publish(organisation, b"not from Gmail")
    publish(organisation, knock(organisation.people[0]))
    publish(organisation, knock("stranger@elsewhere.example"))

    async def nothing_left() -> bool:
        return pending(organisation) == 0

    await fetch_until(organisation, HintStore(deps(organisation)), nothing_left)
    assert await looks(organisation) == 1
    assert await counts(organisation) == {"taken": 1, "unknown_subscription": 1, "malformed": 1}


async def test_hints_that_could_not_be_stored_come_again(organisation: Organisation) -> None:
    class AwayAtFirst(HintStore):
        tries = 0

        async def take(self, provider: Provider, hints: list[Hint]) -> None:
            self.tries += 1
            if self.tries == 1:
                assert pending(organisation) == 1
                organisation.emulators.world.google.clock.advance(11)  # past the acknowledgement deadline
                raise TimeoutError
            await super().take(provider, hints)

    publish(organisation, knock(organisation.people[0]))
    store = AwayAtFirst(deps(organisation))

    async def nothing_left() -> bool:
        return pending(organisation) == 0

    await fetch_until(organisation, store, nothing_left)
    assert store.tries == 2
    assert await looks(organisation) == 1


async def test_fetching_begins_anew_after_it_was_refused(organisation: Organisation) -> None:
    publish(organisation, knock(organisation.people[0]))
    known = organisation.emulators.world.google.pubsub.subscriptions
    hidden = known.pop(SUBSCRIPTION)
    pauses: list[float] = []

    async def then_it_is_there(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            known[SUBSCRIPTION] = hidden

    async def nothing_left() -> bool:
        return not hidden.pending

    await fetch_until(organisation, HintStore(deps(organisation)), nothing_left, then_it_is_there)
    assert pauses[:3] == [1.0, 2.0, 4.0]
    assert await looks(organisation) == 1


async def test_only_what_is_switched_on_is_fetched_and_it_must_say_where_from(organisation: Organisation) -> None:
    runtime = organisation.runtime
    assert await fetched_providers(runtime.providers) == [Provider.GOOGLE]
    for change, expected in (({"google_pubsub_pull": False}, []), ({"google_pubsub_subscription": ""}, None)):
        providers = LoadedProviders(runtime.settings.model_copy(update=change), runtime.keyring)
        if expected is None:
            with pytest.raises(ConfigurationError, match="POSTERN_GOOGLE_PUBSUB_SUBSCRIPTION"):
                await fetched_providers(providers)
        else:
            assert await fetched_providers(providers) == expected
        await providers.aclose()


async def test_the_intake_role_fetches_while_it_serves(organisation: Organisation, database_urls: DatabaseUrls) -> None:
    changes = {
        "database_url": SecretStr(database_urls.app),
        "master_key": SecretStr(base64.b64encode(bytes(range(32))).decode()),
        "master_key_id": 1,
        "host": "127.0.0.1",
        "port": 0,
    }
    publish(organisation, knock(organisation.people[0]))
    stopping = asyncio.Event()
    role = asyncio.create_task(
        _run_web(("intake",), organisation.runtime.settings.model_copy(update=changes), stopping)
    )
    async with asyncio.timeout(PATIENCE):
        while pending(organisation):
            assert not role.done()
            await asyncio.sleep(0.05)
        stopping.set()
        await role
    assert await looks(organisation) == 1
