"""Telling a tenant's own address of an incident: a signed POST of JSON (L26).

The address is the tenant's choice, so it is asked under the rules of :mod:`app.kit.safe_http`: https, public networks
alone, no redirects. The body is signed with HMAC-SHA-256 under a key that belongs to this tenant and purpose; the
header ``Postern-Signature: t=<seconds>,v1=<hex>`` covers ``<seconds>.<body>``, so that a receiver can refuse what is
old or not from here. Delivery is at least once: ``Postern-Delivery`` is the same for every try of one alert.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import uuid
from datetime import datetime, timedelta
from typing import Any

import structlog

from app.kit.crypto import KeyRing
from app.kit.safe_http import SafeFetcher
from app.protection.incident_models import Incident
from app.protection.incidents import LABEL, TurnPolicy, add_event
from app.protection.queue import defer_alert
from app.protection.runtime import Runtime
from app.tenants.models import Tenant

log = structlog.get_logger()

MAX_TRIES = 8
_FIRST_SECONDS, _LONGEST_SECONDS = 5.0, 900.0
_PURPOSE = "incident-webhook"


def webhook_keys(keys: KeyRing, tenant_id: uuid.UUID) -> list[str]:
    """The keys that sign a tenant's alerts, in hexadecimal, the current one first; nothing is stored."""
    return [keys.derive(number, _PURPOSE, tenant_id.bytes).hex() for number in keys.numbers]


def signature(keys: list[str], body: bytes, at: datetime) -> str:
    """The header's value: one ``v1`` for each key, so that a rotation breaks nobody's check."""
    seconds = int(at.timestamp())
    signed = f"{seconds}.".encode() + body
    made = (hmac.new(bytes.fromhex(key), signed, hashlib.sha256).hexdigest() for key in keys)
    return ",".join([f"t={seconds}", *(f"v1={mac}" for mac in made)])


def alert_body(incident: Incident, console_url: str) -> bytes:
    """What is sent: no person, no message, only what turned, how far it spread, and where to look."""
    data: dict[str, Any] = {
        "event": "incident.opened" if incident.alerts == 1 else "incident.reopened",
        "incident": incident.id,
        "kind": incident.kind,
        "subject": incident.subject,
        "cause": incident.cause,
        "messages": incident.messages,
        "opened_at": incident.opened_at.isoformat(),
        "console": f"{console_url.rstrip('/')}/incidents/{incident.id}",
    }
    return json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


async def send_alert(
    runtime: Runtime, tenant_id: uuid.UUID, incident_id: int, fetcher: SafeFetcher | None = None
) -> None:
    """Deliver one alert, or put it off; given up after some tries, which the incident then says.

    Args:
        runtime: The process.
        tenant_id: Whose.
        incident_id: Of which incident.
        fetcher: Sends; None: with the default bounds.
    """
    async with runtime.db.tenant(tenant_id) as session:
        tenant = await session.get(Tenant, tenant_id)
        incident = await session.get(Incident, (tenant_id, incident_id))
        if tenant is None or incident is None or incident.alerted >= incident.alerts:
            return
        webhook, number = TurnPolicy.of(tenant).webhook, incident.alerts
        body = alert_body(incident, runtime.settings.console_url)
    problem = ""
    if webhook:
        headers = {
            "Content-Type": "application/json",
            "Postern-Delivery": f"{tenant_id}-{incident_id}-{number}",
            "Postern-Signature": signature(webhook_keys(runtime.keyring, tenant_id), body, runtime.clock()),
        }
        answer = await (fetcher or SafeFetcher()).post(webhook, body, headers)
        problem = answer.problem or ("" if 200 <= answer.status < 300 else f"status {answer.status}")
    async with runtime.db.tenant(tenant_id) as session:
        incident = await session.get_one(Incident, (tenant_id, incident_id), with_for_update=True)
        if incident.alerted >= number:
            return
        if not problem:
            incident.alerted, incident.alert_failures, incident.alert_error = number, 0, ""
            if webhook:
                add_event(session, incident, "alerted", LABEL)
            return
        incident.alert_failures, incident.alert_error = incident.alert_failures + 1, problem[:200]
        log.warning("incident.alert_failed", tenant=str(tenant_id), incident=incident_id, problem=problem)
        if incident.alert_failures >= MAX_TRIES:
            incident.alerted = number
            incident.alert_failures = 0
            add_event(session, incident, "alert_failed", LABEL, error=problem[:200])
            return
        seconds = min(_FIRST_SECONDS * 2**incident.alert_failures, _LONGEST_SECONDS)
        await defer_alert(session, tenant_id, incident_id, at=runtime.clock() + timedelta(seconds=seconds))
