"""The Google side of the contract suite: a Workspace customer in the emulator, and a connector for it."""

from __future__ import annotations

import contextlib
import dataclasses
import email
import email.policy
import html
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

from connectors.base.http import HttpPolicy, SharedHttp
from connectors.base.protocol import MailboxConnector, NotificationReader
from connectors.base.types import Content, FetchedMessage, Mailbox, MessageRef, MimeContent, Provider, Replacement
from connectors.emulators.common.faults import FaultKind, FaultRule
from connectors.emulators.google.accounts import Accounts, NewUser
from connectors.emulators.google.behaviour import Behaviour
from connectors.emulators.google.keys import SigningKey
from connectors.emulators.google.mailbox import StoredMessage
from connectors.emulators.google.quota import Quota
from connectors.emulators.google.state import GoogleState
from connectors.emulators.testing import Emulators
from connectors.google.config import SCOPE_GROUPS, SCOPE_USERS, GoogleConfig, KeyFile
from connectors.google.connector import GoogleConnector
from connectors.google.move import QUARANTINE_LABEL
from connectors.google.notifications import GoogleNotifications
from tests.contract.connectors.harness import QUICK, Call, Killed, Weather, quick_http

DOMAIN = "corp.example"
CUSTOMER = "C0corp"
ADMIN = f"ada@{DOMAIN}"
ANNA = f"anna@{DOMAIN}"
BEN = f"ben@{DOMAIN}"
TOPIC = "projects/postern-test/topics/gmail"
SUBSCRIPTION = "projects/postern-test/subscriptions/gmail"
PUSH_ACCOUNT = "push@postern-test.iam.gserviceaccount.com"
AUDIENCE = "https://postern.example/hooks/google"
REDIRECT = "https://postern.example/sign-in/google"
MARKER_KEY = b"marker key for the tests only...."

MAIL = (
    b"From: Bob <bob@outside.example>\r\nTo: Anna <anna@corp.example>\r\nSubject: Your invoice\r\n"
    b"Message-ID: <invoice-1@outside.example>\r\nDate: Sat, 21 Nov 2026 10:00:00 +0000\r\n"
    b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    b"Gr\xc3\xbc\xc3\x9fe, please pay at https://pay.outside.example/1\r\n"
)


def protected(raw: bytes) -> bytes:
    """What the application would make of :data:`MAIL`."""
    return raw.replace(b"https://pay.outside.example/1", b"https://gw.example/p/pay.outside.example/TOKEN")


def protect(message: FetchedMessage) -> Replacement:
    """Its links rewritten."""
    assert isinstance(message.content, MimeContent)
    return Replacement(message, MimeContent(protected(message.content.raw)))


def restore(message: FetchedMessage, raw: bytes = MAIL) -> Replacement:
    """What was delivered."""
    return Replacement(message, MimeContent(raw), mark=False)


async def fetched(connector: GoogleConnector, world: GoogleWorld, **options: Any) -> FetchedMessage:
    """A message delivered just now."""
    return await connector.fetch(world.deliver(**options))


def config_for(emulators: Emulators, key: dict[str, str], topic: str, subscription: str) -> GoogleConfig:
    """Settings that lead to the emulator, with no limit on calls."""
    base = emulators.google_url
    return GoogleConfig(
        KeyFile(key),
        pubsub_topic=topic,
        pubsub_subscription=subscription,
        push_audience=AUDIENCE,
        push_service_account=PUSH_ACCOUNT,
        units_per_user_minute=100_000_000,
        gmail_base=f"{base}/",
        admin_base=f"{base}/",
        pubsub_base=f"{base}/pubsub/",
        token_uri=f"{base}/token",
        oidc_issuer=base,
        certs_url=f"{base}/oauth2/v3/certs",
        admin_console=f"{base}/admin",
    )


