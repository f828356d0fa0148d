"""Plain, frozen values that connectors and the application exchange."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum


class Provider(StrEnum):
    """A mail provider, as stored in the database and used in addresses."""

    MICROSOFT = "microsoft"
    GOOGLE = "google"


class ReplaceMode(StrEnum):
    """How a provider lets a delivered message be changed."""

    EDIT_IN_PLACE = "edit_in_place"
    INSERT_VERIFY_REMOVE = "insert_verify_remove"


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a connector can do, fixed per provider.

    Attributes:
        replace_mode: Whether a message keeps its id when it is changed.
        push: Whether the provider sends change notifications.
        subscription_ttl: How long a subscription lives at most.
        max_message_bytes: Largest message that can be written back.
        required_permissions: The permissions' own names.
        swaps_attachments: Whether attachments lie apart from the content and may be put in each other's place; whether
            a tenant's mail really takes that is found out with the first one
            (:meth:`connectors.base.protocol.MailboxConnector.attachments_fixed`).
    """

    replace_mode: ReplaceMode
    push: bool
    subscription_ttl: timedelta
    max_message_bytes: int
    required_permissions: tuple[str, ...]
    swaps_attachments: bool = False


class CheckStatus(StrEnum):
    """Outcome of an access check. ``UNKNOWN`` means it could not be told, which is not a failure."""

    PASSED = "passed"
    FAILED = "failed"
    UNKNOWN = "unknown"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class AccessCheck:
    """One thing that must be in place, with what to do where it is not.

    Attributes:
        key: Stable name, e.g. ``mail_advanced``; pages translate by it.
        status: The outcome.
        summary: One sentence of what was found.
        remedy: One sentence of what to do; empty when passed.
        link: The exact page of the provider's admin centre, or empty.
        vital: Where it has failed, no mailbox can be read at all.
        copies_do_without: It is for changing messages in place: where they may be replaced by copies, it need not pass.
    """

    key: str
    status: CheckStatus
    summary: str
    remedy: str = ""
    link: str = ""
    vital: bool = False
    copies_do_without: bool = False


@dataclass(frozen=True, slots=True)
class Mailbox:
    """A mailbox as the provider's directory knows it.

    Attributes:
        id: The provider's immutable id (Entra object id; Google user id).
        address: Primary address, lower case.
        name: Display name.
        aliases: Further addresses, lower case.
        enabled: False where the account is suspended or blocked.
    """

    id: str
    address: str
    name: str = ""
    aliases: tuple[str, ...] = ()
    enabled: bool = True


@dataclass(frozen=True, slots=True)
class DirectoryGroup:
    """A group of the provider's directory, by which mailboxes can be chosen.

    Attributes:
        id: The provider's immutable id.
        address: Its mail address, lower case; empty where it has none.
        name: Display name.
    """

    id: str
    address: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class MessageRef:
    """Where a message is. ``id`` is the provider's immutable id."""

    mailbox: Mailbox
    id: str


@dataclass(frozen=True, slots=True)
class Change:
    """A message that appeared (``removed`` False) or went away since the cursor."""

    ref: MessageRef
    removed: bool = False


@dataclass(frozen=True, slots=True)
class ChangePage:
    """One page of changes.

    Attributes:
        changes: In the provider's order. May repeat what was seen before.
        cursor: Opaque. Store it once every change of this page has reached a final state; passing it
            to ``changes`` again continues right after them.
        more: Whether calling again at once with ``cursor`` gives more.
    """

    changes: tuple[Change, ...]
    cursor: str
    more: bool


class Trait(StrEnum):
    """What a connector can tell of a message from the provider's metadata alone.

    A connector reports traits; it is the application that decides to skip.
    """

    DRAFT = "draft"
    SENT = "sent"
    FROM_OWNER = "from_owner"
    CHAT = "chat"
    SPAM = "spam"
    TRASH = "trash"
    SIGNED = "signed"
    ENCRYPTED = "encrypted"
    RIGHTS_MANAGED = "rights_managed"
    CONFIDENTIAL_MODE = "confidential_mode"
    MEETING = "meeting"
    REPORT = "report"
    APPROVAL = "approval"
    UNKNOWN_CLASS = "unknown_class"
    OWN_COPY = "own_copy"
    """Carries our own marker with a valid MAC: a copy that this service inserted."""


@dataclass(frozen=True, slots=True)
class MimeContent:
    """A whole RFC 5322 message."""

    raw: bytes


@dataclass(frozen=True, slots=True)
class BodyContent:
    """A message body as Graph has it: no MIME, one text.

    Attributes:
        content: The body.
        is_html: False for plain text.
    """

    content: str
    is_html: bool


Content = MimeContent | BodyContent


@dataclass(frozen=True, slots=True)
class CopyMark:
    """What a marker of ours says of the copy that carries it; only read where its MAC proves that it is ours.

    Attributes:
        original_id: The message that the copy was made of.
        write: Names the one write that made this copy, where the provider keeps it: copies of two writes differ, and
            one that its owner duplicated has that of its model. Empty where it is not known.
    """

    original_id: str
    write: str = ""


