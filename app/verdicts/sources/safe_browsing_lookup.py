"""Asking about an address with hash prefixes: a list on this machine first, then a server for the few that match.

What leaves the machine is the first bytes of the SHA-256 of an expression, and only where these bytes are on a list.
An address that matches nothing costs no request. Answers are kept as long as the server says: a full hash that was
found, and the fact that a prefix has no others.

Subclasses speak the protocols. References:
    https://developers.google.com/safe-browsing/v4/caching
    https://developers.google.com/safe-browsing/v4/request-frequency (back-off)
    https://developers.google.com/safe-browsing/reference/rest/v5/hashes/search (cacheDuration)
    https://cloud.google.com/web-risk/docs/caching
"""

from __future__ import annotations

import asyncio
import random as randomness
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final
from urllib.parse import urlencode

from app.kit.clock import Clock, utc_now
from app.verdicts.advisories import SAFE_BROWSING
from app.verdicts.canonical import expression_digest
from app.verdicts.scoring import Level, Signal
from app.verdicts.sources.base import ConfiguredSource
from app.verdicts.sources.files import Renewed, WatchedFile, file_name, option_texts
from app.verdicts.sources.reported import reported_signal
from app.verdicts.sources.safe_browsing_file import LONGEST, SHORT, PrefixFile, PrefixHit
from app.verdicts.sources.types import Answer, Cost, SourceClient, SourceConfig, SourceFailed, Target
from app.verdicts.waiting import give_up

ASK_SECONDS: Final = 5.0
MAX_KEPT: Final = 50_000
MAX_ASKED: Final = 30
BACKOFF_SECONDS: Final = 15 * 60.0
MOST_BACKOFF_SECONDS: Final = 24 * 3600.0
MOST_KEPT_SECONDS: Final = 24 * 3600.0
DEFAULT_THREATS: Final = ("SOCIAL_ENGINEERING", "MALWARE", "UNWANTED_SOFTWARE")


@dataclass(frozen=True, slots=True)
class Threat:
    """A kind of threat.

    Attributes:
        code: Of the signal.
        level: At most; a source may be set to less.
        rank: The lowest one is named where there are several.
    """

    code: str
    level: Level
    rank: int


THREATS: Final[Mapping[str, Threat]] = MappingProxyType(
    {
        "SOCIAL_ENGINEERING": Threat("reported_phishing", Level.MALICIOUS, 0),
        "MALWARE": Threat("reported_malware", Level.MALICIOUS, 1),
        "SOCIAL_ENGINEERING_EXTENDED_COVERAGE": Threat("reported_phishing", Level.SUSPICIOUS, 2),
        "POTENTIALLY_HARMFUL_APPLICATION": Threat("reported_unwanted", Level.SUSPICIOUS, 3),
        "UNWANTED_SOFTWARE": Threat("reported_unwanted", Level.SUSPICIOUS, 4),
    }
)
"""Extended coverage has more false alarms by its own documentation; unwanted software is no attack on the reader."""


@dataclass(slots=True)
class Found:
    """What a server answered.

    Attributes:
        hashes: Full hash -> threat -> seconds for which that may be kept.
        others_seconds: For how long every asked prefix is known to have no other full hash.
        wait_seconds: For how long nothing may be asked at all.
    """

    hashes: dict[bytes, dict[str, float]] = field(default_factory=dict)
    others_seconds: float = 0.0
    wait_seconds: float = 0.0

    def add(self, full_hash: bytes, threat: str, seconds: float) -> None:
        """One match."""
        self.hashes.setdefault(full_hash, {})[threat] = seconds


def backoff_seconds(failures: int, random: Callable[[], float] = randomness.random) -> float:
    """How long to wait after some failures in a row: ``min(2**(n - 1) * 15 minutes * (random + 1), 24 hours)``.

    Args:
        failures: At least 1.
        random: A number from 0 to 1.
    """
    return min(2.0 ** (min(failures, 20) - 1) * BACKOFF_SECONDS * (random() + 1), MOST_BACKOFF_SECONDS)


