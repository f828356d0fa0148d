"""One user's mailbox: immutable messages, labels on them, threads, drafts and the history of changes.

* Messages never change; only their labels do: https://developers.google.com/workspace/gmail/api/guides
* Threads: https://developers.google.com/workspace/gmail/api/guides/threads
* History: https://developers.google.com/workspace/gmail/api/reference/rest/v1/users.history/list
"""

from __future__ import annotations

import base64
import random
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from connectors.emulators.google import mime
from connectors.emulators.google.errors import invalid, not_found
from connectors.emulators.google.labels import Labels

_ELSEWHERE = ("INBOX", "TRASH", "SPAM")


@dataclass(slots=True)
class StoredMessage:
    """One message. ``raw`` never changes; ``added_at`` is seconds since the epoch by the emulator's clock."""

    id: str
    thread_id: str
    raw: bytes
    labels: set[str]
    internal_ms: int
    history_id: int
    added_at: float
    envelope: mime.Envelope
    classification: list[dict[str, Any]] = field(default_factory=list)
    taken_by_trash: list[str] = field(default_factory=list)
    _text: str | None = None

    @property
    def text(self) -> str:
        """The readable text in one line, read once."""
        if self._text is None:
            self._text = mime.plain_text(self.raw)
        return self._text


@dataclass(slots=True)
class HistoryRecord:
    """One change.

    Attributes:
        id: The history id of the change.
        kind: ``messageAdded``, ``messageDeleted``, ``labelAdded`` or ``labelRemoved``.
        labels_now: The message's labels after the change (before it, for a deletion).
        changed: The labels added or removed.
        at: Seconds since the epoch.
    """

    id: int
    kind: str
    message_id: str
    thread_id: str
    labels_now: list[str]
    changed: list[str]
    at: float


@dataclass(slots=True)
class Watch:
    """A push watch (users.watch) of one developer project on a mailbox."""

    topic: str
    labels: list[str]
    exclude: bool
    expires: float

    def wants(self, labels: set[str]) -> bool:
        """Whether a change on a message with these labels is notified."""
        if not self.labels:
            return True
        return bool(labels & set(self.labels)) != self.exclude


