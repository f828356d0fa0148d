"""Sends one HTTP request: the client under :mod:`connectors.base.http`, without any policy.

aiohttp (a dependency of msgraph-sdk) sends and reads, because its parser is compiled: a request costs a fifth of the
processor time that it costs with httpx. Requests and answers have httpx's form, which the callers share with the SDKs.

What is sent is what the caller says and nothing more: no cookies, no redirects, no headers of the client's own but
``Host`` and the length. A proxy is used where the environment names one (``HTTPS_PROXY``, ``NO_PROXY``).
"""

from __future__ import annotations

import io
import ssl
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache
from urllib.parse import urlsplit

import aiohttp
import httpx
import yarl

from connectors.base.errors import TooLarge

_KEPT_ALIVE_SECONDS = 20.0
_MOST_HEADER_BYTES = 65_536
_IN_ONE_PIECE = 262_144
_NOT_ADDED = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
_OF_THE_TRANSFER = frozenset({"content-encoding", "content-length", "transfer-encoding"})


class NoAnswer(Exception):
    """The request may or may not have been received: no connection, a time-out, or a connection that broke.

    Args:
        kind: Which of them, in one word.
    """

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A request, cheaper to make than httpx's.

    Attributes:
        method: Upper case.
        url: Absolute and quoted already; it is sent as it stands.
        headers: All of them, but for ``Host`` and the length.
        content: The body.
    """

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    content: bytes | None = field(default=None, repr=False)

    @classmethod
    def of(cls, request: httpx.Request) -> Outgoing:
        """The same request."""
        headers = {name: value for name, value in request.headers.items() if name not in ("host", "content-length")}
        return cls(request.method, str(request.url), headers, request.content or None)


@cache
def _tls() -> ssl.SSLContext:
    """The certificate authorities, loaded once: 20 ms and a megabyte that each client need not spend again."""
    return httpx.create_ssl_context()


async def _once(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """aiohttp repeats idempotent requests over a new connection where a kept one broke; here the caller decides."""
    try:
        return await handler(request)
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        raise NoAnswer(type(error).__name__) from error


class Wire:
    """A pool of connections. It belongs to the event loop in which it is first used.

    Args:
        connect_timeout: Seconds to connect.
        read_timeout: Seconds between two pieces of an answer.
        max_connections: Connections open at once.
    """

    def __init__(self, connect_timeout: float, read_timeout: float, max_connections: int) -> None:
        self._timeout = aiohttp.ClientTimeout(
            total=None, connect=read_timeout + connect_timeout, sock_connect=connect_timeout, sock_read=read_timeout
        )
        self._max_connections = max_connections
        self._session: aiohttp.ClientSession | None = None

    async def exchange(self, request: Outgoing, limit: int, what: str) -> httpx.Response:
        """Send once, read the whole answer.

        Args:
            request: What to send.
            limit: Largest decoded answer in bytes.
            what: For the error.

        Raises:
            NoAnswer: There was none, or not all of it.
            TooLarge: It is over the limit.
        """
        session = self._session
        if session is None:
            session = self._session = self._open()
        try:
            async with session.request(
                request.method,
                yarl.URL(request.url, encoded=True),
                headers=request.headers,
                data=_body(request.content),
                allow_redirects=False,
                proxy=_proxy(request.url),
                middlewares=(_once,),
            ) as answer:
                content = await _read(answer, limit, what)
                headers = [(n, v) for n, v in answer.headers.items() if n.lower() not in _OF_THE_TRANSFER]
                return httpx.Response(answer.status, headers=headers, content=content)
        except TimeoutError as error:
            reading = isinstance(error, aiohttp.SocketTimeoutError)
            raise NoAnswer("ReadTimeout" if reading else "ConnectTimeout") from error
        except (aiohttp.ClientError, OSError) as error:
            raise NoAnswer(type(error).__name__) from error

    def _open(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=self._max_connections, ssl=_tls(), keepalive_timeout=_KEPT_ALIVE_SECONDS
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=self._timeout,
            skip_auto_headers=_NOT_ADDED,
            max_field_size=_MOST_HEADER_BYTES,
        )

    async def aclose(self) -> None:
        """Close the connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()


async def _read(answer: aiohttp.ClientResponse, limit: int, what: str) -> bytes:
    declared = answer.content_length
    if declared is not None and declared > limit:
        raise TooLarge(f"The answer while {what} is larger than {limit} bytes.", limit)
    parts: list[bytes] = []
    size = 0
    async for part in answer.content.iter_any():
        size += len(part)
        if size > limit:
            raise TooLarge(f"The answer while {what} is larger than {limit} bytes.", limit)
        parts.append(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _body(content: bytes | None) -> bytes | io.BytesIO | None:
    """A large body goes out in pieces, so that other mailboxes' requests go on meanwhile."""
    return content if content is None or len(content) <= _IN_ONE_PIECE else io.BytesIO(content)


def _proxy(url: str) -> str | None:
    parts = urlsplit(url)
    return _proxy_of(parts.scheme, parts.netloc)


@lru_cache(maxsize=64)
def _proxy_of(scheme: str, host: str) -> str | None:
    """The proxy that the environment names for a host, if any."""
    proxies = urllib.request.getproxies()
    proxy = proxies.get(scheme) or proxies.get("all")
    if not proxy or urllib.request.proxy_bypass(host):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"
