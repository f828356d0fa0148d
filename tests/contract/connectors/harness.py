"""What the contract suite needs of a provider: one implementation per provider, over the emulators.

A harness is one organisation with mailboxes ``ada``, ``ben`` and ``cleo`` (``ada`` is the administrator),
already connected. Several harnesses share one running emulator process, so each makes an organisation of its
own, under a domain that ends in its number.

Everything here acts as *somebody else* would, on the provider's side: a sender, the mailbox's owner, an
administrator, the weather. What is under test is only ever called through :attr:`ProviderHarness.connector`.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from email.message import EmailMessage
from enum import Enum
from typing import Protocol

from connectors.base.http import HttpPolicy, SharedHttp
from connectors.base.protocol import MailboxConnector, NotificationReader
from connectors.base.types import (
    Content,
    FetchedMessage,
    Mailbox,
    MessageRef,
    Provider,
    Replacement,
    ReplaceState,
)

OLD_LINK = "https://shop.example/sale?a=1&b=2"
NEW_LINK = "https://gw.example/l/shop.example/AbC-123_x"
QUICK = HttpPolicy(backoff_first=0.01, backoff_cap=0.02, longest_wait=0.5, default_retry_after=0.02)
"""The product's policy with short waits; 0.5 s is the longest that is slept."""


class Weather(Enum):
    """What goes wrong at the provider."""

    THROTTLED = "429 with Retry-After"
    UNAVAILABLE = "503 with Retry-After"
    TIMEOUT_BEFORE = "no answer, and the request took no effect"
    TIMEOUT_AFTER = "no answer, and the request took effect"


class Call(Enum):
    """Which requests of the connector are meant."""

    READ_MESSAGE = "reading one message"
    WRITE_MESSAGE = "the request that writes the new content"
    LOOK_FOR_CHANGES = "asking what is new"
    GET_TOKEN = "asking for an access token"  # no password
    ANYTHING = "all requests about mail"


class ProviderHarness(Protocol):
    """One connected organisation."""

    @property
    def provider(self) -> Provider:
        """Which provider."""

    @property
    def makes_copies(self) -> bool:
        """Whether messages are replaced by copies here, and not edited in place."""

    @property
    def connector(self) -> MailboxConnector:
        """The connector under test."""

    @property
    def notifications(self) -> NotificationReader:
        """The reader of the provider's notifications."""

    @property
    def ada(self) -> Mailbox:
        """The administrator's mailbox."""

    @property
    def ben(self) -> Mailbox:
        """A mailbox."""

    @property
    def cleo(self) -> Mailbox:
        """Another."""

    def new_connector(self, policy: HttpPolicy = QUICK) -> MailboxConnector:
        """Another connector for the same organisation, as after a restart; the harness closes it."""

    def may_read_groups(self) -> None:
        """The administrator grants reading groups too."""

    def add_group(self, name: str, people: Sequence[Mailbox], inner: Sequence[str] = ()) -> str:
        """A group ``name@domain`` of people and of other groups (by id); its id."""

    def remove_group(self, group: str) -> None:
        """The administrator deletes a group."""

    def deliver(self, mailbox: Mailbox, mime: bytes, place: str = "inbox") -> MessageRef:
        """Mail arrives. ``place``: ``inbox``, ``junk``, ``sent``, ``drafts`` or ``other`` (a user's folder)."""

    def texts(self, mailbox: Mailbox) -> list[str]:
        """The decoded text or HTML of every message the owner can see outside trash, newest first."""

    def place_of(self, ref: MessageRef) -> str:
        """``inbox``, ``junk``, ``quarantine``, ``trash``, ``gone`` or ``other``."""

    def set_read(self, ref: MessageRef, is_read: bool) -> None:
        """The owner opens it, or marks it unread."""

    def is_read(self, ref: MessageRef) -> bool:
        """The read state."""

    def delete(self, ref: MessageRef) -> None:
        """The owner deletes it for good."""

    def with_link(self, message: FetchedMessage, old: str, new: str) -> Content:
        """The message's content with one link replaced by another: what the application would write."""

    def make(self, weather: Weather, call: Call, times: int | None = 1, retry_after: float = 0.05) -> None:
        """The next requests of that kind meet this weather."""

    def clear(self) -> None:
        """Fair weather."""

    def advance(self, seconds: float) -> None:
        """The provider's clock goes forward."""

    def expire_cursors(self, mailbox: Mailbox) -> None:
        """The provider forgets the changes known so far."""

    def revoke(self) -> None:
        """The administrator withdraws the grant. A token that was issued may go on for its lifetime."""

    def forbid_writing(self) -> None:
        """The administrator withdraws the permission to change mail, and no other."""

    def push_to(self, url: str) -> None:
        """Where the provider sends notifications that do not go to a subscription's own address."""

    async def aclose(self) -> None:
        """Close all connectors."""


def mail(subject: str = "Your order", link: str = OLD_LINK, **headers: str) -> bytes:
    """A newsletter with one link in HTML and in the plain text part, and a unique Message-ID."""
    message = EmailMessage()
    message["From"] = "Shop <news@shop.example>"
    message["To"] = "Ada <ada@reader.example>"
    message["Subject"] = subject
    message["Message-ID"] = f"<{uuid.uuid4().hex}@shop.example>"
    message["Date"] = "Sat, 21 Nov 2026 10:00:00 +0000"
    for name, value in headers.items():
        message[name.replace("_", "-")] = value
    message.set_content(f"Hello Ada,\n\nlook: {link}\n")
    shown = link.replace("&", "&amp;")
    message.add_alternative(
        f'<html><body><p>Hello Ada, <a href="{shown}">look</a> &eacute;</p></body></html>\n', subtype="html"
    )
    return message.as_bytes()


def protect(harness: ProviderHarness, message: FetchedMessage) -> Replacement:
    """What the application asks for when it protects :func:`mail`."""
    return Replacement(
        message,
        harness.with_link(message, OLD_LINK, NEW_LINK),
        expected_links=(NEW_LINK,),
        replaced_links=(OLD_LINK,),
        copy_if_refused=harness.makes_copies,
    )


def restore(harness: ProviderHarness, message: FetchedMessage) -> Replacement:
    """What it asks for to undo that."""
    return Replacement(
        message,
        harness.with_link(message, NEW_LINK, OLD_LINK),
        expected_links=(OLD_LINK,),
        replaced_links=(NEW_LINK,),
        mark=False,
        copy_if_refused=harness.makes_copies,
    )


def quick_http(policy: HttpPolicy = QUICK) -> SharedHttp:
    """A shared client for tests."""
    return SharedHttp(policy)


class Killed(BaseException):
    """Stands for ``kill -9``: nothing may catch it."""


class Journal:
    """Records steps; can do something, or die, before a step is durable.

    Args:
        before: By step's value: called before the step is recorded.
    """

    def __init__(self, **before: Callable[[ReplaceState], None]) -> None:
        self.steps: list[ReplaceState] = []
        self._before = before

    async def __call__(self, state: ReplaceState) -> None:
        act = self._before.get(state.step.value)
        if act is not None:
            act(state)
        self.steps.append(state)

    @property
    def last(self) -> ReplaceState | None:
        """The last recorded step."""
        return self.steps[-1] if self.steps else None


def die(_: ReplaceState) -> None:
    """The process ends here."""
    raise Killed
