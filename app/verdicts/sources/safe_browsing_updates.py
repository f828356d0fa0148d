"""Updates of lists of hash prefixes, as the three protocols send them. For the worker: decoding needs numpy.

An update that does not fit (checksum, index, encoding) is disregarded for its list alone: the prefixes stay in force
and the version is forgotten, so that the next update brings the whole list. Nothing is asked again at once, since
servers say how long they want to be left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from app.verdicts.sources.files import Renewed
from app.verdicts.sources.safe_browsing_json import bytes_of
from app.verdicts.sources.safe_browsing_prefixes import (
    BadUpdate,
    PrefixList,
    dump,
    little_endian,
    load,
    raw_prefixes,
    short_prefixes,
)
from app.verdicts.sources.safe_browsing_rice import BadEncoding, decode
from app.verdicts.sources.types import MAX_PROBLEMS, SourceFailed

_READING_ERRORS: Final = (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError)
MOST_WAIT_SECONDS: Final = 7 * 86_400.0
"""A server that wants to be left alone for longer is asked anyway."""


@dataclass(slots=True)
class Changes:
    """An update of one list.

    Attributes:
        whole: It replaces the list.
        version: Of the result.
        checksum: SHA-256 that the result must have.
        removals: Indices.
        short: 4-byte prefixes.
        long: Longer ones.
    """

    whole: bool
    version: bytes
    checksum: bytes
    removals: Sequence[int] = ()
    short: list[npt.NDArray[np.uint32]] = field(default_factory=list)
    long: list[bytes] = field(default_factory=list)


class Lists:
    """All lists of a source while they are brought up to date.

    Args:
        previous: The file in force; one that is damaged counts as none.
        names: The lists that are wanted.
    """

    def __init__(self, previous: bytes | None, names: Sequence[str]) -> None:
        self._previous = previous
        try:
            self._lists = load(previous, names)
        except ValueError:
            self._previous = None
            self._lists = load(None, names)
        self._used = 0
        self._refused = 0
        self._problems: list[str] = []

    def version(self, name: str) -> bytes:
        """What the server wants back; empty: everything is wanted."""
        return self._lists[name].version

    def refuse(self, problem: str) -> None:
        """Count an update that was not used."""
        self._refused += 1
        if len(self._problems) < MAX_PROBLEMS:
            self._problems.append(problem[:200])

    def update(self, name: str, read: Callable[[], Changes]) -> None:
        """Take in an update of one list.

        Args:
            name: Of the list.
            read: Reads the update; whatever is wrong with it is this list's problem alone.
        """
        before = self._lists.get(name)
        if before is None:
            self.refuse(f"{name}: not asked for")
            return
        try:
            changes = read()
            start = PrefixList(name) if changes.whole else before
            after = start.changed(changes.version, changes.removals, changes.short, changes.long)
            if after.checksum() != changes.checksum:
                raise BadUpdate("the checksum is not that of the result")
        except _READING_ERRORS as error:
            known = isinstance(error, BadUpdate | BadEncoding)
            self.refuse(f"{name}: {error if known else f'it cannot be read ({type(error).__name__})'}")
            after = PrefixList(name, b"", before.short, before.long)
        else:
            self._used += 1
        self._lists[name] = after

    def renewed(self, wait: float | None, title: str) -> Renewed:
        """The new file.

        Args:
            wait: For how long the server wants not to be asked, in seconds.
            title: Of the source.

        Raises:
            SourceFailed: Nothing could be used, and no list is to be sent anew because of it.
        """
        wait = None if wait is None else min(wait, MOST_WAIT_SECONDS)
        content = dump(self._lists.values())
        unchanged = content == self._previous
        if self._problems and not self._used and (unchanged or self._previous is None):
            raise SourceFailed(
                f"{title} sent no update that could be used ({self._problems[0]}). What was there stays in force.",
                reason="format",
                retry_after=wait,
            )
        entries = sum(len(one) for one in self._lists.values())
        return Renewed(None if unchanged else content, wait, entries, self._refused, tuple(self._problems))


def v4_changes(update: Mapping[str, Any]) -> Changes:
    """A ``ListUpdateResponse`` of Safe Browsing v4."""
    kind = update.get("responseType")
    if kind not in ("FULL_UPDATE", "PARTIAL_UPDATE"):
        raise BadUpdate(f"an update of the kind {kind}")
    changes = Changes(
        kind == "FULL_UPDATE", bytes_of(update.get("newClientState", "")), bytes_of(update["checksum"]["sha256"])
    )
    for part in update.get("additions", []):
        _add_raw(changes, [part["rawHashes"]] if "rawHashes" in part else [])
        _add_rice(changes, part.get("riceHashes"), "numEntries")
    removals: list[int] = []
    for part in update.get("removals", []):
        removals += _indices(part, "numEntries")
    changes.removals = removals
    return changes


def web_risk_changes(diff: Mapping[str, Any]) -> Changes:
    """A ``ComputeThreatListDiffResponse`` of Web Risk."""
    kind = diff.get("responseType")
    if kind not in ("DIFF", "RESET"):
        raise BadUpdate(f"an update of the kind {kind}")
    changes = Changes(kind == "RESET", bytes_of(diff.get("newVersionToken", "")), bytes_of(diff["checksum"]["sha256"]))
    additions = diff.get("additions", {})
    _add_raw(changes, additions.get("rawHashes", []))
    _add_rice(changes, additions.get("riceHashes"), "entryCount")
    changes.removals = _indices(diff.get("removals", {}), "entryCount")
    return changes


def v5_changes(hash_list: Any) -> Changes:
    """A ``HashList`` message of Safe Browsing v5: prefixes of one length, big-endian, so that their order is theirs."""
    if not hash_list.sha256_checksum:
        raise BadUpdate("there is no checksum")
    changes = Changes(not hash_list.partial_update, hash_list.version, hash_list.sha256_checksum)
    additions = hash_list.WhichOneof("compressed_additions")
    if additions is not None:
        data = getattr(hash_list, additions)
        first, size = _v5_first(additions, data)
        values = decode(
            data.encoded_data, first=first, count=data.entries_count, parameter=data.rice_parameter, bits=8 * size
        )
        if size == 4:
            changes.short.append(short_prefixes(values, data.entries_count + 1))
        else:
            changes.long += [value.to_bytes(size, "big") for value in values]
    if hash_list.HasField("compressed_removals"):
        if changes.whole:
            raise BadUpdate("a whole list with removals")
        data = hash_list.compressed_removals
        values = decode(
            data.encoded_data, first=data.first_value, count=data.entries_count, parameter=data.rice_parameter
        )
        changes.removals = list(values)
    return changes


def _v5_first(additions: str, data: Any) -> tuple[int, int]:
    """The first value, and the bytes of each."""
    if additions == "additions_four_bytes":
        return data.first_value, 4
    if additions == "additions_eight_bytes":
        return data.first_value, 8
    if additions == "additions_sixteen_bytes":
        return data.first_value_hi << 64 | data.first_value_lo, 16
    parts = (
        data.first_value_first_part,
        data.first_value_second_part,
        data.first_value_third_part,
        data.first_value_fourth_part,
    )
    value = 0
    for part in parts:
        value = value << 64 | part
    return value, 32


def _add_raw(changes: Changes, sets: Iterable[Mapping[str, Any]]) -> None:
    for data in sets:
        short, long = raw_prefixes(bytes_of(data.get("rawHashes", "")), int(data.get("prefixSize", 0)))
        if len(short):
            changes.short.append(short)
        changes.long += long


def _add_rice(changes: Changes, data: Mapping[str, Any] | None, count_name: str) -> None:
    """Prefixes as numbers whose least byte is the first one of the hash."""
    if data is not None:
        changes.short.append(little_endian(_rice_numbers(data, count_name)))


def _indices(removals: Mapping[str, Any], count_name: str) -> list[int]:
    found = [int(index) for index in removals.get("rawIndices", {}).get("indices", [])]
    if "riceIndices" in removals:
        found += _rice_numbers(removals["riceIndices"], count_name).tolist()
    return found


def _rice_numbers(data: Mapping[str, Any], count_name: str) -> npt.NDArray[np.uint32]:
    count = int(data.get(count_name, 0))
    values = decode(
        bytes_of(data.get("encodedData", "")),
        first=int(data.get("firstValue", 0)),
        count=count,
        parameter=int(data.get("riceParameter", 0)),
    )
    return short_prefixes(values, count + 1)
