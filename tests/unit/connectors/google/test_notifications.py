"""What Pub/Sub pushes, read without trusting it."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from connectors.base.types import Hint, HintKind
from connectors.google.notifications import read_push

SUBSCRIPTION = "projects/p/subscriptions/postern"


def push(data: Any, *, encode: Any = base64.b64encode, **changes: Any) -> bytes:
    encoded = encode(data if isinstance(data, bytes) else json.dumps(data).encode()).decode()
    body = {
        "subscription": SUBSCRIPTION,
        "message": {"data": encoded, "messageId": "1", "message_id": "1", "publishTime": "2026-11-21T10:00:00Z"},
    }
    return json.dumps(body | changes).encode()


@pytest.mark.parametrize("history_id", ["9876543210", 9876543210])
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
def test_history_ids_and_base64_come_in_two_spellings(history_id: str | int, encode: Any) -> None:
    body = push({"emailAddress": "Anna??>@example.org", "historyId": history_id}, encode=encode)
    assert read_push(body, SUBSCRIPTION) == Hint("anna??>@example.org", HintKind.CHANGED)


def test_missing_padding_is_no_obstacle() -> None:
    body = push(
        {"emailAddress": "anna@example.org", "historyId": 1}, encode=lambda data: base64.b64encode(data).rstrip(b"=")
    )
    assert read_push(body).subscription_id == "anna@example.org"


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "not a JSON object"),
        (push({}, message=None), "no message"),
        (push({}, message={"data": ""}), "no data"),
        (push({}, message={"data": 5}), "no data"),
        (push({}, message={"data": "***"}), "base64"),
        (push(b"\xff"), "base64"),
        (push([1]), "not a JSON object"),
        (push({"historyId": 1}), "names no mailbox"),
        (push({"emailAddress": "a b@example.org", "historyId": 1}), "names no mailbox"),
        (push({"emailAddress": ["anna@example.org"], "historyId": 1}), "names no mailbox"),
        (push({"emailAddress": "anna@example.org"}), "no history id"),
        (push({"emailAddress": "anna@example.org", "historyId": True}), "no history id"),
        (push({"emailAddress": "anna@example.org", "historyId": "1; drop"}), "no history id"),
        (push({"emailAddress": "anna@example.org", "historyId": 1}, subscription="projects/x"), "another"),
    ],
)
def test_anything_else_is_refused_and_says_why(body: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        read_push(body, SUBSCRIPTION)
