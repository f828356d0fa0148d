"""The intake role: takes provider notifications, checks that they are genuine, stores the hint, answers.

It never fetches mail and never follows an address in a notification. Everything that is refused is counted by
provider and reason. Graph wants its answer within three seconds (202); Pub/Sub takes any 2xx as
acknowledgement and delivers again otherwise (``graph.md``, ``gmail.md``).
"""

from __future__ import annotations

import asyncio
import hmac
import time
from collections import Counter

import structlog
from starlette.datastructures import Headers, QueryParams
from starlette.requests import ClientDisconnect
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from app.protection.hint_store import STORE_ERRORS, HintWriter, IntakeDeps, KnownSubscriptions, Target
from app.protection.metrics import ANSWER_SECONDS
from connectors.base.errors import ConnectorError
from connectors.base.types import Hint, HintKind, Provider

__all__ = ["HintStore", "Intake", "IntakeDeps", "create_intake"]

log = structlog.get_logger()

MAX_BODY_BYTES = 1_048_576
MAX_HINTS = 1_000


class Intake:
    """The ASGI application: ``POST /hooks/{provider}``.

    It is plain ASGI: a framework's routing and request objects would be a fifth of a notification's processor time.

    Args:
        deps: What it works with.
    """

    def __init__(self, deps: IntakeDeps) -> None:
        self._deps = deps
        self._known, self._writer = KnownSubscriptions(deps), HintWriter(deps)
        self._skipped: Counter[Provider] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            return
        began = time.perf_counter()
        try:
            answer = await self._answer(scope, receive)
        except ClientDisconnect:
            return
        await answer(scope, receive, send)
        ANSWER_SECONDS.observe(time.perf_counter() - began)

    async def settle(self) -> None:
        """Store counts that are not stored yet, before the process ends."""
        await self._writer.settle()

    async def _answer(self, scope: Scope, receive: Receive) -> ASGIApp:
        try:
            provider = Provider(scope["path"].removeprefix("/hooks/"))
        except ValueError:
            return _NO_PROVIDER
        if provider not in self._deps.providers.configured():
            return _NO_PROVIDER
        if scope["method"] != "POST":
            return PlainTextResponse("Notifications are posted.", 405, {"Allow": "POST"})
        reader, writer = self._deps.providers.notifications(provider), self._writer
        if scope["query_string"]:
            answer = reader.handshake(dict(QueryParams(scope["query_string"])))
            if answer is not None:
                return PlainTextResponse(answer, headers={"X-Content-Type-Options": "nosniff"})
        headers = Headers(scope=scope)
        body = await _read(headers, receive)
        if body is None:
            await writer.count(provider, {"too_large": 1})
            return PlainTextResponse(f"A notification has at most {MAX_BODY_BYTES} bytes. Nothing was taken.", 413)
        try:
            hints = await reader.read(headers, body)
        except PermissionError as error:
            await writer.count(provider, {"not_genuine": 1})
            log.warning("intake.refused", provider=provider.value, reason="not_genuine", error=str(error))
            return PlainTextResponse("This notification is not from the provider. Nothing was taken.", 401)
        except ValueError as error:
            await writer.count(provider, {"malformed": 1})
            if provider is Provider.GOOGLE:
                # It is genuine: anything but 2xx would have Pub/Sub deliver it again for days.
                log.warning("intake.malformed", provider=provider.value, error=str(error))
                return _TAKEN[provider]
            return PlainTextResponse(f"This is not a notification: {error}. Nothing was taken.", 400)
        except ConnectorError as error:
            # The provider's keys could not be read: it will deliver again.
            log.warning("intake.unavailable", provider=provider.value, error=str(error))
            return PlainTextResponse("It could not be checked now. Please deliver again.", 503)
        try:
            left_out, self._skipped[provider] = reader.skipped - self._skipped[provider], reader.skipped
            await _take(self._known, writer, provider, hints, left_out)
        except STORE_ERRORS as error:
            log.warning("intake.database_away", provider=provider.value, error=type(error).__name__)
            return PlainTextResponse("It could not be stored now. Please deliver again.", 503)
        return _TAKEN[provider]


_NO_PROVIDER = PlainTextResponse("There is no such provider.", 404)
_TAKEN = {Provider.MICROSOFT: Response(status_code=202), Provider.GOOGLE: Response(status_code=204)}


def create_intake(deps: IntakeDeps) -> Intake:
    """The intake role's application."""
    return Intake(deps)


class HintStore:
    """Stores hints that were fetched the way pushed ones are."""

    def __init__(self, deps: IntakeDeps) -> None:
        self._known, self._writer = KnownSubscriptions(deps), HintWriter(deps)

    async def take(self, provider: Provider, hints: list[Hint]) -> None:
        """Returns once they are stored.

        Raises:
            DBAPIError, InterfaceError, TimeoutError: They could not be.
        """
        await _take(self._known, self._writer, provider, hints, patiently=True)

    async def count_malformed(self, provider: Provider, number: int) -> None:
        """Count what was no notification."""
        await self._writer.count(provider, {"malformed": number})


async def _read(headers: Headers, receive: Receive) -> bytes | None:
    """The body; None where it is too large.

    Raises:
        ClientDisconnect: The other side went away half way.
    """
    length = headers.get("content-length", "")
    if length.isdigit() and int(length) > MAX_BODY_BYTES:
        return None
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunks.append(message.get("body", b""))
        size += len(chunks[-1])
        if size > MAX_BODY_BYTES:
            return None
        if not message.get("more_body", False):
            return b"".join(chunks)


async def _take(
    known: KnownSubscriptions,
    writer: HintWriter,
    provider: Provider,
    hints: list[Hint],
    left_out: int = 0,
    *,
    patiently: bool = False,
) -> None:
    """Store genuine hints by tenant and defer a look at each mailbox; count the others by reason.

    Counting what was taken is waited for only where there is time.
    """
    counts: Counter[str] = Counter()
    if left_out:
        counts["entry_malformed"] = left_out
    if len(hints) > MAX_HINTS:
        counts["too_many"] = len(hints) - MAX_HINTS
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
    try:
        if not refused and not patiently:
            writer.note(provider, counts)
            await writer.write(genuine)
            return
        stored, _ = await asyncio.gather(writer.write(genuine), writer.count(provider, counts), return_exceptions=True)
        if isinstance(stored, BaseException):
            raise stored
    except STORE_ERRORS:
        await writer.count(provider, {"not_stored": counts["taken"]})
        raise
