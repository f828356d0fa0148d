"""What the emulator answers has every property of the documentation's example, with a value of the same kind.

``test_models`` shows that nothing is sent that the SDK does not know; this shows that nothing documented is missing.
The shapes are those of the pages named with each; values differ, so that kinds are compared: a time is told from any
other text.
"""

from __future__ import annotations

import re
from datetime import datetime
from email.message import EmailMessage
from typing import Any

import pytest

from tests.contract.emulators.microsoft.conftest import Organisation, Receiver
from tests.contract.emulators.microsoft.test_subscriptions import subscribe

T = "2018-09-09T03:15:05Z"
ADDRESS = {"emailAddress": {"name": "Megan Bowen", "address": "MeganB@contoso.example"}}
MESSAGE: dict[str, Any] = {  # https://learn.microsoft.com/graph/api/message-get, and .../resources/message
    "@odata.etag": 'W/"CQAAABYAAAC4ofQHEIqCSbQPot83AFcbAAAnjjuZ"',
    "id": "AAMkAGI2THVSAAA=",
    "createdDateTime": T,
    "lastModifiedDateTime": T,
    "changeKey": "CQAAABYAAAC4ofQHEIqCSbQPot83AFcbAAAnjjuZ",
    "categories": [],
    "receivedDateTime": T,
    "sentDateTime": T,
    "hasAttachments": False,
    "internetMessageId": "<x@contoso.example>",
    "subject": "9/9/2018: concert",
    "bodyPreview": "The group represents Nevada.",
    "importance": "normal",
    "parentFolderId": "AAMkAGI2AAEMAAA=",
    "conversationId": "AAQkAGI2yEto=",
    "conversationIndex": "AQHV",
    "isRead": False,
    "isDraft": False,
    "webLink": "https://outlook.office365.com/owa/?ItemID=AAMk",
    "inferenceClassification": "focused",
    "body": {"contentType": "html", "content": "<html></html>"},
    "sender": ADDRESS,
    "from": ADDRESS,
    "toRecipients": [ADDRESS],
    "ccRecipients": [],
    "bccRecipients": [],
    "replyTo": [],
    "flag": {"flagStatus": "notFlagged"},
}
ATTACHMENT: dict[str, Any] = {  # https://learn.microsoft.com/graph/api/attachment-get (example: a file attachment)
    "@odata.type": "#microsoft.graph.fileAttachment",
    "@odata.mediaContentType": "image/png",
    "id": "AAMkADA1M-CJKtzmnlcqVgqI=",
    "lastModifiedDateTime": T,
    "name": "qr.png",
    "contentType": "image/png",
    "size": 13068,
    "isInline": False,
    "contentId": "image001.png@01D",
    "contentBytes": "UEsDBBQABgAIAAAAIQDf0nSABQAA",
}
FOLDER: dict[str, Any] = {  # https://learn.microsoft.com/graph/api/mailfolder-get
    "id": "AAMkAGVmMDEzM",
    "displayName": "Inbox",
    "parentFolderId": "AAMkAGVmMDEzI",
    "childFolderCount": 2,
    "unreadItemCount": 59,
    "totalItemCount": 60,
    "isHidden": False,
}
USER: dict[str, Any] = {  # https://learn.microsoft.com/graph/api/user-get (example: the default properties)
    "businessPhones": [],
    "displayName": "Adele Vance",
    "givenName": "Adele",
    "jobTitle": None,
    "mail": "AdeleV@contoso.example",
    "mobilePhone": None,
    "officeLocation": None,
    "preferredLanguage": None,
    "surname": "Vance",
    "userPrincipalName": "AdeleV@contoso.example",
    "id": "87d349ed-44d7-43e1-9a83-5f2406dee5bd",
}
GROUP: dict[str, Any] = {  # https://learn.microsoft.com/graph/api/group-get, those properties that a mail product reads
    "id": "b320ee12-b1cd-4cca-b648-a437be61c5cd",
    "displayName": "Library Assist",
    "mail": "library@contoso.example",
    "mailEnabled": True,
    "securityEnabled": True,
    "groupTypes": [],
}
SUBSCRIPTION: dict[str, Any] = {  # https://learn.microsoft.com/graph/api/subscription-post-subscriptions
    "id": "7f105c7d-2dc5-4530-97cd-4e7ae6534c07",
    "resource": "users/ada/messages",
    "applicationId": "24d3b144-21ae-4080-943f-7067b395b913",
    "changeType": "created",
    "clientState": None,
    "notificationUrl": "https://webhook.example/api",
    "expirationDateTime": "2016-11-20T18:23:45Z",
    "creatorId": "8ee44408-0679-472c-bc2a-692812af3437",
}
NOTIFICATION: dict[str, Any] = {  # https://learn.microsoft.com/graph/change-notifications-delivery-webhooks
    "subscriptionId": "7f105c7d-2dc5-4530-97cd-4e7ae6534c07",
    "subscriptionExpirationDateTime": "2016-03-20T11:00:00Z",
    "clientState": "secretClientValue",
    "changeType": "created",
    "resource": "Users/id/Messages/id",
    "tenantId": "84bd8158-6d4d-4958-8b9f-9d6445542f95",
    "resourceData": {
        "@odata.type": "#Microsoft.Graph.Message",
        "@odata.id": "Users/id/Messages/id",
        "@odata.etag": 'W/"CQAAABYAAADkrWGo7bouTKlsgTZMr9KwAAAUWRHf"',
        "id": "AAMkADMxZmEwMDAw",
    },
}
ERROR: dict[str, Any] = {  # https://learn.microsoft.com/graph/errors
    "error": {
        "code": "badRequest",
        "message": "Uploaded fragment overlaps with existing data.",
        "innerError": {"request-id": "a-guid", "date": "2018-01-01T00:00:00", "client-request-id": "a-guid"},
    }
}


