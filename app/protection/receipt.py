"""The receipt of an off-boarding: numbers and times, no personal data, and the link under which it is found.

The link is the receipt's id with a message authentication code under the master key, so nothing secret is stored
and nobody can find a receipt by guessing. It works without signing in, since the accounts are gone by then.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import uuid
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import UTC, datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from app.kit.crypto import KeyRing
from app.protection.models import Offboarding, OffboardingReceipt

_PURPOSE = "offboarding-receipt"
_ID_BYTES = 16
_TOKEN_CHARACTERS = 64


def receipt_token(keys: KeyRing, receipt_id: uuid.UUID) -> str:
    """What the link of a receipt carries; URL-safe."""
    mac = keys.derive(keys.current, _PURPOSE, receipt_id.bytes)
    return urlsafe_b64encode(receipt_id.bytes + mac).decode().rstrip("=")


def read_token(keys: KeyRing, token: str) -> uuid.UUID | None:
    """The receipt that a link names, or None where the link is not one of ours."""
    if len(token) != _TOKEN_CHARACTERS or not token.isascii():
        return None
    try:
        raw = urlsafe_b64decode(token)
    except ValueError:
        return None
    receipt_id, mac = raw[:_ID_BYTES], raw[_ID_BYTES:]
    genuine = [hmac.compare_digest(mac, keys.derive(number, _PURPOSE, receipt_id)) for number in keys.numbers]
    return uuid.UUID(bytes=receipt_id) if any(genuine) else None


async def find_receipt(session: AsyncSession, keys: KeyRing, token: str) -> OffboardingReceipt | None:
    """The receipt of a link, or None. Needs no tenant."""
    receipt_id = read_token(keys, token)
    return None if receipt_id is None else await session.get(OffboardingReceipt, receipt_id)


def write_receipt(row: Offboarding, facts: dict[str, Any], removed: dict[str, int], now: datetime) -> tuple[str, bytes]:
    """The receipt's text (JSON with sorted keys and no spaces) and its SHA-256.

    Args:
        row: The off-boarding.
        facts: Provider, its name of the organisation, numbers of mailboxes and messages.
        removed: Rows deleted, by table.
        now: When they were deleted.
    """
    states: dict[str, int] = facts["states"]
    organisation = f"{facts['provider']}:{facts['external_id']}".encode()
    document = {
        "format": "postern-offboarding-receipt/1",
        "receipt": str(row.receipt_id),
        "provider": facts["provider"],
        "organisation_sha256": hashlib.sha256(organisation).hexdigest(),
        "requested_at": _stamp(row.requested_at),
        "deleted_at": _stamp(now),
        "mailboxes": facts["mailboxes"],
        "messages": {
            "restored": states.get("restored", 0),
            "gone": states.get("gone", 0),
            "never_changed": sum(states.get(state, 0) for state in ("seen", "skipped", "dry_run", "failed")),
            "not_restored": facts["not_restored"],
        },
        "deleted_although_not_restored": row.delete_anyway and facts["not_restored"] > 0,
        "subscriptions": {"ended": row.subscriptions_ended, "left_to_expire": row.subscriptions_left},
        "rows_deleted": dict(sorted(removed.items())),
        "rows_deleted_in_all": sum(removed.values()),
    }
    written = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return written, hashlib.sha256(written.encode()).digest()


def _stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
