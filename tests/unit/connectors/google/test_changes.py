"""Cursors and history answers."""

from __future__ import annotations

from typing import Any

import pytest

from connectors.base.errors import CursorExpired
from connectors.google.changes import Cursor, read_history


def added(message_id: str, *labels: str) -> dict[str, Any]:
    return {"messagesAdded": [{"message": {"id": message_id, "threadId": "t", "labelIds": list(labels)}}]}


@pytest.mark.parametrize(
    "cursor", [Cursor(1), Cursor(2**63, "page-2"), Cursor(7, "p", 1_700_000_000), Cursor(7, "", 0)]
)
def test_a_stored_cursor_is_read_back(cursor: Cursor) -> None:
    assert Cursor.load(cursor.dump()) == cursor


def test_a_bare_history_id_is_a_cursor() -> None:
    assert Cursor.load("4711") == Cursor(4711)


@pytest.mark.parametrize(
    "text", ["", "x", "[]", "{}", '{"h": "x"}', '{"h": null}', "true", "-1", '{"h": 1, "s": "x"}', '"1"']
)
def test_an_unreadable_cursor_means_starting_anew(text: str) -> None:
    with pytest.raises(CursorExpired):
        Cursor.load(text)


def test_an_added_message_appears_and_a_deleted_one_is_removed() -> None:
    gone = {"messagesDeleted": [{"message": {"id": "b"}}]}
    assert read_history([added("a", "INBOX"), added("b"), gone]) == {"a": False, "b": True}


def test_a_message_that_leaves_spam_or_trash_appears() -> None:
    back = {"labelsRemoved": [{"message": {"id": "a"}, "labelIds": ["SPAM"]}]}
    assert read_history([back]) == {"a": False}


def test_reading_or_archiving_a_message_is_no_change_of_its_content() -> None:
    assert read_history([{"labelsRemoved": [{"message": {"id": "a"}, "labelIds": ["UNREAD", "INBOX"]}]}]) == {}


def test_saved_drafts_and_sent_mail_are_not_fetched_each_time() -> None:
    assert read_history([added("d", "DRAFT"), added("c", "CHAT"), added("s", "SENT")]) == {}
    assert read_history([added("note-to-self", "SENT", "INBOX")]) == {"note-to-self": False}


def test_records_without_ids_are_passed_over() -> None:
    assert read_history([{"id": "5"}, {"messagesAdded": [{"message": {}}, {}]}, {"messages": [{"id": "z"}]}]) == {}
