"""What all classes of sources have in common: their configuration and key, and reading answers."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import IO, Any, Final
from urllib.parse import unquote, urlsplit

from app.kit.clock import Clock, utc_now
from app.verdicts.sources.types import Answer, Download, FetchedFile, SourceClient, SourceConfig, SourceFailed

NOT_USED: Final = "Nothing was used."
KEPT: Final = "What was there stays in force."
_KEY_REFUSED: Final = frozenset({401, 403})


class ConfiguredSource:
    """A source with its configuration.

    Args:
        config: As it was set up.
        secret: Its key; may be empty.
        clock: Aware UTC, for tests.
    """

    def __init__(self, config: SourceConfig, secret: str, *, clock: Clock = utc_now) -> None:
        self._config = config
        self._secret = secret
        self._clock = clock

    @property
    def config(self) -> SourceConfig:
        """As it was set up."""
        return self._config

    @property
    def name(self) -> str:
        """The configured name."""
        return self._config.name


class PolledList(ConfiguredSource, ABC):
    """A list source that is asked question by question and holds nothing open."""

    @asynccontextmanager
    async def download(self, client: SourceClient, state: bytes | None) -> AsyncIterator[Download]:
        """Ask for what is new; see :class:`app.verdicts.sources.types.ListSource`.

        Raises:
            SourceFailed: Something did not come whole; nothing of it is used.
        """
        yield await self.poll(client, state)

    @abstractmethod
    async def poll(self, client: SourceClient, state: bytes | None) -> Download:
        """Ask for what is new.

        Raises:
            SourceFailed: Something did not come whole; nothing of it is used.
        """


def require_ok(
    answer: Answer | FetchedFile,
    name: str,
    effect: str,
    *,
    about: str = "",
    detail: str = "",
    key_refused: frozenset[int] = _KEY_REFUSED,
) -> None:
    """Take no answer but one with status 200.

    Args:
        answer: The answer.
        name: Of the source.
        effect: What follows from a refusal, a sentence.
        about: What was asked for.
        detail: What the server said about it.
        key_refused: Statuses that speak of the key.

    Raises:
        SourceFailed: It has another; named is the server that gave it.
    """
    if answer.status == 200:
        return
    who = f"{name} ({answer.elsewhere})" if answer.elsewhere else name
    what = f" for {about}" if about else ""
    refused = answer.status in key_refused
    if refused and not detail:
        detail = "no key was sent there" if answer.elsewhere else "it does not accept the key"
    why = f": {detail}" if detail else ""
    raise SourceFailed(
        f"{who} answered with status {answer.status}{what}{why}. {effect}", reason="refused" if refused else "status"
    )


def json_object(answer: Answer, name: str, effect: str, *, about: str = "") -> dict[str, Any]:
    """The JSON object that is an answer's content.

    Args:
        answer: The answer; its status was looked at.
        name: Of the source.
        effect: What follows where there is none, a sentence.
        about: What was asked for.

    Raises:
        SourceFailed: There is none.
    """
    try:
        found = json.loads(answer.content)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        what = f" for {about}" if about else ""
        raise SourceFailed(f"{name} sent no JSON object{what}. {effect}", reason="format")
    return found


@contextmanager
def opened(address: str, effect: str) -> Iterator[IO[bytes]]:
    """A file of the operator's.

    Args:
        address: ``file:...``.
        effect: What follows where it cannot be opened, a sentence.

    Raises:
        SourceFailed: It cannot.
    """
    path = Path(unquote(urlsplit(address).path))
    try:
        file = path.open("rb")
    except OSError as error:
        raise SourceFailed(f"The file {path} cannot be read: {error.strerror}. {effect}", reason="connect") from None
    with file:
        yield file
