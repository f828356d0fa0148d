"""What a threat-intelligence source is, and what it must be able to do.

There are two families. A *list source* is downloaded by the worker and becomes part of the feed store
(:mod:`app.verdicts.feed_store`); nothing is asked at a click. A *signal source* is asked about one address:
``inline`` ones answer from memory, ``slow`` ones over a network, within a deadline.

A class of either family is made with ``(config, secret)``; the registry (:mod:`app.verdicts.sources.registry`) names
it and imports it only where it is used.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import IO, Any, Final, Literal, NamedTuple, Protocol, runtime_checkable

from app.kit.errors import PosternError
from app.verdicts.scoring import Level, Signal

MAX_PROBLEMS: Final = 20

Cost = Literal["inline", "slow"]
Family = Literal["list", "signal"]


class SourceFailed(PosternError):
    """A source did not give what it should; what it gave before stays in force.

    Args:
        message: What happened, in words for the operator; no secret.
        retry_after: Seconds for which the source asked to be left alone; None: as the back-off says.
        first_retry: Seconds to wait after a first failure, doubled with each further one, where the source's
            documentation asks for its own back-off; None: the usual one.
        reason: Short stable word: ``connect``, ``timeout``, ``tls``, ``status``, ``cut_off``, ``too_large``,
            ``format``, ``address``, ``secret``, ``option``, ``disk``, ``refused`` (key not accepted), ``busy`` (asked
            to wait).
    """

    def __init__(
        self, message: str, *, reason: str, retry_after: float | None = None, first_retry: float | None = None
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.retry_after = retry_after
        self.first_retry = first_retry


@dataclass(frozen=True, slots=True)
class Licence:
    """Under which terms others let a source be used; shown wherever the source is.

    Attributes:
        note: One or two sentences for the operator.
        url: Where the terms stand.
        commercial: Whether commercial use is allowed without an agreement of its own; None: their terms do not say.
    """

    note: str
    url: str
    commercial: bool | None = None


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of source.

    Attributes:
        name: Stable; used in configurations.
        title: For people; also the name of a source that is given none.
        family: ``list`` or ``signal``.
        target: ``module:Class``.
        licence: Terms.
        address: The usual address; empty: the operator must give one.
        every_seconds: The usual time between downloads; for lists.
        least_seconds: Below it the publisher does not want to be asked.
        level: Of its entries.
        weight: Of its signal.
        needs_secret: Whether it does not answer without a key.
        options: Option -> what it is for.
        defaults: Options that a source of this kind has unless told otherwise.
    """

    name: str
    title: str
    family: Family
    target: str
    licence: Licence
    address: str = ""
    every_seconds: int = 3600
    least_seconds: int = 300
    level: Level = Level.MALICIOUS
    weight: int = 100
    needs_secret: bool = False
    options: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SourceConfig:
    """One source as the operator set it up. Installation-wide; off until it is switched on.

    Attributes:
        name: Unique; what evidence calls it ("listed by NAME").
        kind: Key of the registry.
        address: http(s) address, ``file:`` address, DNS zone, or what the kind takes; never from mail.
        secret_ref: Where its key is: ``env:NAME`` or ``file:PATH``; empty for none. The key itself is never stored.
        every_seconds: Time between two downloads.
        level: Of entries that carry none of their own.
        weight: Points of its signal.
        licence: The note that is shown; the kind's own unless the operator gave another.
        enabled: Whether it is asked at all.
        options: What else the kind takes, by name.
    """

    name: str
    kind: str
    address: str
    secret_ref: str = ""
    every_seconds: int = 3600
    level: Level = Level.MALICIOUS
    weight: int = 100
    licence: str = ""
    enabled: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)


class Entry(NamedTuple):
    """One listed host or address.

    Attributes:
        value: As listed: a host, or an address with or without its scheme. Hostile text.
        level: None: the source's.
        since: First seen by the source, where it says so.
    """

    value: str
    level: Level | None = None
    since: date | None = None


@dataclass(slots=True)
class Tally:
    """What was passed over while entries were read; grows until their iterator ends.

    Attributes:
        refused: How many entries.
        problems: The first of them, in words.
        line: The line that is being read, where there are lines.
    """

    refused: int = 0
    problems: list[str] = field(default_factory=list)
    line: int = 0

    def refuse(self, problem: str) -> None:
        """Count one, and keep the first few in words."""
        self.refused += 1
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(problem[:200])


