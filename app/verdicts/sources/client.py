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
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import IO, Any, Final

import ada_url
import httpcore

from app.kit.addresses import Network
from app.kit.safe_http import REDIRECTS, FetchLimits, PinnedBackend, Resolver, UnsafeAddress, port_of, system_resolver
from app.verdicts.sources.types import Answer, SourceFailed

USER_AGENT: Final = "postern/1.0 (threat list download by the operator of a mail link protection)"
"""PhishTank asks for one that names the application (https://phishtank.org/developer_info.php)."""

DEFAULT_MAX_BYTES: Final = 1 << 30
DEFAULT_SECONDS: Final = 600.0
MAX_REDIRECTS: Final = 3
MAX_RETRY_AFTER: Final = 7 * 86_400.0
_IDLE_SECONDS: Final = 30.0
_MEMORY_BYTES: Final = 1 << 20


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
        """Ask once; see the protocol. Close the answer's body.

        Raises:
            SourceFailed: Nothing whole came. The message names the host, never path, query or headers: keys may be
                in them.
        """
        parsed = _checked(url)
        limit = self._max_bytes if max_bytes is None else max_bytes
        host = parsed.hostname
        try:
            async with asyncio.timeout(self._seconds if seconds is None else seconds):
                return await self._follow(method, parsed, dict(headers or {}), body, limit)
        except SourceFailed:
            raise
        except UnsafeAddress as error:
            what = "could not be found" if error.reason == "resolve" else "is in a network that is not public"
            hint = "" if error.reason == "resolve" else " Allow it with POSTERN_SOURCE_NETWORKS if that is meant."
            reason = "connect" if error.reason == "resolve" else "address"
            raise SourceFailed(f"The server {host} {what}; it was not asked.{hint}", reason=reason) from None
        except (TimeoutError, httpcore.TimeoutException):
            raise SourceFailed(f"{host} did not answer in time.", reason="timeout") from None
        except httpcore.RemoteProtocolError as error:
            raise SourceFailed(f"The answer of {host} was cut off or is no HTTP: {error}.", reason="cut_off") from None
        except (httpcore.NetworkError, httpcore.ProtocolError, ssl.SSLError, OSError) as error:
            tls = isinstance(error, ssl.SSLError) or "SSL" in str(error) or "certificate" in str(error).lower()
            what = "has no certificate that can be trusted" if tls else "could not be reached"
            raise SourceFailed(f"{host} {what}.", reason="tls" if tls else "connect") from None

    async def _follow(
        self, method: str, parsed: ada_url.URL, headers: dict[str, str], body: bytes, limit: int
    ) -> Answer:
        for _ in range(MAX_REDIRECTS + 1):
            answer, target = await self._one(method, parsed, headers, body, limit)
            if target is None:
                return answer
            answer.body.close()
            if method != "GET":
                raise SourceFailed(f"{parsed.hostname} sent the question elsewhere.", reason="status")
            try:
                following = _checked(ada_url.URL(target, base=parsed.href).href)
            except (ValueError, UnicodeError):
                raise SourceFailed(f"{parsed.hostname} sent on to no address.", reason="status") from None
            if parsed.protocol == "https:" and following.protocol != "https:":
                raise SourceFailed(f"{parsed.hostname} sent on to an unencrypted address.", reason="tls")
            if following.origin != parsed.origin:
                # Keys are for the server that they were given for.
                headers = {name: value for name, value in headers.items() if name.lower().startswith(("accept", "if-"))}
            parsed = following
        raise SourceFailed(f"{parsed.hostname} sent on more than {MAX_REDIRECTS} times.", reason="status")

    async def _one(
        self, method: str, parsed: ada_url.URL, headers: Mapping[str, str], body: bytes, limit: int
    ) -> tuple[Answer, str | None]:
        pool = httpcore.AsyncConnectionPool(
            ssl_context=self._tls,
            max_connections=1,
            http2=False,
            network_backend=PinnedBackend(self._resolver, self._limits),
        )
        sent = {"User-Agent": USER_AGENT, "Accept-Encoding": "gzip", **headers}
        if body:
            sent["Content-Length"] = str(len(body))
        lines = [(b"Host", parsed.host.encode("ascii")), (b"Connection", b"close")]
        try:
            lines += [(name.encode("ascii"), value.encode("latin-1")) for name, value in sent.items()]
        except UnicodeEncodeError:
            # The error itself carries the text that could not be encoded.
            raise SourceFailed(
                f"A key for {parsed.hostname} has characters that no header can hold. The source was not asked.",
                reason="secret",
            ) from None
        address = httpcore.URL(
            scheme=parsed.protocol[:-1].encode(),
            host=parsed.hostname.strip("[]").encode("ascii"),
            port=port_of(parsed),
            target=(parsed.pathname + parsed.search).encode("ascii"),
        )
        timeouts = {"connect": 10.0, "read": _IDLE_SECONDS, "write": _IDLE_SECONDS, "pool": 10.0}
        extensions = {"timeout": timeouts}
        async with (
            pool,
            pool.stream(method, address, headers=lines, content=body or None, extensions=extensions) as answer,
        ):
            found = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in answer.headers}
            if answer.status in REDIRECTS and found.get("location"):
                return Answer(answer.status, found, io.BytesIO(), 0), found["location"]
            _refuse_status(answer.status, found, parsed.hostname)
            file, size = await _whole(answer, found.get("content-encoding", ""), limit, parsed.hostname, self._folder)
            return Answer(answer.status, found, file, size), None


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


async def _whole(
    answer: httpcore.Response, encoding: str, limit: int, host: str, folder: Path | None
) -> tuple[IO[bytes], int]:
    encoding = encoding.strip().lower()
    if encoding not in ("", "identity", "gzip", "x-gzip"):
        raise SourceFailed(f"{host} answered in the unknown encoding {encoding[:40]!r}.", reason="format")
    unpack = zlib.decompressobj(zlib.MAX_WBITS | 16) if encoding.endswith("gzip") else None
    if folder is not None:
        await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    file: IO[bytes] = tempfile.SpooledTemporaryFile(_MEMORY_BYTES, dir=None if folder is None else str(folder))  # noqa: SIM115 - the answer's owner closes it
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
                    file.write(piece)
        if unpack is not None and not unpack.eof:
            raise SourceFailed(f"The answer of {host} was cut off; none of it was used.", reason="cut_off")
    except zlib.error:
        file.close()
        raise SourceFailed(f"The answer of {host} cannot be unpacked; none of it was used.", reason="cut_off") from None
    except BaseException:
        file.close()
        raise
    file.seek(0)
    return file, size
