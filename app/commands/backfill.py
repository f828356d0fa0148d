"""``postern backfill`` and ``postern runs``: the same runs that the console starts, watched from the command line."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable

from rich.console import Console
from rich.table import Table
from sqlalchemy import select

from app.bootstrap import database_urls
from app.commands.bar import progress_bar
from app.commands.scope import Scope, find_tenant, target_of
from app.kit.clock import utc_now
from app.kit.db import Database
from app.protection.backfill import BackfillProgress, backfill_extent, backfill_progress, request_backfill
from app.protection.models import RestoreRun
from app.settings import Settings
from app.tenants.actor import cli_actor

_LOOK_SECONDS = 0.5
_SHOWN_RUNS = 20


async def backfill_and_wait(
    settings: Settings,
    tenant: str,
    scope: Scope,
    *,
    days: int,
    dry_run: bool,
    confirm: Callable[[str], bool] | None,
) -> bool:
    """Start a backfill and show its progress until it has ended. Needs a running worker.

    Args:
        settings: The process's settings.
        tenant: Name, provider tenant id or our id.
        scope: What to go through; a mailbox by its address.
        days: How far back.
        dry_run: Only record what would be done.
        confirm: Asks before anything starts; None: does not ask.

    Returns:
        Whether it was started and nothing failed.

    Raises:
        PosternError: It cannot be started; nothing was.
    """
    console = Console(stderr=True)
    async with database_urls(settings) as urls:
        database = Database(urls.app, 2)
        try:
            tenant_id, name = await find_tenant(database, tenant)
            target = await target_of(database, tenant_id, scope)
            actor = cli_actor(tenant_id)
            async with database.tenant(tenant_id) as session:
                extent = await backfill_extent(session, actor, scope.kind, target, days, utc_now())
            what = (
                f"{extent.mailboxes} mailboxes of {name}, mail of the last {days} days "
                f"({extent.handled} messages of it are handled already, {extent.left_out} mailboxes are not protected)"
            )
            verb = "Look through" if dry_run else "Protect mail in"
            if confirm is not None and not confirm(f"{verb} {what}?"):
                console.print("Nothing was started.")
                return False
            async with database.tenant(tenant_id) as session:
                run_id = await request_backfill(
                    session, actor, scope.kind, target, days=days, now=utc_now(), dry_run=dry_run
                )
            return await _watch(console, database, tenant_id, run_id)
        finally:
            await database.close()


async def _watch(console: Console, database: Database, tenant_id: uuid.UUID, run_id: int) -> bool:
    console.print(f"Backfill {run_id} is under way. You may leave: it goes on, and `postern runs` shows it.")
    with progress_bar(console) as bar:
        task = bar.add_task("Counting", total=None)
        while True:
            async with database.tenant(tenant_id) as session:
                (found,) = await backfill_progress(session, cli_actor(tenant_id), utc_now(), run_id)
            known = None if found.counting else found.total
            bar.update(task, total=known, completed=found.looked, description=pace(found))
            if found.run.state in ("done", "cancelled"):
                break
            await asyncio.sleep(_LOOK_SECONDS)
    console.print(summary(found))
    for address, error in found.errors:
        console.print(f"  {address}: {error}", markup=False)
    return found.run.state == "done" and not found.failed and not found.errors


def pace(found: BackfillProgress) -> str:
    """Rate and time left, in words."""
    if found.counting and not found.looked:
        return f"Counting, {found.total} so far"
    left = "" if found.seconds_left is None else f", about {duration(found.seconds_left)} left"
    return f"{found.rate:.0f}/min{left}"


def duration(seconds: int) -> str:
    """``45 s``, ``12 min``, ``3 h 5 min`` or ``2 d 4 h``."""
    if seconds < 90:
        return f"{seconds} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 36 else f"{hours // 24} d {hours % 24} h"


def summary(found: BackfillProgress) -> str:
    """What a run came to, in one line."""
    verb = "would be protected" if found.run.dry_run else "protected"
    return (
        f"Backfill {found.run.id} is {found.run.state}: {found.done} {verb}, {found.skipped} left as they are, "
        f"{found.already} handled before, {found.failed} failed, of {found.total}."
    )


async def show_runs(settings: Settings, tenant: str) -> None:
    """Print the latest backfills and restores.

    Raises:
        NotFound: There is no such organisation.
    """
    async with database_urls(settings) as urls:
        database = Database(urls.app, 2)
        try:
            tenant_id, name = await find_tenant(database, tenant)
            async with database.tenant(tenant_id) as session:
                fills = await backfill_progress(session, cli_actor(tenant_id), utc_now(), limit=_SHOWN_RUNS)
                restores = list(
                    await session.scalars(select(RestoreRun).order_by(RestoreRun.id.desc()).limit(_SHOWN_RUNS))
                )
        finally:
            await database.close()
    table = Table(title=f"Runs of {name}", title_justify="left")
    for heading in ("run", "asked", "what", "state", "progress", "pace"):
        table.add_column(heading)
    for fill in fills:
        what = f"{fill.run.scope} {fill.run.target}".strip() + (" (dry run)" if fill.run.dry_run else "")
        live = fill.run.state in ("waiting", "running")
        table.add_row(
            f"backfill {fill.run.id}",
            f"{fill.run.requested_at:%Y-%m-%d %H:%M} UTC",
            what,
            fill.run.state,
            f"{fill.looked} of {fill.total}, {fill.failed} failed",
            pace(fill) if live else "",
        )
    for run in restores:
        table.add_row(
            f"restore {run.id}",
            f"{run.requested_at:%Y-%m-%d %H:%M} UTC",
            f"{run.scope} {run.target}".strip(),
            run.state,
            f"{run.restored + run.failed + run.gone} of {run.total}, {run.failed} failed",
            "",
        )
    Console().print(table if fills or restores else f"{name} has no runs yet.")
