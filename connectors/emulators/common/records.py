"""Keeps emulated state across restarts: changed records only, one transaction per flush.

A SQLite file holds ``(kind, key) -> JSON``. A state marks what it changed; a flush writes just that, so a
mailbox with ten thousand messages costs one row when one message is read. SQLite's journal makes a flush
all or nothing (https://www.sqlite.org/atomiccommit.html).
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path


class RecordStore:
    """A file of records with a set of those that still have to be written.

    Args:
        path: The file; None keeps nothing, which is what most tests want.
    """

    def __init__(self, path: Path | None) -> None:
        self._lock = threading.RLock()
        self._dirty: dict[tuple[str, str], None] = {}
        self._connection: sqlite3.Connection | None = None
        if path is not None:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # The state holds the emulators' own private keys.
            path.touch(mode=0o600)
            self._connection = sqlite3.connect(path, check_same_thread=False)
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=NORMAL")
            self._connection.execute(
                "CREATE TABLE IF NOT EXISTS record "
                "(kind TEXT NOT NULL, key TEXT NOT NULL, body BLOB NOT NULL, PRIMARY KEY (kind, key))"
            )
            self._connection.commit()

    @property
    def keeps(self) -> bool:
        """Whether anything is written at all."""
        return self._connection is not None

    def mark(self, kind: str, key: str) -> None:
        """This record was added, changed or removed."""
        if self._connection is not None:
            with self._lock:
                self._dirty[(kind, key)] = None

    def read(self, kind: str) -> Iterator[tuple[str, bytes]]:
        """All records of one kind as ``(key, JSON)``, in the order in which they were first written."""
        if self._connection is None:
            return
        with self._lock:
            rows = self._connection.execute("SELECT key, body FROM record WHERE kind = ? ORDER BY rowid", (kind,))
            found = rows.fetchall()
        for key, body in found:
            yield str(key), bytes(body)

    def flush(self, current: Callable[[str, str], bytes | None]) -> int:
        """Write what was marked.

        Args:
            current: Gives a record's JSON as it is now, or None where it was removed.

        Returns:
            How many records were written or removed.
        """
        if self._connection is None:
            return 0
        with self._lock:
            dirty, self._dirty = self._dirty, {}
            if not dirty:
                return 0
            try:
                with self._connection:
                    for kind, key in dirty:
                        body = current(kind, key)
                        if body is None:
                            self._connection.execute("DELETE FROM record WHERE kind = ? AND key = ?", (kind, key))
                        else:
                            self._connection.execute(
                                "INSERT INTO record (kind, key, body) VALUES (?, ?, ?) "
                                "ON CONFLICT (kind, key) DO UPDATE SET body = excluded.body",
                                (kind, key, body),
                            )
            except BaseException:
                self._dirty = {**dirty, **self._dirty}
                raise
            return len(dirty)

    def close(self) -> None:
        """Close the file. What was not flushed is not kept."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None
