"""Which network addresses the checker may talk to: public unicast ones, whatever they are wrapped in.

References: the IANA special-purpose registries (RFC 6890), RFC 4291 (mapped), RFC 3056 (6to4), RFC 4380 (Teredo),
RFC 6052 and RFC 8215 (NAT64), RFC 5214 (ISATAP).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Final

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_NEVER: Final[tuple[Network, ...]] = tuple(
    map(
        ipaddress.ip_network,
        (
            "0.0.0.0/8",
            "10.0.0.0/8",
            "100.64.0.0/10",
            "127.0.0.0/8",
            "169.254.0.0/16",
            "172.16.0.0/12",
            "192.0.0.0/24",
            "192.0.2.0/24",
            "192.31.196.0/24",
            "192.52.193.0/24",
            "192.88.99.0/24",
            "192.168.0.0/16",
            "192.175.48.0/24",
            "198.18.0.0/15",
            "198.51.100.0/24",
            "203.0.113.0/24",
            "224.0.0.0/4",
            "240.0.0.0/4",
            # Public addresses behind which clouds keep their metadata or platform services.
            "168.63.129.16/32",
            "::/128",
            "::1/128",
            "100::/64",
            "2001:2::/48",
            "2001:10::/28",
            "2001:20::/28",
            "2001:db8::/32",
            "3fff::/20",
            "5f00::/16",
            "fc00::/7",
            "fe80::/10",
            "fec0::/10",
            "ff00::/8",
        ),
    )
)
_NAT64: Final = (ipaddress.IPv6Network("64:ff9b::/96"), ipaddress.IPv6Network("64:ff9b:1::/48"))
_COMPATIBLE: Final = ipaddress.IPv6Network("::/96")
_TEREDO: Final = ipaddress.IPv6Network("2001::/32")
_ISATAP: Final = (0x00005EFE, 0x02005EFE)


def why_not(address: IPAddress, allowed: Iterable[Network] = ()) -> str | None:
    """Why an address must not be talked to; None where it may.

    Args:
        address: A resolved address.
        allowed: Networks that may be talked to all the same (tests on loopback).
    """
    if any(address in network for network in allowed if network.version == address.version):
        return None
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id is not None:
            return "scoped"
        inner = embedded(address)
        if inner is not None:
            return None if why_not(inner, allowed) is None and address.ipv4_mapped is None else "embedded"
    if any(address in network for network in _NEVER if network.version == address.version):
        return "special"
    return None if address.is_global and not address.is_multicast else "special"


def embedded(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that an IPv6 address stands for, in every known form."""
    number = int(address)
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if any(address in network for network in _NAT64) or (address in _COMPATIBLE and number > 0xFFFF):
        return ipaddress.IPv4Address(number & 0xFFFFFFFF)
    if address in _TEREDO:
        return ipaddress.IPv4Address(number & 0xFFFFFFFF ^ 0xFFFFFFFF)
    if number >> 32 & 0xFFFFFFFF in _ISATAP:
        return ipaddress.IPv4Address(number & 0xFFFFFFFF)
    return None
