"""Google's refusals become ours."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from connectors.base import errors as ours
from connectors.google import errors

SCOPE = "https://www.googleapis.com/auth/gmail.modify"


def answer(
    status: int, reason: str = "", message: str = "", *, headers: dict[str, str] | None = None, rpc: str = ""
) -> httpx.Response:
    error = {"code": status, "message": message, "errors": [{"reason": reason, "domain": "global"}], "status": rpc}
    return httpx.Response(status, headers=headers, content=json.dumps({"error": error}).encode())


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        (answer(400, "failedPrecondition"), ours.MailboxUnavailable),
        (answer(400, "badRequest"), ours.ConnectorError),
        (answer(400, "invalidArgument", "Invalid id value"), ours.MessageGone),
        (answer(400, "invalidArgument", "Invalid label: Label_9"), errors.InvalidLabel),
        (answer(400, "invalidArgument", "Invalid pageToken"), errors.InvalidPageToken),
        (
            answer(400, "invalidArgument", "Only one user push notification client allowed per developer"),
            errors.WatchTaken,
        ),
        (answer(401, "authError"), ours.Unavailable),
        (answer(403, "rateLimitExceeded"), ours.Throttled),
        (answer(403, "userRateLimitExceeded"), ours.Throttled),
        (answer(403, "insufficientPermissions"), ours.PermissionMissing),
        (answer(403, "domainPolicy"), ours.MailboxUnavailable),
        (answer(403, "accessNotConfigured"), ours.MisconfiguredClient),
        (answer(403, "forbidden"), ours.PermissionMissing),
        (answer(404, "notFound"), ours.MessageGone),
        (answer(409, "aborted"), ours.VersionConflict),
        (answer(413, "uploadTooLarge"), ours.TooLarge),
        (answer(429, "rateLimitExceeded", "Too many concurrent requests for user"), ours.Throttled),
        (answer(500, "backendError"), ours.Unavailable),
        (httpx.Response(503, content=b"<html>"), ours.Unavailable),
    ],
)
def test_each_refusal_has_its_error(response: httpx.Response, expected: type[ours.ConnectorError]) -> None:
    assert type(errors.api_error(response, "testing", SCOPE)) is expected


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500, 503])
@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"error": "text"}', b'{"error": {"errors": [1]}}', b"\xff"])
def test_an_answer_that_is_not_google_s_still_gives_a_connector_error(status: int, body: bytes) -> None:
    assert isinstance(errors.api_error(httpx.Response(status, content=body), "testing", SCOPE), ours.ConnectorError)


def test_nothing_an_api_says_revokes_a_grant() -> None:
    for status in (400, 401, 403, 404, 429, 500, 503):
        assert not isinstance(errors.api_error(answer(status, "x"), "testing", SCOPE), ours.AccessRevoked)


def test_the_missing_scope_is_named() -> None:
    error = errors.api_error(answer(403, "insufficientPermissions"), "testing", SCOPE)
    assert isinstance(error, ours.PermissionMissing)
    assert error.which == SCOPE


def test_a_retry_after_header_counts() -> None:
    assert errors.throttle_seconds(answer(429, headers={"retry-after": "7"})) == 7.0


def test_the_time_in_gmail_s_message_counts() -> None:
    when = (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    seconds = errors.throttle_seconds(answer(429, message=f"User-rate limit exceeded.  Retry after {when}"))
    assert seconds is not None
    assert 3500 < seconds <= 3600


def test_a_refusal_for_lack_of_rights_is_no_throttling() -> None:
    assert errors.throttle_seconds(answer(403, "insufficientPermissions")) is None
    assert errors.throttle_seconds(answer(403, "quotaExceeded")) == -1.0
    assert errors.throttle_seconds(answer(503)) is None


@pytest.mark.parametrize(
    ("status", "code", "description", "expected"),
    [
        (401, "unauthorized_client", "Client is unauthorized", errors.UnauthorizedClient),
        (400, "invalid_grant", "Invalid email or User ID", ours.MailboxUnavailable),
        (400, "invalid_grant", "Invalid JWT Signature.", ours.MisconfiguredClient),
        (400, "invalid_grant", "Invalid grant: account not found", ours.MisconfiguredClient),
        (401, "invalid_client", "The OAuth client was not found.", ours.MisconfiguredClient),
        (400, "invalid_scope", "", ours.MisconfiguredClient),
        (429, "rate_limit_exceeded", "", ours.Throttled),
        (500, "internal_failure", "", ours.Unavailable),
    ],
)
def test_each_refusal_of_a_token_has_its_error(
    status: int, code: str, description: str, expected: type[ours.ConnectorError]
) -> None:
    response = httpx.Response(status, json={"error": code, "error_description": description})
    assert type(errors.token_error(response, "user@example.org")) is expected


def test_a_proxy_s_page_instead_of_a_token_is_a_passing_failure() -> None:
    assert isinstance(errors.token_error(httpx.Response(407, content=b"<html>"), ""), ours.Unavailable)
