"""What is sent from a template is what the SDK would have built for the same values."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kiota_abstractions.base_request_configuration import RequestConfiguration
from msgraph.generated.users.item.messages.item.message_item_request_builder import MessageItemRequestBuilder
from msgraph.generated.users.item.messages.messages_request_builder import MessagesRequestBuilder

from connectors.base.types import BodyContent
from connectors.microsoft.client import graph_requests
from connectors.microsoft.templates import Built, Template, built_by, mark

BASE = "https://graph.example/v1.0"
IDS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=40)


@settings(deadline=None, max_examples=60)
@given(IDS, IDS)
def test_a_message_is_asked_for_as_the_sdk_asks(user: str, message: str) -> None:
    requests = graph_requests()
    parameters = MessageItemRequestBuilder.MessageItemRequestBuilderGetQueryParameters(
        select=["id", "body"], expand=["singleValueExtendedProperties($filter=id eq 'String 0x001A')"]
    )
    item = requests._sdk.users.by_user_id(user).messages.by_message_id(message)
    theirs = built_by(item.to_get_request_information(RequestConfiguration(query_parameters=parameters)), BASE)

    ours = requests.message(
        user, message, ["id", "body"], "singleValueExtendedProperties($filter=id eq 'String 0x001A')"
    )

    assert (ours.method, ours.path, ours.headers) == (theirs.method, theirs.path, theirs.headers)


def test_the_newest_messages_are_asked_for_as_the_sdk_asks() -> None:
    requests = graph_requests()
    parameters = MessagesRequestBuilder.MessagesRequestBuilderGetQueryParameters(
        select=["id"], top=50, filter="receivedDateTime ge 2026-11-21T10:00:00Z", orderby=["receivedDateTime desc"]
    )
    info = requests._sdk.users.by_user_id("ada").messages.to_get_request_information(
        RequestConfiguration(query_parameters=parameters)
    )

    assert requests.newest_messages("ada", "2026-11-21T10:00:00Z", ["id"], 50) == Built(
        "GET", built_by(info, BASE).path, {"accept": "application/json"}
    )


@pytest.mark.parametrize("text", ["<p>Grüße — 日本</p>", 'quotes " and \\ and \x01', "half a pair \ud800", ""])
@pytest.mark.parametrize("is_html", [True, False])
def test_a_body_arrives_as_it_was_written(text: str, is_html: bool) -> None:
    built = graph_requests().set_body("ada", "AAMk=", BodyContent(text, is_html))

    assert built.content is not None
    assert json.loads(built.content) == {
        "@odata.type": "#microsoft.graph.message",
        "body": {"content": text, "contentType": "html" if is_html else "text"},
    }
    assert (built.method, built.path) == ("PATCH", "/users/ada/messages/AAMk%3D")


def test_characters_beyond_ascii_are_not_escaped() -> None:
    content = graph_requests().set_body("ada", "m", BodyContent("日" * 1_000, True)).content

    assert content is not None
    assert len(content) < 3_200


def test_a_template_whose_values_the_sdk_lost_is_refused() -> None:
    info = graph_requests()._sdk.users.by_user_id(mark(0)).messages.to_get_request_information()

    with pytest.raises(ValueError, match="value 1"):
        Template(info, 2)
