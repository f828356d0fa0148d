from __future__ import annotations

import pytest

from connectors.emulators.microsoft.graph import ADVANCED
from tests.contract.emulators.microsoft.conftest import Organisation

NEW = {"body": {"contentType": "html", "content": '<p>new <a href="http://b.example/">b</a></p>'}}


def without_advanced(org: Organisation) -> None:
    org.tenant.grants[org.emulators.client_id].roles.remove(ADVANCED)


def test_the_body_of_received_mail_changes_and_nothing_else_does(org: Organisation) -> None:
    given = org.deliver("Kept")
    before = org.call("GET", org.path(given)).json()
    after = org.call("PATCH", org.path(given), json=NEW)
    assert after.status_code == 200
    assert after.json()["body"] == NEW["body"]
    moving = {"body", "bodyPreview", "changeKey", "@odata.etag", "lastModifiedDateTime"}
    for name in set(before) - moving:
        assert after.json()[name] == before[name], name
    assert after.json()["changeKey"] != before["changeKey"]


def test_under_the_strict_rule_the_body_needs_the_advanced_role(org: Organisation) -> None:
    given = org.deliver()
    without_advanced(org)
    refused = org.call("PATCH", org.path(given), json=NEW)
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "ErrorAccessDenied")
    assert org.call("PATCH", org.path(given), json={"isRead": True, "categories": ["x"]}).status_code == 200


def test_under_the_lenient_rule_the_body_can_be_changed_with_mail_readwrite(org: Organisation) -> None:
    given = org.deliver()
    without_advanced(org)
    org.emulators.world.microsoft.switches.strict_updates = False
    assert org.call("PATCH", org.path(given), json=NEW).status_code == 200


def test_the_refusal_can_be_the_other_code(org: Organisation) -> None:
    given = org.deliver()
    without_advanced(org)
    org.emulators.world.microsoft.switches.refuse_code = "ErrorInvalidPropertySet"
    refused = org.call("PATCH", org.path(given), json=NEW)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "ErrorInvalidPropertySet")


def test_a_draft_can_be_changed_without_the_advanced_role(org: Organisation) -> None:
    without_advanced(org)
    draft = org.call("POST", f"/users/{org.ada.id}/messages", json={"subject": "Draft"}).json()["id"]
    assert org.call("PATCH", org.path(draft), json=NEW).status_code == 200


def test_properties_that_do_not_exist_or_cannot_be_set_are_refused(org: Organisation) -> None:
    given = org.deliver()
    refused = org.call("PATCH", org.path(given), json={"id": given, **NEW})
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "ErrorInvalidPropertySet")


def test_an_old_etag_conflicts_and_the_current_one_does_not(org: Organisation) -> None:
    given = org.deliver()
    etag = org.call("GET", org.path(given)).json()["@odata.etag"]
    org.call("PATCH", org.path(given), json={"isRead": True})
    conflict = org.call("PATCH", org.path(given), json=NEW, headers={"If-Match": etag})
    assert (conflict.status_code, conflict.json()["error"]["code"]) == (412, "ErrorIrresolvableConflict")
    current = org.call("GET", org.path(given)).headers["etag"]
    assert org.call("PATCH", org.path(given), json=NEW, headers={"If-Match": current}).status_code == 200


@pytest.mark.parametrize(
    "given",
    [
        "<p>plain</p>",
        "<!DOCTYPE html><html><head><title>t</title></head><body class=x ID='y'>a&nbsp;b &amp; c</body></html>",
        '<a target="_blank" href="http://a.example/?a=1&b=2">x</a>',
        "<p>a < b & c <unclosed",
        "<header>x</header><!--[if mso]><v:rect href='http://a.example'/><![endif]-->",
    ],
)
def test_exchange_like_normalisation_keeps_the_links_and_settles_at_once(org: Organisation, given: str) -> None:
    message = org.deliver()
    org.emulators.world.microsoft.switches.exchange_html = True
    prefer = ('IdType="ImmutableId"', "outlook.allow-unsafe-html")
    body = {"body": {"contentType": "html", "content": given}}
    first = org.call("PATCH", org.path(message), *prefer, json=body).json()["body"]["content"]
    assert '<meta http-equiv="Content-Type" content="text/html; charset=utf-8">' in first
    assert first.count("http-equiv") == 1
    assert ("href" in first) is ("href" in given)
    body = {"body": {"contentType": "html", "content": first}}
    assert org.call("PATCH", org.path(message), *prefer, json=body).json()["body"]["content"] == first


