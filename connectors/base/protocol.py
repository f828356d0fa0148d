"""The protocols a provider package implements."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import Protocol, runtime_checkable

from connectors.base.types import (
    AccessCheck,
    AttachedFile,
    AttachmentRecorder,
    AttachmentSwap,
    Capabilities,
    ChangePage,
    ConsentAnswer,
    ConsentInstructions,
    DirectoryGroup,
    FetchedMessage,
    Hint,
    Mailbox,
    MessageRef,
    MoveResult,
    Place,
    Provider,
    Recorder,
    Replacement,
    ReplaceResult,
    ReplaceState,
    Returned,
    SignedIn,
    Subscription,
    Swapped,
)


class OrganisationDirectory(Protocol):
    """What a tenant's directory says of its people and groups."""

    async def organisation(self) -> str:
        """The provider's own immutable id of the organisation that the grant reaches (Entra ``tid``; customer id).

        Raises:
            ConnectorError: It could not be read.
        """

    def mailboxes(self) -> AsyncIterator[Mailbox]:
        """All mailboxes the grant reaches, paged behind the scenes."""

    async def find_groups(self, text: str) -> list[DirectoryGroup]:
        """Groups that this names: by id, by address, or (where the provider can) by their exact name.

        Raises:
            PermissionMissing: Groups may not be read.
        """

    def members(self, group_id: str) -> AsyncIterator[str]:
        """Ids (:attr:`Mailbox.id`) of everybody in a group and in the groups within it.

        Raises:
            GroupNotFound: There is no such group.
            PermissionMissing: Groups may not be read.
        """


@runtime_checkable
class MailboxConnector(OrganisationDirectory, Protocol):
    """All traffic with one tenant of one provider.

    Every method raises :class:`connectors.base.errors.ConnectorError` and nothing of the vendor's.
    A connector retries nothing that may have taken effect; it says ``Unavailable`` and the caller
    asks again with the same idempotency key.
    """

    provider: Provider
    capabilities: Capabilities

    async def check_access(self, first: Sequence[Mailbox] = ()) -> list[AccessCheck]:
        """Probe everything protection needs. Never raises for a missing grant: that is a FAILED check.

        Args:
            first: Mailboxes to try before any other: those that are (to be) protected.
        """

    async def subscribe(self, mailbox: Mailbox, callback_url: str) -> Subscription:
        """Ask for notifications of new messages."""

    async def renew(self, subscription: Subscription, callback_url: str) -> Subscription:
        """Extend in place; makes a new one only where the old is gone."""

    async def unsubscribe(self, subscription: Subscription) -> None:
        """Stop notifications; a subscription that is gone already is fine."""

    async def changes(self, mailbox: Mailbox, cursor: str | None, since: datetime) -> ChangePage:
        """Messages that appeared since ``cursor``; with None, since the time ``since`` (bounded resync).

        Raises:
            CursorExpired: Call again with None.
        """

    async def fetch(self, ref: MessageRef) -> FetchedMessage:
        """Read one message with its content.

        Raises:
            MessageGone: It no longer exists.
        """

    async def read_attached(self, ref: MessageRef, attached: str) -> AttachedFile:
        """One of :attr:`FetchedMessage.attached` with its content, by its id.

        Raises:
            MessageGone: The message or the attachment no longer exists.
        """

    async def attachments_fixed(self) -> str:
        """Why attachments of this tenant's mail stay as they are, as an administrator reads it; empty: not known to.

        Known from :attr:`Capabilities.swaps_attachments`, and from what became of the last attempts.

        Raises:
            ConnectorError: Our permissions could not be asked.
        """

    async def swap_attachments(
        self, ref: MessageRef, swaps: Sequence[AttachmentSwap], record: AttachmentRecorder
    ) -> Swapped:
        """Put file attachments in the place of others: add, verify, remove, each for one after another.

        It looks at what the mailbox holds, so that asking again after a crash or a time-out ends with the same: each
        attachment there once, and no other one changed.

        Args:
            ref: The message.
            swaps: What to put there.
            record: Awaited after each step, before the next.

        Raises:
            MessageGone: The message no longer exists.
            WriteNotVerified: The mailbox holds something else than either before or after; the message says what.
            Transient: Not all is done; ask again.
        """

    async def replace(
        self,
        change: Replacement,
        idempotency_key: str,
        record: Recorder,
        resume: ReplaceState | None = None,
    ) -> ReplaceResult:
        """Write, verify and (where a copy was made) remove the original.

        Args:
            change: What to write.
            idempotency_key: Same key, same write: after a crash or a time-out, calling again finds what
                took effect instead of writing twice.
            record: Awaited after each step, before the next.
            resume: The last step that was recorded by an earlier try, if any.

        Raises:
            VersionConflict: The message is not ``change.original`` any more; nothing was written.
            WriteNotVerified: What was read back is wrong; the original was kept.
            PermissionMissing: Writing is not allowed; nothing was written.
        """

    async def remove_again(self, original: MessageRef, copy: MessageRef) -> Returned:
        """Remove an original that the user brought back from the bin although its copy stands in its place.

        Does nothing where it has not come back, so it may be asked again and again. Where messages are edited
        in place there are no originals to come back.
        """

    async def discard(self, ref: MessageRef) -> None:
        """Put a message that we made into the bin, where its owner still finds it.

        Does nothing where it is there or gone, so it may be asked again and again.

        Raises:
            ConnectorError: It could not be moved; it is where it was.
        """

    async def way_back(self, ref: MessageRef) -> str:
        """What :meth:`move_back` needs to put the message where it is now.

        Asked and stored before a move, it survives a crash between the move and its record.

        Raises:
            MessageGone: It no longer exists.
        """

    async def move(self, ref: MessageRef, place: Place) -> MoveResult:
        """Move to junk, quarantine or inbox; the result knows the way back."""

    async def move_back(self, ref: MessageRef, undo: str) -> MessageRef:
        """Undo a move: all labels, folder and read state as they were."""

    async def aclose(self) -> None:
        """Close connections."""


