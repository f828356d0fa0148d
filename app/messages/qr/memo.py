"""What was found in a picture is remembered by the picture's digest.

The same logo, signature or attachment comes with thousands of messages, and one message to as many mailboxes: reading
it anew each time would cost more than all the rest of a message. A result follows from the bytes and the limits alone,
so it does not matter who received them first.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Final, Generic, TypeVar

Result = TypeVar("Result")

MOST: Final = 4_096


class Memo(Generic[Result]):
    """The newest results, least recently used ones forgotten first; safe to use from several threads."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._known: OrderedDict[tuple[bytes, Hashable], Result] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, content: bytes, about: Hashable, make: Callable[[], Result]) -> Result:
        """The result for some content.

        Args:
            content: What the result follows from.
            about: Whatever else it follows from, such as limits.
            make: Finds the result where it is not known; what it raises is not remembered.

        Returns:
            The result, which must not be changed.
        """
        key = (hashlib.blake2b(content, digest_size=24).digest(), about)
        with self._lock:
            if key in self._known:
                self._known.move_to_end(key)
                return self._known[key]
        result = make()
        with self._lock:
            self._known[key] = result
            while len(self._known) > self._most:
                self._known.popitem(last=False)
        return result
