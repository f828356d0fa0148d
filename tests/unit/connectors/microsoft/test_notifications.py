"""Graph's notifications are read without trust and without loss."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from connectors.base.types import Hint, HintKind
from connectors.microsoft.notifications import MAX_BODY_BYTES, MAX_ENTRIES, MicrosoftNotifications

SUBSCRIPTION = "7f105c7d-2dc5-4530-97cd-4e7ae6534c07"


def entry(**changes: Any) -> dict[str, Any]:
    """The documented example of a basic notification, with changes; None removes a property."""
    data: dict[str, Any] = {
        "id": "lsgTZMr9KwAAA",
        "subscriptionId": SUBSCRIPTION,
        "subscriptionExpirationDateTime": "2026-11-20T11:00:00.0000000Z",
        "clientState": "secretClientState",
        "changeType": "created",
        "resource": "Users/f9cd5b56-5be5-4d70-8d9c-f5e6d5a6b0d2/Messages/AAMkADMx-_=",
        "tenantId": "84bd8158-6d4d-4958-8b9f-9d6445542f95",
        "resourceData": {
            "@odata.type": "#Microsoft.Graph.Message",
            "@odata.id": "https://evil.example/Users/x/Messages/y",
            "@odata.etag": 'W/"CQAAABYAAADkrWGo7bouTKlsgTZMr9KwAAAUWRHf"',
            "id": "AAMkADMx-_=",
        },
    }
    data.update(changes)
    return {key: value for key, value in data.items() if value is not None}


def body(*entries: Any) -> bytes:
    return json.dumps({"value": list(entries), "@odata.context": "ignored"}).encode()


async def read(raw: bytes) -> list[Hint]:
    return await MicrosoftNotifications().read({}, raw)


async def test_a_basic_notification_becomes_a_hint_with_its_secret_and_message() -> None:
    assert await read(body(entry())) == [Hint(SUBSCRIPTION, HintKind.CHANGED, "secretClientState", "AAMkADMx-_=")]


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        ("reauthorizationRequired", HintKind.REAUTHORIZE),
        ("subscriptionRemoved", HintKind.SUBSCRIPTION_REMOVED),
        ("missed", HintKind.MISSED),
        ("Missed", HintKind.MISSED),
        ("somethingNewFromMicrosoft", HintKind.MISSED),
    ],
)
async def test_a_lifecycle_event_is_told_from_a_change(event: str, kind: HintKind) -> None:
    raw = body(entry(lifecycleEvent=event, changeType=None, resourceData=None))

    (hint,) = await read(raw)

    assert (hint.kind, hint.message_id) == (kind, "")


async def test_a_batch_of_several_subscriptions_is_read_whole() -> None:
    other = "11111111-2dc5-4530-97cd-4e7ae6534c07"

    hints = await read(body(entry(), entry(subscriptionId=other), entry()))

    assert [hint.subscription_id for hint in hints] == [SUBSCRIPTION, other, SUBSCRIPTION]


async def test_an_unusable_entry_is_counted_and_the_others_are_kept() -> None:
    reader = MicrosoftNotifications()

    hints = await reader.read({}, body("text", entry(subscriptionId=7), entry(), entry(clientState="x" * 129)))

    assert len(hints) == 1
    assert reader.skipped == 3
    assert dict(reader.reasons) == {
        "entry is not an object": 1,
        "subscriptionId is missing or malformed": 1,
        "clientState is malformed": 1,
    }


async def test_a_message_id_that_is_none_is_not_kept() -> None:
    (hint,) = await read(body(entry(resourceData={"id": "../../users?x=1"})))

    assert hint.message_id == ""


async def test_a_missing_client_state_gives_an_empty_secret() -> None:
    (hint,) = await read(body(entry(clientState=None)))

    assert hint.secret == ""


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"text"',
        b"{}",
        b'{"value":[]}',
        b'{"value":{}}',
        b'{"value":[1]}',
        b"\xff\xfe",
        b"[" * 200_000,
        b'{"value":' + b"[" * 200_000,
        b" " * (MAX_BODY_BYTES + 1),
        json.dumps({"value": [{}] * (MAX_ENTRIES + 1)}).encode(),
    ],
    ids=range(14),
)
async def test_what_is_not_a_notification_is_refused(raw: bytes) -> None:
    with pytest.raises(ValueError, match="notification"):
        await read(raw)


def test_the_secret_does_not_show_in_a_hints_representation() -> None:
    assert "hush" not in repr(Hint(SUBSCRIPTION, secret="hush"))


def test_a_handshake_is_answered_with_the_decoded_token() -> None:
    reader = MicrosoftNotifications()

    assert reader.handshake({"validationToken": "Validation: Testing <b> & ü"}) == "Validation: Testing <b> & ü"
    assert reader.handshake({"other": "x"}) is None
    assert reader.handshake({"validationToken": ""}) is None
    assert reader.handshake({"validationToken": "x" * 5_000}) is None


def test_reading_notifications_loads_no_sdk() -> None:
    code = (
        "import sys, connectors.microsoft.notifications, connectors.microsoft.identity;"
        "bad = {'msgraph', 'azure', 'msal', 'kiota_abstractions', 'googleapiclient'};"
        "print(sorted(bad & {name.split('.')[0] for name in sys.modules}))"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
