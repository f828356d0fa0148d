"""A feed store of ten million addresses: time to build, size, and time of a look-up.

Run with ``python -m tests.bench.gateway_feed_store``.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from app.verdicts.canonical import lookup_expressions
from app.verdicts.feed_build import build
from app.verdicts.feed_store import MappedStore


def listed(count: int) -> Iterator[str]:
    """Addresses as lists have them."""
    for number in range(count):
        yield f"http://host-{number % 3_000_000}.example.net/path/{number:x}/index.html"


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "store.pfs"
        began = time.perf_counter()
        report = build(path, [("bench", listed(options.count))])
        built = time.perf_counter() - began
        began = time.perf_counter()
        store = MappedStore(path)
        opened = time.perf_counter() - began
        randomness = random.Random(1)
        urls = [
            f"https://www.site-{randomness.randrange(10**6)}.example.org/2026/11/page.html?id={randomness.random()}"
            for _ in range(20_000)
        ]
        lookups, whole = [], []
        for url in urls:
            began = time.perf_counter()
            expressions = lookup_expressions(url)
            middle = time.perf_counter()
            store.find(expressions)
            end = time.perf_counter()
            lookups.append(end - middle)
            whole.append(end - began)
        hits = sum(bool(store.find(lookup_expressions(url))) for url in listed(1_000))
        found = {
            "entries": report.entries,
            "build_seconds": round(built, 1),
            "file_mb": round(path.stat().st_size / 1e6, 1),
            "open_and_check_ms": round(opened * 1e3, 1),
            "expressions_per_url": len(lookup_expressions(urls[0])),
            "lookup_us_median": round(statistics.median(lookups) * 1e6, 1),
            "with_canonical_form_us_median": round(statistics.median(whole) * 1e6, 1),
            "hits_of_1000_listed": hits,
        }
    sys.stdout.write(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
