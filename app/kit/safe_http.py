"""Fetching an address that a stranger chose, without being led into one's own network or worn out.

Every hop is checked: scheme, port, no credentials, no internal name; the name is resolved once, *all* its addresses
must be public, and the connection goes to one of exactly these (no second look-up that could answer differently).
Bounded are: hops, time, header and body size after decompression. No cookies, no referrer, no credentials are sent,
no proxy settings of the environment are used.

Reference: OWASP, "Server-Side Request Forgery Prevention Cheat Sheet"
(https://cheatsheetseries.owasp.org/cheatsheets/Server_Side_Request_Forgery_Prevention_Cheat_Sheet.html).
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Final

import ada_url
import httpcore

from app.kit.addresses import IPAddress, Network, why_not

Resolver = Callable[[str, int], Awaitable[list[IPAddress]]]
"""Host name and port -> all its addresses; raises OSError where there are none."""

USER_AGENT: Final = "Mozilla/5.0 (compatible; PosternLinkCheck/1.0)"
REDIRECTS: Final = (301, 302, 303, 307, 308)
_INTERNAL_SUFFIXES: Final = (
    "localhost",
    "local",
    "internal",
    "intranet",
    "lan",
    "home",
    "corp",
    "home.arpa",
    "localdomain",
    "svc",
    "cluster.local",
    "in-addr.arpa",
    "ip6.arpa",
    "onion",
)
"""Names that are no public site's: RFC 6761, RFC 8375, and what clouds call their metadata services."""


class UnsafeAddress(Exception):
    """An address that is not fetched.

    Args:
        reason: ``unreadable``, ``scheme``, ``credentials``, ``port``, ``name``, ``address`` or ``resolve``.
        url: Which.
    """

    def __init__(self, reason: str, url: str) -> None:
        super().__init__(f"not fetched ({reason})")
        self.reason = reason
        self.url = url


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """Bounds of one fetch, over all its hops.

    Attributes:
        hops: Redirects followed.
        seconds: Time for everything.
        body_bytes: Size after decompression; the rest is not read.
        ports: Allowed ports.
        allowed: Networks that may be talked to although they are not public (tests on loopback).
    """

    hops: int = 5
    seconds: float = 5.0
    body_bytes: int = 1 << 20
    ports: frozenset[int] = frozenset({80, 443, 8080, 8443})
    allowed: tuple[Network, ...] = ()


@dataclass(frozen=True, slots=True)
class Hop:
    """One request and its status."""

    url: str
    status: int


@dataclass(frozen=True, slots=True)
class Fetched:
    """What came of a fetch.

    Attributes:
        hops: Every request made, in order.
        url: The last address reached, or the one that was not fetched.
        status: Its status; 0 where nothing answered.
        headers: Lower-case names.
        body: At most the allowed size.
        truncated: There was more.
        problem: Empty, or why the end could not be seen: a reason of :class:`UnsafeAddress`, ``timeout``,
            ``connect``, ``tls``, ``protocol``, ``hops``, ``loop``, ``encoding``.
    """

    hops: tuple[Hop, ...]
    url: str
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    truncated: bool = False
    problem: str = ""


