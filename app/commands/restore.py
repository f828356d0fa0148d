"""``postern restore-mail``: the same restore that the console starts, watched from the command line."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable

from rich.console import Console
from sqlalchemy import text

from app.bootstrap import database_urls
from app.commands.bar import progress_bar
from app.commands.scope import Scope, find_tenant, target_of
from app.kit.db import Database
from app.kit.errors import NotFound
from app.protection.models import RestoreRun
from app.protection.restore import to_restore
from app.protection.service import request_restore
from app.settings import Settings
from app.tenants.actor import cli_actor

_LOOK_SECONDS = 0.3


async def restore_and_wait(
    settings: Settings, tenant: str, scope: Scope, confirm: Callable[[str], bool] | None
) -> None:
    """Start a restore and show its progress until it has ended. Needs a running worker.

    Args:
        settings: The process's settings.
        tenant: Name, provider tenant id or our id.
        scope: What to restore; a mailbox by its address.
        confirm: Asks before anything starts; None: does not ask.

    Raises:
        NotFound: There is no such organisation, mailbox, domain or message.
    """
    console = Console(stderr=True)
    async with database_urls(settings) as urls:
        database = Database(urls.app, 2)
        try:
            tenant_id, name = await find_tenant(database, tenant)
            target = await target_of(database, tenant_id, scope)
            async with database.tenant(tenant_id) as session:
                preview = RestoreRun(tenant_id=tenant_id, id=0, scope=scope.kind, target=target, last_message_id=2**62)
                count = len(list(await session.scalars(to_restore(preview).where(text("restore_run >= 0")))))
            what = f"{count} messages of {name} ({scope.kind} {scope.target})".replace("(tenant )", "(everything)")
            if confirm is not None and not confirm(f"Give {what} their original links back?"):
                console.print("Nothing was started.")
                return
            async with database.tenant(tenant_id) as session:
                run_id = await request_restore(session, cli_actor(tenant_id), scope.kind, target)
            await _watch(console, database, tenant_id, run_id)
        finally:
            await database.close()


async def _watch(console: Console, database: Database, tenant_id: uuid.UUID, run_id: int) -> None:
    with progress_bar(console) as progress:
        task = progress.add_task("Restoring", total=None)
        while True:
            async with database.tenant(tenant_id) as session:
                run = await session.get(RestoreRun, (tenant_id, run_id))
                if run is None:
                    raise NotFound(f"The restore {run_id} is gone.")
                done = run.restored + run.failed + run.gone
                progress.update(task, total=run.total, completed=done)
                if run.state in ("done", "cancelled"):
                    break
            await asyncio.sleep(_LOOK_SECONDS)
    console.print(
        f"Restore {run_id} is {run.state}: {run.restored} restored, {run.gone} gone, {run.failed} failed, "
        f"of {run.total}."
    )