class HashPrefixSource(ConfiguredSource):
    """A source with a local list of prefixes and a server that knows the full hashes.

    Args:
        config: As it was set up.
        secret: The key; goes into a header, never into an address.
        monotonic: Seconds, for tests.
        clock: Aware UTC, for tests.
        random: 0 to 1, for tests.
    """

    cost: Cost = "slow"
    advisory = ""
    """Whose advice must be named as such where somebody is warned."""

    def __init__(
        self,
        config: SourceConfig,
        secret: str,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        clock: Clock = utc_now,
        random: Callable[[], float] = randomness.random,
    ) -> None:
        super().__init__(config, secret, clock=clock)
        self._monotonic = monotonic
        self._random = random
        self._file: WatchedFile[PrefixFile] | None = None
        self._client: SourceClient | None = None
        self._matches: dict[bytes, dict[str, float]] = {}
        self._answered: dict[bytes, float] = {}
        self._running: dict[bytes, asyncio.Task[None]] = {}
        self._failures = 0
        self._quiet_until = float("-inf")
        self.asked = 0
        """Requests for full hashes so far."""

    def use(self, folder: Path, client: SourceClient) -> None:
        """Answer from the file in this folder; see :class:`app.verdicts.sources.files.FileSource`."""
        self._file = WatchedFile(folder / file_name(self._config), PrefixFile, self._monotonic)
        self._client = client

    async def inspect(self, target: Target, deadline: float) -> Signal | None:
        """What the server says of an address whose prefix is listed; None where none is.

        Raises:
            SourceFailed: A prefix is listed and the server cannot be asked.
        """
        prefixes = None if self._file is None else self._file.current()
        if prefixes is None:
            return None
        listed: dict[str, tuple[bytes, list[PrefixHit]]] = {}
        for expression in target.expressions:
            digest = expression_digest(expression)
            hits = prefixes.find(digest)
            if hits:
                listed[expression] = digest, hits
        if not listed:
            return None
        open_questions = [
            hit for digest, hits in listed.values() for hit in hits if not self._knows(digest, hit.prefix)
        ]
        if open_questions:
            await self._ask(open_questions, deadline)
        return self._signal({expression: digest for expression, (digest, _) in listed.items()})

    def forget(self, digest: bytes) -> None:
        """Ask about this hash anew; see :class:`app.verdicts.sources.types.Service`."""
        self._matches.pop(digest, None)
        for length in range(SHORT, LONGEST + 1):
            self._answered.pop(digest[:length], None)

    async def aclose(self) -> None:
        """Give up what is under way."""
        await give_up(self._running.values())

    # -- what a protocol is

    async def _search(self, client: SourceClient, hits: Sequence[PrefixHit], seconds: float) -> Found:
        """Ask the server for the full hashes of some prefixes."""
        raise NotImplementedError

    # -- caches

    def _knows(self, digest: bytes, prefix: bytes) -> bool:
        """Whether nothing needs to be asked: the full hash is known as a match, or the prefix as answered."""
        now = self._monotonic()
        threats = self._matches.get(digest)
        if threats is not None:
            # A match that has run out is asked for again, whatever is known of its prefix.
            return any(until > now for until in threats.values())
        return self._answered.get(prefix, float("-inf")) > now

    def _signal(self, listed: Mapping[str, bytes]) -> Signal | None:
        now = self._monotonic()
        worst: tuple[int, str, Threat] | None = None
        for expression, digest in listed.items():
            for name, until in self._matches.get(digest, {}).items():
                threat = THREATS.get(name)
                if threat is not None and until > now and (worst is None or threat.rank < worst[0]):
                    worst = threat.rank, expression, threat
        if worst is None:
            return None
        _, expression, threat = worst
        return reported_signal(self._config, threat.code, threat.level, expression, self.advisory)

    # -- asking

    async def _ask(self, hits: Iterable[PrefixHit], deadline: float) -> None:
        unique = {hit.prefix: hit for hit in hits}
        new = [hit for prefix, hit in unique.items() if prefix not in self._running]
        for at in range(0, len(new), MAX_ASKED):
            part = new[at : at + MAX_ASKED]
            task = asyncio.create_task(self._ask_now(part))
            for hit in part:
                self._running[hit.prefix] = task
            task.add_done_callback(lambda done, part=part: self._forget(part, done))  # type: ignore[misc]  # bound early
        tasks = {self._running[prefix] for prefix in unique}
        # Whoever waits may give up; the answer is for the others too, and for the next time.
        done, late = await asyncio.wait(tasks, timeout=max(0.0, deadline - time.monotonic()))
        for task in done:
            task.result()
        if late:
            raise SourceFailed(f"{self.name} did not answer in time.", reason="timeout")

    def _forget(self, hits: Sequence[PrefixHit], task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            task.exception()  # seen, also where nobody waits any more
        for hit in hits:
            self._running.pop(hit.prefix, None)

    async def _ask_now(self, hits: Sequence[PrefixHit]) -> None:
        now = self._monotonic()
        if now < self._quiet_until or self._client is None:
            raise SourceFailed(f"{self.name} is not asked for now: it failed, or asked to wait.", reason="busy")
        self.asked += 1
        try:
            found = await self._search(self._client, hits, ASK_SECONDS)
        except SourceFailed as failed:
            self._failures += 1
            wait = max(backoff_seconds(self._failures, self._random), failed.retry_after or 0.0)
            self._quiet_until = self._monotonic() + wait
            raise
        self._failures = 0
        now = self._monotonic()
        self._quiet_until = now + min(found.wait_seconds, MOST_KEPT_SECONDS)
        if len(self._answered) + len(self._matches) > MAX_KEPT:
            self._answered.clear()
            self._matches.clear()
        for hit in hits:
            self._answered[hit.prefix] = now + min(found.others_seconds, MOST_KEPT_SECONDS)
            for known in [digest for digest in self._matches if digest.startswith(hit.prefix)]:
                del self._matches[known]
        for full_hash, threats in found.hashes.items():
            # One that may not be kept at all still is the answer for those who wait for it.
            self._matches[full_hash] = {
                name: now + min(max(seconds, 1.0), MOST_KEPT_SECONDS) for name, seconds in threats.items()
            }


class GoogleSource(HashPrefixSource):
    """What Google's three protocols have in common: the key, the threats that are asked for, the back-off."""

    advisory = SAFE_BROWSING

    @property
    def threats(self) -> tuple[str, ...]:
        """The threats that are asked for."""
        return option_texts(self._config, "threats") or DEFAULT_THREATS

    def headers(self) -> dict[str, str]:
        """The key, where no log of addresses keeps it."""
        return {"x-goog-api-key": self._secret} if self._secret else {}

    def url(self, path: str) -> str:
        """An address of the service."""
        return self._config.address.rstrip("/") + path

    async def get(
        self, client: SourceClient, path: str, parameters: Sequence[tuple[str, str]], *, most: int, seconds: float
    ) -> Answer:
        """Ask the service with ``GET``.

        Args:
            client: Asks.
            path: Below the address.
            parameters: Name and value, in order.
            most: Bytes of the answer.
            seconds: Until it is there.

        Raises:
            SourceFailed: As :meth:`app.verdicts.sources.types.SourceClient.request`.
        """
        url = self.url(f"{path}?{urlencode(parameters)}")
        return await client.request("GET", url, headers=self.headers(), max_bytes=most, seconds=seconds)

    def understood(self, read: Callable[[], Found]) -> Found:
        """What an answer says.

        Raises:
            SourceFailed: It cannot be read.
        """
        try:
            return read()
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise SourceFailed(
                f"{self.name} sent an answer that cannot be read ({type(error).__name__}).", reason="format"
            ) from None

    async def renew(self, client: SourceClient, previous: bytes | None) -> Renewed:
        """Ask for updates of all lists; see :class:`app.verdicts.sources.files.FileSource`.

        Raises:
            SourceFailed: Nothing usable came; ``first_retry`` is what the documentation asks for.
        """
        try:
            return await self._renew(client, previous)
        except SourceFailed as failed:
            raise SourceFailed(
                str(failed),
                reason=failed.reason,
                retry_after=failed.retry_after,
                first_retry=backoff_seconds(1, self._random),
            ) from None

    async def _renew(self, client: SourceClient, previous: bytes | None) -> Renewed:
        raise NotImplementedError
