"""How long a site's name has been known, from a list of newly registered or newly seen domains.

The list is text with a domain a line, or CSV with a header, with the day in a second column or not: a domain without
a day counts as seen on the day it first came with the list. Days are written as in ISO 8601; what is written in
another way is passed over, not guessed. The worker makes a file of the names that are young enough; a look-up is a
binary search in memory.

Layout of the file, little endian: 8 bytes magic "PSTNAGE1", 8 bytes number of names, 4 bytes CRC-32 of the rest,
4 bytes zero; then 8 bytes per name (its BLAKE2b hash, ascending), then 4 bytes per name (its day, since 1970-01-01).
"""

from __future__ import annotations

import asyncio
import csv
import hashlib
import io
import mmap
import struct
import sys
import time
import zlib
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date, timedelta
from pathlib import Path
from typing import IO, Final

from app.kit.clock import Clock, utc_now
from app.messages.hosts import host_of, is_ip, registrable_domain
from app.verdicts.scoring import Signal
from app.verdicts.sources.base import KEPT, ConfiguredSource, opened, require_ok
from app.verdicts.sources.files import Renewed, WatchedFile, file_name, option_number
from app.verdicts.sources.types import Cost, SourceClient, SourceConfig, SourceFailed, Tally, Target

MAGIC: Final = b"PSTNAGE1"
HEAD: Final = struct.Struct("<8sQII")
DAYS: Final = 30
VERY_YOUNG_DAYS: Final = 7
MAX_NAMES: Final = 20_000_000
MAX_BYTES: Final = 1 << 30
_EPOCH: Final = date(1970, 1, 1)
_NAME_COLUMNS: Final = ("domain", "domain_name", "domainname", "name", "fqdn", "host")
_DAY_COLUMNS: Final = (
    "first_seen",
    "firstseen",
    "first seen",
    "first seen date",
    "first_seen_date",
    "created",
    "created_date",
    "create_date",
    "creation_date",
    "registered",
    "registration_date",
    "date",
)


def name_key(domain: str) -> int:
    """The key of a registrable domain."""
    return int.from_bytes(hashlib.blake2b(domain.encode(), digest_size=8).digest(), "little")


def read_names(lines: Iterable[str], tally: Tally) -> Iterator[tuple[str, date | None]]:
    """The registrable domains of a list, with the day where one is given.

    Args:
        lines: The list's text.
        tally: Counts what is passed over.
    """
    name_at, day_at = 0, 1
    first = True
    for row in csv.reader(_plain(lines), skipinitialspace=True):
        cells = [cell.strip() for cell in row]
        if first:
            first = False
            lowered = [cell.lower() for cell in cells]
            if any(cell in _NAME_COLUMNS for cell in lowered):
                name_at = next(at for at, cell in enumerate(lowered) if cell in _NAME_COLUMNS)
                day_at = next((at for at, cell in enumerate(lowered) if cell in _DAY_COLUMNS), -1)
                continue
        text = cells[name_at] if name_at < len(cells) else ""
        host = host_of(f"http://{text}/") if text and "/" not in text else None
        domain = None if host is None or is_ip(host) else registrable_domain(host)
        if domain is None:
            tally.refuse(f"“{text[:80]}” is no domain")
            continue
        written = cells[day_at] if 0 <= day_at < len(cells) else ""
        if not written:
            yield domain, None
            continue
        try:
            yield domain, date.fromisoformat(written[:10])
        except ValueError:
            tally.refuse(f"{domain}: “{written[:40]}” is no day in ISO 8601")


def _plain(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        text = line.strip().lstrip("\ufeff").replace("\0", "")
        if text and not text.startswith("#"):
            # Columns are parted by commas, or by tabs or semicolons where there is no comma.
            yield text if "," in text else text.replace("\t", ",").replace(";", ",")


def build(names: Mapping[int, int]) -> bytes:
    """A file.

    Args:
        names: Key of a name -> its day, in days since 1970-01-01.
    """
    ordered = sorted(names)
    keys = array("Q", ordered)
    days = array("I", [names[key] for key in ordered])
    if sys.byteorder != "little":
        keys.byteswap()
        days.byteswap()
    body = keys.tobytes() + days.tobytes()
    return HEAD.pack(MAGIC, len(ordered), zlib.crc32(body), 0) + body


class AgeFile:
    """A file of young names.

    Args:
        content: Its bytes, or a map of them.

    Raises:
        ValueError: It is damaged.
    """

    def __init__(self, content: bytes | mmap.mmap) -> None:
        if sys.byteorder != "little":
            raise ValueError("files of young names need a little-endian machine")
        if len(content) < HEAD.size:
            raise ValueError("cut off")
        whole = memoryview(content)
        magic, count, checksum, _ = HEAD.unpack_from(whole)
        body = whole[HEAD.size :]
        if magic != MAGIC:
            raise ValueError("not a file of young names")
        if len(body) != count * 12 or zlib.crc32(body) != checksum:
            raise ValueError("cut off or changed")
        self._keys = body[: count * 8].cast("Q")
        self._days = body[count * 8 :].cast("I")

    @classmethod
    def open(cls, path: Path) -> AgeFile:
        """Map a file.

        Raises:
            ValueError: It is damaged.
            OSError: It cannot be read.
        """
        with path.open("rb") as file:
            return cls(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ))

    def __len__(self) -> int:
        return len(self._keys)

    def items(self) -> Iterator[tuple[int, int]]:
        """Key and day of all names."""
        return zip(self._keys, self._days, strict=True)

    def day_of(self, domain: str) -> date | None:
        """When a registrable domain was first seen; None where it is not young, or not known."""
        key = name_key(domain)
        at = bisect_left(self._keys, key)
        if at < len(self._keys) and self._keys[at] == key:
            return _EPOCH + timedelta(days=self._days[at])
        return None


