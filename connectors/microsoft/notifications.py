"""Reads Graph's change and lifecycle notifications. Imports no SDK: the public intake role uses it.

Sources: https://learn.microsoft.com/graph/change-notifications-delivery-webhooks and
https://learn.microsoft.com/graph/change-notifications-lifecycle-events.

A basic notification is not signed. What authenticates it is ``clientState``, random per subscription,
which the application compares in constant time with the one it stored. Nothing else in it is trusted: its
URLs are not followed and its tenant id is not used.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from connectors.base.types import Hint, HintKind, Provider

if TYPE_CHECKING:
    from connectors.base.protocol import NotificationReader

MAX_BODY_BYTES = 4 * 1024 * 1024
MAX_ENTRIES = 5_000
MAX_TOKEN_CHARACTERS = 4_096

_LIFECYCLE = {
    "reauthorizationrequired": HintKind.REAUTHORIZE,
    "subscriptionremoved": HintKind.SUBSCRIPTION_REMOVED,
    "missed": HintKind.MISSED,
}
_SUBSCRIPTION_ID = re.compile(r"[0-9A-Za-z\-]{8,64}")
_MESSAGE_ID = re.compile(r"[0-9A-Za-z_\-=+/]{1,512}")
_CLIENT_STATE_LIMIT = 128


class MicrosoftNotifications:
    """Implements :class:`connectors.base.protocol.NotificationReader`.

    Attributes:
        reasons: How many entries were left out since start, by reason.
    """

    provider = Provider.MICROSOFT

    def __init__(self) -> None:
        self.reasons: Counter[str] = Counter()

    @property
    def skipped(self) -> int:
        """How many entries were left out since start."""
        return self.reasons.total()

    def handshake(self, query: Mapping[str, str]) -> str | None:
        """The decoded ``validationToken``, to be answered as ``text/plain`` with 200 within ten seconds.

        Args:
            query: The decoded query parameters.

        Returns:
            The token; None where this is not a handshake, or the token is not one Graph would send.
        """
        token = query.get("validationToken")
        if token is None or not token or len(token) > MAX_TOKEN_CHARACTERS:
            return None
        return token

    async def read(self, headers: Mapping[str, str], body: bytes) -> list[Hint]:
        """Hints in a notification; a batch may mix subscriptions and tenants.

        An entry that cannot be used is left out and counted in ``reasons``; the others are kept.

        Raises:
            ValueError: Not a notification, too large, or no entry of it can be used.
        """
        del headers  # basic notifications carry no signature
        if len(body) > MAX_BODY_BYTES:
            raise ValueError(f"The notification has {len(body)} bytes; at most {MAX_BODY_BYTES} are read.")
        try:
            document = json.loads(body)
        except RecursionError:
            raise ValueError("The notification is nested too deeply.") from None
        except ValueError:
            raise ValueError("The notification is not JSON.") from None
        entries = document.get("value") if isinstance(document, dict) else None
        if not isinstance(entries, list) or not entries:
            raise ValueError('The notification has no list "value", or an empty one.')
        if len(entries) > MAX_ENTRIES:
            raise ValueError(f"The notification has {len(entries)} entries; at most {MAX_ENTRIES} are read.")
        hints: list[Hint] = []
        reasons: Counter[str] = Counter()
        for entry in entries:
            hint = _read_entry(entry)
            if isinstance(hint, str):
                reasons[hint] += 1
            else:
                hints.append(hint)
        self.reasons.update(reasons)
        if not hints:
            raise ValueError("No entry of the notification can be used: " + ", ".join(sorted(reasons)) + ".")
        return hints


def _read_entry(entry: Any) -> Hint | str:
    if not isinstance(entry, dict):
        return "entry is not an object"
    subscription = entry.get("subscriptionId")
    if not isinstance(subscription, str) or not _SUBSCRIPTION_ID.fullmatch(subscription):
        return "subscriptionId is missing or malformed"
    secret = entry.get("clientState")
    if secret is None:
        secret = ""
    if not isinstance(secret, str) or len(secret) > _CLIENT_STATE_LIMIT:
        return "clientState is malformed"
    event = entry.get("lifecycleEvent")
    if event is not None:
        if not isinstance(event, str):
            return "lifecycleEvent is malformed"
        # An event Microsoft adds later: looking for changes is the answer that loses nothing.
        kind = _LIFECYCLE.get(event.lower(), HintKind.MISSED)
        return Hint(subscription, kind, secret)
    return Hint(subscription, HintKind.CHANGED, secret, _message_id(entry))


def _message_id(entry: dict[str, Any]) -> str:
    data = entry.get("resourceData")
    value = data.get("id") if isinstance(data, dict) else None
    return value if isinstance(value, str) and _MESSAGE_ID.fullmatch(value) else ""


if TYPE_CHECKING:

    def _implements(made: MicrosoftNotifications) -> NotificationReader:
        return made
