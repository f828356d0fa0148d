"""PostgreSQL stopped for a minute at 300 clicks/s, and the gateway killed with -9 in the middle.

Run with ``python -m tests.bench.outage``; :mod:`tests.chaos.gateway_outage` does it. Printed: clicks answered
and failed, those missing and doubled in the database afterwards, and latencies before, during and after. It ends with
status 1 where a click failed beyond the kill, or one is missing or counted twice.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.chaos.gateway_outage import Report, run_outage


def _ends(moments: Iterable[float]) -> list[float]:
    """The first and the last; none of none."""
    found = sorted(moments)
    return [found[0], found[-1]] if found else []


def figures(report: Report, rate: float) -> dict[str, Any]:
    """What is printed."""
    marks = report.marks
    return {
        "clicks_per_second": rate,
        "clicks": len(report.clicks),
        "answered": sum(click.answered for click in report.clicks),
        "failed_in_the_window_of_the_kill": len(report.failed_in_kill),
        "kill_window_seconds": round(marks["back"] - marks["killed"], 2),
        "failed_otherwise": len(report.failed),
        "failed_otherwise_by_reason": dict(Counter(click.why for click in report.failed)),
        "failed_otherwise_seconds_from_the_kill": [
            round(found - marks["killed"], 1) for found in _ends(click.ended for click in report.failed)
        ],
        "database_away_seconds": round(marks["started"] - marks["stopped"], 1),
        "answered_but_missing_in_the_database": len(report.missing),
        "counted_twice": len(report.doubled),
        "all_in_the_database_after_seconds": round(report.drained_seconds, 1),
        "latency_ms": {
            phase: {name: round(report.latency(phase, share) * 1e3, 1) for name, share in (("p50", 0.5), ("p99", 0.99))}
            for phase in ("before", "during", "after")
        },
    }


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=300.0, help="clicks per second")
    parser.add_argument("--outage", type=float, default=60.0, help="seconds without the database")
    parser.add_argument("--around", type=float, default=10.0, help="seconds of clicks before and after")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="postern-outage-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # the embedded server runs as another system user
        report = asyncio.run(
            run_outage(folder, rate=options.rate, before=options.around, outage=options.outage, after=options.around)
        )
    sys.stdout.write(json.dumps(figures(report, options.rate), indent=2) + "\n")
    if report.failed or report.missing or report.doubled:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
