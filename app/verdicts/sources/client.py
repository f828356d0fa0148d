"""Asking the servers of sources: addresses that the operator chose, never one out of a message.

The same rules as for the checker apply to where a connection goes (:mod:`app.kit.safe_http`): the name is looked up
once, every address must be public, and the connection goes to one of these. An operator whose own server is in a
private network allows that network (``POSTERN_SOURCE_NETWORKS``). No proxy settings of the environment are used.

An answer counts only when it is whole: the length that was announced (RFC 9110, section 8.6; RFC 9112, sections 6.3
and 7.1), the end of a compressed stream with its checksum (RFC 1952, section 2.3.1), below the bound in size and time.
"""

from __future__ import annotations

import asyncio
import io
import ssl
import tempfile
import zlib
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import IO, Any, Final

import ada_url
import httpcore

from app.kit.addresses import Network
from app.kit.safe_http import REDIRECTS, FetchLimits, PinnedBackend, Resolver, UnsafeAddress, port_of, system_resolver
from app.verdicts.sources.types import Answer, FetchedFile, SourceFailed

USER_AGENT: Final = "postern/1.0 (threat list download by the operator of a mail link protection)"
"""PhishTank asks for one that names the application (https://phishtank.org/developer_info.php)."""

DEFAULT_MAX_BYTES: Final = 1 << 30
DEFAULT_SECONDS: Final = 600.0
ANSWER_BYTES: Final = 16 << 20
"""Bound of an answer that is kept in memory, unless told otherwise."""

MAX_REDIRECTS: Final = 3
MAX_RETRY_AFTER: Final = 7 * 86_400.0
_IDLE_SECONDS: Final = 30.0
_MEMORY_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class _Question:
    method: str
    url: ada_url.URL = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(default=b"", repr=False)
    limit: int = DEFAULT_MAX_BYTES


@dataclass(frozen=True, slots=True)
class _Head:
    status: int
    headers: Mapping[str, str]
    elsewhere: str = ""