@dataclass
class GoogleWorld:
    """A customer with three people, and everything a connector needs to work for it."""

    emulators: Emulators
    key: dict[str, str]
    oidc_client_id: str
    oidc_client_secret: str = field(repr=False)
    _delegated: bool
    _signing_key: SigningKey

    @classmethod
    def create(cls, emulators: Emulators, *, delegated: bool = True) -> GoogleWorld:
        """Set up the customer. Quotas are off: the suites make more calls than a minute allows."""
        state = emulators.world.google
        key = state.create_service_account("postern@postern-test.iam.gserviceaccount.com")
        client = state.create_oauth_client([REDIRECT])
        world = cls(emulators, key, client.client_id, client.secret, delegated, state.signing_key)
        world.reset()
        return world

    def reset(self) -> None:
        """As it was created, without making or reading a key, which would be most of a test's time."""
        state = self.state
        state.faults.clear()
        state.clock.set_offset(0)
        with state.lock:
            old, own = state.accounts, self.key["client_email"]
            state.accounts = Accounts()
            state.accounts.oauth_clients = old.oauth_clients
            state.accounts.service_accounts = {own: old.service_accounts[own]}
            state.accounts.service_accounts[own].token_creators.clear()
            state.mailboxes_by_user.clear()
            state.tokens.drop(lambda _: True)
            state.pubsub.topics.clear()
            state.pubsub.subscriptions.clear()
            state.quota = Quota(state.clock.timestamp)
            state.behaviour = Behaviour(quotas=False)
            state.signing_key = self._signing_key
            state.create_domain(
                DOMAIN,
                CUSTOMER,
                [
                    NewUser(ADMIN, "Ada Admin", admin=True),
                    NewUser(ANNA, "Anna Schmidt", aliases=(f"a.schmidt@{DOMAIN}",)),
                    NewUser(BEN, "Ben Weber"),
                ],
            )
            state.create_topic(TOPIC)
        if self._delegated:
            self.delegate()

    @property
    def state(self) -> GoogleState:
        """The emulated Google, for doing what users and administrators do."""
        return self.emulators.world.google

    def config(self, **changes: Any) -> GoogleConfig:
        """Settings that lead to the emulator."""
        config = config_for(self.emulators, self.key, TOPIC, SUBSCRIPTION)
        config = dataclasses.replace(
            config, oidc_client_id=self.oidc_client_id, oidc_client_secret=self.oidc_client_secret
        )
        return dataclasses.replace(config, **changes)

    def delegate(self, *scopes: str, removal: str = "trash") -> None:
        """What the super administrator enters; by default all scopes that are needed."""
        wanted = scopes or self.config(removal=removal).scopes
        self.state.delegate(CUSTOMER, self.key["client_id"], wanted)

    @contextlib.asynccontextmanager
    async def connector(self, *, policy: HttpPolicy | None = None, **changes: Any) -> AsyncIterator[GoogleConnector]:
        """A connector for the customer, closed at the end."""
        config = self.config(**changes)
        async with SharedHttp(policy or QUICK) as http:
            yield GoogleConnector(config, DOMAIN, admin_address=ADMIN, marker_key=MARKER_KEY, http=http)

    def mailbox(self, address: str = ANNA) -> Mailbox:
        """A mailbox as the Directory would give it."""
        user = self.state.user(address)
        return Mailbox(user.id, user.email, user.name, tuple(user.aliases))

    def deliver(self, raw: bytes = MAIL, address: str = ANNA, **options: Any) -> MessageRef:
        """Mail arrives."""
        return MessageRef(self.mailbox(address), self.state.deliver(address, raw, **options))

    def all(self, address: str = ANNA) -> list[StoredMessage]:
        """Every message, trash and spam included, oldest first."""
        with self.state.lock:
            return list(self.state.mailbox(address).messages.values())

    def visible(self, address: str = ANNA) -> list[StoredMessage]:
        """Messages that are not in the trash."""
        return [message for message in self.all(address) if "TRASH" not in message.labels]

    def relabel(self, message_id: str, add: tuple[str, ...] = (), remove: tuple[str, ...] = ()) -> None:
        """The user reads, stars, moves a message."""
        with self.state.lock:
            self.state.mailbox(ANNA).modify([message_id], add, remove)

    def delete(self, message_id: str) -> None:
        """The user deletes a message for good."""
        with self.state.lock:
            self.state.mailbox(ANNA).delete([message_id])

    def fail(self, kind: FaultKind, path: str = "", method: str | None = None, limit: int | None = 1) -> None:
        """The next matching requests fail."""
        self.state.faults.add(FaultRule(kind, path, method, limit=limit, retry_after=0.01))


@contextlib.contextmanager
def killed() -> Iterator[None]:
    """The process is expected to end within the block."""
    try:
        yield
    except Killed:
        return
    raise AssertionError("it was not killed")


