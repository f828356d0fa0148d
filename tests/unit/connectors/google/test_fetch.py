"""Message resources become messages."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import Any

import pytest

from connectors.base.errors import Unavailable
from connectors.base.types import Mailbox, MimeContent, Trait
from connectors.google import marker
from connectors.google.fetch import date_header, read_resource, to_fetched

KEY = b"k" * 32
KEYS = marker.MarkerKeys(KEY)
ANNA = Mailbox(id="u1", address="anna@example.org", aliases=("a.s@example.org",))
PLAIN = (
    b"From: =?utf-8?q?J=C3=BCrgen?= <Juergen@Example.COM>\r\nTo: anna@example.org, Bob <bob@example.org>\r\n"
    b"Cc: anna@example.org\r\nSubject: =?utf-8?b?R3LDvMOfZQ==?=\r\nMessage-ID: <1@example.com>\r\n"
    b"Date: Sat, 21 Nov 2026 10:00:00 +0100\r\n\r\nhello\r\n"
)


def resource(raw: bytes = PLAIN, *labels: str, **more: Any) -> dict[str, Any]:
    return {
        "id": "18c0",
        "threadId": "18bf",
        "labelIds": list(labels),
        "historyId": "99",
        "internalDate": "1763715600123",
        "raw": base64.urlsafe_b64encode(raw).decode().rstrip("="),
        **more,
    }


def traits(raw: bytes, *labels: str) -> frozenset[Trait]:
    return to_fetched(read_resource(resource(raw, *labels)), ANNA, KEYS).traits


def test_what_a_message_says_of_itself() -> None:
    message = to_fetched(read_resource(resource(PLAIN, "INBOX", "UNREAD")), ANNA, KEYS)
    assert message.content == MimeContent(PLAIN)
    assert message.version == "99"
    assert message.thread_id == "18bf"
    assert message.internet_message_id == "<1@example.com>"
    assert message.subject == "Grüße"
    assert message.sender == "juergen@example.com"
    assert message.recipients == ("anna@example.org", "bob@example.org")
    assert message.received_at == datetime(2025, 11, 21, 9, 0, 0, 123000, UTC)
    assert message.places == ("INBOX", "UNREAD")
    assert not message.is_read
    assert message.traits == frozenset()
    assert to_fetched(read_resource(resource(PLAIN, "INBOX")), ANNA, KEYS).is_read


@pytest.mark.parametrize(
    ("label", "trait"),
    [
        ("DRAFT", Trait.DRAFT),
        ("SENT", Trait.SENT),
        ("CHAT", Trait.CHAT),
        ("SPAM", Trait.SPAM),
        ("TRASH", Trait.TRASH),
    ],
)
def test_labels_are_traits(label: str, trait: Trait) -> None:
    assert traits(PLAIN, label) == {trait}


@pytest.mark.parametrize(
    ("headers", "trait"),
    [
        (b'Content-Type: multipart/signed; protocol="application/pkcs7-signature"; boundary=x', Trait.SIGNED),
        (b"Content-Type: application/pkcs7-mime; smime-type=signed-data", Trait.SIGNED),
        (b"Content-Type: application/pkcs7-mime; smime-type=enveloped-data", Trait.ENCRYPTED),
        (b"Content-Type: application/x-pkcs7-mime", Trait.ENCRYPTED),
        (b"CONTENT-TYPE:\r\n multipart/encrypted; boundary=x", Trait.ENCRYPTED),
        (b"X-Gm-Locker: 1", Trait.CONFIDENTIAL_MODE),
        (b"Content-Type: multipart/report; report-type=delivery-status; boundary=x", Trait.REPORT),
        (b"Content-Type: text/calendar; method=REQUEST", Trait.MEETING),
        (b"Content-Class: rpmsg.message", Trait.RIGHTS_MANAGED),
    ],
)
def test_headers_are_traits(headers: bytes, trait: Trait) -> None:
    assert traits(headers + b"\r\nSubject: x\r\n\r\nbody\r\n") == {trait}


@pytest.mark.parametrize("sender", [b"Anna <ANNA@example.org>", b"a.s@example.org"])
def test_what_the_owner_sent_is_known(sender: bytes) -> None:
    raw = b"From: " + sender + b"\r\nSubject: note to self\r\n\r\nbody\r\n"
    assert traits(raw, "SENT", "INBOX") == {Trait.SENT, Trait.FROM_OWNER}
    passed = b"Authentication-Results: mx.google.com;\r\n dkim=pass header.i=@example.org;\r\n dmarc=pass (p=NONE)\r\n"
    assert traits(passed + raw, "INBOX") == {Trait.FROM_OWNER}


@pytest.mark.parametrize(
    "results",
    [
        b"",
        b"Authentication-Results: mx.google.com; spf=fail; dmarc=fail (p=NONE)\r\n",
        b"Authentication-Results: evil.example; dmarc=pass\r\n",
        b"Authentication-Results: mx.google.com; dmarc=fail\r\nAuthentication-Results: mx.google.com; dmarc=pass\r\n",
        b"Authentication-Results: mx.google.com; spf=fail smtp.mailfrom=dmarc=pass\r\n",
    ],
)
def test_writing_the_owner_s_address_into_from_is_no_way_past_the_protection(results: bytes) -> None:
    assert traits(results + b"From: anna@example.org\r\nSubject: x\r\n\r\nbody\r\n", "INBOX") == frozenset()


def test_an_invitation_inside_a_message_is_a_trait() -> None:
    raw = (
        b'Content-Type: multipart/alternative; boundary="x"\r\n\r\n--x\r\nContent-Type: text/plain\r\n\r\nhi\r\n'
        b"--x\r\nContent-Type:\r\n text/calendar; method=REQUEST\r\n\r\nBEGIN:VCALENDAR\r\n--x--\r\n"
    )
    assert traits(raw) == {Trait.MEETING}
    assert traits(b"Subject: about text/calendar\r\n\r\nThe type text/calendar is explained here.\r\n") == frozenset()


def test_a_signed_part_inside_does_not_make_the_message_untouchable() -> None:
    raw = (
        b'Content-Type: multipart/mixed; boundary="x"\r\n\r\n--x\r\nContent-Type: text/html\r\n\r\n<a>\r\n'
        b"--x\r\nContent-Type: multipart/signed; boundary=y\r\n\r\n--y--\r\n--x--\r\n"
    )
    assert traits(raw) == frozenset()


def test_an_own_copy_reads_as_what_was_written() -> None:
    raw = b"Received: by gmailapi.google.com\r\n" + marker.stamp(KEY, ANNA.id, "18b0", "k", PLAIN)
    message = to_fetched(read_resource(resource(raw, "INBOX")), ANNA, KEYS)
    assert message.traits == {Trait.OWN_COPY}
    assert message.content == MimeContent(PLAIN)
    assert message.sender == "juergen@example.com"


def test_a_forged_marker_makes_no_own_copy() -> None:
    raw = marker.stamp(b"attacker's key..", ANNA.id, "18b0", "k", PLAIN)
    assert Trait.OWN_COPY not in traits(raw, "INBOX")


def test_classification_labels_travel_with_the_message() -> None:
    values = [{"labelId": "L1", "fields": [{"fieldId": "f", "selection": "s"}]}]
    message = to_fetched(read_resource(resource(PLAIN, classificationLabelValues=values)), ANNA, KEYS)
    assert '"labelId": "L1"' in message.extra


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\r\n",
        b"no header at all",
        b"Subject: =?nosuch?b?####?=\r\n\r\n",
        b"From: \xff\xfe\r\n\r\n",
        b"From: <<<>>>,,,@@@\r\n\r\n",
        b"Content-Type: ;;;=\r\n\r\n",
        b"Subject: " + b"x" * 300_000,
    ],
)
def test_a_message_that_is_no_message_is_still_read(raw: bytes) -> None:
    assert to_fetched(read_resource(resource(raw, "INBOX")), ANNA, KEYS).content == MimeContent(raw)


@pytest.mark.parametrize("change", [{"id": None}, {"raw": "****"}, {"internalDate": "soon"}])
def test_an_answer_that_is_no_message_is_not_taken_for_one(change: dict[str, Any]) -> None:
    data = resource() | change
    if data["id"] is None:
        del data["id"]
    with pytest.raises(Unavailable):
        read_resource(data)


def test_dates_are_read_with_and_without_a_zone() -> None:
    assert date_header(PLAIN) == datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
    assert date_header(b"Date: Sat, 21 Nov 2026 09:00:00 -0000\r\n\r\n") == datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
    assert date_header(b"Date: yesterday\r\n\r\n") is None
    assert date_header(b"\r\n") is None
