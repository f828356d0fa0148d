"""PostgreSQL stopped under clicks, and the gateway killed with -9 in the middle: what is lost, doubled or late.

Everything is real: a server from the embedded wheel, the gateway as a process of its own with the ingest of its
spool, clicks over loopback at a fixed rate. Every click has an address of its own, so the database can be asked for
each one: an answered click that is missing there was lost, one that is there twice was counted twice.
"""

from __future__ import annotations

import asyncio
import base64
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import psycopg

from app.kit.crypto import KeyRing
from app.kit.postgres import start_embedded
from app.links.mint import Minter
from app.migrations.run import migrate

TENANT = uuid.UUID("0198f1a0-0000-7000-8000-00000000000a")
KEY = bytes(range(32))
ADDRESSES = 16
"""From so many loopback addresses the clicks come: one alone would meet the limit per address."""
_TIMEOUT_SECONDS = 30.0
_ROOT = Path(__file__).resolve().parents[2]
_AGENT = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36"


class Killable(Protocol):
    """A process."""

    @property
    def pid(self) -> int | None:
        """Its number."""


Start = Callable[[dict[str, str], Path], Killable]
"""Starts the gateway with an environment and a file for its output."""


@dataclass(frozen=True, slots=True)
class Click:
    """One click: its own address, when it was due and answered (seconds of the monotonic clock), and how."""

    url: str
    due: float
    ended: float
    answered: bool
    why: str = ""


@dataclass
class Report:
    """What was seen.

    Attributes:
        clicks: All of them.
        marks: When things happened, seconds of the monotonic clock.
        stored: Address -> how often it is in the database.
        drained_seconds: From the database's return until the last answered click was in it.
    """

    clicks: list[Click] = field(default_factory=list)
    marks: dict[str, float] = field(default_factory=dict)
    stored: Counter[str] = field(default_factory=Counter)
    drained_seconds: float = 0.0

    def _in_kill(self, click: Click) -> bool:
        return click.ended >= self.marks["killed"] and click.due <= self.marks["back"]

    @property
    def failed_in_kill(self) -> list[Click]:
        """Clicks that were under way when the gateway was killed, or came before it was back."""
        return [click for click in self.clicks if not click.answered and self._in_kill(click)]

    @property
    def failed(self) -> list[Click]:
        """Clicks that failed at any other time."""
        return [click for click in self.clicks if not click.answered and not self._in_kill(click)]

    @property
    def missing(self) -> list[str]:
        """Answered clicks that are not in the database."""
        return [click.url for click in self.clicks if click.answered and not self.stored[click.url]]

    @property
    def doubled(self) -> list[str]:
        """Clicks that are in the database more than once."""
        return [url for url, times in self.stored.items() if times > 1]

    def latency(self, phase: str, share: float) -> float:
        """A percentile in seconds, from when the click was due; answered clicks of a phase.

        Args:
            phase: ``before``, ``during`` (the database is stopped; without the kill's window) or ``after``.
            share: 0.5 is the median.
        """
        stopped, started = self.marks["stopped"], self.marks["started"]
        bounds = {"before": (0.0, stopped), "during": (stopped, started), "after": (started, float("inf"))}
        low, high = bounds[phase]
        taken = sorted(
            click.ended - click.due
            for click in self.clicks
            if click.answered and low <= click.due < high and not self._in_kill(click)
        )
        return taken[min(len(taken) - 1, int(len(taken) * share))] if taken else 0.0


