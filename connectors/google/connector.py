"""One customer's Google Workspace mailboxes, as the application sees them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Final

from connectors.base.errors import MailboxUnavailable, MessageGone
from connectors.base.http import HttpPolicy, SharedHttp
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
    Returned,
    Subscription,
    SwapOutcome,
    Swapped,
)
from connectors.google import changes, checks, directory, errors, watch
from connectors.google.client import GoogleClient
from connectors.google.config import GoogleConfig
from connectors.google.copies import discard
from connectors.google.fetch import get_raw, off_loop, to_fetched
from connectors.google.marker import MarkerKeys
from connectors.google.move import Mover
from connectors.google.quotas import Pacer
from connectors.google.replace import Replacer
from connectors.google.tokens import TokenSource


@contextmanager
def _about_the_mailbox() -> Iterator[None]:
    """Where no message is named, "not found" is said of the mailbox."""
    try:
        yield
    except MessageGone as error:
        raise MailboxUnavailable("Google knows no such mailbox.") from error


HTTP_POLICY: Final = HttpPolicy(max_response_bytes=220_000_000)
"""As base64 a message of the largest size that Gmail takes is 210 million bytes."""


class GoogleConnector:
    """Implements :class:`connectors.base.protocol.MailboxConnector`.

    Args:
        config: Our credentials and Google's addresses.
        external_tenant: The customer's primary domain (the ``hd`` claim of its administrator).
        admin_address: The administrator who connected it; the Directory is read as this person.
        customer: The customer's id that the tenant is bound to; empty while it is being connected.
        marker_key: Secret of the markers on our copies; 32 bytes.
        older_marker_keys: Secrets of before a rotation; kept as long as copies made with them.
        http: A client to share between tenants; it is then the caller's to close.
        tokens: A token cache to share likewise.
    """

    provider = Provider.GOOGLE

    def __init__(
        self,
        config: GoogleConfig,
        external_tenant: str,
        *,
        admin_address: str = "",
        customer: str = "",
        marker_key: bytes,
        older_marker_keys: tuple[bytes, ...] = (),
        http: SharedHttp | None = None,
        tokens: TokenSource | None = None,
    ) -> None:
        self.capabilities = Capabilities(
            replace_mode=ReplaceMode.INSERT_VERIFY_REMOVE,
            push=bool(config.pubsub_topic),
            subscription_ttl=timedelta(days=7),
            max_message_bytes=errors.MAX_MESSAGE_BYTES,
            required_permissions=config.scopes,
        )
        self._own_http = http is None
        self._http = http or SharedHttp(HTTP_POLICY)
        self._keys = MarkerKeys(marker_key, older_marker_keys)
        self._client = GoogleClient(
            config,
            external_tenant,
            admin_address.lower(),
            self._http,
            tokens or TokenSource(config, self._http),
            Pacer(config.units_per_user_minute),
            customer,
        )
        self._replacer = Replacer(self._client, self._keys)
        self._mover = Mover(self._client)

    async def check_access(self, first: Sequence[Mailbox] = ()) -> list[AccessCheck]:
        """See the protocol. Delegation covers all users or none, so the administrator's mailbox stands for all."""
        return await checks.check_access(self._client)

    async def organisation(self) -> str:
        """See :func:`connectors.google.directory.customer_id`."""
        return await directory.customer_id(self._client)

    async def find_groups(self, text: str) -> list[DirectoryGroup]:
        """See :func:`connectors.google.directory.find_groups`."""
        return await directory.find_groups(self._client, text)

    def members(self, group_id: str) -> AsyncIterator[str]:
        """See :func:`connectors.google.directory.members`."""
        return directory.members(self._client, group_id)

    def mailboxes(self) -> AsyncIterator[Mailbox]:
        """See the protocol. All domains of the customer; suspended accounts come with ``enabled`` False."""
        return directory.list_mailboxes(self._client)

    async def subscribe(self, mailbox: Mailbox, callback_url: str) -> Subscription:
        """See the protocol. ``callback_url`` is part of the Pub/Sub subscription, not of a mailbox's."""
        with _about_the_mailbox():
            return await watch.watch(self._client, mailbox)

    async def renew(self, subscription: Subscription, callback_url: str) -> Subscription:
        """See the protocol: watching again prolongs."""
        return await self.subscribe(subscription.mailbox, callback_url)

    async def unsubscribe(self, subscription: Subscription) -> None:
        """See the protocol."""
        await watch.stop(self._client, subscription.mailbox)

    async def changes(self, mailbox: Mailbox, cursor: str | None, since: datetime) -> ChangePage:
        """See the protocol."""
        with _about_the_mailbox():
            return await changes.read_changes(self._client, mailbox, cursor, since)

    async def fetch(self, ref: MessageRef) -> FetchedMessage:
        """See the protocol. A copy of ours is given as what was written: without our marker."""
        message = await get_raw(self._client, ref.mailbox, ref.id)
        return await off_loop(len(message.raw), to_fetched, message, ref.mailbox, self._keys)

    async def read_attached(self, ref: MessageRef, attached: str) -> AttachedFile:
        """Nothing is attached apart: a Gmail message is fetched whole."""
        raise MessageGone(f"The message {ref.id} has no attachment {attached} apart from its content.")

    async def attachments_fixed(self) -> str:
        """See the protocol."""
        return "A Gmail message is replaced as a whole, with its attachments."

    async def swap_attachments(
        self, ref: MessageRef, swaps: Sequence[AttachmentSwap], record: AttachmentRecorder
    ) -> Swapped:
        """See the protocol: nothing is attached apart, so that there is nothing to swap."""
        del ref, record
        return Swapped(tuple(SwapOutcome.ABSENT for _ in swaps))

    async def replace(
        self,
        change: Replacement,
        idempotency_key: str,
        record: Recorder,
        resume: ReplaceState | None = None,
    ) -> ReplaceResult:
        """See the protocol and :mod:`connectors.google.replace`."""
        return await self._replacer.run(change, idempotency_key, record, resume)

    async def remove_again(self, original: MessageRef, copy: MessageRef) -> Returned:
        """See the protocol and :meth:`connectors.google.replace.Replacer.remove_again`."""
        return await self._replacer.remove_again(original, copy)

    async def discard(self, ref: MessageRef) -> None:
        """See the protocol: moved to the trash."""
        await discard(self._client, ref.mailbox, ref.id)

    async def way_back(self, ref: MessageRef) -> str:
        """See the protocol."""
        return await self._mover.way_back(ref)

    async def move(self, ref: MessageRef, place: Place) -> MoveResult:
        """See the protocol."""
        return await self._mover.move(ref, place)

    async def move_back(self, ref: MessageRef, undo: str) -> MessageRef:
        """See the protocol."""
        return await self._mover.move_back(ref, undo)

    async def aclose(self) -> None:
        """See the protocol."""
        if self._own_http:
            await self._http.aclose()
