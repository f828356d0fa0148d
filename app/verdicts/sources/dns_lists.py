"""Block lists that are asked over DNS: Spamhaus DBL and SURBL.

Asked is the registrable domain under the zone of the list; an ``A`` record is the answer. What is no listing is never
taken for one: an error code of the list, an address outside of 127.0.0.0/8 (a resolver that answers for names that are
not there), a code that is not known. The name that is asked for leaves the machine, and reaches the list through the
resolver.

References:
    https://docs.spamhaus.com/datasets/docs/source/10-data-type-documentation/datasets/040-zones.html (return codes)
    https://www.spamhaus.org/news/article/788/ (127.255.255.0/24 are errors, never listings)
    https://www.surbl.org/lists (bit mask), https://www.surbl.org/guidelines (registered domains only)
    RFC 2308 (how long "there is none" may be kept), RFC 5782 (DNS lists)
"""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

import dns.asyncresolver
import dns.exception
import dns.name
import dns.nameserver
import dns.rdatatype
import dns.resolver

from app.messages.hosts import is_ip, registrable_domain
from app.verdicts.canonical import expression_digest
from app.verdicts.scoring import Level, Signal
from app.verdicts.sources.base import ConfiguredSource
from app.verdicts.sources.files import option_texts
from app.verdicts.sources.reported import reported_signal
from app.verdicts.sources.types import Cost, SourceConfig, SourceFailed, Target
from app.verdicts.waiting import give_up

ASK_SECONDS: Final = 3.0
MAX_KEPT: Final = 50_000
LEAST_TTL: Final = 30.0
MOST_TTL: Final = 3600.0
FAILURES_TO_OPEN: Final = 3
QUIET_SECONDS: Final = 30.0
MOST_QUIET_SECONDS: Final = 300.0
REFUSED_SECONDS: Final = 3600.0
_LOOPBACK: Final = ipaddress.ip_network("127.0.0.0/8")
_ERRORS: Final = ipaddress.ip_network("127.255.255.0/24")


@dataclass(frozen=True, slots=True)
class Listing:
    """What a return code means.

    Attributes:
        code: Of the signal.
        level: At most.
    """

    code: str
    level: Level


_PHISHING: Final = Listing("reported_phishing", Level.MALICIOUS)
_MALWARE: Final = Listing("reported_malware", Level.MALICIOUS)
_BOTNET: Final = Listing("reported_botnet", Level.MALICIOUS)
_SPAM: Final = Listing("reported_spam", Level.SUSPICIOUS)
# A site of somebody honest that others misuse: a warning, since most of its pages are what they seem.
_ABUSED: Final = Listing("reported_abused", Level.SUSPICIOUS)

DBL: Final[Mapping[str, Listing]] = MappingProxyType(
    {
        "127.0.1.2": _SPAM,
        "127.0.1.4": _PHISHING,
        "127.0.1.5": _MALWARE,
        "127.0.1.6": _BOTNET,
        "127.0.1.102": _ABUSED,
        "127.0.1.103": _ABUSED,
        "127.0.1.104": _ABUSED,
        "127.0.1.105": _ABUSED,
        "127.0.1.106": _ABUSED,
    }
)
"""Return codes of the DBL."""

DBL_REFUSALS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "127.0.1.255": "it takes no IP addresses",
        "127.255.255.252": "the zone is written wrongly",
        "127.255.255.254": "it is asked through a public resolver",
        "127.255.255.255": "it is asked too often",
    }
)

SURBL: Final[Mapping[int, Listing]] = MappingProxyType({8: _PHISHING, 16: _MALWARE, 64: _SPAM, 128: _ABUSED})
"""Bits of the last octet in ``multi.surbl.org``; the others mark no danger, or are reserved."""

SURBL_REFUSED: Final = 1
"""The last octet that tells that access is blocked."""


@dataclass(frozen=True, slots=True)
class Meaning:
    """What the records of an answer mean together.

    Attributes:
        listings: All that are listings, once each.
        refused: Why the list does not answer us; empty where it does.
    """

    listings: tuple[Listing, ...] = ()
    refused: str = ""


def dbl_meaning(addresses: Iterable[str]) -> Meaning:
    """What the DBL says."""
    listings: list[Listing] = []
    for address in addresses:
        if address in DBL_REFUSALS or _within(address, _ERRORS):
            return Meaning(refused=DBL_REFUSALS.get(address, f"error {address}"))
        listing = DBL.get(address)
        if listing is not None and listing not in listings:
            listings.append(listing)
    return Meaning(tuple(listings))


