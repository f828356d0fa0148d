"""``postern sources``: setting up threat-intelligence sources, and deciding about lists that are held."""

from __future__ import annotations

import asyncio
import json
import shlex
from collections.abc import Awaitable, Callable
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.kit.errors import PosternError, Refused

if TYPE_CHECKING:
    from app.kit.db import Database
    from app.settings import Settings
    from app.verdicts.sources.service import SourceState

app = typer.Typer(name="sources", help="Threat-intelligence sources: all optional, all off until switched on.")

Work = Callable[["Database", "Settings"], Awaitable[None]]


class SourceLevel(StrEnum):
    """What a source may say."""

    MALICIOUS = "malicious"
    SUSPICIOUS = "suspicious"


@app.command("kinds")
def kinds_command(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List the kinds of sources there are, with their terms."""
    from app.verdicts.sources.registry import kinds

    found = [
        {
            "kind": kind.name,
            "title": kind.title,
            "family": kind.family,
            "address": kind.address,
            "every_seconds": kind.every_seconds,
            "needs_key": kind.needs_secret,
            "options": dict(kind.options),
            "licence": kind.licence.note,
            "licence_url": kind.licence.url,
            "commercial_use": kind.licence.commercial,
        }
        for kind in kinds().values()
    ]
    if as_json:
        typer.echo(json.dumps(found, ensure_ascii=False, indent=2))
        return
    for one in found:
        typer.echo(f"{one['kind']}  {one['title']} ({'downloaded' if one['family'] == 'list' else 'asked at clicks'})")
        typer.echo(f"    terms: {one['licence']} {one['licence_url']}".rstrip())
        if one["address"]:
            typer.echo(f"    address: {one['address']}")
        for name, what in kinds()[str(one["kind"])].options.items():
            typer.echo(f"    option {name}: {what}")


@app.command("list")
def list_command(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Show the sources of this installation and how they are doing."""
    from app.verdicts.sources import service

    async def work(database: Database, _settings: Settings) -> None:
        async with database.untenanted() as session:
            found = await service.states(session)
        if as_json:
            typer.echo(json.dumps([_as_json(state) for state in found], ensure_ascii=False, indent=2))
        elif found:
            _table(found)
        else:
            typer.echo("There are no sources. `postern sources kinds` shows what there is; `add` sets one up.")

    _run(work)


@app.command("add")
def add_command(
    kind: Annotated[str, typer.Argument(help="See `postern sources kinds`.")],
    name: Annotated[str, typer.Option(help="What evidence calls it; by default the kind's title.")] = "",
    address: Annotated[
        str | None, typer.Option(help="Where it is, if not where it usually is; file:/PATH too.")
    ] = None,
    key: Annotated[str | None, typer.Option(help="Where its key is: env:NAME or file:PATH.")] = None,
    every: Annotated[int | None, typer.Option(help="Seconds between two downloads.")] = None,
    level: Annotated[
        SourceLevel | None, typer.Option(help="malicious or suspicious, for entries that say neither.")
    ] = None,
    weight: Annotated[
        int | None, typer.Option(help="Points, 1 to 100; under the level's own it decides nothing.")
    ] = None,
    licence: Annotated[str, typer.Option(help="A note on your terms with the publisher.")] = "",
    option: Annotated[list[str] | None, typer.Option(help="NAME=VALUE; see `kinds`. May be repeated.")] = None,
    enable: Annotated[bool, typer.Option("--enable", help="Switch it on at once: you accept its terms.")] = False,
) -> None:
    """Set up a source. It stays off unless --enable is given."""
    from app.verdicts.scoring import Level
    from app.verdicts.sources import service
    from app.verdicts.sources.registry import kinds

    options: dict[str, Any] = {}
    for text in option or []:
        left, mark, right = text.partition("=")
        if not mark:
            raise Refused(f"{text} is not NAME=VALUE. Nothing was changed.", "source_option")
        options[left] = right
    config = service.new_config(
        kind,
        name,
        address=address,
        secret_ref=key,
        every_seconds=every,
        level=None if level is None else Level(level.value),
        weight=weight,
        licence=licence,
        options=options,
        enabled=enable,
    )

    async def work(database: Database, _settings: Settings) -> None:
        async with database.untenanted() as session:
            await service.add_source(session, config)

    _run(work)
    terms = config.licence or kinds()[kind].licence.note
    typer.echo(f"{config.name} is set up. Its terms: {terms} {kinds()[kind].licence.url}".rstrip())
    typer.echo("A worker asks it now." if enable else f"It is off: postern sources enable {_quoted(config.name)}")


@app.command("remove")
def remove_command(name: Annotated[str, typer.Argument()]) -> None:
    """Forget a source; what it listed leaves the store."""
    from app.verdicts.sources import service

    async def work(database: Database, _settings: Settings) -> None:
        async with database.untenanted() as session:
            await service.remove_source(session, name)

    _run(work)
    typer.echo(f"{name} is gone; a worker takes its entries out of the store.")


@app.command("enable")
def enable_command(name: Annotated[str, typer.Argument()]) -> None:
    """Switch a source on: you accept its terms."""
    _switch(name, True)
    typer.echo(f"{name} is on; a worker asks it now.")


@app.command("disable")
def disable_command(name: Annotated[str, typer.Argument()]) -> None:
    """Switch a source off; what it listed leaves the store."""
    _switch(name, False)
    typer.echo(f"{name} is off; a worker takes its entries out of the store.")


@app.command("refresh")
def refresh_command(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="By default all that are on.")] = None,
) -> None:
    """Ask sources now, and build the store. Exit status 1 if one failed or is held."""

    async def work(database: Database, settings: Settings) -> None:
        from app.kit.clock import utc_now
        from app.protection.feed_tasks import make_refresher, work_folder
        from app.verdicts.sources import service
        from app.verdicts.sources.publish import build_and_publish

        async with database.untenanted() as session:
            known = {state.config.name: state.config.enabled for state in await service.states(session)}
        wanted = names or [name for name, enabled in known.items() if enabled]
        unknown = [name for name in wanted if name not in known]
        if unknown:
            raise Refused(f"There is no source called {', '.join(unknown)}. Nothing was asked.", "source_name")
        failed = False
        refresher = make_refresher(database, settings, utc_now)
        for name in wanted:
            done = await refresher.refresh(name)
            failed |= done.outcome in ("failed", "held", "off")
            words = {
                "taken": f"{done.entries} entries",
                "unchanged": "nothing new",
                "held": f"held for review: {done.why}",
                "failed": done.why,
                "off": "switched off: not asked",
                "nothing": "is asked at clicks, there is nothing to download",
            }
            typer.echo(f"{name}: {words[done.outcome]}")
        built = await build_and_publish(database, work_folder(settings))
        if built.number:
            typer.echo(f"The store has {built.entries} entries now, {built.added} of them new.")
        if failed:
            raise typer.Exit(1)

    _run(work)


