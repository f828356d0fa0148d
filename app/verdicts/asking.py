"""Asking the signal sources about an address: those in memory at once, those over a network within a deadline.

Which sources there are stands in ``feeds/sources.json`` of the data directory, which the worker's machine and every
gateway keep up to date from the database (:mod:`app.verdicts.sources.distribution`); keys are read from where the
configuration says they are, on each machine. A change takes effect within a fifth of a second.

A question that takes longer than somebody waits goes on by itself and is there for whoever asks next. A source that
fails makes the answer degraded, and nothing else.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import structlog

from app.kit.errors import PosternError
from app.messages.hosts import host_of
from app.settings import Settings
from app.verdicts.canonical import NotCanonical, lookup_expressions
from app.verdicts.lists import store_path
from app.verdicts.scoring import Level, Signal
from app.verdicts.sources.files import FileSource, file_name
from app.verdicts.sources.keys import read_secret
from app.verdicts.sources.registry import make_signal_source
from app.verdicts.sources.reports import REPORTS, Report, read_reports
from app.verdicts.sources.types import (
    Service,
    SignalSource,
    SourceClient,
    SourceConfig,
    SourceFailed,
    Target,
)
from app.verdicts.waiting import give_up

CONFIGS: Final = "sources.json"
CHECK_SECONDS: Final = 0.2
ASK_SECONDS: Final = 5.0
"""How long a question may take, whoever waits for it."""
MAX_TARGETS: Final = 8
MAX_RUNNING: Final = 256

_Question = tuple[str, str]

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Asked:
    """What the sources said.

    Attributes:
        signals: Observations.
        degraded: A source that should have answered failed.
        waiting: Some have not answered yet; they go on by themselves.
    """

    signals: tuple[Signal, ...] = ()
    degraded: bool = False
    waiting: bool = False


NOTHING_ASKED: Final = Asked()


def target_of(url: str) -> Target | None:
    """An address as the sources want it; None where it is no web address."""
    try:
        found = lookup_expressions(url)
    except NotCanonical:
        return None
    host = host_of(url)
    return None if not host else Target(url, host, found)


class SourceDesk:
    """All signal sources of a process.

    Args:
        folder: The ``feeds`` folder of the data directory.
        make_client: Makes what asks the servers; called when there is a source.
        monotonic: Seconds, for tests.
    """

    def __init__(
        self,
        folder: Path,
        make_client: Callable[[], SourceClient],
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder = folder
        self._make_client = make_client
        self._monotonic = monotonic
        self._checked = float("-inf")
        self._stamps: tuple[Any, ...] = ()
        self._sources: dict[str, tuple[SourceConfig, SignalSource]] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._heard: set[tuple[Report, str]] = set()
        self._running: dict[_Question, asyncio.Task[Signal | None]] = {}
        self.generation = 0
        """Grows with every change of a source or of its file, so that caches know."""
        self.problems: dict[str, str] = {}
        """Source -> why it cannot be asked here."""

    def __len__(self) -> int:
        return len(self._sources)

    def refresh(self) -> int:
        """Take in changes; looks at most five times a second. Returns the generation."""
        now = self._monotonic()
        if now - self._checked < CHECK_SECONDS:
            return self.generation
        self._checked = now
        configs, reports = _stamp(self._folder / CONFIGS), _stamp(self._folder / REPORTS)
        stamps = (configs, reports, *self._file_stamps())
        if stamps == self._stamps:
            return self.generation
        if not self._stamps or configs != self._stamps[0]:
            self._take(self._read())
        if not self._stamps or reports != self._stamps[1]:
            self._hear()
        self._stamps = (configs, reports, *self._file_stamps())
        self.generation += 1
        return self.generation

    def _hear(self) -> None:
        """Take in that services report what they did not: what was answered before is forgotten."""
        try:
            reports = read_reports(self._folder / REPORTS)
        except (OSError, ValueError) as error:
            log.warning("sources.reports_not_read", file=REPORTS, error=type(error).__name__)
            return
        for report, _ in reports - self._heard:
            _, source = self._sources.get(report.source, (None, None))
            if isinstance(source, Service):
                source.forget(report.digest)
        self._heard = reports

    @property
    def services(self) -> frozenset[str]:
        """Names of the sources that a server answers for."""
        return frozenset(name for name, (_, source) in self._sources.items() if isinstance(source, Service))

    @property
    def questions(self) -> int:
        """How many questions went out to servers so far."""
        return sum(source.asked for _, source in self._sources.values() if isinstance(source, Service))

    def state(self) -> dict[str, int]:
        """How many sources are asked, and how many cannot be asked here, for whoever watches the process."""
        return {"asked": len(self._sources), "not_usable": len(self.problems)}

    def _file_stamps(self) -> tuple[Any, ...]:
        return tuple(
            _stamp(self._folder / file_name(config))
            for config, source in self._sources.values()
            if isinstance(source, FileSource)
        )

    def _read(self) -> list[SourceConfig] | None:
        """The configurations; None where they cannot be read, and then those in force stay."""
        path = self._folder / CONFIGS
        try:
            found = json.loads(path.read_text())
            return [_config(item) for item in found]
        except FileNotFoundError:
            return []
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            log.warning("sources.not_read", file=CONFIGS, error=type(error).__name__)
            return None

    def _take(self, configs: Iterable[SourceConfig] | None) -> None:
        if configs is None:
            return
        kept: dict[str, tuple[SourceConfig, SignalSource]] = {}
        self.problems = {}
        client: SourceClient | None = None
        for config in configs:
            before = self._sources.get(config.name)
            if before is not None and before[0] == config:
                kept[config.name] = before
                continue
            try:
                source = make_signal_source(config, read_secret(config.secret_ref))
                if isinstance(source, FileSource):
                    client = client or self._make_client()
                    source.use(self._folder, client)
            except (PosternError, ValueError, TypeError) as error:
                # One that cannot be used here keeps nobody from asking the others; evidence says that it is missing.
                self.problems[config.name] = str(error)
                log.warning("sources.not_used", source=config.name, error=str(error))
                continue
            kept[config.name] = config, source
        gone = [source for name, (_, source) in self._sources.items() if kept.get(name, (None, None))[1] is not source]
        self._sources = kept
        for source in gone:
            self._close(source)

    def _close(self, source: SignalSource) -> None:
        try:
            task = asyncio.get_running_loop().create_task(source.aclose())
        except RuntimeError:
            return  # no loop: nothing is under way either
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def ask(self, urls: Iterable[str], seconds: float, *, slow: bool = True) -> Asked:
        """Ask all sources about some addresses.

        Args:
            urls: The address of a link, and those inside it or behind it; the first eight web addresses are asked
                about.
            seconds: How long to wait for those over a network.
            slow: Whether these are asked at all.
        """
        self.refresh()
        if not self._sources and not self.problems:
            return NOTHING_ASKED
        targets = [target for target in map(target_of, dict.fromkeys(urls)) if target is not None][:MAX_TARGETS]
        signals: list[Signal] = [_not_asked(name) for name in self.problems] if targets else []
        degraded = False
        tasks: list[asyncio.Task[Signal | None]] = []
        for name, (_, source) in self._sources.items():
            if source.cost == "slow" and not slow:
                continue
            for target in targets:
                if source.cost == "slow":
                    task = self._question(name, source, target)
                    if task is None:
                        # Not an answer: what is judged without it must not be kept for as long as one.
                        degraded = True
                        signals.append(_not_asked(name))
                    else:
                        tasks.append(task)
                    continue
                try:
                    signal = await source.inspect(target, self._monotonic())
                except Exception as fault:  # noqa: BLE001 - a fault of ours must not take the click with it
                    _log_failure(name, fault)
                    degraded = True
                    signals.append(_not_asked(name))
                else:
                    signals += [] if signal is None else [signal]
        waiting = False
        if tasks:
            done, late = await asyncio.wait(tasks, timeout=max(0.0, seconds))
            waiting = bool(late)
            for task in done:
                # Cancelled is one whose source was reconfigured or removed meanwhile.
                if not task.cancelled() and task.exception() is None:
                    found = task.result()
                    signals += [] if found is None else [found]
                else:
                    degraded = True
                    signals.append(_not_asked(task.get_name()))
        return Asked(tuple(signals), degraded, waiting)

    def _question(self, name: str, source: SignalSource, target: Target) -> asyncio.Task[Signal | None] | None:
        """The question to one source about one address, asked once at a time; None where too many are open."""
        key = (name, target.url)
        running = self._running.get(key)
        if running is None:
            if len(self._running) >= MAX_RUNNING:
                return None
            deadline = time.monotonic() + ASK_SECONDS
            running = asyncio.create_task(_inspect(source, target, deadline), name=name)
            self._running[key] = running
            running.add_done_callback(lambda task: self._done(key, task))
        return running

    def _done(self, key: _Question, task: asyncio.Task[Signal | None]) -> None:
        self._running.pop(key, None)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            _log_failure(key[0], error)

    async def aclose(self) -> None:
        """Give up what is under way."""
        await give_up(self._running.values())
        await asyncio.gather(*self._closing, return_exceptions=True)
        for _, source in self._sources.values():
            await source.aclose()


def open_desk(settings: Settings) -> SourceDesk:
    """The signal sources of a process.

    Args:
        settings: Where the data directory is, and which networks may be asked.
    """

    def make_client() -> SourceClient:
        # Imported where there is something to ask.
        from app.verdicts.sources.client import HttpSourceClient
        from app.verdicts.sources.networks import source_networks

        return HttpSourceClient(source_networks(settings), seconds=ASK_SECONDS)

    return SourceDesk(store_path(settings.data_dir).parent, make_client)


async def _inspect(source: SignalSource, target: Target, deadline: float) -> Signal | None:
    return await source.inspect(target, deadline)


def _log_failure(name: str, error: BaseException) -> None:
    """Nobody may be waiting for the answer any more. Messages of sources hold no address."""
    if not isinstance(error, SourceFailed):
        log.error("sources.broken", source=name, error=type(error).__name__, exc_info=error)
    elif error.reason == "refused":  # somebody has to do something about it
        log.warning("sources.refused", source=name, error=str(error))
    elif error.reason != "busy":  # that only repeats an earlier failure
        log.info("sources.failed", source=name, error=str(error))


def _not_asked(name: str) -> Signal:
    return Signal("not_asked", 0, (("list", name),), name)


def _config(item: Mapping[str, Any]) -> SourceConfig:
    """A configuration out of JSON; members of a later version are passed over."""
    known = {each.name for each in dataclasses.fields(SourceConfig)}
    values = {name: value for name, value in item.items() if name in known}
    values["level"] = Level(values["level"])
    return SourceConfig(**values)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
