"""Postern's roles as processes of their own that can be killed, started without the seconds that imports take.

They are forked from a server process that has imported everything already (``multiprocessing``'s *forkserver*):
a process of its own all the same, which ``kill -9`` ends like any other.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import app.migrations.run
import app.protection.intake
import app.protection.schedule
import app.protection.tasks
import app.protection.worker
import app.serve
import connectors.google.connector
import connectors.microsoft.connector  # noqa: F401  # imported so that forked processes have it
from app.settings import Settings

_CONTEXT = multiprocessing.get_context("forkserver")
# The module that is run is run again in every process: what it imports is here already.
_CONTEXT.set_forkserver_preload(["tests.chaos.everything"])


def _run(role: str, environment: dict[str, str], log: str) -> None:
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(output, 1)
    os.dup2(output, 2)
    for name in [name for name in os.environ if name.startswith("POSTERN_")]:
        del os.environ[name]
    os.environ.update(environment)
    sys.exit(app.serve.run(role, Settings(_env_file=None)))


def start_role(role: str, environment: dict[str, str], log: Path) -> ForkServerProcess:
    """Start a role.

    Args:
        role: ``worker``, ``scheduler`` or ``intake``.
        environment: Its ``POSTERN_`` variables; no others are passed on.
        log: Where its output goes.
    """
    process = _CONTEXT.Process(target=_run, args=(role, environment, str(log)), name=role, daemon=True)
    process.start()
    return process


def environment_of(settings: Settings, **more: Any) -> dict[str, str]:
    """Settings as environment variables."""
    values: dict[str, str] = {}
    for name in Settings.model_fields:
        value = getattr(settings, name)
        if name.startswith(("microsoft", "google", "gateway")) and value is not None:
            plain = value.get_secret_value() if hasattr(value, "get_secret_value") else value
            values[f"POSTERN_{name.upper()}"] = str(plain)
    return values | {f"POSTERN_{name.upper()}": str(value) for name, value in more.items()}
