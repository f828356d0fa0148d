"""The details of an audit line in words: keys, states and times a reader understands.

A line's details are JSON as the act wrote them. Values may hold hostile text (a note, an address), so every one
goes through :func:`app.console.text.visible` and is escaped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any

from markupsafe import Markup

from app.console import words
from app.console.audit_words import ACTS, FACTS
from app.console.text import time_tag, visible
from app.messages.options import DeliveryOptions

_TABLES = {
    "failed": "check_name",
    "place": "place",
    "provider": "provider",
    "scope": "scope",
    "action": "list",
    "failure": "failure",
    "kind": "pattern",
    "qr": "chosen",
    "other": "chosen",
    "unknown": "chosen",
    "suspicious": "chosen",
    "malicious": "chosen",
}
"""Which table of words holds the values of a key."""

_LONGEST = 120
_DELIVERY: dict[str, Any] = asdict(DeliveryOptions()) | {"tracking_patterns": []}

Name = Callable[[str, object], str]


def act_in_words(action: str, name: Name) -> str:
    """What was done; an act of another version in its own words: ``a.b_c`` is "a: b c"."""
    if action in ACTS:
        return name("act", action)
    return visible(action.replace(".", ": ").replace("_", " "), 60)


def facts_in_words(action: str, detail: Mapping[str, Any], name: Name) -> list[tuple[str, Markup]]:
    """The details of a line as pairs of a word and a value.

    Args:
        action: The act: it tells what "before" and "after" are.
        detail: As stored. Of two whole states only what differs is shown.
        name: Looks a key up in a table of :mod:`app.console.words`, in the reader's language.

    Returns:
        Pairs in the stored order; the value is safe HTML.
    """
    before, after = detail.get("before"), detail.get("after")
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        if action == "delivery.changed":  # which stores what differs from the defaults
            before, after = _DELIVERY | dict(before), _DELIVERY | dict(after)
        keys = [*after, *(key for key in before if key not in after)]
        detail = {
            key: {"before": before.get(key), "after": after.get(key)}
            for key in keys
            if before.get(key) != after.get(key)
        }
    of_states = {"person.role": "role", "mailboxes.chosen": "choice"}.get(action, "tenant")
    return [(_key(key, name), _value(key, value, of_states, name)) for key, value in detail.items() if value != ""]


def _key(key: str, name: Name) -> str:
    return name("fact", key) if key in FACTS else visible(key.replace("_", " "), 30)


def _value(key: str, value: Any, of_states: str, name: Name) -> Markup:
    if value is None or value == "" or value == [] or value == {}:
        return Markup('<span class="none">{}</span>').format(name("plain", "none"))
    if isinstance(value, bool):
        return Markup("{}").format(name("plain", "yes" if value else "no"))
    if isinstance(value, Mapping):
        if set(value) == {"before", "after"}:
            pair = (_value(key, value[side], of_states, name) for side in ("before", "after"))
            return Markup("{} → {}").format(*pair)
        inner = [
            Markup("{} {}").format(_key(str(part), name), _value(str(part), of, of_states, name))
            for part, of in value.items()
        ]
        return Markup(", ").join(inner)
    if isinstance(value, list):
        return Markup(", ").join(_value(key, part, of_states, name) for part in value)
    if isinstance(value, str) and (moment := _moment(value)) is not None:
        return time_tag(moment)
    if isinstance(value, int):
        # A row's number is a name, everything else is a count.
        return Markup("{}").format(str(value) if key in ("id", "run", "move", "message", "incident") else f"{value:,}")
    table = of_states if key in ("before", "after") else _TABLES.get(key)
    shown = name(table, value) if table and str(value) in words.TABLES[table] else visible(value, _LONGEST)
    return Markup("<bdi>{}</bdi>").format(shown)


def _moment(text: str) -> datetime | None:
    if len(text) < len("2026-01-01T00:00") or text[10:11] != "T":
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else None
