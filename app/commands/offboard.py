"""``postern offboard``: the same leaving that the console starts, watched from the command line."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from dataclasses import dataclass

import typer
from rich.console import Console

from app.bootstrap import database_urls, keyring
from app.commands.bar import progress_bar
from app.commands.scope import find_tenant
from app.kit.clock import utc_now
from app.kit.db import Database
from app.kit.errors import NotFound
from app.protection.models import Offboarding, OffboardingReceipt
from app.protection.offboarding import (
    cancel_offboarding,
    delete_anyway,
    offboarding_extent,
    request_offboarding,
    retry_offboarding,
)
from app.protection.receipt import receipt_token
from app.settings import Settings
from app.tenants.actor import cli_actor

_LOOK_SECONDS = 0.5
_STAGES = {
    "stopping": "Ending notifications",
    "restoring": "Restoring",
    "stuck": "Stuck",
    "deleting": "Deleting",
    "done": "Done",
    "cancelled": "Stopped",
}


@dataclass(frozen=True, slots=True)
class Choice:
    """What to do where the organisation is leaving already: try again, delete anyway, or stay."""

    retry: bool = False
    anyway: bool = False
    cancel: bool = False


async def offboard_and_wait(settings: Settings, tenant: str, choice: Choice, ask_name: Callable[[str], str]) -> bool:
    """Begin to leave, or go on, and show the progress until the receipt is there. Needs a running worker.

    Args:
        settings: The process's settings.
        tenant: Name, provider tenant id or our id.
        choice: What to do where it is leaving already.
        ask_name: Shows what will be touched, gives the typed name of the organisation.

    Returns:
        Whether it has gone, or stays as was asked.

    Raises:
        PosternError: It cannot be done; nothing was changed.
    """
    console = Console(stderr=True)
    keys = keyring(settings)
    async with database_urls(settings) as urls:
        database = Database(urls.app, 2)
        try:
            tenant_id, name = await find_tenant(database, tenant)
            if choice.cancel:
                async with database.tenant(tenant_id) as session:
                    await cancel_offboarding(session, cli_actor(tenant_id), utc_now())
                console.print(f"{name} stays. Nothing was deleted; protection is paused until it is resumed.")
                return True
            receipt_id = await _begin(database, tenant_id, name, choice, ask_name)
            link = f"{settings.console_url.rstrip('/')}/offboarding/receipts/{receipt_token(keys, receipt_id)}"
            console.print(f"The receipt will be at {link}", soft_wrap=True)
            return await _watch(console, database, receipt_id)
        finally:
            await database.close()


async def _begin(
    database: Database, tenant_id: uuid.UUID, name: str, choice: Choice, ask_name: Callable[[str], str]
) -> uuid.UUID:
    actor = cli_actor(tenant_id)
    async with database.tenant(tenant_id) as session:
        extent = await offboarding_extent(session, actor)
        under_way = await session.get(Offboarding, tenant_id)
    what = (
        f"{name}: {extent.to_restore} messages to restore, {extent.quarantined} to release from quarantine; "
        f"then {extent.messages} message records, {extent.clicks} clicks, {extent.people} accounts and everything "
        "else of it are deleted."
    )
    if under_way is None or choice.anyway:
        typed = ask_name(what)
    async with database.tenant(tenant_id) as session:
        if under_way is None:
            receipt_id = await request_offboarding(session, actor, typed, utc_now())
        else:
            receipt_id = under_way.receipt_id
        if choice.anyway:
            await delete_anyway(session, actor, typed)
        elif choice.retry:
            await retry_offboarding(session, actor)
    return receipt_id


async def _watch(console: Console, database: Database, receipt_id: uuid.UUID) -> bool:
    with progress_bar(console) as bar:
        task = bar.add_task("Waiting", total=None)
        while True:
            async with database.untenanted() as session:
                receipt = await session.get(OffboardingReceipt, receipt_id)
            if receipt is None:
                raise NotFound("The receipt is not there.")
            counts = receipt.progress
            done = sum(counts.get(name, 0) for name in ("restored", "gone", "failed"))
            bar.update(task, description=_STAGES[receipt.state], total=counts.get("total") or None, completed=done)
            if receipt.state in ("done", "stuck", "cancelled"):
                break
            await asyncio.sleep(_LOOK_SECONDS)
    if receipt.state == "stuck":
        console.print(
            f"{receipt.progress.get('left', 0)} messages still carry rewritten links. Nothing was deleted. "
            "Run it again with --retry, with --delete-anyway, or with --cancel."
        )
        return False
    if receipt.state == "cancelled" or receipt.sha256 is None:
        console.print("It was stopped. Nothing was deleted.")
        return False
    typer.echo(receipt.document)
    console.print(f"SHA-256 of the receipt: {receipt.sha256.hex()}", soft_wrap=True)
    return True
