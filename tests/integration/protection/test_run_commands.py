"""``postern backfill``, ``postern runs`` and ``postern offboard`` beside a worker at work."""

from __future__ import annotations

import asyncio
import hashlib
import json
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import SecretStr
from sqlalchemy import update

from app.commands.backfill import backfill_and_wait, duration, show_runs
from app.commands.offboard import Choice, offboard_and_wait
from app.commands.scope import Scope
from app.kit.errors import NotFound, Refused
from app.kit.postgres import DatabaseUrls
from app.settings import Settings
from app.tenants.models import Domain, Tenant
from tests.integration.protection.jobs import work_off
from tests.integration.protection.world import GATEWAY, Organisation, mail

pytestmark = pytest.mark.anyio


def settings_of(organisation: Organisation, urls: DatabaseUrls) -> Settings:
    """The command's settings: the same database and keys."""
    return organisation.runtime.settings.model_copy(
        update={
            "database_url": SecretStr(urls.app),
            "database_owner_url": SecretStr(urls.owner),
            "master_key": SecretStr("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="),
        }
    )


async def beside_a_worker(organisation: Organisation, command: asyncio.Task[bool]) -> bool:
    while not command.done():
        await work_off(organisation.runtime)
        await asyncio.wait({command}, timeout=0.05)
    return await command


async def old_mail(organisation: Organisation, count: int) -> str:
    address = organisation.people[0]
    for number in range(count):
        organisation.deliver(address, mail(address, n=number))
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        await session.execute(update(Domain).values(protect_since=datetime.now(UTC) + timedelta(minutes=1)))
    return address


async def name_of(organisation: Organisation) -> str:
    async with organisation.runtime.db.tenant(organisation.tenant_id) as session:
        return (await session.get_one(Tenant, organisation.tenant_id)).name


async def test_older_mail_is_protected_and_listed_and_then_everything_leaves(
    organisation: Organisation, database_urls: DatabaseUrls, capsys: pytest.CaptureFixture[str]
) -> None:
    address = await old_mail(organisation, 3)
    before = sorted(organisation.readable(address))
    settings, name = settings_of(organisation, database_urls), await name_of(organisation)
    asked: list[str] = []

    def agree(question: str) -> bool:
        asked.append(question)
        return True

    command = asyncio.create_task(
        backfill_and_wait(settings, name, Scope("mailbox", address), days=5, dry_run=False, confirm=agree)
    )
    assert await beside_a_worker(organisation, command)
    assert "1 mailboxes" in asked[0]
    assert "3 protected" in capsys.readouterr().err
    assert all(f"{GATEWAY}/l/" in content for content in organisation.readable(address))
    await show_runs(settings, name)
    listed = capsys.readouterr().out
    assert "backfill 1" in listed
    assert "3 of 3" in listed

    command = asyncio.create_task(offboard_and_wait(settings, name, Choice(), lambda _: name))
    assert await beside_a_worker(organisation, command)
    out, err = capsys.readouterr()
    # What the jobs log in this process is printed too; the command itself prints the receipt alone.
    receipt = next(line for line in out.splitlines() if line.startswith("{"))
    assert json.loads(receipt)["messages"]["restored"] == 3
    assert hashlib.sha256(receipt.encode()).hexdigest() in err
    assert "/offboarding/receipts/" in err
    assert sorted(organisation.readable(address)) == before
    with pytest.raises(NotFound):
        await show_runs(settings, name)


async def test_nothing_starts_without_a_yes_or_the_right_name(
    organisation: Organisation, database_urls: DatabaseUrls, capsys: pytest.CaptureFixture[str]
) -> None:
    await old_mail(organisation, 1)
    settings, name = settings_of(organisation, database_urls), await name_of(organisation)
    started = await backfill_and_wait(
        settings, name, Scope("tenant", ""), days=5, dry_run=False, confirm=lambda _: False
    )
    assert not started
    with pytest.raises(Refused):
        await offboard_and_wait(settings, name, Choice(), lambda _: "another name")
    with pytest.raises(NotFound):
        await offboard_and_wait(settings, "never", Choice(), lambda _: "never")
    await work_off(organisation.runtime)
    await show_runs(settings, name)
    assert "no runs yet" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (89, "89 s"), (90, "2 min"), (3600, "60 min"), (7500, "2 h 5 min"), (200000, "2 d 7 h")],
)
def test_times_left_are_said_in_words(seconds: int, words: str) -> None:
    assert duration(seconds) == words
