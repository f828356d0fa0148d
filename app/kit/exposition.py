"""``/metrics``: what a process counts, in Prometheus' text format.

See https://prometheus.io/docs/instrumenting/exposition_formats/ and, for the names,
https://prometheus.io/docs/practices/naming/. Nothing in it names a person, a mailbox or an organisation.
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, Sequence

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send


class Exposition:
    """Answers with everything that this process counts.

    Args:
        token: What the reader presents as ``Authorization: Bearer``; empty: none is wanted.
        before: Awaited before each answer, for figures that are asked for; they raise nothing.
    """

    def __init__(self, token: str, before: Sequence[Callable[[], Awaitable[None]]] = ()) -> None:
        self._token = token
        self._before = tuple(before)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        await (await self._answer(scope))(scope, receive, send)

    async def _answer(self, scope: Scope) -> Response:
        if scope["method"] not in ("GET", "HEAD"):
            return PlainTextResponse("Metrics are read.", 405, {"Allow": "GET"})
        given = Headers(scope=scope).get("authorization", "").encode("utf-8", "surrogatepass")
        if self._token and not hmac.compare_digest(given, f"Bearer {self._token}".encode()):
            return PlainTextResponse("A token is wanted here.", 401, {"WWW-Authenticate": "Bearer"})
        # Imported where it is wanted: most gateways serve none, and it is a megabyte.
        from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

        for ask in self._before:
            await ask()
        return Response(generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST, "Cache-Control": "no-store"})
