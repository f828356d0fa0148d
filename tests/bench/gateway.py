"""Requests per second of the gateway against an empty FastAPI route that answers 302.

Run with ``python -m tests.bench.gateway``. Both are served by one uvicorn process each (uvloop, httptools), the
same way, on loopback, and are asked by the same client in rounds that take turns, so that whatever else the
machine does hits both. Per click the gateway opens the token, takes the verdict from its cache, decides by the
policy, and has the event on disk (``fdatasync``) before it answers; every link is asked for many times, as a
cached verdict means, with 2,000 different links in turn.

Printed: requests/s, processor time per request (which other load on the machine disturbs less), latency at a
given rate, memory, and the ratios.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import cast

import uvloop

from app.kit.crypto import KeyRing
from app.links.mint import Minter

KEY = bytes(range(32))
LINKS = 2_000
AGENT = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36"
_ROOT = Path(__file__).resolve().parents[2]

_EMPTY = """
import sys
import uvicorn
from fastapi import FastAPI
from fastapi.responses import RedirectResponse

app = FastAPI()

@app.get("/{prefix}/{host}/{token}")
async def redirect(prefix: str, host: str, token: str) -> RedirectResponse:
    return RedirectResponse("https://good.example/path", 302)

uvicorn.run(app, port=int(sys.argv[1]), log_level="error", access_log=False)
"""

_GATEWAY = """
import sys
from pathlib import Path
import uvicorn
from app.gateway.limits import Limits
from app.gateway.runtime import build_gateway
from app.kit.crypto import KeyRing
from app.policy.engine import ListRule, PolicySnapshot
from app.settings import Settings

port, folder = int(sys.argv[1]), Path(sys.argv[2])
settings = Settings(data_dir=folder, gateway_url=f"http://127.0.0.1:{port}", _env_file=None)
many = 1 << 40
gateway = build_gateway(
    settings, KeyRing({1: bytes(range(32))}), None, limits=Limits(per_token=many, per_address=many, per_tenant=many)
)
rules = tuple(ListRule(n, "block", "wildcard", f"blocked{n}.example", n) for n in range(1000))
gateway.deps.snapshots.put(PolicySnapshot(1001, name="Contoso", rules=rules))
uvicorn.run(gateway, port=port, log_level="error", access_log=False)
"""


@dataclass
class Server:
    """A server under test and what was measured of it."""

    name: str
    process: subprocess.Popen[bytes]
    port: int
    requests: Sequence[bytes]
    rates: list[float] = field(default_factory=list)
    cpu_per_request: list[float] = field(default_factory=list)

    def cpu_seconds(self) -> float:
        """Processor time used so far, user and system."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory_mb(self) -> float:
        """Resident memory."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


class _Client(asyncio.Protocol):
    """One connection that asks again as soon as it was answered, or when it is told to."""

    def __init__(self, requests: Sequence[bytes], offset: int, paced: bool) -> None:
        self.requests = requests
        self.next = offset
        self.paced = paced
        self.done = 0
        self.wrong = 0
        self.stopped = False
        self.sent_at = 0.0
        self.busy = False
        self.latencies: list[float] = []
        self.buffer = b""
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        if not self.paced:
            self.ask()

    def ask(self) -> None:
        assert self.transport is not None
        self.busy = True
        self.sent_at = time.perf_counter()
        self.transport.write(self.requests[self.next % len(self.requests)])
        self.next += 1

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if not self.buffer.endswith(b"\r\n\r\n"):
            return
        self.latencies.append(time.perf_counter() - self.sent_at)
        if not self.buffer.startswith(b"HTTP/1.1 302"):
            self.wrong += 1
        self.buffer = b""
        self.done += 1
        self.busy = False
        if not self.stopped and not self.paced:
            self.ask()


def request_bytes(port: int, path: str) -> bytes:
    """A browser's request."""
    return (
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUser-Agent: {AGENT}\r\n"
        "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n"
        "Accept-Language: en-GB,en;q=0.9\r\nAccept-Encoding: gzip, deflate, br\r\n"
        "Sec-Fetch-Dest: document\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Site: cross-site\r\n"
        "Sec-Fetch-User: ?1\r\nUpgrade-Insecure-Requests: 1\r\nConnection: keep-alive\r\n\r\n"
    ).encode()


