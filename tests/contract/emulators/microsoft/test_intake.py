from __future__ import annotations

import random
from datetime import UTC, datetime

import pytest

from connectors.emulators.demo.delivery import EVERY_LETTER
from connectors.emulators.demo.organisations import NORDWIND
from connectors.emulators.demo.writing import Letter, Scene
from connectors.emulators.microsoft.intake import read_mime
from connectors.emulators.microsoft.mime import message_to_mime
from connectors.emulators.microsoft.model import Message

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def read(raw: bytes) -> Message:
    return read_mime(raw, user_id="u", folder_id="f", now=NOW, source=random.Random(1))


def letter(name: str) -> bytes:
    chosen = next(each for each in EVERY_LETTER if each.__name__ == name)
    return chosen(Scene(NORDWIND[0], NOW, 7, random.Random(1), 8090))


@pytest.mark.parametrize(
    ("name", "message_class"),
    [
        ("newsletter", "IPM.Note"),
        ("signed", "IPM.Note.SMIME.MultipartSigned"),
        ("invitation", "IPM.Schedule.Meeting.Request"),
        ("bounce", "REPORT.IPM.Note.NDR"),
        ("encrypted", "IPM.Note"),
    ],
)
def test_the_message_class_follows_the_mime_structure(name: str, message_class: str) -> None:
    assert read(letter(name)).message_class == message_class


def test_a_meeting_request_is_an_event_message() -> None:
    message = read(letter("invitation"))
    assert (message.odata_type, message.meeting_type) == ("#microsoft.graph.eventMessageRequest", "meetingRequest")


def test_an_opaque_smime_message_is_one_attachment_without_a_body() -> None:
    message = read(b"Subject: x\r\nContent-Type: application/pkcs7-mime; smime-type=enveloped-data\r\n\r\nabc")
    assert (message.message_class, message.body) == ("IPM.Note.SMIME", "")
    assert [each.name for each in message.attachments] == ["smime.p7m"]


def test_the_html_part_is_the_body_and_inline_images_keep_their_content_id() -> None:
    message = read(letter("inline_image"))
    assert message.body_type == "html"
    assert [(each.is_inline, each.content_id) for each in message.attachments] == [(True, "map@alpenkraft.example")]


def test_a_forwarded_message_is_an_item_attachment() -> None:
    message = read(letter("forwarded"))
    assert [(each.kind, each.name) for each in message.attachments] == [("item", "Rates from Parcelwind")]


def test_a_japanese_text_is_decoded_from_its_charset() -> None:
    message = read(letter("shinkan"))
    assert "今月の新刊" in message.subject
    assert "いつもご利用いただきありがとうございます" in message.body


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x00\xff\xfe",
        b"Subject: =?x-unknown?b?????=\r\nContent-Type: text/html; charset=nonsense\r\n\r\n\xff<p>",
        b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\nno end",
        b"Content-Type: multipart/alternative\r\n\r\nno boundary",
        b"Date: never\r\nFrom: <<<>>>\r\nTo: ,,,\r\n\r\nx",
        b"Content-Type: text/html\r\nContent-Transfer-Encoding: base64\r\n\r\n!!!!",
    ],
)
def test_broken_mail_is_delivered_all_the_same(raw: bytes) -> None:
    message = read(raw)
    assert message.id
    assert message.received_at == NOW


@pytest.mark.parametrize("each", EVERY_LETTER, ids=lambda each: each.__name__)
def test_every_demo_letter_is_real_mail_with_a_subject_and_a_sender(each: Letter) -> None:
    raw = each(Scene(NORDWIND[1], NOW, 9, random.Random(2), 8090))
    message = read(raw)
    assert message.subject
    assert message.from_ is not None
    assert message.to[0].address == NORDWIND[1].address
    assert raw.count(b"\n") == raw.count(b"\r\n")
    assert b"http" not in raw or b".localhost" in raw or b"127.0.0.1" in raw or b"base64" in raw


def test_mime_is_put_together_again_although_a_header_has_eight_bit_octets() -> None:
    message = read(b"From: M\xfcller <m@a.example>\r\nSubject: x\r\nContent-Type: text/html\r\n\r\n<p>a</p>")
    message.body, message.body_changed = "<p>b\u00fc</p>", True
    again = message_to_mime(message)
    assert b"From: M\xfcller <m@a.example>" in again
    assert read(again).body == message.body


@pytest.mark.parametrize("each", EVERY_LETTER, ids=lambda each: each.__name__)
def test_a_changed_body_comes_back_from_mime_as_it_was_written(each: Letter) -> None:
    message = read(each(Scene(NORDWIND[1], NOW, 9, random.Random(2), 8090)))
    message.body_type, message.body, message.body_changed = "html", "<p>ge\u00e4ndert \u65e5\u672c</p>", True
    again = read(message_to_mime(message))
    assert (again.body_type, again.body, again.subject) == ("html", message.body, message.subject)
    assert again.internet_message_id == message.internet_message_id
