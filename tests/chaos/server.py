"""A PostgreSQL of one's own, in a folder that goes away, and ways to hurt it."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from app.kit.postgres import DatabaseUrls, start_embedded
from app.migrations.run import migrate

MASTER_KEY = bytes(range(32))


def free_port() -> int:
    """A port that nothing listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextmanager
def postgres() -> Iterator[tuple[Any, DatabaseUrls, Path]]:
    """An embedded server with the current schema, in a folder that goes away."""
    folder = Path(tempfile.mkdtemp(prefix="postern-chaos-"))
    folder.chmod(0o755)
    server, urls = start_embedded(folder)
    try:
        migrate(urls.owner)
        yield server, urls, folder
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


def restart_postgres(server: Any, *, crash: bool) -> None:
    """Restart the server: orderly, or as after a crash."""
    command = [str(server.bin_path / "pg_ctl"), "-D", str(server.pgdata), "-w", "-l", str(server.log)]
    command += ["-m", "immediate" if crash else "fast", "restart"]
    subprocess.run(
        command, check=True, user=server.system_user, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60
    )