def kind_of(value: object) -> str:
    if isinstance(value, str) and re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", value):
        datetime.fromisoformat(value)
        return "time"
    return type(value).__name__


def differences(example: dict[str, Any], given: dict[str, Any], at: str = "") -> list[str]:
    """Where an answer lacks a property of the example, or has a value of another kind."""
    found: list[str] = []
    for name, value in example.items():
        where = f"{at}{name}"
        if name not in given:
            found.append(f"{where} is missing")
        elif value is None or given[name] is None:
            continue  # may be there or not, by the documentation
        elif isinstance(value, dict) and isinstance(given[name], dict):
            found += differences(value, given[name], f"{where}/")
        elif isinstance(value, list) and isinstance(given[name], list):
            for entry in given[name] if value else ():
                found += differences(value[0], entry, f"{where}/")
        elif kind_of(value) != kind_of(given[name]):
            found.append(f"{where} is a {kind_of(given[name])}, not a {kind_of(value)}")
    return found


def test_a_message(org: Organisation) -> None:
    given = org.call("GET", org.path(org.deliver())).json()
    assert differences(MESSAGE, given) == []
    listed = org.call("GET", f"/users/{org.ada.id}/messages").json()
    assert [differences(MESSAGE, each) for each in listed["value"]] == [[]]
    assert listed["@odata.context"].startswith(f"{org.emulators.graph_url}/$metadata#users")


def test_an_attachment(org: Organisation) -> None:
    letter = EmailMessage()
    letter["From"], letter["To"], letter["Subject"] = "a@sender.example", org.ada.address, "A code"
    letter.set_content("<p><img src='cid:qr@x'></p>", subtype="html")
    letter.add_related(b"\x89PNG\r\n", "image", "png", cid="<qr@x>", filename="qr.png")
    given = org.emulators.world.deliver("microsoft", org.ada.address, letter.as_bytes())
    (attachment, *_) = org.call("GET", f"{org.path(given)}/attachments").json()["value"]
    assert differences(ATTACHMENT, attachment) == []


@pytest.mark.parametrize(
    ("path", "example"),
    [("/users/{user}/mailFolders/inbox", FOLDER), ("/users/{user}", USER), ("/groups/{group}", GROUP)],
    ids=["folder", "user", "group"],
)
def test_a_resource(org: Organisation, path: str, example: dict[str, Any]) -> None:
    org.tenant.grants[org.emulators.client_id].roles.append("GroupMember.Read.All")
    group = org.emulators.world.microsoft.add_group(org.tenant, "Team", [org.ada], "team@nordwind.example")
    answer = org.call("GET", path.format(user=org.ada.id, group=group.id))
    assert differences(example, answer.json()) == []


def test_a_subscription_and_its_notification(org: Organisation, receiver: Receiver) -> None:
    subscription = subscribe(org, receiver)
    assert differences(SUBSCRIPTION, subscription) == []
    message = org.deliver()
    (notification,) = receiver.wait_for(1)
    assert differences(NOTIFICATION, notification) == []
    assert notification["resourceData"]["id"] == message


def test_an_error(org: Organisation) -> None:
    assert differences(ERROR, org.call("GET", "/nothing").json()) == []


def test_members_are_typed_where_they_may_be_of_several_kinds(org: Organisation) -> None:
    org.tenant.grants[org.emulators.client_id].roles.append("GroupMember.Read.All")
    state = org.emulators.world.microsoft
    inner = state.add_group(org.tenant, "Inner", [org.ben])
    outer = state.add_group(org.tenant, "Outer", [org.ada, inner])
    direct = org.call("GET", f"/groups/{outer.id}/members").json()["value"]
    assert {each["@odata.type"] for each in direct} == {"#microsoft.graph.user", "#microsoft.graph.group"}
    deep = org.call("GET", f"/groups/{outer.id}/transitiveMembers").json()["value"]
    assert {each["id"] for each in deep} == {org.ada.id, org.ben.id, inner.id}
    cast = f"/groups/{outer.id}/transitiveMembers/microsoft.graph.user"
    assert org.call("GET", cast).json()["error"]["code"] == "Request_UnsupportedQuery"
    advanced = org.call("GET", f"{cast}?$count=true&$top=1", headers={"ConsistencyLevel": "eventual"}).json()
    following = org.call("GET", advanced["@odata.nextLink"], headers={"ConsistencyLevel": "eventual"}).json()
    assert {each["id"] for page in (advanced, following) for each in page["value"]} == {org.ada.id, org.ben.id}


def test_the_comparison_itself_notices_what_is_missing_or_of_another_kind() -> None:
    assert differences({"a": 1, "b": T, "c": {"d": "x"}}, {"a": "1", "b": "yesterday", "c": {}}) == [
        "a is a str, not a int",
        "b is a str, not a time",
        "c/d is missing",
    ]
