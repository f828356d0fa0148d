"""A running Postern with the demo, as ``make run`` starts it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

START_SECONDS = 90


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


@dataclass(frozen=True)
class Demo:
    """Addresses of a running demo."""

    console: str
    emulators: str
    data_dir: Path
    process: subprocess.Popen[bytes]

    def control(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """Ask the emulators' control interface."""
        request = urllib.request.Request(
            f"{self.emulators}/control{path}",
            data=None if body is None else json.dumps(body).encode(),
            method=method,
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)


@contextmanager
def running_demo(deliver_every: float = 0) -> Iterator[Demo]:
    """``postern run all`` without any configuration, on free ports, in a folder of its own."""
    folder = Path(tempfile.mkdtemp(prefix="postern-demo-"))
    folder.chmod(0o755)
    web, emulators, worker, scheduler = (free_port() for _ in range(4))
    base = f"http://127.0.0.1:{web}"
    env = {name: value for name, value in os.environ.items() if not name.startswith("POSTERN_")}
    env |= {
        "POSTERN_DATA_DIR": str(folder / "data"),
        "POSTERN_PORT": str(web),
        "POSTERN_GATEWAY_URL": base,
        "POSTERN_CONSOLE_URL": base,
        "POSTERN_INTAKE_URL": base,
        "POSTERN_HEALTH_PORT_WORKER": str(worker),
        "POSTERN_HEALTH_PORT_SCHEDULER": str(scheduler),
        "POSTERN_EMULATORS_PORT": str(emulators),
        "POSTERN_DEMO_DELIVER_SECONDS": str(deliver_every),
    }
    log = (folder / "output").open("wb")
    process = subprocess.Popen(
        [sys.executable, "-m", "app.cli", "run", "all"], env=env, stdout=log, stderr=subprocess.STDOUT
    )
    try:
        _wait(f"{base}/readyz", process, folder / "output")
        yield Demo(base, f"http://127.0.0.1:{emulators}", folder / "data", process)
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(40)
        finally:
            process.kill()
            log.close()
            shutil.rmtree(folder, ignore_errors=True)


def _wait(url: str, process: subprocess.Popen[bytes], output: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        if "Postern is ready" in output.read_text(errors="replace"):
            return
        time.sleep(0.2)
    raise RuntimeError(f"the demo did not start:\n{output.read_text(errors='replace')[-3000:]}")
