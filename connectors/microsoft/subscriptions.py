"""Change notifications of a mailbox: made, renewed in place, ended.

Sources: https://learn.microsoft.com/graph/api/subscription-post-subscriptions,
https://learn.microsoft.com/graph/api/resources/subscription (lifetimes, ``clientState`` of at most 128
characters), https://learn.microsoft.com/graph/change-notifications-lifecycle-events (a renewal is also a
reauthorisation), https://learn.microsoft.com/graph/outlook-change-notifications-overview.

All folders are subscribed to, since mail that a rule moves never is in the Inbox; ``created`` alone, since our
own PATCH is an ``updated``.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from random import random
from typing import Any

from connectors.base.errors import Unavailable
from connectors.base.types import Mailbox, Subscription
from connectors.microsoft.client import GraphClient

MAX_LIFETIME = timedelta(minutes=10_080)
_CLOCK_SLACK = timedelta(minutes=10)
"""Below the maximum, so that a clock that is ahead does not make the request exceed it."""
_SPREAD = 0.15
"""Lifetimes differ by up to this share, so that renewals of many mailboxes do not fall together."""


class Subscriptions:
    """Subscriptions of one tenant's mailboxes.

    Args:
        client: Graph.
        now: The time, aware.
        jitter: A random number in [0, 1).
        new_secret: A new ``clientState``.
    """

    def __init__(
        self,
        client: GraphClient,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        jitter: Callable[[], float] = random,
        new_secret: Callable[[], str] = lambda: secrets.token_urlsafe(32),
    ) -> None:
        self._client = client
        self._now = now
        self._jitter = jitter
        self._new_secret = new_secret

    def _expiry(self) -> datetime:
        longest = MAX_LIFETIME - _CLOCK_SLACK
        return (self._now() + longest * (1 - _SPREAD * self._jitter())).replace(microsecond=0)

    async def subscribe(self, mailbox: Mailbox, callback_url: str) -> Subscription:
        """Make a subscription. Graph validates ``callback_url`` before it answers.

        Raises:
            ConnectorError: Graph refused; most often it could not reach the address.
        """
        secret = self._new_secret()
        expires = self._expiry()
        info = self._client.requests.subscribe(mailbox.id, callback_url, secret, expires)
        reply = await self._client.call(info, mailbox=mailbox.id, read=False, what="subscribing to a mailbox's changes")
        return _read(mailbox, reply.data, secret, expires)

    async def renew(self, subscription: Subscription, callback_url: str) -> Subscription:
        """Extend a subscription in place; only where Graph no longer knows it, make a new one.

        A PATCH with the same expiry may be repeated safely, so it counts as a read.
        """
        expires = self._expiry()
        what = "renewing a subscription"
        info = self._client.requests.renew(subscription.id, expires)
        mailbox = subscription.mailbox
        reply = await self._client.exchange(info, mailbox=mailbox.id, read=True, what=what)
        if reply.fault is None:
            return _read(mailbox, reply.data, subscription.secret, expires)
        if reply.status in (404, 410):
            return await self.subscribe(mailbox, callback_url)
        raise await self._client.refused(reply.fault, what)

    async def unsubscribe(self, subscription: Subscription) -> None:
        """End a subscription; one that is gone already is fine."""
        what = "ending a subscription"
        info = self._client.requests.unsubscribe(subscription.id)
        reply = await self._client.exchange(info, mailbox=subscription.mailbox.id, read=True, what=what)
        if reply.fault is not None and reply.status not in (404, 410):
            raise await self._client.refused(reply.fault, what)


def _read(mailbox: Mailbox, data: dict[str, Any], secret: str, asked: datetime) -> Subscription:
    identity = data.get("id")
    if not isinstance(identity, str) or not identity:
        raise Unavailable("Graph answered a subscription without an id.")
    expires = asked
    given = data.get("expirationDateTime")
    if isinstance(given, str):
        try:
            expires = datetime.fromisoformat(given)
        except ValueError as error:
            raise Unavailable("Graph answered a subscription with an unreadable expiry.") from error
    if expires.tzinfo is None:
        expires = expires.replace(tzinfo=UTC)
    return Subscription(identity, mailbox, expires, secret)
