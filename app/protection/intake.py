"""The intake role: takes provider notifications, checks that they are genuine, stores the hint, answers.

It never fetches mail and never follows an address in a notification. Everything that is refused is counted by
provider and reason. Graph wants its answer within three seconds (202); Pub/Sub takes any 2xx as
acknowledgement and delivers again otherwise (``graph.md``, ``gmail.md``).
"""

from __future__ import annotations

import asyncio
import hmac
from collections import Counter

import structlog
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from app.protection.hint_store import STORE_ERRORS, HintWriter, IntakeDeps, KnownSubscriptions, Target
from connectors.base.errors import ConnectorError
from connectors.base.types import Hint, HintKind, Provider

__all__ = ["HintStore", "IntakeDeps", "create_intake"]

log = structlog.get_logger()

MAX_BODY_BYTES = 1_048_576
MAX_HINTS = 1_000


def create_intake(deps: IntakeDeps) -> Starlette:
    """The ASGI application: ``POST /hooks/{provider}``."""
    known, writer = KnownSubscriptions(deps), HintWriter(deps)
    skipped: Counter[Provider] = Counter()

    async def notifications(request: Request) -> Response:
        try:
            provider = Provider(request.path_params["provider"])
        except ValueError:
            return PlainTextResponse("There is no such provider.", 404)
        if provider not in deps.providers.configured():
            return PlainTextResponse("There is no such provider.", 404)
        reader = deps.providers.notifications(provider)
        answer = reader.handshake(dict(request.query_params))
        if answer is not None:
            return PlainTextResponse(answer, headers={"X-Content-Type-Options": "nosniff"})
        body = await _read(request)
        if body is None:
            await writer.count(provider, {"too_large": 1})
            return PlainTextResponse(f"A notification has at most {MAX_BODY_BYTES} bytes. Nothing was taken.", 413)
        try:
            hints = await reader.read(request.headers, body)
        except PermissionError as error:
            await writer.count(provider, {"not_genuine": 1})
            log.warning("intake.refused", provider=provider.value, reason="not_genuine", error=str(error))
            return PlainTextResponse("This notification is not from the provider. Nothing was taken.", 401)
        except ValueError as error:
            await writer.count(provider, {"malformed": 1})
            if provider is Provider.GOOGLE:
                # It is genuine: anything but 2xx would have Pub/Sub deliver it again for days.
                log.warning("intake.malformed", provider=provider.value, error=str(error))
                return Response(status_code=204)
            return PlainTextResponse(f"This is not a notification: {error}. Nothing was taken.", 400)
        except ConnectorError as error:
            # The provider's keys could not be read: it will deliver again.
            log.warning("intake.unavailable", provider=provider.value, error=str(error))
            return PlainTextResponse("It could not be checked now. Please deliver again.", 503)
        try:
            left_out, skipped[provider] = reader.skipped - skipped[provider], reader.skipped
            await _take(known, writer, provider, hints, left_out)
        except STORE_ERRORS as error:
            log.warning("intake.database_away", provider=provider.value, error=type(error).__name__)
            return PlainTextResponse("It could not be stored now. Please deliver again.", 503)
        return Response(status_code=202 if provider is Provider.MICROSOFT else 204)

    return Starlette(routes=[Route("/hooks/{provider}", notifications, methods=["POST"])])


class HintStore:
    """Stores hints that were fetched the way pushed ones are."""

    def __init__(self, deps: IntakeDeps) -> None:
        self._known, self._writer = KnownSubscriptions(deps), HintWriter(deps)

    async def take(self, provider: Provider, hints: list[Hint]) -> None:
        """Returns once they are stored.

        Raises:
            DBAPIError, InterfaceError, TimeoutError: They could not be.
        """
        await _take(self._known, self._writer, provider, hints)

    async def count_malformed(self, provider: Provider, number: int) -> None:
        """Count what was no notification."""
        await self._writer.count(provider, {"malformed": number})


async def _read(request: Request) -> bytes | None:
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > MAX_BODY_BYTES:
        return None
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            return None
    return bytes(body)


async def _take(
    known: KnownSubscriptions, writer: HintWriter, provider: Provider, hints: list[Hint], left_out: int = 0
) -> None:
    """Store genuine hints by tenant and defer a look at each mailbox; count the others by reason."""
    counts: Counter[str] = Counter()
    counts["entry_malformed"] = left_out
    counts["too_many"] = max(0, len(hints) - MAX_HINTS)
    hints = hints[:MAX_HINTS]
    genuine: dict[Target, set[HintKind]] = {}
    found = await known.find(provider, {hint.subscription_id for hint in hints})
    for hint in hints:
        subscription = found.get(hint.subscription_id)
        if subscription is None:
            reason = "unknown_subscription"
        # JSON can spell half a surrogate pair, which no text encoding takes: it is a wrong secret like any other.
        elif not hmac.compare_digest(subscription[1], hint.secret.encode("utf-8", "surrogatepass")):
            reason = "wrong_secret"
        else:
            reason = "taken"
            genuine.setdefault(subscription[0], set()).add(hint.kind)
        counts[reason] += 1
    refused = {reason: number for reason, number in counts.items() if number and reason != "taken"}
    if refused:
        log.warning("intake.refused", provider=provider.value, **refused)
    stored, _ = await asyncio.gather(writer.write(genuine), writer.count(provider, +counts), return_exceptions=True)
    if isinstance(stored, BaseException):
        await writer.count(provider, {"not_stored": counts["taken"]})
        raise stored