_KINDS = {
    Weather.THROTTLED: FaultKind.THROTTLE,
    Weather.UNAVAILABLE: FaultKind.UNAVAILABLE,
    Weather.TIMEOUT_BEFORE: FaultKind.TIMEOUT_BEFORE,
    Weather.TIMEOUT_AFTER: FaultKind.TIMEOUT_AFTER,
}
_CALLS: dict[Call, tuple[str | None, str]] = {
    Call.READ_MESSAGE: ("GET", r"/google/gmail/v1/users/[^/]+/messages/[^/]+$"),
    Call.WRITE_MESSAGE: ("POST", r"/google/upload/gmail/v1/users/[^/]+/messages$"),
    Call.LOOK_FOR_CHANGES: ("GET", r"/google/gmail/v1/users/[^/]+/(history|messages|profile)$"),
    Call.GET_TOKEN: ("POST", r"/google/token$"),
    Call.ANYTHING: (None, r"/google/(upload/)?gmail/"),
}
_LABELS = {"inbox": "INBOX", "junk": "SPAM", "sent": "SENT", "drafts": "DRAFT"}
_keys: WeakKeyDictionary[GoogleState, dict[str, str]] = WeakKeyDictionary()


class GoogleHarness:
    """Implements :class:`tests.contract.connectors.harness.ProviderHarness`."""

    provider = Provider.GOOGLE
    makes_copies = True

    def __init__(self, emulators: Emulators, number: int) -> None:
        self.emulators = emulators
        self.domain = f"suedwind{number}.example"
        self.customer = f"C{number:08}"
        state = self.state
        state.behaviour.quotas = False
        names = ("ada", "ben", "cleo")
        people = [NewUser(f"{name}@{self.domain}", name.title(), admin=name == "ada") for name in names]
        state.create_domain(self.domain, self.customer, people)
        if state not in _keys:  # one service account serves all organisations, as in the product
            _keys[state] = state.create_service_account("postern@postern-test.iam.gserviceaccount.com")
        self._key = _keys[state]
        self._topic = f"projects/postern-test/topics/gmail-{number}"
        self._subscription = f"projects/postern-test/subscriptions/gmail-{number}"
        state.create_topic(self._topic)
        state.delegate(self.customer, self._key["client_id"], self.config().scopes)
        self.ada, self.ben, self.cleo = (
            Mailbox(user.id, user.email, user.name) for user in (state.user(person.email) for person in people)
        )
        self._https: list[SharedHttp] = []
        self.connector: MailboxConnector = self.new_connector()
        http = quick_http()
        self._https.append(http)
        self.notifications: NotificationReader = GoogleNotifications(self.config(), http=http)

    @property
    def state(self) -> GoogleState:
        """The emulated Google, for doing what users and administrators do."""
        return self.emulators.world.google

    def config(self, **changes: Any) -> GoogleConfig:
        """Settings that lead to the emulator."""
        return dataclasses.replace(config_for(self.emulators, self._key, self._topic, self._subscription), **changes)

    def new_connector(self, policy: HttpPolicy = QUICK, **changes: Any) -> GoogleConnector:
        """See the protocol; ``changes`` are of the configuration."""
        http = quick_http(policy)
        self._https.append(http)
        return GoogleConnector(
            self.config(**changes), self.domain, admin_address=self.ada.address, marker_key=MARKER_KEY, http=http
        )

    def may_read_groups(self) -> None:
        """See the protocol."""
        self.state.delegate(self.customer, self._key["client_id"], (*self.config().scopes, SCOPE_GROUPS))

    def add_group(self, name: str, people: Sequence[Mailbox], inner: Sequence[str] = ()) -> str:
        """See the protocol."""
        groups = [self.state.accounts.groups[group].email for group in inner]
        members = [*(mailbox.address for mailbox in people), *groups]
        return self.state.create_group(f"{name}@{self.domain}", name.title(), members).id

    def remove_group(self, group: str) -> None:
        """See the protocol."""
        self.state.remove_group(self.state.accounts.groups[group])

    def stored(self, ref: MessageRef) -> StoredMessage | None:
        """The stored message, or None where it is gone."""
        return self.state.mailbox(ref.mailbox.address).messages.get(ref.id)

    def deliver(self, mailbox: Mailbox, mime: bytes, place: str = "inbox") -> MessageRef:
        """See the protocol."""
        if place == "other":
            labels = [self._label(mailbox, "Projects"), "UNREAD"]
        else:
            labels = [_LABELS[place], *(["UNREAD"] if place in ("inbox", "junk") else [])]
        return MessageRef(mailbox, self.state.deliver(mailbox.address, mime, labels))

    def texts(self, mailbox: Mailbox) -> list[str]:
        """See the protocol."""
        with self.state.lock:
            shown = [
                stored for stored in self.state.mailbox(mailbox.address).newest_first() if "TRASH" not in stored.labels
            ]
        return [_text_of(stored.raw) for stored in shown]

    def place_of(self, ref: MessageRef) -> str:
        """See the protocol."""
        stored = self.stored(ref)
        if stored is None:
            return "gone"
        box = self.state.mailbox(ref.mailbox.address)
        if QUARANTINE_LABEL in {box.labels.name(label) for label in stored.labels}:
            return "quarantine"
        for label, place in (("TRASH", "trash"), ("SPAM", "junk"), ("INBOX", "inbox")):
            if label in stored.labels:
                return place
        return "other"

    def set_read(self, ref: MessageRef, is_read: bool) -> None:
        """See the protocol."""
        unread = ("UNREAD",)
        with self.state.lock:
            box = self.state.mailbox(ref.mailbox.address)
            box.modify([ref.id], () if is_read else unread, unread if is_read else ())

    def is_read(self, ref: MessageRef) -> bool:
        """See the protocol."""
        stored = self.stored(ref)
        assert stored is not None
        return "UNREAD" not in stored.labels

    def delete(self, ref: MessageRef) -> None:
        """See the protocol."""
        with self.state.lock:
            self.state.mailbox(ref.mailbox.address).delete([ref.id])

    def with_link(self, message: FetchedMessage, old: str, new: str) -> Content:
        """See the protocol."""
        content = message.content
        assert isinstance(content, MimeContent)
        plain, mark, rest = content.raw.partition(b"Content-Type: text/html")
        plain = plain.replace(old.encode(), new.encode())
        rest = rest.replace(html.escape(old).encode(), html.escape(new).encode())
        assert plain + mark + rest != content.raw
        return MimeContent(plain + mark + rest)

    def make(self, weather: Weather, call: Call, times: int | None = 1, retry_after: float = 0.05) -> None:
        """See the protocol."""
        method, path = _CALLS[call]
        self.emulators.world.faults.add(FaultRule(_KINDS[weather], path, method, limit=times, retry_after=retry_after))

    def clear(self) -> None:
        """See the protocol."""
        self.emulators.world.faults.clear()

    def advance(self, seconds: float) -> None:
        """See the protocol."""
        self.emulators.world.clock.advance(seconds)

    def expire_cursors(self, mailbox: Mailbox) -> None:
        """See the protocol. Something has to happen first: the newest history id never expires."""
        self.delete(self.deliver(mailbox, MAIL))
        self.state.expire_history(mailbox.address)

    def revoke(self) -> None:
        """See the protocol."""
        self.state.revoke_delegation(self.customer, self._key["client_id"])

    def forbid_writing(self) -> None:
        """See the protocol. At Google one scope is for reading and changing mail; the Directory's stays."""
        self.state.revoke_delegation(self.customer, self._key["client_id"], drop_tokens=True)
        self.state.delegate(self.customer, self._key["client_id"], [SCOPE_USERS])

    def push_to(self, url: str) -> None:
        """See the protocol."""
        self.state.create_subscription(
            self._subscription,
            self._topic,
            push_endpoint=url,
            audience=AUDIENCE,
            service_account_email=PUSH_ACCOUNT,
        )

    async def aclose(self) -> None:
        """See the protocol."""
        for http in self._https:
            await http.aclose()

    def _label(self, mailbox: Mailbox, name: str) -> str:
        labels = self.state.mailbox(mailbox.address).labels
        for label in labels.all():
            if label.name == name:
                return label.id
        return labels.create({"name": name}).id


def _text_of(raw: bytes) -> str:
    message = email.message_from_bytes(raw, policy=email.policy.default)
    parts = [part for part in message.walk() if part.get_content_maintype() == "text"]
    return "\n".join(str(part.get_content()) for part in parts)
