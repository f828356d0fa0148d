"""``python -m connectors.emulators``: all emulators in one process on 127.0.0.1.

Prints one line of JSON when it is ready, so that whoever started it knows the addresses.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import uvicorn

from connectors.emulators.demo.delivery import DemoMail
from connectors.emulators.demo.feed import feed_lines, write_feed
from connectors.emulators.demo.google_setup import GoogleSetup, set_up_google
from connectors.emulators.demo.organisations import seed
from connectors.emulators.server import Background, create_app
from connectors.emulators.world import GRAPH_ROLES, Options, World

SECRET_VARIABLE = "POSTERN_EMULATORS_MICROSOFT_CLIENT_SECRET"  # noqa: S105  # the variable's name
"""Environment variable with the Microsoft client secret, so that it stays out of the process list."""


SUPERVISED_VARIABLE = "POSTERN_SUPERVISED"
"""Environment variable that asks this process to end with its parent."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m connectors.emulators",
        description="Emulated Microsoft 365 and Google Workspace with mailbox viewers, on 127.0.0.1 only.",
    )
    parser.add_argument("--port", type=int, default=8090, help="port on 127.0.0.1 (default: 8090)")
    parser.add_argument("--state-dir", type=Path, help="keep the state here across restarts")
    parser.add_argument("--seed", choices=("demo", "none"), default="none", help="organisations and mail to start with")
    parser.add_argument("--microsoft-client-id", default=Options().microsoft_client_id)
    parser.add_argument(
        "--microsoft-client-secret",
        default=os.environ.get(SECRET_VARIABLE),
        help=f"better given as {SECRET_VARIABLE}; made up and kept where it is absent",
    )
    parser.add_argument("--microsoft-certificate", type=Path, help="public certificate (PEM) for client assertions")
    parser.add_argument("--microsoft-role", action="append", help=f"app role, repeatable (default: {GRAPH_ROLES})")
    parser.add_argument("--microsoft-redirect-uri", action="append", default=[], help="registered address, repeatable")
    parser.add_argument("--redirect-uri", action="append", default=[], help="registered with Google, repeatable")
    parser.add_argument("--push-endpoint", help="where Pub/Sub pushes to; without it the subscription is pulled")
    parser.add_argument("--push-audience", help="audience of the push token (default: the endpoint)")
    parser.add_argument("--credentials-file", type=Path, help="write client ids, secrets and keys here (mode 0600)")
    parser.add_argument(
        "--deliver-every", type=float, default=0.0, help="seconds between demo mails (default: 0, none)"
    )
    parser.add_argument("--mailbox-cap", type=int, default=400, help="no more demo mail beyond this (default: 400)")
    parser.add_argument("--feed-file", type=Path, help="write the demo's list of bad addresses here")
    parser.add_argument("--print-feed", action="store_true", help="print that list and end")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run until interrupted.

    Returns:
        The exit code.
    """
    parser = _parser()
    given = parser.parse_args(arguments)
    if given.print_feed:
        sys.stdout.write("".join(f"{line}\n" for line in feed_lines()))
        return 0
    certificate = given.microsoft_certificate.read_text() if given.microsoft_certificate else None
    world = World(
        Options(
            state_dir=given.state_dir,
            microsoft_client_id=given.microsoft_client_id,
            microsoft_client_secret=given.microsoft_client_secret,
            microsoft_certificate=certificate,
            microsoft_roles=tuple(given.microsoft_role or GRAPH_ROLES),
            microsoft_redirect_uris=tuple(given.microsoft_redirect_uri),
            feed_file=given.feed_file,
        )
    )
    base_url = f"http://127.0.0.1:{given.port}"
    world.set_base(base_url)
    background: tuple[Background, ...] = ()
    try:
        if given.seed == "demo":
            mail = DemoMail(world, given.port, given.mailbox_cap)
            if world.is_new:
                seed(world)
                mail.deliver_some(_delivered)
            if given.deliver_every > 0:
                background = (mail.background(given.deliver_every),)
        if given.feed_file is not None:
            write_feed(given.feed_file, turned=world.turned)
        setup = set_up_google(world, given.redirect_uri, given.push_endpoint, given.push_audience)
        if given.credentials_file is not None:
            _write_credentials(given.credentials_file, world, setup)
        world.flush()
        if os.environ.get(SUPERVISED_VARIABLE) == "1":
            background = (*background, _end_with_parent)
        config = uvicorn.Config(
            create_app(world, background),
            host="127.0.0.1",
            port=given.port,
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=2,
        )
        _progress(json.dumps({"emulators": base_url, "microsoft_client_id": given.microsoft_client_id}))
        uvicorn.Server(config).run()
    finally:
        world.close()
    return 0


async def _end_with_parent() -> None:
    """Stop when whoever started this process is gone, even where it was killed."""
    parent = os.getppid()
    # There is no event for a parent's end that works on every system, so it is looked at.
    while os.getppid() == parent:  # noqa: ASYNC110
        await asyncio.sleep(1.0)
    _progress("whoever started this is gone; stopping")
    signal.raise_signal(signal.SIGTERM)


def _delivered(done: int, total: int) -> None:
    if done % 10 == 0 or done == total:
        _progress(f"delivered {done} of {total} demo mails")


def _progress(text: str) -> None:
    sys.stderr.write(f"emulators: {text}\n")
    sys.stderr.flush()


def _write_credentials(path: Path, world: World, setup: GoogleSetup) -> None:
    """What an administrator would copy from both providers' consoles."""
    options = world.options
    content = {
        "microsoft": {
            "client_id": options.microsoft_client_id,
            "client_secret": next(iter(world.microsoft.applications[options.microsoft_client_id].secrets), None),
            "authority": f"{world.base_url}/entra",
            "graph_url": f"{world.base_url}/graph/v1.0",
        },
        "google": setup.as_json(world.base_url, world.google.issuer),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(content, file, indent=2)


if __name__ == "__main__":
    sys.exit(main())
