"""Every request that the connector makes to Graph, built by msgraph-sdk.

The SDK is the source of paths, query parameters and bodies; nothing here sends. Importing this module loads
the SDK (some 0.5 s and tens of MB), so :class:`connectors.microsoft.client.GraphClient` does it at the first
request.
"""

from __future__ import annotations

import binascii
import warnings
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, TypeVar

import httpx
from kiota_abstractions.authentication import AnonymousAuthenticationProvider
from kiota_abstractions.base_request_configuration import RequestConfiguration
from kiota_abstractions.request_information import RequestInformation

with warnings.catch_warnings():
    # kiota warns of its own deprecated class wherever it is imported; the generated code imports it.
    warnings.simplefilter("ignore", DeprecationWarning)
    import kiota_abstractions.default_query_parameters  # noqa: F401

from msgraph.generated.groups.groups_request_builder import GroupsRequestBuilder
from msgraph.generated.groups.item.group_item_request_builder import GroupItemRequestBuilder
from msgraph.generated.groups.item.transitive_members.graph_user.graph_user_request_builder import (
    GraphUserRequestBuilder,
)
from msgraph.generated.models.body_type import BodyType
from msgraph.generated.models.file_attachment import FileAttachment
from msgraph.generated.models.item_body import ItemBody
from msgraph.generated.models.mail_folder import MailFolder
from msgraph.generated.models.message import Message
from msgraph.generated.models.subscription import Subscription
from msgraph.generated.users.item.mail_folders.item.child_folders.child_folders_request_builder import (
    ChildFoldersRequestBuilder,
)
from msgraph.generated.users.item.mail_folders.item.mail_folder_item_request_builder import (
    MailFolderItemRequestBuilder,
)
from msgraph.generated.users.item.mail_folders.item.messages.delta.delta_request_builder import (
    DeltaRequestBuilder,
)
from msgraph.generated.users.item.mail_folders.mail_folders_request_builder import MailFoldersRequestBuilder
from msgraph.generated.users.item.messages.item.attachments.attachments_request_builder import (
    AttachmentsRequestBuilder,
)
from msgraph.generated.users.item.messages.item.message_item_request_builder import MessageItemRequestBuilder
from msgraph.generated.users.item.messages.item.move.move_post_request_body import MovePostRequestBody
from msgraph.generated.users.item.messages.messages_request_builder import MessagesRequestBuilder
from msgraph.generated.users.users_request_builder import UsersRequestBuilder
from msgraph.graph_request_adapter import GraphRequestAdapter
from msgraph.graph_service_client import GraphServiceClient

from connectors.base.types import AttachedFile, BodyContent
from connectors.microsoft.templates import Built, Template, mark

_FOLDER_PROPERTIES = ["id", "displayName", "childFolderCount", "totalItemCount"]
_FOLDER_PAGE = 200
_FOUND = 50
_Parameters = TypeVar("_Parameters")


class _MustNotSend(httpx.AsyncBaseTransport):
    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        raise AssertionError("The SDK builds requests; it must not send them.")


def _with(parameters: _Parameters) -> RequestConfiguration[_Parameters]:
    return RequestConfiguration(query_parameters=parameters)


def _becomes(document: dict[str, Any]) -> Callable[[dict[str, Any]], None]:
    """Puts this JSON object in place of a template's."""

    def change(found: dict[str, Any]) -> None:
        found.clear()
        found.update(document)

    return change


