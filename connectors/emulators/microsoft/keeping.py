"""Writes the Microsoft state to a file and reads it back, so that a second start goes on with the data."""

from __future__ import annotations

from pathlib import Path

from pydantic import TypeAdapter

from connectors.emulators.common.clock import Clock
from connectors.emulators.common.records import RecordStore
from connectors.emulators.microsoft.model import (
    Application,
    Folder,
    Group,
    Mailbox,
    Message,
    Person,
    Subscription,
    Switches,
    Tenant,
    Tombstone,
)
from connectors.emulators.microsoft.state import MicrosoftState

_TENANT = TypeAdapter(Tenant)
_PERSON = TypeAdapter(Person)
_GROUP = TypeAdapter(Group)
_APPLICATION = TypeAdapter(Application)
_FOLDER = TypeAdapter(Folder)
_MAILBOX = TypeAdapter(Mailbox)
_MESSAGE = TypeAdapter(Message)
_SUBSCRIPTION = TypeAdapter(Subscription)
_SWITCHES = TypeAdapter(Switches)
_TOMBSTONES = TypeAdapter(list[Tombstone])


def open_state(path: Path | None, clock: Clock | None = None, seed: int | None = None) -> MicrosoftState:
    """The state kept in a file, or an empty one.

    Args:
        path: The file, made where it does not exist; None keeps nothing.
    """
    state = MicrosoftState(clock, RecordStore(path), seed)
    _load(state)
    return state


def flush(state: MicrosoftState) -> int:
    """Write what changed since the last time.

    Returns:
        How many records were written.
    """
    with state.lock:
        return state.store.flush(lambda kind, key: _record(state, kind, key))


def close(state: MicrosoftState) -> None:
    """Write what changed and close the file."""
    flush(state)
    state.store.close()


def _record(state: MicrosoftState, kind: str, key: str) -> bytes | None:
    match kind:
        case "tenant":
            return _TENANT.dump_json(state.tenants[key]) if key in state.tenants else None
        case "person":
            return _PERSON.dump_json(state.people[key]) if key in state.people else None
        case "group":
            return _GROUP.dump_json(state.groups[key]) if key in state.groups else None
        case "application":
            return _APPLICATION.dump_json(state.applications[key]) if key in state.applications else None
        case "folder":
            return _FOLDER.dump_json(state.folders[key]) if key in state.folders else None
        case "mailbox":
            return _MAILBOX.dump_json(state.mailboxes[key]) if key in state.mailboxes else None
        case "message":
            return _MESSAGE.dump_json(state.messages[key]) if key in state.messages else None
        case "subscription":
            return _SUBSCRIPTION.dump_json(state.subscriptions[key]) if key in state.subscriptions else None
        case "tombstones":
            return _TOMBSTONES.dump_json(state.tombstones.get(key, []))
        case "switches":
            return _SWITCHES.dump_json(state.switches)
        case "signing_key":
            return state.signing_key.encode() if state.signing_key else None
    raise ValueError(f"unknown kind of record: {kind}")


def _load(state: MicrosoftState) -> None:
    read = state.store.read
    for key, body in read("tenant"):
        state.tenants[key] = _TENANT.validate_json(body)
    for _, body in read("person"):
        state.index(_PERSON.validate_json(body))
    for key, body in read("group"):
        state.groups[key] = _GROUP.validate_json(body)
    for key, body in read("application"):
        state.applications[key] = _APPLICATION.validate_json(body)
    for _, body in read("folder"):
        state.index_folder(_FOLDER.validate_json(body))
    for key, body in read("mailbox"):
        state.mailboxes[key] = _MAILBOX.validate_json(body)
    for _, body in read("message"):
        state.index_message(_MESSAGE.validate_json(body))
    for _, body in read("subscription"):
        state.index_subscription(_SUBSCRIPTION.validate_json(body))
    for key, body in read("tombstones"):
        state.tombstones[key] = _TOMBSTONES.validate_json(body)
    for _, body in read("switches"):
        state.switches = _SWITCHES.validate_json(body)
    for _, body in read("signing_key"):
        state.signing_key = body.decode()
