"""Everything the emulated Google knows, and what a test or the demo does to it from outside the APIs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from connectors.emulators.common.clock import Clock
from connectors.emulators.common.faults import Faults
from connectors.emulators.common.viewer import ViewMailbox, ViewMessage, ViewMessageDetail
from connectors.emulators.google import mime, view
from connectors.emulators.google.accounts import Accounts
from connectors.emulators.google.behaviour import Behaviour
from connectors.emulators.google.files import DriveFile
from connectors.emulators.google.keys import SigningKey
from connectors.emulators.google.mailbox import Mailbox, Watch
from connectors.emulators.google.provisioning import Provisioning
from connectors.emulators.google.pubsub import GMAIL_PUBLISHER
from connectors.emulators.google.push import Backoff, Pusher, PushRequest

DELIVERY_LABELS = ("INBOX", "UNREAD", "CATEGORY_PERSONAL")
"""Labels of ordinary mail that has just arrived."""


class GoogleState(Provisioning):
    """The emulated Google. Safe to use from any thread; implements the viewer's ``MailboxView``.

    Args:
        base_url: Address under which the app is reached, without a trailing slash.
        clock: The emulators' common clock.
        faults: The emulators' common fault rules, used here for notifications.
        behaviour: Switches; may be changed at any time.
        seed: For ids and history gaps; secrets never come from it.
        signing_key: Signs ID tokens; by default a new one.
    """

    provider = "google"

    def __init__(
        self,
        base_url: str = "http://127.0.0.1:8090/google",
        *,
        clock: Clock | None = None,
        faults: Faults | None = None,
        behaviour: Behaviour | None = None,
        seed: int | None = None,
        signing_key: SigningKey | None = None,
    ) -> None:
        super().__init__(base_url, clock=clock, faults=faults, behaviour=behaviour, seed=seed, signing_key=signing_key)
        self.title = "Google Workspace"
        self._pusher = Pusher(self.faults, self._prepare_push, self._settle_push, self._backoff)
        self.pubsub.push = self._pusher.submit

    # Mail

    def deliver(self, address: str, mime_bytes: bytes, labels: Sequence[str] = DELIVERY_LABELS) -> str:
        """Mail arrives: it is stored, enters the history and is notified.

        Args:
            address: The recipient.
            mime_bytes: The message; bare line feeds become CRLF, as over SMTP, and where it has no
                Message-ID it gets Google's.
            labels: Labels it arrives with.

        Returns:
            The message id.

        Raises:
            KeyError: There is no such mailbox.
        """
        with self.lock:
            now_ms = int(self.clock.timestamp() * 1000)
            box = self.mailbox(address)
            unique = f"{now_ms // 1000:x}.{box.history_id:x}.{len(box.messages):x}"
            raw = mime.with_message_id(mime.smtp_line_ends(mime_bytes), unique)
            return box.add(raw, labels, internal_ms=now_ms).id

    def deliver_if_known(self, address: str, mime_bytes: bytes) -> None:
        """Deliver to a person, or to everybody in a group; mail to others leaves the emulated world."""
        with self.lock:
            group = self.accounts.group(address)
            people = list(self.accounts.people_in(group)) if group else [address]
            for person in people:
                if self.find_user(person) is not None:
                    self.deliver(person, mime_bytes)

    # MailboxView

    def mailboxes(self) -> list[ViewMailbox]:
        """All mailboxes for the viewer."""
        with self.lock:
            users = sorted(self.accounts.users.values(), key=lambda u: (u.domain, u.email))
            return [
                view.mailbox(self.mailboxes_by_user[u.id], u.name)
                for u in users
                if u.mailbox and u.id in self.mailboxes_by_user
            ]

    def messages(self, address: str) -> list[ViewMessage]:
        """Messages for the viewer, newest first.

        Raises:
            KeyError: There is no such mailbox.
        """
        with self.lock:
            mailbox = self.mailbox(address)
            return [view.line(mailbox, message) for message in mailbox.newest_first()]

    def message(self, address: str, message_id: str) -> ViewMessageDetail:
        """One message for the viewer.

        Raises:
            KeyError: There is no such mailbox or message.
        """
        with self.lock:
            mailbox = self.mailbox(address)
            return view.detail(mailbox, mailbox.messages[message_id])

    def mark_read(self, address: str, message_id: str) -> None:
        """The person opened the message.

        Raises:
            KeyError: There is no such mailbox or message.
        """
        with self.lock:
            mailbox = self.mailbox(address)
            if "UNREAD" in mailbox.messages[message_id].labels:
                mailbox.modify([message_id], (), ("UNREAD",))

    # Keeping

    def save(self) -> dict[str, Any]:
        """Everything as plain data for JSON. It holds private keys: of the emulator only."""
        with self.lock:
            return {
                "signing_key": self.signing_key.save(),
                "accounts": self.accounts.save(),
                "mailboxes": {user: box.save() for user, box in self.mailboxes_by_user.items()},
                "tokens": self.tokens.save(),
                "pubsub": self.pubsub.save(),
                "behaviour": self.behaviour.save(),
                "files": {file_id: file.save() for file_id, file in self.files.items()},
            }

    def load(self, data: Mapping[str, Any]) -> None:
        """Replace everything by what was saved and go on pushing what was not acknowledged."""
        with self.lock:
            self.signing_key = SigningKey.load(data["signing_key"])
            self.accounts = Accounts.load(data["accounts"])
            self.behaviour = Behaviour.load(data["behaviour"])
            self.mailboxes_by_user = {}
            for user_id, saved in data["mailboxes"].items():
                mailbox = self._new_mailbox(self.accounts.users[user_id].email)
                mailbox.load(saved)
                self.mailboxes_by_user[user_id] = mailbox
            self.tokens.load(data["tokens"])
            self.pubsub.load(data["pubsub"])
            self.files = {key: DriveFile.load(value) for key, value in data.get("files", {}).items()}
            self.pubsub.offer_all()

    def close(self) -> None:
        """Stop pushing."""
        self._pusher.close()

    # Inside

    def _changed(self, mailbox: Mailbox, labels: set[str]) -> None:
        """Notify a watch; more than one event per second and user is dropped.

        https://developers.google.com/workspace/gmail/api/guides/push ("Receive notifications",
        "Limitations")
        """
        now = self.clock.timestamp()
        wanted = [w for w in mailbox.watches.values() if w.expires > now and w.wants(labels)]
        if not wanted or not self.behaviour.notifications:
            return
        if now - mailbox.last_notified < self.behaviour.notification_interval:
            return
        mailbox.last_notified = now
        for watch in wanted:
            self.notify(mailbox, watch)

    def notify(self, mailbox: Mailbox, watch: Watch) -> None:
        """Publish ``{"emailAddress", "historyId"}`` to a watch's topic."""
        topic = self.pubsub.topics.get(watch.topic)
        if topic is not None and topic.may_publish(GMAIL_PUBLISHER):
            data = {"emailAddress": mailbox.address, "historyId": mailbox.history_id}
            self.pubsub.publish(topic.name, json.dumps(data).encode())

    def _prepare_push(self, subscription_name: str, message_id: str) -> PushRequest | None:
        with self.lock:
            subscription = self.pubsub.subscriptions.get(subscription_name)
            pending = subscription.pending.get(message_id) if subscription else None
            if subscription is None or pending is None:
                return None
            endpoint = subscription.push_config.get("pushEndpoint")
            if not endpoint:
                return None
            pending.attempts += 1
            # The push format repeats two fields in snake case, as in the documentation's example.
            message = {
                **pending.message,
                "message_id": message_id,
                "publish_time": pending.message["publishTime"],
            }
            body = {"message": message, "subscription": subscription_name}
            token = self._push_token(subscription.push_config.get("oidcToken"), endpoint)
            return PushRequest(endpoint, body, token, subscription.ack_deadline)

    def _push_token(self, config: Mapping[str, str] | None, endpoint: str) -> str | None:
        if not config:
            return None
        email = config["serviceAccountEmail"]
        account = self.accounts.service_accounts.get(email)
        subject = account.client_id if account else "113774264463038321964"
        now = int(self.real_time())
        return self.signing_key.sign_jwt(
            {
                "aud": config.get("audience") or endpoint,
                "azp": subject,
                "email": email,
                "email_verified": True,
                "exp": now + 3_600,
                "iat": now,
                "iss": self.issuer,
                "sub": subject,
            }
        )

    def _settle_push(self, subscription_name: str, message_id: str) -> None:
        with self.lock:
            subscription = self.pubsub.subscriptions.get(subscription_name)
            if subscription is not None:
                subscription.pending.pop(message_id, None)
                self.pubsub.touch(subscription_name)

    def _backoff(self) -> Backoff:
        return Backoff(self.behaviour.push_backoff_min, self.behaviour.push_backoff_max)
