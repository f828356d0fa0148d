"""``MailboxConnector`` for one tenant of Microsoft 365."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from connectors.base.errors import PermissionMissing, Unavailable
from connectors.base.http import SharedHttp
from connectors.base.types import (
    AccessCheck,
    AttachedFile,
    AttachmentRecorder,
    AttachmentSwap,
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
    ReplaceStep,
    Returned,
    Subscription,
    Swapped,
)
from connectors.microsoft import checks, directory, fetch, move, reach, replace
from connectors.microsoft.attachments import AttachmentDesk, read_file
from connectors.microsoft.changes import ChangeReader
from connectors.microsoft.client import GraphClient, token_claims
from connectors.microsoft.config import MicrosoftConfig
from connectors.microsoft.copies import AlreadyInPlace, Copier, CopyGone
from connectors.microsoft.errors import MAIL_ADVANCED, MAX_REQUEST_BYTES
from connectors.microsoft.folders import FolderBook
from connectors.microsoft.marks import MarkKeys
from connectors.microsoft.subscriptions import MAX_LIFETIME, Subscriptions

if TYPE_CHECKING:
    from connectors.base.protocol import MailboxConnector

_REFUSED_SECONDS = 3_600.0
"""How long a refused change of a body is remembered, so that not every message asks for another refusal."""


class MicrosoftConnector:
    """All mailbox traffic with one tenant; implements :class:`connectors.base.protocol.MailboxConnector`.

    Long-lived: keep one per tenant and process, since it remembers the token, the well-known folders and
    which mailboxes are throttled. Nothing it remembers is needed after a restart.

    Args:
        config: Our application registration.
        external_tenant: The tenant's id (a GUID).
        marker_key: Secret of the markers on our copies; without one no copies are made. A message whose body is
            changed in place keeps its id and needs no marker.
        older_marker_keys: Secrets of before a rotation; kept as long as copies made with them.
        http: A shared client, so that several tenants use one pool of connections; an own one otherwise.
    """

    provider = Provider.MICROSOFT

    def __init__(
        self,
        config: MicrosoftConfig,
        external_tenant: str,
        *,
        marker_key: bytes = b"",
        older_marker_keys: tuple[bytes, ...] = (),
        http: SharedHttp | None = None,
    ) -> None:
        if not external_tenant:
            raise ValueError("The tenant's id is empty.")
        self.capabilities = Capabilities(
            replace_mode=ReplaceMode.EDIT_IN_PLACE,
            push=True,
            subscription_ttl=MAX_LIFETIME,
            max_message_bytes=MAX_REQUEST_BYTES,
            required_permissions=config.consent_permissions,
            swaps_attachments=True,
        )
        self._owns_http = http is None
        self.http = http or SharedHttp()
        self._client = GraphClient(config, external_tenant, self.http)
        self._client.find_scope = partial(reach.may_be_scoped, self._client)
        self._book = FolderBook(self._client)
        self._changes = ChangeReader(self._client, self._book)
        self._subscriptions = Subscriptions(self._client)
        self._keys = MarkKeys(marker_key, older_marker_keys) if marker_key else None
        self._copier = Copier(self._client, self._book, self._keys) if self._keys else None
        self._attachments = AttachmentDesk(self._client)

    async def check_access(self, first: Sequence[Mailbox] = ()) -> list[AccessCheck]:
        """See :func:`connectors.microsoft.checks.check_access`."""
        found = await checks.check_access(self._client, first)
        return [*found, await self._attachments.check()]

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
        return await fetch.fetch_message(self._client, self._book, ref, self._keys)

    async def read_attached(self, ref: MessageRef, attached: str) -> AttachedFile:
        """See :func:`connectors.microsoft.attachments.read_file`."""
        return await read_file(self._client, ref, attached)

    async def attachments_fixed(self) -> str:
        """See :class:`connectors.microsoft.attachments.AttachmentDesk`."""
        return await self._attachments.fixed()

    async def swap_attachments(
        self, ref: MessageRef, swaps: Sequence[AttachmentSwap], record: AttachmentRecorder
    ) -> Swapped:
        """See :class:`connectors.microsoft.attachments.AttachmentDesk`."""
        return await self._attachments.swap(ref, swaps, record)

    async def replace(
        self,
        change: Replacement,
        idempotency_key: str,
        record: Recorder,
        resume: ReplaceState | None = None,
    ) -> ReplaceResult:
        """Change the body in place; or by a copy, where the tenant chose that and Graph refuses the change.

        See :func:`connectors.microsoft.replace.replace_body` and :class:`connectors.microsoft.copies.Copier`.
        """
        copier, ref = self._copier, change.original.ref
        if copier is None:
            return await replace.replace_body(self._client, change, record, resume)
        if not change.mark and change.original.copy is not None:
            return await copier.bring_back(change, idempotency_key, record, resume)
        if resume is not None and resume.new_id != ref.id:
            try:
                return await copier.run(change, idempotency_key, record, resume, anew=change.copy_if_refused)
            except CopyGone:
                resume = None
        if not change.copy_if_refused or resume is not None:
            try:
                return await replace.replace_body(self._client, change, record, resume)
            except PermissionMissing:
                await copier.withdraw_left(change, idempotency_key)  # of a time when copies were allowed
                raise
        if not await self._is_refused():
            try:
                return await replace.replace_body(self._client, change, record)
            except PermissionMissing as error:
                if error.which != MAIL_ADVANCED:
                    raise
                self._client.note_refusal()
        try:
            return await copier.run(change, idempotency_key, record, None)
        except AlreadyInPlace:
            # Written before the permission was withdrawn; what is left to do needs none.
            written = ReplaceState(ReplaceStep.WRITTEN, ref.id)
            await record(written)
            return await replace.replace_body(self._client, change, record, written)

    async def _is_refused(self) -> bool:
        """Whether changing a body would be refused, going by what Graph said within the hour and by our token."""
        if not self._client.refused_within(_REFUSED_SECONDS):
            return False
        return MAIL_ADVANCED not in await self._client.roles()

    async def remove_again(self, original: MessageRef, copy: MessageRef) -> Returned:
        """See :meth:`connectors.microsoft.copies.Copier.remove_again`; nothing for a message edited in place."""
        if self._copier is None or original.id == copy.id:
            return Returned.AWAY
        return await self._copier.remove_again(original, copy)

    async def discard(self, ref: MessageRef) -> None:
        """See :meth:`connectors.microsoft.copies.Copier.discard`."""
        if self._copier is not None:
            await self._copier.discard(ref)

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
