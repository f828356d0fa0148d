"""The real clients: msgraph-sdk's models and azure-identity's token requests, over HTTP."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from azure.core.exceptions import ClientAuthenticationError
from azure.core.pipeline.transport import AioHttpTransport
from azure.core.rest import AsyncHttpResponse, HttpRequest
from azure.identity.aio import CertificateCredential, ClientSecretCredential
from cryptography.hazmat.primitives import serialization
from kiota_abstractions.api_error import APIError
from kiota_abstractions.authentication import AllowedHostsValidator, BaseBearerTokenAuthenticationProvider
from kiota_abstractions.base_request_configuration import RequestConfiguration
from msgraph import GraphRequestAdapter, GraphServiceClient
from msgraph.generated.models.body_type import BodyType
from msgraph.generated.models.event_message_request import EventMessageRequest
from msgraph.generated.models.file_attachment import FileAttachment
from msgraph.generated.models.item_body import ItemBody
from msgraph.generated.models.message import Message
from msgraph.generated.models.o_data_errors.o_data_error import ODataError
from msgraph.generated.users.item.messages.item.message_item_request_builder import MessageItemRequestBuilder
from msgraph.generated.users.item.messages.item.move.move_post_request_body import MovePostRequestBody
from msgraph.generated.users.item.messages.messages_request_builder import MessagesRequestBuilder

from connectors.emulators.microsoft.tokens import certificate_of
from tests.contract.emulators.microsoft.conftest import TRUSTED, Organisation
from tests.contract.emulators.microsoft.test_entra import made_certificate
from tests.contract.emulators.microsoft.test_intake import letter


class _Token:
    def __init__(self, token: str) -> None:
        self._token = token

    async def get_authorization_token(self, uri: str, context: dict[str, Any] | None = None) -> str:
        return self._token

    def get_allowed_hosts_validator(self) -> AllowedHostsValidator:
        return AllowedHostsValidator([])


@asynccontextmanager
async def graph(org: Organisation) -> AsyncIterator[GraphServiceClient]:
    async with httpx.AsyncClient(trust_env=False, verify=TRUSTED) as client:
        token = _Token(org.emulators.app_token(org.tenant))
        adapter = GraphRequestAdapter(BaseBearerTokenAuthenticationProvider(token), client)
        adapter.base_url = org.emulators.graph_url
        yield GraphServiceClient(request_adapter=adapter)


def configured(parameters: Any = None) -> RequestConfiguration[Any]:
    made: RequestConfiguration[Any] = RequestConfiguration(query_parameters=parameters)
    made.headers.add("Prefer", 'IdType="ImmutableId"')
    made.headers.add("Prefer", "outlook.allow-unsafe-html")
    return made


@pytest.mark.anyio
async def test_the_sdk_reads_changes_and_moves_a_message(org: Organisation) -> None:
    given = org.deliver("Sdk", "<p>one</p>")
    async with graph(org) as client:
        user = client.users.by_user_id(org.ada.id)
        item = user.messages.by_message_id(given)
        parameters = MessageItemRequestBuilder.MessageItemRequestBuilderGetQueryParameters(
            select=["subject", "body", "internetMessageHeaders", "receivedDateTime"],
            expand=["singleValueExtendedProperties($filter=id eq 'String 0x001A')"],
        )
        message = await item.get(configured(parameters))
        assert message is not None and message.body is not None
        assert (message.id, message.subject, message.body.content) == (given, "Sdk", "<p>one</p>")
        assert message.body.content_type is BodyType.Html
        assert message.received_date_time is not None and message.received_date_time.tzinfo is not None
        properties = message.single_value_extended_properties or []
        assert [each.value for each in properties] == ["IPM.Note"]
        changed = await item.patch(
            Message(body=ItemBody(content_type=BodyType.Html, content="<p>two</p>")), configured()
        )
        assert changed is not None and changed.body is not None
        assert changed.body.content == "<p>two</p>"
        moved = await item.move.post(MovePostRequestBody(destination_id="junkemail"), configured())
        assert moved is not None and moved.id == given
        await item.permanent_delete.post(configured())
        with pytest.raises(ODataError) as gone:
            await item.get(configured())
        assert gone.value.response_status_code == 404
        assert gone.value.error is not None and gone.value.error.code == "ErrorItemNotFound"


@pytest.mark.anyio
async def test_the_sdk_pages_lists_and_follows_delta(org: Organisation) -> None:
    given = {org.deliver(f"Number {index}") for index in range(12)}
    async with graph(org) as client:
        user = client.users.by_user_id(org.ada.address)
        parameters = MessagesRequestBuilder.MessagesRequestBuilderGetQueryParameters(top=7, select=["id"])
        page = await user.messages.get(configured(parameters))
        assert page is not None and page.value is not None and page.odata_next_link is not None
        rest = await user.messages.with_url(page.odata_next_link).get(configured())
        assert rest is not None and rest.value is not None
        assert {each.id for each in [*page.value, *rest.value]} == given
        delta = user.mail_folders.by_mail_folder_id("inbox").messages.delta
        changes = await delta.get(configured())
        seen = set()
        while changes is not None and changes.odata_next_link is not None:
            seen |= {each.id for each in changes.value or []}
            changes = await delta.with_url(changes.odata_next_link).get(configured())
        assert changes is not None and changes.odata_delta_link is not None
        seen |= {each.id for each in changes.value or []}
        assert seen == given
        org.call("POST", f"{org.path(next(iter(given)))}/permanentDelete")
        later = await delta.with_url(changes.odata_delta_link).get(configured())
        assert later is not None and later.value is not None
        assert [each.additional_data["@removed"]["reason"] for each in later.value] == ["deleted"]


@pytest.mark.anyio
async def test_the_sdk_tells_meeting_requests_and_attachments_by_their_types(org: Organisation) -> None:
    world = org.emulators.world
    meeting = world.deliver("microsoft", org.ada.address, letter("invitation"))
    picture = world.deliver("microsoft", org.ada.address, letter("inline_image"))
    async with graph(org) as client:
        messages = client.users.by_user_id(org.ada.id).messages
        assert isinstance(await messages.by_message_id(meeting).get(configured()), EventMessageRequest)
        listed = await messages.by_message_id(picture).attachments.get(configured())
        assert listed is not None and listed.value is not None
        (attachment,) = listed.value
        assert isinstance(attachment, FileAttachment)
        assert (attachment.content_id, attachment.is_inline) == ("map@alpenkraft.example", True)
        mime = await messages.by_message_id(picture).content.get(configured())
        assert mime == world.microsoft.messages[picture].raw


@pytest.mark.anyio
async def test_the_sdk_understands_a_refused_update(org: Organisation) -> None:
    given = org.deliver()
    org.tenant.grants[org.emulators.client_id].roles.remove("Mail-Advanced.ReadWrite.All")
    async with graph(org) as client:
        item = client.users.by_user_id(org.ada.id).messages.by_message_id(given)
        with pytest.raises(APIError) as refused:
            await item.patch(Message(body=ItemBody(content_type=BodyType.Html, content="x")), configured())
        assert refused.value.response_status_code == 403


class _Loopback(AioHttpTransport):
    """azure-identity insists on https; on loopback its requests go out as http."""

    async def send(self, request: HttpRequest, **more: Any) -> AsyncHttpResponse:
        request.url = request.url.replace("https://", "http://", 1)
        return await super().send(request, **more)


@pytest.mark.anyio
async def test_azure_identity_gets_tokens_by_secret_and_by_certificate(org: Organisation) -> None:
    emulators = org.emulators
    authority = emulators.authority.replace("http://", "https://", 1)
    key, certificate = made_certificate()
    public = certificate.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    emulators.world.microsoft.applications[emulators.client_id].certificates.append(certificate_of(public.decode()))
    common: dict[str, Any] = {"authority": authority, "disable_instance_discovery": True}
    scope = "https://graph.microsoft.com/.default"
    by_secret = ClientSecretCredential(
        org.tenant.id, emulators.client_id, emulators.client_secret, transport=_Loopback(), **common
    )
    by_certificate = CertificateCredential(
        org.tenant.id, emulators.client_id, certificate_data=private + public, transport=_Loopback(), **common
    )
    for credential in (by_secret, by_certificate):
        async with credential:
            token = (await credential.get_token(scope)).token
        answer = org.client.get(f"{emulators.graph_url}/users", headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 200


@pytest.mark.anyio
async def test_azure_identity_reports_the_aadsts_number_after_revocation(org: Organisation) -> None:
    emulators = org.emulators
    emulators.world.microsoft.revoke(org.tenant.id, emulators.client_id)
    credential = ClientSecretCredential(
        org.tenant.id,
        emulators.client_id,
        emulators.client_secret,
        authority=emulators.authority.replace("http://", "https://", 1),
        disable_instance_discovery=True,
        transport=_Loopback(),
    )
    async with credential:
        with pytest.raises(ClientAuthenticationError) as refused:
            await credential.get_token("https://graph.microsoft.com/.default")
    assert "AADSTS7000229" in str(refused.value)
    response = refused.value.response
    assert response is not None
    assert json.loads(response.text())["error_codes"] == [7000229]