class IdentityProvider(Protocol):
    """Sign-in and consent with one provider (OpenID Connect Core 1.0; PKCE, RFC 7636)."""

    provider: Provider

    async def sign_in_url(self, redirect_uri: str, state: str, nonce: str, code_challenge: str) -> str:
        """Address of the provider's sign-in page (S256 challenge)."""

    async def finish_sign_in(self, code: str, redirect_uri: str, code_verifier: str, nonce: str) -> SignedIn:
        """Exchange the code, validate the id_token (signature, issuer, audience, nonce, times).

        Raises:
            ConnectorError: The token is not valid, or the provider did not answer.
        """

    def consent(self, external_tenant: str, redirect_uri: str, state: str) -> ConsentInstructions:
        """How this tenant grants access to its mailboxes."""

    def read_consent(self, query: Mapping[str, str]) -> ConsentAnswer:
        """Read the consent page's answer. ``error`` is looked at before anything else."""

    async def aclose(self) -> None:
        """Close connections."""


class NotificationPuller(Protocol):
    """Fetches provider notifications, where none can be pushed to us. They are the provider's: nothing to prove.

    Attributes:
        skipped: Messages that were no notification, so far.
    """

    provider: Provider
    skipped: int

    def batches(self) -> AsyncGenerator[list[Hint], None]:
        """Hints without end. A batch counts as taken when the next is asked for; else it comes again.

        Raises:
            connectors.base.errors.ConnectorError: Nothing that passes by itself.
        """

    async def aclose(self) -> None:
        """Close connections."""


class NotificationReader(Protocol):
    """Authenticates and reads provider notifications without any provider SDK and without fetching mail."""

    provider: Provider

    @property
    def skipped(self) -> int:
        """Entries that were left out of notifications since start, because they could not be used."""

    def handshake(self, query: Mapping[str, str]) -> str | None:
        """The text to answer where this request only validates the address, else None."""

    async def read(self, headers: Mapping[str, str], body: bytes) -> list[Hint]:
        """Hints in a request.

        Raises:
            PermissionError: The request is not from the provider (bad or missing signature).
            ValueError: The body is not a notification; says why.
        """
