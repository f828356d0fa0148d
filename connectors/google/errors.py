"""Google's answers -> our error tree. Nothing of the vendor's gets past this module.

The shapes: https://developers.google.com/workspace/gmail/api/guides/handle-errors and
https://developers.google.com/workspace/admin/directory/v1/limits (API), RFC 6749 section 5.2 (tokens).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx

from connectors.base.errors import (
    AccessRevoked,
    ConnectorError,
    MailboxUnavailable,
    MessageGone,
    MisconfiguredClient,
    PermissionMissing,
    Throttled,
    TooLarge,
    Unavailable,
    VersionConflict,
)
from connectors.base.http import retry_after_seconds

MAX_MESSAGE_BYTES = 150 * 1024 * 1024
"""``mediaUpload.maxSize`` of ``messages.insert`` in the discovery document: 157,286,400 bytes."""

_RATE_REASONS = frozenset(
    {
        "rateLimitExceeded",
        "userRateLimitExceeded",
        "quotaExceeded",
        "dailyLimitExceeded",
        "RATE_LIMIT_EXCEEDED",
        "RESOURCE_EXHAUSTED",
    }
)
_SCOPE_REASONS = frozenset({"insufficientPermissions", "ACCESS_TOKEN_SCOPE_INSUFFICIENT"})
_OUR_PROJECT_REASONS = frozenset({"accessNotConfigured", "SERVICE_DISABLED", "CONSUMER_INVALID", "delegationDenied"})
_MAILBOX_REASONS = frozenset({"domainPolicy", "accountDisabled", "userSuspended", "suspended", "accountDeleted"})
_RETRY_AT = re.compile(r"[Rr]etry after (\d{4}-\d\d-\d\dT[\d:.]+Z)")


class InvalidPageToken(ConnectorError):
    """A page token that Google no longer takes; internal to the connector."""


class UnauthorizedClient(ConnectorError):
    """The token endpoint's ``unauthorized_client``: no delegation, or one scope is not listed. Internal."""


class InvalidLabel(ConnectorError):
    """A label that no longer exists; internal to the connector."""


class WatchTaken(ConnectorError):
    """Another topic is being watched already; stop, then watch. Internal."""


@dataclass(frozen=True, slots=True)
class GoogleProblem:
    """An error answer, read.

    Attributes:
        status: HTTP status.
        reasons: Every reason and status name in it.
        message: Google's sentence; not shown to users as it stands.
    """

    status: int
    reasons: frozenset[str]
    message: str


def read_problem(response: httpx.Response) -> GoogleProblem:
    """Read Google's error JSON leniently: anything that is not one yields no reasons."""
    reasons: set[str] = set()
    message = ""
    try:
        answer: Any = json.loads(response.content)
    except ValueError:
        answer = None
    error = answer.get("error") if isinstance(answer, dict) else None
    if isinstance(error, dict):
        message = str(error.get("message", ""))
        reasons.add(str(error.get("status", "")))
        for key in ("errors", "details"):
            items = error.get(key)
            for item in items if isinstance(items, list) else ():
                if isinstance(item, dict):
                    reasons.add(str(item.get("reason", "")))
    reasons.discard("")
    return GoogleProblem(response.status_code, frozenset(reasons), message)


def throttle_seconds(response: httpx.Response) -> float | None:
    """How long to stay away: 429, 403 with a quota reason, or 503 with a Retry-After; else None.

    Gmail gives quota errors as 403 or 429 and sometimes says the time in the message
    ("User-rate limit exceeded. Retry after 2026-05-01T10:00:00.000Z").
    """
    status = response.status_code
    if status not in (403, 429, 503):
        return None
    seconds = retry_after_seconds(response.headers.get("retry-after"))
    if status == 503:
        return seconds
    problem = read_problem(response)
    if status == 403 and not problem.reasons & _RATE_REASONS:
        return None
    if seconds is None and (found := _RETRY_AT.search(problem.message)):
        try:
            when = datetime.fromisoformat(found.group(1)).astimezone(UTC)
        except ValueError:
            return -1.0
        seconds = max(0.0, when.timestamp() - datetime.now(UTC).timestamp())
    return -1.0 if seconds is None else seconds