class DomainAge(ConfiguredSource):
    """Young names. Options: ``days`` (30; older names say nothing).

    Args:
        config: As it was set up; the address is ``http(s)://...`` or ``file:...``.
        secret: The value of an ``Authorization`` header, or empty.
        clock: Aware UTC, for tests.
        monotonic: Seconds, for tests.
    """

    cost: Cost = "inline"

    def __init__(
        self,
        config: SourceConfig,
        secret: str,
        *,
        clock: Clock = utc_now,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(config, secret, clock=clock)
        self._monotonic = monotonic
        self._file: WatchedFile[AgeFile] | None = None
        self.days = max(1, option_number(config, "days", DAYS))
        """Up to which age a name is young."""

    def use(self, folder: Path, client: SourceClient) -> None:
        """Answer from the file in this folder; see :class:`app.verdicts.sources.files.FileSource`."""
        self._file = WatchedFile(folder / file_name(self._config), AgeFile.open, self._monotonic)

    async def inspect(self, target: Target, deadline: float) -> Signal | None:
        """The age of the site's name, where it is young."""
        ages = None if self._file is None else self._file.current()
        domain = None if is_ip(target.host) else registrable_domain(target.host.rstrip("."))
        day = None if ages is None or domain is None else ages.day_of(domain)
        if day is None or domain is None:
            return None
        days = max(0, (self._clock().date() - day).days)
        if days > self.days:
            return None
        code = {0: "young_today", 1: "young_yesterday"}.get(days, "young_days")
        weight = self._config.weight if days <= VERY_YOUNG_DAYS else self._config.weight // 2
        fields: tuple[tuple[str, str], ...] = (("site", domain), ("date", day.isoformat()), ("list", self.name))
        if code == "young_days":
            fields = (*fields, ("days", str(days)))
        return Signal(code, weight, fields, self.name)

    async def aclose(self) -> None:
        """Nothing is held."""

    async def renew(self, client: SourceClient, previous: bytes | None) -> Renewed:
        """Read the list anew; see :class:`app.verdicts.sources.files.FileSource`.

        Raises:
            SourceFailed: It cannot be read, or names nothing.
        """
        if self._config.address.startswith("file:"):
            with opened(self._config.address, KEPT) as file:
                return await asyncio.to_thread(self._made, file, previous)
        headers = {"authorization": self._secret} if self._secret else {}
        async with client.fetch(self._config.address, headers=headers, max_bytes=MAX_BYTES) as fetched:
            require_ok(fetched, self.name, KEPT)
            return await asyncio.to_thread(self._made, fetched.body, previous)

    def _made(self, body: IO[bytes], previous: bytes | None) -> Renewed:
        today = self._clock().date()
        before = _before(previous)
        tally = Tally()
        names: dict[int, int] = {}
        listed = 0
        text = io.TextIOWrapper(io.BytesIO(body.read(MAX_BYTES)), encoding="utf-8-sig", errors="replace")
        try:
            for domain, day in read_names(text, tally):
                listed += 1
                if day is not None and day > today + timedelta(days=1):
                    tally.refuse(f"{domain}: {day.isoformat()} is still to come")
                    continue
                key = name_key(domain)
                first = (today if day is None else day).toordinal() - _EPOCH.toordinal()
                if day is None:
                    first = before.get(key, first)
                names[key] = min(first, names.get(key, first))
                if len(names) > MAX_NAMES:
                    raise SourceFailed(f"{self.name} lists too many names. None was used.", reason="too_large")
        except csv.Error as error:
            raise SourceFailed(f"{self.name} is no CSV: {error}. None of it was used.", reason="format") from None
        if not listed:
            raise SourceFailed(f"{self.name} lists no domain. What was there stays in force.", reason="format")
        earliest = (today - timedelta(days=self.days)).toordinal() - _EPOCH.toordinal()
        content = build({key: day for key, day in names.items() if day >= earliest})
        entries = (len(content) - HEAD.size) // 12
        return Renewed(None if content == previous else content, None, entries, tally.refused, tuple(tally.problems))


def _before(previous: bytes | None) -> dict[int, int]:
    """Days that are known already."""
    if previous is None:
        return {}
    try:
        return dict(AgeFile(previous).items())
    except ValueError:
        return {}
