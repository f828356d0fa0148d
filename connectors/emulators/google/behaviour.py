"""Switches for behaviours that Google documents loosely, changes, or varies between accounts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import Any


class Deduplication(StrEnum):
    """Which calls return an existing message with the same Message-ID instead of making a new one.

    Not documented by Google; reported by the author of Google's own import tool
    (https://github.com/google/import-mailbox-to-gmail/issues/56) for import.
    """

    OFF = "off"
    INSERT_AND_IMPORT = "insert_and_import"
    IMPORT_ONLY = "import_only"


@dataclass(slots=True)
class Behaviour:
    """How strict and how moody the emulated Google is. Times are seconds.

    Attributes:
        deduplication: See :class:`Deduplication`.
        received_line: Prepend a ``Received:`` line to inserted and imported messages.
        quotas: Count quota units and refuse calls above the limits
            (https://developers.google.com/workspace/gmail/api/reference/quota).
        units_per_user_minute: Units one user may use in a minute, per project.
        units_per_project_minute: Units a project may use in a minute.
        quota_status: HTTP status of a quota refusal: Gmail uses both 403 and 429
            (https://developers.google.com/workspace/gmail/api/guides/handle-errors).
        concurrent_requests: Calls one user may have under way; None is without limit. The number is not
            documented.
        notification_interval: At most one notification per user in this time; the rest is dropped
            (https://developers.google.com/workspace/gmail/api/guides/push, "Limitations").
        watch_lifetime: A watch ends after this time unless it is renewed.
        history_retention: History older than this is gone and answers 404
            (https://developers.google.com/workspace/gmail/api/guides/sync, "Limitations").
        search_lag: A message is found by ``q`` only after this time.
        token_lifetime: Life of an access token.
        delegation_delay: Time until a new entry in the delegation table takes effect
            (https://support.google.com/a/answer/162106: up to 24 hours).
        issuer: ``iss`` of ID tokens; None is the emulator's own base address. Google's is
            ``https://accounts.google.com``.
        push_backoff_min: First wait after a push that was not acknowledged
            (https://cloud.google.com/pubsub/docs/push, "Push backoff").
        push_backoff_max: Longest wait between two tries of a push.
        latency: Time that every API call takes, within which it counts as under way.
        notifications: False is "drop" mode: changes are not notified at all.
        untrash_restores: ``untrash`` gives back the place that trashing took away (the inbox). Not documented;
            reported in https://github.com/elie222/inbox-zero/pull/3057.
        pull_wait: How long a pull waits for a first message.
    """

    deduplication: Deduplication = Deduplication.IMPORT_ONLY
    received_line: bool = False
    quotas: bool = True
    units_per_user_minute: int = 6_000
    units_per_project_minute: int = 1_200_000
    quota_status: int = 403
    concurrent_requests: int | None = 10
    notification_interval: float = 1.0
    watch_lifetime: float = 7 * 86_400
    history_retention: float = 7 * 86_400
    search_lag: float = 0.0
    token_lifetime: float = 3_599
    delegation_delay: float = 0.0
    issuer: str | None = None
    push_backoff_min: float = 0.1
    push_backoff_max: float = 60.0
    pull_wait: float = 1.0
    latency: float = 0.0
    untrash_restores: bool = True
    notifications: bool = True

    def save(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)

    @classmethod
    def load(cls, data: Mapping[str, Any]) -> Behaviour:
        """The reverse of :meth:`save`. Unknown names are refused with a TypeError."""
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(data) - known)
        if unknown:
            raise TypeError(f"Behaviour has no switch {', '.join(unknown)}.")
        values = dict(data)
        if "deduplication" in values:
            values["deduplication"] = Deduplication(values["deduplication"])
        return cls(**values)
