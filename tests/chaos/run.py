"""Everything goes wrong at once, for as long as it takes to protect a company's mail.

    python -m tests.chaos.run [--messages 10000] [--mailboxes 50]

See ``tests.chaos.everything`` for what goes wrong. Prints what was injected and survived.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import sys
from pathlib import Path

from tests.chaos.everything import Plan, chaos
from tests.chaos.server import MASTER_KEY, free_port, postgres
from tests.chaos.table import table

__all__ = ["MASTER_KEY", "Plan", "chaos", "free_port", "postgres", "table"]


def main() -> int:
    """Run it and print the table.

    Returns:
        0 where everything was survived.
    """
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--messages", type=int, default=Plan.messages)
    ask.add_argument("--mailboxes", type=int, default=Plan.mailboxes)
    ask.add_argument("--workers", type=int, default=Plan.workers)
    ask.add_argument("--seconds", type=float, default=Plan.seconds, help="when to give up")
    ask.add_argument("--kill-every", type=float, default=Plan.kill_every)
    ask.add_argument(
        "--kills", type=int, help="so many kills, spread over the messages, instead of one every few seconds"
    )
    ask.add_argument("--seed", type=int, default=Plan.seed)
    ask.add_argument("--log-level", default=Plan.log_level)
    ask.add_argument("--keep-logs", type=Path, help="copy the processes' logs here")
    given = ask.parse_args()
    plan = Plan(
        given.messages,
        given.mailboxes,
        given.workers,
        given.kill_every,
        given.kills,
        seconds=given.seconds,
        seed=given.seed,
        log_level=given.log_level,
    )
    with postgres() as (server, urls, folder):
        outcome = asyncio.run(chaos(plan, server, urls, folder, progress=True))
        if given.keep_logs is not None:
            given.keep_logs.mkdir(parents=True, exist_ok=True)
            for path in folder.glob("*.log"):
                shutil.copy(path, given.keep_logs / path.name)
    print(table(plan, outcome))
    return 1 if outcome.problems else 0


if __name__ == "__main__":
    os.environ.pop("POSTERN_DATABASE_URL", None)
    sys.exit(main())
