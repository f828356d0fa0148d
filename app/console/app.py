"""The console as an ASGI application: pages for people, and a small JSON API under ``/api/v1``."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.console import metrics
from app.console.access import NotConnected, SignedOut, Visitor
from app.console.browser import safe_next
from app.console.deps import ConsoleDeps
from app.console.pages import STATIC, common_headers, go, render
from app.console.routes import ROUTERS
from app.console.views import Looks
from app.kit.errors import Conflict, Forbidden, NotFound, PosternError, Refused
from connectors.base.errors import ConnectorError

log = structlog.get_logger(__name__)

MAX_BODY = 64 * 1024
API_PREFIX = "/api/v1"


def create_console(deps: ConsoleDeps) -> FastAPI:
    """The console.

    Args:
        deps: What it needs from outside; it opens and closes none of it.

    Returns:
        An ASGI application for the root of the console's address.
    """
    app = FastAPI(
        title="Postern console",
        version="1",
        description=(
            "What the console shows, as JSON. Signing in is done in the browser; the session cookie "
            "authenticates calls, and calls that change something need the X-CSRF-Token of GET /api/v1/session."
        ),
        docs_url=None,
        redoc_url=None,
        openapi_url=f"{API_PREFIX}/openapi.json",
        redirect_slashes=False,
    )
    app.state.deps = deps
    app.state.looks = Looks()
    app.mount("/static", _CachedStatic(directory=STATIC), name="static")
    for router in ROUTERS:
        app.include_router(router)
    app.add_exception_handler(PosternError, _on_posternerror)
    app.add_exception_handler(ConnectorError, _on_connectorerror)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(Exception, _on_crash)
    app.add_middleware(_Edge, headers=dict(common_headers(deps)))
    return app


class _CachedStatic(StaticFiles):
    """Static files; the address carries a hash of the content, so they may be kept for good."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        if response.status_code == 200:
            response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
        return response


class _Edge:
    """Adds the common headers to every answer, and refuses bodies that no form of ours has."""

    def __init__(self, app: ASGIApp, headers: dict[str, str]) -> None:
        self._app = app
        self._headers = [(name.lower().encode(), value.encode()) for name, value in headers.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                present = {name.lower() for name, _ in message["headers"]}
                message["headers"] = [
                    *message["headers"],
                    *(header for header in self._headers if header[0] not in present),
                ]
            await send(message)

        taken = 0

        async def bounded() -> Message:
            nonlocal taken
            message = await receive()
            if message["type"] == "http.request":
                taken += len(message.get("body", b""))
                if taken > MAX_BODY:
                    raise HTTPException(413)
            return message

        await self._app(scope, bounded, with_headers)


def _wants_json(request: Request) -> bool:
    return request.url.path.startswith(API_PREFIX + "/")


def _answer(request: Request, status: int, title: str, text: str, code: str) -> Response:
    """A refusal, as a page or as a problem document (RFC 9457)."""
    metrics.REFUSALS.labels(code).inc()
    if _wants_json(request):
        return JSONResponse(
            {"type": "about:blank", "status": status, "title": title, "detail": text, "code": code},
            status,
            media_type="application/problem+json",
            headers={"Cache-Control": "no-store"},
        )
    visitor = getattr(request.state, "visitor", None)
    deps: ConsoleDeps = request.app.state.deps
    return render(
        request,
        deps,
        "error.html",
        visitor=visitor if isinstance(visitor, Visitor) else None,
        status=status,
        title=title,
        text=text,
        code=code,
    )


async def _on_posternerror(request: Request, error: Exception) -> Response:
    match error:
        case SignedOut():
            if _wants_json(request):
                return _answer(request, 401, "Signed out", str(error), "signed_out")
            following = safe_next(request.url.path) if request.method == "GET" else ""
            return go("/?" + urlencode({"next": following}) if following not in {"", "/"} else "/")
        case NotConnected():
            if _wants_json(request):
                return _answer(request, 409, "Not connected", str(error), "not_connected")
            return go("/onboarding")
        case NotFound():
            return _answer(request, 404, "Not found", "There is no such page, or none that you may see.", "not_found")
        case Forbidden():
            return _answer(request, 403, "Not allowed", str(error), "forbidden")
        case Refused():
            return _answer(request, 400, "Not accepted", str(error), error.code)
        case Conflict():
            return _answer(request, 409, "Already changed", str(error), "conflict")
    return await _on_crash(request, error)


async def _on_connectorerror(request: Request, error: Exception) -> Response:
    log.warning("console.provider_error", path=request.url.path, error=type(error).__name__)
    return _answer(request, 502, "The mail provider did not answer as expected", str(error), "provider")


async def _on_invalid(request: Request, error: Exception) -> Response:
    problems: list[dict[str, Any]] = list(error.errors()) if isinstance(error, RequestValidationError) else []
    if any(problem["loc"][:1] == ("path",) for problem in problems):
        return await _on_posternerror(request, NotFound("no such page"))
    fields = ", ".join(sorted({str(problem["loc"][-1]) for problem in problems}))
    return _answer(
        request,
        422 if _wants_json(request) else 400,
        "Not accepted",
        f"Something in the request cannot be used: {fields}. Nothing was changed.",
        "invalid",
    )


async def _on_http(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    if status == 404:
        return await _on_posternerror(request, NotFound("no such page"))
    if isinstance(error, HTTPException) and status == 405:
        response = _answer(request, 405, "Not possible", "This address is not used in this way.", "method")
        response.headers.update(error.headers or {})
        return response
    if status == 413:
        return _answer(request, 413, "Too large", "The request is too large. Nothing was changed.", "too_large")
    return _answer(request, status, "Not accepted", "The request could not be used. Nothing was changed.", "http")


async def _on_crash(request: Request, error: Exception) -> Response:
    # The traceback is logged by the server; the page says only that it was noticed.
    log.error("console.error", path=request.url.path, error=type(error).__name__)
    return _answer(
        request,
        500,
        "Something went wrong here",
        "The error was recorded. What you were doing was not carried out.",
        "error",
    )


__all__ = ["ConsoleDeps", "create_console"]
