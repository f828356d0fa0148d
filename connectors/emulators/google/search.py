"""The ``q`` parameter: the part of Gmail's search language that programs use.

https://support.google.com/mail/answer/7190 (operators) and
https://developers.google.com/workspace/gmail/api/guides/filtering (dates: midnight Pacific time, or seconds
since the epoch). Operators not listed here search for their own text, as words do.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from zoneinfo import ZoneInfo

from connectors.emulators.google import mime
from connectors.emulators.google.errors import invalid
from connectors.emulators.google.labels import Labels
from connectors.emulators.google.mailbox import StoredMessage

Matcher = Callable[[StoredMessage], bool]

_TERM = re.compile(r'(?P<minus>-)?(?:(?P<op>[A-Za-z0-9_]+):)?(?:"(?P<quoted>[^"]*)"|(?P<word>\S+))')
_AGE = {"h": 3_600, "d": 86_400, "w": 7 * 86_400, "m": 30 * 86_400, "y": 365 * 86_400}
_PLACES = {"inbox": "INBOX", "trash": "TRASH", "spam": "SPAM", "sent": "SENT", "draft": "DRAFT"}
_PLACES["drafts"] = "DRAFT"
_STATES = {"starred": "STARRED", "important": "IMPORTANT", "unread": "UNREAD", "chat": "CHAT"}
_PACIFIC = "America/Los_Angeles"


class Query:
    """A parsed query.

    Args:
        text: The ``q`` parameter.
        now: Seconds since the epoch, for relative ages.
        labels: The mailbox's labels, for ``label:``.

    Raises:
        ApiError: 400 for a date or age that cannot be read.
    """

    def __init__(self, text: str, now: float, labels: Labels) -> None:
        self.anywhere = False
        """Whether the query itself asks for spam and trash (``in:anywhere``, ``in:spam``, ``in:trash``)."""
        self._now = now
        self._labels = labels
        self._alternatives: list[list[Matcher]] = []
        either = False
        for found in _TERM.finditer(text):
            quoted, word = found["quoted"], found["word"]
            if quoted is None and word == "OR" and not found["op"]:
                either = bool(self._alternatives)
                continue
            value = quoted if quoted is not None else word
            matcher = self._term((found["op"] or "").lower(), value)
            if found["minus"]:
                matcher = _negated(matcher)
            if either:
                self._alternatives[-1].append(matcher)
            else:
                self._alternatives.append([matcher])
            either = False

    def matches(self, message: StoredMessage) -> bool:
        """Whether a message is found."""
        return all(any(one(message) for one in either) for either in self._alternatives)

    def _term(self, op: str, value: str) -> Matcher:
        low = value.casefold()
        if op == "rfc822msgid":
            wanted = "<" + value.strip("<>") + ">"
            return lambda m: m.envelope.message_id == wanted
        if op in ("after", "newer"):
            start = _moment(value)
            return lambda m: m.internal_ms / 1000 >= start
        if op in ("before", "older"):
            end = _moment(value)
            return lambda m: m.internal_ms / 1000 < end
        if op == "newer_than":
            since = self._now - _age(value)
            return lambda m: m.internal_ms / 1000 >= since
        if op == "older_than":
            until = self._now - _age(value)
            return lambda m: m.internal_ms / 1000 < until
        if op in ("in", "is", "label", "category"):
            return self._label(op, low)
        if op == "from":
            return lambda m: low in m.envelope.sender.casefold()
        if op in ("to", "cc", "deliveredto"):
            return lambda m: any(low in person for person in m.envelope.recipients)
        if op == "subject":
            return lambda m: low in m.envelope.subject.casefold()
        if op == "has" and low == "attachment":
            return lambda m: mime.has_attachment(m.raw)
        if op in ("larger", "smaller"):
            size = _size(value)
            return (lambda m: len(m.raw) > size) if op == "larger" else (lambda m: len(m.raw) < size)
        words = f"{op}:{low}" if op else low
        return lambda m: (
            words in m.envelope.subject.casefold()
            or words in m.envelope.sender.casefold()
            or words in m.text.casefold()
        )

    def _label(self, op: str, value: str) -> Matcher:
        if op == "in" and value == "anywhere":
            self.anywhere = True
            return lambda m: True
        if value == "read" and op == "is":
            return lambda m: "UNREAD" not in m.labels
        label = _PLACES.get(value) or _STATES.get(value)
        if op == "category":
            label = {"primary": "CATEGORY_PERSONAL"}.get(value, f"CATEGORY_{value.upper()}")
        if label is None:
            plain = value.replace("-", " ").replace("/", " ")
            named = [
                known.id
                for known in self._labels.all()
                if plain == known.name.casefold().replace("-", " ").replace("/", " ")
            ]
            label = named[0] if named else value
        if label in ("TRASH", "SPAM"):
            self.anywhere = True
        wanted = label
        return lambda m: wanted in m.labels


def _negated(matcher: Matcher) -> Matcher:
    return lambda m: not matcher(m)


def _moment(value: str) -> float:
    if value.isdigit() and len(value) > 8:
        return float(value)
    for pattern in ("%Y/%m/%d", "%Y-%m-%d", "%m/%d/%Y"):
        try:
            day = datetime.strptime(value, pattern).replace(tzinfo=ZoneInfo(_PACIFIC))
        except ValueError:
            continue
        return day.timestamp()
    raise invalid(f"Invalid date in query: {value}")


def _age(value: str) -> float:
    found = re.fullmatch(r"(\d+)([hdwmy])", value.lower())
    if found is None:
        raise invalid(f"Invalid age in query: {value}")
    return int(found[1]) * _AGE[found[2]]


def _size(value: str) -> int:
    found = re.fullmatch(r"(\d+)([km]?)b?", value.lower())
    if found is None:
        raise invalid(f"Invalid size in query: {value}")
    return int(found[1]) * {"": 1, "k": 1024, "m": 1024 * 1024}[found[2]]
