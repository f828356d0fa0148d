"""Where a process spends its CPU time, by layer, without slowing it down: a sample every few milliseconds of CPU.

The timer counts the CPU time of all threads of the process (``ITIMER_PROF``, setitimer(2)). At each tick the stack of
the main thread is walked from the inside out to the first frame of a known layer; a call into C counts for the Python
frame it was made from. cProfile would multiply the cost of small functions and so change the shares.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

EVERY_SECONDS = 0.002

LAYERS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("SDK", ("/msgraph", "/kiota", "/googleapiclient/", "/google/auth", "/azure/", "/msal/", "/std_uritemplate/")),
    (
        "HTTP",
        (
            "/httpx/",
            "/httpcore/",
            "/h11/",
            "/aiohttp/",
            "/yarl/",
            "/connectors/base/http",
            "/connectors/base/wire",
            "/anyio/",
            "ssl.py",
            "/uvicorn/",
            "/starlette/",
            "/app/kit/bounded_http",
        ),
    ),
    ("database", ("/sqlalchemy/", "/psycopg", "/app/kit/db", "/app/kit/at_once")),
    ("jobs", ("/procrastinate/", "/app/kit/jobs", "/app/protection/fairness", "/app/protection/queue")),
    ("transform", ("/app/messages/", "/app/links/", "/app/policy/", "/turbohtml/", "/cryptography/")),
    ("verify", ("/connectors/base/verify", "/connectors/google/marker", "/connectors/google/copies")),
    ("connector", ("/connectors/",)),
    ("journey", ("/app/",)),
    ("logging", ("/structlog/", "/logging/")),
    ("event loop", ("/asyncio/", "selectors.py", "/uvloop/")),
)


@dataclass(frozen=True)
class Spent:
    """What a process has spent since the count began.

    Attributes:
        cpu: Seconds of all its threads.
        megabytes: The most memory it ever had.
        layers: Samples by layer.
        places: Samples by layer and function, the commonest.
    """

    cpu: float
    megabytes: float
    layers: dict[str, int]
    places: dict[str, int]

    def split(self, messages: int, digits: int = 1) -> str:
        """Milliseconds per message by layer, biggest first."""
        whole = sum(self.layers.values()) or 1
        parts = sorted(self.layers.items(), key=lambda item: -item[1])
        each = self.cpu / messages * 1_000 / whole
        return ", ".join(f"{name} {count * each:.{digits}f}" for name, count in parts)


class Sampler:
    """Counts what this process spends: ``SIGUSR1`` begins anew, ``SIGUSR2`` writes the count into a file.

    Args:
        to: The file.
    """

    def __init__(self, to: Path) -> None:
        self._to = to
        self._layers: Counter[str] = Counter()
        self._places: Counter[str] = Counter()
        self._names: dict[str, str | None] = {}
        self._began = 0.0

    def start(self) -> None:
        """Begin; takes ``SIGPROF`` and both signals above."""
        signal.signal(signal.SIGPROF, self._tick)
        signal.signal(signal.SIGUSR1, lambda *_: self._reset())
        signal.signal(signal.SIGUSR2, lambda *_: self._write())
        self._reset()
        signal.setitimer(signal.ITIMER_PROF, EVERY_SECONDS, EVERY_SECONDS)

    def _reset(self) -> None:
        self._layers.clear()
        self._places.clear()
        self._began = time.process_time()

    def _write(self) -> None:
        found = {
            "cpu": time.process_time() - self._began,
            "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1_024,
            "layers": dict(self._layers),
            "places": dict(self._places.most_common(80)),
        }
        unfinished = self._to.with_suffix(".new")
        unfinished.write_text(json.dumps(found))
        unfinished.rename(self._to)

    def _tick(self, _number: int, frame: FrameType | None) -> None:
        layer, place = "other", ""
        while frame is not None:
            name = frame.f_code.co_filename
            found = self._names[name] if name in self._names else self._names.setdefault(name, _layer_of(name))
            if found is not None:
                layer = found
                place = f"{found}: {'/'.join(name.rsplit('/', 2)[-2:])}:{frame.f_code.co_qualname}"
                break
            frame = frame.f_back
        self._layers[layer] += 1
        self._places[place] += 1


def _layer_of(file: str) -> str | None:
    return next((name for name, marks in LAYERS if any(mark in file for mark in marks)), None)


class Counted:
    """A process that runs a :class:`Sampler`, seen from outside.

    Args:
        pid: Its number.
        file: Where it writes.
    """

    def __init__(self, pid: int, file: Path) -> None:
        self._pid = pid
        self._file = file

    def begin(self) -> None:
        """Count from now on."""
        os.kill(self._pid, signal.SIGUSR1)

    def spent(self) -> Spent:
        """What it has spent since.

        Raises:
            TimeoutError: It does not answer.
        """
        self._file.unlink(missing_ok=True)
        os.kill(self._pid, signal.SIGUSR2)
        deadline = time.monotonic() + 20
        while not self._file.exists():
            if time.monotonic() > deadline:
                raise TimeoutError(f"process {self._pid} does not write {self._file.name}")
            time.sleep(0.02)
        return Spent(**json.loads(self._file.read_text()))
