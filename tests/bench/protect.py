"""Protecting mail: CPU of a whole worker process per message, split by layer, and messages per second and core.

    python -m tests.bench.protect [--messages 500] [--mailboxes 50] [--provider microsoft] [--places]

Everything is real and in its own process: PostgreSQL, the emulated providers, intake, and one worker, whose CPU time is
what is counted, its jobs, heartbeats and the look after Gmail's copies included. A message counts once it is verified
in its mailbox. Two loads:

* *busy*: every mailbox gets several messages at once;
* *single*: no mailbox gets a second message while it has one, so that each needs a notification, a job and a look.

The baseline of the same run is the transformer alone over the same messages, in this process.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time

from app.kit.crypto import KeyRing
from app.links.mint import Minter
from app.messages import transform
from app.messages.types import TransformPlan
from connectors.base.types import Provider
from tests.bench.journey import Installation, installation
from tests.bench.sampling import Spent
from tests.chaos.providers import link
from tests.chaos.run import MASTER_KEY, postgres
from tests.integration.protection.world import GATEWAY, mail

WARM_UP = 20
IDLE_SECONDS = 5
_WAITING = "SELECT count(*) FROM procrastinate_jobs WHERE task_name = 'mailbox.sync' AND status IN ('todo', 'doing')"


async def _busy(made: Installation, provider: Provider, numbers: range) -> None:
    await asyncio.to_thread(made.at[provider].burst, provider, made.addresses(provider), numbers)
    await made.protected(len(numbers))


async def _single(made: Installation, provider: Provider, numbers: range) -> None:
    """Wave after wave, each into half of the mailboxes, so that no mailbox has two at once."""
    people = made.addresses(provider)
    wave = max(1, len(people) // 2)
    for start in range(numbers.start, numbers.stop, wave):
        some = range(start, min(start + wave, numbers.stop))
        await asyncio.to_thread(made.at[provider].burst, provider, people, some)
        await made.protected(len(some))


async def _idle(made: Installation) -> None:
    """Wait until the looks are done that follow the work."""
    while (await asyncio.to_thread(made.query, _WAITING))[0][0]:  # noqa: ASYNC110  # another process does the work
        await asyncio.sleep(0.1)


async def measure(providers: list[Provider], messages: int, mailboxes: int, places: bool) -> None:
    """Print a line for each provider and load, and the split of each."""
    with postgres() as (_, urls, folder):
        async with installation(urls, folder, mailboxes, providers=tuple(providers)) as made:
            number = 0
            for provider in providers:
                alone = _transform_alone(provider, messages)
                await _busy(made, provider, range(number, number := number + WARM_UP))
                await _idle(made)
                await _print_idle(made, places)
                for name, load in (("busy", _busy), ("single", _single)):
                    made.worker.begin()
                    began = time.monotonic()
                    await load(made, provider, range(number, number := number + messages))
                    wall = time.monotonic() - began
                    await _idle(made)
                    spent = made.worker.spent()
                    each = spent.cpu / messages * 1_000
                    print(
                        f"{provider.value:10} {name:7} {messages} messages in {mailboxes} mailboxes: CPU {each:.1f} "
                        f"ms/message, {1_000 / each:.0f} messages/s per core ({messages / wall:.0f}/s here), memory "
                        f"{spent.megabytes:.0f} MB, transform alone {alone * 1_000:.2f} ms "
                        f"(ratio {each / alone / 1_000:.0f})\n           by layer, ms: {spent.split(messages)}",
                        flush=True,
                    )
                    if places:
                        _print_places(spent, each)


async def _print_idle(made: Installation, places: bool) -> None:
    """What the worker costs while there is nothing to do: it is part of every figure below."""
    made.worker.begin()
    await asyncio.sleep(IDLE_SECONDS)
    spent = made.worker.spent()
    each = spent.cpu / IDLE_SECONDS * 1_000
    print(f"{'idle':10} CPU {each:.1f} ms/s: {spent.split(IDLE_SECONDS)}", flush=True)
    if places:
        _print_places(spent, each)


def _print_places(spent: Spent, each: float) -> None:
    for place, count in list(spent.places.items())[:40]:
        print(f"             {count / sum(spent.layers.values()) * each:6.2f}  {place}")


def _transform_alone(provider: Provider, messages: int) -> float:
    plan = TransformPlan(gateway=GATEWAY, mint=Minter(KeyRing({1: MASTER_KEY}), GATEWAY, "l", tenant_no=1))
    address = f"user0@{provider.value}.example"
    raws = [mail(address, f"Message {n}", link(n), n=n) for n in range(messages)]
    began = time.process_time()
    for raw in raws:
        transform(raw, plan)
    return (time.process_time() - began) / len(raws)


def main() -> int:
    """Run it."""
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--messages", type=int, default=500)
    ask.add_argument("--mailboxes", type=int, default=50)
    ask.add_argument("--provider", choices=[p.value for p in Provider])
    ask.add_argument("--places", action="store_true", help="print the functions in which the time goes, too")
    given = ask.parse_args()
    providers = [Provider(given.provider)] if given.provider else list(Provider)
    asyncio.run(measure(providers, given.messages, given.mailboxes, given.places))
    return 0


if __name__ == "__main__":
    sys.exit(main())