class Mailbox:
    """All mail of one user.

    Args:
        address: The user's primary address.
        clock: Seconds since the epoch.
        rng: For ids and the gaps between history ids.
        changed: Called once per change with the labels that the changed messages have or had.
    """

    def __init__(
        self,
        address: str,
        clock: Callable[[], float],
        rng: random.Random,
        changed: Callable[[Mailbox, set[str]], None],
    ) -> None:
        self.address = address
        self.labels = Labels()
        self.messages: dict[str, StoredMessage] = {}
        self.threads: dict[str, list[str]] = {}
        self.drafts: dict[str, str] = {}
        self.history: list[HistoryRecord] = []
        self.history_id = rng.randint(10_000, 99_999)
        self.history_floor = self.history_id
        self.watches: dict[str, Watch] = {}
        self.last_notified = float("-inf")
        self._by_message_id: dict[str, list[str]] = {}
        self._clock = clock
        self._rng = rng
        self._changed = changed

    @property
    def watch(self) -> Watch | None:
        """The watch of the only project that has one; the oldest, where there are more."""
        return next(iter(self.watches.values()), None)

    @property
    def fingerprint(self) -> tuple[object, ...]:
        """Differs whenever :meth:`save` would: for whoever writes changed mailboxes only."""
        counted = (self.history_id, self.history_floor, len(self.history), self.labels.revision)
        return (*counted, repr(self.watches), tuple(self.drafts.items()))

    # Reading

    def get(self, message_id: str) -> StoredMessage:
        """One message.

        Raises:
            ApiError: 404 where it is gone, 400 where the id can never have been one.
        """
        message = self.messages.get(message_id)
        if message is None:
            _check_id(message_id)
            raise not_found()
        return message

    def thread(self, thread_id: str) -> list[StoredMessage]:
        """The messages of a thread, oldest first.

        Raises:
            ApiError: 404 or 400, as in :meth:`get`.
        """
        ids = self.threads.get(thread_id)
        if not ids:
            _check_id(thread_id)
            raise not_found()
        return sorted((self.messages[i] for i in ids), key=lambda m: (m.internal_ms, m.id))

    def newest_first(self) -> list[StoredMessage]:
        """All messages, by internal date."""
        return sorted(self.messages.values(), key=lambda m: (m.internal_ms, m.id), reverse=True)

    def with_message_id(self, message_id: str) -> StoredMessage | None:
        """The oldest message here with this Message-ID header."""
        ids = self._by_message_id.get(message_id) if message_id else None
        return self.messages[ids[0]] if ids else None

    def changes(self, start: int, now: float, retention: float) -> list[HistoryRecord]:
        """What happened after a history id.

        Raises:
            ApiError: 404 where the id is too old.
        """
        self.forget_history(now - retention)
        if start < self.history_floor:
            raise not_found()
        return self.history[bisect_right(self.history, start, key=lambda record: record.id) :]

    def forget_history(self, before: float) -> None:
        """Drop the history of changes made before a time; ids from then answer 404."""
        keep = bisect_right(self.history, before, key=lambda record: record.at)
        if keep:
            self.history_floor = self.history[keep - 1].id
            del self.history[:keep]

    # Changing

    def add(
        self,
        raw: bytes,
        labels: Iterable[str],
        *,
        internal_ms: int,
        thread_id: str | None = None,
        classification: Sequence[Mapping[str, Any]] = (),
    ) -> StoredMessage:
        """Store a new message and say so in the history.

        Args:
            raw: The message.
            labels: Label ids.
            internal_ms: Internal date, milliseconds since the epoch.
            thread_id: The thread asked for; it is used only where References and Subject agree with it
                (https://developers.google.com/workspace/gmail/api/guides/threads, "Adding drafts and
                messages to threads").
            classification: ``classificationLabelValues``.

        Raises:
            ApiError: 404 where the thread asked for does not exist.
        """
        if thread_id is not None and thread_id not in self.threads:
            _check_id(thread_id)
            raise not_found()
        now = self._clock()
        envelope = mime.envelope(raw)
        message_id = self._new_id(now)
        message = StoredMessage(
            id=message_id,
            thread_id=self._thread_for(envelope, thread_id) or message_id,
            raw=raw,
            labels=set(labels),
            internal_ms=internal_ms,
            history_id=0,
            added_at=now,
            envelope=envelope,
            classification=[dict(value) for value in classification],
        )
        self._index(message)
        self._record(message, "messageAdded", [])
        self._changed(self, set(message.labels))
        return message

    def modify(self, ids: Sequence[str], add: Iterable[str], remove: Iterable[str]) -> list[StoredMessage]:
        """Change labels of messages; ids that are gone are left out. One notification for all.

        Adding TRASH or SPAM takes a message out of the other two places (INBOX, TRASH, SPAM).
        """
        touched: set[str] = set()
        done: list[StoredMessage] = []
        adding = list(dict.fromkeys(add))
        removing = set(remove)
        for place in ("TRASH", "SPAM"):
            if place in adding:
                removing |= {other for other in _ELSEWHERE if other not in adding}
        for message_id in ids:
            message = self.messages.get(message_id)
            if message is None:
                continue
            before = set(message.labels)
            gained = [label for label in adding if label not in before]
            lost = self.labels.order(before & (removing - set(adding)))
            touched |= before | set(gained)
            done.append(message)
            message.labels = (before | set(gained)) - set(lost)
            if "TRASH" in gained:
                message.taken_by_trash = [label for label in lost if label in _ELSEWHERE]
            if gained:
                self._record(message, "labelAdded", gained)
            if lost:
                self._record(message, "labelRemoved", lost)
        if touched:
            self._changed(self, touched)
        return done

    def untrash(self, ids: Sequence[str], *, restore: bool) -> None:
        """Take messages out of the trash, with ``restore`` back to where they were."""
        for message_id in ids:
            message = self.messages[message_id]
            back = message.taken_by_trash if restore and "TRASH" in message.labels else []
            self.modify([message_id], back, ("TRASH",))

    def delete(self, ids: Iterable[str]) -> None:
        """Delete messages for good; ids that are gone are left out."""
        touched: set[str] = set()
        for message_id in ids:
            message = self.messages.pop(message_id, None)
            if message is None:
                continue
            touched |= message.labels
            self.threads[message.thread_id].remove(message.id)
            if not self.threads[message.thread_id]:
                del self.threads[message.thread_id]
            same = self._by_message_id.get(message.envelope.message_id, [])
            if message.id in same:
                same.remove(message.id)
            self.drafts = {draft: m for draft, m in self.drafts.items() if m != message.id}
            self._record(message, "messageDeleted", [])
        if touched:
            self._changed(self, touched)

    def new_draft_id(self) -> str:
        """An id for a draft."""
        return f"r{self._rng.getrandbits(63)}"

    def forget_label(self, label_id: str) -> None:
        """Take a deleted label off all messages."""
        self.modify(list(self.messages), (), (label_id,))

    def _new_id(self, now: float) -> str:
        while True:
            candidate = f"{(int(now * 1000) << 20) | self._rng.getrandbits(20):016x}"
            if candidate not in self.messages and candidate not in self.threads:
                return candidate

    def _thread_for(self, envelope: mime.Envelope, asked: str | None) -> str | None:
        """A thread that takes the message: References and Subject have to agree."""
        linked = {*envelope.references, envelope.message_id} - {""}
        candidates = [asked] if asked is not None else self._linked_threads(envelope.references)
        for thread_id in candidates:
            members = [self.messages[i] for i in self.threads[thread_id]]
            if not any(m.envelope.subject_key == envelope.subject_key for m in members):
                continue
            known = {i for m in members for i in (m.envelope.message_id, *m.envelope.references)}
            if linked & known:
                return thread_id
        return None

    def _linked_threads(self, references: Sequence[str]) -> list[str]:
        found: dict[str, None] = {}
        for reference in reversed(references):
            for message_id in self._by_message_id.get(reference, ()):
                found[self.messages[message_id].thread_id] = None
        return list(found)

    def _index(self, message: StoredMessage) -> None:
        self.messages[message.id] = message
        self.threads.setdefault(message.thread_id, []).append(message.id)
        if message.envelope.message_id:
            self._by_message_id.setdefault(message.envelope.message_id, []).append(message.id)

    def _record(self, message: StoredMessage, kind: str, changed: list[str]) -> None:
        self.history_id += self._rng.randint(1, 40)
        message.history_id = self.history_id
        now_labels = self.labels.order(message.labels)
        self.history.append(
            HistoryRecord(self.history_id, kind, message.id, message.thread_id, now_labels, changed, self._clock())
        )

    # Keeping

    def save(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "labels": self.labels.save(),
            "messages": [
                {
                    "id": m.id,
                    "thread": m.thread_id,
                    "raw": base64.b64encode(m.raw).decode("ascii"),
                    "labels": sorted(m.labels),
                    "internal_ms": m.internal_ms,
                    "history_id": m.history_id,
                    "added_at": m.added_at,
                    "classification": m.classification,
                    "taken_by_trash": m.taken_by_trash,
                }
                for m in self.messages.values()
            ],
            "drafts": self.drafts,
            "history": [asdict(record) for record in self.history],
            "history_id": self.history_id,
            "history_floor": self.history_floor,
            "watches": {project: asdict(watch) for project, watch in self.watches.items()},
        }

    def load(self, data: Mapping[str, Any]) -> None:
        """The reverse of :meth:`save`, into an empty mailbox; nothing is notified."""
        self.labels = Labels.load(data["labels"])
        for item in data["messages"]:
            raw = base64.b64decode(item["raw"])
            self._index(
                StoredMessage(
                    id=item["id"],
                    thread_id=item["thread"],
                    raw=raw,
                    labels=set(item["labels"]),
                    internal_ms=item["internal_ms"],
                    history_id=item["history_id"],
                    added_at=item["added_at"],
                    envelope=mime.envelope(raw),
                    classification=item["classification"],
                    taken_by_trash=item["taken_by_trash"],
                )
            )
        self.drafts = dict(data["drafts"])
        self.history = [HistoryRecord(**record) for record in data["history"]]
        self.history_id = data["history_id"]
        self.history_floor = data["history_floor"]
        self.watches = {project: Watch(**watch) for project, watch in data["watches"].items()}


def _check_id(value: str) -> None:
    """Gmail ids are hexadecimal; anything else is a bad request rather than something missing."""
    try:
        int(value, 16)
    except ValueError:
        raise invalid("Invalid id value") from None
