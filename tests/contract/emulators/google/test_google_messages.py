"""Messages, threads and history, through google-api-python-client over HTTP."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from googleapiclient.http import MediaInMemoryUpload

from connectors.emulators.google.behaviour import Deduplication
from tests.contract.emulators.google.harness import FULL, MODIFY, USER, Workspace, b64, mail, refused


def raw_of(gmail: Any, message_id: str) -> bytes:
    answer = gmail.messages().get(userId="me", id=message_id, format="raw").execute()
    return base64.urlsafe_b64decode(answer["raw"])


def test_delivered_mail_is_listed_and_comes_back_byte_for_byte(workspace: Workspace) -> None:
    first = workspace.state.deliver(USER, mail())
    second = workspace.state.deliver(USER, mail(message_id="<m2@sender.example>"))
    gmail = workspace.gmail()
    listed = gmail.messages().list(userId="me").execute()
    assert [m["id"] for m in listed["messages"]] == [second, first]
    assert raw_of(gmail, first) == mail()
    shown = gmail.messages().get(userId=USER, id=first, format="minimal").execute()
    assert set(shown["labelIds"]) == {"INBOX", "UNREAD", "CATEGORY_PERSONAL"}
    assert "payload" not in shown


def test_full_format_shows_parts_and_attachments_are_fetched_by_id(workspace: Workspace) -> None:
    raw = (
        b"From: a@sender.example\r\nTo: x@kasuga.example\r\nSubject: =?utf-8?B?6KuL5rGC5pu4?=\r\n"
        b'Content-Type: multipart/mixed; boundary="b"\r\n\r\n--b\r\nContent-Type: text/html\r\n\r\n<p>Hi</p>\r\n'
        b"--b\r\nContent-Type: application/pdf; name=bill.pdf\r\nContent-Disposition: attachment; "
        b"filename=bill.pdf\r\nContent-Transfer-Encoding: base64\r\n\r\nJVBERg==\r\n--b--\r\n"
    )
    message_id = workspace.state.deliver(USER, raw)
    gmail = workspace.gmail()
    payload = gmail.messages().get(userId="me", id=message_id).execute()["payload"]
    assert [part["mimeType"] for part in payload["parts"]] == ["text/html", "application/pdf"]
    assert {"name": "Subject", "value": "請求書"} in payload["headers"]
    assert base64.urlsafe_b64decode(payload["parts"][0]["body"]["data"]) == b"<p>Hi</p>"
    attachment_id = payload["parts"][1]["body"]["attachmentId"]
    attachment = gmail.messages().attachments().get(userId="me", messageId=message_id, id=attachment_id).execute()
    assert base64.urlsafe_b64decode(attachment["data"]) == b"%PDF"


def test_metadata_format_gives_the_headers_asked_for_only(workspace: Workspace) -> None:
    message_id = workspace.state.deliver(USER, mail())
    shown = (
        workspace.gmail()
        .messages()
        .get(userId="me", id=message_id, format="metadata", metadataHeaders=["subject", "X-Missing"])
        .execute()
    )
    assert shown["payload"]["headers"] == [{"name": "Subject", "value": "Quarterly figures"}]
    assert "parts" not in shown["payload"] and "raw" not in shown


def test_an_insert_keeps_bytes_labels_and_thread_and_enters_the_history(workspace: Workspace) -> None:
    original = workspace.state.deliver(USER, mail())
    gmail = workspace.gmail()
    start = gmail.getProfile(userId="me").execute()["historyId"]
    before = gmail.messages().get(userId="me", id=original, format="minimal").execute()
    changed = mail(body="See https://gateway.example/x please.")
    inserted = (
        gmail.messages()
        .insert(
            userId="me",
            internalDateSource="dateHeader",
            body={"raw": b64(changed), "threadId": before["threadId"], "labelIds": before["labelIds"]},
        )
        .execute()
    )
    assert inserted["id"] != original
    assert inserted["threadId"] == before["threadId"]
    assert set(inserted["labelIds"]) == set(before["labelIds"])
    assert raw_of(gmail, inserted["id"]) == changed
    shown = gmail.messages().get(userId="me", id=inserted["id"], format="minimal").execute()
    assert shown["internalDate"] == "1795220100000"
    history = gmail.history().list(userId="me", startHistoryId=start).execute()
    added = [change["message"]["id"] for record in history["history"] for change in record["messagesAdded"]]
    assert added == [inserted["id"]]


@pytest.mark.parametrize("label", ["SENT", "DRAFT", "CHAT", "Label_99"])
def test_labels_that_only_gmail_applies_and_unknown_ones_are_refused_on_insert(
    workspace: Workspace, label: str
) -> None:
    request = workspace.gmail().messages().insert(userId="me", body={"raw": b64(mail()), "labelIds": [label]})
    assert refused(request) == (400, "invalidArgument")
    assert "messages" not in workspace.gmail().messages().list(userId="me").execute()


def test_an_uploaded_message_is_stored_byte_for_byte(workspace: Workspace) -> None:
    gmail = workspace.gmail()
    content = b"Subject: bare\nline ends\r\n\r\nbody\n--not a boundary\r\n\r\n"
    for body in (None, {"labelIds": ["INBOX"]}):
        media = MediaInMemoryUpload(content, mimetype="message/rfc822")
        request = gmail.messages().insert(userId="me", body=body, media_body=media)
        stored = workspace.upload(request)
        assert raw_of(gmail, stored["id"]) == content
        assert stored.get("labelIds") == (["INBOX"] if body else [])


def test_a_resumable_upload_in_pieces_is_put_together(workspace: Workspace) -> None:
    content = mail(body="x" * 600_000)
    media = MediaInMemoryUpload(content, mimetype="message/rfc822", chunksize=262_144, resumable=True)
    gmail = workspace.gmail()
    request = gmail.messages().import_(userId="me", body={"labelIds": ["INBOX"]}, media_body=media)
    stored = workspace.upload(request)
    assert raw_of(gmail, stored["id"]) == content


def test_modify_trash_and_untrash_change_labels_and_are_in_the_history(workspace: Workspace) -> None:
    message_id = workspace.state.deliver(USER, mail())
    gmail = workspace.gmail()
    start = gmail.getProfile(userId="me").execute()["historyId"]
    body = {"addLabelIds": ["STARRED"], "removeLabelIds": ["UNREAD"]}
    gmail.messages().modify(userId="me", id=message_id, body=body).execute()
    trashed = gmail.messages().trash(userId="me", id=message_id).execute()
    assert set(trashed["labelIds"]) == {"TRASH", "STARRED", "CATEGORY_PERSONAL"}
    assert "messages" not in gmail.messages().list(userId="me").execute()
    in_trash = gmail.messages().list(userId="me", includeSpamTrash=True).execute()
    assert [m["id"] for m in in_trash["messages"]] == [message_id]
    gmail.messages().untrash(userId="me", id=message_id).execute()
    history = gmail.history().list(userId="me", startHistoryId=start).execute()["history"]
    added = [change["labelIds"] for record in history for change in record.get("labelsAdded", [])]
    removed = [change["labelIds"] for record in history for change in record.get("labelsRemoved", [])]
    assert added == [["STARRED"], ["TRASH"], ["INBOX"]]
    assert removed == [["UNREAD"], ["INBOX"], ["TRASH"]]
    assert refused(gmail.messages().modify(userId="me", id=message_id, body={"addLabelIds": ["SENT"]})) == (
        400,
        "invalidArgument",
    )


def test_permanent_deletion_needs_the_full_scope(workspace: Workspace) -> None:
    message_id = workspace.state.deliver(USER, mail())
    narrow = workspace.gmail(USER, MODIFY)
    assert refused(narrow.messages().delete(userId="me", id=message_id)) == (403, "insufficientPermissions")
    full = workspace.gmail(USER, FULL)
    full.messages().delete(userId="me", id=message_id).execute()
    assert refused(full.messages().get(userId="me", id=message_id)) == (404, "notFound")
    assert refused(full.messages().get(userId="me", id="not-an-id")) == (400, "invalidArgument")


def test_history_that_is_too_old_answers_not_found(workspace: Workspace) -> None:
    gmail = workspace.gmail()
    start = gmail.getProfile(userId="me").execute()["historyId"]
    workspace.state.deliver(USER, mail())
    assert len(gmail.history().list(userId="me", startHistoryId=start).execute()["history"]) == 1
    workspace.state.expire_history(USER)
    assert refused(gmail.history().list(userId="me", startHistoryId=start)) == (404, "notFound")
    now = gmail.getProfile(userId="me").execute()["historyId"]
    assert "history" not in gmail.history().list(userId="me", startHistoryId=now).execute()


def test_history_ends_a_week_after_a_change(workspace: Workspace) -> None:
    gmail = workspace.gmail()
    start = gmail.getProfile(userId="me").execute()["historyId"]
    workspace.state.deliver(USER, mail())
    workspace.state.clock.advance(8 * 86_400)
    assert refused(workspace.gmail().history().list(userId="me", startHistoryId=start)) == (404, "notFound")


def test_history_pages_hold_every_change_once(workspace: Workspace) -> None:
    gmail = workspace.gmail()
    start = gmail.getProfile(userId="me").execute()["historyId"]
    sent = [workspace.state.deliver(USER, mail(message_id=f"<{n}@x.example>")) for n in range(7)]
    seen: list[str] = []
    token = None
    while True:
        answer = (
            gmail.history()
            .list(userId="me", startHistoryId=start, maxResults=3, pageToken=token, historyTypes=["messageAdded"])
            .execute()
        )
        seen += [c["message"]["id"] for record in answer["history"] for c in record["messagesAdded"]]
        token = answer.get("nextPageToken")
        if token is None:
            break
    assert seen == sent


@pytest.mark.parametrize(
    ("mode", "insert_is_new", "import_is_new"),
    [
        (Deduplication.OFF, True, True),
        (Deduplication.IMPORT_ONLY, True, False),
        (Deduplication.INSERT_AND_IMPORT, False, False),
    ],
)
def test_duplicates_by_message_id_follow_the_switch(
    workspace: Workspace, mode: Deduplication, insert_is_new: bool, import_is_new: bool
) -> None:
    workspace.state.behaviour.deduplication = mode
    original = workspace.state.deliver(USER, mail())
    gmail = workspace.gmail()
    body = {"raw": b64(mail(body="changed")), "labelIds": ["STARRED"]}
    inserted = gmail.messages().insert(userId="me", body=body).execute()["id"]
    imported = gmail.messages().import_(userId="me", body=body).execute()["id"]
    assert (inserted != original) is insert_is_new
    assert (imported not in (original, inserted)) is import_is_new
    assert raw_of(gmail, original) == mail()


def test_a_received_line_is_prepended_where_switched_on(workspace: Workspace) -> None:
    workspace.state.behaviour.received_line = True
    gmail = workspace.gmail()
    stored = gmail.messages().insert(userId="me", body={"raw": b64(mail())}).execute()
    raw = raw_of(gmail, stored["id"])
    assert raw.startswith(b"Received: from ") and b"gmailapi.google.com" in raw
    assert raw.endswith(mail())


def test_a_thread_takes_a_message_only_where_references_and_subject_agree(workspace: Workspace) -> None:
    workspace.state.deliver(USER, mail())
    gmail = workspace.gmail()
    thread = gmail.messages().list(userId="me").execute()["messages"][0]["threadId"]

    numbers = iter(range(9))

    def insert(**fields: str) -> str:
        body = {"raw": b64(mail(message_id=f"<{next(numbers)}@x.example>", **fields)), "threadId": thread}
        return str(gmail.messages().insert(userId="me", body=body).execute()["threadId"])

    reply = {"extra": "References: <m1@sender.example>\r\n"}
    assert insert(subject="Re: Quarterly figures", **reply) == thread
    assert insert(subject="Something else", **reply) != thread
    assert insert(subject="Quarterly figures", extra="References: <unknown@x.example>\r\n") != thread
    members = gmail.threads().get(userId="me", id=thread, format="metadata").execute()["messages"]
    assert len(members) == 2
    body = {"raw": b64(mail()), "threadId": "00000000000000ff"}
    assert refused(gmail.messages().insert(userId="me", body=body)) == (404, "notFound")