async def system_resolver(host: str, port: int) -> list[IPAddress]:
    """All addresses by the system's resolver."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [ipaddress.ip_address(entry[4][0]) for entry in found]


def check_url(url: str, limits: FetchLimits) -> ada_url.URL:
    """Check everything about an address that needs no look-up.

    Raises:
        UnsafeAddress: It must not be fetched.
    """
    try:
        parsed = ada_url.URL(url)
    except (ValueError, UnicodeError):
        raise UnsafeAddress("unreadable", url) from None
    if parsed.protocol not in ("http:", "https:"):
        raise UnsafeAddress("scheme", url)
    if parsed.username or parsed.password:
        raise UnsafeAddress("credentials", url)
    if port_of(parsed) not in limits.ports:
        raise UnsafeAddress("port", url)
    host = parsed.hostname.rstrip(".")
    literal = _literal(host)
    if literal is not None:
        if why_not(literal, limits.allowed) is not None:
            raise UnsafeAddress("address", url)
    elif "." not in host or any(host == name or host.endswith("." + name) for name in _INTERNAL_SUFFIXES):
        raise UnsafeAddress("name", url)
    return parsed


def port_of(parsed: ada_url.URL) -> int:
    """The port that is meant."""
    return int(parsed.port) if parsed.port else (443 if parsed.protocol == "https:" else 80)


def _literal(host: str) -> IPAddress | None:
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None


class PinnedBackend(httpcore.AsyncNetworkBackend):
    """Resolves once, checks every address, and connects to the first of them."""

    def __init__(self, resolver: Resolver, limits: FetchLimits) -> None:
        self._resolver = resolver
        self._limits = limits
        self._inner = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - the interface of httpcore
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect.

        Raises:
            UnsafeAddress: The name has no address, or one that must not be talked to.
        """
        literal = _literal(host)
        try:
            addresses = [literal] if literal is not None else await self._resolver(host, port)
        except (OSError, UnicodeError):
            raise UnsafeAddress("resolve", host) from None
        # One address of the own network among public ones is an attempt, not an accident.
        if not addresses or any(why_not(address, self._limits.allowed) is not None for address in addresses):
            raise UnsafeAddress("address", host)
        return await self._inner.connect_tcp(str(addresses[0]), port, timeout, local_address, socket_options)


