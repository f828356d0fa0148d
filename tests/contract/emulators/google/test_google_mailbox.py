"""Labels, threads, drafts, searching and paging, through google-api-python-client."""

from __future__ import annotations

from email.utils import formatdate
from typing import Any

import httpx
import pytest
from cryptography import x509
from googleapiclient.errors import HttpError

from connectors.emulators.google import mime
from tests.contract.emulators.google.harness import (
    CUSTOMER,
    DOMAIN,
    PROJECT,
    TOPIC,
    USER,
    Workspace,
    b64,
    mail,
    refused,
)

OTHER = f"yui.abe@{DOMAIN}"


def found(workspace: Workspace, query: str, **more: Any) -> set[str]:
    """Subjects found by a query."""
    answer = workspace.gmail().messages().list(userId="me", q=query, **more).execute()
    box = workspace.state.mailbox(USER)
    return {box.messages[m["id"]].envelope.subject for m in answer.get("messages", [])}


def test_user_labels_are_made_renamed_and_removed_and_system_labels_stay(workspace: Workspace) -> None:
    message_id = workspace.state.deliver(USER, mail())
    labels, messages = workspace.gmail().labels(), workspace.gmail().messages()
    made = labels.create(userId="me", body={"name": "Held", "labelListVisibility": "labelHide"}).execute()
    assert (made["type"], made["labelListVisibility"]) == ("user", "labelHide")
    assert refused(labels.create(userId="me", body={"name": "held"})) == (409, "aborted")
    assert refused(labels.create(userId="me", body={"name": "inbox"})) == (400, "invalidArgument")
    messages.modify(userId="me", id=message_id, body={"addLabelIds": [made["id"]]}).execute()
    assert labels.get(userId="me", id=made["id"]).execute()["messagesTotal"] == 1
    renamed = labels.patch(userId="me", id=made["id"], body={"name": "Quarantine"}).execute()
    assert renamed["labelListVisibility"] == "labelHide"
    labels.delete(userId="me", id=made["id"]).execute()
    shown = messages.get(userId="me", id=message_id, format="minimal").execute()
    assert made["id"] not in shown["labelIds"]
    assert refused(labels.delete(userId="me", id="INBOX")) == (400, "invalidArgument")
    assert refused(labels.get(userId="me", id=made["id"])) == (404, "notFound")
    names = [label["id"] for label in labels.list(userId="me").execute()["labels"]]
    assert {"INBOX", "SPAM", "TRASH", "SENT", "DRAFT", "UNREAD", "STARRED", "IMPORTANT"} <= set(names)


def test_a_query_finds_what_its_operators_say(workspace: Workspace) -> None:
    state = workspace.state
    old = state.deliver(USER, mail("Old", "<old@x.example>"))
    state.clock.advance(3 * 86_400)
    state.deliver(USER, mail("Invoice", "<invoice@x.example>", body="Please pay soon"))
    state.deliver(USER, mail("Win", "<win@x.example>"), labels=("SPAM", "UNREAD"))
    now = state.clock.timestamp()
    assert found(workspace, "newer_than:2d") == {"Invoice"}
    assert found(workspace, "older_than:2d") == {"Old"}
    assert found(workspace, f"after:{int(now) - 3_600}") == {"Invoice"}
    assert found(workspace, f"before:{int(now) - 3_600}") == {"Old"}
    assert found(workspace, "after:2020/01/01 before:2021/01/01") == set()
    assert found(workspace, "rfc822msgid:old@x.example") == {"Old"}
    assert found(workspace, "in:spam") == {"Win"}
    assert found(workspace, "in:anywhere") == {"Old", "Invoice", "Win"}
    assert found(workspace, "", includeSpamTrash=True) == {"Old", "Invoice", "Win"}
    assert found(workspace, "", labelIds=["SPAM"]) == {"Win"}
    assert found(workspace, '"pay soon" -subject:old') == {"Invoice"}
    assert found(workspace, "subject:old OR subject:invoice from:aiko") == {"Old", "Invoice"}
    assert found(workspace, "from:nobody") == set()
    state.mailbox(USER).modify([old], ("STARRED",), ("UNREAD",))
    assert found(workspace, "is:starred is:read") == {"Old"}
    assert found(workspace, "has:attachment") == set()
    assert refused(workspace.gmail().messages().list(userId="me", q="newer_than:soon"))[0] == 400