async def saturate(server: Server, connections: int, seconds: float) -> None:
    """Ask as fast as it is answered, and note rate and processor time."""
    loop = asyncio.get_running_loop()
    clients: list[_Client] = []
    for number in range(connections):
        make = partial(_Client, server.requests, number * 31, paced=False)
        clients.append((await loop.create_connection(make, "127.0.0.1", server.port))[1])
    cpu, start = server.cpu_seconds(), time.perf_counter()
    before = sum(client.done for client in clients)
    await asyncio.sleep(seconds)
    done, elapsed = sum(client.done for client in clients) - before, time.perf_counter() - start
    used = server.cpu_seconds() - cpu
    for client in clients:
        client.stopped = True
    await asyncio.sleep(0.1)
    for client in clients:
        assert client.transport is not None
        client.transport.close()
    wrong = sum(client.wrong for client in clients)
    if wrong:
        raise SystemExit(f"{server.name}: {wrong} answers were no redirect")
    server.rates.append(done / elapsed)
    server.cpu_per_request.append(used / done * 1e6)


async def pace(server: Server, connections: int, rate: float, seconds: float) -> list[float]:
    """Ask at a fixed rate and return the latencies."""
    loop = asyncio.get_running_loop()
    clients: list[_Client] = []
    for number in range(connections):
        make = partial(_Client, server.requests, number * 31, paced=True)
        clients.append((await loop.create_connection(make, "127.0.0.1", server.port))[1])
    start, sent = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - start) < seconds:
        due = int(elapsed * rate)
        for client in clients:
            if sent >= due:
                break
            if not client.busy:
                client.ask()
                sent += 1
        await asyncio.sleep(0.001)
    await asyncio.sleep(0.2)
    for client in clients:
        assert client.transport is not None
        client.transport.close()
    return sorted(latency for client in clients for latency in client.latencies)


def start(name: str, code: str, *arguments: str) -> tuple[Server, float]:
    """Start a server and wait until it answers; also how long that took."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(port), *arguments], env={**os.environ, "PYTHONPATH": str(_ROOT)}
    )
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            break
        except OSError:
            if process.poll() is not None:
                raise SystemExit(f"{name} did not start") from None
            time.sleep(0.01)
    minter = Minter(KeyRing({1: KEY}), f"http://127.0.0.1:{port}", "l", tenant_no=1001, mailbox_no=3, message_no=7)
    base = len(f"http://127.0.0.1:{port}")
    urls = [f"https://good.example/letter/{number}?utm_source=mail&id={number}" for number in range(LINKS)]
    links = [minter.mint(url, url.encode(), "anchor")[base:] for url in urls]
    return Server(name, process, port, [request_bytes(port, link) for link in links]), time.perf_counter() - began


async def measure(servers: tuple[Server, Server], rounds: int, seconds: float, connections: int) -> dict[str, object]:
    """Take turns, then compare."""
    empty, gateway = servers
    for server in servers:  # warm up: every verdict is in the cache afterwards
        await saturate(server, connections, 1.5)
        server.rates.clear()
        server.cpu_per_request.clear()
    for number in range(rounds):
        for server in servers if number % 2 else servers[::-1]:
            await saturate(server, connections, seconds)
    half = statistics.median(gateway.rates) / 2
    latencies = {server.name: await pace(server, connections, half, 2 * seconds) for server in servers}
    ratios = [g / e for g, e in zip(gateway.rates, empty.rates, strict=True)]

    def percentile(name: str, share: float) -> float:
        found = latencies[name]
        return round(found[min(len(found) - 1, int(len(found) * share))] * 1e3, 2)

    return {
        "requests_per_second": {server.name: round(statistics.median(server.rates)) for server in servers},
        "cpu_us_per_request": {server.name: round(statistics.median(server.cpu_per_request), 1) for server in servers},
        "ratio_median": round(statistics.median(ratios), 3),
        "ratio_by_cpu": round(statistics.median(empty.cpu_per_request) / statistics.median(gateway.cpu_per_request), 3),
        "half_load_per_second": round(half),
        "p50_ms": {server.name: percentile(server.name, 0.5) for server in servers},
        "p99_ms": {server.name: percentile(server.name, 0.99) for server in servers},
        "memory_mb": {server.name: round(server.memory_mb()) for server in servers},
    }


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--connections", type=int, default=64)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        empty, _ = start("empty FastAPI route", _EMPTY)
        gateway, start_seconds = start("gateway", _GATEWAY, folder)
        try:
            found = uvloop.run(measure((empty, gateway), options.rounds, options.seconds, options.connections))
        finally:
            for server in (empty, gateway):
                server.process.terminate()
                server.process.wait()
    found["gateway_start_seconds"] = round(start_seconds, 2)
    sys.stdout.write(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