def api_error(response: httpx.Response, what: str, scope: str) -> ConnectorError:
    """The error for an API answer that is not a success.

    Args:
        response: The answer.
        what: What was being done, e.g. ``"reading a message"``.
        scope: The scope the call was made with.
    """
    problem = read_problem(response)
    status, reasons = problem.status, problem.reasons
    seconds = throttle_seconds(response)
    if seconds is not None:
        return Throttled(f"Google asked to slow down while {what}.", max(seconds, 1.0))
    if status >= 500 or status == 408:
        return Unavailable(f"Google answered {status} while {what}.")
    if status == 404 or status == 410:
        return MessageGone(f"Google no longer has what was asked for while {what}.")
    if status == 401:
        return Unavailable(f"Google did not take a fresh access token while {what}; tried again later.")
    if status == 403:
        return _forbidden(reasons, what, scope)
    if status == 413:
        return TooLarge(f"Google refused a message as too large while {what}.", MAX_MESSAGE_BYTES)
    if status in (409, 412):
        return VersionConflict(f"Google reports a conflict while {what}; nothing was written.")
    if status == 400:
        if "failedPrecondition" in reasons or "FAILED_PRECONDITION" in reasons:
            return MailboxUnavailable(
                f"This account has no usable mailbox (Gmail off or no licence); seen while {what}."
            )
        lowered = problem.message.lower()
        if "only one user push notification client" in lowered:
            return WatchTaken("Another topic is watched already.")
        if "page token" in lowered or "pagetoken" in lowered:
            return InvalidPageToken("Google no longer takes this page token.")
        if "invalid label" in lowered or "labelid not found" in lowered:
            return InvalidLabel("A label of the message no longer exists.")
        if "invalid id value" in lowered:
            return MessageGone(f"Google knows no such message while {what}.")
    named = ", ".join(sorted(reasons)) or "no reason"
    return ConnectorError(f"Google refused with {status} ({named}) while {what}; nothing was changed.")


def _forbidden(reasons: frozenset[str], what: str, scope: str) -> ConnectorError:
    if reasons & _OUR_PROJECT_REASONS:
        return MisconfiguredClient(
            f"Our Google project may not use this API ({', '.join(sorted(reasons))}) while {what}."
        )
    if reasons & _SCOPE_REASONS:
        return PermissionMissing(scope)
    if reasons & _MAILBOX_REASONS:
        return MailboxUnavailable(f"Google blocks this account ({', '.join(sorted(reasons))}) while {what}.")
    return PermissionMissing(scope, f"Google forbids {what}; nothing was changed.")


def token_error(response: httpx.Response, subject: str) -> ConnectorError:
    """The error for a refused token request with a service account's assertion (RFC 7523).

    ``unauthorized_client``: the delegation does not exist, or lacks a scope. ``invalid_grant``: the person
    to act for is gone, or our assertion is wrong. Anything else is ours.
    """
    status = response.status_code
    if status == 429:
        wait = retry_after_seconds(response.headers.get("retry-after"))
        return Throttled("Google asked to slow down while giving an access token.", wait or 10.0)
    if status >= 500 or status == 408:
        return Unavailable(f"Google's token endpoint answered {status}.")
    try:
        answer = json.loads(response.content)
        code = str(answer.get("error", ""))
        description = str(answer.get("error_description", "")).lower()
    except (ValueError, AttributeError):
        return Unavailable(f"Google's token endpoint answered {status} without a reason.")
    if code == "unauthorized_client":
        return UnauthorizedClient("Domain-wide delegation does not cover this request.")
    if code == "access_denied":
        return AccessRevoked("The organisation denies our service account access.")
    if code == "invalid_grant":
        if "jwt" in description or "account not found" in description:
            return MisconfiguredClient(
                "Google refuses our assertion: check the service account's key and this machine's clock."
            )
        who = "this mailbox" if subject else "the service account"
        return MailboxUnavailable(f"Google gives no access to {who}: the account is deleted or suspended.")
    return MisconfiguredClient(f"Google refuses our token request ({code or status}); no tenant is at fault.")