class HttpSourceClient:
    """A :class:`app.verdicts.sources.types.SourceClient`.

    Args:
        allowed: Networks that may be asked although they are not public.
        max_bytes: Bound of an answer after decompression.
        seconds: Bound of the time for an answer, redirects included.
        resolver: Name look-up.
        tls: TLS settings; None: the system's certificate authorities.
        folder: Where answers of more than 1 MB are kept while they are read; None: the system's temporary folder.
    """

    def __init__(
        self,
        allowed: tuple[Network, ...] = (),
        *,
        max_bytes: int = DEFAULT_MAX_BYTES,
        seconds: float = DEFAULT_SECONDS,
        resolver: Resolver = system_resolver,
        tls: ssl.SSLContext | None = None,
        folder: Path | None = None,
    ) -> None:
        self._folder = folder
        self._limits = FetchLimits(allowed=allowed)
        self._max_bytes = max_bytes
        self._seconds = seconds
        self._resolver = resolver
        self._tls = tls

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
        """Ask once; see the protocol.

        Raises:
            SourceFailed: Nothing whole came. The message names the host, never path, query or headers: keys may be
                in them.
        """
        limit = ANSWER_BYTES if max_bytes is None else max_bytes
        question = _Question(method, _checked(url), dict(headers or {}), body, limit)
        content = io.BytesIO()
        head = await self._ask(question, content, self._seconds if seconds is None else seconds)
        return Answer(head.status, head.headers, content.getvalue(), head.elsewhere)

    @asynccontextmanager
    async def fetch(
        self, url: str, *, headers: Mapping[str, str] | None = None, max_bytes: int | None = None
    ) -> AsyncIterator[FetchedFile]:
        """Ask once for what may be large; see the protocol.

        Raises:
            SourceFailed: As :meth:`request`.
        """
        limit = self._max_bytes if max_bytes is None else max_bytes
        question = _Question("GET", _checked(url), dict(headers or {}), limit=limit)
        folder = None if self._folder is None else str(self._folder)
        if self._folder is not None:
            await asyncio.to_thread(self._folder.mkdir, parents=True, exist_ok=True)
        with tempfile.SpooledTemporaryFile(_MEMORY_BYTES, dir=folder) as file:
            head = await self._ask(question, file, self._seconds)
            file.seek(0)
            yield FetchedFile(head.status, head.headers, file, head.elsewhere)

    async def _ask(self, question: _Question, file: IO[bytes], seconds: float) -> _Head:
        """Ask, follow redirects, and write the answer's body to a file."""
        first, server = question.url.host, _Server(question.url.hostname)
        with server.failures():
            async with asyncio.timeout(seconds):
                for _ in range(MAX_REDIRECTS + 1):
                    server.host = question.url.hostname
                    head, target = await self._one(question, file)
                    if target is None:
                        return replace(head, elsewhere="" if question.url.host == first else server.host)
                    question = _redirected(question, target)
                raise SourceFailed(f"{server.host} sent on more than {MAX_REDIRECTS} times.", reason="status")

    async def _one(self, question: _Question, file: IO[bytes]) -> tuple[_Head, str | None]:
        """One request; the address of a redirect in place of a body."""
        url = question.url
        pool = httpcore.AsyncConnectionPool(
            ssl_context=self._tls,
            max_connections=1,
            http2=False,
            network_backend=PinnedBackend(self._resolver, self._limits),
        )
        sent = {"User-Agent": USER_AGENT, "Accept-Encoding": "gzip", **question.headers}
        if question.body:
            sent["Content-Length"] = str(len(question.body))
        lines = [(b"Host", url.host.encode("ascii")), (b"Connection", b"close")]
        try:
            lines += [(name.encode("ascii"), value.encode("latin-1")) for name, value in sent.items()]
        except UnicodeEncodeError:
            # The error itself carries the text that could not be encoded.
            raise SourceFailed(
                f"A key for {url.hostname} has characters that no header can hold. The source was not asked.",
                reason="secret",
            ) from None
        address = httpcore.URL(
            scheme=url.protocol[:-1].encode(),
            host=url.hostname.strip("[]").encode("ascii"),
            port=port_of(url),
            target=(url.pathname + url.search).encode("ascii"),
        )
        timeouts = {"connect": 10.0, "read": _IDLE_SECONDS, "write": _IDLE_SECONDS, "pool": 10.0}
        extensions = {"timeout": timeouts}
        body = question.body or None
        async with (
            pool,
            pool.stream(question.method, address, headers=lines, content=body, extensions=extensions) as answer,
        ):
            found = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in answer.headers}
            head = _Head(answer.status, found)
            if answer.status in REDIRECTS and found.get("location"):
                return head, found["location"]
            _refuse_status(answer.status, found, url.hostname)
            await _whole(answer, found.get("content-encoding", ""), question.limit, url.hostname, file)
            return head, None


@dataclass(slots=True)
class _Server:
    """Who is being asked: errors name that one."""

    host: str

    @contextmanager
    def failures(self) -> Iterator[None]:
        """Say in words what went wrong."""
        try:
            yield
        except UnsafeAddress as error:
            what = "could not be found" if error.reason == "resolve" else "is in a network that is not public"
            hint = "" if error.reason == "resolve" else " Allow it with POSTERN_SOURCE_NETWORKS if that is meant."
            reason = "connect" if error.reason == "resolve" else "address"
            raise SourceFailed(f"The server {self.host} {what}; it was not asked.{hint}", reason=reason) from None
        except (TimeoutError, httpcore.TimeoutException):
            raise SourceFailed(f"{self.host} did not answer in time.", reason="timeout") from None
        except httpcore.RemoteProtocolError as error:
            why = f"The answer of {self.host} was cut off or is no HTTP: {error}."
            raise SourceFailed(why, reason="cut_off") from None
        except (httpcore.NetworkError, httpcore.ProtocolError, ssl.SSLError, OSError) as error:
            tls = isinstance(error, ssl.SSLError) or "SSL" in str(error) or "certificate" in str(error).lower()
            what = "has no certificate that can be trusted" if tls else "could not be reached"
            raise SourceFailed(f"{self.host} {what}.", reason="tls" if tls else "connect") from None