class GraphRequests:
    """Builds requests; the base address is filled in by who sends them."""

    def __init__(self) -> None:
        adapter = GraphRequestAdapter(
            AnonymousAuthenticationProvider(), client=httpx.AsyncClient(transport=_MustNotSend())
        )
        self._sdk = GraphServiceClient(request_adapter=adapter)
        self._templates: dict[tuple[object, ...], Template] = {}

    def follow(self, url: str) -> RequestInformation:
        """GET of a ``nextLink`` or ``deltaLink``."""
        return self._sdk.users.with_url(url).to_get_request_information()

    def users(self, select: Sequence[str], top: int) -> RequestInformation:
        """GET /users."""
        return self._sdk.users.to_get_request_information(
            _with(UsersRequestBuilder.UsersRequestBuilderGetQueryParameters(select=list(select), top=top))
        )

    def group(self, group: str, select: Sequence[str]) -> RequestInformation:
        """GET of one group by id (https://learn.microsoft.com/graph/api/group-get)."""
        return self._sdk.groups.by_group_id(group).to_get_request_information(
            _with(GroupItemRequestBuilder.GroupItemRequestBuilderGetQueryParameters(select=list(select)))
        )

    def groups_named(self, text: str, select: Sequence[str], top: int) -> RequestInformation:
        """GET of the groups with this address or this name (https://learn.microsoft.com/graph/api/group-list)."""
        quoted = text.replace("'", "''")
        return self._sdk.groups.to_get_request_information(
            _with(
                GroupsRequestBuilder.GroupsRequestBuilderGetQueryParameters(
                    select=list(select), top=top, filter=f"mail eq '{quoted}' or displayName eq '{quoted}'"
                )
            )
        )

    def group_users(self, group: str, top: int) -> RequestInformation:
        """GET of the people in a group and in the groups within it.

        The cast to users needs ``$count`` and ``ConsistencyLevel: eventual``
        (https://learn.microsoft.com/graph/api/group-list-transitivemembers).
        """
        builder = self._sdk.groups.by_group_id(group).transitive_members.graph_user
        parameters = GraphUserRequestBuilder.GraphUserRequestBuilderGetQueryParameters(
            select=["id"], top=top, count=True
        )
        info = builder.to_get_request_information(_with(parameters))
        info.headers.try_add("ConsistencyLevel", "eventual")
        return info

    # --- folders ---------------------------------------------------------------------------------------

    def folder(self, user: str, folder: str) -> RequestInformation:
        """GET of a folder's id, by id or well-known name."""
        builder = self._sdk.users.by_user_id(user).mail_folders.by_mail_folder_id(folder)
        return builder.to_get_request_information(
            _with(MailFolderItemRequestBuilder.MailFolderItemRequestBuilderGetQueryParameters(select=["id"]))
        )

    def folders(self, user: str) -> RequestInformation:
        """GET of the top-level folders that are not hidden."""
        return self._sdk.users.by_user_id(user).mail_folders.to_get_request_information(
            _with(
                MailFoldersRequestBuilder.MailFoldersRequestBuilderGetQueryParameters(
                    select=_FOLDER_PROPERTIES, top=_FOLDER_PAGE
                )
            )
        )

    def folders_named(self, user: str, name: str) -> RequestInformation:
        """GET of the top-level folders of that name, hidden ones included."""
        return self._sdk.users.by_user_id(user).mail_folders.to_get_request_information(
            _with(
                MailFoldersRequestBuilder.MailFoldersRequestBuilderGetQueryParameters(
                    select=_FOLDER_PROPERTIES,
                    include_hidden_folders="true",
                    filter=f"displayName eq '{name.replace(chr(39), chr(39) * 2)}'",
                )
            )
        )

    def child_folders(self, user: str, folder: str) -> RequestInformation:
        """GET of the folders below one."""
        builder = self._sdk.users.by_user_id(user).mail_folders.by_mail_folder_id(folder).child_folders
        return builder.to_get_request_information(
            _with(
                ChildFoldersRequestBuilder.ChildFoldersRequestBuilderGetQueryParameters(
                    select=_FOLDER_PROPERTIES, top=_FOLDER_PAGE
                )
            )
        )

    def create_hidden_folder(self, user: str, name: str) -> RequestInformation:
        """POST of a folder that mail programs do not show."""
        return self._sdk.users.by_user_id(user).mail_folders.to_post_request_information(
            MailFolder(display_name=name, is_hidden=True)
        )

    # --- messages --------------------------------------------------------------------------------------

    def first_delta(self, user: str, folder: str, since: str | None) -> RequestInformation:
        """GET that begins a folder's delta, with the messages received since a time or with all."""
        builder = self._sdk.users.by_user_id(user).mail_folders.by_mail_folder_id(folder).messages.delta
        return builder.to_get_request_information(
            _with(
                DeltaRequestBuilder.DeltaRequestBuilderGetQueryParameters(
                    change_type="created",  # our own PATCH is an "updated", which need not be reported
                    select=["id", "receivedDateTime"],
                    filter=f"receivedDateTime ge {since}" if since else None,
                )
            )
        )

    def newest_messages(self, user: str, since: str | None, select: Sequence[str], top: int) -> Built:
        """GET of the messages of all folders, newest first."""

        def build() -> RequestInformation:
            parameters = MessagesRequestBuilder.MessagesRequestBuilderGetQueryParameters(select=list(select), top=top)
            if since is not None:
                parameters.filter = f"receivedDateTime ge {mark(1)}"
                parameters.orderby = ["receivedDateTime desc"]
            return self._sdk.users.by_user_id(mark(0)).messages.to_get_request_information(_with(parameters))

        values = (user,) if since is None else (user, since)
        return self._template(("newest", len(values), *select, str(top)), build, len(values)).fill(*values)

    def message(self, user: str, message: str, select: Sequence[str], expand: str | None = None) -> Built:
        """GET of one message."""

        def build() -> RequestInformation:
            return (
                self._sdk.users.by_user_id(mark(0))
                .messages.by_message_id(mark(1))
                .to_get_request_information(
                    _with(
                        MessageItemRequestBuilder.MessageItemRequestBuilderGetQueryParameters(
                            select=list(select), expand=[expand] if expand else None
                        )
                    )
                )
            )

        return self._template(("message", expand, *select), build, 2).fill(user, message)

    def _template(self, kind: tuple[object, ...], build: Callable[[], RequestInformation], values: int) -> Template:
        found = self._templates.get(kind)
        if found is None:
            found = self._templates[kind] = Template(build(), values)
        return found

    def attachments(self, user: str, message: str, select: Sequence[str]) -> RequestInformation:
        """GET of a message's attachments, without their content."""
        builder = self._sdk.users.by_user_id(user).messages.by_message_id(message).attachments
        return builder.to_get_request_information(
            _with(AttachmentsRequestBuilder.AttachmentsRequestBuilderGetQueryParameters(select=list(select)))
        )

    def attachment(self, user: str, message: str, attachment: str) -> RequestInformation:
        """GET of one attachment with its content (https://learn.microsoft.com/graph/api/attachment-get)."""
        builder = self._sdk.users.by_user_id(user).messages.by_message_id(message).attachments
        return builder.by_attachment_id(attachment).to_get_request_information()

    def add_attachment(self, user: str, message: str, file: AttachedFile) -> Built:
        """POST of a file attachment of less than 3 MB (https://learn.microsoft.com/graph/api/message-post-attachments)."""

        def build() -> RequestInformation:
            builder = self._sdk.users.by_user_id(mark(0)).messages.by_message_id(mark(1)).attachments
            return builder.to_post_request_information(FileAttachment(name=mark(2)))

        def change(document: dict[str, Any]) -> None:
            document["name"] = file.name
            document["contentType"] = file.content_type
            document["isInline"] = file.is_inline
            if file.content_id is not None:
                document["contentId"] = file.content_id
            document["contentBytes"] = binascii.b2a_base64(file.content, newline=False).decode("ascii")

        return self._template(("attach",), build, 2).fill_body(change, user, message)

    def remove_attachment(self, user: str, message: str, attachment: str) -> RequestInformation:
        """DELETE of one attachment (https://learn.microsoft.com/graph/api/attachment-delete)."""
        builder = self._sdk.users.by_user_id(user).messages.by_message_id(message).attachments
        return builder.by_attachment_id(attachment).to_delete_request_information()

    def set_body(self, user: str, message: str, body: BodyContent) -> Built:
        """PATCH of the body alone."""
        kind = BodyType.Html if body.is_html else BodyType.Text

        def build() -> RequestInformation:
            return self._patch(mark(0), mark(1), Message(body=ItemBody(content_type=kind, content=mark(2))))

        def change(document: dict[str, Any]) -> None:
            document["body"]["content"] = body.content

        return self._template(("body", kind), build, 2).fill_body(change, user, message)

    def set_read(self, user: str, message: str, is_read: bool) -> RequestInformation:
        """PATCH of the read state alone."""
        return self._patch(user, message, Message(is_read=is_read))

    def set_state(self, user: str, message: str, state: dict[str, Any]) -> Built:
        """PATCH of properties that stay free to change: isRead, flag, categories, importance, inferenceClassification.

        Args:
            user: Whose mailbox.
            message: Its id.
            state: As Graph gave them.
        """

        def build() -> RequestInformation:
            return self._patch(mark(0), mark(1), Message(is_read=True))

        return self._template(("state",), build, 2).fill_body(_becomes(state), user, message)

    def create_message(self, user: str, folder: str, document: dict[str, Any]) -> Built:
        """POST of a message into a folder (https://learn.microsoft.com/graph/api/mailfolder-post-messages)."""

        def build() -> RequestInformation:
            builder = self._sdk.users.by_user_id(mark(0)).mail_folders.by_mail_folder_id(mark(1)).messages
            return builder.to_post_request_information(Message(subject=""))

        return self._template(("create",), build, 2).fill_body(_becomes(document), user, folder)

    def messages_where(self, user: str, condition: str, select: Sequence[str], expand: str) -> RequestInformation:
        """GET of the messages of all folders for which ``$filter`` holds."""
        parameters = MessagesRequestBuilder.MessagesRequestBuilderGetQueryParameters(
            select=list(select), filter=condition, expand=[expand], top=_FOUND
        )
        return self._sdk.users.by_user_id(user).messages.to_get_request_information(_with(parameters))

    def _patch(self, user: str, message: str, fresh: Message) -> RequestInformation:
        builder = self._sdk.users.by_user_id(user).messages.by_message_id(message)
        return builder.to_patch_request_information(fresh)

    def move(self, user: str, message: str, folder: str) -> RequestInformation:
        """POST that moves a message."""
        builder = self._sdk.users.by_user_id(user).messages.by_message_id(message).move
        return builder.to_post_request_information(MovePostRequestBody(destination_id=folder))

    # --- subscriptions ---------------------------------------------------------------------------------

    def subscribe(self, user: str, callback_url: str, secret: str, expires: datetime) -> RequestInformation:
        """POST of a subscription to new messages in all folders."""
        return self._sdk.subscriptions.to_post_request_information(
            Subscription(
                change_type="created",
                notification_url=callback_url,
                lifecycle_notification_url=callback_url,
                resource=f"users/{user}/messages",
                expiration_date_time=expires,
                client_state=secret,
            )
        )

    def renew(self, subscription: str, expires: datetime) -> RequestInformation:
        """PATCH of a subscription's expiry."""
        builder = self._sdk.subscriptions.by_subscription_id(subscription)
        return builder.to_patch_request_information(Subscription(expiration_date_time=expires))

    def unsubscribe(self, subscription: str) -> RequestInformation:
        """DELETE of a subscription."""
        return self._sdk.subscriptions.by_subscription_id(subscription).to_delete_request_information()
