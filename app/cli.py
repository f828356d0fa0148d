"""The command ``postern``. Its forms are stable: scripts and the acceptance tests use them."""

from __future__ import annotations

import json
import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from app.commands import sources
from app.commands.bar import progress_bar
from app.kit.crypto import KeyRing
from app.kit.errors import PosternError, Refused
from app.settings import Settings, load_settings

if TYPE_CHECKING:
    from app.messages.options import DeliveryOptions
    from app.protection.what_if import WhatIf
    from app.verdicts.inspect import Inspection

app = typer.Typer(
    name="postern",
    help="Protects the links in delivered mail, decides at the click, reports, and takes it all back.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
)


app.add_typer(sources.app)


@app.command("run")
def run_command(
    role: Annotated[str, typer.Argument(help="gateway, intake, console, web, worker, scheduler or all")],
) -> None:
    """Run one role, or all of them with the embedded database (and the demo where nothing is configured)."""
    from app import serve, supervisor

    if role == "all":
        raise typer.Exit(supervisor.run_all(load_settings()))
    if role not in (*serve.ROLES, "web"):
        raise PosternError(f"There is no role {role}. Roles: {', '.join(serve.ROLES)}, web, all.")
    raise typer.Exit(serve.run(role, load_settings()))


@app.command()
def migrate() -> None:
    """Bring the database to the newest schema."""
    import asyncio

    from app.bootstrap import database_urls
    from app.migrations.run import migrate as run_migrations

    async def run() -> None:
        async with database_urls(load_settings()) as urls:
            await asyncio.to_thread(run_migrations, urls.owner)

    asyncio.run(run())
    typer.echo("The schema is up to date.")


