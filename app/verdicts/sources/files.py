"""Signal sources that answer from a file: made by the worker, distributed with the feed store, mapped by who asks.

The worker calls :meth:`FileSource.renew` when a source is due and distributes what it gives; a gateway calls
:meth:`FileSource.use` once, and the source looks for a newer file by itself (one ``stat`` at most five times a
second). A file is swapped by renaming and never written in place.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Generic, Protocol, TypeVar, runtime_checkable

import structlog

from app.verdicts.sources.types import SignalSource, SourceClient, SourceConfig, SourceFailed

CHECK_SECONDS: Final = 0.2
SUFFIX: Final = ".src"
_NAME_RE: Final = re.compile(r"[^a-z0-9]+")

log = structlog.get_logger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Renewed:
    """What a renewal gave.

    Attributes:
        content: The whole new file; None: the one that is there stays as it is.
        wait_seconds: For how long the source wants not to be asked; 0: it has more, ask at once.
            None: it does not say.
        entries: In the file.
        refused: Passed over.
        problems: The first of them, in words.
    """

    content: bytes | None
    wait_seconds: float | None = None
    entries: int = 0
    refused: int = 0
    problems: tuple[str, ...] = ()


@runtime_checkable
class FileSource(SignalSource, Protocol):
    """A signal source with a file."""

    @property
    def config(self) -> SourceConfig:
        """As it was set up."""

    async def renew(self, client: SourceClient, previous: bytes | None) -> Renewed:
        """Ask for what is new. For the worker.

        Args:
            client: Asks the server.
            previous: The file that is in force; None: there is none, or it is to be made from the beginning.

        Raises:
            SourceFailed: Nothing usable came; the file in force stays.
        """

    def use(self, folder: Path, client: SourceClient) -> None:
        """Answer from the file in this folder. For whoever asks.

        Args:
            folder: Where :func:`file_name` is, or will be.
            client: Asks the server, where the file alone does not say enough.
        """


def file_name(config: SourceConfig) -> str:
    """The name of a source's file: readable, without anything that a file system could take amiss, and unique."""
    readable = _NAME_RE.sub("-", config.name.lower()).strip("-")[:40]
    return f"{readable}-{hashlib.sha256(config.name.encode()).hexdigest()[:8]}{SUFFIX}"


class WatchedFile(Generic[T]):
    """The newest version of a file that others swap.

    Args:
        path: The file; it may appear later.
        open_file: Reads it; raises ``ValueError`` or ``OSError`` where it cannot be used.
        monotonic: Seconds, for tests.
    """

    def __init__(
        self, path: Path, open_file: Callable[[Path], T], monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._path = path
        self._open = open_file
        self._monotonic = monotonic
        self._checked = float("-inf")
        self._stamp: tuple[int, int, int] | None = None
        self._current: T | None = None
        self.generation = 0
        """Grows by one with every change."""
        self.error = ""

    def current(self) -> T | None:
        """The newest version that can be used; None: there never was one.

        A file that is gone or damaged leaves the last one in force: an accident must not open what was blocked.
        """
        now = self._monotonic()
        if now - self._checked < CHECK_SECONDS:
            return self._current
        self._checked = now
        try:
            found = os.stat(self._path)
            stamp = (found.st_mtime_ns, found.st_size, found.st_ino)
            if stamp == self._stamp:
                return self._current
            # A damaged file is not read again before it changes.
            self._stamp = stamp
            opened = self._open(self._path)
        except FileNotFoundError:
            return self._current
        except (OSError, ValueError) as error:
            if self.error != str(error):
                log.warning("source_file.not_used", file=self._path.name, error=str(error))
            self.error = str(error)
            return self._current
        self._current, self.error = opened, ""
        self.generation += 1
        return self._current


def option_texts(config: SourceConfig, name: str) -> tuple[str, ...]:
    """An option that holds several values: a list, or a text with commas."""
    found = config.options.get(name)
    parts = found.split(",") if isinstance(found, str) else found or ()
    return tuple(text for text in (str(part).strip() for part in parts) if text)


def option_number(config: SourceConfig, name: str, otherwise: int) -> int:
    """An option that is a number from 0 on.

    Raises:
        SourceFailed: It is none.
    """
    found = str(config.options.get(name, otherwise)).strip()
    if not found.isascii() or not found.isdigit() or len(found) > 6:
        raise SourceFailed(
            f"The option {name} of {config.name} is a number, not “{found[:40]}”. The source was not asked.",
            reason="option",
        )
    return int(found)