def test_a_fresh_message_may_not_be_found_by_a_query_yet(workspace: Workspace) -> None:
    workspace.state.behaviour.search_lag = 30
    workspace.state.deliver(USER, mail())
    assert found(workspace, "rfc822msgid:m1@sender.example") == set()
    assert found(workspace, "") == {"Quarterly figures"}
    workspace.state.clock.advance(31)
    assert found(workspace, "rfc822msgid:m1@sender.example") == {"Quarterly figures"}


def test_pages_of_messages_stay_right_while_mail_comes_and_goes(workspace: Workspace) -> None:
    sent = [workspace.state.deliver(USER, mail(message_id=f"<{n}@x.example>")) for n in range(7)]
    messages = workspace.gmail().messages()
    first = messages.list(userId="me", maxResults=3).execute()
    shown = [m["id"] for m in first["messages"]]
    workspace.state.clock.advance(1)
    workspace.state.deliver(USER, mail(message_id="<new@x.example>"))
    workspace.state.mailbox(USER).delete([shown[-1]])
    second = messages.list(userId="me", maxResults=3, pageToken=first["nextPageToken"]).execute()
    third = messages.list(userId="me", maxResults=3, pageToken=second["nextPageToken"]).execute()
    shown += [m["id"] for m in second["messages"] + third["messages"]]
    assert sorted(shown) == sorted(sent)
    assert "nextPageToken" not in third
    assert refused(messages.list(userId="me", pageToken="x"))[0] == 400


def test_replies_join_the_thread_and_the_thread_is_handled_as_one(workspace: Workspace) -> None:
    state = workspace.state
    first = state.deliver(USER, mail())
    answer = mail("Re: Quarterly figures", "<m2@x.example>", extra="In-Reply-To: <m1@sender.example>\r\n")
    second = state.deliver(USER, answer)
    alone = state.deliver(USER, mail("Quarterly figures", "<m3@x.example>"))
    threads = workspace.gmail().threads()
    listed = threads.list(userId="me").execute()["threads"]
    assert len(listed) == 2
    thread = state.mailbox(USER).get(first).thread_id
    members = threads.get(userId="me", id=thread, format="metadata").execute()["messages"]
    assert [m["id"] for m in members] == [first, second]
    threads.trash(userId="me", id=thread).execute()
    assert [m.id for m in state.messages(USER) if m.place == "Inbox"] == [alone]
    threads.delete(userId="me", id=thread).execute()
    assert refused(threads.get(userId="me", id=thread)) == (404, "notFound")


def test_sent_mail_reaches_people_and_groups_here_without_bcc(workspace: Workspace) -> None:
    workspace.state.create_group(f"all@{DOMAIN}", "All", [OTHER])
    raw = (
        f"From: {USER}\r\nTo: all@{DOMAIN}, out@elsewhere.example\r\nBcc: k.mori+copy@{DOMAIN},\r\n {OTHER}\r\n"
        "Subject: Hello\r\nMessage-ID: <own@kasuga.example>\r\n\r\nBcc: stays in the text\r\n"
    ).encode()
    sent = workspace.gmail().messages().send(userId="me", body={"raw": b64(raw)}).execute()
    assert sent["labelIds"] == ["SENT"]
    copies = workspace.state.mailbox(OTHER).newest_first()
    assert copies
    assert all(m.raw == raw.replace(f"Bcc: k.mori+copy@{DOMAIN},\r\n {OTHER}\r\n".encode(), b"") for m in copies)
    assert {line.place for line in workspace.state.messages(USER)} == {"Sent", "Inbox"}
    nobody = {"raw": b64(b"Subject: x\r\n\r\ny\r\n")}
    assert refused(workspace.gmail().messages().send(userId="me", body=nobody)) == (400, "invalidArgument")


def test_a_draft_keeps_its_id_when_it_changes_and_goes_when_it_is_sent(workspace: Workspace) -> None:
    drafts = workspace.gmail().drafts()
    made = drafts.create(userId="me", body={"message": {"raw": b64(mail())}}).execute()
    changed = drafts.update(
        userId="me", id=made["id"], body={"message": {"raw": b64(mail("Other", "<o@x.example>"))}}
    ).execute()
    assert changed["id"] == made["id"]
    assert changed["message"]["id"] != made["message"]["id"]
    assert drafts.get(userId="me", id=made["id"]).execute()["message"]["labelIds"] == ["DRAFT"]
    sent = drafts.send(userId="me", body={"id": made["id"]}).execute()
    assert sent["labelIds"] == ["SENT"]
    assert "drafts" not in drafts.list(userId="me").execute()
    assert refused(drafts.get(userId="me", id=made["id"])) == (404, "notFound")