@app.command()
def transform(
    source: Annotated[Path, typer.Argument(metavar="IN", help="Message file or folder.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="File, or folder with the same names.")],
    gateway: Annotated[str, typer.Option(help="Address of the gateway, e.g. https://gw.example")],
    report: Annotated[Path | None, typer.Option("--json", help="Write a report here.")] = None,
    options: Annotated[
        Path | None, typer.Option(help="JSON file: how links are treated, see docs/what-is-rewritten.md.")
    ] = None,
) -> None:
    """Rewrite the links of messages, offline. What tokens cannot carry is written beside as NAME.undo."""
    from app.commands.files import message_files, transform_files

    settings = load_settings()
    _check_gateway(gateway)
    with progress_bar(Console(stderr=True), stays=False) as progress:
        task = progress.add_task("Transforming", total=sum(1 for _ in message_files(source)))
        done = transform_files(
            source,
            target,
            _keys(settings),
            gateway,
            settings.gateway_prefix,
            lambda: progress.advance(task),
            _delivery_options(options),
        )
    _finish(done.as_json(), report)


@app.command()
def restore(
    source: Annotated[Path, typer.Argument(metavar="IN", help="Message file or folder.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="File, or folder with the same names.")],
    report: Annotated[Path | None, typer.Option("--json", help="Write a report here.")] = None,
) -> None:
    """Give messages their original links back, offline."""
    from app.commands.files import message_files, restore_files

    with progress_bar(Console(stderr=True), stays=False) as progress:
        task = progress.add_task("Restoring", total=sum(1 for _ in message_files(source)))
        done = restore_files(source, target, _keys(load_settings()), lambda: progress.advance(task))
    _finish(done.as_json(), report)
    if done.counts["links_failed"]:
        raise typer.Exit(1)


@app.command()
def unwrap(urls: Annotated[list[str], typer.Argument(metavar="URL...", help="Rewritten links.")]) -> None:
    """Show what rewritten links stand for: one line each, the original address. Exit status 1 if one is broken."""
    from app.links.mint import LinkOpener
    from app.links.token import LinkBroken, PayloadNeeded

    settings = load_settings()
    opener = LinkOpener(_keys(settings), settings.gateway_url, settings.gateway_prefix)
    broken = False
    for url in urls:
        try:
            typer.echo(opener.open_any(url).url)
        except LinkBroken as error:
            broken = True
            typer.echo(f"broken ({error.reason}): {url[:200]}", err=True)
        except PayloadNeeded:
            broken = True
            typer.echo(f"its target is stored in the database: open it in the console: {url[:200]}", err=True)
    if broken:
        raise typer.Exit(1)


@app.command("inspect-url")
def inspect_url_command(
    url: Annotated[str, typer.Argument(metavar="URL")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    offline: Annotated[bool, typer.Option("--offline", help="Ask no source beyond this machine.")] = False,
    feed: Annotated[
        Path | None,
        typer.Option(
            "--feed",
            metavar="FILE",
            help="Local list of known links to go by; by default the one that POSTERN_FEED_FILE names. "
            "The demo's is demo/feed.tsv in its data directory.",
        ),
    ] = None,
    tenant: Annotated[
        str | None,
        typer.Option(help="An organisation, by name or id: what its policy would do. Asks nothing over the network."),
    ] = None,
    user: Annotated[str | None, typer.Option(help="Whose mailbox, by its address; with --tenant.")] = None,
    received: Annotated[
        datetime | None, typer.Option(help="When the message came, UTC; with --tenant. Unset: now.")
    ] = None,
) -> None:
    """Show the verdict on an address, and why; with --tenant what would happen there to whom."""
    import asyncio

    from app.kit.logs import configure_logs
    from app.verdicts.asking import open_desk
    from app.verdicts.inspect import inspect_url
    from app.verdicts.lists import installed_lists

    configure_logs("warning", "inspect-url")  # unconfigured, logs go to standard output and into the JSON
    if feed is not None and not feed.is_file():
        raise Refused(f"There is no file {feed}. Nothing was looked at.", "no_input")
    settings = load_settings()
    lists = installed_lists(feed or settings.feed_file, settings.data_dir)
    inspection: Inspection | WhatIf
    if tenant is not None:
        from app.commands.what_if import ask_what_if

        inspection = asyncio.run(ask_what_if(settings, lists, url, tenant, user, received))
    elif user is not None or received is not None:
        raise Refused("--user and --received go with --tenant. Nothing was looked at.", "no_tenant")
    else:
        inspection = inspect_url(url, feed=lists, offline=offline, sources=open_desk(settings))
    if as_json:
        typer.echo(json.dumps(inspection.as_json(), ensure_ascii=False, indent=2))
    else:
        typer.echo(inspection.as_text())


@app.command("restore-mail")
def restore_mail(
    tenant: Annotated[str, typer.Option(help="The organisation: its name, provider tenant id, or our id.")],
    message: Annotated[int | None, typer.Option(help="One message, by its number in the console.")] = None,
    mailbox: Annotated[str | None, typer.Option(help="One mailbox, by its address.")] = None,
    domain: Annotated[str | None, typer.Option(help="All mailboxes of a domain.")] = None,
    everything: Annotated[bool, typer.Option("--everything", help="The whole organisation.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Give delivered mail its original links back, in the mailboxes. Shows progress; can be left and come back to."""
    import asyncio

    from app.commands.restore import restore_and_wait
    from app.commands.scope import Scope

    chosen = [
        Scope("message", str(message)) if message is not None else None,
        Scope("mailbox", mailbox) if mailbox else None,
        Scope("domain", domain) if domain else None,
        Scope("tenant", "") if everything else None,
    ]
    scopes = [scope for scope in chosen if scope is not None]
    if len(scopes) != 1:
        raise PosternError("Name one of --message, --mailbox, --domain or --everything. Nothing was started.")
    asyncio.run(restore_and_wait(load_settings(), tenant, scopes[0], None if yes else _confirm))


@app.command("backfill")
def backfill_command(
    tenant: Annotated[str, typer.Option(help="The organisation: its name, provider tenant id, or our id.")],
    days: Annotated[int, typer.Option(min=1, max=3650, help="How many days back.")],
    mailbox: Annotated[str | None, typer.Option(help="One mailbox, by its address.")] = None,
    domain: Annotated[str | None, typer.Option(help="All protected mailboxes of a domain.")] = None,
    everything: Annotated[bool, typer.Option("--everything", help="The whole organisation.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only record what would be done.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Protect mail that came before protection was switched on. Can be left and come back to (`postern runs`)."""
    import asyncio

    from app.commands.backfill import backfill_and_wait
    from app.commands.scope import Scope

    chosen = [
        Scope("mailbox", mailbox) if mailbox else None,
        Scope("domain", domain) if domain else None,
        Scope("tenant", "") if everything else None,
    ]
    scopes = [scope for scope in chosen if scope is not None]
    if len(scopes) != 1:
        raise PosternError("Name one of --mailbox, --domain or --everything. Nothing was started.")
    ended_well = asyncio.run(
        backfill_and_wait(
            load_settings(), tenant, scopes[0], days=days, dry_run=dry_run, confirm=None if yes else _confirm
        )
    )
    if not ended_well:
        raise typer.Exit(1)


@app.command("offboard")
def offboard_command(
    tenant: Annotated[str, typer.Option(help="The organisation: its name, provider tenant id, or our id.")],
    confirm: Annotated[str | None, typer.Option(help="The organisation's name, instead of being asked.")] = None,
    retry: Annotated[bool, typer.Option("--retry", help="Stuck: try to restore the rest again.")] = False,
    delete_anyway: Annotated[
        bool, typer.Option("--delete-anyway", help="Delete although messages still carry rewritten links.")
    ] = False,
    cancel: Annotated[bool, typer.Option("--cancel", help="Stay; possible until the deletion begins.")] = False,
) -> None:
    """Restore everything, then delete all that is kept of an organisation; prints the receipt."""
    import asyncio

    from app.commands.offboard import Choice, offboard_and_wait

    def ask_name(what: str) -> str:
        if confirm is not None:
            return confirm
        typer.echo(what, err=True)
        return str(typer.prompt("Type the organisation's name to confirm", err=True))

    choice = Choice(retry=retry, anyway=delete_anyway, cancel=cancel)
    if sum((retry, delete_anyway, cancel)) > 1:
        raise PosternError("Choose one of --retry, --delete-anyway and --cancel. Nothing was changed.")
    if not asyncio.run(offboard_and_wait(load_settings(), tenant, choice, ask_name)):
        raise typer.Exit(1)


@app.command("runs")
def runs_command(
    tenant: Annotated[str, typer.Option(help="The organisation: its name, provider tenant id, or our id.")],
) -> None:
    """List the latest backfills and restores with their progress."""
    import asyncio

    from app.commands.backfill import show_runs

    asyncio.run(show_runs(load_settings(), tenant))


@app.command("reset")
def reset_command() -> None:
    """Remove the data directory of the embedded default: database, keys, logs, demo."""
    from app.supervisor import reset

    reset(load_settings())
    typer.echo("The data directory is gone; the next start begins anew.")


@app.command("settings")
def settings_command() -> None:
    """Print every setting with its description, as an ``.env`` file."""
    typer.echo(env_example(), nl=False)


def env_example() -> str:
    """The text of ``.env.example``: every setting, its description, its default; commented out."""
    lines = [
        "# Settings of Postern. Copy to .env and change what you need; the demo needs none.",
        "# Made by `postern settings` from app/settings.py; a test keeps it equal.",
    ]
    for name, field in Settings.model_fields.items():
        default = field.default
        shown = "" if default is None else str(default)
        lines += ["", f"# {field.description}", f"# POSTERN_{name.upper()}={shown}"]
    return "\n".join(lines) + "\n"


def _delivery_options(path: Path | None) -> DeliveryOptions:
    from app.messages.options import DeliveryOptions, OptionError

    if path is None:
        return DeliveryOptions()
    try:
        given = json.loads(path.read_text())
        if not isinstance(given, dict):
            raise OptionError("a JSON object is wanted")
        return DeliveryOptions.parse(given)
    except (OSError, ValueError) as error:
        raise PosternError(f"{path} cannot be used: {error}. Nothing was written.") from None


def _keys(settings: Settings) -> KeyRing:
    return KeyRing(settings.master_keys())


def _confirm(question: str) -> bool:
    return typer.confirm(question)


def _check_gateway(gateway: str) -> None:
    from urllib.parse import urlsplit

    parts = urlsplit(gateway)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise PosternError(f"--gateway wants an address such as https://gw.example, not {gateway!r}.")


def _finish(report: dict[str, Any], path: Path | None) -> None:
    typer.echo(" ".join(f"{name}={number}" for name, number in report["counts"].items()))
    for file in report["files"]:
        if "error" in file:
            typer.echo(f"postern: {file['name']!r} was not handled: {file['error']}.", err=True)
    if path is not None:
        # Names that are no text come out as the JSON escapes of their surrogates.
        text = json.dumps(report, ensure_ascii=False, indent=1) + "\n"
        try:
            path.write_bytes(text.encode("utf-8", "backslashreplace"))
        except OSError as error:
            raise PosternError(f"The report could not be written to {path}: {error.strerror}.") from error
    if report["counts"].get("failed"):
        raise typer.Exit(1)


def main() -> None:
    """Entry point: errors of ours are one line on standard error and exit status 2."""
    try:
        app()
    except PosternError as error:
        typer.echo(f"postern: {error}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
