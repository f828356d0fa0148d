"""Lists of prefixes: removals, additions, checksum, and the file that gateways map."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.verdicts.sources.safe_browsing_file import PrefixFile
from app.verdicts.sources.safe_browsing_prefixes import (
    BadUpdate,
    PrefixList,
    dump,
    load,
    raw_prefixes,
)

PREFIXES = st.sets(st.binary(min_size=4, max_size=8) | st.binary(min_size=32, max_size=32), max_size=40)


def list_of(prefixes: set[bytes], version: bytes = b"v1") -> PrefixList:
    made = PrefixList("MALWARE")
    short, long = [], []
    for prefix in prefixes:
        numbers, others = raw_prefixes(prefix, len(prefix))
        short.append(numbers)
        long += others
    return made.changed(version, [], short, long)


@given(PREFIXES)
def test_checksum_is_over_the_sorted_prefixes(prefixes: set[bytes]) -> None:
    made = list_of(prefixes)
    assert made.prefixes() == sorted(prefixes)
    assert made.checksum() == hashlib.sha256(b"".join(sorted(prefixes))).digest()


@given(PREFIXES, PREFIXES, st.data())
def test_an_update_removes_by_index_and_then_adds(old: set[bytes], new: set[bytes], data: st.DataObject) -> None:
    ordered = sorted(old)
    indices = data.draw(st.sets(st.integers(0, len(ordered) - 1))) if ordered else set()
    added = new - old
    expected = sorted({prefix for at, prefix in enumerate(ordered) if at not in indices} | added)
    short, long = [], []
    for prefix in added:
        numbers, others = raw_prefixes(prefix, len(prefix))
        short.append(numbers)
        long += others
    changed = list_of(old).changed(b"v2", sorted(indices), short, long)
    assert changed.prefixes() == expected
    assert changed.version == b"v2"
    assert changed.checksum() == hashlib.sha256(b"".join(expected)).digest()


@given(PREFIXES, st.binary(max_size=20))
def test_a_file_gives_back_its_lists(prefixes: set[bytes], version: bytes) -> None:
    content = dump([list_of(prefixes, version), PrefixList("EMPTY")])
    found = load(content, ["MALWARE", "OTHER"])
    assert found["MALWARE"].prefixes() == sorted(prefixes)
    assert found["MALWARE"].version == version
    assert len(found["OTHER"]) == 0
    assert set(found) == {"MALWARE", "OTHER"}


@given(PREFIXES, PREFIXES)
def test_the_mapped_file_finds_exactly_what_is_listed(listed: set[bytes], others: set[bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        path.write_bytes(dump([list_of(listed)]))
        mapped = PrefixFile(path)
        assert len(mapped) == len(listed)
        for full in [(prefix + bytes(32))[:32] for prefix in listed | others]:
            found = {hit.prefix for hit in mapped.find(full)}
            assert found == {prefix for prefix in listed if full.startswith(prefix)}


@given(PREFIXES, st.data())
def test_a_damaged_file_is_refused(prefixes: set[bytes], data: st.DataObject) -> None:
    content = bytearray(dump([list_of(prefixes)]))
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(ValueError):
        load(bytes(content), ["MALWARE"])
    with pytest.raises(ValueError):
        load(bytes(content[: at or 1]), ["MALWARE"])


def test_an_index_outside_of_the_list_is_refused() -> None:
    with pytest.raises(BadUpdate, match="index 2"):
        list_of({b"aaaa", b"bbbb"}).changed(b"", [2], [], [])


def test_bytes_that_are_no_whole_prefixes_are_refused() -> None:
    with pytest.raises(BadUpdate):
        raw_prefixes(b"12345", 4)
    with pytest.raises(BadUpdate):
        raw_prefixes(b"123", 3)
