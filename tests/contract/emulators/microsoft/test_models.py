"""Every property that the emulator sends is one that msgraph-sdk's generated models know."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from kiota_serialization_json.json_parse_node_factory import JsonParseNodeFactory
from msgraph.generated.models.attachment_collection_response import AttachmentCollectionResponse
from msgraph.generated.models.group_collection_response import GroupCollectionResponse
from msgraph.generated.models.mail_folder_collection_response import MailFolderCollectionResponse
from msgraph.generated.models.message import Message
from msgraph.generated.models.message_collection_response import MessageCollectionResponse
from msgraph.generated.models.o_data_errors.o_data_error import ODataError
from msgraph.generated.models.organization_collection_response import OrganizationCollectionResponse
from msgraph.generated.models.subscription import Subscription
from msgraph.generated.models.user_collection_response import UserCollectionResponse

from connectors.emulators.demo.delivery import EVERY_LETTER
from tests.contract.emulators.microsoft.conftest import Organisation, Receiver
from tests.contract.emulators.microsoft.test_intake import letter
from tests.contract.emulators.microsoft.test_subscriptions import subscribe

ANNOTATIONS = {"@odata.context", "@odata.etag", "@odata.count", "@odata.mediaContentType", "@removed"}


def unknown_names(value: Any, seen: set[int] | None = None) -> set[str]:
    """Names that a model and the models in it did not know."""
    seen = set() if seen is None else seen
    if id(value) in seen:
        return set()
    seen.add(id(value))
    if isinstance(value, list):
        return set().union(*(unknown_names(each, seen) for each in value)) if value else set()
    if not hasattr(value, "get_field_deserializers"):
        return set()
    found = {name for name in value.additional_data if name not in ANNOTATIONS}
    store = value.backing_store.enumerate_() if hasattr(value, "backing_store") else []
    for _, each in store:
        if each is not value.additional_data:
            found |= unknown_names(each, seen)
    return found


def parsed(content: bytes, model: Any) -> Any:
    node = JsonParseNodeFactory().get_root_parse_node("application/json", content)
    return node.get_object_value(model)


PATHS: list[tuple[str, Any]] = [
    ("/users/{user}/messages?$expand=attachments&$top=50", MessageCollectionResponse),
    ("/users/{user}/mailFolders/inbox/messages/delta", MessageCollectionResponse),
    ("/users/{user}/mailFolders?includeHiddenFolders=true", MailFolderCollectionResponse),
    ("/users?$select=id,displayName,mail,accountEnabled,proxyAddresses,assignedPlans", UserCollectionResponse),
    ("/users", UserCollectionResponse),
    ("/groups", GroupCollectionResponse),
    ("/organization", OrganizationCollectionResponse),
]


@pytest.mark.parametrize(("path", "model"), PATHS, ids=lambda each: each if isinstance(each, str) else "")
def test_collections_consist_of_known_properties(org: Organisation, path: str, model: Any) -> None:
    org.tenant.grants[org.emulators.client_id].roles.append("GroupMember.Read.All")
    org.emulators.world.microsoft.add_group(org.tenant, "Team", [org.ada], "team@nordwind.example")
    for each in EVERY_LETTER if "messages" in path else EVERY_LETTER[:1]:
        org.emulators.world.deliver("microsoft", org.ada.address, letter(each.__name__))
    answer = org.call("GET", path.format(user=org.ada.id))
    assert answer.status_code == 200
    collection = parsed(answer.content, model)
    assert collection.value
    assert unknown_names(collection) == set()


def test_a_message_with_everything_expanded_consists_of_known_properties(org: Organisation) -> None:
    given = org.emulators.world.deliver("microsoft", org.ada.address, letter("forwarded"))
    expand = "attachments,singleValueExtendedProperties($filter=id eq 'String 0x001A')"
    answer = org.call("GET", f"{org.path(given)}?$expand={expand}")
    message = parsed(answer.content, Message)
    assert unknown_names(message) == set()
    assert message.single_value_extended_properties[0].value == "IPM.Note"
    listed = org.call("GET", f"{org.path(given)}/attachments")
    assert unknown_names(parsed(listed.content, AttachmentCollectionResponse)) == set()


def test_subscriptions_notifications_and_errors_consist_of_known_properties(
    org: Organisation, receiver: Receiver
) -> None:
    subscription = subscribe(org, receiver)
    answer = org.call("GET", f"/subscriptions/{subscription['id']}")
    assert unknown_names(parsed(answer.content, Subscription)) == set()
    org.deliver()
    org.emulators.world.microsoft_service.subscriptions.lifecycle(subscription["id"], "missed")
    # The SDK has no model of notifications: "changeNotification resource type" lists their properties.
    documented = {
        "id", "subscriptionId", "subscriptionExpirationDateTime", "clientState", "changeType", "resource",
        "resourceData", "tenantId", "lifecycleEvent", "encryptedContent",
    }  # fmt: skip
    assert set().union(*receiver.wait_for(2)) <= documented
    refused = org.call("GET", org.path("rubbish"))
    error = parsed(refused.content, ODataError)
    assert error.error.code == "ErrorInvalidIdMalformed"
    assert error.error.inner_error.request_id


def test_the_check_itself_notices_an_unknown_property() -> None:
    make: Callable[[dict[str, Any]], Any] = lambda value: parsed(json.dumps(value).encode(), Message)  # noqa: E731
    assert unknown_names(make({"id": "x", "colour": "red"})) == {"colour"}
    assert unknown_names(make({"id": "x", "body": {"contentType": "html", "shape": 1}})) == {"shape"}
