"""A feed store of ten million addresses: processor time to build, size, and processor time of a look-up.

Run with ``make bench-feeds`` or ``python -m tests.bench.gateway_feed_store``. A look-up is everything from the address
as it stands in a link to the signals: canonical form, all host and path expressions, search. Two kinds are
measured: addresses that are not listed (nearly all clicks), and listed ones. Processor time: the machine is shared.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from app.verdicts.canonical import lookup_expressions
from app.verdicts.feed_build import build
from app.verdicts.feed_store import MappedStore

_BATCH = 20


def listed(count: int) -> Iterator[str]:
    """Addresses as lists have them."""
    for number in range(count):
        yield f"http://host-{number % 3_000_000}.example.net/path/{number:x}/index.html"


def each_us(work: Callable[[str], object], urls: list[str]) -> list[float]:
    """Processor time per address in microseconds; the clock is read once for twenty."""
    found = []
    for first in range(0, len(urls), _BATCH):
        some = urls[first : first + _BATCH]
        began = time.process_time_ns()
        for url in some:
            work(url)
        found.append((time.process_time_ns() - began) / len(some) / 1000)
    return found


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "store.pfs"
        began, cpu = time.perf_counter(), time.process_time()
        report = build(path, [("bench", listed(options.count))])
        built, built_cpu = time.perf_counter() - began, time.process_time() - cpu
        cpu = time.process_time()
        store = MappedStore(path)
        opened = time.process_time() - cpu
        randomness = random.Random(1)
        strange = [
            f"https://www.site-{randomness.randrange(10**6)}.example.org/2026/11/page.html?id={randomness.random()}"
            for _ in range(20_000)
        ]
        known = [
            f"http://host-{number % 3_000_000}.example.net/path/{number:x}/index.html"
            for number in (randomness.randrange(options.count) for _ in range(20_000))
        ]
        unlisted, hit = each_us(store.signals, strange), each_us(store.signals, known)
        plain = each_us(lambda url: store.find(lookup_expressions(url)), strange)
        found = {
            "entries": report.entries,
            "build_seconds": round(built, 1),
            "build_cpu_seconds": round(built_cpu, 1),
            "build_peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000, 1),
            "file_mb": round(path.stat().st_size / 1e6, 1),
            "open_and_check_cpu_ms": round(opened * 1e3, 1),
            "expressions_per_url": len(lookup_expressions(strange[0])),
            "lookup_us_median": round(statistics.median(unlisted), 1),
            "lookup_us_p99": round(statistics.quantiles(unlisted, n=100)[98], 1),
            "lookup_listed_us_median": round(statistics.median(hit), 1),
            "lookup_each_expression_us_median": round(statistics.median(plain), 1),
            "hits_of_20000_listed": sum(bool(store.signals(url)) for url in known),
            "hits_of_20000_not_listed": sum(bool(store.signals(url)) for url in strange),
        }
    sys.stdout.write(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
