"""Change notifications of a mailbox: ``users.watch`` into our Pub/Sub topic.

https://developers.google.com/workspace/gmail/api/guides/push. A watch lives seven days and is renewed by
watching again. Gmail allows one topic per mailbox and project: where another is watched, it is stopped.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from connectors.base.errors import MailboxUnavailable, MessageGone, MisconfiguredClient, Unavailable
from connectors.base.types import Mailbox, Subscription
from connectors.google import errors
from connectors.google import labels as names
from connectors.google.changes import Cursor
from connectors.google.client import GoogleClient


async def watch(client: GoogleClient, mailbox: Mailbox) -> Subscription:
    """Begin or prolong notifications.

    Raises:
        MisconfiguredClient: No topic is configured.
    """
    topic = client.config.pubsub_topic
    if not topic:
        raise MisconfiguredClient("No Pub/Sub topic is configured, so Gmail cannot notify us.")
    try:
        answer = await _watch(client, mailbox, topic)
    except errors.WatchTaken:
        await stop(client, mailbox)
        answer = await _watch(client, mailbox, topic)
    try:
        expires_at = datetime.fromtimestamp(int(answer["expiration"]) / 1000, UTC)
        cursor = Cursor(int(answer["historyId"])).dump()
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise Unavailable("Google's answer to the request for notifications is incomplete.") from error
    return Subscription(id=mailbox.address, mailbox=mailbox, expires_at=expires_at, cursor=cursor)


async def stop(client: GoogleClient, mailbox: Mailbox) -> None:
    """End notifications; it is fine where there are none, or where the mailbox is gone."""
    request = client.gmail.users.stop(userId=mailbox.address)
    try:
        await client.mail(mailbox, request, "stopping notifications")
    except (MailboxUnavailable, MessageGone):
        return


async def _watch(client: GoogleClient, mailbox: Mailbox, topic: str) -> Mapping[str, Any]:
    # Drafts are saved every few seconds and sent mail is not touched: without them the one event per second
    # and user that Gmail delivers at most is left for mail that comes in.
    body = {
        "topicName": topic,
        "labelIds": [names.DRAFT, names.SENT],
        "labelFilterBehavior": "exclude",
    }
    request = client.gmail.users.watch(userId=mailbox.address, body=body)
    return await client.mail(mailbox, request, "asking for notifications")
