"""What an emulated Microsoft 365 organisation consists of.

Field names follow the Graph resources they become: "message resource type"
(https://learn.microsoft.com/graph/api/resources/message), "fileAttachment resource type", "mailFolder resource
type", "subscription resource type", "user resource type".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar

GLOBAL_ADMINISTRATOR = "62e90394-69f5-4237-9190-012177145e10"
"""Role template id: "Microsoft Entra built-in roles", Global Administrator."""

WELL_KNOWN_FOLDERS = {
    "msgfolderroot": ("Top of Information Store", None),
    "inbox": ("Inbox", "msgfolderroot"),
    "drafts": ("Drafts", "msgfolderroot"),
    "sentitems": ("Sent Items", "msgfolderroot"),
    "deleteditems": ("Deleted Items", "msgfolderroot"),
    "junkemail": ("Junk Email", "msgfolderroot"),
    "outbox": ("Outbox", "msgfolderroot"),
    "archive": ("Archive", "msgfolderroot"),
    "recoverableitemsroot": ("Recoverable Items", None),
    "recoverableitemsdeletions": ("Deletions", "recoverableitemsroot"),
    "recoverableitemspurges": ("Purges", "recoverableitemsroot"),
}
"""Well-known name -> display name and parent ("mailFolder resource type", Well-known folder names)."""


_BYTES = {"ser_json_bytes": "base64", "val_json_bytes": "base64"}
"""How pydantic writes octets into JSON (https://docs.pydantic.dev/latest/api/config/)."""


@dataclass(slots=True)
class Person:
    """A mailbox user. ``address`` is both userPrincipalName and mail."""

    id: str
    tenant_id: str
    name: str
    address: str
    aliases: list[str] = field(default_factory=list)
    enabled: bool = True
    is_admin: bool = False
    has_mailbox: bool = True


@dataclass(slots=True)
class Group:
    """A directory group with its direct members: ids of users and of groups."""

    id: str
    tenant_id: str
    name: str
    address: str | None = None
    members: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Grant:
    """An application's service principal in a tenant, with the app roles it was granted.

    Attributes:
        roles: Granted in Entra ID: in the token, for all mailboxes.
        scoped_roles: Granted by Exchange Online over ``scoped_to`` (user ids): in no token ("Role Based Access
            Control for Applications in Exchange Online").
    """

    roles: list[str] = field(default_factory=list)
    enabled: bool = True
    scoped_roles: list[str] = field(default_factory=list)
    scoped_to: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Tenant:
    """An Entra tenant.

    Attributes:
        grants: By client id: no entry, no service principal.
        mailbox_scope: Mailboxes (user ids) that applications may reach; None is all ("Limiting application
            permissions to specific Exchange Online mailboxes", by an application access policy).
    """

    id: str
    name: str
    domains: list[str]
    grants: dict[str, Grant] = field(default_factory=dict)
    mailbox_scope: list[str] | None = None


@dataclass(slots=True)
class Certificate:
    """A certificate registered for an application, for client assertions."""

    thumbprint_sha1: str
    thumbprint_sha256: str
    pem: str


@dataclass(slots=True)
class FederatedCredential:
    """Whose tokens an application accepts as its own proof ("Workload identity federation").

    Attributes:
        public_key: Of the issuer, PEM; Entra fetches it from the issuer, the emulator fetches nothing.
    """

    issuer: str
    subject: str
    public_key: str
    audience: str = "api://AzureADTokenExchange"


@dataclass(slots=True)
class Application:
    """A multi-tenant app registration.

    Attributes:
        roles: The Graph app roles that admin consent grants.
        redirect_uris: Registered redirect addresses; empty allows every loopback address.
    """

    client_id: str
    name: str
    secrets: list[str]
    roles: list[str]
    certificates: list[Certificate] = field(default_factory=list)
    federated: list[FederatedCredential] = field(default_factory=list)
    redirect_uris: list[str] = field(default_factory=list)

    def __repr__(self) -> str:
        return f"Application(client_id={self.client_id!r}, name={self.name!r})"


@dataclass(slots=True)
class Folder:
    """A mail folder. ``well_known`` is its name in addresses, where it has one."""

    id: str
    user_id: str
    name: str
    parent_id: str | None
    well_known: str | None = None
    hidden: bool = False


@dataclass(slots=True)
class Address:
    """An emailAddress."""

    name: str
    address: str


@dataclass(slots=True)
class Attachment:
    """An attachment. ``kind`` is ``file`` or ``item`` (an attached message)."""

    __pydantic_config__: ClassVar[dict[str, str]] = _BYTES

    id: str
    name: str
    content_type: str
    content: bytes
    is_inline: bool
    content_id: str | None
    modified_at: datetime
    kind: str = "file"


@dataclass(slots=True)
class Message:
    """A message in a mailbox.

    Attributes:
        id: Immutable id.
        change: Number of the mailbox's change that touched it last; its changeKey.
        created_change: Number of the change that brought it into its present folder.
        body_type: ``html`` or ``text``: the format the store holds.
        raw: The RFC 5322 message as delivered; None for one that was created through Graph.
        body_changed: The body is not the delivered one any more, so MIME has to be put together anew.
        extended: Single-value extended properties that apps wrote, by id.
        message_class: ``IPM.Note`` and so on (property String 0x001A).
        odata_type: ``#microsoft.graph.message`` or a type derived from it.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = _BYTES

    id: str
    user_id: str
    folder_id: str
    change: int
    created_change: int
    created_at: datetime
    modified_at: datetime
    received_at: datetime
    sent_at: datetime
    subject: str
    sender: Address | None
    from_: Address | None
    to: list[Address]
    cc: list[Address]
    bcc: list[Address]
    reply_to: list[Address]
    body_type: str
    body: str
    internet_message_id: str
    conversation_id: str
    headers: list[tuple[str, str]]
    message_class: str = "IPM.Note"
    odata_type: str = "#microsoft.graph.message"
    meeting_type: str | None = None
    importance: str = "normal"
    categories: list[str] = field(default_factory=list)
    flag: str = "notFlagged"
    inference: str = "focused"
    is_read: bool = False
    is_draft: bool = False
    attachments: list[Attachment] = field(default_factory=list)
    extended: dict[str, str] = field(default_factory=dict)
    raw: bytes | None = None
    body_changed: bool = False


@dataclass(slots=True)
class Tombstone:
    """A message that left a folder: what delta reports as ``@removed``."""

    user_id: str
    folder_id: str
    message_id: str
    change: int


@dataclass(slots=True)
class Subscription:
    """A change notification subscription.

    Attributes:
        user_id: Whose messages.
        folder_id: One folder, or None for all.
        immutable_ids: ``Prefer: IdType="ImmutableId"`` was sent when it was created.
        authorized: False from ``reauthorizationRequired`` until it is answered: notifications pause.
        warned: The notice before expiry was sent.
    """

    id: str
    tenant_id: str
    client_id: str
    user_id: str
    folder_id: str | None
    resource: str
    change_types: list[str]
    notification_url: str
    lifecycle_url: str | None
    client_state: str | None
    expires_at: datetime
    immutable_ids: bool
    authorized: bool = True
    warned: bool = False

    def __repr__(self) -> str:
        return f"Subscription(id={self.id!r}, resource={self.resource!r})"


@dataclass(slots=True)
class Mailbox:
    """Counters of one mailbox.

    Attributes:
        changes: How many changes there were; each gets the next number.
        delta_epoch: Delta tokens of an earlier epoch are answered with 410.
    """

    user_id: str
    changes: int = 0
    delta_epoch: int = 0


@dataclass(slots=True)
class Switches:
    """Behaviours that differ between organisations or over time.

    Attributes:
        strict_updates: Draft-only properties of received mail can be updated only by an app with
            ``Mail-Advanced.ReadWrite.All`` (enforced from 31 December 2026); False is the rule before.
        exchange_html: HTML is normalised when it is written, as Exchange does; False keeps it exactly.
        refuse_code: Error code of the refused update.
        revoked_error: Number of the AADSTS error where the app has no service principal.
        concurrency: Requests under way at once per app and mailbox.
        requests_per_window: Requests per app and mailbox in ten minutes.
        retry_after: Seconds in Retry-After where the concurrency is exceeded.
        attachments_to_received: Whether attachments may be added to received mail.
        attachments_from_received: Whether attachments of received mail may be removed.
        attachments_keep_identity: Whether an attachment that is added keeps its ``contentId`` and ``isInline``; False
            is a store that takes what it is given for a plain file.
        creation_makes_drafts: A created message is a draft whatever its flags say: that they count is not documented.
        creation_takes_times_only: Creation refuses extended properties other than flags, times and named ones.
        batch_seconds: How long notifications for one address wait for more, to be sent together; 0 sends each alone.
    """

    strict_updates: bool = True
    exchange_html: bool = False
    refuse_code: str = "ErrorAccessDenied"
    revoked_error: int = 7000229
    concurrency: int = 4
    requests_per_window: int = 10_000
    retry_after: int = 1
    attachments_to_received: bool = True
    attachments_from_received: bool = True
    attachments_keep_identity: bool = True
    creation_makes_drafts: bool = False
    creation_takes_times_only: bool = False
    batch_seconds: float = 0.0