@dataclass(frozen=True, slots=True)
class Attached:
    """An attachment that ``content`` does not hold: it is read apart, by its id.

    Attributes:
        id: The provider's.
        name: File name, as the sender gave it.
        content_type: Media type, lower case, without parameters.
        size: Bytes, as the provider counts them.
        is_file: Whether it is a file; otherwise an attached message or a reference, which has no content to read.
    """

    id: str
    name: str
    content_type: str
    size: int
    is_file: bool = True


@dataclass(frozen=True, slots=True)
class AttachedFile:
    """A file attachment with its content, and all that tells it from others.

    Attributes:
        name: As given.
        content_type: As given, with its parameters.
        content_id: What ``cid:`` addresses in the body name it by; None where it has none.
        is_inline: Whether it is shown in the body rather than listed.
        content: The file.
    """

    name: str
    content_type: str
    content_id: str | None
    is_inline: bool
    content: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class AttachmentSwap:
    """One file attachment that takes another's place, under the same name, type, content id and inline flag.

    Attributes:
        file: What is to be there afterwards.
        old_sha256: SHA-256 of the content whose place it takes.
        old_id: The provider's id of that one as it was listed just now, or empty where it has to be looked for.
        finish_sha256: Where set, nothing is added, and the content of ``file`` does not count: where an earlier try has
            added a file with this digest, what that replaces is removed; else all stays.
    """

    file: AttachedFile
    old_sha256: bytes
    old_id: str = ""
    finish_sha256: bytes | None = None


class AttachmentStep(StrEnum):
    """How far one swap has come. Each is durable at the provider before it is recorded.

    ``ADDED``: the new one lies beside the old one. ``VERIFIED``: it was read back and is what was meant. ``REMOVED``:
    the old one is gone. ``WITHDRAWN``: the new one was taken away again, and the old one stays.
    """

    ADDED = "added"
    VERIFIED = "verified"
    REMOVED = "removed"
    WITHDRAWN = "withdrawn"


class SwapOutcome(StrEnum):
    """What became of one swap.

    ``DONE``: the new one stands there, once. ``ABSENT``: neither was found, or nothing had been begun that could be
    finished. ``REFUSED``: the provider does not take it; the old one stands there, once.
    """

    DONE = "done"
    ABSENT = "absent"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Swapped:
    """What became of the swaps asked for.

    Attributes:
        outcomes: One for each, in their order.
        reason: Why one was refused, in a sentence; empty where none was.
    """

    outcomes: tuple[SwapOutcome, ...]
    reason: str = ""


AttachmentRecorder = Callable[[int, AttachmentStep], Awaitable[None]]
"""Called with a swap's place and its step; returns once that is durably journaled. The next step starts after it."""


@dataclass(frozen=True, slots=True)
class FetchedMessage:
    """A message as it was when it was read.

    Attributes:
        ref: Where it is.
        version: Opaque change marker (changeKey/etag; historyId).
        content: Its MIME source or its body.
        traits: What the provider's metadata says.
        internet_message_id: The Message-ID header, or empty.
        subject: Decoded.
        sender: Address of From, lower case, or empty.
        recipients: Addresses of To and Cc, lower case.
        received_at: Aware UTC time.
        thread_id: The provider's conversation id.
        places: Folder id or labels.
        is_read: Read state.
        extra: Opaque to everybody but the connector: what it needs to write the message back and what
            none of the other fields carries (Gmail: classification labels).
        list_unsubscribe: The List-Unsubscribe header as it stands (RFC 2369), where ``content`` is a body; empty where
            there is none or the MIME source has it.
        attached: Attachments and inline pictures that ``content`` does not hold (Graph); empty where it holds all.
        copy: Of which message this is a copy of ours; None where it is none. Set together with ``Trait.OWN_COPY``.
    """

    ref: MessageRef
    version: str
    content: Content
    traits: frozenset[Trait] = frozenset()
    internet_message_id: str = ""
    subject: str = ""
    sender: str = ""
    recipients: tuple[str, ...] = ()
    received_at: datetime | None = None
    thread_id: str = ""
    places: tuple[str, ...] = ()
    is_read: bool = False
    extra: str = ""
    list_unsubscribe: str = ""
    attached: tuple[Attached, ...] = ()
    copy: CopyMark | None = None


@dataclass(frozen=True, slots=True)
class Replacement:
    """What to write in place of a fetched message, and how to know that it worked.

    Attributes:
        original: The message as it was fetched and transformed; nothing is written when the mailbox
            holds something else by now.
        content: The new content, of the same kind as ``original.content``.
        expected_links: URLs that must be found when the message is read back.
        replaced_links: URLs that must not be found any more.
        mark: Whether the copy carries our marker header (protect: yes; restore: no, since a restored
            message is byte for byte the original).
        copy_if_refused: Where the provider edits in place and refuses that, a copy may take the message's place:
            its owners have accepted what a copy loses. Without effect where copies are made anyway.
    """

    original: FetchedMessage
    content: Content
    expected_links: tuple[str, ...] = ()
    replaced_links: tuple[str, ...] = ()
    mark: bool = True
    copy_if_refused: bool = False


