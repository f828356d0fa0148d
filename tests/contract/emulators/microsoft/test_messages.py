from __future__ import annotations

from tests.contract.emulators.microsoft.conftest import Organisation


def test_a_message_has_the_properties_of_the_documented_example(org: Organisation) -> None:
    given = org.deliver("Concert", "<p>The group</p>")
    message = org.call("GET", org.path(given)).json()
    documented = {
        "@odata.context", "@odata.etag", "id", "createdDateTime", "lastModifiedDateTime", "changeKey", "categories",
        "receivedDateTime", "sentDateTime", "hasAttachments", "internetMessageId", "subject", "bodyPreview",
        "importance", "parentFolderId", "conversationId", "isDeliveryReceiptRequested", "isReadReceiptRequested",
        "isRead", "isDraft", "webLink", "inferenceClassification", "body", "sender", "from", "toRecipients",
        "ccRecipients", "bccRecipients", "replyTo", "flag",
    }  # fmt: skip
    assert documented <= set(message)
    assert message["@odata.etag"] == f'W/"{message["changeKey"]}"'
    assert message["from"] == {"emailAddress": {"name": "Cleo", "address": "cleo@sender.example"}}
    assert "internetMessageHeaders" not in message


def test_headers_come_only_when_they_are_selected(org: Organisation) -> None:
    given = org.deliver("Concert")
    message = org.call("GET", f"{org.path(given)}?$select=internetMessageHeaders").json()
    assert {"name": "Subject", "value": "Concert"} in message["internetMessageHeaders"]
    assert "subject" not in message


def test_an_immutable_id_survives_a_move_and_an_ordinary_one_does_not(org: Organisation) -> None:
    given = org.deliver()
    ordinary = org.call("GET", org.path(given), "outlook.allow-unsafe-html").json()["id"]
    assert ordinary != given
    moved = org.call("POST", f"{org.path(given)}/move", json={"destinationId": "junkemail"})
    assert moved.status_code == 201
    assert moved.json()["id"] == given
    assert org.call("GET", org.path(given)).status_code == 200
    gone = org.call("GET", org.path(ordinary))
    assert (gone.status_code, gone.json()["error"]["code"]) == (404, "ErrorItemNotFound")


def test_lists_come_in_pages_that_follow_links_to_the_end(org: Organisation) -> None:
    given = {org.deliver(f"Number {index}") for index in range(25)}
    seen: list[str] = []
    url = f"/users/{org.ada.address}/messages?$select=subject&$top=10"
    pages = 0
    while url:
        page = org.call("GET", url).json()
        seen += [message["id"] for message in page["value"]]
        url = page.get("@odata.nextLink", "")
        pages += 1
    assert pages == 3
    assert sorted(seen) == sorted(given)


def test_ten_messages_are_a_page_where_nothing_is_said(org: Organisation) -> None:
    for index in range(11):
        org.deliver(f"Number {index}")
    page = org.call("GET", f"/users/{org.ada.id}/messages").json()
    assert len(page["value"]) == 10
    assert "@odata.nextLink" in page


def test_filter_by_time_and_sorting_work_together_as_documented(org: Organisation) -> None:
    org.deliver("old")
    org.emulators.world.clock.advance(3600)
    middle = org.emulators.world.clock.now().strftime("%Y-%m-%dT%H:%M:%SZ")
    org.emulators.world.clock.advance(3600)
    org.deliver("new")
    found = org.call(
        "GET", f"/users/{org.ada.id}/messages?$filter=receivedDateTime ge {middle}&$orderby=receivedDateTime desc"
    )
    assert [message["subject"] for message in found.json()["value"]] == ["new"]
    refused = org.call("GET", f"/users/{org.ada.id}/messages?$filter=isRead eq false&$orderby=receivedDateTime desc")
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "InefficientFilter")


def test_a_filter_that_is_not_understood_is_refused(org: Organisation) -> None:
    answer = org.call("GET", f"/users/{org.ada.id}/messages?$filter=color eq 'red'")
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "ErrorInvalidUrlQueryFilter")


def test_the_message_class_is_read_by_an_expanded_extended_property(org: Organisation) -> None:
    given = org.deliver()
    expand = "singleValueExtendedProperties($filter=id eq 'String 0x001A')"
    message = org.call("GET", f"{org.path(given)}?$select=id&$expand={expand}").json()
    assert message["singleValueExtendedProperties"] == [{"id": "String 0x1A", "value": "IPM.Note"}]


def test_scripts_are_removed_unless_unsafe_html_is_asked_for(org: Organisation) -> None:
    html = '<p onclick="x()">Hi <a href="javascript:x()">a</a><script>x()</script><a href="http://a.example">b</a></p>'
    given = org.deliver("Unsafe", html)
    safe = org.call("GET", org.path(given)).json()["body"]["content"]
    assert "script" not in safe
    assert "onclick" not in safe
    assert '<a href="http://a.example">b</a>' in safe
    unsafe = org.call("GET", org.path(given), 'IdType="ImmutableId", outlook.allow-unsafe-html')
    assert unsafe.json()["body"]["content"] == html
    assert "outlook.allow-unsafe-html" in unsafe.headers["preference-applied"]


