"""Golomb-Rice coded numbers, as Safe Browsing v4 and v5 and Web Risk send hash prefixes and removal indices. PURE.

A first value stands in the open; what follows are the differences of ascending numbers. Each is split at the
parameter ``k``: the quotient in unary (ones, ended by a zero), the remainder in ``k`` bits, both with the least
significant bit first. The byte string is filled from the least significant bit of its first byte on.

References:
    https://developers.google.com/safe-browsing/v4/compression
    https://developers.google.com/safe-browsing/reference/Local.Database (v5: also 64 to 256 bits, big-endian prefixes)
    https://cloud.google.com/web-risk/docs/compression
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

MAX_ENTRIES: Final = 1 << 26
"""More in one answer are not decoded: the largest list has some millions."""

_CHUNK: Final = 64


class BadEncoding(ValueError):
    """The data do not decode: cut off, or with numbers that do not fit."""


def decode(data: bytes, *, first: int, count: int, parameter: int, bits: int = 32) -> Iterator[int]:
    """The numbers, ascending: ``count + 1`` of them.

    Args:
        data: The encoded differences.
        first: The first value.
        count: How many differences there are; 0: the first value is the only one.
        parameter: The Rice parameter, in bits; means nothing where ``count`` is 0.
        bits: Size of the numbers: 32, 64, 128 or 256.

    Raises:
        BadEncoding: While iterating: cut off, or a number is larger than it can be.
    """
    if not 0 <= count <= MAX_ENTRIES:
        raise BadEncoding(f"{count} entries in one list")
    limit = 1 << bits
    if not 0 <= first < limit:
        raise BadEncoding("the first value is too large")
    if count and not 0 < parameter < bits:
        raise BadEncoding(f"a Rice parameter of {parameter}")
    yield first
    value = first
    mask = (1 << parameter) - 1 if count else 0
    most = (limit >> parameter) + 1 if count else 0
    held = 0
    have = 0
    position = 0
    for _ in range(count):
        quotient = 0
        while True:
            ones = (~held & (held + 1)).bit_length() - 1
            if ones < have:
                quotient += ones
                held >>= ones + 1
                have -= ones + 1
                break
            quotient += have
            if quotient > most:
                raise BadEncoding("a number is too large")
            chunk = data[position : position + _CHUNK]
            if not chunk:
                raise BadEncoding("the data are cut off")
            position += len(chunk)
            held, have = int.from_bytes(chunk, "little"), 8 * len(chunk)
        while have < parameter:
            chunk = data[position : position + _CHUNK]
            if not chunk:
                raise BadEncoding("the data are cut off")
            position += len(chunk)
            held |= int.from_bytes(chunk, "little") << have
            have += 8 * len(chunk)
        value += (quotient << parameter) | (held & mask)
        held >>= parameter
        have -= parameter
        if value >= limit:
            raise BadEncoding("a number is too large")
        yield value