def test_batches_change_many_messages_and_ignore_those_that_are_gone(workspace: Workspace) -> None:
    ids = [workspace.state.deliver(USER, mail(message_id=f"<{n}@x.example>")) for n in range(3)]
    messages = workspace.gmail().messages()
    body = {"ids": [*ids, "00000000000000ff"], "addLabelIds": ["TRASH"]}
    messages.batchModify(userId="me", body=body).execute()
    assert {line.place for line in workspace.state.messages(USER)} == {"Trash"}
    messages.batchDelete(userId="me", body={"ids": [*ids[:2], "00000000000000ff"]}).execute()
    assert [line.id for line in workspace.state.messages(USER)] == [ids[2]]
    assert refused(messages.batchDelete(userId="me", body={"ids": []})) == (400, "invalidArgument")
    many = {"ids": [f"{n:016x}" for n in range(1_001)], "addLabelIds": ["STARRED"]}
    assert refused(messages.batchModify(userId="me", body=many)) == (400, "invalidArgument")


def test_an_insert_needs_a_message_and_dates_it_as_asked(workspace: Workspace) -> None:
    messages = workspace.gmail().messages()
    assert refused(messages.insert(userId="me", body={"labelIds": ["INBOX"]})) == (400, "invalidArgument")
    assert refused(messages.insert(userId="me", body={"raw": "***"})) == (400, "invalidArgument")
    stamp = int(workspace.state.clock.timestamp()) - 86_400
    dated = mail().replace(b"Sat, 21 Nov 2026 09:15:00 +0900", formatdate(stamp).encode())
    undated = mail(message_id="<u@x.example>").replace(b"Date: Sat, 21 Nov 2026 09:15:00 +0900\r\n", b"")

    def internal(raw: bytes, method: Any, **more: str) -> int:
        stored = method(userId="me", body={"raw": b64(raw)}, **more).execute()
        return workspace.state.mailbox(USER).get(stored["id"]).internal_ms // 1_000

    assert internal(dated, messages.insert) > stamp + 80_000
    assert internal(dated, messages.insert, internalDateSource="dateHeader") == stamp
    assert internal(undated, messages.import_) > stamp + 80_000


@pytest.mark.parametrize(("restores", "labels"), [(True, {"INBOX", "STARRED"}), (False, {"STARRED"})])
def test_untrashing_gives_the_inbox_back_where_switched_on(
    workspace: Workspace, restores: bool, labels: set[str]
) -> None:
    workspace.state.behaviour.untrash_restores = restores
    message_id = workspace.state.deliver(USER, mail(), labels=("INBOX", "STARRED"))
    messages = workspace.gmail().messages()
    messages.trash(userId="me", id=message_id).execute()
    assert set(messages.untrash(userId="me", id=message_id).execute()["labelIds"]) == labels
    assert set(messages.untrash(userId="me", id=message_id).execute()["labelIds"]) == labels


def test_a_domain_may_disable_gmail_apps(workspace: Workspace) -> None:
    workspace.state.accounts.customers[CUSTOMER].gmail_api = False
    assert refused(workspace.gmail().getProfile(userId="me")) == (403, "domainPolicy")


def test_an_idle_subscription_expires_unless_told_not_to(workspace: Workspace) -> None:
    subscriptions = workspace.pubsub().subscriptions()
    for name, more in (("default", {}), ("kept", {"expirationPolicy": {}})):
        path = f"projects/{PROJECT}/subscriptions/{name}"
        subscriptions.create(name=path, body={"topic": TOPIC, **more}).execute()
    workspace.state.clock.advance(32 * 86_400)
    listed = {}
    for name in ("default", "kept"):
        try:
            subscriptions.get(subscription=f"projects/{PROJECT}/subscriptions/{name}").execute()
            listed[name] = 200
        except HttpError as error:
            listed[name] = error.status_code
    assert listed == {"default": 404, "kept": 200}