def test_normalisation_is_off_unless_switched_on(org: Organisation) -> None:
    message = org.deliver()
    given = "<P Class=x>a&nbsp;b<BR/>"
    answer = org.call(
        "PATCH",
        org.path(message),
        "outlook.allow-unsafe-html",
        json={"body": {"contentType": "HTML", "content": given}},
    )
    assert answer.json()["body"]["content"] == given


def test_a_request_over_four_megabytes_is_refused(org: Organisation) -> None:
    message = org.deliver()
    answer = org.call("PATCH", org.path(message), json={"body": {"contentType": "html", "content": "x" * 4_194_304}})
    assert answer.status_code == 413


def test_attachments_are_listed_added_and_deleted(org: Organisation) -> None:
    message = org.deliver()
    added = org.call(
        "POST",
        f"{org.path(message)}/attachments",
        json={
            "@odata.type": "#microsoft.graph.fileAttachment",
            "name": "qr.png",
            "contentType": "image/png",
            "contentId": "qr@x",
            "isInline": True,
            "contentBytes": "aGVsbG8=",
        },
    )
    assert added.status_code == 201
    listed = org.call("GET", f"{org.path(message)}/attachments").json()["value"]
    assert [(each["name"], each["contentBytes"], each["contentId"]) for each in listed] == [
        ("qr.png", "aGVsbG8=", "qr@x")
    ]
    assert org.call("GET", org.path(message)).json()["hasAttachments"] is False
    at = f"{org.path(message)}/attachments/{listed[0]['id']}"
    assert org.call("GET", f"{at}/$value").content == b"hello"
    assert org.call("DELETE", at).status_code == 204
    assert org.call("GET", f"{org.path(message)}/attachments").json()["value"] == []


def test_an_attachment_of_three_megabytes_needs_an_upload_session(org: Organisation) -> None:
    message = org.deliver()
    answer = org.call(
        "POST",
        f"{org.path(message)}/attachments",
        json={"@odata.type": "#microsoft.graph.fileAttachment", "contentBytes": "AAAA" * 1024 * 1024},
    )
    assert answer.status_code == 413


PICTURE = {
    "@odata.type": "#microsoft.graph.fileAttachment",
    "name": "qr.png",
    "contentType": "image/png",
    "contentId": "qr@x",
    "isInline": True,
    "contentBytes": "aGVsbG8=",
}


def test_received_mail_that_takes_or_gives_no_attachment_refuses_and_stays(org: Organisation) -> None:
    message = org.deliver()
    at = f"{org.path(message)}/attachments"
    org.emulators.world.microsoft.switches.attachments_to_received = False
    refused = org.call("POST", at, json=PICTURE)
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "ErrorAccessDenied")
    assert org.call("GET", at).json()["value"] == []
    org.emulators.world.microsoft.switches.attachments_to_received = True
    made = org.call("POST", at, json=PICTURE).json()["id"]
    org.emulators.world.microsoft.switches.attachments_from_received = False
    assert org.call("DELETE", f"{at}/{made}").status_code == 403
    assert [each["id"] for each in org.call("GET", at).json()["value"]] == [made]


def test_a_store_that_forgets_what_an_attachment_is_shows_it_as_a_plain_file(org: Organisation) -> None:
    message = org.deliver()
    org.emulators.world.microsoft.switches.attachments_keep_identity = False
    made = org.call("POST", f"{org.path(message)}/attachments", json=PICTURE).json()
    assert (made["isInline"], made["contentId"], made["name"]) == (False, None, "qr.png")


def test_the_message_has_another_change_key_after_an_attachment_came_or_went(org: Organisation) -> None:
    message = org.deliver()
    keys = [org.call("GET", org.path(message)).json()["changeKey"]]
    made = org.call("POST", f"{org.path(message)}/attachments", json=PICTURE).json()["id"]
    keys.append(org.call("GET", org.path(message)).json()["changeKey"])
    org.call("DELETE", f"{org.path(message)}/attachments/{made}")
    keys.append(org.call("GET", org.path(message)).json()["changeKey"])
    assert len(set(keys)) == 3
