"""The Google side of the contract suite: a Workspace customer in the emulator, and a connector for it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from connectors.base.http import HttpPolicy, SharedHttp
from connectors.base.types import Mailbox, MessageRef, ReplaceState
from connectors.emulators.common.faults import FaultKind, FaultRule
from connectors.emulators.google.accounts import NewUser
from connectors.emulators.google.mailbox import StoredMessage
from connectors.emulators.google.state import GoogleState
from connectors.emulators.testing import Emulators
from connectors.google.config import GoogleConfig, KeyFile
from connectors.google.connector import GoogleConnector
from connectors.google.tokens import TokenSource

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


@dataclass
class GoogleWorld:
    """A customer with three people, and everything a connector needs to work for it."""

    emulators: Emulators
    key: dict[str, str]
    oidc_client_id: str
    oidc_client_secret: str = field(repr=False)
    _snapshot: str = field(default="", repr=False)

    @classmethod
    def create(cls, emulators: Emulators, *, delegated: bool = True) -> GoogleWorld:
        """Set up the customer. Quotas are off: the suites make more calls than a minute allows."""
        state = emulators.world.google
        state.behaviour.quotas = False
        state.create_domain(
            DOMAIN,
            CUSTOMER,
            [
                NewUser(ADMIN, "Ada Admin", admin=True),
                NewUser(ANNA, "Anna Schmidt", aliases=(f"a.schmidt@{DOMAIN}",)),
                NewUser(BEN, "Ben Weber"),
            ],
        )
        key = state.create_service_account("postern@postern-test.iam.gserviceaccount.com")
        client = state.create_oauth_client([REDIRECT])
        state.create_topic(TOPIC)
        world = cls(emulators, key, client.client_id, client.secret)
        if delegated:
            world.delegate()
        world._snapshot = json.dumps(state.save())
        return world

    def reset(self) -> None:
        """As it was created: cheaper than creating it again, which makes new keys."""
        self.state.faults.clear()
        self.state.clock.set_offset(0)
        self.state.load(json.loads(self._snapshot))

    @property
    def state(self) -> GoogleState:
        """The emulated Google, for doing what users and administrators do."""
        return self.emulators.world.google

    def config(self, **changes: Any) -> GoogleConfig:
        """Settings that lead to the emulator."""
        base = self.emulators.google_url
        config = GoogleConfig(
            KeyFile(self.key),
            oidc_client_id=self.oidc_client_id,
            oidc_client_secret=self.oidc_client_secret,
            pubsub_topic=TOPIC,
            pubsub_subscription=SUBSCRIPTION,
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
        return dataclasses.replace(config, **changes)

    def delegate(self, *scopes: str, removal: str = "trash") -> None:
        """What the super administrator enters; by default all scopes that are needed."""
        wanted = scopes or self.config(removal=removal).scopes
        self.state.delegate(CUSTOMER, self.key["client_id"], wanted)

    @contextlib.asynccontextmanager
    async def connector(self, *, policy: HttpPolicy | None = None, **changes: Any) -> AsyncIterator[GoogleConnector]:
        """A connector for the customer, closed at the end."""
        config = self.config(**changes)
        async with SharedHttp(policy or quick()) as http:
            tokens = TokenSource(config, http, self.state.clock.timestamp)
            yield GoogleConnector(config, DOMAIN, admin_address=ADMIN, marker_key=MARKER_KEY, http=http, tokens=tokens)

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


def quick() -> HttpPolicy:
    """The connector's policy, with short waits."""
    return HttpPolicy(backoff_first=0.01, backoff_cap=0.02, default_retry_after=0.02)


class Journal:
    """Records steps, and can do something, or crash, right after one."""

    def __init__(self, **after: Callable[[ReplaceState], None]) -> None:
        self.steps: list[ReplaceState] = []
        self._after = after

    async def __call__(self, state: ReplaceState) -> None:
        act = self._after.get(state.step.value)
        if act is not None:
            act(state)
        self.steps.append(state)

    @property
    def last(self) -> ReplaceState | None:
        """The last recorded step."""
        return self.steps[-1] if self.steps else None


class Killed(BaseException):
    """Stands for kill -9: nothing may catch it."""


def die(_: ReplaceState) -> None:
    """The process ends before the step is recorded."""
    raise Killed


@contextlib.contextmanager
def killed() -> Iterator[None]:
    """The process is expected to end within the block."""
    try:
        yield
    except Killed:
        return
    raise AssertionError("it was not killed")
