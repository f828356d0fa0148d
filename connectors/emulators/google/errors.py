"""Google's error answers.

Shapes from https://developers.google.com/workspace/gmail/api/guides/handle-errors and
https://cloud.google.com/apis/design/errors#http_mapping (``google.rpc.Status`` over HTTP/JSON).
"""

from __future__ import annotations

from typing import Any

_STATUS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ALREADY_EXISTS",
    413: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


class ApiError(Exception):
    """An answer of a Google API other than 2xx.

    Args:
        code: HTTP status.
        message: Google's sentence.
        reason: The machine-readable reason in ``errors[0]``, e.g. ``notFound``.
        status: Canonical code; by default the one for ``code``.
        domain: ``errors[0].domain``.
        headers: Further response headers.
        details: ``google.rpc`` details.
    """

    def __init__(
        self,
        code: int,
        message: str,
        reason: str,
        *,
        status: str | None = None,
        domain: str = "global",
        headers: dict[str, str] | None = None,
        details: list[dict[str, Any]] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.reason = reason
        self.status = status or _STATUS.get(code, "UNKNOWN")
        self.domain = domain
        self.headers = headers or {}
        self.details = details or []

    def body(self) -> dict[str, Any]:
        """The JSON answer."""
        error: dict[str, Any] = {
            "code": self.code,
            "message": self.message,
            "errors": [{"message": self.message, "domain": self.domain, "reason": self.reason}],
            "status": self.status,
        }
        if self.details:
            error["details"] = self.details
        return {"error": error}


def not_found(message: str = "Requested entity was not found.") -> ApiError:
    """404 for a message, thread, label, topic ... that is not there (any more)."""
    return ApiError(404, message, "notFound")


def invalid(message: str, reason: str = "invalidArgument") -> ApiError:
    """400 for a request that can never work."""
    return ApiError(400, message, reason)


def failed_precondition(message: str = "Precondition check failed.") -> ApiError:
    """400 where the account is not in a state to be used (no licence, no delegated user)."""
    return ApiError(400, message, "failedPrecondition", status="FAILED_PRECONDITION")


def unauthenticated() -> ApiError:
    """401 for a missing, unknown or expired access token."""
    return ApiError(
        401,
        "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or "
        "other valid authentication credential.",
        "authError",
        headers={"WWW-Authenticate": 'Bearer realm="https://accounts.google.com/", error="invalid_token"'},
    )


def insufficient_scope(scopes: frozenset[str], method: str) -> ApiError:
    """403 for a token without any of the method's scopes."""
    return ApiError(
        403,
        "Request had insufficient authentication scopes.",
        "insufficientPermissions",
        headers={
            "WWW-Authenticate": 'Bearer realm="https://accounts.google.com/", error="insufficient_scope", '
            f'scope="{" ".join(sorted(scopes))}"'
        },
        details=[
            {
                "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                "reason": "ACCESS_TOKEN_SCOPE_INSUFFICIENT",
                "domain": "googleapis.com",
                "metadata": {"method": method},
            }
        ],
    )


def forbidden(message: str, reason: str = "forbidden") -> ApiError:
    """403 for a caller that is known but not allowed."""
    return ApiError(403, message, reason)
