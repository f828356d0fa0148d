"""Encodes what the servers of Safe Browsing and Web Risk send; the application only decodes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise


def rice_encode(numbers: Sequence[int], parameter: int) -> bytes:
    """The differences of ascending numbers, as bits written out one after the other."""
    bits: list[int] = []
    for before, after in pairwise(numbers):
        quotient, remainder = divmod(after - before, 1 << parameter)
        bits += [1] * quotient + [0]
        bits += [remainder >> place & 1 for place in range(parameter)]
    data = bytearray((len(bits) + 7) // 8)
    for place, bit in enumerate(bits):
        data[place // 8] |= bit << place % 8
    return bytes(data)


def best_parameter(numbers: Sequence[int], least: int, most: int) -> int:
    """A parameter that keeps quotients small, as a server chooses it."""
    widest = max((after - before for before, after in pairwise(numbers)), default=0)
    return max(least, min(most, widest.bit_length() - 2))
