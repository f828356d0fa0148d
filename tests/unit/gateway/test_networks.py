"""Networks of data centres: what is in them, and what a file may hold."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.gateway.networks import Networks

LINES = (
    "# published by somebody",
    "",
    "203.0.113.0/24   # a comment",
    "198.51.100.7",
    "10.0.0.0/9",
    "10.128.0.0/9",
    "2001:db8:1::/48",
    "no network",
    "300.1.1.1/8",
)


@pytest.mark.parametrize(
    ("address", "inside"),
    [
        ("203.0.113.0", True),
        ("203.0.113.255", True),
        ("203.0.114.0", False),
        ("203.0.112.255", False),
        ("198.51.100.7", True),
        ("198.51.100.8", False),
        ("10.255.255.255", True),
        ("11.0.0.0", False),
        ("2001:db8:1:ffff::1", True),
        ("2001:db8:2::1", False),
        ("::ffff:203.0.113.9", True),
        ("fe80::1%eth0", False),
        ("", False),
        ("unix:", False),
    ],
)
def test_an_address_is_found_where_it_is(address: str, inside: bool) -> None:
    assert (address in Networks(LINES)) is inside


def test_lines_that_are_no_network_are_passed_over_by_name() -> None:
    found = Networks(LINES)
    assert len(found) == 4, "neighbours are joined"
    assert found.refused == 2
    assert found.problems == ["line 8: 'no network' is no network", "line 9: '300.1.1.1/8' is no network"]


def test_without_a_file_or_with_one_that_cannot_be_read_nothing_is_a_data_centre(tmp_path: Path) -> None:
    for found in (Networks.read(None), Networks.read(tmp_path / "absent"), Networks.read(tmp_path)):
        assert len(found) == 0
        assert "203.0.113.1" not in found


@given(
    st.lists(
        st.ip_addresses().flatmap(
            lambda address: st.integers(0, address.max_prefixlen).map(lambda length: f"{address}/{length}")
        ),
        max_size=12,
    ),
    st.ip_addresses(),
)
def test_it_agrees_with_looking_into_each_network(lines: list[str], address: ipaddress.IPv4Address) -> None:
    mapped = getattr(address, "ipv4_mapped", None) or address
    expected = any(mapped in ipaddress.ip_network(line, strict=False) for line in lines)
    assert (str(address) in Networks(lines)) is expected