def test_drop_mode_notifies_nothing(workspace: Workspace) -> None:
    name = f"projects/{PROJECT}/subscriptions/s"
    workspace.state.create_subscription(name, TOPIC)
    workspace.gmail().watch(userId="me", body={"topicName": TOPIC}).execute()
    before = len(workspace.state.pubsub.subscriptions[name].pending)
    workspace.state.behaviour.notifications = False
    workspace.state.clock.advance(2)
    workspace.state.deliver(USER, mail())
    assert len(workspace.state.pubsub.subscriptions[name].pending) == before


def test_certificates_belong_to_the_keys(workspace: Workspace) -> None:
    for url in (workspace.key["auth_provider_x509_cert_url"], workspace.key["client_x509_cert_url"]):
        answer = httpx.get(url, trust_env=False).json()
        key_id, pem = next(iter(answer.items()))
        assert x509.load_pem_x509_certificate(pem.encode()).public_key()
        assert key_id in (workspace.key["private_key_id"], workspace.state.signing_key.key_id)


def test_a_mailbox_says_when_it_has_to_be_written_again(workspace: Workspace) -> None:
    box = workspace.state.mailbox(USER)
    seen = [box.fingerprint]
    message_id = workspace.state.deliver(USER, mail())
    seen.append(box.fingerprint)
    box.labels.create({"name": "Held"})
    seen.append(box.fingerprint)
    box.modify([message_id], ("STARRED",), ())
    seen.append(box.fingerprint)
    box.delete([message_id])
    seen.append(box.fingerprint)
    workspace.state.expire_history(USER)
    seen.append(box.fingerprint)
    assert len(set(seen)) == len(seen)
    assert box.fingerprint == box.fingerprint


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"no header at all",
        b"Subject: =?x-unknown?Q?=ff?=\r\nDate: never\r\nFrom: \xff\xfe <a\r\n\r\nbody",
        b'Content-Type: multipart/mixed; boundary="b"\r\n\r\n--b\r\nContent-Type: text/html; charset="u"tf-8\r\n\r\n<a',
        b"Content-Type: multipart/mixed\r\n\r\n--x\r\n\r\nno boundary\r\n",
        b"Content-Type: message/rfc822\r\n\r\nSubject: inner\r\n\r\ninner body\r\n",
        b"Content-Type: text/plain\r\nContent-Transfer-Encoding: base64\r\n\r\n!!!!\r\n",
        b"Content-Type: text/html; name*=utf-8''%ff\r\n\r\n<p>x</p>",
    ],
)
def test_a_malformed_message_is_kept_and_shown_somehow(workspace: Workspace, raw: bytes) -> None:
    message_id = workspace.state.deliver(USER, raw)
    messages = workspace.gmail().messages()
    for form in ("full", "metadata", "minimal"):
        assert messages.get(userId="me", id=message_id, format=form).execute()["id"] == message_id
    stored = messages.get(userId="me", id=message_id, format="raw").execute()
    assert mime.decode(stored["raw"]).endswith(raw)  # below the Message-ID that it lacked
    assert workspace.state.message(USER, message_id).raw.endswith(raw)
    assert messages.list(userId="me", q="anything").execute() is not None


def test_mail_that_arrives_without_a_valid_message_id_gets_googles_own(workspace: Workspace) -> None:
    state = workspace.state
    head = b"From: a@x.example\r\nSubject: Hi\r\n"
    missing = state.deliver(USER, head + b"\r\nbody\r\n")
    broken = state.deliver(USER, head + b"Message-Id: no brackets\r\n\r\nMessage-Id: in the body\r\n")
    fine = state.deliver(USER, head + b"Message-ID: <m@x.example>\r\n\r\nbody\r\n")
    messages = state.mailbox(USER).messages
    assert messages[missing].envelope.message_id.endswith("SMTPIN_ADDED_MISSING@mx.google.com>")
    assert messages[missing].raw.endswith(b"\r\n" + head + b"\r\nbody\r\n")
    assert messages[broken].envelope.message_id.endswith("SMTPIN_ADDED_BROKEN@mx.google.com>")
    assert b"\r\nX-Google-Original-Message-ID: no brackets\r\n\r\nMessage-Id: in" in messages[broken].raw
    assert messages[fine].raw.startswith(head)
    ids = {message.envelope.message_id for message in messages.values()}
    assert len(ids) == len(messages)