class ReplaceStep(StrEnum):
    """How far a replacement has come. Each is durable at the provider before it is recorded.

    Edit in place: ``WRITTEN`` then ``VERIFIED``, both under the message's own id. Insert-verify-remove: ``WRITTEN``
    (the copy exists), ``VERIFIED``, ``REMOVED`` (the original is gone), under the copy's id.
    """

    WRITTEN = "written"
    VERIFIED = "verified"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True)
class ReplaceState:
    """A recorded step: ``new_id`` is the id of the message that carries the new content."""

    step: ReplaceStep
    new_id: str
    version: str = ""


class Returned(StrEnum):
    """What became of an original that may have come back beside its copy.

    ``AWAY``: it is still out of sight, or gone. ``REMOVED``: it was in sight and has been removed again.
    ``ALONE``: it is in sight, and its copy is not any more: the message is unprotected.
    """

    AWAY = "away"
    REMOVED = "removed"
    ALONE = "alone"


Recorder = Callable[[ReplaceState], Awaitable[None]]
"""Called after each step; returns once the step is durably journaled. The next step starts after it."""


@dataclass(frozen=True, slots=True)
class ReplaceResult:
    """A finished replacement.

    Attributes:
        ref: Where the new content is now (the same id for edit in place).
        version: Its change marker.
        normalised: True where the provider rewrote what it was given, equal in meaning.
        content: The content as read back, when it is not what was sent byte for byte.
    """

    ref: MessageRef
    version: str
    normalised: bool = False
    content: Content | None = None


class Place(StrEnum):
    """Neutral names of places a message can be moved to."""

    INBOX = "inbox"
    JUNK = "junk"
    QUARANTINE = "quarantine"


@dataclass(frozen=True, slots=True)
class MoveResult:
    """A finished move, with what is needed to undo it.

    Attributes:
        ref: Where the message is now.
        undo: Opaque JSON: pass it to ``move_back``.
    """

    ref: MessageRef
    undo: str


@dataclass(frozen=True, slots=True)
class Subscription:
    """A live registration for change notifications of one mailbox.

    Attributes:
        id: The provider's id; for Gmail, which has none, the mailbox address.
        mailbox: Whose changes.
        expires_at: Aware UTC time.
        secret: What a notification must present (clientState), or empty where it is signed instead.
        cursor: A first cursor the provider gave with it (Gmail historyId), or empty.
    """

    id: str
    mailbox: Mailbox
    expires_at: datetime
    secret: str = field(default="", repr=False)
    cursor: str = ""


class HintKind(StrEnum):
    """Why a provider knocked."""

    CHANGED = "changed"
    REAUTHORIZE = "reauthorize"
    SUBSCRIPTION_REMOVED = "subscription_removed"
    MISSED = "missed"


@dataclass(frozen=True, slots=True)
class Hint:
    """One notification, reduced to what is needed; its URLs are not kept.

    Attributes:
        subscription_id: Which subscription it claims to be for.
        kind: Why.
        secret: What it presented as secret; compare in constant time.
        message_id: The message it names, or empty. A hint only: nothing relies on it.
    """

    subscription_id: str
    kind: HintKind = HintKind.CHANGED
    secret: str = field(default="", repr=False)
    message_id: str = ""


@dataclass(frozen=True, slots=True)
class SignedIn:
    """Who signed in, from a validated id_token.

    Attributes:
        provider: Where.
        external_tenant: ``tid`` (Entra) or ``hd`` (Google); empty for personal accounts.
        subject: The provider's stable user id (``oid``; ``sub``).
        email: Lower case.
        name: Display name.
        is_admin: Whether the provider says the person administers that tenant; None: it did not say.
    """

    provider: Provider
    external_tenant: str
    subject: str
    email: str
    name: str = ""
    is_admin: bool | None = None


@dataclass(frozen=True, slots=True)
class ConsentAnswer:
    """What the provider's consent page sent back (untrusted until compared with the session)."""

    granted: bool
    external_tenant: str
    error: str = ""


@dataclass(frozen=True, slots=True)
class ConsentInstructions:
    """How the tenant grants access.

    Attributes:
        url: Where to send the administrator: the consent page (it comes back to us), or the page of
            the admin centre in which the values are entered.
        returns: Whether the provider sends the administrator back to ``redirect_uri``.
        client_id: To be entered, where ``returns`` is False.
        scopes: To be entered, where ``returns`` is False; otherwise what is asked for.
        group_scopes: To be granted besides, where mailboxes are chosen by group.
    """

    url: str
    returns: bool
    client_id: str = ""
    scopes: tuple[str, ...] = ()
    group_scopes: tuple[str, ...] = ()