@dataclass(slots=True)
class Download:
    """What a download gave.

    Attributes:
        unchanged: The source says that nothing changed; ``entries`` is empty then.
        entries: To be iterated once, in a worker thread. Raises :class:`SourceFailed` where it cannot be read to its
            end: nothing of it is used then.
        state: What the source wants back at the next download (ETag, cursor, versions); opaque, at most 64 KB.
        whole: The entries replace everything this source listed; False: they are added to it (an incremental
            protocol). The framework asks with ``state=None`` where it needs everything.
        tally: What the reading passed over.
        removed: For an incremental download: values that are listed no longer.
    """

    unchanged: bool = False
    entries: Iterable[Entry] = ()
    state: bytes = b""
    whole: bool = True
    tally: Tally = field(default_factory=Tally)
    removed: Iterable[str] = ()

    @property
    def refused(self) -> int:
        """How many entries were passed over so far."""
        return self.tally.refused

    @property
    def problems(self) -> tuple[str, ...]:
        """The first of them, in words."""
        return tuple(self.tally.problems)


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer whose body is whole: its length was as announced, and below the bound.

    Attributes:
        status: 200 to 599.
        headers: Lower-case names.
        content: Decompressed.
        elsewhere: The host that answered, where a redirect led away from the one that was asked; else empty.
    """

    status: int
    headers: Mapping[str, str]
    content: bytes
    elsewhere: str = ""


@dataclass(frozen=True, slots=True)
class FetchedFile:
    """An :class:`Answer` that may be too large for memory.

    Attributes:
        status: 200 to 599.
        headers: Lower-case names.
        body: Decompressed, at its beginning; closed by whoever opened it (:meth:`SourceClient.fetch`).
        elsewhere: See :class:`Answer`.
    """

    status: int
    headers: Mapping[str, str]
    body: IO[bytes]
    elsewhere: str = ""


class SourceClient(Protocol):
    """Asks the servers of sources; see :class:`app.verdicts.sources.client.HttpSourceClient`.

    Nothing that must be closed is ever handed out but by a context manager: an answer is bytes, or a file for as long
    as the ``async with`` lasts. So none can be forgotten, whoever fails or is cancelled when.
    """

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        max_bytes: int | None = None,
        seconds: float | None = None,
    ) -> Answer:
        """Ask once. Any status below 500 but 429 is an answer; redirects are not followed across origins with headers.

        Args:
            method: HTTP method.
            url: An operator-configured address, or one below it.
            headers: More headers (keys, ETags); never logged.
            body: Of the request.
            max_bytes: Bound of the answer after decompression; None: what fits into memory.
            seconds: Bound of the time for everything; None: the installation's.

        Raises:
            SourceFailed: No answer, a cut-off one, one that is too large, status 429 or 5xx (``retry_after`` is
                set from ``Retry-After``), or an address that must not be asked. The message names the server that
                failed, which after a redirect is not the one that was asked.
        """

    def fetch(
        self, url: str, *, headers: Mapping[str, str] | None = None, max_bytes: int | None = None
    ) -> AbstractAsyncContextManager[FetchedFile]:
        """Ask once with ``GET`` for what may be large.

        Args:
            url: As for :meth:`request`.
            headers: The same.
            max_bytes: Bound of the answer after decompression; None: the installation's.

        Raises:
            SourceFailed: As :meth:`request`, on entering; or the file cannot be kept here.
        """


class ListSource(Protocol):
    """A list that is downloaded as a whole or bit by bit."""

    @property
    def config(self) -> SourceConfig:
        """As it was set up."""

    def download(self, client: SourceClient, state: bytes | None) -> AbstractAsyncContextManager[Download]:
        """Ask for what is new; ``entries`` can be read for as long as the ``async with`` lasts.

        Args:
            client: Asks the server.
            state: What the last *applied* download returned; None: everything is wanted.

        Raises:
            SourceFailed: Nothing usable came.
        """


@dataclass(frozen=True, slots=True)
class Target:
    """What a signal source is asked about.

    Attributes:
        url: The address as a browser reads it.
        host: Its host: A-labels in lower case, or a literal IP address.
        expressions: Under which it may be listed (:func:`app.verdicts.canonical.lookup_expressions`).
    """

    url: str
    host: str
    expressions: tuple[str, ...]


class SignalSource(Protocol):
    """Something that is asked about one address."""

    @property
    def name(self) -> str:
        """The configured name."""

    @property
    def cost(self) -> Cost:
        """``inline``: answers from memory at once; ``slow``: may use a network."""

    async def inspect(self, target: Target, deadline: float) -> Signal | None:
        """Say what is known.

        Args:
            target: The address.
            deadline: ``time.monotonic()`` value after which nobody waits for the answer any more.

        Returns:
            A signal; None where nothing is known.

        Raises:
            SourceFailed: The source could not be asked; the verdict is then degraded.
        """

    async def aclose(self) -> None:
        """Give back what is held."""


@runtime_checkable
class Service(SignalSource, Protocol):
    """A signal source that keeps what it was told by a server.

    Attributes:
        asked: Questions that went out so far.
    """

    asked: int

    def forget(self, digest: bytes) -> None:
        """Forget what was said of an expression, so that it is asked about anew.

        Args:
            digest: SHA-256 of the expression.
        """


@dataclass(frozen=True, slots=True)
class Health:
    """How a source is doing.

    Attributes:
        last_success: Last time it answered, changed or not.
        last_change: Last time its entries were replaced.
        error: The last error in words; empty after a success.
        failures: In a row.
        entries: In force.
        refused: Passed over in the last download.
        next_try: When it is asked again.
        held: Why a new list waits for review; empty where none does.
    """

    last_success: datetime | None = None
    last_change: datetime | None = None
    error: str = ""
    failures: int = 0
    entries: int = 0
    refused: int = 0
    next_try: datetime | None = None
    held: str = ""
