"""Fault injection: rules that make the emulated providers fail the way the real ones do.

Documented models of what is injected:

* 429 and 503 with ``Retry-After``: "Microsoft Graph throttling guidance"
  (https://learn.microsoft.com/graph/throttling); "Resolve errors: Gmail API"
  (https://developers.google.com/workspace/gmail/api/guides/handle-errors).
* 504 and broken connections, before or after the write took effect: "Microsoft Graph error responses and
  resource types" (https://learn.microsoft.com/graph/errors): 5xx says nothing about whether a write was done.
* Lost, doubled and late notifications: "Receive change notifications through webhooks"
  (https://learn.microsoft.com/graph/change-notifications-delivery-webhooks); "At-least-once delivery"
  (https://cloud.google.com/pubsub/docs/subscription-overview).

Rules draw from one seeded random source, so a run can be repeated; every fault is counted.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class FaultKind(StrEnum):
    """What goes wrong."""

    THROTTLE = "throttle"
    """429 with Retry-After; the request has no effect."""
    UNAVAILABLE = "unavailable"
    """503 with Retry-After; the request has no effect."""
    CONFLICT = "conflict"
    """412 ErrorIrresolvableConflict, or Gmail's 412; the request has no effect. Occurs without If-Match too."""
    TIMEOUT_BEFORE = "timeout_before"
    """No usable answer; the request had no effect."""
    TIMEOUT_AFTER = "timeout_after"
    """No usable answer, although the request took effect."""
    LATENCY = "latency"
    """The answer comes ``delay`` seconds late."""
    LOSE = "lose"
    """A notification is never sent."""
    DUPLICATE = "duplicate"
    """A notification is sent twice."""
    REORDER = "reorder"
    """A notification is held back for up to ``delay`` seconds, so that later ones overtake it."""


NOTIFICATION_KINDS = frozenset({FaultKind.LOSE, FaultKind.DUPLICATE, FaultKind.REORDER})


class Manner(StrEnum):
    """What a client sees of a time-out."""

    CUT = "cut"
    """The connection breaks in the middle of the answer."""
    GATEWAY_TIMEOUT = "gateway_timeout"
    """504, as the provider's front end answers."""
    HANG = "hang"
    """Nothing at all for ``delay`` seconds, then the connection breaks."""


@dataclass(frozen=True, slots=True)
class FaultRule:
    """When and how to fail.

    Attributes:
        kind: What goes wrong.
        path: Regular expression searched in the request's path; for notifications, in the target's address.
        method: Only this HTTP method, or any.
        probability: From 0 to 1, drawn per request.
        limit: How many times at most; None for no limit.
        retry_after: Seconds, for 429 and 503.
        delay: Seconds, for latency, hang and reorder.
        manner: What a client sees of a time-out.
        told: Whether the provider notices that it lost a notification and says so later (Graph: ``missed``).
    """

    kind: FaultKind
    path: str = ""
    method: str | None = None
    probability: float = 1.0
    limit: int | None = None
    retry_after: float = 1.0
    delay: float = 1.0
    manner: Manner = Manner.CUT
    told: bool = True

    @classmethod
    def from_json(cls, value: Mapping[str, object]) -> FaultRule:
        """A rule from a control request.

        Raises:
            ValueError: An unknown field or kind, or a value out of range.
        """
        unknown = set(value) - set(cls.__slots__)
        if unknown:
            raise ValueError(f"unknown field in a fault rule: {', '.join(sorted(unknown))}")
        limit, method = value.get("limit"), value.get("method")
        rule = cls(
            kind=FaultKind(str(value.get("kind"))),
            path=str(value.get("path", "")),
            method=str(method).upper() if method else None,
            probability=_number(value, "probability", 1.0),
            limit=int(str(limit)) if limit is not None else None,
            retry_after=_number(value, "retry_after", 1.0),
            delay=_number(value, "delay", 1.0),
            manner=Manner(str(value.get("manner", Manner.CUT))),
            told=value.get("told", True) is True,
        )
        re.compile(rule.path)
        if not 0 <= rule.probability <= 1:
            raise ValueError("probability must be from 0 to 1")
        return rule


def _number(value: Mapping[str, object], name: str, default: float) -> float:
    return float(str(value.get(name, default)))


