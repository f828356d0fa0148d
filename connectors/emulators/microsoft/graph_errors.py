"""Errors of Graph: "Microsoft Graph error responses and resource types" (https://learn.microsoft.com/graph/errors)."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.responses import JSONResponse, Response


class GraphError(Exception):
    """An error answer.

    Args:
        status: HTTP status.
        code: The error code clients decide by.
        message: For people.
        headers: Further headers, e.g. Retry-After.
    """

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.headers = dict(headers or {})


def error_response(error: GraphError, request_id: str, date: str) -> Response:
    """The documented body, with ``innerError``."""
    inner = {"date": date, "request-id": request_id, "client-request-id": request_id}
    body = {"error": {"code": error.code, "message": str(error), "innerError": inner}}
    return JSONResponse(body, error.status, headers=error.headers)


def item_not_found() -> GraphError:
    """A message, folder or attachment that is not (any more) where the address says."""
    return GraphError(404, "ErrorItemNotFound", "The specified object was not found in the store.")


def bad_request(message: str, code: str = "BadRequest") -> GraphError:
    """A request that cannot be understood."""
    return GraphError(400, code, message)


def access_denied() -> GraphError:
    """The token lacks the permission."""
    return GraphError(403, "ErrorAccessDenied", "Access is denied. Check credentials and try again.")
