"""The state of the emulated Microsoft 365 tenants and every change to it.

All methods are synchronous, guarded by one re-entrant lock, and may be called from any thread: the server
answers requests with them and tests use them directly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from connectors.emulators.common.clock import Clock
from connectors.emulators.common.records import RecordStore
from connectors.emulators.microsoft import bodies, ids, intake
from connectors.emulators.microsoft.directory import DirectoryState
from connectors.emulators.microsoft.model import (
    WELL_KNOWN_FOLDERS,
    Attachment,
    Folder,
    Mailbox,
    Message,
    Person,
    Subscription,
    Tenant,
    Tombstone,
)


@dataclass(frozen=True, slots=True)
class MailEvent:
    """Something happened to a message. ``kind`` is ``created``, ``updated`` or ``deleted``."""

    kind: str
    message: Message
    folder_id: str


class MicrosoftState(DirectoryState):
    """Tenants, people, mailboxes and subscriptions.

    Args:
        clock: The emulated time.
        store: Where changed records are marked; see :mod:`connectors.emulators.microsoft.keeping`.
        seed: For ids that repeat from run to run; None draws them from the system.
    """

    def __init__(self, clock: Clock | None = None, store: RecordStore | None = None, seed: int | None = None) -> None:
        super().__init__(clock, store, seed)
        self.folders: dict[str, Folder] = {}
        self.mailboxes: dict[str, Mailbox] = {}
        self.messages: dict[str, Message] = {}
        self.subscriptions: dict[str, Subscription] = {}
        self.tombstones: dict[str, list[Tombstone]] = {}
        self.listeners: list[Callable[[MailEvent], None]] = []
        self.send: Callable[[str, bytes], None] = self.deliver_if_known
        """Where sent mail goes, by recipient; a world with other providers puts its own router here."""
        self._by_user: dict[str, dict[str, Message]] = {}
        self._folders_by_user: dict[str, dict[str, Folder]] = {}
        self._subscriptions_by_user: dict[str, dict[str, Subscription]] = {}

    # --- mailboxes ---------------------------------------------------------------------------------------

    def add_person(
        self, tenant: Tenant, name: str, address: str, *, is_admin: bool = False, enabled: bool = True
    ) -> Person:
        """A new user with an empty mailbox."""
        with self.lock:
            person = Person(ids.new_guid(self.random), tenant.id, name, address.lower(), [], enabled, is_admin)
            self.index(person)
            self.mark("person", person.id)
            self.mailboxes[person.id] = Mailbox(person.id)
            self.mark("mailbox", person.id)
            known: dict[str, str] = {}
            for well_known, (title, parent) in WELL_KNOWN_FOLDERS.items():
                hidden = well_known.startswith("recoverable")
                folder = Folder(
                    ids.new_folder_id(self.random),
                    person.id,
                    title,
                    known[parent] if parent else None,
                    well_known,
                    hidden,
                )
                known[well_known] = folder.id
                self._put_folder(folder)
            return person

    # --- folders ---------------------------------------------------------------------------------------

    def folders_of(self, user_id: str) -> list[Folder]:
        """All folders of a mailbox."""
        with self.lock:
            return list(self._folders_by_user.get(user_id, {}).values())

    def folder(self, user_id: str, key: str) -> Folder:
        """A folder by id or well-known name.

        Raises:
            KeyError: There is none in this mailbox.
        """
        with self.lock:
            folders = self._folders_by_user.get(user_id, {})
            if key in folders:
                return folders[key]
            for folder in folders.values():
                if folder.well_known == key.lower():
                    return folder
            raise KeyError(key)

    def add_folder(self, user_id: str, name: str, parent_key: str = "msgfolderroot") -> Folder:
        """A new folder.

        Raises:
            KeyError: No such parent.
            ValueError: The parent has a folder of that name.
        """
        with self.lock:
            parent = self.folder(user_id, parent_key)
            for sibling in self.folders_of(user_id):
                if sibling.parent_id == parent.id and sibling.name.lower() == name.lower():
                    raise ValueError(f"A folder with the name {name} exists already.")
            folder = Folder(ids.new_folder_id(self.random), user_id, name, parent.id)
            self._put_folder(folder)
            return folder

    # --- messages --------------------------------------------------------------------------------------

    def deliver(self, address: str, raw: bytes, *, folder: str = "inbox", message_class: str | None = None) -> Message:
        """Put a delivered RFC 5322 message into a mailbox.

        Raises:
            KeyError: No such mailbox or folder.
        """
        with self.lock:
            person = self.person(address)
            place = self.folder(person.id, folder)
            message = intake.read_mime(
                raw,
                user_id=person.id,
                folder_id=place.id,
                now=self.clock.now(),
                source=self.random,
                message_class=message_class,
            )
            if self.switches.exchange_html and message.body_type == "html":
                message.body = bodies.normalise(message.body)
            message.is_draft = place.well_known == "drafts"
            message.is_read = place.well_known in ("sentitems", "drafts")
            self.add_message(message)
            return message

    def deliver_if_known(self, address: str, raw: bytes) -> None:
        """Deliver to a mailbox or to the members of a group; other addresses are outside the emulated world."""
        with self.lock:
            groups = [group for group in self.groups.values() if (group.address or "").lower() == address.lower()]
            people = [person for group in groups for person in self.members_of(group, deep=True)[0]]
            try:
                people = people or [self.person(address)]
            except KeyError:
                return
            for person in people:
                self.deliver(person.address, raw)

    def messages_of(self, user_id: str, folder_id: str | None = None) -> list[Message]:
        """Messages of one folder, or of all visible folders, newest first."""
        with self.lock:
            hidden = {folder.id for folder in self.folders_of(user_id) if folder.hidden}
            found = [
                message
                for message in self._by_user.get(user_id, {}).values()
                if (message.folder_id == folder_id if folder_id is not None else message.folder_id not in hidden)
            ]
            found.sort(key=lambda message: (message.received_at, message.created_change), reverse=True)
            return found

    def changed_between(self, user_id: str, folder_id: str, since: int, upto: int) -> list[Message]:
        """Messages of a folder whose last change lies after ``since`` and not after ``upto``, in any order."""
        with self.lock:
            return [
                message
                for message in self._by_user.get(user_id, {}).values()
                if message.folder_id == folder_id and since < message.change <= upto
            ]

    def message(self, user_id: str, given: str) -> Message:
        """A message by immutable or ordinary id.

        Raises:
            KeyError: None in this mailbox; or an ordinary id from before the message was moved.
        """
        with self.lock:
            split = ids.split_id(given)
            if split is None:
                raise KeyError(given)
            message = self._by_user.get(user_id, {}).get(split[0])
            if message is None or (split[1] is not None and not ids.is_place(split[1], message.folder_id)):
                raise KeyError(given)
            return message

    def add_message(self, message: Message) -> None:
        """A message appears in its folder."""
        with self.lock:
            message.change = message.created_change = self._next_change(message.user_id)
            self.index_message(message)
            self.mark("message", message.id)
            self._tell("created", message, message.folder_id)

    def changed(self, message: Message) -> None:
        """A message's properties changed: new changeKey, ``updated`` event."""
        with self.lock:
            message.change = self._next_change(message.user_id)
            message.modified_at = self.clock.now()
            self.mark("message", message.id)
            self._tell("updated", message, message.folder_id)

    def move(self, message: Message, folder: Folder) -> None:
        """Move a message: it leaves one folder's delta and appears in the other's.

        "Get incremental changes to messages in a folder" (https://learn.microsoft.com/graph/delta-query-messages):
        moving shows as removed here and as added there.
        """
        with self.lock:
            if folder.id == message.folder_id:
                return
            left = message.folder_id
            message.change = self._next_change(message.user_id)
            self._bury(message, left)
            message.created_change = message.change
            message.folder_id = folder.id
            message.modified_at = self.clock.now()
            self.mark("message", message.id)
            self._tell("deleted", message, left)
            self._tell("created", message, folder.id)

    def remove(self, message: Message) -> None:
        """Remove a message for good."""
        with self.lock:
            message.change = self._next_change(message.user_id)
            self._bury(message, message.folder_id)
            del self.messages[message.id]
            del self._by_user[message.user_id][message.id]
            self.mark("message", message.id)
            self._tell("deleted", message, message.folder_id)

    def set_body(self, message: Message, content_type: str, content: str) -> None:
        """Write the body of a message, normalised where the switch says so."""
        with self.lock:
            if content_type == "html" and self.switches.exchange_html:
                content = bodies.normalise(content)
            message.body_type, message.body = content_type, content
            message.body_changed = True

    def add_attachment(self, message: Message, attachment: Attachment) -> None:
        """Add an attachment; the message changes with it."""
        with self.lock:
            message.attachments.append(attachment)
            message.body_changed = True
            self.changed(message)

    def remove_attachment(self, message: Message, attachment: Attachment) -> None:
        """Remove an attachment; the message changes with it."""
        with self.lock:
            message.attachments.remove(attachment)
            message.body_changed = True
            self.changed(message)

    def expire_delta_tokens(self, user_id: str) -> None:
        """Make every delta token given out so far for this mailbox unknown."""
        with self.lock:
            self.mailboxes[user_id].delta_epoch += 1
            self.mark("mailbox", user_id)

    def _bury(self, message: Message, folder_id: str) -> None:
        tombstones = self.tombstones.setdefault(folder_id, [])
        tombstones.append(Tombstone(message.user_id, folder_id, message.id, message.change))
        self.mark("tombstones", folder_id)

    def _next_change(self, user_id: str) -> int:
        mailbox = self.mailboxes[user_id]
        mailbox.changes += 1
        self.mark("mailbox", user_id)
        return mailbox.changes

    def _tell(self, kind: str, message: Message, folder_id: str) -> None:
        for listener in self.listeners:
            listener(MailEvent(kind, message, folder_id))

    # --- subscriptions ---------------------------------------------------------------------------------

    def put_subscription(self, subscription: Subscription) -> None:
        """Add a subscription."""
        with self.lock:
            self.index_subscription(subscription)
            self.mark("subscription", subscription.id)

    def drop_subscription(self, subscription: Subscription) -> None:
        """Remove a subscription; one that is gone already is fine."""
        with self.lock:
            if self.subscriptions.pop(subscription.id, None) is not None:
                self._subscriptions_by_user[subscription.user_id].pop(subscription.id)
                self.mark("subscription", subscription.id)

    def subscriptions_of(self, user_id: str) -> list[Subscription]:
        """Subscriptions for a mailbox that have not expired."""
        with self.lock:
            found = self._subscriptions_by_user.get(user_id, {}).values()
            return [each for each in found if not self.expired(each.expires_at)]

    def index_subscription(self, subscription: Subscription) -> None:
        """Make a subscription findable."""
        self.subscriptions[subscription.id] = subscription
        self._subscriptions_by_user.setdefault(subscription.user_id, {})[subscription.id] = subscription

    # --- indexes ---------------------------------------------------------------------------------------

    def index(self, person: Person) -> None:
        """Make a person and the mailbox findable."""
        super().index(person)
        self._by_user.setdefault(person.id, {})
        self._folders_by_user.setdefault(person.id, {})

    def index_message(self, message: Message) -> None:
        """Make a message findable."""
        self.messages[message.id] = message
        self._by_user[message.user_id][message.id] = message

    def index_folder(self, folder: Folder) -> None:
        """Make a folder findable."""
        self.folders[folder.id] = folder
        self._folders_by_user[folder.user_id][folder.id] = folder

    def _put_folder(self, folder: Folder) -> None:
        self.index_folder(folder)
        self.mark("folder", folder.id)