def run_as_command(environment: dict[str, str], log: Path) -> Killable:
    """The gateway as an operator starts it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("POSTERN_")}
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "app.cli", "run", "gateway"],
            env={**kept, **environment, "PYTHONPATH": str(_ROOT)},
            cwd=log.parent,
            stdout=output,
            stderr=output,
        )


async def run_outage(
    folder: Path, *, rate: float, before: float, outage: float, after: float, start: Start = run_as_command
) -> Report:
    """Click at a rate, stop the database, kill the gateway in the middle, and count afterwards.

    Args:
        folder: Empty; the embedded server's system user must be able to enter it.
        rate: Clicks per second.
        before: Seconds of clicks before the database is stopped.
        outage: Seconds for which it stays away.
        after: Seconds of clicks after it is back.
        start: Starts the gateway.
    """
    server, urls = await asyncio.to_thread(start_embedded, folder)
    await asyncio.to_thread(migrate, urls.owner)
    with psycopg.connect(urls.owner, autocommit=True) as connection:
        row = connection.execute(
            "INSERT INTO tenants (tenant_id, name, provider, external_id) VALUES (%s, 'Contoso', 'google', 'x') "
            "RETURNING no",
            (TENANT,),
        ).fetchone()
    assert row is not None
    port = _free_port()
    base = f"http://127.0.0.1:{port}"
    environment = {
        "POSTERN_DATABASE_URL": urls.app,
        "POSTERN_MASTER_KEY": base64.b64encode(KEY).decode(),
        "POSTERN_DATA_DIR": str(folder / "gateway-data"),
        "POSTERN_PORT": str(port),
        "POSTERN_GATEWAY_URL": base,
        "POSTERN_LOG_LEVEL": "warning",
    }
    log = folder / "gateway.log"
    report = Report()
    gateway = start(environment, log)
    try:
        await _until_up(port, log)
        clicking = asyncio.Event()
        clicking.set()
        clicker = asyncio.create_task(_click(report, base, port, int(row[0]), rate, clicking))
        await asyncio.sleep(before)
        report.marks["stopped"] = time.monotonic()
        await asyncio.to_thread(server.cleanup)
        await asyncio.sleep(outage / 2)
        report.marks["killed"] = time.monotonic()
        _kill(gateway)
        gateway = start(environment, log)
        await _until_up(port, log)
        report.marks["back"] = time.monotonic()
        await asyncio.sleep(max(0.0, report.marks["stopped"] + outage - time.monotonic()))
        server, _ = await asyncio.to_thread(start_embedded, folder)
        report.marks["started"] = time.monotonic()
        await asyncio.sleep(after)
        clicking.clear()
        await clicker
        await _drain(report, urls.owner)
    finally:
        _kill(gateway)
        await asyncio.to_thread(server.cleanup)
    return report


async def _drain(report: Report, url: str) -> None:
    """Wait for the answered clicks to be in the database, then a while longer for any that come twice."""
    wanted = {click.url for click in report.clicks if click.answered}
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        report.stored = await asyncio.to_thread(_stored, url)
        if wanted <= report.stored.keys():
            break
        await asyncio.sleep(0.2)
    report.drained_seconds = time.monotonic() - report.marks["started"]
    await asyncio.sleep(1.0)
    report.stored = await asyncio.to_thread(_stored, url)


def _stored(url: str) -> Counter[str]:
    with psycopg.connect(url) as connection:
        return Counter(row[0] for row in connection.execute("SELECT url FROM clicks"))


def _kill(process: Killable) -> None:
    if process.pid is not None:
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
    wait = getattr(process, "wait", None) or getattr(process, "join")  # noqa: B009 - one of two kinds of process
    wait()


async def _until_up(port: int, log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with suppress(OSError, asyncio.IncompleteReadError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(b"GET /healthz HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n")
                if (await reader.readline()).startswith(b"HTTP/1.1 200"):
                    return
            finally:
                writer.close()
        await asyncio.sleep(0.02)
    output = await asyncio.to_thread(log.read_text)
    raise RuntimeError(f"the gateway did not start: {output[-2000:]}")


async def _click(report: Report, base: str, port: int, tenant_no: int, rate: float, going: asyncio.Event) -> None:
    """Click on schedule, whatever became of the clicks before."""
    keys = KeyRing({1: KEY})
    idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
    running: set[asyncio.Task[None]] = set()
    begun, number = time.monotonic(), 0
    while going.is_set():
        while number < (time.monotonic() - begun) * rate:
            url = f"https://good.example/{number}"
            minter = Minter(keys, base, "l", tenant_no=tenant_no, mailbox_no=1, message_no=number // 3 + 1)
            path = minter.mint(url, url.encode(), "anchor").removeprefix(base)
            due = begun + number / rate
            task = asyncio.create_task(_one(report, idle, port, path, url, due, f"127.0.1.{number % ADDRESSES + 1}"))
            running.add(task)
            task.add_done_callback(running.discard)
            number += 1
        await asyncio.sleep(0.002)
    if running:
        await asyncio.wait(set(running))
    for _, writer in idle:
        writer.close()


async def _one(
    report: Report,
    idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]],
    port: int,
    path: str,
    url: str,
    due: float,
    source: str,
) -> None:
    why = ""
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(_TIMEOUT_SECONDS):
            while idle:
                reader, writer = idle.pop()
                if not reader.at_eof() and reader.exception() is None:
                    break
                # The gateway closes connections that rest for long; a browser does not send over those either.
                writer.close()
            else:
                reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))
            writer.write(
                f"GET {path} HTTP/1.1\r\nHost: gateway\r\nUser-Agent: {_AGENT}\r\nAccept-Language: en\r\n\r\n".encode()
            )
            head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 302"):
            why = head.partition(b"\r\n")[0].decode("latin-1")
    except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
        why = type(error).__name__
    report.clicks.append(Click(url, due, time.monotonic(), not why, why))
    if writer is not None:
        if why:
            writer.close()
        else:
            idle.append((reader, writer))


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port
