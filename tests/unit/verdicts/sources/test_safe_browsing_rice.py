"""Rice decoding against the worked example of the documentation, and against an encoder of its own."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.verdicts.sources.safe_browsing_rice import BadEncoding, decode
from tests.unit.verdicts.sources.rice_encoder import best_parameter, rice_encode

# https://developers.google.com/safe-browsing/reference/Local.Database: three expressions, 4-byte prefixes, k = 30.
EXAMPLE = ("a.example.com/", "b.example.com/", "y.example.com/")
EXAMPLE_BITS = "00111010001001001111011010001101110010111110100100000000001110100"


def test_worked_example_of_the_documentation_decodes() -> None:
    prefixes = sorted(hashlib.sha256(text.encode()).digest()[:4] for text in EXAMPLE)
    assert [prefix.hex() for prefix in prefixes] == ["1d32c508", "291bc542", "f7a502e5"]
    data = int(EXAMPLE_BITS, 2).to_bytes(9, "little")
    assert data[:2] == bytes([0b01110100, 0b00000000])
    found = [value.to_bytes(4, "big") for value in decode(data, first=0x1D32C508, count=2, parameter=30)]
    assert found == prefixes


@given(st.data(), st.sampled_from([32, 64, 128, 256]))
def test_what_was_encoded_decodes_to_itself(data: st.DataObject, bits: int) -> None:
    numbers = sorted(data.draw(st.sets(st.integers(0, (1 << bits) - 1), min_size=1, max_size=40)))
    parameter = best_parameter(numbers, 2, bits - 2)
    encoded = rice_encode(numbers, parameter)
    decoded = decode(encoded, first=numbers[0], count=len(numbers) - 1, parameter=parameter, bits=bits)
    assert list(decoded) == numbers


@given(st.lists(st.integers(0, 1 << 12), min_size=1, max_size=300), st.integers(2, 6))
def test_small_differences_with_long_unary_parts_decode(steps: list[int], parameter: int) -> None:
    numbers = [7]
    for step in steps:
        numbers.append(numbers[-1] + step)
    decoded = decode(rice_encode(numbers, parameter), first=7, count=len(steps), parameter=parameter)
    assert list(decoded) == numbers


def test_a_single_number_stands_in_the_first_value() -> None:
    assert list(decode(b"", first=42, count=0, parameter=0)) == [42]


@given(st.lists(st.integers(0, 2**32 - 1), min_size=3, max_size=40, unique=True), st.data())
def test_cut_off_data_are_refused(numbers: list[int], data: st.DataObject) -> None:
    numbers.sort()
    parameter = best_parameter(numbers, 2, 28)
    encoded = rice_encode(numbers, parameter)
    kept = data.draw(st.integers(0, len(encoded) - 1))
    with pytest.raises(BadEncoding):
        list(decode(encoded[:kept], first=numbers[0], count=len(numbers) - 1, parameter=parameter))


@given(st.binary(max_size=80), st.integers(0, 2**32 - 1), st.integers(0, 60), st.integers(-3, 40))
def test_any_bytes_give_ascending_numbers_or_a_refusal(data: bytes, first: int, count: int, parameter: int) -> None:
    try:
        found = list(decode(data, first=first, count=count, parameter=parameter))
    except BadEncoding:
        return
    assert len(found) == count + 1
    assert found == sorted(found)
    assert found[-1] < 1 << 32


def test_an_endless_unary_part_is_refused_before_it_fills_the_memory() -> None:
    with pytest.raises(BadEncoding, match="too large"):
        list(decode(b"\xff" * 1_000_000, first=0, count=1, parameter=28))
