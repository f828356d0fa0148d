"""The lists of this installation as one, and what tells two states of them apart."""

from __future__ import annotations

import hashlib
import threading
from functools import lru_cache
from pathlib import Path
from typing import Any

from app.verdicts.feed import FeedFile
from app.verdicts.feed_store import SUFFIX, FeedStore
from app.verdicts.judge import AllSources

_HEAD_BYTES = 4096
READING = threading.Lock()
"""Held by threads that ask :func:`shared_lists`."""


def store_path(data_dir: Path) -> Path:
    """Where the worker keeps the store of all downloaded lists."""
    return data_dir / "feeds" / f"store{SUFFIX}"


def installed_lists(feed_file: Path | None, data_dir: Path) -> AllSources:
    """The operator's own list, as text or as a store, and the store that the worker keeps in the data directory."""
    store = FeedStore(store_path(data_dir))
    if feed_file is not None and feed_file.suffix == SUFFIX:
        return AllSources(FeedStore(feed_file), store)
    return AllSources(FeedFile(feed_file), store)


@lru_cache(maxsize=4)
def shared_lists(feed_file: Path | None, data_dir: Path) -> AllSources:
    """The same for all callers of a process, so that a list is read once; ask it under :data:`READING` from threads."""
    return installed_lists(feed_file, data_dir)


def store_state(source: object) -> dict[str, Any]:
    """What an operator wants to know of the downloaded lists that a process goes by; empty where it has none."""
    for one in getattr(source, "sources", ()):
        if not isinstance(one, FeedStore):
            continue
        one.refresh()  # where nobody clicks, nothing else looks
        if one.header is not None:
            # Without names and errors: a public role shows it.
            return {"entries": len(one), "version": one.header.version, "made_at": one.header.made_at}
    return {}


def lists_stamp(feed_file: Path | None, data_dir: Path) -> str:
    """Names the state of the lists by their content, so that it is the same on every machine that has them.

    Of a store only its head is read: it carries the checksum of the rest.
    """
    digest = hashlib.sha256()
    for path in (feed_file, store_path(data_dir)):
        try:
            if path is None:
                raise FileNotFoundError
            with path.open("rb") as file:
                head = file.read(_HEAD_BYTES) if path.suffix == SUFFIX else file.read()
        except OSError:
            digest.update(b"-")
        else:
            digest.update(hashlib.sha256(head).digest())
    return digest.hexdigest()[:32]
