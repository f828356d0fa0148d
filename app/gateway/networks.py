"""Networks of data centres, from an optional file: where programs run, and people rarely are.

One network per line in CIDR notation (RFC 4632; IPv6: RFC 4291), ``#`` begins a comment. Providers publish such
lists; none is shipped. The file is read once, at the start; a line that is none is passed over, counted and named.
"""

from __future__ import annotations

import ipaddress
from bisect import bisect_right
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

import structlog

log = structlog.get_logger(__name__)

_MAX_PROBLEMS = 5


class Networks:
    """Tells whether an address is in one of many networks.

    Args:
        lines: In CIDR notation.
    """

    def __init__(self, lines: Iterable[str] = ()) -> None:
        spans: dict[int, list[tuple[int, int]]] = {4: [], 6: []}
        self.refused = 0
        self.problems: list[str] = []
        for number, line in enumerate(lines, 1):
            text = line.partition("#")[0].strip()
            if not text:
                continue
            try:
                found = ipaddress.ip_network(text, strict=False)
            except ValueError:
                self.refused += 1
                if len(self.problems) < _MAX_PROBLEMS:
                    self.problems.append(f"line {number}: {text[:60]!r} is no network")
                continue
            spans[found.version].append((int(found.network_address), int(found.broadcast_address)))
        self._starts: dict[int, list[int]] = {}
        self._ends: dict[int, list[int]] = {}
        for version, found_spans in spans.items():
            joined: list[tuple[int, int]] = []
            for start, end in sorted(found_spans):
                if joined and start <= joined[-1][1] + 1:
                    joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
                else:
                    joined.append((start, end))
            self._starts[version] = [start for start, _ in joined]
            self._ends[version] = [end for _, end in joined]
        # Clicks of one address come together.
        self._look = lru_cache(maxsize=8_192)(self._contains)

    @classmethod
    def read(cls, path: Path | None) -> Networks:
        """The networks of a file; none where there is no file, or where it cannot be read (which is logged)."""
        if path is None:
            return cls()
        try:
            made = cls(path.read_text("utf-8", "replace").splitlines())
        except OSError as error:
            log.error("networks.unreadable", path=str(path), error=str(error))
            return cls()
        log.info("networks.read", networks=len(made), refused=made.refused, problems=made.problems)
        return made

    def __len__(self) -> int:
        return sum(map(len, self._starts.values()))

    def __contains__(self, address: str) -> bool:
        return bool(self._starts[4] or self._starts[6]) and self._look(address)

    def _contains(self, address: str) -> bool:
        try:
            found = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return False
        if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
            found = found.ipv4_mapped
        number = int(found)
        at = bisect_right(self._starts[found.version], number) - 1
        return at >= 0 and number <= self._ends[found.version][at]
