"""What a message's metadata says, from the documented resource."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from connectors.base.errors import Unavailable
from connectors.base.types import BodyContent, Mailbox, MessageRef, Trait
from connectors.microsoft.fetch import (
    attachment_traits,
    class_traits,
    message_traits,
    message_version,
    read_message,
)
from connectors.microsoft.folders import Folders

REF = MessageRef(Mailbox("user-1", "adele@example.com"), "AAMk1")
FOLDERS = Folders(
    {"inbox": "F-in", "junkemail": "F-junk", "deleteditems": "F-del", "drafts": "F-dr", "sentitems": "F-se"}
)


def message(**changes: Any) -> dict[str, Any]:
    """The documented example of a message, with changes."""
    data: dict[str, Any] = {
        "@odata.etag": 'W/"CQAAABYAAAC4"',
        "id": "AAMk1",
        "changeKey": "CQAAABYAAAC4",
        "receivedDateTime": "2026-11-21T10:15:08Z",
        "hasAttachments": False,
        "internetMessageId": "<MWHPR0000@example.com>",
        "subject": "You have late tasks!",
        "parentFolderId": "F-in",
        "conversationId": "AAQkA",
        "isRead": True,
        "isDraft": False,
        "body": {"contentType": "html", "content": "<html>Hi</html>"},
        "from": {"emailAddress": {"name": "MOD Administrator", "address": "MODAdmin@Example.com"}},
        "toRecipients": [{"emailAddress": {"name": "Adele", "address": "Adele@Example.com"}}],
        "ccRecipients": [{"emailAddress": {"name": "Nobody"}}],
        "singleValueExtendedProperties": [{"id": "String 0x1a", "value": "IPM.Note"}],
    }
    data.update(changes)
    return data


def test_a_message_resource_is_read_whole() -> None:
    fetched = read_message(REF, message(), FOLDERS)

    assert fetched.version == 'W/"CQAAABYAAAC4"'
    assert fetched.content == BodyContent("<html>Hi</html>", is_html=True)
    assert fetched.traits == frozenset()
    assert fetched.sender == "modadmin@example.com"
    assert fetched.recipients == ("adele@example.com",)
    assert fetched.received_at == datetime(2026, 11, 21, 10, 15, 8, tzinfo=UTC)
    assert (fetched.thread_id, fetched.places, fetched.is_read) == ("AAQkA", ("F-in",), True)


def test_the_version_is_made_from_the_change_key_where_no_etag_is_given() -> None:
    data = message()
    del data["@odata.etag"]

    assert message_version(data) == 'W/"CQAAABYAAAC4"'


def test_absent_properties_are_empty_and_not_an_error() -> None:
    data = message(**{"from": None, "toRecipients": None, "receivedDateTime": None, "subject": None})

    fetched = read_message(REF, data, FOLDERS)

    assert (fetched.sender, fetched.recipients, fetched.received_at, fetched.subject) == ("", (), None, "")


@pytest.mark.parametrize("changes", [{"body": None}, {"@odata.etag": None, "changeKey": None}])
def test_an_answer_without_body_or_version_is_not_taken_for_a_message(changes: dict[str, Any]) -> None:
    with pytest.raises(Unavailable):
        read_message(REF, message(**changes), FOLDERS)


@pytest.mark.parametrize(
    ("name", "trait"),
    [
        ("IPM.Note.SMIME.MultipartSigned", Trait.SIGNED),
        ("IPM.Note.SMIME", Trait.ENCRYPTED),
        ("IPM.Note.rpmsg.Microsoft.Voicemail.UM", Trait.RIGHTS_MANAGED),
        ("IPM.Schedule.Meeting.Request", Trait.MEETING),
        ("IPM.Schedule.Meeting.Resp.Pos", Trait.MEETING),
        ("REPORT.IPM.Note.NDR", Trait.REPORT),
        ("IPM.Note.Microsoft.Approval.Request", Trait.APPROVAL),
        ("IPM.Note.Rules.OofTemplate.Microsoft", Trait.UNKNOWN_CLASS),
        ("IPM.NoteX", Trait.UNKNOWN_CLASS),
        ("IPM.Note.SMIMEX", Trait.UNKNOWN_CLASS),
        ("", Trait.UNKNOWN_CLASS),
    ],
)
def test_a_message_class_says_what_must_not_be_touched(name: str, trait: Trait) -> None:
    assert class_traits(name) == {trait}


def test_ordinary_mail_has_no_class_trait_in_any_case() -> None:
    assert class_traits("ipm.NOTE") == frozenset()


def test_a_message_without_its_class_is_of_unknown_class() -> None:
    traits = message_traits(message(singleValueExtendedProperties=[]), FOLDERS, [])

    assert traits == {Trait.UNKNOWN_CLASS}


@pytest.mark.parametrize(
    ("folder", "trait"),
    [("F-junk", Trait.SPAM), ("F-del", Trait.TRASH), ("F-dr", Trait.DRAFT), ("F-se", Trait.SENT)],
)
def test_the_folder_says_what_a_message_is(folder: str, trait: Trait) -> None:
    assert message_traits(message(parentFolderId=folder), FOLDERS, []) == {trait}


def test_an_event_message_is_a_meeting_whatever_its_class() -> None:
    data = message(**{"@odata.type": "#microsoft.graph.eventMessageRequest"})

    assert Trait.MEETING in message_traits(data, FOLDERS, [])


def test_a_forged_sender_does_not_exempt_a_message() -> None:
    own = {"emailAddress": {"address": REF.mailbox.address}}

    assert message_traits(message(**{"from": own}), FOLDERS, []) == frozenset()


@pytest.mark.parametrize(
    ("attachment", "trait"),
    [
        ({"name": "SMIME.p7m", "contentType": "application/octet-stream"}, Trait.ENCRYPTED),
        ({"name": "x", "contentType": "application/pkcs7-signature; name=x"}, Trait.SIGNED),
        ({"name": "message.rpmsg", "contentType": None}, Trait.RIGHTS_MANAGED),
        ({"name": "encrypted.asc", "contentType": "application/pgp-encrypted"}, Trait.ENCRYPTED),
    ],
)
def test_attachments_say_what_must_not_be_touched(attachment: dict[str, Any], trait: Trait) -> None:
    assert attachment_traits([{"name": "a.pdf", "contentType": "application/pdf"}, attachment]) == {trait}