@app.command("review")
def review_command(
    name: Annotated[str, typer.Argument()],
    decision: Annotated[str, typer.Argument(metavar="[accept|discard]", help="By default it is only shown.")] = "",
) -> None:
    """Show why a source's new list is held; use it after all, or throw it away."""
    from app.verdicts.sentences import readable
    from app.verdicts.sources import service

    if decision not in ("", "accept", "discard"):
        raise Refused("Say accept or discard. Nothing was changed.", "source_review")

    async def work(database: Database, _settings: Settings) -> None:
        async with database.untenanted() as session:
            if not decision:
                states = await service.states(session)
                found = next((one for one in states if one.config.name == name), None)
                if found is None:
                    names = ", ".join(sorted(one.config.name for one in states)) or "none"
                    raise Refused(f"There is no source called {name}; there are: {names}.", "source_name")
                if not found.reasons:
                    typer.echo(f"Nothing of {name} is held.")
                    return
                since = "" if found.held_at is None else f" since {_moment(found.held_at)}"
                typer.echo(f"The new list of {name} is held{since}; the one before stays in force.")
                for reason in found.reasons:
                    typer.echo(f"  {readable(reason, 200)}")
                return
            entries = await service.review(session, name, accept=decision == "accept")
        if decision == "accept":
            typer.echo(f"The list of {name} with {entries} entries is used; a worker builds it in.")
        else:
            typer.echo(f"The list of {name} was thrown away; it is taken again once its publisher changes it.")

    _run(work)


def _switch(name: str, enabled: bool) -> None:
    from app.verdicts.sources import service

    async def work(database: Database, _settings: Settings) -> None:
        async with database.untenanted() as session:
            await service.set_enabled(session, name, enabled)

    _run(work)


def _run(work: Work) -> None:
    from sqlalchemy.exc import InterfaceError, OperationalError, ProgrammingError

    from app.bootstrap import database_urls
    from app.kit.db import Database
    from app.kit.logs import configure_logs
    from app.settings import load_settings

    async def run() -> None:
        settings = load_settings()
        configure_logs("error", "sources")
        async with database_urls(settings) as urls:
            database = Database(urls.app, 2)
            try:
                await work(database, settings)
            except (OperationalError, InterfaceError):
                raise PosternError("The database does not answer. Nothing was changed.") from None
            except ProgrammingError:
                raise PosternError("The schema is not up to date: run postern migrate. Nothing was changed.") from None
            finally:
                await database.close()

    asyncio.run(run())


def _quoted(name: str) -> str:
    return shlex.quote(name)


def _moment(when: datetime) -> str:
    return f"{when:%Y-%m-%d %H:%M} UTC"


def _as_json(state: SourceState) -> dict[str, Any]:
    config, health = state.config, state.health
    return {
        "name": config.name,
        "kind": config.kind,
        "address": config.address,
        "key": config.secret_ref,
        "enabled": config.enabled,
        "every_seconds": config.every_seconds,
        "level": config.level.value,
        "weight": config.weight,
        "options": dict(config.options),
        "licence": state.licence,
        "licence_url": state.licence_url,
        "entries": health.entries,
        "refused": health.refused,
        "last_success": health.last_success.isoformat() if health.last_success else None,
        "last_change": health.last_change.isoformat() if health.last_change else None,
        "next_try": health.next_try.isoformat() if health.next_try else None,
        "failures": health.failures,
        "error": health.error,
        "held": list(state.reasons),
        "problems": list(state.problems),
    }


def _table(found: list[SourceState]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in ("source", "state", "entries", "last answer", "next", "terms"):
        table.add_column(heading, overflow="fold")
    for state in found:
        health = state.health
        table.add_row(
            state.config.name,
            _word(state),
            f"{health.entries:,}",
            _moment(health.last_success) if health.last_success else "never",
            _moment(health.next_try) if health.next_try and state.config.enabled else "",
            f"{state.licence} {state.licence_url}".strip(),
        )
    Console().print(table)


def _word(state: SourceState) -> str:
    from app.verdicts.sentences import readable

    if not state.config.enabled:
        return "off"
    if state.reasons:
        return f"HELD: {readable(state.health.held, 200)} (postern sources review {_quoted(state.config.name)})"
    if state.health.error:
        return f"failing ({state.health.failures} times): {readable(state.health.error, 200)}"
    return "on" if state.health.last_success else "on, not asked yet"