def _redirected(question: _Question, target: str) -> _Question:
    """The question to where a server sent on.

    Raises:
        SourceFailed: It must not be asked there.
    """
    asked = question.url
    if question.method != "GET":
        raise SourceFailed(f"{asked.hostname} sent the question elsewhere.", reason="status")
    try:
        following = _checked(ada_url.URL(target, base=asked.href).href)
    except (ValueError, UnicodeError):
        raise SourceFailed(f"{asked.hostname} sent on to no address.", reason="status") from None
    if asked.protocol == "https:" and following.protocol != "https:":
        raise SourceFailed(f"{asked.hostname} sent on to an unencrypted address.", reason="tls")
    if following.origin == asked.origin:
        return replace(question, url=following)
    # Keys are for the server that they were given for.
    kept = {name: value for name, value in question.headers.items() if name.lower().startswith(("accept", "if-"))}
    return replace(question, url=following, headers=kept)


def _checked(url: str) -> ada_url.URL:
    try:
        parsed = ada_url.URL(url)
    except (ValueError, UnicodeError):
        raise SourceFailed("The address is none. The source was not asked.", reason="address") from None
    if parsed.protocol not in ("http:", "https:") or not parsed.hostname:
        raise SourceFailed("The address is not an http or https one. The source was not asked.", reason="address")
    if parsed.username or parsed.password:
        raise SourceFailed(
            "The address holds a name or a password; give a key with --key instead. The source was not asked.",
            reason="address",
        )
    return parsed


def _refuse_status(status: int, headers: Mapping[str, str], host: str) -> None:
    # 509: PhishTank's word for too many requests.
    if status in (429, 509):
        raise SourceFailed(f"{host} asks to be left alone for a while.", reason="busy", retry_after=_wait(headers))
    if status >= 500:
        raise SourceFailed(f"{host} answered with error {status}.", reason="status", retry_after=_wait(headers))


def _wait(headers: Mapping[str, str]) -> float | None:
    """Seconds of a ``Retry-After`` header (RFC 9110, section 10.2.3)."""
    text = headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return min(float(text), MAX_RETRY_AFTER)
    try:
        at = parsedate_to_datetime(text)
    except (TypeError, ValueError, IndexError):
        return None
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    return max(0.0, min((at - datetime.now(UTC)).total_seconds(), MAX_RETRY_AFTER))


async def _whole(answer: httpcore.Response, encoding: str, limit: int, host: str, file: IO[bytes]) -> None:
    """Write the body of an answer to a file, unpacked; all of it, or nothing of it may be used."""
    encoding = encoding.strip().lower()
    if encoding not in ("", "identity", "gzip", "x-gzip"):
        raise SourceFailed(f"{host} answered in the unknown encoding {encoding[:40]!r}.", reason="format")
    unpack = zlib.decompressobj(zlib.MAX_WBITS | 16) if encoding.endswith("gzip") else None
    size = 0
    try:
        stream: AsyncIterator[bytes] = answer.aiter_stream()
        async with aclosing(stream):  # type: ignore[type-var]  # httpcore's iterator is an async generator
            async for chunk in stream:
                data: Any = chunk
                while data:
                    if unpack is None:
                        piece, data = data, b""
                    else:
                        if unpack.eof:
                            # More members may follow the first (RFC 1952, section 2.2): a part is no whole list.
                            # Zeros may fill up the rest, which gzip itself passes over.
                            data = data.lstrip(b"\0")
                            if not data:
                                break
                            unpack = zlib.decompressobj(zlib.MAX_WBITS | 16)
                        piece = unpack.decompress(data, 1 << 20)
                        data = unpack.unused_data if unpack.eof else unpack.unconsumed_tail
                        if data:
                            await asyncio.sleep(0)  # a little that unpacks to a lot does not hold up everything else
                    size += len(piece)
                    if size > limit:
                        raise SourceFailed(
                            f"The list of {host} is larger than {limit / 1e6:.0f} MB; none of it was used.",
                            reason="too_large",
                        )
                    _keep(piece, file, host)
        if unpack is not None and not unpack.eof:
            raise SourceFailed(f"The answer of {host} was cut off; none of it was used.", reason="cut_off")
    except zlib.error:
        raise SourceFailed(f"The answer of {host} cannot be unpacked; none of it was used.", reason="cut_off") from None


def _keep(piece: bytes, file: IO[bytes], host: str) -> None:
    try:
        file.write(piece)
    except OSError as error:
        # Not to be taken for a fault of theirs.
        why = f"The answer of {host} cannot be kept here: {error.strerror}. None of it was used."
        raise SourceFailed(why, reason="disk") from None
