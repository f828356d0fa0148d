"""The Microsoft mailboxes as the viewer shows them."""

from __future__ import annotations

from dataclasses import replace

from connectors.emulators.common.viewer import ViewAttachment, ViewMailbox, ViewMessage, ViewMessageDetail
from connectors.emulators.microsoft import bodies
from connectors.emulators.microsoft.mime import message_to_mime
from connectors.emulators.microsoft.model import Message
from connectors.emulators.microsoft.state import MicrosoftState


class MicrosoftView:
    """A :class:`~connectors.emulators.common.viewer.MailboxView` over the Microsoft state."""

    provider = "microsoft"

    def __init__(self, state: MicrosoftState) -> None:
        self._state = state

    @property
    def title(self) -> str:
        """The organisations' names with the product's."""
        names = ", ".join(tenant.name for tenant in self._state.tenants.values())
        return f"{names or 'No organisation'} (Microsoft 365)"

    def mailboxes(self) -> list[ViewMailbox]:
        """All mailboxes, in the order they were made."""
        with self._state.lock:
            return [
                ViewMailbox(
                    person.address,
                    person.name,
                    sum(not message.is_read for message in self._state.messages_of(person.id)),
                )
                for person in self._state.people.values()
                if person.has_mailbox
            ]

    def messages(self, address: str) -> list[ViewMessage]:
        """Messages of all visible folders, newest first."""
        with self._state.lock:
            person = self._state.person(address)
            return [self._line(message) for message in self._state.messages_of(person.id)]

    def message(self, address: str, message_id: str) -> ViewMessageDetail:
        """One message with its source."""
        with self._state.lock:
            message = self._state.message(self._state.person(address).id, message_id)
            is_html = message.body_type == "html"
            sender = message.from_
            line = self._line(message)
            if sender is not None and sender.name != sender.address:
                line = replace(line, sender=f"{sender.name} <{sender.address}>")
            return ViewMessageDetail(
                message=line,
                recipients=tuple(each.address for each in [*message.to, *message.cc]),
                # Outlook on the web runs no script either.
                html=bodies.remove_unsafe(message.body) if is_html else None,
                text=None if is_html else message.body,
                attachments=tuple(
                    ViewAttachment(each.name, each.content_type, each.content, each.is_inline, each.content_id)
                    for each in message.attachments
                ),
                raw=message_to_mime(message),
            )

    def mark_read(self, address: str, message_id: str) -> None:
        """Set ``isRead`` once; a message that is read already does not change."""
        with self._state.lock:
            message = self._state.message(self._state.person(address).id, message_id)
            if not message.is_read:
                message.is_read = True
                self._state.changed(message)

    def _line(self, message: Message) -> ViewMessage:
        sender = message.from_
        return ViewMessage(
            id=message.id,
            subject=message.subject,
            sender=(sender.name or sender.address) if sender else "",
            received_at=message.received_at,
            is_read=message.is_read,
            place=self._state.folders[message.folder_id].name,
            preview=bodies.preview(message.body_type, message.body)[:120],
        )
