"""``postern run all``: every role in one process group on the embedded database.

Where no provider is configured it also starts the emulated providers and points the provider settings at
them: the demo is the product against other addresses, nothing else.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from app.kit.errors import ConfigurationError
from app.kit.postgres import start_embedded, stop_unused_embedded
from app.migrations.run import migrate
from app.settings import Settings

READY_SECONDS = 90.0
STOP_SECONDS = 15.0
_RESTART_SECONDS = 1.0
_LOOK_SECONDS = 0.2


@dataclass
class Child:
    """A process of the group.

    Attributes:
        name: For messages.
        command: Its command line.
        env: Added to our environment.
        ready_url: Answers 200 once it can serve.
        process: The running process.
        started_at: Monotonic seconds of its last start.
        log: Where its output goes.
        says: Prefix of the lines in its output that are meant for people.
    """

    name: str
    command: list[str]
    env: dict[str, str]
    ready_url: str
    log: Path
    says: str = ""
    process: subprocess.Popen[bytes] | None = None
    started_at: float = field(default=0.0)

    def start(self) -> None:
        """Start the process; its output is appended to the log file."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            # The command lines are built below from this interpreter and fixed words.
            self.process = subprocess.Popen(  # noqa: S603
                self.command,
                env={**os.environ, **self.env, "POSTERN_SUPERVISED": "1", "PYTHONUNBUFFERED": "1"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.started_at = time.monotonic()

    def progress(self) -> str:
        """The newest line that the process wrote for people (``name: text``), or nothing."""
        lines = _tail(self.log, 1)
        return lines.partition(": ")[2] if self.says and lines.startswith(self.says) else ""

    def is_ready(self) -> bool:
        """Whether it says that it can serve."""
        try:
            with urllib.request.urlopen(self.ready_url, timeout=2) as answer:  # noqa: S310 - our own address
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False


class Group:
    """The processes, watched: one that ends is started again; all end together.

    Args:
        settings: The settings of this process.
        console: Where to show progress.
    """

    def __init__(self, settings: Settings, console: Console) -> None:
        self._settings = settings
        self._console = console
        self._children: list[Child] = []
        self.stopping = False

    def add(self, child: Child) -> None:
        """Start a process and wait until it is ready.

        Raises:
            ConfigurationError: It ended, or was not ready in time.
        """
        self._children.append(child)
        child.start()
        deadline = time.monotonic() + READY_SECONDS
        shown = ""
        while not self.stopping:
            progress = child.progress()
            if progress and progress != shown:
                shown = progress
                self._console.print(f"  {progress}")
            if child.is_ready():
                return
            if child.process is not None and child.process.poll() is not None:
                raise ConfigurationError(f"{child.name} did not start. Its last words:\n{_tail(child.log)}")
            if time.monotonic() > deadline:
                raise ConfigurationError(
                    f"{child.name} was not ready within {READY_SECONDS:.0f} s. Its last words:\n{_tail(child.log)}"
                )
            time.sleep(_LOOK_SECONDS)

    def watch(self) -> None:
        """Until stopped: start again what has ended."""
        while not self.stopping:
            for child in self._children:
                ended = child.process is not None and child.process.poll() is not None
                if ended and time.monotonic() - child.started_at > _RESTART_SECONDS:
                    code = child.process.returncode if child.process else None
                    self._console.print(f"[yellow]{child.name} ended ({code}); starting it again[/]")
                    child.start()
            time.sleep(_LOOK_SECONDS)

    def ask_to_stop(self, *_: object) -> None:
        """Signal handler."""
        self.stopping = True

    def stop(self) -> None:
        """End all processes: first kindly, then for good."""
        self.stopping = True
        running = [child for child in self._children if child.process is not None and child.process.poll() is None]
        for child in reversed(running):
            if child.process is not None:
                child.process.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        for child in running:
            if child.process is None:
                continue
            try:
                child.process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                os.killpg(child.process.pid, signal.SIGKILL)
                child.process.wait()


def _tail(log: Path, lines: int = 15) -> str:
    """The last lines of a log file."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


def run_all(settings: Settings) -> int:
    """Run everything until Ctrl-C.

    Returns:
        0 after a clean stop.

    Raises:
        ConfigurationError: Something could not be started; what was started is stopped again.
    """
    console = Console(stderr=False, highlight=False)
    settings.master_keys()
    demo = not (settings.microsoft_configured or settings.google_configured)
    group = Group(settings, console)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, group.ask_to_stop)
    began = time.monotonic()
    data_dir = settings.data_dir.resolve()
    data_dir.mkdir(parents=True, exist_ok=True)
    env = {"POSTERN_DATA_DIR": str(data_dir)}
    check_ports(settings, demo=demo)
    server = None
    if settings.embedded:
        console.print("Starting PostgreSQL …")
        server, urls = start_embedded(data_dir)
        console.print("Bringing the database up to date …")
        migrate(urls.owner)
    try:
        if demo:
            console.print("Starting the emulated mail providers, delivering their first mail …")
            env |= _start_emulators(group, settings, data_dir)
        console.print("Starting Postern …")
        for role, port in (
            ("web", settings.port),
            ("worker", settings.health_port_worker),
            ("scheduler", settings.health_port_scheduler),
        ):
            group.add(_role(role, port, settings, env, data_dir))
        if not group.stopping:
            _show(console, settings, demo, time.monotonic() - began)
        group.watch()
        console.print("Stopping …")
    finally:
        group.stop()
        if server is not None:
            server.cleanup()
    return 0


def check_ports(settings: Settings, *, demo: bool) -> None:
    """Refuse to start where another program has one of our ports.

    Whether a process is ready is asked over its port, so that another Postern on it would answer for ours, which
    could never start.

    Raises:
        ConfigurationError: A port is taken; names it and its setting. Nothing was started.
    """
    ports = {
        "POSTERN_PORT": (settings.host, settings.port),
        "POSTERN_HEALTH_PORT_WORKER": (settings.host, settings.health_port_worker),
        "POSTERN_HEALTH_PORT_SCHEDULER": (settings.host, settings.health_port_scheduler),
    }
    if demo:
        ports["POSTERN_EMULATORS_PORT"] = ("127.0.0.1", settings.emulators_port)
    for name, (host, port) in ports.items():
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            # As the servers do it, so that connections that have just ended are no obstacle.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                raise ConfigurationError(
                    f"Port {port} of {host} cannot be used ({error.strerror}). Is Postern running already? "
                    f"Stop what uses it, or set {name} to another. Nothing was started."
                ) from None


def _role(role: str, port: int, settings: Settings, env: dict[str, str], data_dir: Path) -> Child:
    return Child(
        name=role,
        command=[sys.executable, "-m", "app.cli", "run", role],
        env=env,
        ready_url=f"http://{settings.host}:{port}/readyz",
        log=data_dir / "log" / f"{role}.log",
    )


def _start_emulators(group: Group, settings: Settings, data_dir: Path) -> dict[str, str]:
    """Start the emulators and return the provider settings that lead to them."""
    folder = data_dir / "demo"
    credentials, feed = folder / "credentials.json", folder / "feed.tsv"
    base = f"http://127.0.0.1:{settings.emulators_port}"
    console_url, intake_url = settings.console_url.rstrip("/"), settings.intake_url.rstrip("/")
    arguments = {
        "--port": str(settings.emulators_port),
        "--state-dir": str(folder / "state"),
        "--seed": "demo",
        "--feed-file": str(feed),
        "--credentials-file": str(credentials),
        "--push-endpoint": f"{intake_url}/hooks/google",
        "--redirect-uri": f"{console_url}/sign-in/callback/google",
        "--deliver-every": str(settings.demo_deliver_seconds),
    }
    command = [sys.executable, "-m", "connectors.emulators"]
    for name, value in arguments.items():
        command += [name, value]
    group.add(
        Child(
            "emulated providers",
            command,
            {},
            f"{base}/healthz",
            data_dir / "log" / "emulators.log",
            says="emulators: delivered",
        )
    )
    known = json.loads(credentials.read_text())
    key_file = folder / "google-key.json"
    key_file.touch(mode=0o600)
    key_file.write_text(json.dumps(known["google"]["service_account"]))
    microsoft, google = known["microsoft"], known["google"]
    return {
        "POSTERN_MICROSOFT_CLIENT_ID": microsoft["client_id"],
        "POSTERN_MICROSOFT_CLIENT_SECRET": microsoft["client_secret"],
        "POSTERN_MICROSOFT_AUTHORITY": microsoft["authority"],
        "POSTERN_MICROSOFT_GRAPH_URL": microsoft["graph_url"],
        "POSTERN_MICROSOFT_ADMIN_URL": base,
        "POSTERN_GOOGLE_SERVICE_ACCOUNT_FILE": str(key_file),
        "POSTERN_GOOGLE_CLIENT_ID": google["oauth_client"]["client_id"],
        "POSTERN_GOOGLE_CLIENT_SECRET": google["oauth_client"]["client_secret"],
        "POSTERN_GOOGLE_API_URL": google["api_url"],
        "POSTERN_GOOGLE_TOKEN_URL": google["token_url"],
        "POSTERN_GOOGLE_ISSUER": google["issuer"],
        "POSTERN_GOOGLE_CERTS_URL": google["certs_url"],
        "POSTERN_GOOGLE_ADMIN_URL": google["admin_url"],
        "POSTERN_GOOGLE_PUBSUB_TOPIC": google["topic"],
        "POSTERN_GOOGLE_PUBSUB_SUBSCRIPTION": google["subscription"],
        "POSTERN_GOOGLE_PUSH_SERVICE_ACCOUNT": google["push_service_account"],
        "POSTERN_FEED_FILE": str(feed),
    }


def _show(console: Console, settings: Settings, demo: bool, seconds: float) -> None:
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_row("Console", settings.console_url)
    if demo:
        base = f"http://127.0.0.1:{settings.emulators_port}"
        table.add_row("Mailboxes in Microsoft 365", f"{base}/viewer/microsoft/")
        table.add_row("Mailboxes in Google Workspace", f"{base}/viewer/google/")
        for provider, address in _administrators(base):
            table.add_row(f"Administrator at {provider.title()}", address)
        table.add_row("Everybody who can sign in", f"{base}/")
    table.add_row("Logs", str(settings.data_dir.resolve() / "log"))
    console.print(f"\nPostern is ready after {seconds:.0f} s. Ctrl-C stops it, the data stays.\n")
    console.print(table)
    if demo:
        console.print(
            "\nThis is the demo. Sign in as an administrator (no password: pick the name), connect the\n"
            "organisation in four steps, then read mail and click."
        )


def _administrators(base: str) -> list[tuple[str, str]]:
    """Who administers the emulated organisations, as the emulators say."""
    with urllib.request.urlopen(f"{base}/control/people", timeout=5) as answer:  # noqa: S310 - our own address
        people = json.load(answer)
    return [(person["provider"], person["address"]) for person in people if person["is_admin"]]


def reset(settings: Settings) -> None:
    """Remove the data directory: database, keys, logs, demo.

    Raises:
        ConfigurationError: Postern is still running on it.
    """
    data_dir = settings.data_dir.resolve()
    if not stop_unused_embedded(data_dir):
        raise ConfigurationError(f"Postern is still running on {data_dir}. Stop it first; nothing was removed.")
    if data_dir.exists() and not (data_dir / "pg").exists() and any(data_dir.iterdir()):
        raise ConfigurationError(f"{data_dir} does not look like a data directory of Postern; nothing was removed.")
    shutil.rmtree(data_dir, ignore_errors=True)