class SafeFetcher:
    """Fetches under the rules of this module.

    Args:
        limits: Bounds.
        resolver: Name look-up.
        tls: TLS settings; None: the system's certificate authorities.
    """

    def __init__(
        self,
        limits: FetchLimits | None = None,
        resolver: Resolver = system_resolver,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._limits = limits or FetchLimits()
        self._resolver = resolver
        self._tls = tls

    async def fetch(self, url: str, before_hop: Callable[[str], bool] | None = None) -> Fetched:
        """Fetch an address and follow its redirects.

        Args:
            url: Any address.
            before_hop: Asked with every address before it is fetched; False ends the fetch there with the
                problem ``stopped`` (a link that works only once is not followed to its end).

        Returns:
            What was seen, with the reason where the end was not seen. Never raises for what a stranger can cause.
        """
        hops: list[Hop] = []
        seen: set[str] = set()
        current = url
        try:
            async with asyncio.timeout(self._limits.seconds):
                while True:
                    parsed = check_url(current, self._limits)
                    current = parsed.href.partition("#")[0]
                    if current in seen:
                        return Fetched(tuple(hops), current, problem="loop")
                    if len(hops) > self._limits.hops:
                        return Fetched(tuple(hops), current, problem="hops")
                    if before_hop is not None and not before_hop(current):
                        return Fetched(tuple(hops), current, problem="stopped")
                    seen.add(current)
                    fetched = await self._one(parsed)
                    hops.append(Hop(current, fetched.status))
                    target = fetched.headers.get("location", "")
                    if fetched.status not in REDIRECTS or not target:
                        return Fetched(
                            tuple(hops),
                            current,
                            fetched.status,
                            fetched.headers,
                            fetched.body,
                            fetched.truncated,
                            fetched.problem,
                        )
                    try:
                        current = ada_url.URL(target, base=current).href
                    except (ValueError, UnicodeError):
                        return Fetched(tuple(hops), target, fetched.status, problem="unreadable")
        except Exception as error:  # noqa: BLE001 - _problem raises again whatever a stranger cannot cause
            return Fetched(tuple(hops), current, problem=_problem(error))

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Fetched:
        """Send something to an address that a tenant chose, under the same rules; https alone, nothing is followed.

        Args:
            url: An https address.
            body: What is sent.
            headers: More headers, ASCII.

        Returns:
            The answer, or why there was none. Never raises for what the other side can cause.
        """
        try:
            async with asyncio.timeout(self._limits.seconds):
                parsed = check_url(url, self._limits)
                if parsed.protocol != "https:":
                    raise UnsafeAddress("scheme", url)
                more = tuple((name.encode("ascii"), value.encode("ascii")) for name, value in headers.items())
                return await self._one(parsed, b"POST", body, more)
        except Exception as error:  # noqa: BLE001 - _problem raises again whatever the other side cannot cause
            return Fetched((), url, problem=_problem(error))

    async def _one(
        self,
        parsed: ada_url.URL,
        method: bytes = b"GET",
        content: bytes = b"",
        more: tuple[tuple[bytes, bytes], ...] = (),
    ) -> Fetched:
        """One request, without following. Built from the parts that were checked: no second parser reads it."""
        url = parsed.href
        pool = httpcore.AsyncConnectionPool(
            ssl_context=self._tls,
            max_connections=1,
            http2=False,
            network_backend=PinnedBackend(self._resolver, self._limits),
        )
        headers = [
            (b"Host", parsed.host.encode("ascii")),
            (b"User-Agent", USER_AGENT.encode()),
            (b"Accept", b"text/html,application/xhtml+xml,*/*;q=0.5"),
            (b"Accept-Language", b"en"),
            (b"Accept-Encoding", b"gzip, deflate"),
            (b"Connection", b"close"),
            *more,
        ]
        if content:
            headers.append((b"Content-Length", str(len(content)).encode()))
        address = httpcore.URL(
            scheme=parsed.protocol[:-1].encode(),
            host=parsed.hostname.strip("[]").encode("ascii"),
            port=port_of(parsed),
            target=(parsed.pathname + parsed.search).encode("ascii"),
        )
        seconds = self._limits.seconds
        timeouts = {"connect": seconds, "read": seconds, "write": seconds, "pool": seconds}
        async with (
            pool,
            pool.stream(
                method, address, headers=headers, content=content or None, extensions={"timeout": timeouts}
            ) as answer,
        ):
            found = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in answer.headers}
            if answer.status in REDIRECTS:
                return Fetched((), url, answer.status, found)
            body, truncated, problem = await self._body(answer, found.get("content-encoding", ""))
            return Fetched((), url, answer.status, found, body, truncated, problem)

    async def _body(self, answer: httpcore.Response, encoding: str) -> tuple[bytes, bool, str]:
        encoding = encoding.strip().lower()
        if encoding in ("gzip", "x-gzip"):
            unpack = zlib.decompressobj(zlib.MAX_WBITS | 16)
        elif encoding == "deflate":
            unpack = zlib.decompressobj()
        elif encoding in ("", "identity"):
            unpack = None
        else:
            return b"", True, "encoding"
        body = bytearray()
        cap = self._limits.body_bytes
        stream: AsyncIterator[bytes] = answer.aiter_stream()
        async with aclosing(stream):  # type: ignore[type-var]  # httpcore's iterator is an async generator
            async for chunk in stream:
                if unpack is None:
                    body += chunk[: cap - len(body)]
                    full = len(chunk) > 0 and len(body) >= cap
                else:
                    try:
                        # Bounded per call: a few kilobytes can unpack to gigabytes.
                        body += unpack.decompress(chunk, max(1, cap - len(body)))
                    except zlib.error:
                        return bytes(body), True, "encoding"
                    full = len(body) >= cap
                if full:
                    return bytes(body[:cap]), True, ""
        return bytes(body), False, ""


def _problem(error: Exception) -> str:
    """Why the end could not be seen.

    Raises:
        Exception: The same, where it is none that the other side can cause.
    """
    match error:
        case UnsafeAddress():
            return error.reason
        case TimeoutError() | httpcore.TimeoutException():
            return "timeout"
        case httpcore.ConnectError():
            return "tls" if _is_tls(error) else "connect"
        case httpcore.NetworkError() | OSError():
            return "connect"
        case httpcore.ProtocolError() | ValueError():
            return "protocol"
    raise error


def _is_tls(error: BaseException) -> bool:
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ssl.SSLError):
            return True
        seen = seen.__cause__ or seen.__context__
    return False
