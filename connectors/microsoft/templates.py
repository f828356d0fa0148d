"""Requests that the SDK builds once and that are sent many times, with other ids each time.

Expanding a URL template costs the SDK half a millisecond, more than sending the request. So it builds the requests
of the hot path with marks in place of what differs, and the marks are replaced per request, quoted as the
SDK quotes (RFC 6570, section 3.2.2: everything but unreserved characters).
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    from kiota_abstractions.request_information import RequestInformation

_BASE = "https://graph.invalid"


@dataclass(frozen=True, slots=True)
class Built:
    """A request below Graph's address.

    Attributes:
        method: Upper case.
        path: Path and query, quoted; begins with ``/``.
        headers: As the SDK sets them.
        content: The body.
    """

    method: str
    path: str
    headers: dict[str, str] = field(default_factory=dict)
    content: bytes | None = field(default=None, repr=False)


def mark(number: int) -> str:
    """What stands for the value with this number while the SDK builds the request."""
    return f"Mark{number}kraM"


class Template:
    """One kind of request.

    Args:
        info: Built by the SDK from :func:`mark` in place of each value.
        values: How many there are.

    Raises:
        ValueError: The SDK did not put each mark into the address exactly once.
    """

    def __init__(self, info: RequestInformation, values: int) -> None:
        built = built_by(info, _BASE)
        self._method, self._headers, self._content = built.method, built.headers, built.content
        self._parts: list[str] = []
        rest = built.path
        for number in range(values):
            before, found, rest = rest.partition(mark(number))
            if not found or mark(number) in rest:
                raise ValueError(f"the SDK's address does not hold value {number} exactly once, in order")
            self._parts.append(before)
        self._end = rest
        self._body: dict[str, Any] = json.loads(self._content) if self._content else {}

    def fill(self, *values: str) -> Built:
        """The request with these values."""
        return Built(self._method, self._path(values), self._headers, self._content)

    def fill_body(self, change: Callable[[dict[str, Any]], None], *values: str) -> Built:
        """The request with these values and with a changed copy of its JSON body."""
        body = copy.deepcopy(self._body)
        change(body)
        return Built(self._method, self._path(values), self._headers, compact_json(body))

    def _path(self, values: tuple[str, ...]) -> str:
        filled = [
            text for part, value in zip(self._parts, values, strict=True) for text in (part, quote(value, safe=""))
        ]
        return "".join(filled) + self._end


def built_by(info: RequestInformation, base: str) -> Built:
    """What the SDK built, below ``base``; the whole address where it leads elsewhere."""
    info.path_parameters["baseurl"] = base
    method = info.http_method.value if info.http_method is not None else "GET"
    headers = dict(info.request_headers or {})
    return Built(method, info.url.removeprefix(base), headers, info.content)


def compact_json(value: object) -> bytes:
    """JSON without escapes where that is possible: they take six bytes for a character beyond ASCII."""
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":")).encode()  # half of a surrogate pair: only an escape carries it
