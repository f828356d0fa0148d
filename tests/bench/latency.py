"""From notification to verified, through the real intake and worker, with and without latency at the providers.

python -m tests.bench.latency [--messages 30] [--mailboxes 5]
"""

from __future__ import annotations

import argparse
import asyncio
import sys

from connectors.base.types import Provider
from tests.bench.journey import installation, spread
from tests.chaos.run import postgres


async def measure(messages: int, mailboxes: int) -> None:
    """Print the spread for each provider and latency; one mail at a time, each to the next mailbox."""
    with postgres() as (_, urls, folder):
        async with installation(urls, folder, mailboxes) as made:
            number = 0
            for provider in Provider:
                people = made.addresses(provider)
                for late in (0.0, 0.08):
                    made.at[provider].late(late)
                    times = []
                    for turn in range(messages + 3):
                        number += 1
                        taken = await made.seconds_to_protect(provider, people[turn % len(people)], number)
                        if turn >= 3:
                            times.append(taken)
                    calls = f"{late * 1000:.0f} ms per call"
                    print(f"{provider.value:10} {calls:15} notification to verified: {spread(times)}", flush=True)
                made.at[provider].late(0.0)


def main() -> int:
    """Run it."""
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--messages", type=int, default=30)
    ask.add_argument("--mailboxes", type=int, default=5)
    given = ask.parse_args()
    asyncio.run(measure(given.messages, given.mailboxes))
    return 0


if __name__ == "__main__":
    sys.exit(main())