def test_a_text_message_is_given_as_html_with_links_unless_text_is_asked_for(org: Organisation) -> None:
    raw = b"From: a@sender.example\r\nSubject: t\r\nContent-Type: text/plain\r\n\r\nSee http://a.example/x?a=1&b=2.\r\n"
    given = org.emulators.world.deliver("microsoft", org.ada.address, raw)
    html = org.call("GET", org.path(given)).json()["body"]
    assert html["contentType"] == "html"
    assert '<a href="http://a.example/x?a=1&amp;b=2">http://a.example/x?a=1&amp;b=2</a>.' in html["content"]
    text = org.call("GET", org.path(given), 'outlook.body-content-type="text"')
    assert text.json()["body"] == {"contentType": "text", "content": "See http://a.example/x?a=1&b=2.\r\n"}
    assert text.headers["preference-applied"] == 'outlook.body-content-type="text"'


def test_mime_is_what_was_delivered_until_the_body_changes(org: Organisation) -> None:
    given = org.deliver("Mime", "<p>one</p>")
    first = org.call("GET", f"{org.path(given)}/$value").content
    assert first.endswith(b"\r\n\r\n<p>one</p>")
    org.call("PATCH", org.path(given), json={"body": {"contentType": "html", "content": "<p>tw\u00f6</p>"}})
    second = org.call("GET", f"{org.path(given)}/$value").content
    assert b"Message-ID: <Mime@sender.example>" in second
    assert b"multipart/alternative" in second


def test_a_mailbox_of_another_tenant_does_not_exist(org: Organisation) -> None:
    _, (other,) = org.emulators.microsoft_tenant("zoe", domain="other.example")
    org.emulators.world.deliver("microsoft", other.address, b"Subject: secret\r\n\r\nx")
    answer = org.call("GET", f"/users/{other.id}/messages")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "ErrorInvalidUser")


def test_deleting_moves_out_of_sight_and_permanent_deletion_ends_it(org: Organisation) -> None:
    first, second = org.deliver("first"), org.deliver("second")
    assert org.call("DELETE", org.path(first)).status_code == 204
    assert org.call("POST", f"{org.path(second)}/permanentDelete").status_code == 204
    assert org.call("GET", f"/users/{org.ada.id}/messages").json()["value"] == []
    deleted = org.call("GET", f"/users/{org.ada.id}/mailFolders/recoverableitemsdeletions/messages").json()["value"]
    assert [message["subject"] for message in deleted] == ["first"]
    assert org.call("GET", org.path(second)).status_code == 404


def test_a_replacement_copy_keeps_times_and_is_no_draft(org: Organisation) -> None:
    body = {
        "subject": "Copy",
        "body": {"contentType": "html", "content": "<p>x</p>"},
        "from": {"emailAddress": {"name": "Cleo", "address": "cleo@sender.example"}},
        "toRecipients": [{"emailAddress": {"address": org.ada.address}}],
        "singleValueExtendedProperties": [
            {"id": "Integer 0x0E07", "value": "1"},
            {"id": "SystemTime 0x0E06", "value": "2026-01-02T03:04:05Z"},
            {"id": "SystemTime 0x0039", "value": "2026-01-02T03:04:00Z"},
        ],
    }
    made = org.call("POST", f"/users/{org.ada.id}/mailFolders/inbox/messages", json=body)
    assert made.status_code == 201
    copy = made.json()
    assert (copy["isDraft"], copy["isRead"]) == (False, True)
    assert copy["receivedDateTime"] == "2026-01-02T03:04:05Z"
    assert copy["sentDateTime"] == "2026-01-02T03:04:00Z"
    draft = org.call("POST", f"/users/{org.ada.id}/messages", json={"subject": "Draft"}).json()
    assert draft["isDraft"] is True


def test_folders_are_found_by_well_known_name_and_listed(org: Organisation) -> None:
    names = [each["displayName"] for each in org.call("GET", f"/users/{org.ada.id}/mailFolders").json()["value"]]
    assert {"Inbox", "Junk Email", "Sent Items", "Drafts"} <= set(names)
    org.deliver()
    inbox = org.call("GET", f"/users/{org.ada.id}/mailFolders('inbox')").json()
    assert (inbox["totalItemCount"], inbox["unreadItemCount"]) == (1, 1)
    made = org.call("POST", f"/users/{org.ada.id}/mailFolders", json={"displayName": "Quarantine", "isHidden": True})
    assert made.status_code == 201
    again = org.call("POST", f"/users/{org.ada.id}/mailFolders", json={"displayName": "quarantine"})
    assert (again.status_code, again.json()["error"]["code"]) == (409, "ErrorFolderExists")


def test_an_unknown_address_and_a_malformed_id_are_refused(org: Organisation) -> None:
    assert org.call("GET", "/nothing/here").status_code == 400
    answer = org.call("GET", org.path("rubbish"))
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "ErrorInvalidIdMalformed")
