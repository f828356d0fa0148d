"""Cloud Pub/Sub: topics, subscriptions and what is not acknowledged yet.

https://cloud.google.com/pubsub/docs/reference/rest and https://cloud.google.com/pubsub/docs/subscriber
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from connectors.emulators.common.faults import FaultKind, Faults
from connectors.emulators.common.notify import is_loopback

GMAIL_PUBLISHER = "serviceAccount:gmail-api-push@system.gserviceaccount.com"
"""The account that needs the publisher role on a topic
(https://developers.google.com/workspace/gmail/api/guides/push, "Grant publish rights on your topic")."""

PUBLISHER_ROLES = frozenset({"roles/pubsub.publisher", "roles/pubsub.editor", "roles/pubsub.admin"})
RETENTION = 7 * 86_400.0
"""Unacknowledged messages are kept for 7 days by default (``messageRetentionDuration``)."""


@dataclass(slots=True)
class Topic:
    """A topic and its IAM policy: role -> members."""

    name: str
    bindings: dict[str, list[str]] = field(default_factory=dict)
    fields: dict[str, Any] = field(default_factory=dict)

    def may_publish(self, member: str) -> bool:
        """Whether the policy lets this member publish."""
        return any(
            role in PUBLISHER_ROLES and (member in members or "allUsers" in members)
            for role, members in self.bindings.items()
        )


@dataclass(slots=True)
class Pending:
    """A message of a subscription that is not acknowledged.

    Attributes:
        message: ``PubsubMessage`` as JSON.
        published: Seconds since the epoch.
        attempts: How often it was handed out.
        leased_until: Not handed out again by pull before this time.
        ack_id: Of the last pull.
    """

    message: dict[str, Any]
    published: float
    attempts: int = 0
    leased_until: float = 0.0
    ack_id: str = ""


@dataclass(slots=True)
class Subscription:
    """A subscription: ``fields`` are those of the resource besides name and topic."""

    name: str
    topic: str
    fields: dict[str, Any]
    pending: dict[str, Pending] = field(default_factory=dict)
    active: float = 0.0

    @property
    def idle_limit(self) -> float | None:
        """Seconds without activity after which it is deleted; None is never.

        https://cloud.google.com/pubsub/docs/subscription-properties#expiration_period: 31 days unless
        ``expirationPolicy`` says otherwise; an empty policy means never.
        """
        policy = self.fields.get("expirationPolicy")
        if policy is None:
            return 31 * 86_400.0
        ttl = str(policy.get("ttl") or "")
        return float(ttl.removesuffix("s")) if ttl else None

    @property
    def push_config(self) -> dict[str, Any]:
        """``pushConfig``; without ``pushEndpoint`` the subscription is a pull one."""
        config = self.fields.get("pushConfig")
        return config if isinstance(config, dict) else {}

    @property
    def ack_deadline(self) -> float:
        """Seconds a receiver has to acknowledge."""
        return float(self.fields.get("ackDeadlineSeconds") or 10)


class PubSub:
    """All topics and subscriptions of all projects."""

    def __init__(self, clock: Callable[[], float], faults: Faults) -> None:
        self._clock = clock
        self._faults = faults
        self.topics: dict[str, Topic] = {}
        self.subscriptions: dict[str, Subscription] = {}
        self.push: Callable[[str, str], None] | None = None
        """Called with (subscription name, message id) for each message of a push subscription."""

    def subscribe(self, name: str, topic: str, fields: dict[str, Any]) -> Subscription:
        """Make a subscription; it gets what is published from now on.

        Raises:
            ValueError: The topic does not exist, the name is taken, or the push address is not on loopback
                (the emulator calls nothing else).
        """
        if topic not in self.topics:
            raise ValueError(f"There is no topic {topic}.")
        if name in self.subscriptions:
            raise ValueError(f"There is a subscription {name} already.")
        check_push(fields)
        subscription = Subscription(name, topic, fields, active=self._clock())
        self.subscriptions[name] = subscription
        return subscription

    def publish(self, topic: str, data: bytes, attributes: Mapping[str, str] | None = None) -> str:
        """Give a message to every subscription of a topic.

        Returns:
            The message id.
        """
        now = self._clock()
        self.forget_idle()
        message_id = str(secrets.randbelow(9 * 10**15) + 10**15)
        message: dict[str, Any] = {
            "data": base64.b64encode(data).decode("ascii"),
            "messageId": message_id,
            "publishTime": datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z",
        }
        if attributes:
            message["attributes"] = dict(attributes)
        for subscription in self.subscriptions.values():
            if subscription.topic == topic:
                self._expire(subscription, now)
                for copy in range(self._copies(subscription)):
                    key = f"{message_id}#{copy}" if copy else message_id
                    subscription.pending[key] = Pending(dict(message), now)
                    self._offer(subscription, key)
        return message_id

    def pull(self, name: str, limit: int) -> list[dict[str, Any]]:
        """Hand out messages that nobody holds at the moment."""
        subscription = self.subscriptions[name]
        now = self._clock()
        self._expire(subscription, now)
        received: list[dict[str, Any]] = []
        for pending in subscription.pending.values():
            if len(received) >= limit:
                break
            if pending.leased_until > now:
                continue
            pending.attempts += 1
            pending.ack_id = secrets.token_urlsafe(32)
            pending.leased_until = now + subscription.ack_deadline
            received.append({"ackId": pending.ack_id, "message": dict(pending.message)})
        return received

    def acknowledge(self, name: str, ack_ids: Iterable[str]) -> None:
        """Forget messages; unknown or late ids are ignored."""
        wanted = set(ack_ids)
        subscription = self.subscriptions[name]
        for message_id in [i for i, p in subscription.pending.items() if p.ack_id and p.ack_id in wanted]:
            del subscription.pending[message_id]

    def extend(self, name: str, ack_ids: Iterable[str], seconds: float) -> None:
        """``modifyAckDeadline``; 0 seconds gives the messages back."""
        wanted = set(ack_ids)
        for pending in self.subscriptions[name].pending.values():
            if pending.ack_id and pending.ack_id in wanted:
                pending.leased_until = self._clock() + seconds

    def touch(self, name: str) -> None:
        """A subscription is in use: somebody pulled, changed it or acknowledged a push."""
        self.subscriptions[name].active = self._clock()

    def forget_idle(self) -> None:
        """Delete subscriptions that nobody used for longer than their expiration policy allows."""
        now = self._clock()
        for name, subscription in list(self.subscriptions.items()):
            limit = subscription.idle_limit
            if limit is not None and subscription.active + limit < now:
                del self.subscriptions[name]

    def offer_all(self) -> None:
        """Start pushing everything that is not acknowledged: after a load or a new push address."""
        for subscription in self.subscriptions.values():
            for message_id in list(subscription.pending):
                self._offer(subscription, message_id)

    def _offer(self, subscription: Subscription, message_id: str) -> None:
        if self.push is not None and subscription.push_config.get("pushEndpoint"):
            self.push(subscription.name, message_id)

    def _copies(self, subscription: Subscription) -> int:
        """How often a pull subscription gets a message: fault rules lose or double it.

        Pushes are struck when they are sent, by the push address.
        """
        if subscription.push_config.get("pushEndpoint"):
            return 1
        struck = {rule.kind for rule in self._faults.draw("PULL", subscription.name, notification=True)}
        if FaultKind.LOSE in struck:
            return 0
        return 2 if FaultKind.DUPLICATE in struck else 1

    def _expire(self, subscription: Subscription, now: float) -> None:
        for message_id in [i for i, p in subscription.pending.items() if p.published < now - RETENTION]:
            del subscription.pending[message_id]

    def save(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "topics": [asdict(topic) for topic in self.topics.values()],
            "subscriptions": [asdict(subscription) for subscription in self.subscriptions.values()],
        }

    def load(self, data: Mapping[str, Any]) -> None:
        """The reverse of :meth:`save`; call :meth:`offer_all` when pushing may start again."""
        self.topics = {item["name"]: Topic(**item) for item in data["topics"]}
        self.subscriptions = {}
        for item in data["subscriptions"]:
            pending = {key: Pending(**value) for key, value in item["pending"].items()}
            self.subscriptions[item["name"]] = Subscription(
                item["name"], item["topic"], item["fields"], pending, item["active"]
            )


def check_push(fields: Mapping[str, Any]) -> None:
    """Refuse a push address that does not lead to this machine.

    Raises:
        ValueError: It does not.
    """
    endpoint = (fields.get("pushConfig") or {}).get("pushEndpoint")
    if endpoint and not is_loopback(endpoint):
        raise ValueError(f"The emulator pushes to loopback addresses only, not to {endpoint}.")
