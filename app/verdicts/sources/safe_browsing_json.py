"""Reading the JSON of Google's services: errors, byte strings, durations, times. PURE."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from app.verdicts.sources.base import KEPT, json_object, require_ok
from app.verdicts.sources.types import Answer

_DURATION_RE: Final = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)s\Z")
_FRACTION_RE: Final = re.compile(r"\.([0-9]{6})[0-9]+")


def read_body(answer: Answer, name: str) -> bytes:
    """The content of an answer with status 200.

    Raises:
        SourceFailed: Another status; says what the server said. Google tells of a bad key with 400 or 403.
    """
    detail = ""
    if answer.status != 200:
        try:
            error = json.loads(answer.content[:10_000]).get("error", {})
            detail = " ".join(str(error.get("message", "")).split())[:200]
        except (ValueError, AttributeError, RecursionError):
            detail = ""
    require_ok(answer, name, KEPT, detail=detail, key_refused=frozenset({400, 401, 403}))
    return answer.content


def read_json(answer: Answer, name: str) -> Mapping[str, Any]:
    """The object in an answer.

    Raises:
        SourceFailed: The status is not 200, or there is no JSON object.
    """
    read_body(answer, name)
    return json_object(answer, name, KEPT)


def seconds_of(text: Any) -> float | None:
    """A duration as Google writes it (``593.440s``); None where there is none."""
    match = _DURATION_RE.match(text) if isinstance(text, str) else None
    return None if match is None else float(match[1])


def time_of(text: Any) -> datetime | None:
    """A time as Google writes it (RFC 3339, up to nanoseconds); None where there is none."""
    if not isinstance(text, str):
        return None
    try:
        found = datetime.fromisoformat(_FRACTION_RE.sub(r".\1", text))
    except ValueError:
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def bytes_of(text: Any) -> bytes:
    """A byte string in base64, standard or for URLs.

    Raises:
        ValueError: It is none.
    """
    if not isinstance(text, str):
        raise ValueError("a byte string is missing")
    plain = text.replace("-", "+").replace("_", "/").rstrip("=")
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("a byte string is no base64") from None
