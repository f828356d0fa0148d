from __future__ import annotations

import base64

from connectors.emulators.google.accounts import NewUser
from tests.contract.emulators.microsoft.conftest import Organisation


def may_send(org: Organisation) -> None:
    org.tenant.grants[org.emulators.client_id].roles.append("Mail.Send")


def to(*addresses: str) -> list[dict[str, dict[str, str]]]:
    return [{"emailAddress": {"address": address}} for address in addresses]


def subjects(org: Organisation, user_id: str, folder: str) -> list[str]:
    values = org.call("GET", f"/users/{user_id}/mailFolders/{folder}/messages").json()["value"]
    return [message["subject"] for message in values]


def test_a_sent_message_arrives_on_either_provider_and_is_kept_in_sent_items(org: Organisation) -> None:
    may_send(org)
    org.emulators.world.google.create_domain("kasuga.example", "C1", [NewUser("emi@kasuga.example", "Emi Tanaka")])
    message = {
        "subject": "Meet for lunch?",
        "body": {"contentType": "HTML", "content": "<p>Curry or soup?</p>"},
        "toRecipients": to(org.ben.address, "emi@kasuga.example"),
        "ccRecipients": to("nobody@outside.example"),
        "bccRecipients": to(org.ada.address),
        "internetMessageHeaders": [{"name": "x-demo", "value": "1"}],
    }
    assert org.call("POST", f"/users/{org.ada.id}/sendMail", json={"message": message}).status_code == 202
    assert subjects(org, org.ben.id, "inbox") == ["Meet for lunch?"]
    assert subjects(org, org.ada.id, "sentitems") == ["Meet for lunch?"]
    assert subjects(org, org.ada.id, "inbox") == ["Meet for lunch?"]
    (received,) = org.emulators.world.google.messages("emi@kasuga.example")
    raw = org.emulators.world.google.message("emi@kasuga.example", received.id).raw
    assert raw is not None
    assert b"x-demo: 1" in raw
    assert f"From: Ada <{org.ada.address}>".encode() in raw
    assert b"Bcc" not in raw


def test_nothing_is_kept_where_that_is_not_wanted(org: Organisation) -> None:
    may_send(org)
    body = {"message": {"subject": "Quiet", "toRecipients": to(org.ben.address)}, "saveToSentItems": "false"}
    assert org.call("POST", f"/users/{org.ada.id}/sendMail", json=body).status_code == 202
    assert subjects(org, org.ada.id, "sentitems") == []


def test_mime_is_sent_as_base64_and_refused_otherwise(org: Organisation) -> None:
    may_send(org)
    raw = f"From: {org.ada.address}\r\nTo: {org.ben.address}\r\nSubject: Mime\r\n\r\nx\r\n".encode()
    at, plain = f"/users/{org.ada.id}/sendMail", {"Content-Type": "text/plain"}
    assert org.call("POST", at, content=base64.b64encode(raw), headers=plain).status_code == 202
    assert subjects(org, org.ben.id, "inbox") == ["Mime"]
    refused = org.call("POST", at, content=b"!!", headers=plain)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "ErrorMimeContentInvalidBase64String")


def test_a_draft_is_sent_once_and_keeps_its_immutable_id(org: Organisation) -> None:
    may_send(org)
    body = {"subject": "Draft", "toRecipients": to(org.ben.address)}
    draft = org.call("POST", f"/users/{org.ada.id}/messages", json=body).json()["id"]
    assert org.call("POST", f"{org.path(draft)}/send").status_code == 202
    assert org.call("GET", org.path(draft)).json()["isDraft"] is False
    assert subjects(org, org.ada.id, "sentitems") == ["Draft"]
    assert org.call("POST", f"{org.path(draft)}/send").status_code == 400
    assert subjects(org, org.ben.id, "inbox") == ["Draft"]


def test_sending_needs_its_own_role_and_a_recipient_and_only_custom_headers(org: Organisation) -> None:
    at = f"/users/{org.ada.id}/sendMail"
    body = {"message": {"subject": "x", "toRecipients": to(org.ben.address)}}
    assert org.call("POST", at, json=body).status_code == 403
    may_send(org)
    assert org.call("POST", at, json={"message": {"subject": "x"}}).json()["error"]["code"] == "ErrorInvalidRecipients"
    headers = [{"name": "References", "value": "<1@x>"}]
    refused = org.call("POST", at, json={"message": {**body["message"], "internetMessageHeaders": headers}})
    assert refused.json()["error"]["code"] == "InvalidInternetMessageHeader"


def test_mail_to_a_group_reaches_its_members(org: Organisation) -> None:
    may_send(org)
    org.emulators.world.microsoft.add_group(org.tenant, "Team", [org.ada, org.ben], "team@nordwind.example")
    body = {"message": {"subject": "All", "toRecipients": to("team@nordwind.example")}}
    org.call("POST", f"/users/{org.ada.id}/sendMail", json=body)
    assert subjects(org, org.ada.id, "inbox") == subjects(org, org.ben.id, "inbox") == ["All"]
