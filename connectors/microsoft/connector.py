"""``MailboxConnector`` for one tenant of Microsoft 365."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from connectors.base.errors import Unavailable
from connectors.base.http import SharedHttp
from connectors.base.types import (
    AccessCheck,
    Capabilities,
    ChangePage,
    DirectoryGroup,
    FetchedMessage,
    Mailbox,
    MessageRef,
    MoveResult,
    Place,
    Provider,
    Recorder,
    Replacement,
    ReplaceMode,
    ReplaceResult,
    ReplaceState,
    Returned,
    Subscription,
)
from connectors.microsoft import checks, directory, fetch, move, reach, replace
from connectors.microsoft.changes import ChangeReader
from connectors.microsoft.client import GraphClient, token_claims
from connectors.microsoft.config import MicrosoftConfig
from connectors.microsoft.errors import MAX_REQUEST_BYTES
from connectors.microsoft.folders import FolderBook
from connectors.microsoft.subscriptions import MAX_LIFETIME, Subscriptions

if TYPE_CHECKING:
    from connectors.base.protocol import MailboxConnector


class MicrosoftConnector:
    """All mailbox traffic with one tenant; implements :class:`connectors.base.protocol.MailboxConnector`.

    Long-lived: keep one per tenant and process, since it remembers the token, the well-known folders and
    which mailboxes are throttled. Nothing it remembers is needed after a restart.

    Args:
        config: Our application registration.
        external_tenant: The tenant's id (a GUID).
        marker_key: Not used: a message keeps its id when its body is changed, so that it needs no marker
            (and Microsoft closes the extended properties that could hold one).
        http: A shared client, so that several tenants use one pool of connections; an own one otherwise.
    """

    provider = Provider.MICROSOFT

    def __init__(
        self,
        config: MicrosoftConfig,
        external_tenant: str,
        *,
        marker_key: bytes = b"",
        http: SharedHttp | None = None,
    ) -> None:
        del marker_key
        if not external_tenant:
            raise ValueError("The tenant's id is empty.")
        self.capabilities = Capabilities(
            replace_mode=ReplaceMode.EDIT_IN_PLACE,
            push=True,
            subscription_ttl=MAX_LIFETIME,
            max_message_bytes=MAX_REQUEST_BYTES,
            required_permissions=config.consent_permissions,
        )
        self._owns_http = http is None
        self.http = http or SharedHttp()
        self._client = GraphClient(config, external_tenant, self.http)
        self._client.find_scope = partial(reach.may_be_scoped, self._client)
        self._book = FolderBook(self._client)
        self._changes = ChangeReader(self._client, self._book)
        self._subscriptions = Subscriptions(self._client)

    async def check_access(self, first: Sequence[Mailbox] = ()) -> list[AccessCheck]:
        """See :func:`connectors.microsoft.checks.check_access`."""
        return await checks.check_access(self._client, first)

    async def organisation(self) -> str:
        """The tenant's id as its token names it (claim ``tid``)."""
        tid = token_claims(await self._client.token()).get("tid")
        if not isinstance(tid, str) or not tid:
            raise Unavailable("Microsoft Entra ID's token names no tenant.")
        return tid.lower()

    async def find_groups(self, text: str) -> list[DirectoryGroup]:
        """See :func:`connectors.microsoft.directory.find_groups`."""
        return await directory.find_groups(self._client, text)

    def members(self, group_id: str) -> AsyncIterator[str]:
        """See :func:`connectors.microsoft.directory.members`."""
        return directory.members(self._client, group_id)

    def mailboxes(self) -> AsyncIterator[Mailbox]:
        """See :func:`connectors.microsoft.directory.list_mailboxes`."""
        return directory.list_mailboxes(self._client)

    async def subscribe(self, mailbox: Mailbox, callback_url: str) -> Subscription:
        """See :class:`connectors.microsoft.subscriptions.Subscriptions`."""
        return await self._subscriptions.subscribe(mailbox, callback_url)

    async def renew(self, subscription: Subscription, callback_url: str) -> Subscription:
        """See :class:`connectors.microsoft.subscriptions.Subscriptions`."""
        return await self._subscriptions.renew(subscription, callback_url)

    async def unsubscribe(self, subscription: Subscription) -> None:
        """See :class:`connectors.microsoft.subscriptions.Subscriptions`."""
        await self._subscriptions.unsubscribe(subscription)

    async def changes(self, mailbox: Mailbox, cursor: str | None, since: datetime) -> ChangePage:
        """See :mod:`connectors.microsoft.changes`."""
        return await self._changes.changes(mailbox, cursor, since)

    async def fetch(self, ref: MessageRef) -> FetchedMessage:
        """See :func:`connectors.microsoft.fetch.fetch_message`."""
        return await fetch.fetch_message(self._client, self._book, ref)

    async def read_attached(self, ref: MessageRef, attached: str) -> bytes:
        """See :func:`connectors.microsoft.fetch.read_attached`."""
        return await fetch.read_attached(self._client, ref, attached)

    async def replace(
        self,
        change: Replacement,
        idempotency_key: str,
        record: Recorder,
        resume: ReplaceState | None = None,
    ) -> ReplaceResult:
        """See :func:`connectors.microsoft.replace.replace_body`; the key is not needed."""
        del idempotency_key
        return await replace.replace_body(self._client, change, record, resume)

    async def remove_again(self, original: MessageRef, copy: MessageRef) -> Returned:
        """Nothing: a message is edited in place."""
        del original, copy
        return Returned.AWAY

    async def way_back(self, ref: MessageRef) -> str:
        """See :func:`connectors.microsoft.move.way_back`."""
        return await move.way_back(self._client, ref)

    async def move(self, ref: MessageRef, place: Place) -> MoveResult:
        """See :func:`connectors.microsoft.move.move`."""
        return await move.move(self._client, self._book, ref, place)

    async def move_back(self, ref: MessageRef, undo: str) -> MessageRef:
        """See :func:`connectors.microsoft.move.move_back`."""
        return await move.move_back(self._client, self._book, ref, undo)

    async def aclose(self) -> None:
        """Close the connections, unless the client is shared."""
        if self._owns_http:
            await self.http.aclose()


if TYPE_CHECKING:

    def _implements(made: MicrosoftConnector) -> MailboxConnector:
        return made
