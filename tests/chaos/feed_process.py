"""Builds or fetches the feed store and is killed: ``python -m tests.chaos.feed_process WHAT URL FOLDER``."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from app.kit.db import Database
from app.verdicts.sources.distribution import FeedFollower
from app.verdicts.sources.publish import build_and_publish


async def run(what: str, url: str, folder: Path) -> None:
    """Do it once."""
    database = Database(url, 2)
    if what == "build":
        await build_and_publish(database, folder / "work")
    else:
        await FeedFollower(database, folder).catch_up()
    await database.close()


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], sys.argv[2], Path(sys.argv[3])))
