"""The embedded server after whoever started it was killed: it is taken over, and does not run for ever."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.kit.postgres import running_embedded, start_embedded, stop_unused_embedded

STARTED_AND_KILLED = (
    "import os, signal, sys; from pathlib import Path; from app.kit.postgres import start_embedded; "
    "start_embedded(Path(sys.argv[1])); os.kill(os.getpid(), signal.SIGKILL)"
)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A data directory that another system user may enter, with a server that its killed owner left behind."""
    made = Path(tempfile.mkdtemp(prefix="postern-test-"))
    made.chmod(0o755)
    done = subprocess.run([sys.executable, "-c", STARTED_AND_KILLED, str(made)], timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert running_embedded(made) is not None
    yield made
    stop_unused_embedded(made)
    shutil.rmtree(made, ignore_errors=True)


def test_a_server_whose_user_was_killed_can_be_stopped(folder: Path) -> None:
    assert stop_unused_embedded(folder)
    assert running_embedded(folder) is None


def test_the_next_user_stops_a_server_that_a_killed_one_left_behind(folder: Path) -> None:
    server, _ = start_embedded(folder)
    assert json.loads((folder / "pg" / ".handle_pids.json").read_text()) == [os.getpid()]
    assert not stop_unused_embedded(folder), "it is in use"
    server.cleanup()
    assert running_embedded(folder) is None