class Faults:
    """The rules in force, in order, and how often each kind of fault happened."""

    def __init__(self, seed: int = 0) -> None:
        self._lock = threading.Lock()
        self._random = random.Random(seed)  # noqa: S311  # has to be repeatable, protects nothing
        self._rules: list[FaultRule] = []
        self._used: list[int] = []
        self.counts: Counter[str] = Counter()

    def set_rules(self, rules: list[FaultRule], seed: int | None = None) -> None:
        """Replace all rules; the counts go on."""
        with self._lock:
            if seed is not None:
                self._random.seed(seed)
            self._rules = list(rules)
            self._used = [0] * len(rules)

    def add(self, rule: FaultRule) -> None:
        """Add a rule after those in force."""
        with self._lock:
            self._rules.append(rule)
            self._used.append(0)

    def clear(self) -> None:
        """No more faults; the counts stay."""
        self.set_rules([])

    def report(self) -> dict[str, object]:
        """Rules, how often each was used, and counts by kind."""
        with self._lock:
            rules = [{**asdict(rule), "used": used} for rule, used in zip(self._rules, self._used, strict=True)]
            return {"rules": rules, "counts": dict(self.counts)}

    def draw(self, method: str, path: str, *, notification: bool) -> list[FaultRule]:
        """The rules that strike this request or notification, already counted."""
        with self._lock:
            struck: list[FaultRule] = []
            for index, rule in enumerate(self._rules):
                if (rule.kind in NOTIFICATION_KINDS) is not notification:
                    continue
                if rule.method not in (None, method) or not re.search(rule.path, path):
                    continue
                if rule.limit is not None and self._used[index] >= rule.limit:
                    continue
                if rule.probability < 1 and self._random.random() >= rule.probability:
                    continue
                self._used[index] += 1
                self.counts[rule.kind.value] += 1
                struck.append(rule)
                if rule.kind is not FaultKind.LATENCY:
                    break
            return struck

    def uniform(self, high: float) -> float:
        """A random number of seconds up to ``high``."""
        with self._lock:
            return self._random.uniform(0, high)


class FaultMiddleware:
    """Applies request faults in front of an ASGI app.

    Args:
        app: What to protect from a quiet life.
        faults: The rules.
        prefixes: Only paths that start with one of these fail, so that the control interface stays usable.
    """

    def __init__(self, app: ASGIApp, faults: Faults, prefixes: tuple[str, ...]) -> None:
        self._app = app
        self._faults = faults
        self._prefixes = prefixes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or fail it."""
        if scope["type"] != "http" or not scope["path"].startswith(self._prefixes):
            await self._app(scope, receive, send)
            return
        for rule in self._faults.draw(scope["method"], scope["path"], notification=False):
            if rule.kind is FaultKind.LATENCY:
                await asyncio.sleep(rule.delay)
                continue
            if rule.kind is FaultKind.TIMEOUT_AFTER:
                await self._app(scope, receive, _discard)
            await _fail(rule, scope["path"], send)
            return
        await self._app(scope, receive, send)


async def _discard(_: Message) -> None:
    """The answer of a request that took effect and whose client never hears of it."""


async def _fail(rule: FaultRule, path: str, send: Send) -> None:
    if rule.kind in (FaultKind.TIMEOUT_AFTER, FaultKind.TIMEOUT_BEFORE):
        if rule.manner is not Manner.GATEWAY_TIMEOUT:
            if rule.manner is Manner.HANG:
                await asyncio.sleep(rule.delay)
            # An answer that is announced and never completed: the server closes the connection.
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4096")]})
            return
        status = 504
    else:
        status = {FaultKind.THROTTLE: 429, FaultKind.CONFLICT: 412}.get(rule.kind, 503)
    body = json.dumps(_error(path, status)).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if status in (429, 503):
        headers.append((b"retry-after", f"{rule.retry_after:g}".encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _error(path: str, status: int) -> dict[str, object]:
    """An error body in the shape of the provider that is asked."""
    if path.startswith("/google"):
        reason, message = {
            412: ("conditionNotMet", "Precondition Failed"),
            429: ("rateLimitExceeded", "Rate Limit Exceeded"),
            503: ("backendError", "Backend Error"),
            504: ("backendError", "Deadline exceeded"),
        }[status]
        detail = {"domain": "global", "reason": reason, "message": message}
        return {"error": {"code": status, "message": message, "errors": [detail]}}
    code, message = {
        412: ("ErrorIrresolvableConflict", "The send or update operation could not be performed: change key mismatch."),
        429: ("TooManyRequests", "Too many requests. Please retry after the given time."),
        503: ("ServiceUnavailable", "The service is temporarily unavailable."),
        504: ("GatewayTimeout", "The upstream service did not answer in time."),
    }[status]
    return {"error": {"code": code, "message": message}}