def surbl_meaning(addresses: Iterable[str]) -> Meaning:
    """What SURBL says. Octets between the first and the last are reserved and ignored, by its documentation."""
    listings: list[Listing] = []
    for address in addresses:
        if not _within(address, _LOOPBACK):
            continue
        last = int(address.rpartition(".")[2])
        if _within(address, _ERRORS) or last == SURBL_REFUSED:
            return Meaning(refused="access is blocked; it may be asked too often or through a public resolver")
        listings += [listing for bit, listing in SURBL.items() if last & bit and listing not in listings]
    return Meaning(tuple(listings))


def _within(address: str, network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> bool:
    try:
        return ipaddress.ip_address(address) in network
    except ValueError:
        return False


@dataclass(frozen=True, slots=True)
class _Known:
    until: float
    listings: tuple[Listing, ...]


class DnsList(ConfiguredSource):
    """A list that is asked over DNS.

    Options: ``nameservers`` (addresses, ``192.0.2.1`` or ``192.0.2.1:5353``, of the resolvers to use; the system's
    unless given). A key is put between the name and the zone (Spamhaus' query service).

    Args:
        config: As it was set up; the address is the zone.
        secret: The key, or empty.
        monotonic: Seconds, for tests.
    """

    cost: Cost = "slow"

    def __init__(self, config: SourceConfig, secret: str, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        super().__init__(config, secret)
        try:
            self._zone = dns.name.from_text(f"{secret}.{config.address}" if secret else config.address)
            self._nameservers = [_nameserver(text) for text in option_texts(config, "nameservers")]
        except (dns.exception.DNSException, ValueError):
            # What was wrong is not repeated: the key is a part of it.
            raise SourceFailed(
                f"The zone, the key or the resolvers of {config.name} cannot be used. The source was not asked.",
                reason="address",
            ) from None
        self._monotonic = monotonic
        self._resolver: dns.asyncresolver.Resolver | None = None
        self._known: dict[str, _Known] = {}
        self._running: dict[str, asyncio.Task[tuple[Listing, ...]]] = {}
        self._failures = 0
        self._openings = 0
        self._quiet_until = float("-inf")
        self.error = ""
        """Why it was not asked lately; empty where it was."""
        self.asked = 0
        """Questions so far."""

    def question(self, host: str) -> str | None:
        """What is asked about a host; None: nothing. Never a subdomain, never an IP address here."""
        return None if is_ip(host) else registrable_domain(host.rstrip("."))

    def listed(self, asked: str) -> str:
        """The host that a question is about."""
        return asked

    def meaning(self, addresses: Iterable[str]) -> Meaning:
        """What the records of an answer mean."""
        raise NotImplementedError

    async def inspect(self, target: Target, deadline: float) -> Signal | None:
        """What the list says about the site.

        While nothing answers, nothing is waited for: a signal without weight says that the list was not asked.

        Raises:
            SourceFailed: It did not answer in time, or not at all.
        """
        asked = self.question(target.host)
        if asked is None:
            return None
        known = self._known.get(asked)
        if known is not None and known.until > self._monotonic():
            return self._signal(asked, known.listings)
        running = self._running.get(asked)
        if running is None:
            if self._monotonic() < self._quiet_until:
                return Signal("not_asked", 0, (("list", self.name),), self.name)
            running = asyncio.create_task(self._ask(asked))
            self._running[asked] = running
            running.add_done_callback(lambda task: self._done(asked, task))
        done, _ = await asyncio.wait({running}, timeout=max(0.0, deadline - time.monotonic()))
        if not done:
            raise SourceFailed(f"{self.name} did not answer in time.", reason="timeout")
        return self._signal(asked, running.result())

    def forget(self, digest: bytes) -> None:
        """Ask about this site anew; see :class:`app.verdicts.sources.types.Service`."""
        for asked in [name for name in self._known if expression_digest(f"{self.listed(name)}/") == digest]:
            del self._known[asked]

    async def aclose(self) -> None:
        """Give up what is under way."""
        await give_up(self._running.values())

    def _done(self, asked: str, task: asyncio.Task[tuple[Listing, ...]]) -> None:
        self._running.pop(asked, None)
        if not task.cancelled():
            task.exception()  # seen, also where nobody waits any more

    def _signal(self, asked: str, listings: tuple[Listing, ...]) -> Signal | None:
        if not listings:
            return None
        worst = max(listings, key=lambda listing: listing.level.rank)
        return reported_signal(self._config, worst.code, worst.level, self.listed(asked))

    async def _ask(self, asked: str) -> tuple[Listing, ...]:
        self.asked += 1
        try:
            addresses, seconds = await self._records(asked)
        except (dns.exception.DNSException, OSError) as error:
            self._failed(f"{type(error).__name__}")
            raise SourceFailed(f"{self.name} could not be asked ({type(error).__name__}).", reason="connect") from None
        meaning = self.meaning(addresses)
        if meaning.refused:
            self.error = meaning.refused
            self._quiet_until = self._monotonic() + REFUSED_SECONDS
            raise SourceFailed(
                f"{self.name} does not answer: {meaning.refused}. Nothing was taken for a listing.", reason="refused"
            )
        self._failures = self._openings = 0
        self.error = ""
        if len(self._known) >= MAX_KEPT:
            self._known.clear()
        until = self._monotonic() + max(LEAST_TTL, min(MOST_TTL, seconds))
        self._known[asked] = _Known(until, meaning.listings)
        return meaning.listings

    def _failed(self, error: str) -> None:
        """Count a failure. After a few the list is left alone for a while, and then asked once."""
        self._failures += 1
        self.error = error
        if self._failures >= FAILURES_TO_OPEN:
            self._quiet_until = self._monotonic() + min(MOST_QUIET_SECONDS, QUIET_SECONDS * 2.0**self._openings)
            self._openings += 1
            self._failures = FAILURES_TO_OPEN - 1

    async def _records(self, asked: str) -> tuple[list[str], float]:
        """The addresses of a name under the zone, and for how long that holds, in seconds."""
        try:
            name = dns.name.from_text(asked, None).concatenate(self._zone)
        except dns.exception.DNSException:
            return [], MOST_TTL  # no name that could be listed
        try:
            answer = await self._get_resolver().resolve(
                name, dns.rdatatype.A, lifetime=ASK_SECONDS, search=False, raise_on_no_answer=False
            )
        except dns.resolver.NXDOMAIN as missing:
            responses = missing.responses()  # type: ignore[no-untyped-call]  # dnspython types most, but not this
            return [], float(next(iter(responses.values())).resolve_chaining().minimum_ttl)
        chain: Any = answer.chaining_result
        records = [] if answer.rrset is None else [str(record) for record in answer.rrset]
        return records, float(chain.minimum_ttl)

    def _get_resolver(self) -> dns.asyncresolver.Resolver:
        if self._resolver is None:
            self._resolver = dns.asyncresolver.Resolver(configure=not self._nameservers)
            if self._nameservers:
                self._resolver.nameservers = [*self._nameservers]
            self._resolver.cache = None
            self._resolver.timeout = ASK_SECONDS / 3
        return self._resolver


def _nameserver(text: str) -> dns.nameserver.Nameserver:
    """A resolver: an address, with a port or without.

    Raises:
        ValueError: It is none.
    """
    host, _, port = text.rpartition(":")
    if not (host and port.isdigit() and int(port) < 1 << 16 and (host.startswith("[") or ":" not in host)):
        host, port = text, "53"
    return dns.nameserver.Do53Nameserver(str(ipaddress.ip_address(host.strip("[]"))), int(port))


def _turned_round(address: str) -> str:
    return ".".join(reversed(address.split(".")))


class SpamhausDbl(DnsList):
    """Spamhaus' Domain Block List."""

    def meaning(self, addresses: Iterable[str]) -> Meaning:
        """See :func:`dbl_meaning`."""
        return dbl_meaning(addresses)


class Surbl(DnsList):
    """SURBL's combined list; it also knows IPv4 addresses, asked backwards."""

    def question(self, host: str) -> str | None:
        """The registrable domain, or an IPv4 address with its octets turned round."""
        if not is_ip(host):
            return registrable_domain(host.rstrip("."))
        try:
            return _turned_round(str(ipaddress.IPv4Address(host)))
        except ValueError:
            return None

    def listed(self, asked: str) -> str:
        """An address again as it is written."""
        return _turned_round(asked) if is_ip(asked) else asked

    def meaning(self, addresses: Iterable[str]) -> Meaning:
        """See :func:`surbl_meaning`."""
        return surbl_meaning(addresses)
